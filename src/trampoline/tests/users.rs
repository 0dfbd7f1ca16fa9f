//! Counts of users, by every interleaving of a few threads' steps, and by threads.

use crate::trampoline::users::{Count, Current};
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
    let rounds = if cfg!(miri) { 100 } else { 200_000 };
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
