//! An event as Linux prints it.

use super::fetch::{Shape, Type};
use super::limits::STRING_BYTES;
use super::slot::Known;
use super::values::Values;
use crate::control::names::Names;
use crate::tracer::event::PayloadWords;
use arrayvec::ArrayVec;
use core::fmt::{self, Write};

/// In the place of what could not be read.
const FAULT: &str = "(fault)";

/// Writes an event: its name, where it is, and its fields.
pub(in crate::control) fn write(
    known: &Known,
    payload: PayloadWords<'_>,
    names: Names<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    let definition = &known.definition;
    write!(out, "{}: (", definition.name)?;
    let Some(values) = Values::recorded(definition.layout(), payload.iter()) else {
        return out.write_str("the record is of another form)");
    };
    match values.parent() {
        Some(parent) => {
            names.write_place(parent, out)?;
            out.write_str(" <- ")?;
            names.write(definition.at.get(), out)?;
        }
        None => names.write_place(definition.at.get(), out)?,
    }
    out.write_str(")")?;
    for (number, ((name, _), fetch)) in definition.fields().zip(&definition.fetches).enumerate() {
        write!(out, " {name}=")?;
        match fetch.elements() {
            Some(elements) => write_array(&values, number, elements, fetch.kind, names, out)?,
            None => write_field(&values, number, fetch.kind.shape, names, out)?,
        }
    }
    Ok(())
}

fn write_field(values: &Values, field: usize, shape: Shape, names: Names<'_>, out: &mut dyn Write) -> fmt::Result {
    match shape {
        Shape::Text => write_string(values.text(field), out),
        _ => write_number(values.number(field), shape, names, out),
    }
}

/// `{0x1,0x2}`.
fn write_array(
    values: &Values,
    field: usize,
    elements: u8,
    kind: Type,
    names: Names<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    if values.number(field).is_none() {
        return out.write_str(FAULT);
    }
    let mut texts = values.texts(field, elements);
    for element in 0..elements.into() {
        out.write_str(if element == 0 { "{" } else { "," })?;
        match kind.shape {
            Shape::Text => write_string(texts.next().flatten(), out)?,
            shape => write_number(values.element(field, element, kind), shape, names, out)?,
        }
    }
    out.write_str("}")
}

fn write_number(number: Option<u64>, shape: Shape, names: Names<'_>, out: &mut dyn Write) -> fmt::Result {
    let Some(number) = number else { return out.write_str(FAULT) };
    match shape {
        Shape::Unsigned => write!(out, "{number}"),
        Shape::Signed => write!(out, "{}", number.cast_signed()),
        Shape::Hex | Shape::Text => write!(out, "{number:#x}"),
        Shape::Char => write!(out, "'{}'", (number as u8).escape_ascii()),
        Shape::Symbol => names.write_place(number, out),
    }
}

fn write_string(text: Option<impl Iterator<Item = u8>>, out: &mut dyn Write) -> fmt::Result {
    let Some(text) = text else { return out.write_str(FAULT) };
    out.write_str("\"")?;
    write_text(text, out)?;
    out.write_str("\"")
}

/// Writes bytes that should be UTF-8 as a terminal can show them.
pub(super) fn write_text(bytes: impl Iterator<Item = u8>, out: &mut dyn Write) -> fmt::Result {
    let text: ArrayVec<u8, STRING_BYTES> = bytes.take(STRING_BYTES).collect();
    for chunk in text.utf8_chunks() {
        chunk.valid().chars().try_for_each(|c| out.write_char(if c.is_control() { '?' } else { c }))?;
        if !chunk.invalid().is_empty() {
            out.write_char('?')?;
        }
    }
    Ok(())
}
