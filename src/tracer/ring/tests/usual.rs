//! One context, and what a user sees.

use super::{Journal, WORDS, ring};
use crate::tracer::ring::{CANDIDATES, Label, MAX_PAYLOAD, Mode, Ring, RingBlock, RingSizeError};
use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::vec::Vec;

fn numbers(journal: &Journal) -> Vec<u64> {
    journal.read.lock().unwrap().clone()
}

#[test]
fn overwriting_keeps_the_newest_without_a_gap() {
    for payload in 1..=5 {
        let (ring, journal) = (ring::<AtomicU64, WORDS>(4, Mode::Overwrite), Journal::default());
        (0..100).for_each(|_| assert!(journal.write(ring, payload)));
        let counts = journal.settle(ring);
        let per_block = (WORDS - 1) as u64 / (payload as u64 + 2);
        let read = numbers(&journal);
        assert_eq!((counts.refused, read.last()), (0, Some(&99)));
        assert!(read.len() as u64 > 3 * per_block && read[0] == 100 - read.len() as u64, "{read:?}");
    }
}

#[test]
fn stopping_keeps_the_oldest_without_a_gap_until_they_are_consumed() {
    let (ring, journal) = (ring::<AtomicU64, WORDS>(4, Mode::Stop), Journal::default());
    let taken = (0..100).filter(|_| journal.write(ring, 1)).count();
    assert_eq!(taken, 8);
    journal.consume(ring);
    assert!(journal.write(ring, 1));
    let counts = journal.settle(ring);
    assert_eq!((counts.refused, counts.overwritten), (92, 0));
    assert_eq!(numbers(&journal), [0, 1, 2, 3, 4, 5, 6, 7, 100]);
}

#[test]
fn a_snapshot_leaves_all_where_it_is() {
    let (ring, journal) = (ring::<AtomicU64, WORDS>(4, Mode::Overwrite), Journal::default());
    (0..7).for_each(|_| assert!(journal.write(ring, 1)));
    assert_eq!((journal.look(ring), journal.look(ring)), (7, 7));
    // A snapshot's block can't be consumed.
    ring.snapshot().next_block().unwrap().consume();
    assert_eq!(journal.settle(ring).read, 7);
}

#[test]
fn a_block_that_a_reader_holds_is_passed_over() {
    let (ring, journal) = (ring::<AtomicU64, WORDS>(4, Mode::Overwrite), Journal::default());
    (0..8).for_each(|_| assert!(journal.write(ring, 1)));
    let held = ring.snapshot().next_block().unwrap();
    (0..50).for_each(|_| assert!(journal.write(ring, 1)));
    assert_eq!(held.records().map(|record| record.word(0)).collect::<Vec<_>>(), [Some(0), Some(1)]);
    // A second reader goes past it too.
    assert_eq!(journal.look(ring), 6);
    drop(held);
    assert_eq!(journal.settle(ring).refused, 0);
}

#[test]
fn what_is_before_a_record_that_is_never_finished_can_be_seen() {
    let (ring, journal) = (ring::<AtomicU64, 64>(4, Mode::Overwrite), Journal::default());
    (0..3).for_each(|_| assert!(journal.write(ring, 1)));
    let unfinished = ring.reserve(1, || journal.tick()).unwrap();
    assert_eq!(std::format!("{unfinished:?}"), "Reservation { payload: 1, .. }");
    (0..3).for_each(|_| assert!(journal.write(ring, 1)));
    assert_eq!(journal.look(ring), 3);
    journal.consume(ring);
    assert_eq!(numbers(&journal), []);
    // Nor does it hold up the others.
    (0..500).for_each(|_| assert!(journal.write(ring, 1)));
    journal.consume(ring);
    assert_eq!(numbers(&journal).last(), Some(&505));
    assert_eq!(journal.look(ring), 3);
    drop(unfinished);
    // All that fits into its block, which was passed over.
    assert_eq!(journal.look(ring), 63 / 3);
}

#[test]
fn when_every_candidate_is_held_records_are_lost_and_counted() {
    let (ring, journal) = (ring::<AtomicU64, WORDS>(8, Mode::Overwrite), Journal::default());
    (0..16).for_each(|_| assert!(journal.write(ring, 1)));
    let mut pass = ring.snapshot();
    let held: Vec<_> = (0..CANDIDATES).map(|_| pass.next_block().unwrap()).collect();
    assert!(!journal.write(ring, 1));
    drop(held);
    assert!(journal.write(ring, 1));
    assert_eq!(journal.settle(ring).refused, 1);
}

#[test]
fn a_record_that_can_never_fit_is_refused_and_closes_no_block() {
    let small = ring::<AtomicU64, WORDS>(4, Mode::Overwrite);
    assert!(small.reserve(5, || 1).is_some());
    assert!(small.reserve(6, || 1).is_none());
    assert!(small.reserve(usize::MAX, || 1).is_none());
    assert_eq!((small.counts().refused, small.counts().kept), (2, 1));
    let big = ring::<AtomicU64, 512>(2, Mode::Overwrite);
    assert!(big.reserve(MAX_PAYLOAD, || 1).is_some());
    assert!(big.reserve(MAX_PAYLOAD + 1, || 1).is_none());
}

#[test]
fn a_record_given_up_is_void_and_counted() {
    let (ring, journal) = (ring::<AtomicU64, WORDS>(2, Mode::Overwrite), Journal::default());
    journal.give_up(ring);
    assert!(journal.write(ring, 1));
    assert_eq!((journal.settle(ring).read, ring.counts().lost()), (2, 0));
    assert_eq!(numbers(&journal), [super::VOID, 1]);
}

#[test]
fn a_write_behind_the_record_goes_nowhere() {
    let ring = ring::<AtomicU64, WORDS>(2, Mode::Overwrite);
    let mut slot = ring.reserve(1, || 1).unwrap();
    slot.write(0, 5);
    slot.write(1, 6);
    slot.commit(Label { kind: 1, extra: 2, task: 3 });
    assert!(ring.record(Label { kind: 2, extra: 0, task: 0 }, || 2, [7]));
    let block = ring.consume().next_block().unwrap();
    let words: Vec<_> = block.records().map(|record| (record.label().kind, record.word(0), record.word(1))).collect();
    assert_eq!(words, [(1, Some(5), None), (2, Some(7), None)]);
}

#[test]
fn sizes_are_checked() {
    for blocks in [0, 1, 3, 6] {
        let memory = Box::leak((0..blocks).map(|_| RingBlock::<AtomicU64, WORDS>::new()).collect());
        assert_eq!(Ring::from_slice(memory, Mode::Stop).unwrap_err(), RingSizeError { blocks });
    }
    static MEMORY: [RingBlock; 4] = [const { RingBlock::new() }; 4];
    static RING: Ring = Ring::new(&MEMORY, Mode::Stop);
    assert_eq!((RING.mode(), RING.counts().produced()), (Mode::Stop, 0));
}
