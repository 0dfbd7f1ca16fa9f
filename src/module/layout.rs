//! Where each section goes, and how much room a segment needs beside them.
//!
//! Floor 2 within the loader. Offsets only: addresses come when the segments have been given memory. What a segment needs
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
use super::object::{Object, Section, SymbolPlace};
use super::reloc::RelocKind;
use super::symbols::{Target, Values};
use crate::insn::seq::plt::is_erratum_843419_place;
use crate::plt::{ENTRY_BYTES, STUB_VENEERS};
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
    /// The GOT, and how many entries it has.
    pub(crate) got: (Spot, usize),
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
            got: (Spot { segment: Segment::Rodata, offset: 0 }, 0),
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
        let mut targets = [Vec::new(), Vec::new()];
        let mut forbidden = [0, 0];
        let mut got = Vec::new();
        for (section, start) in object.sections.iter().zip(&self.sections) {
            let Some(start) = start else { continue };
            let text = TEXTS.iter().position(|segment| *segment == start.segment);
            for relocation in section.relocations() {
                let Some(kind) = RelocKind::of(relocation.number) else { continue };
                if kind.needs_got() {
                    got.try_reserve(1)?;
                    got.push(values.target(&relocation));
                }
                let Some(text) = text else { continue };
                if kind.is_branch() {
                    let target = values.target(&relocation);
                    if target.is_none_or(|target| !target.is_in(start.segment)) {
                        targets[text].try_reserve(1)?;
                        targets[text].push(target);
                    }
                }
                let is_forbidden = kind.is_adrp()
                    && erratum == Erratum843419::Present
                    && is_erratum_843419_place(start.offset + relocation.offset);
                forbidden[text] += usize::from(is_forbidden);
            }
        }
        for ((segment, targets), forbidden) in TEXTS.into_iter().zip(targets).zip(forbidden) {
            if self.bytes[segment.index()] > 0 {
                let entries = STUB_VENEERS + count_distinct(targets) + forbidden;
                let spot = self.append(segment, ENTRY_BYTES, ENTRY_BYTES * entries as u64)?;
                self.plt[segment.index()] = Some(PltRoom { offset: spot.offset, entries });
            }
        }
        let entries = count_distinct(got);
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

fn count_distinct(mut targets: Vec<Option<Target>>) -> usize {
    targets.sort_unstable();
    targets.dedup();
    targets.len()
}

/// Which segment a section belongs to; none where it isn't placed.
fn segment_of(section: &Section<'_>, page_bytes: u64) -> Result<Option<Segment>, LoadError> {
    if !section.is_loaded() || section.is_patchable_entries() {
        return Ok(None);
    }
    if section.is_thread_local() {
        return Err(LoadError::ThreadLocal { section: section.index, offset: 0 });
    }
    if !section.is_program() {
        return Err(section.refused(SectionCause::Type(section.kind)));
    }
    if !section.alignment.is_power_of_two() || section.alignment > page_bytes {
        return Err(section.refused(SectionCause::Alignment(section.alignment)));
    }
    let is_init = section.name.is(".init") || section.name.starts_with(".init.");
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
