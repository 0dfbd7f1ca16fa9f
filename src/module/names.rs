//! The names of a module's functions, for whoever traces it.

use super::error::LoadError;
use super::layout::SegmentLayout;
use super::mangled::is_shallow;
use super::memory::Segment;
use super::object::{Object, SymbolPlace};
use crate::symbols::{Encoder, SymbolsEncodeError};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Makes a symbol table of the functions of a segment that is at `start`.
pub(crate) fn function_names(
    object: &Object<'_>,
    layout: &SegmentLayout,
    segment: Segment,
    start: u64,
) -> Result<Box<[u8]>, LoadError> {
    let mut encoder = Encoder::new();
    let error = |error| match error {
        SymbolsEncodeError::Heap => LoadError::Heap,
        _ => LoadError::TooLarge(segment),
    };
    for (index, symbol) in object.symbols.iter().enumerate().filter(|(_, symbol)| symbol.is_function) {
        let SymbolPlace::Section(section) = symbol.place else { continue };
        let Some(place) = layout.place_of(section, symbol.value).filter(|place| place.segment == segment) else {
            continue;
        };
        let name = symbol.name.text().ok_or(LoadError::Malformed { what: "symbol name", index })?;
        // A size that a file makes up must not reach beyond the segment; of one without a size, one instruction is known.
        let bytes = symbol.bytes.max(4).min(layout.bytes[segment.index()].saturating_sub(place.offset));
        let address = start + place.offset;
        match name {
            "" => Ok(()),
            // Mangled names of Rust begin so; the demangler takes its time to find nothing in another one, and its stack to
            // find too much.
            _ if (name.starts_with("_R") || name.starts_with("_ZN")) && is_shallow(name) => {
                encoder.push(format_args!("{:#}", rustc_demangle::demangle(name)), address, bytes, symbol.convention)
            }
            _ => encoder.push(format_args!("{name}"), address, bytes, symbol.convention),
        }
        .map_err(error)?;
    }
    // It is as long as it was reserved: making it a slice moves nothing.
    encoder.finish(0).map(Vec::into_boxed_slice).map_err(error)
}
