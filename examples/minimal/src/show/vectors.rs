//! Exceptions: a BRK may be a probe's; all others are reported, and end this kernel.

use super::probe;
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use fentry::kprobe::Handled;
use fentry::{PtRegs, TextAddr, TextRange};

/// The exception class of BRK (Arm ARM, "ESR_EL1, Exception Syndrome Register").
const BRK: u64 = 0x3c;

unsafe extern "C" {
    static exceptions_begin: u8;
    static exceptions_end: u8;
    static exception_vectors: u8;
    static exception_handled: u8;
}

global_asm!(
    ".pushsection .text.exceptions, \"ax\"",
    ".balign 2048",
    ".global exception_vectors, exception_handled",
    ".type exception_vectors, %function",
    "exception_vectors:",
    ".rept 16",
    "b exception",
    ".balign 128",
    ".endr",
    ".size exception_vectors, . - exception_vectors",
    // X0 to X29, and where compiled code uses them, Q0 to Q31: to the stack or from it.
    ".macro exception_registers general, simd",
    "\\general x0, x1, [sp, #16 * 0]",
    "\\general x2, x3, [sp, #16 * 1]",
    "\\general x4, x5, [sp, #16 * 2]",
    "\\general x6, x7, [sp, #16 * 3]",
    "\\general x8, x9, [sp, #16 * 4]",
    "\\general x10, x11, [sp, #16 * 5]",
    "\\general x12, x13, [sp, #16 * 6]",
    "\\general x14, x15, [sp, #16 * 7]",
    "\\general x16, x17, [sp, #16 * 8]",
    "\\general x18, x19, [sp, #16 * 9]",
    "\\general x20, x21, [sp, #16 * 10]",
    "\\general x22, x23, [sp, #16 * 11]",
    "\\general x24, x25, [sp, #16 * 12]",
    "\\general x26, x27, [sp, #16 * 13]",
    "\\general x28, x29, [sp, #16 * 14]",
    ".if {HAS_SIMD}",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "\\simd q\\n, [sp, #{REGS} + 16 * \\n]",
    ".endr",
    ".endif",
    ".endm",
    // What was interrupted, as a `PtRegs`.
    ".type exception, %function",
    "exception:",
    "sub sp, sp, #{FRAME}",
    "exception_registers stp, str",
    "add x0, sp, #{FRAME}",
    "stp x30, x0, [sp, #16 * 15]",
    "mrs x0, elr_el1",
    "mrs x1, spsr_el1",
    "stp x0, x1, [sp, #{PC}]",
    "mrs x0, esr_el1",
    "mov x1, sp",
    "bl {handle}",
    "exception_handled:",
    "ldp x0, x1, [sp, #{PC}]",
    "msr elr_el1, x0",
    "msr spsr_el1, x1",
    "ldr x30, [sp, #16 * 15]",
    "exception_registers ldp, ldr",
    "add sp, sp, #{FRAME}",
    "eret",
    ".size exception, . - exception",
    ".popsection",
    REGS = const size_of::<PtRegs>(),
    FRAME = const size_of::<PtRegs>() + if cfg!(target_feature = "neon") { 32 * 16 } else { 0 },
    HAS_SIMD = const cfg!(target_feature = "neon") as u8,
    PC = const offset_of!(PtRegs, pc),
    handle = sym handle,
);

/// In the vectors' section: no probe may be on a probe's own way.
#[unsafe(link_section = ".text.exceptions")]
extern "C" fn handle(esr: u64, regs: &mut PtRegs) {
    if esr >> 26 != BRK || matches!(probe::PROBES.handle_brk(regs, esr as u16), Handled::No) {
        super::report(esr);
    }
}

/// Takes exceptions from now on.
pub(crate) fn set() {
    // SAFETY: the vectors above are complete, aligned, and stay.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) &raw const exception_vectors, options(nostack, preserves_flags)) };
}

/// What a CPU executes between an exception and its handler, and back.
pub(crate) fn text() -> TextRange {
    let place = |symbol: *const u8| TextAddr::new(symbol.addr() as u64);
    TextRange::new(place(&raw const exceptions_begin), place(&raw const exceptions_end))
}

/// Where the handler returns to: a `PtRegs` is at SP there.
pub(crate) fn handled() -> TextAddr {
    TextAddr::new((&raw const exception_handled).addr() as u64)
}
