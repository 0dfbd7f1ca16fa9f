//! A placed module made whole: sections copied, relocations done, veneers and GOT filled, callsites gathered.
//!
//! Floor 3 within the loader.

use super::error::{LoadError, SectionCause, owned};
use super::layout::{Erratum843419, Layout, Spot, TEXTS};
use super::memory::Segment;
use super::object::{Object, Relocation, Section};
use super::place::Placed;
use super::reloc::{Letters, RelocKind};
use super::symbols::{Target, Values};
use crate::address::{TextAddr, TextRange};
use crate::callsite::Refusal;
use crate::insn::BranchOffset;
use crate::insn::seq::plt::is_erratum_843419_place;
use crate::plt::{AdrpInstead, ENTRY_BYTES, STUB_VENEERS, Veneer};
use alloc::vec::Vec;

/// R_AARCH64_ABS64 and R_AARCH64_PREL64: what an entry of `__patchable_function_entries` is filled by.
const ENTRY_KINDS: [u32; 2] = [257, 260];
/// The numbers of the kinds for thread-local storage (AAELF64 5.7.12).
const THREAD_LOCAL: core::ops::RangeInclusive<u32> = 512..=573;

/// A module in the making.
pub(crate) struct Linking<'a, 'k> {
    pub(crate) object: &'a Object<'a>,
    pub(crate) layout: &'a Layout,
    pub(crate) values: &'a Values,
    pub(crate) placed: &'a mut Placed<'k>,
    pub(crate) erratum: Erratum843419,
    /// Each segment's veneers so far, by target; the index is the entry's.
    veneers: [Vec<Option<Target>>; Segment::ALL.len()],
    got: Vec<Target>,
}

impl<'a, 'k> Linking<'a, 'k> {
    pub(crate) fn new(
        object: &'a Object<'a>,
        layout: &'a Layout,
        values: &'a Values,
        placed: &'a mut Placed<'k>,
        erratum: Erratum843419,
    ) -> Self {
        Self { object, layout, values, placed, erratum, veneers: Default::default(), got: Vec::new() }
    }

