//! Cache maintenance for a batch: each line once, and two barriers whatever its size.
//!
//! Floor 2.

use super::machine::Machine;
use crate::address::TextAddr;

/// The smallest cache line that is built.
const LINE_BYTES: u64 = 16;

/// The addresses of words that were written.
pub(crate) trait Places {
    /// Calls `each` with every address, each time the same ones.
    fn for_each_place(&self, each: impl FnMut(TextAddr));
}

/// Text that was written from here on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contiguous {
    pub(crate) at: TextAddr,
    pub(crate) bytes: u64,
}

impl Places for Contiguous {
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
pub(crate) fn make_visible<M: Machine + ?Sized>(machine: &M, places: &impl Places) {
    let caches = machine.cache_type();
    if caches.needs_clean() {
        for_each_line(places, caches.data_line_bytes(), |line| machine.clean_data_line(line));
    }
    // Needed with IDC as well: the stores must be complete before the instruction side forgets.
    machine.complete();
    if caches.needs_invalidate() {
        for_each_line(places, caches.instruction_line_bytes(), |line| machine.invalidate_instruction_line(line));
        machine.complete();
    }
    machine.synchronize();
}

/// Calls `each` with the start of every line, once for neighbours.
fn for_each_line(places: &impl Places, line_bytes: u64, mut each: impl FnMut(TextAddr)) {
    // No line starts at an odd address.
    let mut last = TextAddr::new(1);
    places.for_each_place(|at| {
        let line = TextAddr::new(at.get() & !(line_bytes - 1));
        if last != line {
            each(line);
            last = line;
        }
    });
}
