//! One region: a contiguous piece of text, its callsites, and the changes that are planned for them.
//!
//! A plan is written into the table itself, as the set that each callsite shall have next. Carried out, it becomes the set
//! that each has now; discarded, it is overwritten by that.

use super::error::{InitError, RegisterError};
use super::image::Image;
use super::left_out::LeftOut;
use super::names::{FunctionNames, Origin};
use super::sets::{Destination, Sets};
use super::veneers::Veneers;
use crate::address::{TextAddr, TextRange};
use crate::callsite::table::{CallsiteRecord, InitCounts, Planned, Run, SetId, Slots, Table, TableError};
use crate::callsite::veneer::reaches;
use crate::callsite::{Callsite, LiveWord, OutOfReach, Refusal, State, WordChange};
#[cfg(target_os = "none")]
use crate::text::Machine as _;
use crate::text::{Cpu, TextPoke, TextWord};
use core::ops::{ControlFlow, Range};

/// A piece of text with its callsites.
///
/// # Invariants
///
/// The text is mapped and readable for as long as the region is in the engine: whoever gave it promises that
/// ([`Image::new`]'s second promise, the first of `Regions::add`), but for what was forgotten, where no callsite is.
pub(super) struct Region {
    pub(super) text: TextRange,
    pub(super) excluded: TextRange,
    pub(super) table: Table,
    pub(super) origin: Origin,
    /// Present where stubs are out of BL's reach.
    pub(super) veneers: Option<Veneers>,
    /// The records between which there are planned changes.
    pub(super) planned: Planned,
    /// How many of its instructions are [claimed](super::claim).
    pub(super) claims: u32,
    /// A range around those.
    pub(super) claimed: TextRange,
    /// A range around what was forgotten of its text, which nobody may read.
    pub(super) forgotten: TextRange,
}

/// The callsite section of an image, to be rewritten.
fn section(image: &Image, machine: Cpu) -> Result<&'static mut [u64], TableError> {
    /// The smallest translation granule.
    const PAGE: usize = 4096;
    let &Image { section, section_bytes: bytes, .. } = image;
    let start = section.addr() as u64;
    if !section.is_aligned() || !bytes.is_multiple_of(size_of::<u64>()) {
        return Err(TableError::Truncated { start, bytes });
    }
    if section.is_null() || bytes == 0 {
        return Err(TableError::Empty);
    }
    let pages = (section.addr() / PAGE * PAGE..section.addr() + bytes).step_by(PAGE);
    let mut places = pages.map(|page| section.cast::<u8>().with_addr(page.max(section.addr())).cast_const());
    if let Some(at) = places.find(|at| !machine.can_write(*at)) {
        return Err(TableError::NotWritable { start, at: at.addr() as u64 });
    }
    // SAFETY: `Image::new`'s caller gave the section's bytes to the engine (1); it is aligned, and not null.
    Ok(unsafe { core::slice::from_raw_parts_mut(section, bytes / size_of::<u64>()) })
}

impl Region {
    /// The room for its veneers; empty where it needs none.
    #[cfg(feature = "module")]
    pub(super) fn veneer_room(&self) -> TextRange {
        self.veneers.as_ref().map_or(TextRange::EMPTY, Veneers::room)
    }

    /// Makes the table of the kernel's own text.
    #[inline(never)]
    pub(super) fn table_of(image: &Image, machine: Cpu) -> Result<(Table, InitCounts), TableError> {
        let &Image { text, excluded, encoding, layout, ref symbols, .. } = image;
        let mut slots = Slots::Section(section(image, machine)?);
        slots.sort(encoding)?;
        let read = |at| {
            // SAFETY: 1. and 2. the table asks for aligned addresses inside `text` only, which is mapped (`Image::new`, 2).
            unsafe { TextWord::new(at) }.load(machine)
        };
        Table::build(text, excluded, slots, encoding, layout, symbols.as_ref(), read)
    }

