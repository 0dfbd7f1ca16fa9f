//! What tracers record, as bytes.
//!
//! An [`EventWriter`] encodes straight into a reserved record of a [`Ring`]; [`decode`] reads it back, anywhere. All
//! numbers are little-endian words of 8 bytes:
//!
//! ```text
//!              byte 0   1      2  3    4..8    8..16   16..24  24..32  32..
//!   function  | words | 1 | arguments | task | time  | ip    | parent | x0, x1, ...
//!   entry     | words | 2 | depth     | task | time  | ip    | parent |
//!   exit      | words | 3 | depth     | task | time  | ip    | entry  | value    (entry: the time of the entry)
//!   stack     | words | 4 | frames    | task | time  | ip    | frames, the innermost first
//!   marker    | words | 5 | bytes     | task | time  | text, UTF-8, filled up with zeros
//!   void      | words | 0 | 0         | 0    | time  | what was left there
//! ```
//!
//! `words` is the length of all of it. Kinds from [`USER_KINDS`] on are users' own, those between are to come.

use super::ring::{Label, MAX_PAYLOAD, Ring};
use crate::address::TextAddr;
use core::fmt;

/// The first kind of record that is not this crate's.
pub const USER_KINDS: u8 = 128;

/// The most arguments of a function that are recorded: x0 to x7.
pub const MAX_ARGUMENTS: usize = 8;

const FUNCTION: u8 = 1;
const GRAPH_ENTRY: u8 = 2;
const GRAPH_EXIT: u8 = 3;
const STACK: u8 = 4;
const MARKER: u8 = 5;

/// Writes events of one task into a ring.
///
/// Each method says whether there was room; if there was not, the ring has counted the event as lost.
#[derive(Clone, Copy, Debug)]
pub struct EventWriter<'r, C> {
    /// Where to.
    pub ring: &'r Ring,
    /// Who does what is recorded.
    pub task: u32,
    /// The clock, in ticks; `tracer::ticks` in a kernel.
    pub clock: C,
}

impl<C: Fn() -> u64> EventWriter<'_, C> {
    /// A function was called, with these arguments; those behind the eighth are left out.
    #[inline]
    pub fn function(&self, ip: TextAddr, parent: TextAddr, arguments: &[u64]) -> bool {
        let count = arguments.len().min(MAX_ARGUMENTS);
        self.ring.record_with(2 + count, self.label(FUNCTION, count), &self.clock, move |slot| {
            slot.write(0, ip.get());
            slot.write(1, parent.get());
            for (index, argument) in arguments.iter().take(count).enumerate() {
                slot.write(2 + index, *argument);
            }
        })
    }

    /// A function was entered whose return will be seen too.
    #[inline]
    pub fn graph_entry(&self, ip: TextAddr, parent: TextAddr, depth: u16) -> bool {
        self.ring.record(self.label(GRAPH_ENTRY, depth.into()), &self.clock, [ip.get(), parent.get()])
    }

    /// It returned, with this in x0.
    #[inline]
    pub fn graph_exit(&self, ip: TextAddr, entry_time: u64, depth: u16, value: u64) -> bool {
        self.ring.record(self.label(GRAPH_EXIT, depth.into()), &self.clock, [ip.get(), entry_time, value])
    }

    /// A backtrace taken at `ip`, the innermost frame first; what does not fit into a record is left out.
    pub fn stack(&self, ip: TextAddr, frames: &[TextAddr]) -> bool {
        let count = frames.len().min(MAX_PAYLOAD - 1);
        let Some(mut slot) = self.ring.reserve(1 + count, &self.clock) else { return false };
        slot.write(0, ip.get());
        for (index, frame) in frames.iter().take(count).enumerate() {
            slot.write(1 + index, frame.get());
        }
        slot.commit(self.label(STACK, count));
        true
    }

    /// A text; what does not fit into a record is left out, whole characters at a time.
    pub fn marker(&self, text: &str) -> bool {
        let bytes = &text.as_bytes()[..text.floor_char_boundary(MAX_PAYLOAD * 8)];
        let Some(mut slot) = self.ring.reserve(bytes.len().div_ceil(8), &self.clock) else { return false };
        for (index, part) in bytes.chunks(8).enumerate() {
            let word = part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            slot.write(index, word);
        }
        slot.commit(self.label(MARKER, bytes.len()));
        true
    }

    /// A kind of the user's own, from [`USER_KINDS`] on; a lower one is recorded as void.
    #[inline]
    pub fn user<const N: usize>(&self, kind: u8, extra: u16, payload: [u64; N]) -> bool {
        let label = Label { kind, extra, task: self.task };
        self.ring.record(if kind < USER_KINDS { Label::VOID } else { label }, &self.clock, payload)
    }

    #[inline]
    const fn label(&self, kind: u8, extra: usize) -> Label {
        Label { kind, extra: extra as u16, task: self.task }
    }
}

/// An event that somebody recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// When, in ticks.
    pub time: u64,
    /// The task that did it.
    pub task: u32,
    /// What.
    pub event: Event<'a>,
}

