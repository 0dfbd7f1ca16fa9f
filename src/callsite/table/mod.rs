//! The callsite table: the compiler's section, rewritten in place into sorted records.
//!
//! `__patchable_function_entries` is an array of addresses, eight bytes a function, in the order of the link. What
//! the engine needs is also eight bytes a function: where it is, and what it calls now. So the section itself becomes the
//! table, without a heap and before the kernel has one.
//!
//! ```text
//!   section:  [ address, address, address, ...                        ]   as linked
//!   table:    [ record, record, ... sorted by address | address, ...  ]   accepted | set aside: refused, or the engine's own
//! ```

mod error;
mod fill;
mod plan;
mod record;
mod sort;

use crate::address::{TextAddr, TextRange};
use crate::callsite::{Callsite, LandingPad, Layout, Prefix, Refusal, State};
use crate::symbols::Symbols;
#[cfg(feature = "module")]
use alloc::boxed::Box;
use core::fmt;
use core::ops::{Deref, DerefMut, Range};
use fill::{Filling, Reading};
use plan::run_len;
use sort::sort;

pub use error::{Encoding, TableError};
pub use fill::InitCounts;
pub(crate) use plan::{Planned, Run, Runs};
pub(crate) use record::{CallsiteRecord, SetId};

/// The memory that a table is in.
pub(crate) enum Slots {
    /// A section that was given to the engine for ever.
    Section(&'static mut [u64]),
    /// A module's entries, freed with the table.
    #[cfg(feature = "module")]
    Owned(Box<[u64]>),
}

impl Slots {
    /// Makes the entries absolute, and sorts them: what comes before [`Table::build`].
    #[inline(never)]
    pub(crate) fn sort(&mut self, encoding: Encoding) -> Result<(), TableError> {
        let slots = &mut **self;
        if slots.is_empty() {
            return Err(TableError::Empty);
        }
        if slots.iter().all(|entry| *entry == 0) {
            return Err(TableError::NotRelocated { entries: slots.len() });
        }
        if encoding == Encoding::Relative {
            for slot in &mut *slots {
                *slot = slot.wrapping_add(core::ptr::from_ref(slot).addr() as u64);
            }
        }
        sort(slots);
        Ok(())
    }
}

impl Deref for Slots {
    type Target = [u64];

    #[inline(always)]
    fn deref(&self) -> &[u64] {
        match self {
            Self::Section(slots) => slots,
            #[cfg(feature = "module")]
            Self::Owned(slots) => slots,
        }
    }
}

impl DerefMut for Slots {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Section(slots) => slots,
            #[cfg(feature = "module")]
            Self::Owned(slots) => slots,
        }
    }
}

/// The sorted records of one region, and the entries set aside.
pub(crate) struct Table {
    text: TextRange,
    layout: Option<Layout>,
    /// How the section gave its entries, before they were made absolute.
    encoding: Encoding,
    /// # Invariants
    ///
    /// `slots[..accepted]` are [`CallsiteRecord`]s in the order of their addresses, no two of which have an instruction in
    /// common; `slots[accepted..used]` are entries' addresses, sorted; behind them are those that were left out, until text
    /// is forgotten.
    slots: Slots,
    accepted: usize,
    used: usize,
}

impl Table {
    /// Rewrites a section's entries, [sorted](Slots::sort), into a table. `read` gives the instruction at an address inside
    /// `text`; entries inside `excluded` are set aside, and so are functions that `symbols` mark. What an entry means is said
    /// by the symbols, without them by the `layout`, and without that by instructions that can mean one thing only.
    pub(crate) fn build(
        text: TextRange,
        excluded: TextRange,
        mut memory: Slots,
        encoding: Encoding,
        layout: Option<Layout>,
        symbols: Option<&Symbols<'_>>,
        mut read: impl FnMut(TextAddr) -> u32,
    ) -> Result<(Self, InitCounts), TableError> {
        let slots = &mut *memory;
        let mut filling =
            Filling { text, excluded, slots, counts: InitCounts::default(), crowded: false, in_doubt: None };
        // A loop for each, so that none decides anything for each entry.
        #[expect(clippy::redundant_closure, reason = "the one of `core` for a reference to a closure is not inlined")]
        match Reading::new(symbols, layout) {
            Reading::Functions(mut symbols) => {
                filling.fill(|entry| {
                    Callsite::of_function(entry, text, |at| symbols.is_at_function(at.get()), |at| read(at))
                });
            }
            Reading::Stated(layout) => filling.fill(|entry| Callsite::decode(entry, text, layout, |at| read(at))),
            Reading::Text => filling.fill(|entry| Callsite::beyond_doubt(entry, text, |at| read(at))),
        }
        let Filling { mut counts, crowded, in_doubt, .. } = filling;
        let (accepted, used) = (counts.accepted, memory.len());
        let mut table = Self { text, layout, encoding, slots: memory, accepted, used };
        if let Some(entry) = in_doubt {
            table.dissolve();
            return Err(TableError::LayoutUnknown { entry });
        }
        if crowded {
            table.set_crowded_aside(&mut counts);
        }
        if let Some(symbols) = symbols.filter(|symbols| symbols.has_variants()) {
            let is_variant = |record: CallsiteRecord| symbols.is_variant(record.callsite(text.start).function().get());
            table.set_aside(&mut counts, |_, record, _| is_variant(record));
        }
        counts.refused = table.slots.len() - counts.accepted - counts.excluded;
        sort(&mut table.slots[counts.accepted..]);
        // INVARIANT: accepted records were moved to the front in the order of their sorted entries, which is that of their
        // addresses, or were sorted since; those that have an instruction in common are not among them any more.
        Ok((table, counts))
    }