    /// Makes the region of the kernel's own text.
    pub(super) const fn of_image(image: &Image, table: Table) -> Self {
        let &Image { text, excluded, symbols, .. } = image;
        // INVARIANT: `Image::new`'s second promise.
        Self {
            text,
            excluded,
            table,
            origin: Origin::Kernel(symbols),
            veneers: None,
            planned: Planned::NONE,
            claims: 0,
            claimed: TextRange::EMPTY,
            forgotten: TextRange::EMPTY,
        }
    }

    /// Leaves out the functions that the image says.
    #[inline(never)]
    pub(super) fn leave_out(&mut self, left_out: &[LeftOut], counts: &mut InitCounts) -> Result<(), InitError> {
        let Self { table, origin, .. } = self;
        left_out.iter().try_for_each(|left_out| left_out.mark(table, origin.symbols()))?;
        table.leave_out_marked(counts);
        Ok(())
    }

    /// Why no entry was accepted.
    #[cold]
    #[inline(never)]
    pub(super) fn nothing_accepted(&self, counts: &InitCounts, machine: Cpu) -> InitError {
        let (text, first) = (self.text, self.refused(machine).next());
        let is_outside = self.refused(machine).all(|(entry, _)| !text.contains(entry));
        let &InitCounts { refused, excluded, left_out, .. } = counts;
        let excluded = excluded + left_out;
        InitError::Table(match first {
            Some((first, _)) if is_outside && excluded == 0 => {
                TableError::OutsideText { entries: refused, text, first }
            }
            _ => TableError::NothingAccepted { refused, excluded, first },
        })
    }

    /// Makes the region of a module's text.
    #[cfg(feature = "module")]
    pub(super) const fn of_module(text: TextRange, table: Table, veneers: Option<Veneers>, origin: Origin) -> Self {
        let (planned, [excluded, claimed, forgotten]) = (Planned::NONE, [TextRange::EMPTY; 3]);
        Self { text, excluded, table, origin, veneers, planned, claims: 0, claimed, forgotten }
    }

    /// Whether this token's number is the region's.
    #[cfg(feature = "module")]
    pub(super) const fn is_of(&self, token: u64) -> bool {
        matches!(self.origin, Origin::Module { number, .. } if number == token)
    }

    /// The changes that make every callsite ready: MOV X9, LR.
    #[inline]
    pub(super) fn to_ready(&self) -> impl Iterator<Item = WordChange<u32, TextWord>> {
        let callsites = self.table.records(0..self.table.len()).map(|record| record.callsite(self.text.start));
        callsites.map(|callsite| {
            let WordChange { at, old, new } = callsite.made_ready();
            WordChange { at: self.word(at), old, new }
        })
    }

    /// The changes that make every callsite again what the compiler left.
    #[cfg(feature = "module")]
    pub(super) fn to_compiled(&self) -> impl Iterator<Item = WordChange<u32, TextWord>> {
        self.to_ready().map(WordChange::reversed)
    }

    /// Checks that every callsite with a planned change reaches what it is to call. Where the first and the last reach all
    /// of the room that stubs are in, all between reach every stub.
    pub(super) fn check_reach(&self, sets: &Sets) -> Result<(), OutOfReach> {
        let room = self.veneers.as_ref().map_or(sets.room.text(), Veneers::room);
        let reaches_room = |at| reaches(at, room.start) && reaches(at, room.end.offset(-4));
        let text = self.planned_text();
        if text.is_empty() || (reaches_room(text.start) && reaches_room(text.end.offset(-4))) {
            return Ok(());
        }
        let mut records = self.table.records(self.planned.span.clone()).filter(|record| record.differs());
        records.try_for_each(|record| {
            let callsite = record.callsite(self.text.start);
            match self.destination(sets, record.next()).from(callsite.call_addr()) {
                Some(target) => callsite.check_reach(target),
                None => Ok(()),
            }
        })
    }

