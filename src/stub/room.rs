//! Room for stubs: which parts of the reserved text are in use.
//!
//! Units of 16 bytes, a bit each, first fit: stubs are few, and made far more seldom than called.

use crate::address::{TextAddr, TextRange};

const UNIT: u64 = 16;
/// The largest room that is used: 256 KiB. What is reserved beyond stays empty.
const MAX_UNITS: usize = 16384;

/// The reserved text, and what of it is in use.
pub(crate) struct StubRoom {
    text: TextRange,
    /// # Invariants
    ///
    /// A bit for each unit: set where a [`StubBlock`] that was not given back has it.
    used: [u64; MAX_UNITS / 64],
}

/// A part of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StubBlock {
    first: u16,
    units: u16,
}

impl StubRoom {
    /// No room.
    pub(crate) const EMPTY: Self = Self { text: TextRange::EMPTY, used: [0; MAX_UNITS / 64] };

    /// The room in `text`, none of it in use. Its start is rounded up to a unit.
    pub(crate) fn set(&mut self, text: TextRange) {
        let start = TextAddr::new(text.start.get().next_multiple_of(UNIT));
        self.text = TextRange::new(start, text.end);
        self.used = [0; MAX_UNITS / 64];
    }

    /// All of it.
    pub(crate) const fn text(&self) -> TextRange {
        self.text
    }

    fn units(&self) -> usize {
        usize::try_from(self.text.len() / UNIT).unwrap_or(MAX_UNITS).min(MAX_UNITS)
    }

    /// Takes a block of this many bytes, if there is one.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<StubBlock> {
        let wanted = bytes.div_ceil(UNIT as usize).max(1);
        let units = self.units();
        // The free units that were found last are `first..end`.
        let (mut first, mut end) = (0, 0);
        while end < units {
            let rest = self.used[end / 64] >> (end % 64);
            let left = 64 - end % 64;
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
            let count = (64 - unit % 64).min(end - unit);
            let bits = u64::MAX >> (64 - count) << (unit % 64);
            // INVARIANT: the caller has just found the units free, or owned the block.
            if used {
                self.used[unit / 64] |= bits;
            } else {
                self.used[unit / 64] &= !bits;
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
    use std::boxed::Box;
    use std::vec::Vec;
    extern crate std;

    fn room(bytes: u64) -> Box<StubRoom> {
        let mut room = Box::new(StubRoom::EMPTY);
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
    fn no_room_gives_nothing() {
        assert_eq!(room(0).take(1), None);
        assert_eq!(room(15).take(1), None);
    }
}