    /// Marks the callsites whose functions are `wanted`, to be left out; returns how many those are.
    pub(crate) fn mark(&mut self, mut wanted: impl FnMut(TextAddr) -> bool) -> usize {
        let mut count = 0;
        for index in 0..self.accepted {
            let record = CallsiteRecord(self.slots[index]);
            if wanted(record.callsite(self.text.start).function()) {
                // Before init is over, none is quarantined.
                self.slots[index] = record.quarantined().0;
                count += 1;
            }
        }
        count
    }

    /// Leaves out what was [marked](Self::mark): it becomes entries again, at the end, which nobody asks for.
    pub(crate) fn leave_out_marked(&mut self, counts: &mut InitCounts) {
        let before = self.accepted;
        self.set_aside(counts, |_, record, _| record.is_quarantined());
        counts.left_out = before - self.accepted;
        self.slots[self.accepted..].rotate_left(counts.left_out);
        self.used -= counts.left_out;
    }

    /// Of records for the same instructions keeps one; of those that have one instruction in common, none.
    #[cold]
    fn set_crowded_aside(&mut self, counts: &mut InitCounts) {
        // A prefixed entry's callsite may lie behind the one of the entry that comes next.
        // By the place, then the other way round: of two for the same instructions the prefixed one comes first.
        let mask = !u64::from(u32::MAX);
        let slots = &mut self.slots[..self.accepted];
        slots.iter_mut().for_each(|slot| *slot = (*slot ^ mask).rotate_left(32));
        sort(slots);
        slots.iter_mut().for_each(|slot| *slot = slot.rotate_left(32) ^ mask);
        let distance =
            |a: Option<CallsiteRecord>, b: CallsiteRecord| a.map(|a| a.word_offset().abs_diff(b.word_offset()));
        self.set_aside(counts, |before, record, _| distance(before, record) == Some(0));
        self.set_aside(counts, |before, record, after| {
            distance(before, record) == Some(1) || distance(after, record) == Some(1)
        });
    }

    /// Makes entries again of the records that are `unwanted`, which is asked about each with those before and after it.
    fn set_aside(
        &mut self,
        counts: &mut InitCounts,
        unwanted: impl Fn(Option<CallsiteRecord>, CallsiteRecord, Option<CallsiteRecord>) -> bool,
    ) {
        let (mut kept, mut before) = (0, None);
        for index in 0..self.accepted {
            let (record, after) = (CallsiteRecord(self.slots[index]), self.get(index + 1));
            if unwanted(before, record, after) {
                let callsite = record.callsite(self.text.start);
                counts.with_landing_pad -= usize::from(callsite.form().landing_pad == LandingPad::BtiC);
                counts.with_literal -= usize::from(callsite.literal().is_some());
                self.slots[index] = self.entry(record);
            } else {
                self.slots.swap(kept, index);
                kept += 1;
            }
            before = Some(record);
        }
        (self.accepted, counts.accepted) = (kept, kept);
    }

    /// What the section's entry for this record was, as an address.
    fn entry(&self, record: CallsiteRecord) -> u64 {
        let callsite = record.callsite(self.text.start);
        match callsite.form().prefix {
            Prefix::Literal => callsite.function().offset(-8).get(),
            Prefix::None => callsite.mov_addr().get(),
        }
    }

    /// The accepted callsites' count.
    pub(crate) fn len(&self) -> usize {
        self.accepted
    }

