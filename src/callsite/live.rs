//! Instructions that may change while a CPU executes them, and changes of one instruction.

use crate::address::TextAddr;
use crate::insn::{BranchOffset, Insn};

/// One instruction to change: where, from what, to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WordChange<Word, At = TextAddr> {
    /// The instruction's address.
    pub(crate) at: At,
    /// The word that must be there.
    pub(crate) old: Word,
    /// The word to put there.
    pub(crate) new: Word,
}

impl<At: Copy> WordChange<LiveWord, At> {
    /// Drops the promise of the type: the words alone.
    #[must_use]
    pub(crate) const fn words(self) -> WordChange<u32, At> {
        WordChange { at: self.at, old: self.old.0, new: self.new.0 }
    }
}

impl<At: Copy> WordChange<u32, At> {
    /// The change that undoes this one.
    #[must_use]
    pub(crate) const fn reversed(self) -> Self {
        Self { at: self.at, old: self.new, new: self.old }
    }
}

/// An instruction that may be put in the place of another such while a CPU executes it: B, BL, NOP, BRK, SVC, HVC, SMC or
/// ISB (Arm ARM B2.2.5).
///
/// # Invariants
///
/// The word is one of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveWord(u32);

impl LiveWord {
    /// NOP.
    // INVARIANT: NOP is in the set.
    pub(crate) const NOP: Self = Self(Insn::NOP.encode());

    /// BL from `at` to `target`, which BL is known to reach.
    #[inline]
    pub(crate) const fn bl_within_reach(at: TextAddr, target: TextAddr) -> Self {
        const BL: u32 = Insn::bl(BranchOffset::ZERO).encode();
        debug_assert!(BranchOffset::between(at.get(), target.get()).is_ok());
        let words = (target.get().wrapping_sub(at.get()) >> 2) as u32;
        // INVARIANT: BL is in the set; imm26 is its low 26 bits (Arm ARM C6.2, BL).
        Self(BL | words & 0x03ff_ffff)
    }
}

#[cfg(test)]
impl LiveWord {
    /// BL.
    pub(crate) const fn bl(offset: BranchOffset) -> Self {
        // INVARIANT: BL is in the set.
        Self(Insn::bl(offset).encode())
    }

    /// Checks that `word` is in the set.
    pub(crate) const fn new(word: u32) -> Option<Self> {
        // INVARIANT: looked at.
        if Insn::decode(word).is_concurrently_modifiable() { Some(Self(word)) } else { None }
    }

    /// The word.
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}
