//! Counting, and the lines in which counts are told.

use support::{count, println};

/// The instructions that `work` needs, and what it returns.
pub(crate) fn counted<R>(work: impl FnOnce() -> R) -> (R, u32) {
    let ((), nothing) = with_overhead(|| ());
    let (result, count) = with_overhead(work);
    (result, count.saturating_sub(nothing))
}

#[inline(never)]
fn with_overhead<R>(work: impl FnOnce() -> R) -> (R, u32) {
    let counter = count::start().expect("the bench needs a machine that counts instructions: QEMU with -icount");
    let start = counter.instructions();
    let result = work();
    let end = counter.instructions();
    (result, end.wrapping_sub(start))
}

/// Tells a count that depends on no size.
pub(crate) fn tell(situation: &str, count: u32) {
    println!("bench: {situation} {count}");
}

/// Tells a count for this many callsites, names or ops.
pub(crate) fn tell_sized(situation: &str, count: u32, size: usize) {
    println!("bench: {situation} {count} {size}");
}
