//! A module's list of functions that may be made to fail, read once it is placed and relocated.
//!
//! What they are is the room `inject`'s affair, which is above this one ([`Injectable`](crate::inject::Injectable)).

use super::error::LoadError;
use super::export_records::name_at;
use super::layout::{SegmentLayout, SegmentOffset};
use super::memory::Segment;
use super::object::Object;
use super::place::Placed;
use alloc::string::String;
use alloc::vec::Vec;

/// The size of a record: the function, what runs in its place, the name, its length.
const RECORD_BYTES: u64 = 32;

/// A record.
///
/// # Invariants
///
/// Both addresses are in the module's text, at instructions.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) function: u64,
    pub(crate) instead: u64,
    pub(crate) name: String,
}

/// Reads the list of a module.
///
/// Functions in init text can't be in it, which goes when the module has started; nor others' functions, which stay when what
/// runs in their place has gone.
pub(super) fn read(object: &Object<'_>, layout: &SegmentLayout, placed: &Placed<'_>) -> Result<Vec<Listed>, LoadError> {
    let mut list = Vec::new();
    for section in layout.injectables.iter().map(|index| &object.sections[*index]) {
        let Some(start) = layout.sections[section.index] else { continue };
        for index in 0..section.bytes.div_ceil(RECORD_BYTES) {
            let bad = LoadError::BadInjectable { index: list.len() };
            let is_whole = RECORD_BYTES * (index + 1) <= section.bytes;
            let record = SegmentOffset { offset: start.offset + RECORD_BYTES * index, ..start };
            let Some([function, instead, name, bytes]) = placed.longs(record).filter(|_| is_whole) else {
                return Err(bad);
            };
            let Some(name) = name_at(placed, name, bytes)? else { return Err(bad) };
            let text = placed.range(Segment::Text);
            let is_ours = |address: &u64| text.contains((*address).into()) && address.is_multiple_of(4);
            if ![function, instead].iter().all(is_ours) {
                return Err(bad);
            }
            list.try_reserve(1)?;
            // INVARIANT: just checked.
            list.push(Listed { function, instead, name });
        }
    }
    Ok(list)
}
