//! What a reader sees of a ring, with writers that stop where they are told to.

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
