//! A ring of slots: what the stubs write into.

use crate::context::in_place::in_place;
use core::fmt;
use core::mem::{MaybeUninit, offset_of};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use thiserror::Error;

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

/// A pointer of a ring: atomic, or in tests one that is watched.
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
    pub(super) seq: N,
    pub(super) words: [N; WORDS],
}

const _: () = assert!(size_of::<FlightSlot>() == 64 && offset_of!(FlightSlot, words) == 8);

impl FlightSlot {
    /// Makes an empty slot.
    pub const fn new() -> Self {
        Self { seq: AtomicU64::new(BUSY), words: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// Makes slots in this memory, where they stay: the largest power of two of them that fits, for
    /// [`CpuArea::set_ring`](crate::CpuArea::set_ring); none where there is no room for one.
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fentry::CpuArea;
    /// use fentry::record::flight::FlightSlot;
    ///
    /// static AREA: CpuArea = CpuArea::new();
    ///
    /// let memory = vec![MaybeUninit::uninit(); 5000].leak();
    /// let slots: &'static [FlightSlot] = FlightSlot::slice_in(memory);
    /// assert_eq!(slots.len(), 64);
    /// AREA.set_ring(slots).unwrap();
    /// ```
    pub fn slice_in(memory: &mut [MaybeUninit<u8>]) -> &mut [Self] {
        let choose = |fitting: usize| fitting.checked_ilog2().map_or(0, |log| 1 << log);
        let make = |_, place: &mut MaybeUninit<Self>| {
            place.write(Self::new());
        };
        // SAFETY: 1. it writes each.
        unsafe { in_place(memory, choose, make) }
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
    pub(super) next: N,
    /// # Invariants
    ///
    /// Null, or the first of `mask` + 1 slots that are there for ever, a power of two. The mask is 0 for as long as this is
    /// null, but to the one who has claimed the ring; once this is not null, neither changes any more.
    pub(super) slots: P,
    pub(super) mask: N,
    /// 1 once somebody is giving, or has given, the slots.
    pub(super) claimed: N,
}

const _: () = assert!(
    offset_of!(FlightRing, next) == 0 && offset_of!(FlightRing, slots) == 8 && offset_of!(FlightRing, mask) == 16
);

/// Why a CPU can't have this ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RingError {
    /// It has one already.
    #[error("The CPU has a ring already")]
    AlreadySet,
    /// The number of slots is no power of two.
    #[error("The ring has {slots} slots, which is no power of two")]
    Size {
        /// The number.
        slots: usize,
    },
}

impl FlightRing {
    /// A ring without slots.
    pub(crate) const fn new() -> Self {
        let [next, mask, claimed] = [const { AtomicU64::new(0) }; 3];
        Self { next, slots: AtomicPtr::new(core::ptr::null_mut()), mask, claimed }
    }
}

impl<N: Number, P: Pointer<FlightSlot<N>>> FlightRing<N, P> {
    /// Gives the ring its slots; see [the room's page](super#giving-a-ring).
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

    pub(super) fn slots(&self) -> &'static [FlightSlot<N>] {
        let first = self.slots.load(Ordering::Acquire);
        if first.is_null() {
            return &[];
        }
        let count = self.mask.load(Ordering::Relaxed) as usize + 1;
        // SAFETY: by the invariant, the first of as many slots, which are there for ever: not null, and the mask was stored
        // before the slots were released to us. They are changed by atomic accesses only.
        unsafe { core::slice::from_raw_parts(first, count) }
    }
}

#[cfg(test)]
impl FlightRing {
    /// Writes a record as a stub does, but its number, which is the next one.
    pub(crate) fn write(&self, record: &super::FlightRecord) {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let slots = self.slots();
        let slot = &slots[index as usize % slots.len()];
        let words = [record.ip.offset(4).get(), record.parent_ip.get(), record.time];
        let words = words.into_iter().chain(record.arguments);
        slot.words.iter().zip(words).for_each(|(place, word)| place.store(word, Ordering::Relaxed));
        slot.seq.store(index + 1, Ordering::Release);
    }
}

impl fmt::Debug for FlightRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightRing").field("next", &self.next).field("slots", &self.slots().len()).finish()
    }
}
