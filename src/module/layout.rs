//! Where each section goes: which segment, and how far from its start.
//!
//! Offsets only: addresses come when the segments have been given memory. What a segment needs beside its sections
//! ([`tables`](super::tables)) is appended to it.

use super::error::{LoadError, SectionCause, owned};
use super::export;
use super::memory::Segment;
use super::object::{Object, SymbolPlace};
use super::section::Section;
use alloc::vec::Vec;

/// The segments that have callsites and veneers.
pub(crate) const TEXTS: [Segment; 2] = [Segment::Text, Segment::InitText];

/// A place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentOffset {
    pub(crate) segment: Segment,
    pub(crate) offset: u64,
}

/// A module's sections before they have addresses.
#[derive(Debug)]
pub(crate) struct SegmentLayout {
    /// Where each section begins; nothing for one that isn't placed.
    pub(crate) sections: Vec<Option<SegmentOffset>>,
    /// Each segment's length in bytes.
    pub(crate) bytes: [u64; Segment::ALL.len()],
    /// Where the COMMON symbols are, by their index in the symbol table, ascending.
    pub(crate) commons: Vec<(usize, SegmentOffset)>,
    /// The sections that list what may be made to fail, by index.
    pub(crate) injectables: Vec<usize>,
}

impl SegmentLayout {
    /// Gives sections and COMMON symbols their places.
    pub(crate) fn of_sections(object: &Object<'_>, page_bytes: u64) -> Result<Self, LoadError> {
        let mut layout = Self { sections: Vec::new(), bytes: [0; 6], commons: Vec::new(), injectables: Vec::new() };
        layout.sections.try_reserve_exact(object.sections.len())?;
        for section in &object.sections {
            let segment = segment_of(section, page_bytes)?;
            let place = segment.map(|segment| layout.append(segment, section.alignment, section.bytes)).transpose()?;
            layout.sections.push(place);
            if segment == Some(Segment::Rodata) && section.is_injectable_list() {
                layout.injectables.try_reserve(1)?;
                layout.injectables.push(section.index);
            }
        }
        for (index, symbol) in object.symbols.iter().enumerate() {
            if symbol.place == SymbolPlace::Common {
                // A COMMON symbol's value is its alignment.
                if !symbol.value.is_power_of_two() || symbol.value > page_bytes {
                    let name = owned(symbol.name.text().unwrap_or_default())?;
                    return Err(LoadError::CommonAlignment { index, name, alignment: symbol.value });
                }
                layout.commons.try_reserve(1)?;
                let place = layout.append(Segment::Data, symbol.value, symbol.bytes)?;
                layout.commons.push((index, place));
            }
        }
        Ok(layout)
    }

    /// The place of this offset of a section; `None` where the section isn't placed.
    pub(crate) fn place_of(&self, section: usize, offset: u64) -> Option<SegmentOffset> {
        let start = self.sections.get(section).copied().flatten()?;
        Some(SegmentOffset { offset: start.offset.checked_add(offset)?, ..start })
    }

    /// Appends so many bytes to a segment; returns their place.
    pub(super) fn append(&mut self, segment: Segment, alignment: u64, bytes: u64) -> Result<SegmentOffset, LoadError> {
        let end = &mut self.bytes[segment.index()];
        let offset = end.checked_next_multiple_of(alignment).ok_or(LoadError::TooLarge(segment))?;
        *end = offset
            .checked_add(bytes)
            .filter(|end| isize::try_from(*end).is_ok_and(|end| end < isize::MAX / 2))
            .ok_or(LoadError::TooLarge(segment))?;
        Ok(SegmentOffset { segment, offset })
    }
}

/// Which segment a section belongs to; none where it isn't placed.
fn segment_of(section: &Section<'_>, page_bytes: u64) -> Result<Option<Segment>, LoadError> {
    if !section.is_loaded() || section.is_patchable_entries() {
        return Ok(None);
    }
    if section.is_thread_local() {
        return Err(section.refused(SectionCause::ThreadLocal));
    }
    // What is empty needs no place of its own, whatever it would hold.
    if section.bytes == 0 && !section.is_program() {
        return Ok(None);
    }
    if !section.is_program() {
        return Err(section.refused(SectionCause::Type(section.kind)));
    }
    if !section.alignment.is_power_of_two() || section.alignment > page_bytes {
        return Err(section.refused(SectionCause::Alignment(section.alignment)));
    }
    let is_init = section.name.starts_with(".init.");
    // Written by relocation only, and that is done before permissions are set.
    let is_record = section.name.starts_with(".fentry.");
    let is_list = is_record && (section.name.is(export::SECTION) || section.is_injectable_list());
    let is_relocated_constant = section.name.starts_with(".data.rel.ro") || is_list;
    let is_constant = !section.is_writable() || is_relocated_constant;
    Ok(Some(match (section.is_text(), is_constant, is_init) {
        (true, true, false) => Segment::Text,
        (true, true, true) => Segment::InitText,
        (true, false, _) => return Err(section.refused(SectionCause::WritableText)),
        (false, true, false) => Segment::Rodata,
        (false, true, true) => Segment::InitRodata,
        (false, false, false) => Segment::Data,
        (false, false, true) => Segment::InitData,
    }))
}
