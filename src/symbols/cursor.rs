//! Lookups for one address after the other, as when a table of callsites is walked.

use super::lookup::Names;
use super::table::{Symbols, number};

/// How many symbols further a cursor looks before it searches: a search costs about as much.
const STEPS: usize = 32;

/// An offset behind all symbols.
const BEHIND: u64 = u64::MAX;

/// Finds the functions that begin at addresses; where those ascend, it goes on from the last one instead of searching.
pub(crate) struct Cursor<'a> {
    symbols: &'a Symbols<'a>,
    /// What was asked about last.
    asked: u64,
    /// # Invariants
    ///
    /// The first symbol that is not before `asked`, and its offset.
    next: usize,
    next_offset: u64,
}

impl<'a> Symbols<'a> {
    /// A cursor before the first symbol.
    pub(crate) fn cursor(&'a self) -> Cursor<'a> {
        let mut cursor = Cursor { symbols: self, asked: 0, next: 0, next_offset: 0 };
        // INVARIANT: none is before the first one.
        cursor.next_offset = cursor.offset_of(0);
        cursor
    }
}

impl<'a> Cursor<'a> {
    /// Finds every name of what begins at `addr`.
    #[inline(always)]
    pub(crate) fn names_at(&mut self, addr: u64) -> Names<'_, 'a> {
        let mut range = 0..0;
        if self.goes_to(addr) {
            range = self.next..self.next + 1;
            // Most functions have one name.
            while self.offset_of(range.end) == self.next_offset {
                range.end += 1;
            }
        }
        Names { symbols: self.symbols, range }
    }

    /// Whether a function begins at `addr`: something that has a length. What has none is a label, as those are that linker
    /// scripts define.
    #[inline(always)]
    pub(crate) fn is_at_function(&mut self, addr: u64) -> bool {
        self.goes_to(addr) && (self.symbols.size(self.next) != 0 || self.others_have_length())
    }

    /// Goes to the first symbol that is not before `addr`; whether it begins there.
    #[inline(always)]
    fn goes_to(&mut self, addr: u64) -> bool {
        let Some(wanted) = self.symbols.offset(addr).filter(|offset| *offset < BEHIND) else { return false };
        if self.next_offset < wanted {
            // Most functions have a callsite, and one name.
            self.next += 1;
            self.next_offset = self.offset_of(self.next);
        }
        if self.next_offset < wanted || wanted < self.asked {
            self.seek(wanted);
        }
        self.asked = wanted;
        self.next_offset == wanted
    }

    /// Goes to the first symbol that is not before `wanted`.
    #[cold]
    fn seek(&mut self, wanted: u64) {
        let near = self.symbols.offsets.iter().skip(self.next).take(STEPS);
        let step = near.map(|offset| u64::from(number(offset))).position(|offset| wanted <= offset);
        self.next = match step.filter(|_| self.asked <= wanted) {
            Some(step) => self.next + step,
            None => self.symbols.offsets.partition_point(|offset| u64::from(number(offset)) < wanted),
        };
        self.next_offset = self.offset_of(self.next);
    }

    /// Whether another name of the address of a label has a length.
    #[cold]
    fn others_have_length(&self) -> bool {
        let mut group = (self.next..).take_while(|index| self.offset_of(*index) == self.next_offset);
        group.any(|index| self.symbols.size(index) != 0)
    }

    /// A symbol's offset; behind the last one, [`BEHIND`].
    #[inline(always)]
    fn offset_of(&self, index: usize) -> u64 {
        self.symbols.offset_of(index).unwrap_or(BEHIND)
    }
}
