//! Other CPUs: what `loom` finds when it tries every order of the accesses and every value that a load may give.
//!
//! A preempted writer that goes on on another CPU is a second writer beside the one that came after it. Interrupts are calls
//! in the middle of a thread, one run of `loom` for each access that they can come before.
//!
//! `loom` carries out a thread's accesses in the order of the program: no load gives what is stored only later, although a
//! CPU may put a load off behind a store of its own (load buffering: a reader lets a block go, and only then gets from memory
//! what it read there). It knows which accesses happen before which, though, and puts those of an [`UnsafeCell`] to the
//! test. So what records are made of are such cells here. Where each of two accesses to a word, of which one is a store,
//! happens before the other, no CPU may do them the other way round, whatever it puts off. That takes each ordering of the
//! ring but those of the head.

use super::{Journal, Made, WORDS, ring};
use crate::tracer::ring::{Mode, Ring, Word};
use core::cell::Cell;
use core::sync::atomic::Ordering;
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use std::boxed::Box;

type Small = Ring<Modelled, WORDS>;

loom::thread_local! {
    /// In how many accesses of this thread the interrupt comes, and what it does.
    static INTERRUPT: Cell<Option<(usize, &'static Small, &'static Journal)>> = Cell::new(None);
}

enum Modelled {
    /// The model keeps all values that a load may still give.
    Shared(AtomicU64),
    /// The model demands that accesses are ordered.
    Ordered(UnsafeCell<u64>),
}

// SAFETY: `loom` runs one thread at a time, and panics before it lets two accesses to the cell race.
unsafe impl Sync for Modelled {}

impl Default for Modelled {
    fn default() -> Self {
        Self::Shared(AtomicU64::default())
    }
}

impl Made for Modelled {
    fn of_record() -> Self {
        Self::Ordered(UnsafeCell::new(0))
    }
}

impl Modelled {
    /// Lets the interrupt come, if it is due.
    fn interruptible(&self) -> &Self {
        let now = INTERRUPT.with(|interrupt| {
            let (accesses, ring, journal) = interrupt.take()?;
            if accesses == 0 {
                return Some((ring, journal));
            }
            interrupt.set(Some((accesses - 1, ring, journal)));
            None
        });
        if let Some((ring, journal)) = now {
            (0..2).for_each(|_| {
                journal.write(ring, 1);
            });
        }
        self
    }

    fn shared(&self) -> &AtomicU64 {
        match self.interruptible() {
            Self::Shared(word) => word,
            Self::Ordered(_) => panic!("what records are made of is only loaded and stored"),
        }
    }
}

impl Word for Modelled {
    fn load(&self, order: Ordering) -> u64 {
        match self.interruptible() {
            Self::Shared(word) => word.load(order),
            // SAFETY: no store races with it: see `Sync`.
            Self::Ordered(word) => word.with(|value| unsafe { value.read() }),
        }
    }
    fn store(&self, value: u64) {
        match self.interruptible() {
            Self::Shared(word) => word.store(value, Ordering::Relaxed),
            // SAFETY: no access races with it: see `Sync`.
            Self::Ordered(word) => word.with_mut(|place| unsafe { place.write(value) }),
        }
    }
    fn replace(&self, old: u64, new: u64, order: Ordering) -> bool {
        self.shared().compare_exchange(old, new, order, Ordering::Relaxed).is_ok()
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.shared().fetch_add(value, order)
    }
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.shared().fetch_or(bits, order)
    }
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.shared().fetch_and(bits, order)
    }
}

/// Writes `before` records, then runs both threads in every order with at most so many preemptions, then settles.
fn explore(
    (blocks, mode): (usize, Mode),
    before: usize,
    preemptions: usize,
    threads: [fn(&'static Small, &'static Journal); 2],
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let (ring, journal) = (ring(blocks, mode), &*Box::leak(Box::new(Journal::default())));
        (0..before).for_each(|_| {
            journal.write(ring, 1);
        });
        let [first, second] = threads;
        let other = thread::spawn(move || second(ring, journal));
        first(ring, journal);
        other.join().unwrap();
        journal.settle(ring);
    });
}

fn write_two(ring: &'static Small, journal: &'static Journal) {
    (0..2).for_each(|_| {
        journal.write(ring, 1);
    });
}

fn write_three(ring: &'static Small, journal: &'static Journal) {
    write_two(ring, journal);
    journal.write(ring, 1);
}

fn consume(ring: &'static Small, journal: &'static Journal) {
    journal.consume(ring);
}

fn look(ring: &'static Small, journal: &'static Journal) {
    journal.look(ring);
}

const MODES: [Mode; 2] = [Mode::Overwrite, Mode::Stop];

#[test]
fn two_cpus_write_to_one_ring() {
    for mode in MODES {
        explore((2, mode), 0, 2, [write_two, write_two]);
        explore((2, mode), 3, 2, [write_two, write_two]);
    }
}

#[test]
fn a_reader_consumes_while_the_ring_wraps() {
    for mode in MODES {
        explore((2, mode), 3, 2, [write_two, consume]);
        explore((4, mode), 7, 1, [write_three, consume]);
    }
}

#[test]
fn a_reader_looks_while_the_ring_wraps() {
    for mode in MODES {
        explore((2, mode), 3, 2, [write_two, look]);
    }
}

#[test]
fn two_readers_take_each_record_once() {
    explore((2, Mode::Overwrite), 3, 2, [consume, consume]);
}

/// More accesses than a record takes.
const ACCESSES: usize = 14;

#[test]
fn a_reader_consumes_while_a_writer_is_interrupted_by_another() {
    for mode in MODES {
        for access in 0..ACCESSES {
            let mut model = loom::model::Builder::new();
            model.preemption_bound = Some(1);
            model.check(move || {
                let (ring, journal) = (ring(2, mode), &*Box::leak(Box::new(Journal::default())));
                write_three(ring, journal);
                let reader = thread::spawn(move || consume(ring, journal));
                INTERRUPT.with(|interrupt| interrupt.set(Some((access, ring, journal))));
                journal.write(ring, 1);
                INTERRUPT.with(Cell::take);
                reader.join().unwrap();
                journal.settle(ring);
            });
        }
    }
}
