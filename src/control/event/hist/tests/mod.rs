//! Maps: what is counted when many add, in whatever order.

extern crate std;

mod concurrent;

use super::map::{Counted, Element, HistMemory, KEY_WORDS, Map};
use crate::control::event::limits::MAX_SUMS;
use crate::tracer::ring::Word;
use std::boxed::Box;
use std::thread;
use std::vec::Vec;

/// A key of this number; those of 1 and 2 have one hash, as far as a map of two keys looks.
fn key(number: u64) -> [u64; KEY_WORDS] {
    let mut key = [0; KEY_WORDS];
    (key[0], key[KEY_WORDS - 1]) = (number, number << 60);
    key
}

/// The hits and the first sum of a key.
fn of<W: Word>(map: &Map<'_, W>, number: u64) -> Option<(u64, u64)> {
    let mut found = map.entries().filter(|entry| entry.key == key(number));
    let entry = found.next().map(|entry| (entry.hits, entry.sums[0]));
    assert!(found.next().is_none(), "a key is shown once");
    entry
}

/// All hits, and what found no room.
fn total<W: Word>(map: &Map<'_, W>) -> u64 {
    map.entries().map(|entry| entry.hits).sum::<u64>() + map.dropped()
}

#[test]
fn hits_and_sums_are_counted_by_key_and_what_finds_no_room_is_counted_too() {
    static MEMORY: HistMemory<4> = HistMemory::new();
    let map = MEMORY.map();
    assert_eq!((map.entries().count(), map.dropped(), map.len()), (0, 0, 4));
    for round in 0..3 {
        for number in 1..=4 {
            map.add(&key(number), [number * 10, 0, 1]);
        }
        map.add(&key(1), [5, 0, 1]);
        assert_eq!(of(&map, 1), Some((2 * (round + 1), 15 * (round + 1))));
        assert_eq!(of(&map, 4), Some((round + 1, 40 * (round + 1))));
        assert_eq!(of(&map, 5), None);
    }
    for number in 5..100 {
        map.add(&key(number), [1; MAX_SUMS]);
    }
    assert_eq!((map.entries().count(), map.dropped(), total(&map)), (4, 95, 15 + 95));
    map.add(&key(3), [0; MAX_SUMS]);
    assert_eq!(of(&map, 3), Some((4, 90)));
    map.clear();
    assert_eq!((map.entries().count(), map.dropped()), (0, 0));
    map.add(&key(99), [7, 8, 9]);
    let expected = Counted { key: key(99), hits: 1, sums: [7, 8, 9] };
    assert_eq!(map.entries().collect::<Vec<_>>(), [expected]);
}

#[test]
fn many_cpus_count_exactly() {
    static MEMORY: HistMemory<64> = HistMemory::new();
    let map: &'static Map<'static> = Box::leak(Box::new(MEMORY.map()));
    let (threads, rounds) = (4, if cfg!(miri) { 20 } else { 20_000 });
    let all: Vec<_> = (0..threads)
        .map(|number| {
            thread::spawn(move || {
                for round in 0..rounds {
                    // Half of all are keys that everybody has, half are one thread's, more than there is room for.
                    map.add(&key(round % 8), [1, 0, 0]);
                    map.add(&key(1000 + (number * rounds + round) % 100), [1, 0, 0]);
                }
            })
        })
        .collect();
    all.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(total(map), threads * rounds * 2);
    let sums: u64 = map.entries().map(|entry| entry.sums[0]).sum();
    assert_eq!(sums + map.dropped(), threads * rounds * 2);
    if !cfg!(miri) {
        assert!(map.dropped() > 0, "there was room for all");
    }
    for number in 0..8 {
        assert_eq!(
            of(map, number).map(|(hits, _)| hits),
            Some(threads * rounds / 8 + threads * u64::from(number < rounds % 8))
        );
    }
}
