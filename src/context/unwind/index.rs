//! The index by which a lookup finds the pieces of a block of text.

/// The bytes of text that have one entry in the index of pieces: as many words as one byte can count.
pub(super) const BLOCK: u64 = 4 << 8;
/// What pieces are less than: as many as three bytes can count.
pub(super) const MOST_PIECES: u32 = 1 << 24;
/// The bytes of an entry.
pub(super) const ENTRY_LEN: usize = 4;
/// The most blocks that an entry says.
pub(super) const FAR: u8 = u8::MAX - 1;

/// An entry of the index, of one block of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The first piece that starts in it or behind.
    pub(super) first: u32,
    /// Where the piece before that one starts, which may reach in: so that it is found at once, however long it is.
    pub(super) back: Back,
}

/// How many blocks before a block a piece starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// So many.
    Near(u8),
    /// More than [`FAR`]: the entry of the block that is so many before says the rest.
    Far,
}

impl Block {
    /// The entry of block `number`, where the piece before `first`, if there is one, starts in block `last`.
    pub(super) fn new(number: u64, first: u32, last: Option<u64>) -> Self {
        let back = number.saturating_sub(last.unwrap_or(number));
        let near = u8::try_from(back).ok().filter(|back| *back <= FAR);
        Self { first, back: near.map_or(Back::Far, Back::Near) }
    }

    #[inline(always)]
    pub(super) const fn of([first, first1, first2, back]: [u8; ENTRY_LEN]) -> Self {
        let back = if back > FAR { Back::Far } else { Back::Near(back) };
        Self { first: u32::from_le_bytes([first, first1, first2, 0]), back }
    }

    #[cfg(any(test, feature = "fakes", feature = "module"))]
    pub(super) const fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let [first, first1, first2, _] = self.first.to_le_bytes();
        let back = match self.back {
            Back::Near(back) => back,
            Back::Far => u8::MAX,
        };
        [first, first1, first2, back]
    }
}
