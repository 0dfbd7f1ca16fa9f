//! Cache maintenance for a batch: each line once, and two barriers whatever its size.
//!
//! Floor 2.

use super::machine::Machine;
use crate::address::TextAddr;

/// Makes words that were written at `addresses` visible to every CPU's instruction fetch.
///
/// Ascending addresses let a line that holds several be maintained once. What this CPU executes after the return is new;
/// the others must still synchronise.
pub(crate) fn make_visible<M: Machine + ?Sized, I: Iterator<Item = TextAddr>>(machine: &M, addresses: impl Fn() -> I) {
    let caches = machine.cache_type();
    if caches.needs_clean() {
        for_each_line(addresses(), caches.data_line_bytes(), |line| machine.clean_data_line(line));
    }
    // Needed with IDC as well: the stores must be complete before the instruction side forgets.
    machine.complete();
    if caches.needs_invalidate() {
        for_each_line(addresses(), caches.instruction_line_bytes(), |line| machine.invalidate_instruction_line(line));
        machine.complete();
    }
    machine.synchronize();
}

/// Calls `each` with the start of every line, once for neighbours.
fn for_each_line(addresses: impl Iterator<Item = TextAddr>, line_bytes: u64, mut each: impl FnMut(TextAddr)) {
    let mut last = None;
    for at in addresses {
        let line = TextAddr::new(at.get() & !(line_bytes - 1));
        if last != Some(line) {
            each(line);
            last = Some(line);
        }
    }
}
