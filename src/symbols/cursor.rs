//! The names of one address after the other, as when a table of callsites is walked.

use super::{Names, Symbols};

/// How many symbols further a cursor looks before it searches: a search costs about as much.
const STEPS: usize = 32;

/// An offset behind all symbols.
const BEHIND: u64 = u64::MAX;

/// Finds the functions that begin at addresses; where those ascend, it goes on from the last one instead of searching.
pub(crate) struct Cursor<'a> {
    /// # Invariants
    ///
    /// Symbols of one address, `offset`, or none; the next one after them has `next_offset`.
    group: Names<'a>,
    offset: u64,
    next_offset: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(symbols: Symbols<'a>) -> Self {
        // INVARIANT: before all symbols.
        let mut cursor = Self { group: Names::none(symbols), offset: 0, next_offset: 0 };
        cursor.next_offset = cursor.offset_of(0);
        cursor
    }

    /// The names of what begins at `addr`.
    #[inline(always)]
    pub(crate) fn names_at(&mut self, addr: u64) -> Names<'a> {
        if self.goes_to(addr) { self.group.clone() } else { Names::none(self.group.symbols) }
    }

    /// Whether a function begins at `addr`: something that has a length. What has none is a label, as those are that linker
    /// scripts define.
    #[inline(always)]
    pub(crate) fn has_function_at(&mut self, addr: u64) -> bool {
        self.goes_to(addr) && self.group.range.clone().any(|index| self.group.symbols.size(index) != 0)
    }

    /// Goes to the last symbols that are not behind `addr`; whether they begin there.
    #[inline(always)]
    fn goes_to(&mut self, addr: u64) -> bool {
        let Some(wanted) = self.group.symbols.offset(addr).filter(|offset| *offset < BEHIND) else { return false };
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
        self.offset == wanted && !self.group.range.is_empty()
    }

    /// Goes on to the next address that has a symbol.
    #[inline]
    fn step(&mut self) {
        self.offset = self.next_offset;
        self.group.range.start = self.group.range.end;
        // INVARIANT: all of this address, and none of the next.
        while self.next_offset == self.offset {
            self.group.range.end += 1;
            self.next_offset = self.offset_of(self.group.range.end);
        }
    }

    #[cold]
    fn search(&mut self, wanted: u64) {
        let range = self.group.symbols.group_of(wanted).unwrap_or(0..0);
        self.offset = if range.is_empty() { 0 } else { self.offset_of(range.start) };
        self.next_offset = self.offset_of(range.end);
        self.group.range = range;
    }

    /// A symbol's offset; behind the last one, [`BEHIND`].
    #[inline]
    fn offset_of(&self, index: usize) -> u64 {
        self.group.symbols.offsets.get(index).map_or(BEHIND, |offset| u64::from(u32::from_le_bytes(*offset)))
    }
}