/// What can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A record that its writer gave up.
    Void,
    /// A function was called.
    Function {
        /// The function.
        ip: TextAddr,
        /// Where it was called from.
        parent: TextAddr,
        /// Its first arguments, as many as were asked for.
        arguments: PayloadWords<'a>,
    },
    /// A function was entered.
    GraphEntry {
        /// The function.
        ip: TextAddr,
        /// Where it was called from.
        parent: TextAddr,
        /// How many functions of the graph are around it.
        depth: u16,
    },
    /// A function returned.
    GraphExit {
        /// The function.
        ip: TextAddr,
        /// When it was entered, in ticks.
        entry_time: u64,
        /// How many functions of the graph are around it.
        depth: u16,
        /// What it returned in x0.
        value: u64,
    },
    /// A backtrace.
    Stack {
        /// Where it was taken.
        ip: TextAddr,
        /// Return addresses, the innermost first.
        frames: PayloadWords<'a>,
    },
    /// A text that somebody wrote between the events.
    Marker {
        /// The text.
        text: &'a str,
    },
    /// A user's own record.
    User {
        /// Its kind, from [`USER_KINDS`] on.
        kind: u8,
        /// The small number beside the kind.
        extra: u16,
        /// The rest.
        payload: PayloadWords<'a>,
    },
}

/// Numbers in a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PayloadWords<'a>(&'a [[u8; 8]]);

impl<'a> PayloadWords<'a> {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u64> + 'a {
        self.0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

impl fmt::Debug for PayloadWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// There are fewer bytes than the record's first one says, or than any record has.
    Truncated {
        /// How many there should be.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// A kind that this version does not know.
    Kind(u8),
    /// A length that a record of that kind can't have.
    Length {
        /// The kind.
        kind: u8,
        /// The number beside the kind.
        extra: u16,
        /// The record's length in words.
        words: usize,
    },
    /// A marker whose text is not UTF-8.
    Text {
        /// How many of its bytes are.
        valid: usize,
    },
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, found } => write!(f, "The record should have {needed} bytes and has {found}"),
            Self::Kind(kind) => write!(f, "The record is of the unknown kind {kind}"),
            Self::Length { kind, extra, words } => {
                write!(f, "The record of kind {kind} with the number {extra} can't have {words} words")
            }
            Self::Text { valid } => write!(f, "The marker's text is no UTF-8 after {valid} bytes"),
        }
    }
}

impl core::error::Error for EventError {}

/// The event that these bytes begin with, and the bytes behind it.
///
/// # Errors
///
/// See [`EventError`].
pub fn decode(bytes: &[u8]) -> Result<(Recorded<'_>, &[u8]), EventError> {
    let truncated = |needed| EventError::Truncated { needed, found: bytes.len() };
    let length = usize::from(*bytes.first().ok_or(truncated(16))?) * 8;
    let (record, rest) = bytes.split_at_checked(length).ok_or(truncated(length))?;
    let [label, time, payload @ ..] = record.as_chunks().0 else { return Err(truncated(16)) };
    let label = Label::from_word(u64::from_le_bytes(*label));
    let event = event(label.kind, label.extra, payload)?;
    Ok((Recorded { time: u64::from_le_bytes(*time), task: label.task, event }, rest))
}

fn event(kind: u8, extra: u16, payload: &[[u8; 8]]) -> Result<Event<'_>, EventError> {
    let address = |word: &[u8; 8]| TextAddr::new(u64::from_le_bytes(*word));
    let counted = |words: &[[u8; 8]]| words.len() == usize::from(extra);
    match (kind, payload) {
        (0, _) => Ok(Event::Void),
        (FUNCTION, [ip, parent, arguments @ ..]) if counted(arguments) && arguments.len() <= MAX_ARGUMENTS => {
            Ok(Event::Function { ip: address(ip), parent: address(parent), arguments: PayloadWords(arguments) })
        }
        (GRAPH_ENTRY, [ip, parent]) => Ok(Event::GraphEntry { ip: address(ip), parent: address(parent), depth: extra }),
        (GRAPH_EXIT, [ip, entry_time, value]) => Ok(Event::GraphExit {
            ip: address(ip),
            entry_time: u64::from_le_bytes(*entry_time),
            depth: extra,
            value: u64::from_le_bytes(*value),
        }),
        (STACK, [ip, frames @ ..]) if counted(frames) => {
            Ok(Event::Stack { ip: address(ip), frames: PayloadWords(frames) })
        }
        (MARKER, words) if words.len() == usize::from(extra).div_ceil(8) => {
            let text = words.as_flattened().get(..extra.into()).unwrap_or_default();
            let text = core::str::from_utf8(text).map_err(|error| EventError::Text { valid: error.valid_up_to() })?;
            Ok(Event::Marker { text })
        }
        (USER_KINDS.., _) => Ok(Event::User { kind, extra, payload: PayloadWords(payload) }),
        (FUNCTION..=MARKER, _) => Err(EventError::Length { kind, extra, words: payload.len() + 2 }),
        _ => Err(EventError::Kind(kind)),
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(changed(1, 6), EventError::Kind(6));
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
}
