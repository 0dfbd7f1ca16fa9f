//! A module's unwind table, made of what its object has of one.
//!
//! `cargo fentry verify --unwind-in-place` puts it into the object, in a section that isn't loaded: the loader makes the table
//! once it knows where the module's sections are. Init sections are not in it, since they go when the module has started.

use super::error::LoadError;
use super::link::Linking;
use super::object::Object;
use super::section::Section;
use crate::address::TextRange;
use crate::context::unwind::{Unplaced, UnplacedError, UnwindTable};
use alloc::vec::Vec;
use core::fmt;

/// A module's table.
///
/// # Invariants
/// [`UnwindTable::parse`] has checked it, and it has not changed since.
pub(super) struct ModuleTable(Vec<u8>);

impl ModuleTable {
    pub(super) fn get(&self) -> Option<UnwindTable<'_>> {
        UnwindTable::checked(&self.0)
    }
}

impl fmt::Debug for ModuleTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// R_AARCH64_ABS64: what a section's address is filled in by.
const ABS64: u32 = 257;

/// Makes the table of a module whose text is there; `None` where the object has none.
pub(super) fn table_of(
    object: &Object<'_>,
    linking: &Linking<'_, '_>,
    text: TextRange,
) -> Result<Option<ModuleTable>, LoadError> {
    let Some(section) = object.sections.iter().find(|section| section.is_unwind_table()) else { return Ok(None) };
    let unplaced = Unplaced::parse(section.data).map_err(UnplacedError::from)?;
    let addresses = addresses(linking, section, &unplaced)?;
    // No more is told of than this module, whatever the object says.
    let wrong = |index, address| Err(UnplacedError::Section { index, address }.into());
    if let Some((index, address)) = addresses.iter().enumerate().find(|(_, address)| !text.contains((**address).into()))
    {
        return wrong(index, *address);
    }
    // INVARIANT: `place` has checked it.
    let table = ModuleTable(unplaced.place(addresses)?);
    match table.get() {
        Some(table) if text.end < table.text().end => {
            wrong(unplaced.sections().saturating_sub(1), table.text().end.get())
        }
        _ => Ok(Some(table)),
    }
}

/// Where the sections are that the table is about.
fn addresses(linking: &Linking<'_, '_>, section: &Section<'_>, unplaced: &Unplaced<'_>) -> Result<Vec<u64>, LoadError> {
    let mut addresses = Vec::new();
    addresses.try_reserve_exact(unplaced.sections())?;
    addresses.resize(unplaced.sections(), 0);
    for relocation in section.relocations() {
        let (offset, number) = (relocation.offset, relocation.kind.number());
        if number != ABS64 {
            return Err(linking.unknown_relocation(section, &relocation)?);
        }
        let place = unplaced.section_at(offset).and_then(|section| addresses.get_mut(section));
        let place = place.ok_or(LoadError::RelocationPlace { section: section.index, offset })?;
        *place = linking.address_in(section, &relocation)?;
    }
    Ok(addresses)
}
