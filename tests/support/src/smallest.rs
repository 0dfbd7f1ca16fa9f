//! The smallest functions that a callsite can come to, so that what a traced call costs is not theirs: a landing pad and a RET,
//! and what is said of each.

use core::arch::naked_asm;
use fentry::{FtraceRegs, Ops, TextAddr};

/// A callback.
#[unsafe(naked)]
pub extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    naked_asm!("hint #34", "ret")
}

/// A trampoline, which goes straight on to the function.
///
/// # Safety
///
/// It is called by a callsite.
#[unsafe(naked)]
pub unsafe extern "C" fn trampoline() {
    naked_asm!("hint #34", "mov x10, x30", "mov x30, x9", "ret x10")
}

/// The body of a handler that may call something: an instruction longer, to pass over a call that nobody comes to.
macro_rules! that_calls {
    ($($code:literal),*) => {
        naked_asm!(
            "hint #34",
            $($code,)*
            "cbz xzr, 1f",
            "stp x29, x30, [sp, #-16]!",
            "mov x29, sp",
            "bl {other}",
            "ldp x29, x30, [sp], #16",
            "1: ret",
            other = sym callback,
        )
    };
}

/// A handler at the entry.
#[unsafe(naked)]
pub extern "C" fn entry(_: u64, _: u64) {
    naked_asm!("hint #34", "ret")
}

/// A handler at the entry that may call something.
#[unsafe(naked)]
pub extern "C" fn entry_that_calls(_: u64, _: u64) {
    that_calls!()
}

/// A handler that may answer for the function, and does not: an instruction longer, to return 0.
#[unsafe(naked)]
pub extern "C" fn modify(_: u64, _: u64) -> u64 {
    naked_asm!("hint #34", "mov x0, #0", "ret")
}

/// A handler that may answer for the function, and may call something.
#[unsafe(naked)]
pub extern "C" fn modify_that_calls(_: u64, _: u64) -> u64 {
    that_calls!("mov x0, #0")
}

/// A handler at the exit.
#[unsafe(naked)]
pub extern "C" fn exit(_: u64, _: u64, _: &u64) {
    naked_asm!("hint #34", "ret")
}

/// A handler at the exit that may call something.
#[unsafe(naked)]
pub extern "C" fn exit_that_calls(_: u64, _: u64, _: &u64) {
    that_calls!()
}
