//! The one word in which everything about a block stands.

/// What happens when all blocks hold records that nobody has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The oldest records make room.
    Overwrite,
    /// New records are lost until a reader has consumed old ones.
    Stop,
}

/// A block's first word.
///
/// ```text
///  63          39   38      37       36      35       28 27       20 19        10 9         0
/// | sequence no. | open | taken | consumed |  pending   |  records  |   quiet    |   used    |
/// ```
///
/// - *used*: how many of the block's words are taken, this one included; 0 in a block that was never opened.
/// - *quiet*: what `used` was when the oldest of the pending records was reserved. Without meaning if there is none.
/// - *records*: how many were reserved; *pending*: how many of those are not committed yet.
/// - *open*: records may be reserved. *taken*: a reader is inside, and nobody may reuse the block. *consumed*: a reader has
///   taken all records out.
/// - *sequence number*: blocks are numbered as they are opened; the number's low bits.
///
/// # Invariants
///
/// `used` is at most the block's length. The words below `used` belong to `records` records, and those below `quiet` (if
/// none is pending: below `used`) to committed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u64);

const FIELD: u64 = (1 << 10) - 1;
const QUIET: u32 = 10;
const RECORDS: u32 = 20;
const PENDING: u32 = 28;
const COUNT: u64 = (1 << 8) - 1;
const SEQUENCE: u32 = 39;

/// What a writer takes off when it commits.
pub(super) const COMMITTED: u64 = 1 << PENDING;
pub(super) const CONSUMED: u64 = 1 << 36;
pub(super) const TAKEN: u64 = 1 << 37;
pub(super) const OPEN: u64 = 1 << 38;

/// The longest block that the fields can describe, in words.
pub(super) const MAX_WORDS: usize = 512;

impl State {
    pub(super) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(super) const fn word(self) -> u64 {
        self.0
    }

    /// A block just opened: empty but for its first word.
    pub(super) const fn opened(sequence: u64) -> Self {
        Self(sequence << SEQUENCE | OPEN | 1)
    }

    /// Returns whether it is open, and under this number.
    #[inline]
    pub(super) const fn is_open_as(self, sequence: u64) -> bool {
        (self.0 ^ sequence << SEQUENCE) >> OPEN.trailing_zeros() == 1
    }

    #[inline]
    pub(super) const fn used(self) -> usize {
        (self.0 & FIELD) as usize
    }

    pub(super) const fn records(self) -> u64 {
        self.0 >> RECORDS & COUNT
    }

    #[inline]
    pub(super) const fn is_pending(self) -> bool {
        self.0 & COUNT << PENDING != 0
    }

    pub(super) const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// With a record of so many words reserved in it, which fit.
    #[inline]
    pub(super) const fn with_record(self, words: usize) -> Self {
        let before = if self.is_pending() { self.0 } else { self.0 & !(FIELD << QUIET) | (self.0 & FIELD) << QUIET };
        // INVARIANT: no field overflows. `used` is at most MAX_WORDS, by our caller, and a record is two words or more, so
        // that `records` and `pending` stay below 256.
        Self(before + (words as u64 + (1 << RECORDS) + (1 << PENDING)))
    }

    pub(super) const fn closed(self) -> Self {
        Self(self.0 & !OPEN)
    }

    /// Returns where the committed records at the block's start end, in words.
    pub(super) const fn readable_end(self) -> usize {
        if self.is_pending() { (self.0 >> QUIET & FIELD) as usize } else { self.used() }
    }

    /// A closed block with so many committed records, which end at this word, and with nobody inside.
    pub(super) const fn ending(self, end: usize, records: u64) -> Self {
        // INVARIANT: our caller has counted the records up to there.
        let kept = self.0 & (CONSUMED | !(OPEN | (OPEN - 1)));
        Self(kept | records << RECORDS | end as u64)
    }

    /// The whole sequence number, next to another one: right if they are less than 2^24 apart.
    pub(super) const fn sequence(self, near: u64) -> u64 {
        let distance = (self.0 & !(OPEN | (OPEN - 1))).wrapping_sub(near << SEQUENCE).cast_signed() >> SEQUENCE;
        near.wrapping_add_signed(distance)
    }

    /// Returns whether it was ever opened.
    pub(super) const fn is_blank(self) -> bool {
        self.used() == 0
    }

    /// Returns whether the block may be opened anew under this number.
    pub(super) const fn is_reusable(self, sequence: u64, mode: Mode) -> bool {
        let unread = self.records() != 0 && !self.has(CONSUMED);
        // A block with a higher number is one that the ring has come to meanwhile: whoever wants to reuse it is late.
        self.is_blank()
            || !self.is_pending()
                && !self.has(TAKEN)
                && self.sequence(sequence) < sequence
                && (matches!(mode, Mode::Overwrite) || !unread)
    }

    /// Returns how many records are lost when it is opened anew.
    pub(super) const fn unread(self) -> u64 {
        if self.has(CONSUMED) { 0 } else { self.records() }
    }
}

#[cfg(test)]
mod tests {
    use super::{CONSUMED, MAX_WORDS, State};

    #[test]
    fn sequence_numbers_are_told_from_their_low_bits() {
        for near in [0, 1, 5, (1 << 25) - 1, 1 << 25, (1 << 25) + 3, u64::from(u32::MAX) << 9] {
            for distance in [0_i64, 1, -1, 7, -300, (1 << 24) - 1, -(1 << 24)] {
                let sequence = near.wrapping_add_signed(distance);
                let state = State::opened(sequence);
                assert_eq!(state.sequence(near), sequence);
                assert!(state.is_open_as(sequence) && !state.is_open_as(sequence ^ 1));
                assert!(!state.closed().is_open_as(sequence));
            }
        }
    }

    #[test]
    fn a_block_full_of_the_shortest_records_overflows_no_field() {
        let mut state = State::opened(3);
        for count in 1..=(MAX_WORDS as u64 - 1) / 2 {
            state = state.with_record(2);
            assert_eq!((state.records(), state.used() as u64), (count, 1 + 2 * count));
            // The first is never committed here.
            assert_eq!(state.readable_end(), 1);
        }
        assert!(state.is_open_as(3) && state.is_pending() && !state.has(CONSUMED));
    }
}
