//! Cache maintenance for a batch: each line once, and two barriers whatever its size.

use super::machine::{CacheType, Machine};
use crate::address::TextAddr;
use core::convert::Infallible;
use core::ops::ControlFlow;

/// The smallest cache line that is built.
const LINE_BYTES: u64 = 16;

/// The addresses of words that were written.
pub(crate) trait Places {
    /// Calls `each` with every address until it breaks, each time the same ones.
    fn for_each_word<B>(&self, each: impl FnMut(TextAddr) -> ControlFlow<B>) -> ControlFlow<B>;

    /// Calls `each` with an address in every line that holds one of the words, each time the same ones.
    #[inline]
    fn for_each_place(&self, mut each: impl FnMut(TextAddr)) {
        let all: ControlFlow<Infallible> = self.for_each_word(|at| {
            each(at);
            ControlFlow::Continue(())
        });
        let ControlFlow::Continue(()) = all;
    }
}

/// Text that was written from here on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contiguous {
    pub(crate) at: TextAddr,
    pub(crate) bytes: u64,
}

impl Places for Contiguous {
    fn for_each_word<B>(&self, each: impl FnMut(TextAddr) -> ControlFlow<B>) -> ControlFlow<B> {
        (0..self.bytes).step_by(4).map(|offset| self.at.offset(offset as i64)).try_for_each(each)
    }

    fn for_each_place(&self, each: impl FnMut(TextAddr)) {
        let lines = (0..self.bytes.div_ceil(LINE_BYTES)).map(|line| line * LINE_BYTES);
        // The last line may begin anywhere before the end.
        lines.chain(self.bytes.checked_sub(1)).map(|offset| self.at.offset(offset as i64)).for_each(each);
    }
}

/// Makes words that were written at these places visible to every CPU's instruction fetch.
///
/// Ascending addresses let a line that holds several be maintained once. What this CPU executes after the return is new;
/// the others must still synchronise.
///
/// # Safety
///
/// 1. Each place is in text that is mapped and readable.
/// 2. `caches` is what `machine` says of itself, with what the platform knows on top.
pub(crate) unsafe fn make_visible<M: Machine + ?Sized>(machine: &M, caches: CacheType, places: &impl Places) {
    if caches.needs_clean() {
        if caches.clean_must_invalidate() {
            // SAFETY: 1. our caller's first promise.
            unsafe { clean_and_invalidate(machine, caches, places) };
        } else {
            for_each_line(places, caches.data_line_bytes(), |line| {
                // SAFETY: 1. the line holds a place, and no page ends inside a line: our caller's first promise.
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

/// Cleans every line where a clean must invalidate. Apart, so that the loop for all other CPUs is as if this were not.
///
/// # Safety
///
/// 1. Each place is in text that is mapped and readable.
#[cold]
#[inline(never)]
unsafe fn clean_and_invalidate<M: Machine + ?Sized>(machine: &M, caches: CacheType, places: &impl Places) {
    for_each_line(places, caches.data_line_bytes(), |line| {
        // SAFETY: 1. the line holds a place, and no page ends inside a line: our caller's promise.
        unsafe { machine.clean_and_invalidate_data_line(line) };
    });
}

/// Calls `each` with the start of every line, once for neighbours.
fn for_each_line(places: &impl Places, line_bytes: u64, mut each: impl FnMut(TextAddr)) {
    // No line starts at an odd address.
    let mut last = TextAddr::new(1);
    places.for_each_place(|at| {
        let line = TextAddr::new(at.get() & !(line_bytes - 1));
        if last != line {
            last = line;
            each(line);
        }
    });
}
