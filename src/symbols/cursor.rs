//! The names of one address after the other, as when a table of callsites is walked.

use super::{Symbols, number};
use core::ops::Range;

/// How many symbols further a cursor looks before it searches: a search costs about as much.
const STEPS: usize = 32;

/// An offset behind all symbols.
const BEHIND: u64 = u64::MAX;

/// Finds the functions that begin at addresses; where those ascend, it goes on from the last one instead of searching.
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

    /// The names of what begins at `addr`.
    #[inline(always)]
    pub(crate) fn names_at(&mut self, addr: u64) -> NamesHere<'_, 'a> {
        let range = if self.goes_to(addr) { self.group.clone() } else { 0..0 };
        NamesHere { symbols: &self.symbols, range }
    }

    /// Goes to the last symbols that are not behind `addr`; whether they begin there.
    #[inline(always)]
    fn goes_to(&mut self, addr: u64) -> bool {
        let Some(wanted) = self.symbols.offset(addr).filter(|offset| *offset < BEHIND) else { return false };
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
        self.offset == wanted && !self.group.is_empty()
    }

    /// Goes on to the next address that has a symbol.
    #[inline]
    fn step(&mut self) {
        self.offset = self.next_offset;
        self.group.start = self.group.end;
        // INVARIANT: all of this address, and none of the next.
        while self.next_offset == self.offset {
            self.group.end += 1;
            self.next_offset = self.offset_of(self.group.end);
        }
    }

    #[cold]
    fn search(&mut self, wanted: u64) {
        let range = self.symbols.group_of(wanted).unwrap_or(0..0);
        self.offset = if range.is_empty() { 0 } else { self.offset_of(range.start) };
        self.next_offset = self.offset_of(range.end);
        self.group = range;
    }

    /// A symbol's offset; behind the last one, [`BEHIND`].
    #[inline]
    fn offset_of(&self, index: usize) -> u64 {
        self.symbols.offset_of(index).unwrap_or(BEHIND)
    }
}

/// The names that one address has, as [`Names`](super::Names) are; so small that it is copied for each rule.
#[derive(Clone)]
pub(crate) struct NamesHere<'c, 'a> {
    symbols: &'c Symbols<'a>,
    /// # Invariants
    ///
    /// Symbols of one address.
    range: Range<usize>,
}

impl<'a> Iterator for NamesHere<'_, 'a> {
    type Item = &'a str;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a str> {
        self.range.next().map(|index| self.symbols.name(index))
    }
}

/// Tells where functions begin; asked about ascending addresses, it goes on from the last one instead of searching.
pub(crate) struct Starts<'a> {
    symbols: Symbols<'a>,
    /// What was asked about last.
    asked: u64,
    /// # Invariants
    ///
    /// The first symbol that is not before `asked`, and its offset.
    next: usize,
    next_offset: u64,
}

impl<'a> Starts<'a> {
    pub(super) fn new(symbols: Symbols<'a>) -> Self {
        let mut starts = Self { symbols, asked: 0, next: 0, next_offset: 0 };
        // INVARIANT: none is before the first one.
        starts.next_offset = starts.offset_of(0);
        starts
    }

    /// Whether a function begins at `addr`: something that has a length. What has none is a label, as those are that linker
    /// scripts define.
    #[inline(always)]
    pub(crate) fn has(&mut self, addr: u64) -> bool {
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
        self.next_offset == wanted && (self.symbols.size(self.next) != 0 || self.others_have_length(wanted))
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

    /// The same for another name of the address of a label.
    #[cold]
    fn others_have_length(&self, wanted: u64) -> bool {
        let mut group = (self.next..).take_while(|index| self.offset_of(*index) == wanted);
        group.any(|index| self.symbols.size(index) != 0)
    }

    #[inline(always)]
    fn offset_of(&self, index: usize) -> u64 {
        self.symbols.offset_of(index).unwrap_or(BEHIND)
    }
}
