//! Events as bytes: the layout, there and back, and what is refused.

extern crate std;

use super::{Event, EventError, EventWriter, Recorded, USER_KINDS, decode};
use crate::address::TextAddr;
use crate::tracer::ring::{MAX_PAYLOAD, MAX_RECORD_BYTES, Mode, Ring, RingBlock};
use core::cell::Cell;
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

const IP: TextAddr = TextAddr::new(0xffff_8000_8012_3450);
const PARENT: TextAddr = TextAddr::new(0xffff_8000_8065_4320);

/// The bytes of what `record` records as task 0x01020304, at time 1 and later.
fn recorded(record: impl Fn(&EventWriter<'_, &dyn Fn() -> u64>)) -> Vec<u8> {
    let ring = Ring::from_slice(Box::leak(Box::new([const { RingBlock::new() }; 2])), Mode::Stop).unwrap();
    let time = Cell::new(0);
    let clock = || time.replace(time.get() + 1) + 1;
    record(&EventWriter { ring: &ring, task: 0x0102_0304, clock: &clock });
    let (mut pass, mut bytes) = (ring.snapshot(), Vec::new());
    while let Some(block) = pass.next_block() {
        block.records().for_each(|record| bytes.extend(record.bytes(&mut [0; MAX_RECORD_BYTES])));
    }
    bytes
}

fn words(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn the_layout_is_the_documented_one() {
    let bytes = recorded(|recorder| {
        assert!(recorder.function(IP, PARENT, &[7, 8, 9]));
        assert!(recorder.graph_entry(IP, PARENT, 0x1234));
        assert!(recorder.graph_exit(IP, 77, 5, u64::MAX));
        assert!(recorder.stack(IP, &[PARENT, IP]));
        assert!(recorder.marker("a text: \u{e9}"));
        assert!(recorder.user(200, 6, [1]));
        assert!(recorder.probe(0x0506, &[7, 8]));
    });
    let (ip, parent) = (IP.get(), PARENT.get());
    let expected = [
        words(&[0x0102_0304_0003_0107, 1, ip, parent, 7, 8, 9]),
        words(&[0x0102_0304_1234_0204, 2, ip, parent]),
        words(&[0x0102_0304_0005_0305, 3, ip, 77, u64::MAX]),
        words(&[0x0102_0304_0002_0405, 4, ip, parent, ip]),
        words(&[0x0102_0304_000a_0504, 5]),
        Vec::from(*b"a text: \xc3\xa9\0\0\0\0\0\0"),
        words(&[0x0102_0304_0006_c803, 6, 1]),
        words(&[0x0102_0304_0506_0604, 7, 7, 8]),
    ];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn what_is_recorded_is_decoded() {
    let long = "\u{20ac}".repeat(1000);
    let bytes = recorded(|recorder| {
        recorder.function(IP, PARENT, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        recorder.function(IP, PARENT, &[]);
        recorder.stack(IP, &[PARENT; 300]);
        recorder.marker(&long);
        recorder.marker("");
        recorder.user(USER_KINDS - 1, 1, [5]);
        recorder.user(USER_KINDS, 1, [5]);
    });
    let (mut rest, mut events) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (recorded, behind) = decode(rest).unwrap();
        let Recorded { time, task, event } = recorded;
        assert_eq!((time, task), (events.len() as u64 + 1, if event == Event::Void { 0 } else { 0x0102_0304 }));
        events.push(event);
        rest = behind;
    }
    let [called, bare, stack, cut, empty, void, user] = events[..] else { panic!("{events:?}") };
    let Event::Function { ip: IP, parent: PARENT, arguments } = called else { panic!("{called:?}") };
    assert_eq!(arguments.iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(matches!(bare, Event::Function { ip: IP, parent: PARENT, arguments } if arguments.is_empty()));
    assert!(matches!(stack, Event::Stack { ip: IP, frames } if frames.len() == MAX_PAYLOAD - 1));
    assert_eq!(cut, Event::Marker { text: &long[..MAX_PAYLOAD * 8 / 3 * 3] });
    assert_eq!((empty, void), (Event::Marker { text: "" }, Event::Void));
    assert!(matches!(user, Event::User { kind: USER_KINDS, extra: 1, payload } if payload.iter().eq([5])));
}

#[test]
fn what_is_malformed_is_refused_by_its_reason() {
    let entry = recorded(|recorder| assert!(recorder.graph_entry(IP, PARENT, 3)));
    for found in 0..entry.len() {
        let needed = if found == 0 { 16 } else { 32 };
        assert_eq!(decode(&entry[..found]), Err(EventError::Truncated { needed, found }));
    }
    let changed = |byte: usize, value| {
        let mut bytes = entry.clone();
        bytes[byte] = value;
        decode(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, 1), EventError::Truncated { needed: 16, found: 32 });
    assert_eq!(changed(0, 3), EventError::Length { kind: 2, extra: 3, words: 3 });
    assert_eq!(changed(1, 1), EventError::Length { kind: 1, extra: 3, words: 4 });
    assert_eq!(changed(1, 7), EventError::Kind(7));
    let mut text = recorded(|recorder| assert!(recorder.marker("text")));
    text[18] = 0xff;
    let error = decode(&text).unwrap_err();
    assert_eq!(error, EventError::Text { valid: 2 });
    assert_eq!(String::from("The marker's text is no UTF-8 after 2 bytes"), std::format!("{error}"));
    text[2] = 9;
    assert_eq!(decode(&text), Err(EventError::Length { kind: 5, extra: 9, words: 3 }));
    let nine = [words(&[11 | 1 << 8 | 9 << 16, 0]), words(&[0; 11])].concat();
    assert_eq!(decode(&nine[..88]), Err(EventError::Length { kind: 1, extra: 9, words: 11 }));
}
