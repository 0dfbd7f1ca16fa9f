//! Counts of users: step by step, by threads, and in every order of a few threads' accesses (`loom`).

use crate::trampoline::users::{Count, Current, Word};
use core::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;
extern crate std;

#[test]
fn a_place_is_left_by_all_who_came_to_it_before_its_count_is_zero() {
    let current = Current::new();
    let counts = [Count::new(), Count::new()];
    assert_eq!(current.enter(), None);
    counts.iter().for_each(Count::hold);
    assert!(current.replace(Some(0)).is_none());
    assert_eq!((current.enter(), current.enter(), current.enter()), (Some(0), Some(0), Some(0)));
    // One goes before the place is replaced, and one gets company.
    current.leave(0, &counts[0]);
    counts[0].add();
    let (place, came) = current.replace(Some(1)).unwrap();
    assert_eq!(place, 0);
    // One goes before it is counted how many there were.
    current.leave(0, &counts[0]);
    assert_ne!(counts[0].left(), 0);
    counts[0].retire(&came);
    assert_eq!(counts[0].left(), 2);
    assert_eq!(current.enter(), Some(1));
    current.leave(0, &counts[0]);
    current.leave(0, &counts[0]);
    assert_eq!(counts[0].left(), 0);
    let (place, came) = current.replace(None).unwrap();
    counts[1].retire(&came);
    assert_eq!((place, counts[1].left(), current.enter()), (1, 1, None));
    current.leave(1, &counts[1]);
    assert_eq!(counts[1].left(), 0);
}

#[test]
fn no_place_is_written_while_somebody_reads_it() {
    const PLACES: usize = 3;
    let current = Current::new();
    let counts = [const { Count::new() }; PLACES];
    let contents = [const { AtomicU64::new(0) }; PLACES];
    let rounds = if cfg!(miri) { 100 } else { 5_000 };
    // Free places hold 0.
    let put = |place: usize, value: u64| {
        contents[place].store(value, Ordering::Relaxed);
        counts[place].hold();
        current.replace(Some(place)).inspect(|(old, came)| counts[*old].retire(came))
    };
    assert!(put(0, 1).is_none());
    std::thread::scope(|scope| {
        let users: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    for round in 0..rounds {
                        let place = current.enter().unwrap();
                        let value = contents[place].load(Ordering::Relaxed);
                        assert!(value >= last && value > 0, "{value} after {last}");
                        if round % 3 == 0 {
                            std::thread::yield_now();
                        }
                        assert_eq!(contents[place].load(Ordering::Relaxed), value);
                        last = value;
                        current.leave(place, &counts[place]);
                    }
                })
            })
            .collect();
        let mut value = 1;
        let mut used = [true, false, false];
        while !users.iter().all(|user| user.is_finished()) {
            if let Some(free) = used.iter().position(|used| !used) {
                value += 1;
                used[free] = true;
                put(free, value);
            }
            let now = current.enter().unwrap();
            current.leave(now, &counts[now]);
            for place in (0..PLACES).filter(|place| *place != now) {
                if used[place] && counts[place].left() == 0 {
                    contents[place].store(0, Ordering::Relaxed);
                    used[place] = false;
                }
            }
        }
        assert!(value > 2);
    });
}

impl Word for loom::sync::atomic::AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_add(value, order)
    }
    fn exchange(&self, from: u64, to: u64, order: Ordering) -> Result<u64, u64> {
        self.compare_exchange(from, to, order, Ordering::Relaxed)
    }
}

/// Two places, and what is in them: `loom` panics where it is read and written at once.
struct Places {
    current: Current<loom::sync::atomic::AtomicU64>,
    counts: [Count<loom::sync::atomic::AtomicU64>; 2],
    contents: [loom::cell::UnsafeCell<u64>; 2],
}

// SAFETY: `loom` runs one thread at a time, and panics before it lets two accesses to a cell race.
unsafe impl Sync for Places {}
// SAFETY: as above.
unsafe impl Send for Places {}

impl Places {
    fn put(&self, place: usize, value: u64) -> Option<usize> {
        // SAFETY: of the places, nobody uses this one: else `loom` panics.
        self.contents[place].with_mut(|content| unsafe { *content = value });
        self.counts[place].hold();
        let (old, came) = self.current.replace(Some(place))?;
        self.counts[old].retire(&came);
        Some(old)
    }

    fn use_twice(&self) {
        let place = self.current.enter().unwrap();
        // SAFETY: whoever has come to a place may read it: else `loom` panics.
        let read = || self.contents[place].with(|content| unsafe { *content });
        let first = read();
        assert!(first > 0);
        self.counts[place].add();
        self.current.leave(place, &self.counts[place]);
        assert_eq!(read(), first);
        self.current.leave(place, &self.counts[place]);
    }

    /// Frees a place, if nobody uses it.
    fn free(&self, place: usize) -> bool {
        let is_free = self.counts[place].left() == 0;
        if is_free {
            // SAFETY: nobody uses it: else `loom` panics.
            self.contents[place].with_mut(|content| unsafe { *content = 0 });
        }
        is_free
    }
}

#[test]
#[cfg_attr(miri, ignore = "loom is no code of ours")]
fn no_place_is_freed_under_a_user_in_any_order_of_accesses() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let word = || loom::sync::atomic::AtomicU64::new(0);
        let (current, counts) = (Current::of(word()), [Count::of(word()), Count::of(word())]);
        let contents = [loom::cell::UnsafeCell::new(0), loom::cell::UnsafeCell::new(0)];
        let places = std::sync::Arc::new(Places { current, counts, contents });
        assert_eq!(places.put(0, 1), None);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let places = places.clone();
                loom::thread::spawn(move || places.use_twice())
            })
            .collect();
        assert_eq!(places.put(1, 2), Some(0));
        // And once more, where it was.
        let was_freed = places.free(0) && places.put(0, 3) == Some(1);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(places.free(usize::from(was_freed)));
    });
}
