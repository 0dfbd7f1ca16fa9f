//! Reading a ring while it is written: what a record is, and when it is whole.

use super::ring::{FlightRing, FlightSlot, MAX_ARGUMENTS, WORDS};
use crate::address::TextAddr;
use core::sync::atomic::Ordering;

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightRecord {
    /// Its number on its CPU, from 0.
    pub index: u64,
    /// The callsite's second instruction: what a callback is given as `ip`.
    pub ip: TextAddr,
    /// Where the function returns to.
    pub parent_ip: TextAddr,
    /// CNTVCT_EL0: the counter that all CPUs share, in ticks of CNTFRQ_EL0.
    pub time: u64,
    /// The first arguments, as many as the ops asked for; the others are 0.
    pub arguments: [u64; MAX_ARGUMENTS],
}

/// A reader of one CPU's ring; an iterator that ends where there is nothing more to read for now, and can go on later.
///
/// It begins with the oldest record that is still there. Each reader reads everything: they don't take from each other.
#[derive(Clone, Debug)]
pub struct FlightReader<'a> {
    ring: &'a FlightRing,
    /// The index that is read next.
    at: u64,
    lost: u64,
}

impl<'a> FlightReader<'a> {
    pub(crate) const fn of(ring: &'a FlightRing) -> Self {
        Self { ring, at: 0, lost: 0 }
    }

    /// Returns how many calls have been recorded on this CPU since it had its ring, with those that are lost.
    pub fn produced(&self) -> u64 {
        self.ring.next.load(Ordering::Relaxed)
    }

    /// Returns how many records this reader will never see: those overwritten before it came to them, and those passed over.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Passes over the record at which [`next`](Iterator::next) stopped because it is not finished, and counts it as lost;
    /// whether there was one.
    ///
    /// A writer that is interrupted in the middle holds the reader up. When the ops has been unregistered no writer is left,
    /// and what is not finished then was given up.
    pub fn skip_unfinished(&mut self) -> bool {
        let there = self.at < self.ring.next.load(Ordering::Acquire) && self.peek().is_none();
        if there {
            self.pass(1);
        }
        there
    }

    /// Begins with the record of this number, if it is still there.
    pub(crate) const fn starting_at(self, at: u64) -> Self {
        Self { at, ..self }
    }

    /// The number of the record that is read next.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// How many of the records that are to come are still there.
    pub(crate) fn kept(&self) -> u64 {
        self.produced().saturating_sub(self.at).min(self.ring.slots().len() as u64)
    }

    fn pass(&mut self, records: u64) {
        self.at += records;
        self.lost += records;
    }

    fn peek(&self) -> Option<FlightRecord> {
        let slots = self.ring.slots();
        let slot = slots.get(self.at as usize & slots.len().checked_sub(1)?)?;
        read(slot, self.at)
    }
}

impl Iterator for FlightReader<'_> {
    type Item = FlightRecord;

    fn next(&mut self) -> Option<FlightRecord> {
        let size = self.ring.slots().len() as u64;
        loop {
            let produced = self.ring.next.load(Ordering::Acquire);
            // The oldest may go while we are at it; then once more, with more of them gone.
            if let Some(gone @ 1..) = produced.checked_sub(self.at + size) {
                self.pass(gone);
            }
            if self.at >= produced {
                return None;
            }
            if let Some(record) = self.peek() {
                self.at += 1;
                return Some(record);
            }
            if self.ring.next.load(Ordering::Acquire) <= self.at + size {
                return None;
            }
        }
    }
}

/// A slot as a reader sees it.
pub(crate) trait Shared {
    /// Loads a word: 0 is the sequence number, the others are the record's.
    fn load(&self, word: usize, order: Ordering) -> u64;
}

impl Shared for FlightSlot {
    #[inline]
    fn load(&self, word: usize, order: Ordering) -> u64 {
        match word.checked_sub(1) {
            None => self.seq.load(order),
            Some(word) => self.words.get(word).map_or(0, |word| word.load(order)),
        }
    }
}

/// The record of this index, if the slot has it, whole.
pub(crate) fn read(slot: &impl Shared, index: u64) -> Option<FlightRecord> {
    let seq = slot.load(0, Ordering::Acquire);
    if seq != index.wrapping_add(1) {
        return None;
    }
    // Each of them before the second look: an ordering of the loads themselves, so that there is no fence to forget.
    let word = |number| slot.load(1 + number, Ordering::Acquire);
    let [behind, parent, time, arguments @ ..] = core::array::from_fn::<_, WORDS, _>(word);
    let record =
        FlightRecord { index, ip: TextAddr::new(behind).offset(-4), parent_ip: TextAddr::new(parent), time, arguments };
    (slot.load(0, Ordering::Relaxed) == seq).then_some(record)
}
