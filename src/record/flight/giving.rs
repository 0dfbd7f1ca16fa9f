//! Giving a ring: what stubs and readers find while two callers give one, in every order (`loom`).
//!
//! Tests only. A stub's LDP is two loads without an order between them, and what it does with the slots depends on their
//! address: `loom` knows no dependencies, so each of the two has a stub of its own here.

extern crate std;

use super::ring::{BUSY, FlightRing, FlightSlot, NEVER, Number, Pointer, RingError, WORDS};
use core::sync::atomic::Ordering;
use loom::sync::atomic::{AtomicPtr, AtomicU64};
use loom::thread;
use std::boxed::Box;

type Modelled = FlightRing<AtomicU64, AtomicPtr<FlightSlot<AtomicU64>>>;
type Slots = &'static [FlightSlot<AtomicU64>];

impl Number for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }
}

impl<T> Pointer<T> for AtomicPtr<T> {
    fn load(&self, order: Ordering) -> *mut T {
        self.load(order)
    }
    fn store(&self, value: *mut T, order: Ordering) {
        self.store(value, order);
    }
}

fn ring() -> &'static Modelled {
    let [next, mask, claimed] = core::array::from_fn(|_| AtomicU64::new(0));
    Box::leak(Box::new(FlightRing { next, slots: AtomicPtr::new(core::ptr::null_mut()), mask, claimed }))
}

fn slots(count: usize) -> Slots {
    let slot =
        || FlightSlot { seq: AtomicU64::new(BUSY), words: core::array::from_fn::<_, WORDS, _>(|_| AtomicU64::new(0)) };
    Box::leak((0..count).map(|_| slot()).collect())
}

/// How a stub loads the slots' address and the mask.
#[derive(Clone, Copy, Debug)]
enum Halves {
    SlotsFirst,
    MaskFirst,
}

impl Halves {
    fn load(self, ring: &Modelled) -> (*const FlightSlot<AtomicU64>, u64) {
        let slots = || ring.slots.load(Ordering::Relaxed).cast_const();
        let mask = || ring.mask.load(Ordering::Relaxed);
        match self {
            Self::SlotsFirst => {
                let slots = slots();
                (slots, mask())
            }
            Self::MaskFirst => {
                let mask = mask();
                (slots(), mask)
            }
        }
    }
}

/// Two callers give these; `look` runs beside them, and once more behind them.
fn explore(counts: [usize; 2], look: impl Fn(&'static Modelled, [Slots; 2]) + Copy + Send + Sync + 'static) {
    loom::model(move || {
        let (ring, given) = (ring(), counts.map(slots));
        let other = thread::spawn(move || ring.set(given[1]));
        let looking = thread::spawn(move || look(ring, given));
        let first = ring.set(given[0]);
        looking.join().unwrap();
        let second = other.join().unwrap();
        let winner = match (first, second) {
            (Ok(()), Err(RingError::AlreadySet)) => 0,
            (Err(RingError::AlreadySet), Ok(())) => 1,
            both => panic!("{both:?}"),
        };
        look(ring, given);
        assert!(core::ptr::eq(ring.slots(), given[winner]), "the winner's, whole");
        let untouched = given[1 - winner].iter().all(|slot| slot.seq.load(Ordering::Relaxed) == BUSY);
        assert!(untouched, "the loser's slots may be another ring's");
    });
}

#[test]
fn a_stub_never_goes_beyond_the_slots_that_it_finds() {
    for halves in [Halves::SlotsFirst, Halves::MaskFirst] {
        for counts in [[1, 2], [4, 2]] {
            explore(counts, move |ring, given| {
                let (first, mask) = halves.load(ring);
                let is_whole = |slots: &Slots| slots.as_ptr() == first && mask < slots.len() as u64;
                assert!(first.is_null() || given.iter().any(is_whole), "{halves:?}: {mask}");
            });
        }
    }
}

#[test]
fn a_stub_finds_no_slot_as_it_was_before() {
    explore([1, 2], |ring, given| {
        // What depends on an address comes behind its load.
        let first = ring.slots.load(Ordering::Acquire).cast_const();
        if let Some(slots) = given.iter().find(|slots| slots.as_ptr() == first) {
            assert!(slots.iter().all(|slot| slot.seq.load(Ordering::Relaxed) == NEVER));
        }
    });
}

#[test]
fn a_reader_finds_all_slots_of_one_caller_or_none() {
    explore([1, 2], |ring, given| {
        let found = ring.slots();
        assert!(found.is_empty() || given.iter().any(|slots| core::ptr::eq(*slots, found)));
        assert!(found.iter().all(|slot| slot.seq.load(Ordering::Relaxed) == NEVER));
    });
}
