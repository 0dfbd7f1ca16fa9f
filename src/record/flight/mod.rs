//! The flight recorder: the last calls of each CPU, written by a stub without a call of Rust, read while it goes on.
//!
//! The stub of an [`Ops::recorder`](crate::Ops::recorder) writes a [`FlightRecord`] into the ring of the CPU that it
//! runs on, over the oldest one. A [`FlightReader`] reads a ring from any CPU, at any time.
//!
//! # Writing
//! Writers of one ring are not one after the other: an interrupt comes in the middle of a record and records, too; a task
//! is moved in the middle of one and goes on, at its leisure, from another CPU. So a writer
//!
//! ```text
//!   claim     index = next++                    atomic: each index is given once
//!   take      was = slot.seq, slot.seq = BUSY   atomic: slot = index mod the ring's size; if it was BUSY, give up
//!             DMB ISHST
//!   store     ip, parent, time, arguments
//!   publish   slot.seq = index + 1              STLR
//! ```
//!
//! *Take* keeps a slot to one writer at a time. Without it a writer that was held up for a whole round of the ring would
//! write into the record of the one that came round. Who finds a slot taken gives up: waiting would be for ever, where
//! the other is what it has interrupted. It takes a whole round of the ring inside one record for that to happen.
//!
//! # Reading
//! ```text
//!   seq = slot.seq (acquire); not index + 1: not there
//!   load      ip, parent, time, arguments (acquire, each)
//!   slot.seq again; not the same: overwritten meanwhile
//! ```
//!
//! *A record is never torn.* Say that the first look found what writer W published. Every field that is loaded is W's or
//! one that came after W's: the look acquires what W's STLR releases, and whoever took the slot after W read W's sequence
//! number (or a later one) in order to take it, so its stores come after W's (Arm ARM B2.3.3: the exclusive store is ordered
//! behind its load, what follows the DMB behind that). If a field is not W's, it is of a V that took the slot after
//! W. V's BUSY is before V's fields (DMB ISHST), so who has loaded such a field (acquire) and then looks again finds BUSY
//! or something later still. No number is given twice, so that is not W's.
//!
//! `stub::tests::recorder` runs the instructions that are generated, against the reader below and the orderings that it
//! asks for, on a memory that shows old values wherever it may.
//!
//! *Everything is counted.* Of the indices below `next`, each was read, was lost, or is still to be read. Lost are those
//! that were overwritten before, given up by their writers, or passed over while a writer was at them.
//!
//! # Giving a ring
//! The stubs load the slots' address and the mask with one LDP, and there is no order between its halves. So whatever the
//! mask is while slots may be seen must fit them: it is 0, which is right for any ring, until it is what it stays. Whoever
//! gives a ring claims it first; a second one finds that and touches neither ring nor slots.
//!
//! ```text
//!   claim     was = ring.claimed, ring.claimed = 1   atomic; was 1: somebody else's
//!   prepare   every slot.seq = NEVER; ring.mask = size - 1
//!   publish   ring.slots = slots                     release; the stubs' accesses depend on the address
//! ```

#[cfg(test)]
mod giving;

use crate::address::TextAddr;
use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The most arguments that a record has.
pub const MAX_ARGUMENTS: usize = 4;

/// The words of a record behind its sequence number: X30, X9, CNTVCT_EL0, X0 to X3.
pub(crate) const WORDS: usize = 3 + MAX_ARGUMENTS;

/// A slot's sequence number while it is written.
pub(crate) const BUSY: u64 = 0;
/// The sequence number of a slot that was never written.
pub(crate) const NEVER: u64 = u64::MAX;

/// What a ring is made of: an atomic number, or in tests one that is watched.
pub(crate) trait Number {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn swap(&self, value: u64, order: Ordering) -> u64;
}

impl Number for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    #[inline]
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }
}

/// The same for a pointer.
pub(crate) trait Pointer<T> {
    fn load(&self, order: Ordering) -> *mut T;
    fn store(&self, value: *mut T, order: Ordering);
}

impl<T> Pointer<T> for AtomicPtr<T> {
    #[inline]
    fn load(&self, order: Ordering) -> *mut T {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: *mut T, order: Ordering) {
        self.store(value, order);
    }
}

