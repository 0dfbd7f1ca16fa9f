//! Where in a table changes are planned, so that a pass over the plan need not read every record.

use super::record::{CallsiteRecord, SetId};
use crate::address::TextAddr;
use core::ops::Range;

/// Where records with planned changes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    /// All of them are between these indices.
    pub(crate) span: Range<usize>,
    /// # Invariants
    ///
    /// Only where all records of the span go from the same set to the same one, so that no pass needs to look at that
    /// of each.
    pub(super) alike: bool,
}

impl Planned {
    /// There is none.
    pub(crate) const NONE: Self = Self { span: 0..0, alike: false };

    /// Whatever is planned between these indices.
    pub(crate) const fn within(span: Range<usize>) -> Self {
        Self { span, alike: false }
    }

    /// Adds others.
    pub(crate) fn add(&mut self, other: Self) {
        if self.span.is_empty() {
            *self = other;
        } else if !other.span.is_empty() {
            let span = self.span.start.min(other.span.start)..self.span.end.max(other.span.end);
            *self = Self { span, alike: false };
        }
    }
}

/// How many of the first records go from the same set to the same one: all, if they are known to be alike.
#[inline]
pub(super) fn run_len(slots: &[u64], alike: bool) -> usize {
    let sets = |slot: &u64| CallsiteRecord(*slot).sets();
    match slots.first().map(sets) {
        Some(first) if !alike => slots.iter().position(|slot| sets(slot) != first).unwrap_or(slots.len()),
        _ => slots.len(),
    }
}

/// See [`Table::runs`].
pub(crate) struct Runs<'a> {
    pub(super) region: TextAddr,
    pub(super) slots: &'a [u64],
    pub(super) alike: bool,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    #[inline]
    fn next(&mut self) -> Option<Run<'a>> {
        loop {
            let first = CallsiteRecord(*self.slots.first()?);
            let slots;
            (slots, self.slots) = self.slots.split_at(run_len(self.slots, self.alike));
            if first.differs() {
                return Some(Run { now: first.now(), next: first.next(), region: self.region, slots });
            }
        }
    }
}

/// Neighbouring records that go from one set to another, the same ones.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The set that they have.
    pub(crate) now: SetId,
    /// The set that they get.
    pub(crate) next: SetId,
    region: TextAddr,
    slots: &'a [u64],
}

impl Run<'_> {
    /// The addresses of the second instructions.
    #[inline]
    pub(crate) fn call_addrs(&self) -> impl Iterator<Item = TextAddr> {
        let first = self.region.offset(4);
        self.slots.iter().map(move |slot| first.offset(i64::from(CallsiteRecord(*slot).word_offset()) * 4))
    }

    /// Splits the run into pieces of so many records.
    #[inline]
    pub(crate) fn pieces(self, records: usize) -> impl Iterator<Item = Self> {
        self.slots.chunks(records).map(move |slots| Self { slots, ..self })
    }
}
