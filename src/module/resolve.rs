//! Resolving symbols: what each stands for, and so what a relocation refers to.

use super::error::{LoadError, owned};
use super::layout::{SegmentLayout, SegmentOffset};
use super::memory::Segment;
use super::object::{Object, SymbolPlace};
use super::section::Relocation;
use alloc::string::String;
use alloc::vec::Vec;

/// The symbol by which `-fpic` code of GCC's refers to the GOT: the linker's own, so nobody exports it.
const GOT: &str = "_GLOBAL_OFFSET_TABLE_";

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SymbolValue {
    /// A place in this module.
    Here(SegmentOffset),
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
pub(crate) enum RelocTarget {
    /// So far from the start of a segment; before it or behind its end too.
    Here(Segment, u64),
    /// An address.
    Address(u64),
    /// A weak symbol that nobody defines, plus this.
    Nothing(u64),
    /// So far from the start of the GOT.
    Got(u64),
}

impl RelocTarget {
    pub(crate) fn is_in(self, segment: Segment) -> bool {
        matches!(self, Self::Here(own, _) if own == segment)
    }
}

/// Every symbol's value, by index.
#[derive(Debug)]
pub(crate) struct SymbolValues(Vec<SymbolValue>);

impl SymbolValues {
    /// Resolves every symbol; `lookup` knows what others export.
    pub(crate) fn resolve(
        object: &Object<'_>,
        layout: &SegmentLayout,
        mut lookup: impl FnMut(&str) -> Result<Option<u64>, LoadError>,
    ) -> Result<Self, LoadError> {
        let mut values = Vec::new();
        values.try_reserve_exact(object.symbols.len())?;
        let mut unresolved: Vec<String> = Vec::new();
        for (index, symbol) in object.symbols.iter().enumerate() {
            let is_undefined = matches!(symbol.place, SymbolPlace::Undefined | SymbolPlace::WeakUndefined);
            if is_undefined && symbol.name.is(GOT) {
                values.push(SymbolValue::Got);
                continue;
            }
            let name = || symbol.name.text().ok_or(LoadError::Malformed { what: "symbol name", index });
            values.push(match symbol.place {
                // The null symbol: relocations without a symbol have it, and value 0.
                SymbolPlace::Undefined | SymbolPlace::WeakUndefined if index == 0 => SymbolValue::Address(0),
                SymbolPlace::Section(section) => {
                    layout.place_of(section, symbol.value).map_or(SymbolValue::NotLoaded, SymbolValue::Here)
                }
                SymbolPlace::Absolute => SymbolValue::Address(symbol.value),
                SymbolPlace::Common => match layout.commons.binary_search_by_key(&index, |(common, _)| *common) {
                    Ok(at) => SymbolValue::Here(layout.commons[at].1),
                    Err(_) => SymbolValue::NotLoaded,
                },
                SymbolPlace::WeakUndefined => lookup(name()?)?.map_or(SymbolValue::Nothing, SymbolValue::Address),
                SymbolPlace::Undefined => match lookup(name()?)? {
                    Some(address) => SymbolValue::Address(address),
                    None => {
                        unresolved.try_reserve(1)?;
                        unresolved.push(owned(name()?)?);
                        SymbolValue::Nothing
                    }
                },
            });
        }
        unresolved.sort_unstable();
        unresolved.dedup();
        if unresolved.is_empty() { Ok(Self(values)) } else { Err(LoadError::Unresolved(unresolved)) }
    }

    /// What a relocation refers to; `None` where that isn't loaded.
    pub(crate) fn target(&self, relocation: &Relocation) -> Option<RelocTarget> {
        let addend = relocation.addend;
        match *self.0.get(relocation.symbol as usize)? {
            SymbolValue::Here(place) => {
                Some(RelocTarget::Here(place.segment, place.offset.wrapping_add_signed(addend)))
            }
            SymbolValue::Address(address) => Some(RelocTarget::Address(address.wrapping_add_signed(addend))),
            SymbolValue::Nothing => Some(RelocTarget::Nothing(addend.cast_unsigned())),
            SymbolValue::Got => Some(RelocTarget::Got(addend.cast_unsigned())),
            SymbolValue::NotLoaded => None,
        }
    }
}

/// Finds the function of each of these names, if the module has one.
pub(crate) fn functions<const N: usize>(
    object: &Object<'_>,
    layout: &SegmentLayout,
    names: [&str; N],
) -> Result<[Option<SegmentOffset>; N], LoadError> {
    let mut found = [None; N];
    for (index, symbol) in object.symbols.iter().enumerate() {
        let SymbolPlace::Section(section) = symbol.place else { continue };
        if let Some(which) = names.iter().position(|name| symbol.name.is(name)) {
            // It is called: behind the last instruction there is none.
            if symbol.value >= object.sections[section].bytes {
                return Err(symbol.misplaced(index));
            }
            let place = layout.place_of(section, symbol.value).filter(|place| place.segment.is_text());
            found[which] = found[which].or(place);
        }
    }
    Ok(found)
}
