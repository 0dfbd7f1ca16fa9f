//! A module's export records, read once they are placed and relocated.

use super::error::{LoadError, owned};
use super::export::{RECORD_BYTES, SECTION};
use super::layout::{SegmentLayout, SegmentOffset};
use super::object::Object;
use super::place::Placed;
use alloc::string::String;
use alloc::vec::Vec;

/// Reads what a module exports, sorted by name. `check` refuses names that are exported already.
pub(super) fn read(
    object: &Object<'_>,
    layout: &SegmentLayout,
    placed: &Placed<'_>,
    check: impl Fn(&str) -> Result<(), LoadError>,
) -> Result<Vec<(String, u64)>, LoadError> {
    let mut exports: Vec<(String, u64)> = Vec::new();
    for section in object.sections.iter().filter(|section| section.name.is(SECTION)) {
        let Some(start) = layout.sections[section.index] else { continue };
        for index in 0..(section.bytes / RECORD_BYTES) as usize {
            let record = SegmentOffset { offset: start.offset + RECORD_BYTES * index as u64, ..start };
            let (name, address) = read_record(placed, record)?.ok_or(LoadError::BadExport { index })?;
            check(&name)?;
            exports.try_reserve(1)?;
            exports.push((name, address));
        }
    }
    exports.sort_unstable();
    match exports.array_windows().find(|[(before, _), (name, _)]| before == name) {
        Some([_, (name, _)]) => Err(LoadError::DuplicateExport { name: owned(name)?, owner: None }),
        None => Ok(exports),
    }
}

/// The name and the address in a record; `None` where they are not inside the module.
fn read_record(placed: &Placed<'_>, record: SegmentOffset) -> Result<Option<(String, u64)>, LoadError> {
    let Some((name, bytes, address)) = locate(placed, record) else { return Ok(None) };
    let mut text = Vec::new();
    text.try_reserve_exact(bytes)?;
    for offset in 0..bytes as u64 {
        let Some(byte) = placed.read(SegmentOffset { offset: name.offset + offset, ..name }, 1) else {
            return Ok(None);
        };
        text.push(byte as u8);
    }
    Ok(String::from_utf8(text).ok().map(|name| (name, address)))
}

/// Where a record's name is, its length in bytes, and the address that the record has.
fn locate(placed: &Placed<'_>, record: SegmentOffset) -> Option<(SegmentOffset, usize, u64)> {
    let field = |index: u64| placed.read(SegmentOffset { offset: record.offset + 8 * index, ..record }, 8);
    let (name, bytes, address) = (field(0)?, field(1)?, field(2)?);
    placed.locate(address, 1)?;
    let start = placed.locate(name, bytes).filter(|_| bytes > 0)?;
    Some((start, usize::try_from(bytes).ok()?, address))
}
