//! A block: the unit in which a ring's memory is reused.

use super::state::{MAX_WORDS, State};
use super::word::Word;
use crate::context::in_place::in_place;
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};

/// The words of a block, its state included: 4 KiB.
pub const BLOCK_WORDS: usize = MAX_WORDS;

/// A piece of a ring's memory; all zeros is one that was never used.
#[repr(C, align(64))]
pub struct RingBlock<W = AtomicU64, const WORDS: usize = BLOCK_WORDS>(pub(super) [W; WORDS]);

impl<const WORDS: usize> RingBlock<AtomicU64, WORDS> {
    /// Makes one that was never used.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }
}

impl RingBlock {
    /// The bytes of a block.
    pub const BYTES: usize = size_of::<Self>();

    /// Makes one of the bytes that a block had, little-endian, in whatever memory and whoever's; for
    /// [`recover`](super::Ring::recover).
    pub fn from_le_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks();
        let word = |index: usize| words.get(index).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self(core::array::from_fn(|index| AtomicU64::new(word(index))))
    }
}

impl<const WORDS: usize> RingBlock<AtomicU64, WORDS> {
    /// Makes blocks in this memory, where they stay: the largest power of two of them that fits, for
    /// [`Ring::from_slice`](super::Ring::from_slice), which says if that is too few.
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fentry::tracer::ring::{Mode, Ring, RingBlock};
    ///
    /// let memory = vec![MaybeUninit::uninit(); 70_000].leak();
    /// let blocks: &'static [RingBlock] = RingBlock::slice_in(memory);
    /// assert_eq!(blocks.len(), 16);
    /// let ring = Ring::from_slice(blocks, Mode::Overwrite).unwrap();
    /// # drop(ring);
    /// ```
    pub fn slice_in(memory: &mut [MaybeUninit<u8>]) -> &mut [Self] {
        let choose = |fitting: usize| fitting.checked_ilog2().map_or(0, |log| 1 << log);
        let make = |_, place: &mut MaybeUninit<Self>| {
            // SAFETY: the place is ours; zeros are atomic numbers. (A block written as a value might be on the stack first.)
            unsafe { place.as_mut_ptr().write_bytes(0, 1) };
        };
        // SAFETY: 1. it writes all of each.
        unsafe { in_place(memory, choose, make) }
    }
}

impl<const WORDS: usize> Default for RingBlock<AtomicU64, WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W, const WORDS: usize> fmt::Debug for RingBlock<W, WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingBlock").finish_non_exhaustive()
    }
}

impl<W: Word, const WORDS: usize> RingBlock<W, WORDS> {
    /// Makes it one that was never used.
    pub(in crate::tracer) fn clear(&self) {
        self.state().store(0);
    }

    /// Its first word.
    #[inline]
    pub(super) fn state(&self) -> &W {
        const { assert!(8 <= WORDS && WORDS <= MAX_WORDS, "a block is 8 to 512 words") };
        &self.0[0]
    }

    #[inline]
    pub(super) fn look(&self, order: Ordering) -> State {
        State::from_word(self.state().load(order))
    }

    #[inline]
    pub(super) fn swing(&self, old: State, new: State, order: Ordering) -> bool {
        self.state().replace(old.word(), new.word(), order)
    }
}
