//! What each symbol stands for, and who supplied it.

use super::error::{LoadError, owned};
use super::layout::{Layout, Spot};
use super::mangled::is_shallow;
use super::memory::Segment;
use super::object::{Object, SymbolPlace};
use super::section::Relocation;
use crate::symbols::{Encoder, SymbolsEncodeError};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// The symbol by which `-fpic` code of GCC's refers to the GOT: the linker's own, so nobody exports it.
const GOT: &str = "_GLOBAL_OFFSET_TABLE_";

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A place in this module.
    Here(Spot),
    /// An address: exported by others, or absolute.
    Address(u64),
    /// A weak symbol that nobody defines.
    Nothing,
    /// The GOT, which the module gets of its own.
    Got,
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
    /// So far from the start of the GOT.
    Got(u64),
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
        mut lookup: impl FnMut(&str) -> Result<Option<u64>, LoadError>,
    ) -> Result<Self, LoadError> {
        let mut values = Vec::new();
        values.try_reserve_exact(object.symbols.len())?;
        let mut unresolved: Vec<String> = Vec::new();
        for (index, symbol) in object.symbols.iter().enumerate() {
            let is_undefined = matches!(symbol.place, SymbolPlace::Undefined | SymbolPlace::WeakUndefined);
            if is_undefined && symbol.name.is(GOT) {
                values.push(Value::Got);
                continue;
            }
            let name = || symbol.name.text().ok_or(LoadError::Malformed { what: "symbol name", index });
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
                SymbolPlace::WeakUndefined => lookup(name()?)?.map_or(Value::Nothing, Value::Address),
                SymbolPlace::Undefined => match lookup(name()?)? {
                    Some(address) => Value::Address(address),
                    None => {
                        unresolved.try_reserve(1)?;
                        unresolved.push(owned(name()?)?);
                        Value::Nothing
                    }
                },
            });
        }
        unresolved.sort_unstable();
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
            Value::Got => Some(Target::Got(addend.cast_unsigned())),
            Value::NotLoaded => None,
        }
    }
}

/// The place of the function of each of these names, if the module has one.
pub(crate) fn functions<const N: usize>(
    object: &Object<'_>,
    layout: &Layout,
    names: [&str; N],
) -> Result<[Option<Spot>; N], LoadError> {
    let mut found = [None; N];
    for (index, symbol) in object.symbols.iter().enumerate() {
        let SymbolPlace::Section(section) = symbol.place else { continue };
        if let Some(which) = names.iter().position(|name| symbol.name.is(name)) {
            // It is called: behind the last instruction there is none.
            if symbol.value >= object.sections[section].bytes {
                return Err(symbol.misplaced(index));
            }
            let spot = layout.spot(section, symbol.value).filter(|spot| spot.segment.is_text());
            found[which] = found[which].or(spot);
        }
    }
    Ok(found)
}

/// The functions of a segment that is at `start`, as a symbol table.
pub(crate) fn table(
    object: &Object<'_>,
    layout: &Layout,
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
        let Some(spot) = layout.spot(section, symbol.value).filter(|spot| spot.segment == segment) else { continue };
        let name = symbol.name.text().ok_or(LoadError::Malformed { what: "symbol name", index })?;
        // A size that a file makes up must not reach beyond the segment; of one without a size, one instruction is known.
        let bytes = symbol.bytes.max(4).min(layout.bytes[segment.index()].saturating_sub(spot.offset));
        let address = start + spot.offset;
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
