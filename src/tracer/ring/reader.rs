//! Reading a ring, while it is written or not.

use super::record::RECORD_HEAD;
use super::state::{CONSUMED, OPEN, State, TAKEN};
use super::{Label, MAX_PAYLOAD, Ring, RingBlock, Word};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// What becomes of the records that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// They may be taken out.
    Consume,
    /// They stay.
    Look,
}

impl<W: Word, const WORDS: usize> Ring<W, WORDS> {
    /// Reads what can be taken out: the blocks in which nothing is pending, in the order in which they were written.
    ///
    /// One reader at a time: what a second one finds taken by the first, it goes past.
    pub fn consume(&self) -> Pass<'_, W, WORDS> {
        self.pass(Purpose::Consume)
    }

    /// Reads what is there, and leaves it there: also records before the oldest pending one of a block.
    pub fn snapshot(&self) -> Pass<'_, W, WORDS> {
        self.pass(Purpose::Look)
    }

    /// Returns how many of its records were reserved at this time or later.
    pub(crate) fn count_since(&self, time: u64) -> u64 {
        let mut pass = self.snapshot();
        let blocks = core::iter::from_fn(|| pass.next_block());
        blocks.map(|block| block.records().filter(|record| record.time() >= time).count() as u64).sum()
    }

    fn pass(&self, purpose: Purpose) -> Pass<'_, W, WORDS> {
        Pass { ring: self, purpose, next: 0, last: self.head.load(Ordering::Relaxed) }
    }
}

/// One way through the ring, from the oldest block to the one that was the newest when it began.
pub struct Pass<'r, W: Word + 'static = AtomicU64, const WORDS: usize = { super::BLOCK_WORDS }> {
    ring: &'r Ring<W, WORDS>,
    purpose: Purpose,
    /// The lowest and the highest sequence number that are still to come.
    next: u64,
    last: u64,
}

impl<'r, W: Word, const WORDS: usize> Pass<'r, W, WORDS> {
    /// Returns the next block with something to read. As long as it is held writers go past it.
    pub fn next_block(&mut self) -> Option<HeldBlock<'r, W, WORDS>> {
        while let Some((sequence, block)) = self.oldest() {
            self.next = sequence + 1;
            if let Some(taken) = self.take(sequence, block) {
                return Some(taken);
            }
        }
        None
    }

    /// The block with the lowest number that this pass has not come to.
    fn oldest(&self) -> Option<(u64, &'r RingBlock<W, WORDS>)> {
        let numbered = |block: &'r RingBlock<W, WORDS>| {
            let state = block.look(Ordering::Relaxed);
            let sequence = state.sequence(self.last);
            (!state.is_blank() && (self.next..=self.last).contains(&sequence)).then_some((sequence, block))
        };
        // Where no block was passed over the next one is the next.
        let expected = self.ring.block(self.next).and_then(numbered).filter(|(sequence, _)| *sequence == self.next);
        expected.or_else(|| self.ring.blocks.iter().filter_map(numbered).min_by_key(|(sequence, _)| *sequence))
    }

    fn take(&self, sequence: u64, block: &'r RingBlock<W, WORDS>) -> Option<HeldBlock<'r, W, WORDS>> {
        // Empty blocks are left alone: a writer may be about to use one.
        if block.look(Ordering::Relaxed).unread() == 0 {
            return None;
        }
        let before = State::from_word(block.state().fetch_or(TAKEN, Ordering::Acquire));
        if before.has(TAKEN) {
            return None;
        }
        let mut taken = HeldBlock { ring: self.ring, block, end: 0, complete: false, consumed: false };
        // From here on dropping it lets it go. It may have been reused, or read by somebody else, before it was taken.
        if before.sequence(sequence) != sequence || before.unread() == 0 {
            return None;
        }
        let mut state = before;
        if self.purpose == Purpose::Consume && !before.is_pending() {
            state = State::from_word(block.state().fetch_and(!OPEN, Ordering::Acquire));
        }
        taken.complete = self.purpose == Purpose::Consume && !state.is_pending();
        taken.end = state.readable_end();
        (taken.complete || self.purpose == Purpose::Look).then_some(taken)
    }
}

