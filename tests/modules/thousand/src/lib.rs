//! A module of a thousand small functions: what loading costs is measured with it.
#![no_std]
#![cfg(target_os = "none")]

#[path = "../../kernel.rs"]
mod kernel;

use kernel::{KERNEL_NUMBER, export, kernel_note};

type Function = fn(u64) -> u64;

/// `function::<N>` for each N below a thousand.
static FUNCTIONS: [[Function; 100]; 10] = [
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
];

#[inline(never)]
fn function<const HUNDRED: u64, const N: u64>(x: u64) -> u64 {
    x ^ (HUNDRED * 100 + N)
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

/// Starts the module.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".init.text")]
extern "C" fn fentry_module_init() -> i32 {
    const LINE: &str = "thousand: here";
    kernel_note(LINE.as_ptr(), LINE.len());
    0
}

/// Calls the function of this number with the kernel's number.
#[unsafe(no_mangle)]
extern "C" fn thousand_call(number: usize) -> u64 {
    FUNCTIONS[number / 100 % 10][number % 100](KERNEL_NUMBER)
}
export!(thousand_call);
