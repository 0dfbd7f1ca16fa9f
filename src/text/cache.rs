//! Cache maintenance for a batch: each line once, and two barriers whatever its size.

use super::machine::{CacheType, Machine};
use super::word::TextWord;
use crate::address::TextAddr;
use core::convert::Infallible;
use core::ops::ControlFlow;

/// The smallest cache line that is built.
const LINE_BYTES: u64 = 16;

/// Words that were written.
pub(crate) trait Places {
    /// Calls `each` with every word until it breaks, each time the same ones.
    fn for_each_word<B>(&self, each: impl FnMut(TextWord) -> ControlFlow<B>) -> ControlFlow<B>;

    /// Calls `each` with a word in every line that holds one that was written, each time the same ones.
    #[inline]
    fn for_each_place(&self, mut each: impl FnMut(TextWord)) {
        let all: ControlFlow<Infallible> = self.for_each_word(|at| {
            each(at);
            ControlFlow::Continue(())
        });
        let ControlFlow::Continue(()) = all;
    }
}

/// A piece of text that was written.
///
/// # Invariants
///
/// It begins at a multiple of 4, and all of it is mapped and readable for as long as the value is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contiguous {
    start: TextAddr,
    bytes: u64,
}

impl Contiguous {
    /// Takes `bytes` bytes of text, from `start` on.
    ///
    /// # Safety
    ///
    /// 1. `start` is a multiple of 4.
    /// 2. All the bytes are inside text that is mapped and readable for as long as the value is used.
    pub(crate) const unsafe fn new(start: TextAddr, bytes: u64) -> Self {
        // INVARIANT: our caller's promises.
        Self { start, bytes }
    }

    /// The word that holds the byte at `offset`, which is less than `bytes`.
    fn word(&self, offset: u64) -> TextWord {
        debug_assert!(offset < self.bytes);
        let at = self.start.offset((offset & !3) as i64);
        // SAFETY: 1. a multiple of 4 from the start, which is one by the type's invariant. 2. It is in the piece, which is
        // mapped by the invariant.
        unsafe { TextWord::new(at) }
    }
}

impl Places for Contiguous {
    fn for_each_word<B>(&self, each: impl FnMut(TextWord) -> ControlFlow<B>) -> ControlFlow<B> {
        (0..self.bytes).step_by(4).map(|offset| self.word(offset)).try_for_each(each)
    }

    #[inline]
    fn for_each_place(&self, mut each: impl FnMut(TextWord)) {
        let mut offset = 0;
        while offset < self.bytes {
            each(self.word(offset));
            offset += LINE_BYTES;
        }
        // The last line may begin anywhere before the end.
        if let Some(last) = self.bytes.checked_sub(1) {
            each(self.word(last));
        }
    }
}

/// Makes words that were written at these places visible to every CPU's instruction fetch.
///
/// Ascending addresses let a line that holds several be maintained once. What this CPU executes after the return is new;
/// the others must still synchronise. `caches` is what `machine` says of itself, with what the platform knows on top.
pub(crate) fn make_visible<M: Machine + ?Sized>(machine: &M, caches: CacheType, places: &impl Places) {
    if caches.needs_clean() {
        if caches.clean_must_invalidate() {
            clean_and_invalidate(machine, caches, places);
        } else {
            for_each_line(places, caches.data_line_bytes(), |line| {
                // SAFETY: 1. the line holds a word of mapped text, and no page ends inside a line.
                unsafe { machine.clean_data_line(line) };
            });
        }
    }
    // Needed with IDC as well: the stores must be complete before the instruction side forgets.
    machine.complete();
    if caches.needs_invalidate() {
        for_each_line(places, caches.instruction_line_bytes(), |line| {
            // SAFETY: 1. as above.
            unsafe { machine.invalidate_instruction_line(line) };
        });
        machine.complete();
    }
    machine.synchronize();
}

/// Cleans and invalidates every line. Not inlined, so that the loop for all other CPUs stays as it is.
#[cold]
#[inline(never)]
fn clean_and_invalidate<M: Machine + ?Sized>(machine: &M, caches: CacheType, places: &impl Places) {
    for_each_line(places, caches.data_line_bytes(), |line| {
        // SAFETY: 1. the line holds a word of mapped text, and no page ends inside a line.
        unsafe { machine.clean_and_invalidate_data_line(line) };
    });
}

/// Calls `each` with the start of every line, once for neighbouring places.
fn for_each_line(places: &impl Places, line_bytes: u64, mut each: impl FnMut(TextAddr)) {
    // No line starts at an odd address.
    let mut last = TextAddr::new(1);
    places.for_each_place(|word| {
        let line = TextAddr::new(word.addr().get() & !(line_bytes - 1));
        if last != line {
            last = line;
            each(line);
        }
    });
}
