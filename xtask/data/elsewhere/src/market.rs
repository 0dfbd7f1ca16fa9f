//! What the kernel does.

use core::hint::black_box;

/// Sells three times; returns what was earned: 11 + 22 + 33.
#[inline(never)]
pub(crate) fn day() -> u64 {
    (1..=3).map(sell).sum()
}

#[inline(never)]
fn sell(pieces: u64) -> u64 {
    price(weigh(black_box(pieces)))
}

#[inline(never)]
fn weigh(pieces: u64) -> u64 {
    black_box(pieces) + 10 * pieces
}

#[inline(never)]
fn price(weight: u64) -> u64 {
    black_box(weight)
}