impl<W: Word, const WORDS: usize> fmt::Debug for Pass<'_, W, WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { purpose, next, last, .. } = self;
        f.debug_struct("Pass").field("purpose", purpose).field("next", next).field("last", last).finish_non_exhaustive()
    }
}

/// A block that a reader holds. Nobody changes what is in it; dropped, it goes back unread.
pub struct HeldBlock<'r, W: Word + 'static = AtomicU64, const WORDS: usize = { super::BLOCK_WORDS }> {
    ring: &'r Ring<W, WORDS>,
    block: &'r RingBlock<W, WORDS>,
    /// Where the committed records end.
    end: usize,
    /// Whether it is closed with nothing pending.
    complete: bool,
    consumed: bool,
}

impl<W: Word, const WORDS: usize> HeldBlock<'_, W, WORDS> {
    /// Returns its records, the oldest first.
    pub fn records(&self) -> Records<'_, W> {
        Records { words: self.block.0.get(1..self.end).unwrap_or_default() }
    }

    /// Takes the records out of the ring, as read. Those of a snapshot stay.
    pub fn consume(mut self) {
        self.consumed = self.complete;
    }
}

impl<W: Word, const WORDS: usize> Drop for HeldBlock<'_, W, WORDS> {
    fn drop(&mut self) {
        if self.consumed {
            // What the ring counts: nothing can be added to a closed block.
            let records = self.block.look(Ordering::Relaxed).records();
            self.ring.read.fetch_add(records, Ordering::Relaxed);
            self.block.state().fetch_add(CONSUMED.wrapping_sub(TAKEN), Ordering::Release);
        } else {
            self.block.state().fetch_and(!TAKEN, Ordering::Release);
        }
    }
}

impl<W: Word, const WORDS: usize> fmt::Debug for HeldBlock<'_, W, WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldBlock").field("records", &self.records().count()).finish_non_exhaustive()
    }
}

/// The records of a block.
pub struct Records<'b, W: Word = AtomicU64> {
    words: &'b [W],
}

impl<'b, W: Word> Iterator for Records<'b, W> {
    type Item = Record<'b, W>;

    fn next(&mut self) -> Option<Record<'b, W>> {
        let length = (self.words.first()?.load(Ordering::Relaxed) & 0xff) as usize;
        let (words, rest) = self.words.split_at_checked(length)?;
        self.words = rest;
        (length >= RECORD_HEAD).then_some(Record { words })
    }
}

impl<W: Word> fmt::Debug for Records<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("words", &self.words.len()).finish_non_exhaustive()
    }
}

/// A record as it stands in a block that a reader holds.
pub struct Record<'b, W: Word = AtomicU64> {
    words: &'b [W],
}

/// The longest record as bytes.
pub const MAX_RECORD_BYTES: usize = (RECORD_HEAD + MAX_PAYLOAD) * 8;

impl<W: Word> Record<'_, W> {
    /// Returns its label.
    pub fn label(&self) -> Label {
        Label::from_word(self.at(0).unwrap_or(0))
    }

    /// Returns when it was reserved, in the clock's units.
    pub fn time(&self) -> u64 {
        self.at(1).unwrap_or(0)
    }

    /// Returns a word of the payload.
    pub fn word(&self, index: usize) -> Option<u64> {
        self.at(index.checked_add(RECORD_HEAD)?)
    }

    /// Returns the length of its payload in words.
    pub fn payload(&self) -> usize {
        self.words.len() - RECORD_HEAD
    }

    /// Returns the length of the whole record in bytes.
    pub fn bytes_len(&self) -> usize {
        self.words.len() * 8
    }

    /// Returns the whole record as little-endian bytes, as [`event`](crate::tracer::event) decodes it.
    pub fn bytes<'s>(&self, scratch: &'s mut [u8; MAX_RECORD_BYTES]) -> &'s [u8] {
        for (bytes, word) in scratch.as_chunks_mut().0.iter_mut().zip(self.words) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        scratch.get(..self.bytes_len()).unwrap_or_default()
    }

    fn at(&self, index: usize) -> Option<u64> {
        self.words.get(index).map(|word| word.load(Ordering::Relaxed))
    }
}

impl<W: Word> fmt::Debug for Record<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("label", &self.label()).field("time", &self.time()).finish_non_exhaustive()
    }
}
