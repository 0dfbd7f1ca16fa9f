//! A record, from its reservation to its commit.

use super::state::COMMITTED;
use super::word::Word;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// The words of a record before its payload: label and time.
pub(super) const RECORD_HEAD: usize = 2;

/// The longest payload of a record, in words: the record's length stands in one byte.
pub const MAX_PAYLOAD: usize = u8::MAX as usize - RECORD_HEAD;

/// A record's kind, with what stands beside it in the first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The kind of record; [`Label::VOID`]'s is 0.
    pub kind: u8,
    /// A small number that belongs to the kind.
    pub extra: u16,
    /// The task that wrote it.
    pub task: u32,
}

impl Label {
    /// The label of a record that its writer gave up: its payload means nothing.
    pub const VOID: Self = Self { kind: 0, extra: 0, task: 0 };

    #[inline]
    pub(super) const fn word(self, words: usize) -> u64 {
        words as u64 | (self.kind as u64) << 8 | (self.extra as u64) << 16 | (self.task as u64) << 32
    }

    pub(in crate::tracer) const fn from_word(word: u64) -> Self {
        Self { kind: (word >> 8) as u8, extra: (word >> 16) as u16, task: (word >> 32) as u32 }
    }
}

/// A record that is being written. Dropped without a commit it becomes a [void](Label::VOID) one.
#[must_use = "a record is written, then committed"]
pub struct Reservation<'r, W: Word = AtomicU64> {
    state: &'r W,
    /// Label, time, payload.
    words: &'r [W],
}

impl<'r, W: Word> Reservation<'r, W> {
    /// A record in these words, which were reserved in the block of this state.
    #[inline]
    pub(super) const fn new(state: &'r W, words: &'r [W]) -> Self {
        Self { state, words }
    }

    /// Writes a word of the payload. Words that are not written hold what older records left there; one behind the end
    /// goes nowhere.
    #[inline]
    pub fn write(&mut self, index: usize, value: u64) {
        if let Some(word) = self.words.get(index + RECORD_HEAD) {
            word.store(value);
        }
    }

    /// Makes it readable.
    #[inline]
    pub fn commit(self, label: Label) {
        self.finish(label);
        core::mem::forget(self);
    }

    #[inline]
    fn finish(&self, label: Label) {
        if let Some(first) = self.words.first() {
            first.store(label.word(self.words.len()));
        }
        self.state.fetch_add(COMMITTED.wrapping_neg(), Ordering::Release);
    }
}

impl<W: Word> Drop for Reservation<'_, W> {
    fn drop(&mut self) {
        self.finish(Label::VOID);
    }
}

impl<W: Word> fmt::Debug for Reservation<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("payload", &(self.words.len() - RECORD_HEAD)).finish_non_exhaustive()
    }
}
