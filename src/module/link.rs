//! Linking a placed module: copies sections, does relocations, fills veneers and GOT, gathers the callsites.

use super::erratum::{AdrpInstead, Erratum843419};
use super::error::{LoadError, SectionCause};
use super::kinds::RelocKind;
use super::layout::{SegmentLayout, SegmentOffset, TEXTS};
use super::memory::Segment;
use super::object::Object;
use super::place::Placed;
use super::reloc::RelocOperands;
use super::resolve::{RelocTarget, SymbolValues};
use super::section::{Relocation, Section};
use super::tables::{LinkTables, TableRoom};
use super::targets::TargetEntries;
use crate::address::{TextAddr, TextRange};
use crate::callsite::Refusal;
use crate::callsite::veneer::{ENTRY_BYTES, STUB_VENEERS, Veneer, is_erratum_843419_place};
use crate::insn::BranchOffset;
use alloc::vec::Vec;

/// R_AARCH64_ABS64 and R_AARCH64_PREL64: what an entry of `__patchable_function_entries` is filled by.
const ENTRY_KINDS: [u32; 2] = [257, 260];

/// A module in the making.
pub(crate) struct Linking<'a, 'k> {
    object: &'a Object<'a>,
    layout: &'a SegmentLayout,
    tables: &'a LinkTables,
    values: &'a SymbolValues,
    placed: &'a mut Placed<'k>,
    erratum: Erratum843419,
    /// How many of each segment's veneers are in use.
    veneers: [usize; Segment::ALL.len()],
    /// The veneers of text and of init text, by what they go to.
    branches: [TargetEntries<'a>; 2],
    got: TargetEntries<'a>,
    /// How many entries of the GOT are in use.
    got_used: usize,
}

impl<'a, 'k> Linking<'a, 'k> {
    pub(crate) fn new(
        object: &'a Object<'a>,
        layout: &'a SegmentLayout,
        tables: &'a LinkTables,
        values: &'a SymbolValues,
        placed: &'a mut Placed<'k>,
        erratum: Erratum843419,
    ) -> Result<Self, LoadError> {
        let [text, init_text] = &tables.branches;
        let branches = [TargetEntries::new(text)?, TargetEntries::new(init_text)?];
        let got = TargetEntries::new(&tables.in_got)?;
        Ok(Self { object, layout, tables, values, placed, erratum, veneers: [0; 6], branches, got, got_used: 0 })
    }

    /// Links the module; returns the entries of the callsites of text and of init text, sorted.
    pub(crate) fn link(&mut self) -> Result<[Vec<u64>; 2], LoadError> {
        self.copy_sections()?;
        self.set_stub_veneers_aside()?;
        for section in &self.object.sections {
            if let Some(start) = self.layout.sections[section.index] {
                for relocation in section.relocations() {
                    self.relocate(section, start, &relocation)?;
                }
            }
        }
        self.callsites()
    }

    fn copy_sections(&mut self) -> Result<(), LoadError> {
        // One that is empty may be all that its segment has, which then has no memory.
        for section in self.object.sections.iter().filter(|section| !section.is_zeros() && section.bytes > 0) {
            if let Some(place) = self.layout.sections[section.index] {
                let whole = section.data.len() as u64 == section.bytes;
                let copied = self.placed.write(place, section.data).filter(|()| whole);
                copied.ok_or(LoadError::Malformed { what: "section", index: section.index })?;
            }
        }
        Ok(())
    }

    /// Sets each text's first veneers aside: they are for whoever traces it.
    fn set_stub_veneers_aside(&mut self) -> Result<(), LoadError> {
        for segment in TEXTS {
            if self.tables.veneer(segment, 0).is_some() {
                for _ in 0..STUB_VENEERS {
                    self.new_veneer(segment)?;
                }
            }
        }
        Ok(())
    }

    /// Takes room for one more veneer.
    fn new_veneer(&mut self, segment: Segment) -> Result<SegmentOffset, LoadError> {
        let used = &mut self.veneers[segment.index()];
        let place = self.tables.veneer(segment, *used);
        let place = place.ok_or_else(|| self.tables.no_veneer_left(segment))?;
        *used += 1;
        Ok(place)
    }

    fn write_jump(&mut self, place: SegmentOffset, target: TextAddr) -> Result<(), LoadError> {
        let at = TextAddr::new(self.placed.address(place));
        let veneer = Veneer::jump(at, target).map_err(|cause| LoadError::Veneer { target: target.get(), cause })?;
        self.write_veneer(place, veneer)
    }

