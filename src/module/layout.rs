//! Where each section goes, and how much room a segment needs beside them.
//!
//! Offsets only: addresses come when the segments have been given memory. What a segment needs
//! for veneers and the GOT is counted here, before there is any, as one for each distinct target.
//!
//! ```text
//!   text, init text    sections | veneers: the entry stubs' two, one a target beyond the segment, one a forbidden ADRP
//!   rodata             sections | GOT
//!   data               sections | COMMON symbols
//! ```

use super::error::{LoadError, SectionCause, owned};
use super::export;
use super::memory::Segment;
use super::object::{Object, SymbolPlace};
use super::section::Section;
use super::symbols::{Target, Values};
use super::targets::{Gathering, Targets};
use crate::callsite::veneer::is_erratum_843419_place;
use crate::callsite::veneer::{ENTRY_BYTES, STUB_VENEERS};
use alloc::vec::Vec;

/// Whether the CPUs have Cortex-A53 erratum 843419.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erratum843419 {
    /// No ADRP may be at the end of a page.
    Present,
    /// Nothing to do.
    Absent,
}

impl Erratum843419 {
    /// What MIDR_EL1 and REVIDR_EL1 say of one CPU: Cortex-A53 up to r0p4, unless the part was fixed.
    pub const fn of_cpu(midr: u64, revidr: u64) -> Self {
        const CORTEX_A53: u64 = 0x4100_d030;
        let (part, revision) = (midr & 0xff00_fff0, (midr >> 20 & 0xf) << 4 | midr & 0xf);
        let fixed = revision == 4 && revidr >> 8 & 1 != 0;
        if part == CORTEX_A53 && revision <= 4 && !fixed { Self::Present } else { Self::Absent }
    }
}

/// The segments that have callsites and veneers.
pub(crate) const TEXTS: [Segment; 2] = [Segment::Text, Segment::InitText];

/// A place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) segment: Segment,
    pub(crate) offset: u64,
}

/// The module before it has addresses.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Where each section begins; nothing for one that isn't placed.
    pub(crate) sections: Vec<Option<Spot>>,
    /// Each segment's length in bytes.
    pub(crate) bytes: [u64; Segment::ALL.len()],
    /// Where the COMMON symbols are, by their index in the symbol table, ascending.
    pub(crate) commons: Vec<(usize, Spot)>,
    /// Each segment's veneers.
    pub(crate) plt: [Option<PltRoom>; Segment::ALL.len()],
    /// What branches of text and of init text refer to beyond their own segment: the targets of veneers.
    pub(crate) branches: [Targets; 2],
    /// The GOT, and how many entries it has.
    pub(crate) got: (Spot, usize),
    /// What they are for.
    pub(crate) in_got: Targets,
}

/// Room for veneers at the end of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PltRoom {
    pub(crate) offset: u64,
    pub(crate) entries: usize,
}

impl Layout {
    /// Gives sections and COMMON symbols their places.
    pub(crate) fn of_sections(object: &Object<'_>, page_bytes: u64) -> Result<Self, LoadError> {
        let mut layout = Self {
            sections: Vec::new(),
            bytes: [0; 6],
            commons: Vec::new(),
            plt: [None; 6],
            branches: Default::default(),
            got: (Spot { segment: Segment::Rodata, offset: 0 }, 0),
            in_got: Targets::default(),
        };
        layout.sections.try_reserve_exact(object.sections.len())?;
        for section in &object.sections {
            let segment = segment_of(section, page_bytes)?;
            let spot = segment.map(|segment| layout.append(segment, section.alignment, section.bytes)).transpose()?;
            layout.sections.push(spot);
        }
        for (index, symbol) in object.symbols.iter().enumerate() {
            if symbol.place == SymbolPlace::Common {
                // A COMMON symbol's value is its alignment.
                if !symbol.value.is_power_of_two() || symbol.value > page_bytes {
                    let name = owned(symbol.name.text().unwrap_or_default())?;
                    return Err(LoadError::CommonAlignment { index, name, alignment: symbol.value });
                }
                layout.commons.try_reserve(1)?;
                let spot = layout.append(Segment::Data, symbol.value, symbol.bytes)?;
                layout.commons.push((index, spot));
            }
        }
        Ok(layout)
    }

