//! The ring in which one CPU's records are kept.
//!
//! A [`Ring`] takes binary records of variable length from any context of its CPU, thread, interrupt or NMI, each
//! nested in the ones before, without a lock, a heap or a wait; readers on any CPU take them out meanwhile. There is one
//! ring for each CPU so that writers don't fight for cache lines, not for correctness: a writer that is preempted and goes
//! on on another CPU, or a second CPU that writes to the same ring, is only slower.
//!
//! # How it works
//! The memory is cut into blocks, and no record crosses the end of one. The first word of a block says everything about it
//! (`state` has the fields): its sequence number, how much of it is reserved, how many records that is, how many of them
//! are still being written. It only ever changes by an atomic read-modify-write of the whole.
//!
//! ```text
//!   head = 6 ---------------------------------+
//!                                             v
//!   +-----------------+-----------------+-----------------+-----------------+
//!   | #4 closed       | #5 closed       | #6 open         | #3 closed, the  |   a block: | state | record | record |...
//!   |                 | 1 pending       | 2 pending       |    next to go   |   a record: | label | time | payload...
//!   +-----------------+-----------------+-----------------+-----------------+
//!                        ^ a thread was     ^ an interrupt that came behind the reserve
//!                          interrupted        was interrupted in its turn
//!
//!   the open block:   | state | committed | committed | THREAD'S | committed | INTERRUPT'S |   free   |
//!                                                     ^ quiet                              ^ used
//! ```
//!
//! - *Reserve.* Look at the head's block; if the record fits, add its length, one record and one pending record to the
//!   state with one compare-exchange. From then on these words are the writer's own. It fails only where somebody else
//!   changed the block in between: a nested writer, which has its record then. So writers together always come on; each
//!   tries [a few times](ATTEMPTS) and gives up, counted, rather than loop.
//! - *Commit.* One pending record less, with release ordering. Writers commit in any order.
//! - *The next block.* If the record does not fit, the block is closed (no more reserving), and the block behind it is
//!   opened under the next sequence number, by one compare-exchange of its state that finds nothing pending and no reader
//!   there. Then the head follows. A writer interrupted between any two of these steps leaves them to the next one.
//! - *A block that is not free is passed over*: one with a half-written record, or one with a reader inside. So a writer that
//!   is interrupted in its record while others wrap the ring is never written over, and neither it nor a reader can stop
//!   the others, as long as not [`CANDIDATES`] blocks in a row are held. If they are, the record is lost, and counted.
//! - *Full.* Overwriting, a block opened anew loses what nobody has read, and the state says exactly how much that was at the
//!   moment of the exchange. Stopping, a block is only opened anew when a reader has consumed it; until then records are lost.
//! - *Read.* A reader marks a block as taken, which keeps writers from reusing it, reads in peace, and lets it go, consumed or
//!   not. It can't see a torn record: it reads committed ones only, which nobody writes to before it lets go. To consume the
//!   open block it closes it first; writers go on in the next. Where a record is pending it still sees those before the oldest
//!   pending one, so after a panic in the middle of a record only that one and those nested on it are missing.
//!
//! # Counting
//! Every call of [`reserve`](Ring::reserve) adds one record to a block or one to the lost ones. A record leaves its block in
//! the exchange that reuses the block, as read or as lost. So produced = read + kept + lost, always, and exactly, when no
//! writer is between two of its steps.
//!
//! # Time
//! The clock is read between the look at a block's state and the exchange. If the exchange succeeds nobody has reserved
//! between the two, so in a block times ascend as records do, and so do they from block to block by sequence number, however
//! writers nest. (A clock that several CPUs read is as ordered between them as it is itself.)
//!
//! # Orderings
//! All stores to a state are read-modify-writes, so whoever reads a state with acquire synchronises with every release of it
//! before. A commit releases, and a reader that takes or closes a block acquires, the record's words; a reader that lets go
//! releases, and a reserve acquires, so that new words are not what the reader still read. The head is released when it
//! moves and acquired by who makes room, so that nobody finds the head's block as it was before it was opened. The tests
//! fail without any one of these; all other accesses are relaxed.
//!
//! # Why it is our own
//! The maintained crates are for something else: `bbqueue`, `ringbuf`, `rtrb`, `heapless` and `ph-eventing` have one
//! producer, and none of the first four drops the oldest; `nexus-logbuf` and `thingbuf` have several but never overwrite;
//! `backbeat` overwrites, and finds torn records by their looks, best effort. `cortex-m-funnel` has a ring for each priority
//! of interrupts and none for preempted threads. Of the designs, LTTng's blocks with counts of reserved and committed bytes
//! and BBQ (Wang and others, "BBQ: A Block-based Bounded Queue for Exchanging Data and Profiling", USENIX ATC 2022) are the
//! nearest; both keep two counters a block or more, and both lose records where this one passes a block over.

