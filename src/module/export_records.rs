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
    let Some([name, bytes, address]) = placed.longs(record) else { return Ok(None) };
    if placed.locate(address, 1).is_none() {
        return Ok(None);
    }
    Ok(name_at(placed, name, bytes)?.map(|name| (name, address)))
}

/// Copies a name out of a module; `None` where it is empty, not UTF-8, or not inside.
pub(super) fn name_at(placed: &Placed<'_>, address: u64, bytes: u64) -> Result<Option<String>, LoadError> {
    let Some(name) = placed.locate(address, bytes).filter(|_| bytes > 0) else { return Ok(None) };
    let mut text = Vec::new();
    text.try_reserve_exact(bytes as usize)?;
    for offset in 0..bytes {
        let Some(byte) = placed.read(SegmentOffset { offset: name.offset + offset, ..name }, 1) else {
            return Ok(None);
        };
        text.push(byte as u8);
    }
    Ok(String::from_utf8(text).ok())
}
