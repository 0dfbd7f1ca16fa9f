//! A fault, and its report: who has called what was interrupted, by the unwind table, with a `?` where that is not sure.
//!
//! A walk needs all registers of what was interrupted, and where they are; so the exception vectors are this kernel's own.

use crate::say;
use core::arch::{asm, global_asm, naked_asm};
use core::mem::offset_of;
use core::ops::Range;
use fentry::context::unwind::{Stacks, UnwindTable, Unwinder};
use fentry::{PtRegs, Symbols, TextAddr};
use qemu_exit::QEMUExit;

/// Of the `brk #1` below (Arm ARM, "ESR_EL1, Exception Syndrome Register").
const ON_PURPOSE: u64 = 0xf200_0001;

unsafe extern "C" {
    static boot_stack: u8;
    static boot_stack_end: u8;
    static exception_vectors: u8;
    static exception_reported: u8;
}

global_asm!(
    ".pushsection .text.exception_vectors, \"ax\"",
    ".balign 2048",
    ".type exception_vectors, %function",
    "exception_vectors:",
    ".rept 16",
    "b exception",
    ".balign 128",
    ".endr",
    ".size exception_vectors, . - exception_vectors",
    // What was interrupted, as a `PtRegs`.
    ".type exception, %function",
    "exception:",
    "sub sp, sp, #{SIZE}",
    "stp x0, x1, [sp, #16 * 0]",
    "stp x2, x3, [sp, #16 * 1]",
    "stp x4, x5, [sp, #16 * 2]",
    "stp x6, x7, [sp, #16 * 3]",
    "stp x8, x9, [sp, #16 * 4]",
    "stp x10, x11, [sp, #16 * 5]",
    "stp x12, x13, [sp, #16 * 6]",
    "stp x14, x15, [sp, #16 * 7]",
    "stp x16, x17, [sp, #16 * 8]",
    "stp x18, x19, [sp, #16 * 9]",
    "stp x20, x21, [sp, #16 * 10]",
    "stp x22, x23, [sp, #16 * 11]",
    "stp x24, x25, [sp, #16 * 12]",
    "stp x26, x27, [sp, #16 * 13]",
    "stp x28, x29, [sp, #16 * 14]",
    "add x0, sp, #{SIZE}",
    "stp x30, x0, [sp, #16 * 15]",
    "mrs x0, elr_el1",
    "mrs x1, spsr_el1",
    "stp x0, x1, [sp, #{PC}]",
    "mrs x0, esr_el1",
    "bl {report}",
    "exception_reported:",
    "b .",
    ".size exception, . - exception",
    ".popsection",
    SIZE = const size_of::<PtRegs>(),
    PC = const offset_of!(PtRegs, pc),
    report = sym report,
);

/// This kernel's stack.
struct BootStack;

// SAFETY: it is mapped for ever.
unsafe impl Stacks for BootStack {
    fn stack_around(&self, address: u64) -> Option<Range<u64>> {
        let stack = (&raw const boot_stack).addr() as u64..(&raw const boot_stack_end).addr() as u64;
        stack.contains(&address).then_some(stack)
    }

    fn interrupted(&self, pc: TextAddr, sp: u64) -> Option<u64> {
        (pc.get() == (&raw const exception_reported).addr() as u64).then_some(sp)
    }
}

extern "C" fn report(esr: u64) -> ! {
    say(format_args!("an exception, ESR {esr:#x}:"));
    // SAFETY: fentry.ld puts the symbols around the table, which nobody can write.
    let symbols = unsafe { Symbols::linked() }.ok();
    // SAFETY: as above.
    let table = unsafe { UnwindTable::linked() }.ok();
    // SAFETY: the table is of this kernel's text, and the walk ends here.
    let mut walk = unsafe { Unwinder::here(table.as_slice(), &BootStack) };
    for frame in walk.by_ref() {
        let (mark, place) = (if frame.is_reliable() { ' ' } else { '?' }, frame.place.get());
        match symbols {
            Some(symbols) => say(format_args!("  {mark} {}", symbols.display(place))),
            None => say(format_args!("  {mark} {place:#x}")),
        }
    }
    if let Some(doubt) = walk.doubt() {
        say(format_args!("  (not sure: {doubt})"));
    }
    if walk.is_complete() && esr == ON_PURPOSE {
        qemu_exit::AArch64::new().exit_success()
    }
    qemu_exit::AArch64::new().exit_failure()
}

/// Takes the exceptions, and calls `kernel` as the outermost function, of which walks know that nobody has called it.
pub(crate) fn begin(kernel: extern "C" fn() -> !) -> ! {
    // SAFETY: the vectors above are complete, aligned, and stay.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) &raw const exception_vectors, options(nostack, preserves_flags)) };
    outermost(kernel)
}

#[unsafe(naked)]
extern "C" fn outermost(kernel: extern "C" fn() -> !) -> ! {
    naked_asm!("mov x29, xzr", "mov x30, xzr", "blr x0")
}

/// A fault on purpose, whose report ends the kernel.
#[inline(never)]
pub(crate) fn stumble() -> ! {
    // SAFETY: its handler does not come back.
    unsafe { asm!("brk #1", options(noreturn)) }
}