mod block;
mod reader;
mod record;
mod recover;
mod state;
#[cfg(test)]
mod tests;
mod word;

pub use block::{BLOCK_WORDS, RingBlock};
pub use reader::{HeldBlock, MAX_RECORD_BYTES, Pass, Record, Records};
pub use record::{Label, MAX_PAYLOAD, Reservation};
pub use recover::Recovered;
pub use state::Mode;
pub use word::Word;

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use record::RECORD_HEAD;
use state::State;
use thiserror::Error;

/// How often a writer tries before its record is lost. Each failure is a nested writer that came in the few instructions
/// between the look and the exchange.
pub const ATTEMPTS: usize = 8;

/// How many blocks behind the head's a writer looks at for one that it may open.
pub const CANDIDATES: u64 = 4;

/// A number of blocks that is no power of two, or below 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("The memory of a ring must be a power of two of blocks, 2 at least, and is {blocks}")]
pub struct RingSizeError {
    /// The number.
    pub blocks: usize,
}

/// One CPU's records.
///
/// ```
/// use fentry::tracer::ring::{Label, Mode, Ring, RingBlock};
///
/// static MEMORY: [RingBlock; 16] = [const { RingBlock::new() }; 16];
/// static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
///
/// // In any context:
/// if let Some(mut slot) = RING.reserve(2, || 1234) {
///     slot.write(0, 0xffff_8000_8000_1000);
///     slot.write(1, 42);
///     slot.commit(Label { kind: 1, extra: 0, task: 7 });
/// }
/// // In another one, on any CPU:
/// let mut pass = RING.consume();
/// while let Some(block) = pass.next_block() {
///     for record in block.records() {
///         assert_eq!((record.time(), record.label().task, record.word(1)), (1234, 7, Some(42)));
///     }
///     block.consume();
/// }
/// ```
pub struct Ring<W: 'static = AtomicU64, const WORDS: usize = BLOCK_WORDS> {
    blocks: &'static [RingBlock<W, WORDS>],
    mode: Mode,
    /// The sequence number of the block that is written to, or was until it was closed.
    head: W,
    /// Records that found no room, and records that were overwritten unread.
    refused: W,
    overwritten: W,
    /// Records that readers have consumed.
    read: W,
}

impl<const WORDS: usize> Ring<AtomicU64, WORDS> {
    /// Makes a ring in this memory; the number of blocks is checked when the kernel is compiled. Two rings in the same memory
    /// are safe, but their records get mixed up.
    pub const fn new<const BLOCKS: usize>(blocks: &'static [RingBlock<AtomicU64, WORDS>; BLOCKS], mode: Mode) -> Self {
        const { assert!(BLOCKS.is_power_of_two() && BLOCKS >= 2, "the blocks must be a power of two, 2 at least") };
        Self::over(blocks, mode)
    }