/// Room for one record: 64 bytes.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct FlightSlot<N = AtomicU64> {
    seq: N,
    words: [N; WORDS],
}

const _: () = assert!(size_of::<FlightSlot>() == 64 && offset_of!(FlightSlot, words) == 8);

impl FlightSlot {
    /// An empty one.
    pub const fn new() -> Self {
        Self { seq: AtomicU64::new(BUSY), words: [const { AtomicU64::new(0) }; WORDS] }
    }
}

impl Default for FlightSlot {
    fn default() -> Self {
        Self::new()
    }
}

/// One CPU's ring. The stubs know where its fields are.
#[repr(C)]
pub(crate) struct FlightRing<N: 'static = AtomicU64, P = AtomicPtr<FlightSlot<N>>> {
    /// The next index that is given.
    next: N,
    /// # Invariants
    ///
    /// Null, or the first of `mask` + 1 slots that are there for ever, a power of two. The mask is 0 for as long as this is
    /// null, but to the one who has claimed the ring; once this is not null, neither changes any more.
    slots: P,
    mask: N,
    /// 1 once somebody is giving, or has given, the slots.
    claimed: N,
}

const _: () = assert!(
    offset_of!(FlightRing, next) == 0 && offset_of!(FlightRing, slots) == 8 && offset_of!(FlightRing, mask) == 16
);

/// Why a CPU can't have this ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// It has one already.
    AlreadySet,
    /// The number of slots is no power of two.
    Size {
        /// The number.
        slots: usize,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadySet => f.write_str("The CPU has a ring already"),
            Self::Size { slots } => write!(f, "The ring has {slots} slots, which is no power of two"),
        }
    }
}

impl core::error::Error for RingError {}

impl FlightRing {
    /// A ring without slots.
    pub(crate) const fn new() -> Self {
        let [next, mask, claimed] = [const { AtomicU64::new(0) }; 3];
        Self { next, slots: AtomicPtr::new(core::ptr::null_mut()), mask, claimed }
    }
}

impl<N: Number, P: Pointer<FlightSlot<N>>> FlightRing<N, P> {
    /// Gives the ring its slots; see [above](self#giving-a-ring).
    pub(crate) fn set(&self, slots: &'static [FlightSlot<N>]) -> Result<(), RingError> {
        if !slots.len().is_power_of_two() {
            return Err(RingError::Size { slots: slots.len() });
        }
        if self.claimed.swap(1, Ordering::Relaxed) != 0 {
            return Err(RingError::AlreadySet);
        }
        slots.iter().for_each(|slot| slot.seq.store(NEVER, Ordering::Relaxed));
        self.mask.store(slots.len() as u64 - 1, Ordering::Relaxed);
        // The stubs write here, by an address that they load as a number.
        let first = slots.as_ptr();
        first.expose_provenance();
        // INVARIANT: claimed by us alone, and the mask is these slots'.
        self.slots.store(first.cast_mut(), Ordering::Release);
        Ok(())
    }

    fn slots(&self) -> &'static [FlightSlot<N>] {
        let first = self.slots.load(Ordering::Acquire);
        if first.is_null() {
            return &[];
        }
        let count = self.mask.load(Ordering::Relaxed) as usize + 1;
        // SAFETY: the invariant, with the mask that was stored before the slots; they are changed by atomic accesses only.
        unsafe { core::slice::from_raw_parts(first, count) }
    }
}

impl fmt::Debug for FlightRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightRing").field("next", &self.next).field("slots", &self.slots().len()).finish()
    }
}

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

    /// How many calls have been recorded on this CPU since it had its ring, with those that are lost.
    pub fn produced(&self) -> u64 {
        self.ring.next.load(Ordering::Relaxed)
    }

    /// How many records this reader will never see: those overwritten before it came to them, and those passed over.
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

#[cfg(test)]
mod tests {
    use super::{BUSY, FlightReader, FlightRecord, FlightRing, FlightSlot, NEVER, RingError};
    use crate::record::CpuArea;
    use core::sync::atomic::Ordering;
    use std::boxed::Box;
    use std::vec::Vec;
    extern crate std;

