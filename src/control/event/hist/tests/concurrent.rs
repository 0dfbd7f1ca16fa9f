//! Other CPUs, and interrupts: what `loom` finds when it tries every order of the accesses.

use super::{Element, KEY_WORDS, MAX_SUMS, Map, key, of, total};
use crate::tracer::ring::Word;
use core::cell::Cell;
use core::sync::atomic::Ordering;
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use std::boxed::Box;

type Small = Map<'static, Modelled>;

loom::thread_local! {
    /// In how many accesses of this thread an interrupt comes, and what it counts.
    static INTERRUPT: Cell<Option<(usize, &'static Small, u64)>> = Cell::new(None);
}

enum Modelled {
    Shared(AtomicU64),
    /// A key's word: its accesses must be ordered.
    Key(UnsafeCell<u64>),
}

// SAFETY: `loom` runs one thread at a time, and panics before it lets two accesses to the cell race.
unsafe impl Sync for Modelled {}

impl Modelled {
    fn shared(&self) -> &AtomicU64 {
        match self.interruptible() {
            Self::Shared(word) => word,
            Self::Key(_) => panic!("a key's word is only loaded and stored"),
        }
    }

    /// Lets the interrupt come, if it is due.
    fn interruptible(&self) -> &Self {
        let now = INTERRUPT.with(|interrupt| {
            let (accesses, map, number) = interrupt.take()?;
            if accesses == 0 {
                return Some((map, number));
            }
            interrupt.set(Some((accesses - 1, map, number)));
            None
        });
        if let Some((map, number)) = now {
            map.add(&key(number), [1; MAX_SUMS]);
        }
        self
    }
}

impl Word for Modelled {
    fn load(&self, order: Ordering) -> u64 {
        match self.interruptible() {
            Self::Shared(word) => word.load(order),
            // SAFETY: `loom` panics where something else is written meanwhile.
            Self::Key(word) => word.with(|word| unsafe { *word }),
        }
    }
    fn store(&self, value: u64) {
        match self.interruptible() {
            Self::Shared(word) => word.store(value, Ordering::Relaxed),
            // SAFETY: `loom` panics where something else is accessed meanwhile.
            Self::Key(word) => word.with_mut(|word| unsafe { *word = value }),
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

/// A map for two keys.
fn map() -> &'static Small {
    let shared = || Modelled::Shared(AtomicU64::new(0));
    let element = || Element {
        key: [(); KEY_WORDS].map(|()| Modelled::Key(UnsafeCell::new(0))),
        hits: shared(),
        sums: [(); MAX_SUMS].map(|()| shared()),
    };
    let (cells, elements) = ([(); 4].map(|()| shared()), [(); 2].map(|()| element()));
    let (cells, elements) = (Box::leak(Box::new(cells)), Box::leak(Box::new(elements)));
    Box::leak(Box::new(Map { cells, elements, taken: shared(), dropped: shared() }))
}

/// Two CPUs that count these keys; what is right at the end.
fn explore(first: &'static [u64], second: &'static [u64], check: fn(&Small)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let map = map();
        let other = thread::spawn(move || second.iter().for_each(|number| map.add(&key(*number), [1; MAX_SUMS])));
        first.iter().for_each(|number| map.add(&key(*number), [1; MAX_SUMS]));
        other.join().unwrap();
        assert_eq!(total(map), (first.len() + second.len()) as u64);
        check(map);
    });
}

#[test]
fn two_cpus_count_one_key() {
    explore(&[1], &[1], |map| assert_eq!(of(map, 1), Some((2, 2))));
}

#[test]
fn two_cpus_count_keys_that_fill_the_map() {
    explore(&[1, 2], &[3], |map| {
        assert!((1..=2).contains(&map.entries().count()));
        assert!(map.dropped() >= 1, "there are three keys, and room for two");
    });
}

#[test]
fn an_interrupt_counts_the_key_that_it_has_interrupted_the_count_of() {
    // An access is each word: the cell, how many are taken, the key, the cell again, the hits and the sums.
    for accesses in 0..KEY_WORDS + 8 {
        loom::model(move || {
            let map = map();
            INTERRUPT.with(|interrupt| interrupt.set(Some((accesses, map, 1))));
            map.add(&key(1), [1; MAX_SUMS]);
            let came = INTERRUPT.with(|interrupt| interrupt.take()).is_none();
            let hits = 1 + u64::from(came);
            assert_eq!(of(map, 1), Some((hits, hits)), "{accesses}");
            assert_eq!((total(map), map.dropped()), (hits, 0), "{accesses}");
        });
    }
}
