//! What tracers record, as bytes.
//!
//! An [`EventWriter`] encodes straight into a reserved record of a [`Ring`](super::ring::Ring); [`decode`] reads it
//! back, anywhere. All numbers are little-endian words of 8 bytes:
//!
//! ```text
//!              byte 0   1      2  3    4..8    8..16   16..24  24..32  32..
//!   function  | words | 1 | arguments | task | time  | ip    | parent | x0, x1, ...
//!   entry     | words | 2 | depth     | task | time  | ip    | parent |
//!   exit      | words | 3 | depth     | task | time  | ip    | entry  | value    (entry: the time of the entry)
//!   stack     | words | 4 | frames    | task | time  | ip    | frames, the innermost first
//!   marker    | words | 5 | bytes     | task | time  | text, UTF-8, filled up with zeros
//!   probe     | words | 6 | id        | task | time  | what the event of this id has
//!   void      | words | 0 | 0         | 0    | time  | what was left there
//! ```
//!
//! `words` is the length of all of it. Kinds from [`USER_KINDS`] on are users' own, those between are to come.

mod decode;
#[cfg(test)]
mod tests;
mod writer;

pub use decode::{EventError, decode};
pub use writer::EventWriter;

use crate::address::TextAddr;
use core::fmt;

/// The first kind of record that is not this crate's.
pub const USER_KINDS: u8 = 128;

/// The most arguments of a function that are recorded: x0 to x7.
pub const MAX_ARGUMENTS: usize = 8;

const FUNCTION: u8 = 1;
const GRAPH_ENTRY: u8 = 2;
pub(crate) const GRAPH_EXIT: u8 = 3;
const STACK: u8 = 4;
const MARKER: u8 = 5;
const PROBE: u8 = 6;

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
    /// An event that was defined while the kernel ran ([`control::Events`](crate::control::Events)).
    Probe {
        /// Its number, by which its definition is found.
        id: u16,
        /// What its definition says.
        payload: PayloadWords<'a>,
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
    pub(crate) const fn new(words: &'a [[u8; 8]]) -> Self {
        Self(words)
    }

    /// Returns how many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns them one after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u64> + 'a {
        self.0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

impl fmt::Debug for PayloadWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