    fn write_veneer(&mut self, place: SegmentOffset, veneer: Veneer) -> Result<(), LoadError> {
        let mut bytes = [0; ENTRY_BYTES as usize];
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(veneer.words()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.placed.write(place, &bytes).ok_or_else(|| self.tables.no_veneer_left(place.segment))
    }

    fn relocate(
        &mut self,
        section: &Section<'_>,
        start: SegmentOffset,
        relocation: &Relocation,
    ) -> Result<(), LoadError> {
        let Relocation { offset, kind, symbol, .. } = *relocation;
        let outside = || LoadError::RelocationPlace { section: section.index, offset };
        let place = SegmentOffset { offset: start.offset + offset, ..start };
        let target = self.target(section, relocation)?;
        let at = self.placed.address(place);

        let got = if kind.needs_got() { self.got_entry(target)? } else { 0 };
        let mut address = self.address_of(target, kind, at);
        if kind.is_branch() && !matches!(target, RelocTarget::Nothing(_)) && BranchOffset::between(at, address).is_err()
        {
            // A branch to no multiple of 4 is no matter of distance.
            if address.is_multiple_of(4) {
                let veneer = self.veneer_to(place.segment, target, address)?;
                address = self.placed.address(veneer);
            }
        }
        let old = self.placed.read(place, kind.bytes()).ok_or_else(outside)?;
        let got_start = self.placed.address(self.tables.got.start);
        let operands = RelocOperands { target: address, place: at, got_entry: got, got_start };
        let new = kind.apply(operands, old).map_err(|error| match self.object.symbol_name(symbol) {
            Ok(symbol) => LoadError::Relocation { symbol, error },
            Err(no_room) => no_room,
        })?;
        self.placed.write_number(place, kind.bytes(), new).ok_or_else(outside)?;
        if kind.is_adrp() && self.erratum == Erratum843419::Present && is_erratum_843419_place(at) {
            self.replace_adrp(place, new as u32)?;
        }
        Ok(())
    }

    /// Finds what a relocation refers to; an error where that is not loaded.
    fn target(&self, section: &Section<'_>, relocation: &Relocation) -> Result<RelocTarget, LoadError> {
        match self.values.target(relocation) {
            Some(target) => Ok(target),
            None => Err(LoadError::NotLoaded {
                section: section.own_name()?,
                symbol: self.object.symbol_name(relocation.symbol)?,
            }),
        }
    }

    /// The address of a target by itself.
    fn address(&self, target: RelocTarget) -> u64 {
        match target {
            RelocTarget::Here(segment, offset) => self.placed.address(SegmentOffset { segment, offset }),
            RelocTarget::Address(address) | RelocTarget::Nothing(address) => address,
            RelocTarget::Got(offset) => self.placed.address(self.tables.got.start).wrapping_add(offset),
        }
    }

    /// The address that a relocation means.
    fn address_of(&self, target: RelocTarget, kind: RelocKind, at: u64) -> u64 {
        match target {
            // AAELF64 5.7.1: a branch to nothing goes on behind it, and nothing is where it is referred from.
            RelocTarget::Nothing(_) if kind.is_branch() => at.wrapping_add(4),
            RelocTarget::Nothing(addend) if kind.is_relative() => at.wrapping_add(addend),
            _ => self.address(target),
        }
    }

    /// The veneer to a target, made where there is none yet.
    fn veneer_to(&mut self, segment: Segment, target: RelocTarget, address: u64) -> Result<SegmentOffset, LoadError> {
        // Within one's own text there are no veneers: such a target was not collected.
        let text = TEXTS.iter().position(|text| *text == segment);
        let known = text.and_then(|text| Some((text, self.branches[text].find(target)?)));
        let (text, index) = known.ok_or_else(|| self.tables.no_veneer_left(segment))?;
        if let Some(number) = self.branches[text].number(index) {
            return self.tables.veneer(segment, number).ok_or_else(|| self.tables.no_veneer_left(segment));
        }
        self.branches[text].take(index, self.veneers[segment.index()]);
        let place = self.new_veneer(segment)?;
        self.write_jump(place, TextAddr::new(address))?;
        Ok(place)
    }

    /// The address of a target's GOT entry, made where there is none yet.
    fn got_entry(&mut self, target: RelocTarget) -> Result<u64, LoadError> {
        let TableRoom { start, entries } = self.tables.got;
        let full = || LoadError::PltFull { segment: start.segment, entries };
        let index = self.got.find(target).ok_or_else(full)?;
        let taken = self.got.number(index);
        let number = taken.unwrap_or(self.got_used);
        let place = SegmentOffset { offset: start.offset + 8 * number as u64, ..start };
        if taken.is_none() {
            self.got.take(index, number);
            self.got_used += 1;
            self.placed.write_number(place, 8, self.address(target)).ok_or_else(full)?;
        }
        Ok(self.placed.address(place))
    }

    /// Replaces an ADRP where Cortex-A53 erratum 843419 forbids it.
    fn replace_adrp(&mut self, place: SegmentOffset, adrp: u32) -> Result<(), LoadError> {
        let at = TextAddr::new(self.placed.address(place));
        let next = self.tables.veneer(place.segment, self.veneers[place.segment.index()]);
        // Without room ADR may still do; if it doesn't, that is found below.
        let room = next.map_or(at, |room| TextAddr::new(self.placed.address(room)));
        let Some(instead) = AdrpInstead::of(adrp, at, room) else { return Ok(()) };
        let word = match instead.map_err(|cause| LoadError::Veneer { target: at.get(), cause })? {
            AdrpInstead::Adr(word) => word,
            AdrpInstead::Veneer { branch, veneer } => {
                let room = self.new_veneer(place.segment)?;
                self.write_veneer(room, veneer)?;
                branch
            }
        };
        self.placed.write_number(place, 4, word.into()).ok_or_else(|| self.tables.no_veneer_left(place.segment))
    }

    /// Gathers the entries, sorted, and checks that each lies where it should.
    fn callsites(&self) -> Result<[Vec<u64>; 2], LoadError> {
        let mut entries = [Vec::new(), Vec::new()];
        // Each list is as long as it was reserved, so that its taker can make it a slice without an allocation.
        for (entries, count) in entries.iter_mut().zip(self.count_entries()?) {
            entries.try_reserve_exact(count)?;
        }
        for section in self.entries_sections() {
            for relocation in section.relocations() {
                let (entry, segment) = self.entry(section, &relocation)?;
                entries[usize::from(segment == Segment::InitText)].push(entry);
            }
        }
        for (entries, segment) in entries.iter_mut().zip(TEXTS) {
            entries.sort_unstable();
            self.check_entries(segment, entries)?;
        }
        Ok(entries)
    }

    fn entries_sections(&self) -> impl Iterator<Item = &'a Section<'a>> {
        self.object.sections.iter().filter(|section| section.is_patchable_entries())
    }

    /// Counts the entries of text and of init text.
    fn count_entries(&self) -> Result<[usize; 2], LoadError> {
        let mut counts = [0, 0];
        for section in self.entries_sections() {
            if !section.bytes.is_multiple_of(8) {
                return Err(section.refused(SectionCause::Length(section.bytes)));
            }
            let relocations = section.relocations().count() as u64;
            if relocations < section.bytes / 8 {
                return Err(LoadError::EmptyEntry { section: section.index, offset: relocations * 8 });
            }
            for relocation in section.relocations() {
                let (_, segment) = self.entry(section, &relocation)?;
                counts[usize::from(segment == Segment::InitText)] += 1;
            }
        }
        Ok(counts)
    }

    /// Finds the entry that a relocation fills, and its segment; what is in no text is refused with the text's own.
    fn entry(&self, section: &Section<'_>, relocation: &Relocation) -> Result<(u64, Segment), LoadError> {
        if !ENTRY_KINDS.contains(&relocation.kind.number()) {
            return Err(self.unknown_relocation(section, relocation)?);
        }
        let entry = self.address_in(section, relocation)?;
        let in_init = self.placed.range(Segment::InitText).contains(TextAddr::new(entry));
        Ok((entry, if in_init { Segment::InitText } else { Segment::Text }))
    }

    /// The addresses of the text, init text left aside.
    pub(super) fn text(&self) -> TextRange {
        self.placed.range(Segment::Text)
    }

    /// The address that a relocation of a section that isn't placed refers to.
    pub(super) fn address_in(&self, section: &Section<'_>, relocation: &Relocation) -> Result<u64, LoadError> {
        Ok(self.address(self.target(section, relocation)?))
    }

    /// The error for a relocation of a kind that has no meaning there.
    pub(super) fn unknown_relocation(
        &self,
        section: &Section<'_>,
        relocation: &Relocation,
    ) -> Result<LoadError, LoadError> {
        let Relocation { offset, kind, symbol, .. } = *relocation;
        let (section, symbol) = (section.own_name()?, self.object.symbol_name(symbol)?);
        Ok(LoadError::UnknownRelocation { section, offset, number: kind.number(), symbol })
    }

    /// Checks that every entry of a segment is an instruction's address there. Whether it is a callsite's is left to whoever
    /// traces, who gets the symbols and leaves out those that are not.
    fn check_entries(&self, segment: Segment, entries: &[u64]) -> Result<(), LoadError> {
        let text = self.placed.range(segment);
        for entry in entries.iter().copied().map(TextAddr::new) {
            let refusal = match entry {
                entry if !entry.is_aligned() => Refusal::Misaligned,
                entry if !text.contains(entry) => Refusal::OutsideText,
                _ => continue,
            };
            return Err(LoadError::Callsite { entry, refusal });
        }
        Ok(())
    }

    /// The room for a segment's veneers to stubs; `None` where it has no text.
    pub(crate) fn stub_veneers(&self, segment: Segment) -> Option<TextRange> {
        let start = TextAddr::new(self.placed.address(self.tables.veneer(segment, 0)?));
        Some(TextRange::new(start, start.offset(STUB_VENEERS as i64 * ENTRY_BYTES as i64)))
    }
}
