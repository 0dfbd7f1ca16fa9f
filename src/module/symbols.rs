//! What each symbol stands for, and who supplied it.
//!
//! Floor 2 within the loader.

use super::error::LoadError;
use super::layout::{Layout, Spot};
use super::memory::Segment;
use super::object::{Object, Relocation, SymbolPlace};
use crate::symbols::{Function, encode};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A place in this module.
    Here(Spot),
    /// An address: exported by others, or absolute.
    Address(u64),
    /// A weak symbol that nobody defines.
    Nothing,
    /// A place in a section that isn't loaded.
    NotLoaded,
}

/// What a relocation refers to: a symbol's value and the addend. Ordered, so that equal ones can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// So far from the start of a segment; before it or behind its end too.
    Here(Segment, u64),
    /// An address.
    Address(u64),
    /// A weak symbol that nobody defines, plus this.
    Nothing(u64),
}

impl Target {
    pub(crate) fn is_in(self, segment: Segment) -> bool {
        matches!(self, Self::Here(own, _) if own == segment)
    }
}

/// Every symbol's value, by index.
#[derive(Debug)]
pub(crate) struct Values(Vec<Value>);

impl Values {
    /// Resolves every symbol; `lookup` knows what others export.
    pub(crate) fn resolve(
        object: &Object<'_>,
        layout: &Layout,
        mut lookup: impl FnMut(&str) -> Option<u64>,
    ) -> Result<Self, LoadError> {
        let mut values = Vec::new();
        values.try_reserve_exact(object.symbols.len())?;
        let mut unresolved: Vec<String> = Vec::new();
        for (index, symbol) in object.symbols.iter().enumerate() {
            values.push(match symbol.place {
                // The null symbol: relocations without a symbol have it, and value 0.
                SymbolPlace::Undefined | SymbolPlace::WeakUndefined if index == 0 => Value::Address(0),
                SymbolPlace::Section(section) => {
                    layout.spot(section, symbol.value).map_or(Value::NotLoaded, Value::Here)
                }
                SymbolPlace::Absolute => Value::Address(symbol.value),
                SymbolPlace::Common => match layout.commons.binary_search_by_key(&index, |(common, _)| *common) {
                    Ok(at) => Value::Here(layout.commons[at].1),
                    Err(_) => Value::NotLoaded,
                },
                SymbolPlace::WeakUndefined => lookup(symbol.name).map_or(Value::Nothing, Value::Address),
                SymbolPlace::Undefined => match lookup(symbol.name) {
                    Some(address) => Value::Address(address),
                    None => {
                        unresolved.try_reserve(1)?;
                        unresolved.push(symbol.name.into());
                        Value::Nothing
                    }
                },
            });
        }
        unresolved.sort();
        unresolved.dedup();
        if unresolved.is_empty() { Ok(Self(values)) } else { Err(LoadError::Unresolved(unresolved)) }
    }

    /// What a relocation refers to; `None` where that isn't loaded.
    pub(crate) fn target(&self, relocation: &Relocation) -> Option<Target> {
        let addend = relocation.addend;
        match *self.0.get(relocation.symbol as usize)? {
            Value::Here(spot) => Some(Target::Here(spot.segment, spot.offset.wrapping_add_signed(addend))),
            Value::Address(address) => Some(Target::Address(address.wrapping_add_signed(addend))),
            Value::Nothing => Some(Target::Nothing(addend.cast_unsigned())),
            Value::NotLoaded => None,
        }
    }
}

/// The place of the function of this name, if the module has one.
pub(crate) fn function(object: &Object<'_>, layout: &Layout, name: &str) -> Option<Spot> {
    object.symbols.iter().find_map(|symbol| {
        let SymbolPlace::Section(section) = symbol.place else { return None };
        let spot = layout.spot(section, symbol.value)?;
        (symbol.name == name && spot.segment.is_text()).then_some(spot)
    })
}

/// The functions of a segment that is at `start`, as a symbol table.
pub(crate) fn table(
    object: &Object<'_>,
    layout: &Layout,
    segment: Segment,
    start: u64,
) -> Result<Box<[u8]>, LoadError> {
    let mut functions = Vec::new();
    for symbol in object.symbols.iter().filter(|symbol| symbol.is_function && !symbol.name.is_empty()) {
        let SymbolPlace::Section(section) = symbol.place else { continue };
        let Some(spot) = layout.spot(section, symbol.value).filter(|spot| spot.segment == segment) else { continue };
        functions.try_reserve(1)?;
        // A size that a file makes up must not reach beyond the segment.
        let bytes = symbol.bytes.min(layout.bytes[segment.index()].saturating_sub(spot.offset));
        let name = format!("{:#}", rustc_demangle::demangle(symbol.name));
        functions.push(Function { name, addr: start + spot.offset, size: bytes });
    }
    encode(&functions, 0).map(Vec::into_boxed_slice).map_err(|_| LoadError::TooLarge(segment))
}