    fn ring(slots: usize) -> (&'static FlightRing, &'static [FlightSlot]) {
        let slots: &'static [FlightSlot] = Box::leak((0..slots).map(|_| FlightSlot::new()).collect());
        let ring = Box::leak(Box::new(FlightRing::new()));
        ring.set(slots).unwrap();
        (ring, slots)
    }

    /// What a writer does, from one end to the other.
    fn write(ring: &FlightRing, slots: &[FlightSlot]) {
        let index = ring.next.fetch_add(1, Ordering::Relaxed);
        publish(&slots[index as usize % slots.len()], index);
    }

    fn publish(slot: &FlightSlot, index: u64) {
        slot.words.iter().zip(10..).for_each(|(word, value)| word.store(index * 100 + value, Ordering::Relaxed));
        slot.seq.store(index + 1, Ordering::Release);
    }

    fn indices(recording: &mut FlightReader<'_>) -> Vec<u64> {
        recording.map(|record| record.index).collect()
    }

    #[test]
    fn a_reader_sees_each_record_once_and_goes_on_where_it_stopped() {
        let (ring, slots) = ring(4);
        let mut recording = FlightReader::of(ring);
        assert_eq!(recording.next(), None);
        (0..3).for_each(|_| write(ring, slots));
        let first = recording.next().unwrap();
        assert_eq!((first.ip.get(), first.parent_ip.get(), first.time), (6, 11, 12));
        assert_eq!(first, FlightRecord { arguments: [13, 14, 15, 16], ..first });
        assert_eq!(indices(&mut recording), [1, 2]);
        assert_eq!(std::format!("{ring:?}"), "FlightRing { next: 3, slots: 4 }");
        assert_eq!(std::format!("{:?}", CpuArea::new()), "CpuArea { ring: FlightRing { next: 0, slots: 0 }, .. }");
        write(ring, slots);
        assert_eq!(indices(&mut recording), [3]);
        assert_eq!((recording.produced(), recording.lost()), (4, 0));
    }

    #[test]
    fn what_was_overwritten_is_counted_as_lost() {
        let (ring, slots) = ring(4);
        (0..11).for_each(|_| write(ring, slots));
        let mut recording = FlightReader::of(ring);
        assert_eq!(indices(&mut recording), [7, 8, 9, 10]);
        assert_eq!((recording.produced(), recording.lost()), (11, 7));
        (0..5).for_each(|_| write(ring, slots));
        assert_eq!(indices(&mut recording), [12, 13, 14, 15]);
        assert_eq!((recording.produced(), recording.lost()), (16, 8));
    }

    #[test]
    fn an_unfinished_record_holds_the_reader_up_until_it_is_passed_over() {
        let (ring, slots) = ring(4);
        write(ring, slots);
        let claimed = ring.next.fetch_add(1, Ordering::Relaxed);
        write(ring, slots);
        let mut recording = FlightReader::of(ring);
        assert_eq!(indices(&mut recording), [0]);
        let mut patient = recording.clone();
        slots[1].seq.store(BUSY, Ordering::Relaxed);
        assert_eq!(indices(&mut recording), []);
        assert!(recording.skip_unfinished());
        assert_eq!(indices(&mut recording), [2]);
        assert!(!recording.skip_unfinished(), "there is nothing more");
        assert_eq!((recording.produced(), recording.lost()), (3, 1));
        publish(&slots[1], claimed);
        assert!(!patient.skip_unfinished(), "it is finished");
        assert_eq!(indices(&mut patient), [1, 2]);
    }

    #[test]
    fn only_a_power_of_two_is_a_ring_and_only_once() {
        static SLOTS: [FlightSlot; 4] = [const { FlightSlot::new() }; 4];
        let ring = FlightRing::new();
        for slots in [0, 3] {
            assert_eq!(ring.set(&SLOTS[..slots]), Err(RingError::Size { slots }));
        }
        let mut recording = FlightReader::of(&ring);
        assert_eq!((recording.next(), recording.skip_unfinished()), (None, false));
        assert_eq!(ring.set(&SLOTS), Ok(()));
        assert!(SLOTS.iter().all(|slot| slot.seq.load(Ordering::Relaxed) == NEVER));
        assert_eq!(ring.set(&SLOTS), Err(RingError::AlreadySet));
    }
}
