//! A thousand and a hundred functions.

use core::hint::black_box;

/// One of them: what it returns depends on which one it is.
pub type Function = fn(u64) -> u64;

/// `function::<HUNDRED, N>` for each.
pub static FUNCTIONS: [[Function; 100]; 11] = [
    hundred::<0>(),
    hundred::<1>(),
    hundred::<2>(),
    hundred::<3>(),
    hundred::<4>(),
    hundred::<5>(),
    hundred::<6>(),
    hundred::<7>(),
    hundred::<8>(),
    hundred::<9>(),
    hundred::<10>(),
];

#[inline(never)]
fn function<const HUNDRED: u64, const N: u64>(x: u64) -> u64 {
    black_box(x) ^ (HUNDRED * 100 + N)
}

macro_rules! tens {
    ($hundred:ident: $($ten:literal)*) => { [$(
        function::<$hundred, { 10 * $ten }>,
        function::<$hundred, { 10 * $ten + 1 }>,
        function::<$hundred, { 10 * $ten + 2 }>,
        function::<$hundred, { 10 * $ten + 3 }>,
        function::<$hundred, { 10 * $ten + 4 }>,
        function::<$hundred, { 10 * $ten + 5 }>,
        function::<$hundred, { 10 * $ten + 6 }>,
        function::<$hundred, { 10 * $ten + 7 }>,
        function::<$hundred, { 10 * $ten + 8 }>,
        function::<$hundred, { 10 * $ten + 9 }>,
    )*] };
}

const fn hundred<const HUNDRED: u64>() -> [Function; 100] {
    tens!(HUNDRED: 0 1 2 3 4 5 6 7 8 9)
}
