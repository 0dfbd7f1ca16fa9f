//! Records that are older than the kernel that reads them.

use super::record::RECORD_HEAD;
use super::state::State;
use super::{Ring, RingBlock, Word};
use core::sync::atomic::Ordering;

/// What was found in a ring's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that can be read.
    pub records: u64,
    /// Blocks whose first word or records contradict themselves: what is behind the contradiction is given up.
    pub damaged: usize,
}

impl<W: Word, const WORDS: usize> Ring<W, WORDS> {
    /// Takes over what the memory of this ring holds of an earlier run, a boot before a reset for example: its records can be
    /// read, and new ones are written behind them. Records that were being written then are given up, as is what contradicts
    /// itself: memory may hold anything.
    ///
    /// Before anything is written to the ring. Memory that was never a ring's should be zeros: by chance it may look like
    /// records. Times of an earlier run mean nothing beside those of this one, so the records are best taken out first.
    pub fn recover(&self) -> Recovered {
        let mut found = Recovered::default();
        let mut newest: Option<u64> = None;
        for (index, block) in self.blocks.iter().enumerate() {
            let state = block.look(Ordering::Relaxed);
            let (kept, is_damaged) = self.intact(index, block, state);
            block.state().store(kept.word());
            found.damaged += usize::from(is_damaged);
            found.records += kept.unread();
            if !kept.is_blank() {
                // The numbers' low bits, in the order in which they went round.
                let near = newest.unwrap_or(FIRST_LAP);
                let sequence = kept.sequence(near);
                newest = Some(newest.map_or(sequence, |newest| newest.max(sequence)));
            }
        }
        if let Some(newest) = newest {
            self.head.store(newest);
        }
        found
    }

    /// The state that a block has with what is intact in it; and whether that is not all.
    fn intact(&self, index: usize, block: &RingBlock<W, WORDS>, state: State) -> (State, bool) {
        const BLANK: State = State::from_word(0);
        if state == BLANK {
            return (BLANK, false);
        }
        let is_here = state.sequence(FIRST_LAP) as usize & (self.blocks.len() - 1) == index;
        let (used, end) = (state.used(), state.readable_end());
        if !is_here || used > WORDS || end > used || end == 0 {
            return (BLANK, true);
        }
        let (mut at, mut records, mut last) = (1, 0, 0);
        while at < end {
            let word = |at: usize| block.0.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
            let (length, time) = ((word(at) & 0xff) as usize, word(at + 1));
            if length < RECORD_HEAD || at + length > end || time < last {
                break;
            }
            (at, records, last) = (at + length, records + 1, time);
        }
        let claimed = if state.is_pending() { records } else { state.records() };
        let is_damaged = at != end || records != claimed;
        let kept = if records == 0 { BLANK } else { state.ending(at, records) };
        (kept, is_damaged)
    }
}

/// Far from where numbers begin, so that those before it are there; and at the beginning of a ring, however long it is.
const FIRST_LAP: u64 = 1 << 32;