    /// Adds the room for veneers and the GOT.
    pub(crate) fn add_tables(
        &mut self,
        object: &Object<'_>,
        values: &Values,
        erratum: Erratum843419,
    ) -> Result<(), LoadError> {
        // What branches refer to beyond their own segment, and forbidden ADRPs, of text and of init text.
        let mut targets = [Gathering::default(), Gathering::default()];
        let mut forbidden = [0, 0];
        let (mut got, mut needs_got) = (Gathering::default(), false);
        for (section, start) in object.sections.iter().zip(&self.sections) {
            let Some(start) = start else { continue };
            let text = TEXTS.iter().position(|segment| *segment == start.segment);
            for relocation in section.relocations() {
                let kind = relocation.kind;
                // What isn't loaded is refused by name when it is applied.
                let Some(target) = values.target(&relocation) else { continue };
                match target {
                    // Something of no length may be all that a segment has, and has an address.
                    Target::Here(segment, _) if self.bytes[segment.index()] == 0 => self.bytes[segment.index()] = 1,
                    Target::Got(_) => needs_got = true,
                    _ => {}
                }
                if kind.needs_got() {
                    got.note(target)?;
                }
                let Some(text) = text else { continue };
                if kind.is_branch() && !target.is_in(start.segment) {
                    targets[text].note(target)?;
                }
                let is_forbidden = kind.is_adrp()
                    && erratum == Erratum843419::Present
                    && is_erratum_843419_place(start.offset + relocation.offset);
                forbidden[text] += usize::from(is_forbidden);
            }
        }
        self.branches = targets.map(Gathering::finish);
        for (text, segment) in TEXTS.into_iter().enumerate() {
            if self.bytes[segment.index()] > 0 {
                let entries = STUB_VENEERS + self.branches[text].len() + forbidden[text];
                let spot = self.append(segment, ENTRY_BYTES, ENTRY_BYTES * entries as u64)?;
                self.plt[segment.index()] = Some(PltRoom { offset: spot.offset, entries });
            }
        }
        self.in_got = got.finish();
        let entries = self.in_got.len().max(usize::from(needs_got));
        let spot = self.append(Segment::Rodata, 8, 8 * entries as u64)?;
        self.got = (spot, entries);
        Ok(())
    }

    /// Where a place of a section is.
    pub(crate) fn spot(&self, section: usize, offset: u64) -> Option<Spot> {
        let start = self.sections.get(section).copied().flatten()?;
        Some(Spot { offset: start.offset.checked_add(offset)?, ..start })
    }

    /// Where a segment's veneer of this index is; `None` beyond the last.
    pub(crate) fn plt_entry(&self, segment: Segment, index: usize) -> Option<Spot> {
        let room = self.plt[segment.index()].filter(|room| index < room.entries)?;
        Some(Spot { segment, offset: room.offset + ENTRY_BYTES * index as u64 })
    }

    /// The error for a segment that has no veneer left.
    pub(crate) fn plt_full(&self, segment: Segment) -> LoadError {
        LoadError::PltFull { segment, entries: self.plt[segment.index()].map_or(0, |room| room.entries) }
    }

    fn append(&mut self, segment: Segment, alignment: u64, bytes: u64) -> Result<Spot, LoadError> {
        let end = &mut self.bytes[segment.index()];
        let offset = end.checked_next_multiple_of(alignment).ok_or(LoadError::TooLarge(segment))?;
        *end = offset
            .checked_add(bytes)
            .filter(|end| isize::try_from(*end).is_ok_and(|end| end < isize::MAX / 2))
            .ok_or(LoadError::TooLarge(segment))?;
        Ok(Spot { segment, offset })
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
    let is_relocated_constant = section.name.starts_with(".data.rel.ro") || section.name.is(export::SECTION);
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
