//! The names of one address after the other, as when a table of callsites is walked.

use super::Symbols;
use core::ops::Range;

/// How many symbols further a cursor looks before it searches: a search costs about as much.
const STEPS: usize = 32;

/// An offset behind all symbols.
const BEHIND: u64 = u64::MAX;

/// Gives the names of what [`Symbols::lookup_addr`] finds; where addresses ascend, it goes on from the last one instead of
/// searching.
pub(crate) struct Cursor<'a> {
    symbols: Symbols<'a>,
    /// # Invariants
    ///
    /// Symbols of one address, `offset`, or none; the next one after them has `next_offset`.
    group: Range<usize>,
    offset: u64,
    next_offset: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(symbols: Symbols<'a>) -> Self {
        // INVARIANT: before all symbols.
        let mut cursor = Self { symbols, group: 0..0, offset: 0, next_offset: 0 };
        cursor.next_offset = cursor.offset_of(0);
        cursor
    }

    /// The name of the function that `addr` is in.
    #[inline(always)]
    pub(crate) fn name_at(&mut self, addr: u64) -> Option<&'a str> {
        let wanted = self.symbols.offset(addr).filter(|offset| *offset < BEHIND)?;
        if wanted < self.offset {
            self.search(wanted);
        }
        let mut steps = 0;
        while self.next_offset <= wanted {
            self.step();
            steps += 1;
            if steps > STEPS {
                self.search(wanted);
            }
        }
        let first = self.group.start;
        let is_inside = !self.group.is_empty() && wanted - self.offset < self.symbols.size(first);
        is_inside.then(|| self.symbols.name(first))
    }

    /// Goes on to the next address that has a symbol.
    #[inline]
    fn step(&mut self) {
        (self.group, self.offset) = (self.group.end..self.group.end, self.next_offset);
        // INVARIANT: all of this address, and none of the next.
        while self.next_offset == self.offset {
            self.group.end += 1;
            self.next_offset = self.offset_of(self.group.end);
        }
    }

    #[cold]
    fn search(&mut self, wanted: u64) {
        self.group = self.symbols.group_of(wanted).unwrap_or(0..0);
        self.offset = if self.group.is_empty() { 0 } else { self.offset_of(self.group.start) };
        self.next_offset = self.offset_of(self.group.end);
    }

    /// A symbol's offset; behind the last one, [`BEHIND`].
    #[inline]
    fn offset_of(&self, index: usize) -> u64 {
        self.symbols.offsets.get(index).map_or(BEHIND, |offset| u64::from(u32::from_le_bytes(*offset)))
    }
}