    /// The record at `index`.
    pub(crate) fn get(&self, index: usize) -> Option<CallsiteRecord> {
        self.slots[..self.accepted].get(index).copied().map(CallsiteRecord)
    }

    /// The records of these indices.
    pub(crate) fn records(&self, span: Range<usize>) -> impl Iterator<Item = CallsiteRecord> {
        self.slots[..self.accepted].get(span).unwrap_or_default().iter().copied().map(CallsiteRecord)
    }

    /// The records with planned changes, by neighbours alike, in the order of their addresses.
    #[inline]
    pub(crate) fn runs(&self, planned: &Planned) -> Runs<'_> {
        let slots = self.slots[..self.accepted].get(planned.span.clone()).unwrap_or_default();
        Runs { region: self.text.start, slots, alike: planned.alike }
    }

    /// Plans for every callsite of these indices what `next` makes of what is planned for it. Returns where that changes
    /// something, and how many records it changes.
    ///
    /// # Errors
    ///
    /// The index for which `next` gave an error, and the error; what was planned before it stays planned.
    pub(crate) fn plan_all<E>(
        &mut self,
        span: Range<usize>,
        mut next: impl FnMut(SetId) -> Result<SetId, E>,
    ) -> Result<(Planned, usize), (usize, E)> {
        let (mut planned, mut count, mut index) = (Planned::default(), 0, span.start);
        let mut rest = self.slots[..self.accepted].get_mut(span).unwrap_or_default();
        // Most neighbours are alike.
        while let Some(first) = rest.first().copied().map(CallsiteRecord) {
            let wanted = match first.is_quarantined() {
                true => first.next(),
                false => next(first.next()).map_err(|error| (index, error))?,
            };
            let mut len = 0;
            for slot in &mut *rest {
                if CallsiteRecord(*slot).sets() != first.sets() {
                    break;
                }
                *slot = CallsiteRecord(*slot).with_next(wanted).0;
                len += 1;
            }
            if wanted != first.next() {
                planned.add(Planned { span: index..index + len, alike: true });
                count += len;
            }
            index += len;
            rest = &mut rest[len..];
        }
        Ok((planned, count))
    }

    /// Plans another change for the record at `index`; where that is.
    pub(crate) fn plan(&mut self, index: usize, next: SetId) -> Planned {
        self.update(index, |record| *record = record.with_next(next));
        Planned { span: index..index + 1, alike: true }
    }

    /// The planned changes were carried out; `count` is told how many went from which set to which.
    pub(crate) fn commit(&mut self, planned: &Planned, mut count: impl FnMut(SetId, SetId, u32)) {
        let mut slots = self.slots[..self.accepted].get_mut(planned.span.clone()).unwrap_or_default();
        while let Some(first) = slots.first().copied().map(CallsiteRecord) {
            let (run, rest) = slots.split_at_mut(run_len(slots, planned.alike));
            if first.differs() {
                count(first.now(), first.next(), run.len() as u32);
                for slot in run {
                    *slot = CallsiteRecord(*slot).with_now(first.next()).0;
                }
            }
            slots = rest;
        }
    }

    /// The planned changes were given up.
    pub(crate) fn withdraw(&mut self, planned: &Planned) {
        for slot in self.slots[..self.accepted].get_mut(planned.span.clone()).unwrap_or_default() {
            *slot = CallsiteRecord(*slot).withdrawn().0;
        }
    }

    /// The indices of the callsites inside `range`, by the address of their second instruction: O(log n).
    pub(crate) fn span(&self, range: TextRange) -> Range<usize> {
        /// The least that there is between two callsites' second instructions: a callsite.
        const APART: u64 = 8;
        let before = |records: &[u64], addr| {
            records.partition_point(|slot| CallsiteRecord(*slot).call_addr(self.text.start) < addr)
        };
        let records = &self.slots[..self.accepted];
        let start = before(records, range.start);
        // So the end of a small range is not looked for among all.
        let from_start = records.get(start..).unwrap_or_default();
        let most = usize::try_from(range.len().div_ceil(APART)).unwrap_or(usize::MAX).min(from_start.len());
        start..start + before(from_start.get(..most).unwrap_or_default(), range.end)
    }

    /// Changes the record at `index`.
    pub(crate) fn update(&mut self, index: usize, change: impl FnOnce(&mut CallsiteRecord)) {
        if let Some(slot) = self.slots[..self.accepted].get_mut(index) {
            let mut record = CallsiteRecord(*slot);
            change(&mut record);
            *slot = record.0;
        }
    }

    /// The callsite at `index`.
    pub(crate) fn callsite(&self, index: usize) -> Option<Callsite> {
        self.get(index).map(|record| record.callsite(self.text.start))
    }

    /// The index of the callsite whose function, landing pad to last instruction of the callsite, contains `addr`:
    /// O(log n).
    pub(crate) fn find(&self, addr: TextAddr) -> Option<usize> {
        let after = self.slots[..self.accepted]
            .partition_point(|slot| CallsiteRecord(*slot).callsite(self.text.start).function() <= addr);
        let index = after.checked_sub(1)?;
        let end = self.callsite(index)?.call_addr().offset(4);
        (addr < end).then_some(index)
    }

    /// The entries that are no callsites, with the reason each; those of excluded text are left out.
    pub(crate) fn refused<'t>(
        &'t self,
        excluded: TextRange,
        symbols: Option<&'t Symbols<'t>>,
        mut read: impl FnMut(TextAddr) -> u32,
    ) -> impl Iterator<Item = (TextAddr, Refusal)> {
        let mut reading = Reading::new(symbols, self.layout);
        let symbols = symbols.filter(|symbols| symbols.has_variants());
        self.slots[self.accepted..self.used].iter().filter_map(move |entry| {
            let entry = TextAddr::new(*entry);
            // The text of an entry that was set aside was never written, unless it has another entry that was not.
            if excluded.contains(entry) {
                return None;
            }
            let refusal = match reading.decode(entry, self.text, &mut read) {
                Err(refusal) => refusal,
                Ok((callsite, _)) if self.has(&callsite) => Refusal::Duplicate,
                Ok((_, State::Disabled | State::Enabled(_))) => Refusal::InUse,
                Ok((callsite, _)) if CallsiteRecord::new(self.text.start, &callsite).is_none() => Refusal::OutsideText,
                Ok((callsite, State::Compiled)) => {
                    let function = callsite.function().get();
                    let is_variant = symbols.is_some_and(|symbols| symbols.is_variant(function));
                    if is_variant { Refusal::CallingConvention } else { Refusal::Overlapping }
                }
            };
            Some((entry, refusal))
        })
    }

    /// Whether it has a record.
    fn has(&self, callsite: &Callsite) -> bool {
        let found = self.find(callsite.mov_addr()).and_then(|index| self.callsite(index));
        found.is_some_and(|found| found.mov_addr() == callsite.mov_addr())
    }

    /// The indices of the callsites of which a part is inside `range`, from the landing pad on: O(log n).
    pub(crate) fn within(&self, range: TextRange) -> Range<usize> {
        let slots = &self.slots[..self.accepted];
        let callsite = |slot: &u64| CallsiteRecord(*slot).callsite(self.text.start);
        let start = slots.partition_point(|slot| callsite(slot).call_addr().offset(4) <= range.start);
        let end = slots.partition_point(|slot| callsite(slot).function() < range.end);
        start..end.max(start)
    }

    /// Forgets what is inside `range`: its callsites, of which none has a set, and the entries for which text in it would be
    /// read. Returns how many callsites those were.
    pub(crate) fn forget(&mut self, range: TextRange) -> usize {
        let span = self.within(range);
        let (reads_from, reads_to) = Callsite::READS;
        let reads_of = |entry: u64| TextAddr::new(entry).offset(reads_from)..TextAddr::new(entry).offset(reads_to);
        let is_kept = |entry: u64| {
            let reads = reads_of(entry);
            reads.end <= range.start || range.end <= reads.start
        };
        let mut used = span.start;
        for index in span.end..self.used {
            let slot = self.slots[index];
            if index < self.accepted || is_kept(slot) {
                self.slots[used] = slot;
                used += 1;
            }
        }
        self.used = used;
        self.accepted -= span.len();
        if range.contains(self.text.end.offset(-4)) {
            self.text = TextRange::new(self.text.start, range.start.max(self.text.start));
        }
        span.len()
    }

    /// The text, without what was forgotten at its end.
    pub(crate) const fn text(&self) -> TextRange {
        self.text
    }

    /// Makes the section's entries out of the records again, as the section gave them, so that a failed init can be tried
    /// anew.
    pub(crate) fn dissolve(mut self) -> Slots {
        for index in 0..self.accepted {
            self.slots[index] = self.entry(CallsiteRecord(self.slots[index]));
        }
        if self.encoding == Encoding::Relative {
            for slot in &mut *self.slots {
                *slot = slot.wrapping_sub(core::ptr::from_ref(slot).addr() as u64);
            }
        }
        self.slots
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set_aside = self.used - self.accepted;
        write!(f, "Table {{ text: {}, accepted: {}, set aside: {set_aside} }}", self.text, self.accepted)
    }
}