    /// Makes a ring in memory whose size is known when the kernel runs.
    ///
    /// # Errors
    ///
    /// If the number of blocks is no power of two, or below 2.
    pub const fn from_slice(blocks: &'static [RingBlock<AtomicU64, WORDS>], mode: Mode) -> Result<Self, RingSizeError> {
        if blocks.len() < 2 || !blocks.len().is_power_of_two() {
            return Err(RingSizeError { blocks: blocks.len() });
        }
        Ok(Self::over(blocks, mode))
    }

    const fn over(blocks: &'static [RingBlock<AtomicU64, WORDS>], mode: Mode) -> Self {
        Self {
            blocks,
            mode,
            head: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            overwritten: AtomicU64::new(0),
            read: AtomicU64::new(0),
        }
    }
}

impl<W: Word, const WORDS: usize> Ring<W, WORDS> {
    /// Reserves a record with `payload` words behind its label and its time, which the clock gives.
    ///
    /// The clock is asked once for each attempt, so that times ascend in the ring.
    ///
    /// `None` if there is no room, or none for so long a record: it is counted as lost.
    #[inline]
    pub fn reserve(&self, payload: usize, clock: impl Fn() -> u64) -> Option<Reservation<'_, W>> {
        if payload > const { Self::longest_payload() } {
            return self.refuse();
        }
        let words = payload + RECORD_HEAD;
        match self.attempt(words, &clock) {
            Some(slot) => Some(slot),
            None => self.reserve_elsewhere(words, &clock),
        }
    }

    /// Writes a whole record of known length at once; returns whether there was room.
    #[inline]
    pub fn record<const N: usize>(&self, label: Label, clock: impl Fn() -> u64, payload: [u64; N]) -> bool {
        self.record_with(N, label, clock, move |slot| {
            for (index, value) in payload.into_iter().enumerate() {
                slot.write(index, value);
            }
        })
    }

    /// A whole record at once, whose payload `fill` writes; whether there was room.
    #[inline]
    pub(super) fn record_with(
        &self,
        payload: usize,
        label: Label,
        clock: impl Fn() -> u64,
        fill: impl FnOnce(&mut Reservation<'_, W>),
    ) -> bool {
        if payload <= const { Self::longest_payload() }
            && let Some(mut slot) = self.attempt(payload + RECORD_HEAD, &clock)
        {
            fill(&mut slot);
            slot.commit(label);
            return true;
        }
        self.record_elsewhere(payload, label, clock, fill)
    }

    /// With nothing of it in the caller, where it would cost a stack frame each time.
    #[cold]
    #[inline(never)]
    fn record_elsewhere(
        &self,
        payload: usize,
        label: Label,
        clock: impl Fn() -> u64,
        fill: impl FnOnce(&mut Reservation<'_, W>),
    ) -> bool {
        let Some(mut slot) = self.reserve(payload, clock) else { return false };
        fill(&mut slot);
        slot.commit(label);
        true
    }

    /// Returns the counts, exact when no writer is inside; meanwhile each by itself was right a moment ago.
    pub fn counts(&self) -> Counts {
        let unread = |block: &RingBlock<W, WORDS>| block.look(Ordering::Relaxed).unread();
        Counts {
            kept: self.blocks.iter().map(unread).sum(),
            refused: self.refused.load(Ordering::Relaxed),
            overwritten: self.overwritten.load(Ordering::Relaxed),
            read: self.read.load(Ordering::Relaxed),
        }
    }

    /// Returns the size of its memory in bytes.
    pub const fn bytes_len(&self) -> usize {
        size_of_val(self.blocks)
    }

    /// Returns whether it overwrites or stops.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    const fn longest_payload() -> usize {
        let room = WORDS - 1 - RECORD_HEAD;
        if room < MAX_PAYLOAD { room } else { MAX_PAYLOAD }
    }

    #[inline]
    fn block(&self, sequence: u64) -> Option<&RingBlock<W, WORDS>> {
        self.blocks.get(sequence as usize & (self.blocks.len() - 1))
    }

    /// Reserves in the head's block, if that is open, has room, and does not change meanwhile.
    #[inline]
    fn attempt(&self, words: usize, clock: &impl Fn() -> u64) -> Option<Reservation<'_, W>> {
        // Whatever is found, the exchange below decides.
        let head = self.head.load(Ordering::Relaxed);
        let block = self.block(head)?;
        let state = block.look(Ordering::Relaxed);
        let start = state.used();
        if !state.is_open_as(head) || start + words > WORDS {
            return None;
        }
        let time = clock();
        if !block.swing(state, state.with_record(words), Ordering::Acquire) {
            return None;
        }
        let words = block.0.get(start..start + words)?;
        words.get(1)?.store(time);
        Some(Reservation::new(block.state(), words))
    }

    /// Goes on to other blocks until one has room.
    #[cold]
    #[inline(never)]
    fn reserve_elsewhere(&self, words: usize, clock: &impl Fn() -> u64) -> Option<Reservation<'_, W>> {
        for _ in 0..ATTEMPTS {
            if !self.make_room(words) {
                break;
            }
            if let Some(slot) = self.attempt(words, clock) {
                return Some(slot);
            }
        }
        self.refuse()
    }

    /// Does the next thing that is to be done for a record of so many words; whether trying again is worth while.
    fn make_room(&self, words: usize) -> bool {
        let head = self.head.load(Ordering::Acquire);
        let Some(block) = self.block(head) else { return false };
        let state = block.look(Ordering::Relaxed);
        if state.is_open_as(head) {
            if state.used() + words <= WORDS {
                return true;
            }
            // If it changed, another writer was here: look again.
            if !block.swing(state, state.closed(), Ordering::Relaxed) {
                return true;
            }
        }
        // Fewer than the ring has blocks: the head's own is not one of them.
        (1..=CANDIDATES.min(self.blocks.len() as u64 - 1)).any(|distance| self.open(head, head + distance))
            // Late, behind a nested writer that came a long way, none of them looks as if it could be opened.
            || self.head.load(Ordering::Relaxed) != head
    }

    /// Opens a block under this number, if it may be, and moves the head there; whether trying again is worth while.
    fn open(&self, head: u64, sequence: u64) -> bool {
        let Some(block) = self.block(sequence) else { return false };
        let state = block.look(Ordering::Relaxed);
        // Somebody may have opened it and been interrupted before the head followed.
        if !state.is_open_as(sequence) {
            if !state.is_reusable(sequence, self.mode) {
                return false;
            }
            if !block.swing(state, State::opened(sequence), Ordering::Relaxed) {
                return true;
            }
            self.overwritten.fetch_add(state.unread(), Ordering::Relaxed);
        }
        // If it is elsewhere by now, so much the better.
        self.head.replace(head, sequence, Ordering::Release);
        true
    }

    #[cold]
    fn refuse<T>(&self) -> Option<T> {
        self.refused.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl<W: Word, const WORDS: usize> fmt::Debug for Ring<W, WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, mode, .. } = self;
        f.debug_struct("Ring")
            .field("blocks", &blocks.len())
            .field("mode", mode)
            .field("counts", &self.counts())
            .finish()
    }
}

/// How many records there were, and where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the ring, unread, those included that are being written.
    pub kept: u64,
    /// Consumed by readers.
    pub read: u64,
    /// Lost because there was no room.
    pub refused: u64,
    /// Lost because newer ones took their place before they were read.
    pub overwritten: u64,
}

impl Counts {
    pub(crate) const NONE: Self = Self { kept: 0, read: 0, refused: 0, overwritten: 0 };

    /// Returns how many records nobody can read.
    pub const fn lost(&self) -> u64 {
        self.refused.saturating_add(self.overwritten)
    }

    /// Returns how many records anybody wanted to write.
    pub const fn produced(&self) -> u64 {
        self.lost().saturating_add(self.kept).saturating_add(self.read)
    }
}