    /// Does all of it; returns the entries of the callsites of text and of init text, sorted.
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
        for section in self.object.sections.iter().filter(|section| !section.is_zeros()) {
            if let Some(spot) = self.layout.sections[section.index] {
                let whole = section.data.len() as u64 == section.bytes;
                let copied = self.placed.write(spot, section.data).filter(|()| whole);
                copied.ok_or(LoadError::Malformed { what: "section", index: section.index })?;
            }
        }
        Ok(())
    }

    /// The first of each text's veneers are for whoever traces it.
    fn set_stub_veneers_aside(&mut self) -> Result<(), LoadError> {
        for segment in TEXTS {
            if self.layout.plt[segment.index()].is_some() {
                for _ in 0..STUB_VENEERS {
                    self.new_veneer(segment, None)?;
                }
            }
        }
        Ok(())
    }

    /// Room for one more veneer.
    fn new_veneer(&mut self, segment: Segment, target: Option<Target>) -> Result<Spot, LoadError> {
        let used = &mut self.veneers[segment.index()];
        let spot = self.layout.plt_entry(segment, used.len());
        let entries = self.layout.plt[segment.index()].map_or(0, |room| room.entries);
        let spot = spot.ok_or(LoadError::PltFull { segment, entries })?;
        used.try_reserve(1)?;
        used.push(target);
        Ok(spot)
    }

    fn write_jump(&mut self, spot: Spot, target: TextAddr) -> Result<(), LoadError> {
        let at = TextAddr::new(self.placed.address(spot));
        let veneer = Veneer::jump(at, target).map_err(|cause| LoadError::Veneer { target: target.get(), cause })?;
        self.write_veneer(spot, veneer)
    }

    fn write_veneer(&mut self, spot: Spot, veneer: Veneer) -> Result<(), LoadError> {
        let mut bytes = [0; ENTRY_BYTES as usize];
        for (place, word) in bytes.chunks_exact_mut(4).zip(veneer.words()) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.placed.write(spot, &bytes).ok_or(LoadError::PltFull { segment: spot.segment, entries: 0 })
    }

    fn relocate(&mut self, section: &Section<'_>, start: Spot, relocation: &Relocation) -> Result<(), LoadError> {
        let Relocation { offset, number, symbol, .. } = *relocation;
        if THREAD_LOCAL.contains(&number) {
            return Err(LoadError::ThreadLocal { section: section.index, offset });
        }
        let unknown = || LoadError::UnknownRelocation { section: section.index, offset, number };
        let kind = RelocKind::of(number).ok_or_else(unknown)?;
        let outside = || LoadError::RelocationPlace { section: section.index, offset };
        if offset.checked_add(kind.bytes().into()).is_none_or(|end| end > section.bytes) {
            return Err(outside());
        }
        let spot = Spot { offset: start.offset + offset, ..start };
        let not_loaded = || LoadError::NotLoaded { section: section.index, symbol };
        let target = self.values.target(relocation).ok_or_else(not_loaded)?;
        let place = self.placed.address(spot);

        let got = if kind.needs_got() { self.got_entry(target)? } else { 0 };
        let mut address = self.address_of(target, kind, place);
        if kind.is_branch() && !matches!(target, Target::Nothing(_)) && BranchOffset::between(place, address).is_err() {
            // A branch to no multiple of 4 is no matter of distance.
            if address.is_multiple_of(4) {
                let veneer = self.veneer_to(spot.segment, target, address)?;
                address = self.placed.address(veneer);
            }
        }
        let old = self.placed.read(spot, kind.bytes()).ok_or_else(outside)?;
        let letters = Letters { target: address, place, got };
        let new = kind.apply(letters, old).map_err(|error| {
            match owned(self.object.symbol(symbol).name.text().unwrap_or_default()) {
                Ok(symbol) => LoadError::Relocation { symbol, error },
                Err(no_room) => no_room,
            }
        })?;
        self.placed.write_number(spot, kind.bytes(), new).ok_or_else(outside)?;
        if kind.is_adrp() && self.erratum == Erratum843419::Present && is_erratum_843419_place(place) {
            self.replace_adrp(spot, new as u32)?;
        }
        Ok(())
    }

    /// The address that a relocation means.
    fn address_of(&self, target: Target, kind: RelocKind, place: u64) -> u64 {
        match target {
            Target::Here(segment, offset) => self.placed.range(segment).start.get().wrapping_add(offset),
            Target::Address(address) => address,
            // AAELF64 5.7.1: a branch to nothing goes on behind it, and nothing is where it is referred from.
            Target::Nothing(_) if kind.is_branch() => place.wrapping_add(4),
            Target::Nothing(addend) if kind.is_relative() => place.wrapping_add(addend),
            Target::Nothing(addend) => addend,
        }
    }

    /// The veneer to a target, made where there is none yet.
    fn veneer_to(&mut self, segment: Segment, target: Target, address: u64) -> Result<Spot, LoadError> {
        let known = self.veneers[segment.index()].iter().position(|known| *known == Some(target));
        if let Some(spot) = known.and_then(|index| self.layout.plt_entry(segment, index)) {
            return Ok(spot);
        }
        let spot = self.new_veneer(segment, Some(target))?;
        self.write_jump(spot, TextAddr::new(address))?;
        Ok(spot)
    }

    /// The address of a target's GOT entry, made where there is none yet.
    fn got_entry(&mut self, target: Target) -> Result<u64, LoadError> {
        let (start, entries) = self.layout.got;
        let known = self.got.iter().position(|known| *known == target);
        let index = known.unwrap_or(self.got.len());
        let spot = Spot { offset: start.offset + 8 * index as u64, ..start };
        if known.is_none() {
            let full = || LoadError::PltFull { segment: start.segment, entries };
            if index >= entries {
                return Err(full());
            }
            let value = match target {
                Target::Here(segment, offset) => self.placed.range(segment).start.get().wrapping_add(offset),
                Target::Address(address) | Target::Nothing(address) => address,
            };
            self.got.try_reserve(1)?;
            self.got.push(target);
            self.placed.write_number(spot, 8, value).ok_or_else(full)?;
        }
        Ok(self.placed.address(spot))
    }

    /// Takes away an ADRP from where Cortex-A53 erratum 843419 forbids it.
    fn replace_adrp(&mut self, spot: Spot, adrp: u32) -> Result<(), LoadError> {
        let at = TextAddr::new(self.placed.address(spot));
        let next = self.layout.plt_entry(spot.segment, self.veneers[spot.segment.index()].len());
        // Without room ADR may still do; if it doesn't, that is found below.
        let room = next.map_or(at, |room| TextAddr::new(self.placed.address(room)));
        let Some(instead) = AdrpInstead::of(adrp, at, room) else { return Ok(()) };
        let word = match instead.map_err(|cause| LoadError::Veneer { target: at.get(), cause })? {
            AdrpInstead::Adr(word) => word,
            AdrpInstead::Veneer { branch, veneer } => {
                let room = self.new_veneer(spot.segment, None)?;
                self.write_veneer(room, veneer)?;
                branch
            }
        };
        let full = || LoadError::PltFull { segment: spot.segment, entries: 0 };
        self.placed.write_number(spot, 4, word.into()).ok_or_else(full)
    }

    /// Gathers the entries, sorted, and looks whether each lies where it should.
    fn callsites(&self) -> Result<[Vec<u64>; 2], LoadError> {
        let mut entries = [Vec::new(), Vec::new()];
        // Each list is as long as it was reserved, so that its taker can make it a slice without an allocation.
        for ((entries, segment), count) in entries.iter_mut().zip(TEXTS).zip(self.count_entries()?) {
            entries.try_reserve_exact(count)?;
            for section in self.entries_sections() {
                for relocation in section.relocations() {
                    let (entry, own) = self.entry(section, &relocation)?;
                    if own == segment {
                        entries.push(entry);
                    }
                }
            }
            entries.sort_unstable();
            self.check_entries(segment, entries)?;
        }
        Ok(entries)
    }

    fn entries_sections(&self) -> impl Iterator<Item = &'a Section<'a>> {
        self.object.sections.iter().filter(|section| section.is_patchable_entries())
    }

    /// How many entries text and init text have.
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

    /// The entry that a relocation fills, and the segment that it is in; what is in no text is refused with the text's own.
    fn entry(&self, section: &Section<'_>, relocation: &Relocation) -> Result<(u64, Segment), LoadError> {
        let Relocation { offset, number, symbol, .. } = *relocation;
        if !ENTRY_KINDS.contains(&number) {
            return Err(LoadError::UnknownRelocation { section: section.index, offset, number });
        }
        let not_loaded = || LoadError::NotLoaded { section: section.index, symbol };
        let entry = match self.values.target(relocation).ok_or_else(not_loaded)? {
            Target::Here(segment, offset) => self.placed.address(Spot { segment, offset }),
            Target::Address(address) | Target::Nothing(address) => address,
        };
        let in_init = self.placed.range(Segment::InitText).contains(TextAddr::new(entry));
        Ok((entry, if in_init { Segment::InitText } else { Segment::Text }))
    }

    /// Sees that every entry of a segment is an instruction's address there. Whether it is a callsite's is left to whoever
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

    /// Where a segment's veneers for whoever traces it are; `None` where it has no text.
    pub(crate) fn stub_veneers(&self, segment: Segment) -> Option<TextRange> {
        let start = TextAddr::new(self.placed.address(self.layout.plt_entry(segment, 0)?));
        Some(TextRange::new(start, start.offset(STUB_VENEERS as i64 * ENTRY_BYTES as i64)))
    }
}