    /// Where this region's callsites of a set go.
    #[inline]
    pub(super) fn destination(&self, sets: &Sets, target: SetId) -> Destination {
        match (&self.veneers, sets.destination(target)) {
            (None, destination) => destination,
            (Some(veneers), destination) => veneers.instead_of(target, destination),
        }
    }

    /// The state that a callsite with this record should be in.
    pub(super) fn state(&self, sets: &Sets, record: CallsiteRecord) -> State {
        let at = record.call_addr(self.text.start);
        self.destination(sets, record.now()).from(at).map_or(State::Disabled, State::Enabled)
    }

    /// Calls `each` with the planned changes, as words, until it breaks. [`check_reach`](Self::check_reach) has
    /// succeeded.
    #[inline]
    pub(super) fn for_each_change<B>(
        &self,
        sets: &Sets,
        mut each: impl FnMut(WordChange<LiveWord, TextWord>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for run in self.table.runs(&self.planned) {
            let (now, next) = (self.destination(sets, run.now), self.destination(sets, run.next));
            // Where the place differs from callsite to callsite, each is worked out for itself.
            let at_once = if now.is_one() && next.is_one() { usize::MAX } else { 1 };
            for piece in run.pieces(at_once) {
                let Some(first) = piece.call_addrs().next() else { continue };
                let (nop, bl) = (|_| LiveWord::NOP, |target| move |at| LiveWord::bl_within_reach(at, target));
                // A loop for each case, so that none decides anything for each callsite.
                match (now.from(first), next.from(first)) {
                    (None, None) => {}
                    (None, Some(new)) => self.for_each_of(&piece, nop, bl(new), &mut each)?,
                    (Some(old), None) => self.for_each_of(&piece, bl(old), nop, &mut each)?,
                    (Some(old), Some(new)) => self.for_each_of(&piece, bl(old), bl(new), &mut each)?,
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Calls `each` with a change of every callsite of the run.
    #[inline]
    fn for_each_of<B>(
        &self,
        run: &Run<'_>,
        old: impl Fn(TextAddr) -> LiveWord,
        new: impl Fn(TextAddr) -> LiveWord,
        each: &mut impl FnMut(WordChange<LiveWord, TextWord>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for at in run.call_addrs() {
            each(WordChange { at: self.word(at), old: old(at), new: new(at) })?;
        }
        ControlFlow::Continue(())
    }

    /// Calls `each` with the planned changes' addresses until it breaks.
    #[inline]
    pub(super) fn for_each_address<B>(&self, mut each: impl FnMut(TextWord) -> ControlFlow<B>) -> ControlFlow<B> {
        for run in self.table.runs(&self.planned) {
            for at in run.call_addrs() {
                each(self.word(at))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The callsites with planned changes, each with the set that it shall have.
    pub(super) fn planned_callsites(&self) -> impl Iterator<Item = (SetId, Callsite)> {
        let records = self.table.records(self.planned.span.clone()).filter(|record| record.differs());
        records.map(|record| (record.next(), record.callsite(self.text.start)))
    }

    /// Whether a callsite is planned to get this set.
    pub(super) fn plans(&self, set: SetId) -> bool {
        self.table.runs(&self.planned).any(|run| run.next == set)
    }

    /// Makes a veneer for every set that a planned change needs one for, until something fails, which it notes.
    #[inline]
    pub(super) fn make_veneers(&mut self, sets: &Sets, poke: TextPoke<'_>, failure: &mut Option<RegisterError>) {
        let Some(veneers) = &mut self.veneers else { return };
        for run in self.table.runs(&self.planned) {
            veneers.make(run.next, sets.destination(run.next), poke, failure);
            if failure.is_some() {
                return;
            }
        }
    }

    /// The part of the text between the first and the last callsite with a planned change.
    pub(super) fn planned_text(&self) -> TextRange {
        let mut text = TextRange::EMPTY;
        let at = |index| self.table.get(index).map(|record| record.call_addr(self.text.start));
        let Range { start, end } = self.planned.span;
        if let (true, Some(first)) = (start < end, at(start))
            && let Some(last) = at(end - 1)
        {
            text = TextRange::new(first, last.offset(4));
        }
        text
    }

    /// Makes the plan, which was carried out, what callsites have now; returns how many it changed.
    pub(super) fn commit(&mut self, sets: &mut Sets) -> u64 {
        let (veneers, mut changed) = (&mut self.veneers, 0);
        self.table.commit(&self.planned, |from, to, callsites| {
            changed += u64::from(callsites);
            sets.count(from, to, callsites);
            if let Some(veneers) = veneers {
                veneers.count(from, to, callsites);
            }
        });
        self.planned = Planned::NONE;
        changed
    }

    /// Discards the plan.
    pub(super) fn discard_plan(&mut self) {
        self.table.withdraw(&self.planned);
        self.planned = Planned::NONE;
    }

    /// Commits the part of the plan that was carried out, as the text says, and discards the rest.
    pub(super) fn resync_from_text(&mut self, sets: &mut Sets, machine: Cpu) {
        for index in core::mem::take(&mut self.planned).span {
            let Some(record) = self.table.get(index).filter(|record| record.differs()) else { continue };
            let callsite = record.callsite(self.text.start);
            let next = self.destination(sets, record.next()).from(callsite.call_addr());
            let done = self.text_state(&callsite, machine) == Ok(next.map_or(State::Disabled, State::Enabled));
            if done {
                sets.count(record.now(), record.next(), 1);
                if let Some(veneers) = &mut self.veneers {
                    veneers.count(record.now(), record.next(), 1);
                }
            }
            self.table.update(index, |record| *record = if done { record.committed() } else { record.withdrawn() });
        }
    }

    /// The records of these indices, with their callsites.
    pub(super) fn callsites(&self, span: Range<usize>) -> impl Iterator<Item = (CallsiteRecord, Callsite)> {
        self.table.records(span).map(|record| (record, record.callsite(self.text.start)))
    }

    /// The state that a callsite's text is in, or its two words if it is in none.
    pub(super) fn text_state(&self, callsite: &Callsite, machine: Cpu) -> Result<State, [u32; 2]> {
        let words = [self.read(machine, callsite.mov_addr()), self.read(machine, callsite.call_addr())];
        callsite.state_of(words[0], words[1]).ok_or(words)
    }

    /// Whether the instruction at an address is one of its text that is still there.
    pub(super) fn can_read(&self, at: TextAddr) -> bool {
        let is_there = |at: TextAddr| self.text.contains(at) && !self.forgotten.contains(at);
        at.is_aligned() && is_there(at) && is_there(at.offset(3))
    }

    /// The instruction at an address inside the text, a multiple of 4.
    pub(super) fn read(&self, machine: Cpu, at: TextAddr) -> u32 {
        self.word(at).load(machine)
    }

    /// An instruction of the text: one of a callsite, or one at an address that the table has asked for.
    #[inline(always)]
    fn word(&self, at: TextAddr) -> TextWord {
        debug_assert!(self.text.contains(at));
        // SAFETY: 1. callsites were decoded from aligned addresses, and the table asks for no others. 2. Both are inside the
        // text, which is mapped for as long as the region is here, by the type's invariant.
        unsafe { TextWord::new(at) }
    }

    /// The entries that are no callsites, with the reason each.
    pub(super) fn refused(&self, machine: Cpu) -> impl Iterator<Item = (TextAddr, Refusal)> {
        self.table.refused(self.excluded, self.origin.symbols(), move |at| self.read(machine, at))
    }

    /// Walks over the names of functions that are asked for one after the other.
    pub(super) fn names(&self) -> FunctionNames<'_> {
        self.origin.names()
    }

    pub(super) fn name(&self, addr: TextAddr) -> Option<&str> {
        self.origin.symbols().and_then(|symbols| symbols.lookup_addr(addr.get())).map(|found| found.symbol.name)
    }
}
