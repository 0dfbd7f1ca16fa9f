//! What a ring promises, checked in every order of events that a small ring can meet, and in many of a big one.
//!
//! - `nested`: interrupts, nested in each other, before each access of the code that ships;
//! - `concurrent`: other CPUs, with every value that the memory model lets a load give (`loom`), and interrupts on top. What
//!   records are made of must even be ordered between those who access it, so that no CPU may do it early or late;
//! - `stress`: real threads.
//!
//! All of them write [`Journal`]s, and one check ([`Journal::settle`]) judges them.

extern crate std;

mod concurrent;
mod nested;
mod stress;
mod usual;

use super::{Counts, Label, Mode, Record, Ring, RingBlock, Word};
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::sync::Mutex;
use std::vec::Vec;

/// The shortest blocks: seven words of records.
const WORDS: usize = 8;

/// A word of a ring in tests; its default is one that several change at a time.
trait Made: Word + Default {
    /// One that records are made of.
    fn of_record() -> Self {
        Self::default()
    }
}

impl Made for AtomicU64 {}

/// An unused ring that is never freed.
fn ring<W: Made, const WORDS: usize>(blocks: usize, mode: Mode) -> &'static Ring<W, WORDS> {
    let word = |index| if index == 0 { W::default() } else { W::of_record() };
    let blocks = Box::leak((0..blocks).map(|_| RingBlock(core::array::from_fn(word))).collect());
    let [head, refused, overwritten, read] = core::array::from_fn(|_| W::default());
    Box::leak(Box::new(Ring { blocks, mode, head, refused, overwritten, read }))
}

/// What happened to a ring from outside: every record has a number, which all of its words tell.
#[derive(Debug, Default)]
struct Journal {
    produced: AtomicU64,
    clock: AtomicU64,
    read: Mutex<Vec<u64>>,
}

/// A word of a record's payload.
fn word(number: u64, index: usize) -> u64 {
    (number << 8 | index as u64 | 0x55 << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Journal {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Writes the next record, of so many words, the first of which is its number.
    fn write<W: Word, const WORDS: usize>(&self, ring: &Ring<W, WORDS>, payload: usize) -> bool {
        let number = self.produced.fetch_add(1, Ordering::Relaxed);
        let Some(mut slot) = ring.reserve(payload, || self.tick()) else { return false };
        for index in 0..payload {
            slot.write(index, if index == 0 { number } else { word(number, index) });
        }
        let check = word(number, payload);
        slot.commit(Label { kind: 1 + (check % 255) as u8, extra: (check >> 8) as u16, task: (check >> 32) as u32 });
        true
    }

    /// Begins a record and gives it up.
    fn give_up<W: Word, const WORDS: usize>(&self, ring: &Ring<W, WORDS>) {
        self.produced.fetch_add(1, Ordering::Relaxed);
        drop(ring.reserve(1, || self.tick()));
    }

    /// Takes out what there is.
    fn consume<W: Word, const WORDS: usize>(&self, ring: &Ring<W, WORDS>) {
        let (mut pass, mut last) = (ring.consume(), 0);
        while let Some(block) = pass.next_block() {
            let numbers: Vec<u64> = block.records().map(|record| check(&record, &mut last)).collect();
            block.consume();
            self.read.lock().unwrap().extend(numbers);
        }
    }

    /// Looks at what there is, and how many records that are.
    fn look<W: Word, const WORDS: usize>(&self, ring: &Ring<W, WORDS>) -> usize {
        let (mut pass, mut last, mut count) = (ring.snapshot(), 0, 0);
        while let Some(block) = pass.next_block() {
            count += block.records().map(|record| check(&record, &mut last)).count();
        }
        count
    }

    /// Takes out the rest, when no writer is inside, and looks whether everything adds up; gives the final counts.
    fn settle<W: Word, const WORDS: usize>(&self, ring: &Ring<W, WORDS>) -> Counts {
        let before = ring.counts();
        let kept = self.look(ring);
        assert_eq!(kept as u64, before.kept, "what is kept can be seen");
        self.consume(ring);
        let counts = ring.counts();
        let produced = self.produced.load(Ordering::Relaxed);
        let mut read = self.read.lock().unwrap().clone();
        assert_eq!((counts.kept, counts.read, counts.lost()), (0, read.len() as u64, produced - read.len() as u64));
        assert_eq!((before.lost(), before.kept + before.read), (counts.lost(), counts.read), "reading loses nothing");
        assert_eq!(counts.produced(), produced);
        read.retain(|number| *number != VOID);
        read.sort_unstable();
        assert!(read.windows(2).all(|pair| pair[0] < pair[1]), "a record was read twice: {read:?}");
        assert!(read.last().is_none_or(|last| *last < produced), "{read:?}");
        counts
    }
}

const VOID: u64 = u64::MAX;

/// The number of a record, which is whole, and later than the one before.
fn check<W: Word>(record: &Record<'_, W>, last: &mut u64) -> u64 {
    assert!(record.time() > *last, "{} behind {last}", record.time());
    *last = record.time();
    if record.label() == Label::VOID {
        return VOID;
    }
    let number = record.word(0).unwrap();
    for index in 1..record.payload() {
        assert_eq!(record.word(index), Some(word(number, index)), "record {number} is torn");
    }
    let (check, label) = (word(number, record.payload()), record.label());
    let expected = (1 + (check % 255) as u8, (check >> 8) as u16, (check >> 32) as u32);
    assert_eq!((label.kind, label.extra, label.task), expected, "record {number} is torn");
    number
}
