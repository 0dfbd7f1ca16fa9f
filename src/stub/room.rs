//! Room for stubs: which parts of the reserved text are in use.
//!
//! Units of 16 bytes, a bit each, first fit: stubs are few, and made far more seldom than called.

use crate::address::{TextAddr, TextRange};

const UNIT: u64 = 16;
/// Units of a word of bits: 512 bytes.
const BITS: usize = 32;
/// As many units as a block has numbers for: 1 MiB. What is reserved beyond stays empty.
const MAX_UNITS: usize = 1 << 16;

/// The reserved text, and what of it is in use.
pub(crate) struct StubRoom {
    text: TextRange,
    /// # Invariants
    ///
    /// A bit for each unit: set where a [`StubBlock`] that was not given back has it.
    used: &'static mut [u32],
}

/// A part of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StubBlock {
    first: u16,
    units: u16,
}

impl StubRoom {
    /// No room yet, but words to note in which parts of it are in use: 512 bytes each.
    pub(crate) const fn new(used: &'static mut [u32]) -> Self {
        Self { text: TextRange::EMPTY, used }
    }

    /// The room in `text`, none of it in use. Its start is rounded up to a unit; what is more than can be noted stays empty.
    pub(crate) fn set(&mut self, text: TextRange) {
        let start = TextAddr::new(text.start.get().next_multiple_of(UNIT));
        let most = self.capacity() as i64 * UNIT as i64;
        self.text = TextRange::new(start, text.end.min(start.offset(most)));
        self.used.fill(0);
    }

    /// All of it.
    pub(crate) const fn text(&self) -> TextRange {
        self.text
    }

    fn units(&self) -> usize {
        let most = self.capacity();
        usize::try_from(self.text.len() / UNIT).unwrap_or(most).min(most)
    }

    /// The most units that are used, whatever is reserved.
    const fn capacity(&self) -> usize {
        let most = self.used.len() * BITS;
        if most < MAX_UNITS { most } else { MAX_UNITS }
    }

    /// Takes a block of this many bytes, if there is one.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<StubBlock> {
        let wanted = bytes.div_ceil(UNIT as usize).max(1);
        let units = self.units();
        // The free units that were found last are `first..end`.
        let (mut first, mut end) = (0, 0);
        while end < units {
            let rest = self.used[end / BITS] >> (end % BITS);
            let left = BITS - end % BITS;
            if rest & 1 == 1 {
                end += (rest.trailing_ones() as usize).min(left);
                first = end;
                continue;
            }
            end += (rest.trailing_zeros() as usize).min(left);
            if first + wanted <= end.min(units) {
                let block = StubBlock { first: first as u16, units: wanted as u16 };
                self.mark(block, true);
                return Some(block);
            }
        }
        None
    }

    /// Gives a block back.
    pub(crate) fn give_back(&mut self, block: StubBlock) {
        self.mark(block, false);
    }

    fn mark(&mut self, block: StubBlock, used: bool) {
        let (mut unit, end) = (usize::from(block.first), usize::from(block.first) + usize::from(block.units));
        while unit < end {
            let count = (BITS - unit % BITS).min(end - unit);
            let bits = u32::MAX >> (BITS - count) << (unit % BITS);
            // INVARIANT: the caller has just found the units free, or owned the block.
            if used {
                self.used[unit / BITS] |= bits;
            } else {
                self.used[unit / BITS] &= !bits;
            }
            unit += count;
        }
    }

    /// Returns where a block begins.
    pub(crate) const fn start(&self, block: StubBlock) -> TextAddr {
        self.text.start.offset(block.first as i64 * UNIT as i64)
    }

    /// A block's length in words.
    pub(crate) const fn words(block: StubBlock) -> usize {
        block.units as usize * UNIT as usize / 4
    }

    /// Returns how many bytes are in use.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used.iter().map(|word| word.count_ones() as usize * UNIT as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{StubBlock, StubRoom};
    use crate::address::{TextAddr, TextRange};
    use std::vec;
    use std::vec::Vec;
    extern crate std;

    fn room(bytes: u64) -> StubRoom {
        room_of(512, bytes)
    }

    fn room_of(words: usize, bytes: u64) -> StubRoom {
        let mut room = StubRoom::new(vec![0; words].leak());
        room.set(TextRange::new(TextAddr::new(0x1000), TextAddr::new(0x1000 + bytes)));
        room
    }

    #[test]
    fn blocks_fill_the_room_without_overlap_and_come_back() {
        let mut room = room(4096);
        let blocks: Vec<StubBlock> = core::iter::from_fn(|| room.take(40)).collect();
        assert_eq!(blocks.len(), 4096 / 48);
        for (n, block) in blocks.iter().enumerate() {
            assert_eq!(room.start(*block).get(), 0x1000 + n as u64 * 48);
        }
        assert_eq!(room.take(17), None);
        room.give_back(blocks[3]);
        room.give_back(blocks[4]);
        assert_eq!(room.take(97), None);
        assert_eq!(room.take(96).map(|block| room.start(block).get()), Some(0x1000 + 3 * 48));
        assert_eq!(room.used_bytes(), 4096 / 48 * 48);
    }

    #[test]
    fn as_much_is_used_as_can_be_noted_and_no_more() {
        // A word is for 512 bytes, and a block's number for no more than 1 MiB.
        for (words, bytes) in [(0, 0), (1, 512), (3, 1536), (2047, 2047 * 512), (2048, 1 << 20), (16384, 1 << 20)] {
            let mut room = room_of(words, 16 << 20);
            let mut next = 0x1000;
            while let Some(block) = room.take(256) {
                assert_eq!(room.start(block).get(), next, "{words} words");
                next += 256;
            }
            assert_eq!((next - 0x1000, room.text().len(), room.used_bytes() as u64), (bytes, bytes, bytes));
        }
    }

    #[test]
    fn no_room_gives_nothing() {
        assert_eq!(room(0).take(1), None);
        assert_eq!(room(15).take(1), None);
    }
}
