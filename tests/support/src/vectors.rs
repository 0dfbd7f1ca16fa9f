//! The exception vectors, in assembly: everything is saved, [`exceptions`](crate::exceptions) is called, everything is
//! restored.
//!
//! An interrupt may come between any two instructions, so what it must give back is every register: x0-x30, SP, and, in a
//! kernel whose compiler uses them, q0-q31, FPSR and FPCR. That is more than a function call keeps, and why the vectors are
//! not those of aarch64-rt.
//!
//! The frame holds a frame record `{x29, ELR}` and x29 is made to point to it, so that a walk along frame records goes from
//! the handler straight to the interrupted function.
//!
//! A synchronous exception may mean that the stack is used up. Its vector looks at SP first, with one register saved in
//! TPIDRRO_EL0, and moves to the CPU's emergency stack where there is too little left.

use crate::percpu::{self, PerCpu};
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use fentry::PtRegs;

/// The registers of what was interrupted.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct ExceptionFrame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// The stack pointer before the exception.
    pub sp: u64,
    /// The address of the instruction to go on with: ELR_EL1.
    pub elr: u64,
    /// The processor state to go on with: SPSR_EL1.
    pub spsr: u64,
    /// What happened: ESR_EL1. Meaningless for an interrupt.
    pub esr: u64,
    /// The address that faulted: FAR_EL1.
    pub far: u64,
    record: [u64; 2],
    /// Floating-point status and control.
    pub fp_status: [u64; 2],
    /// q0 to q31; zeros where the kernel is compiled without them.
    pub q: [u128; FP_REGISTERS],
}

/// Whether the compiler uses the SIMD registers.
const FP: bool = cfg!(target_feature = "neon");
const FP_REGISTERS: usize = if FP { 32 } else { 0 };

const _: () = assert!(size_of::<ExceptionFrame>().is_multiple_of(16), "SP stays aligned");

unsafe extern "C" {
    /// The table.
    static support_vectors: [u8; 0x800];
    /// Where the handler returns.
    static support_handled: u8;
}

/// The address where a handler returns, with its [`ExceptionFrame`] at SP.
pub(crate) fn handled() -> u64 {
    (&raw const support_handled).addr() as u64
}

impl ExceptionFrame {
    /// The registers as fentry has them.
    #[inline(always)]
    pub(crate) fn pt_regs_mut(&mut self) -> &mut PtRegs {
        // SAFETY: the frame begins with the registers, in the same layout (below), and is borrowed as long as they are.
        unsafe { &mut *core::ptr::from_mut(self).cast() }
    }

    /// A copy of the registers as fentry has them.
    pub fn pt_regs(&self) -> PtRegs {
        PtRegs { regs: self.x, sp: self.sp, pc: self.elr, pstate: self.spsr }
    }
}

// So the frame begins with them.
const _: () = assert!(
    offset_of!(ExceptionFrame, x) == offset_of!(PtRegs, regs)
        && offset_of!(ExceptionFrame, sp) == offset_of!(PtRegs, sp)
        && offset_of!(ExceptionFrame, elr) == offset_of!(PtRegs, pc)
        && offset_of!(ExceptionFrame, spsr) == offset_of!(PtRegs, pstate)
);

/// Calls `f` on the stack that this CPU has for handlers.
///
/// # Safety
///
/// 1. Nothing else runs on that stack.
pub unsafe fn on_handler_stack(frame: &ExceptionFrame, f: extern "C" fn(&ExceptionFrame)) {
    // SAFETY: the stack is this CPU's, and by our caller's promise nothing runs on it.
    unsafe { call_on(frame, f, percpu::this().handler_top.load(Ordering::Relaxed)) }
}

/// Calls `f` with `frame` on the stack that ends at `top`.
///
/// # Safety
///
/// 1. There is a stack, which nothing runs on.
#[unsafe(naked)]
unsafe extern "C" fn call_on(frame: &ExceptionFrame, f: extern "C" fn(&ExceptionFrame), top: u64) {
    core::arch::naked_asm!(
        "hint #25", // PACIASP
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp", // by which a walk finds back
        "mov sp, x2",
        "blr x1",
        "mov sp, x29",
        "ldp x29, x30, [sp], #16",
        "hint #29", // AUTIASP
        "ret",
    )
}

/// Makes the running CPU use these vectors.
#[inline(always)]
pub(crate) fn install() {
    // SAFETY: the table below is complete and aligned, and stays mapped.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) &raw const support_vectors, options(nostack, preserves_flags)) };
}

global_asm!(
    r#"
    .pushsection .text.exceptions, "ax"

    // One of the sixteen entries; x0 = its number for the handler.
    .macro support_entry number
    .balign 0x80
    sub     sp, sp, #{SIZE}
    stp     x0, x1, [sp, #{X}]
    add     x1, sp, #{SIZE}             // x1 = SP before the exception
    mov     x0, #\number
    b       support_save
    .endm

    // The same, but there may be no room left on the stack.
    .macro support_entry_checked number
    .balign 0x80
    msr     tpidrro_el0, x0
    mrs     x0, tpidr_el1
    cbz     x0, 1f                      // no block yet: the boot stack
    ldr     x0, [x0, #{STACK_RESERVE}]
    cmp     sp, x0                      // the flags are in SPSR
    b.lo    2f
1:  mrs     x0, tpidrro_el0
    sub     sp, sp, #{SIZE}
    stp     x0, x1, [sp, #{X}]
    add     x1, sp, #{SIZE}
    mov     x0, #\number
    b       support_save
2:  mov     x0, sp
    msr     sp_el0, x0                  // nothing runs on SP_EL0: a second place to keep a word
    mrs     x0, tpidr_el1
    ldr     x0, [x0, #{EMERGENCY_TOP}]
    mov     sp, x0
    mrs     x0, tpidrro_el0
    sub     sp, sp, #{SIZE}
    stp     x0, x1, [sp, #{X}]
    mrs     x1, sp_el0
    mov     x0, #\number
    b       support_save
    .endm

    .balign 0x800
    .global support_vectors
    .type   support_vectors, %function
support_vectors:
    support_entry 0                     // from EL1 with SP_EL0: synchronous, IRQ, FIQ, SError
    support_entry 1
    support_entry 2
    support_entry 3
    support_entry_checked 4             // from EL1, the kernel itself
    support_entry 5
    support_entry 6
    support_entry 7
    support_entry 8                     // from EL0: AArch64
    support_entry 9
    support_entry 10
    support_entry 11
    support_entry 12                    // AArch32
    support_entry 13
    support_entry 14
    support_entry 15
    .balign 0x80
    .size   support_vectors, . - support_vectors
    .purgem support_entry
    .purgem support_entry_checked

    // x0 = the entry's number, x1 = SP before; the two are saved already.
    .type   support_save, %function
support_save:
    stp     x2, x3, [sp, #{X} + 8 * 2]
    stp     x4, x5, [sp, #{X} + 8 * 4]
    stp     x6, x7, [sp, #{X} + 8 * 6]
    stp     x8, x9, [sp, #{X} + 8 * 8]
    stp     x10, x11, [sp, #{X} + 8 * 10]
    stp     x12, x13, [sp, #{X} + 8 * 12]
    stp     x14, x15, [sp, #{X} + 8 * 14]
    stp     x16, x17, [sp, #{X} + 8 * 16]
    stp     x18, x19, [sp, #{X} + 8 * 18]
    stp     x20, x21, [sp, #{X} + 8 * 20]
    stp     x22, x23, [sp, #{X} + 8 * 22]
    stp     x24, x25, [sp, #{X} + 8 * 24]
    stp     x26, x27, [sp, #{X} + 8 * 26]
    stp     x28, x29, [sp, #{X} + 8 * 28]
    stp     x30, x1, [sp, #{X} + 8 * 30]    // x30, SP
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x2, x3, [sp, #{ELR}]            // ELR, SPSR
    mrs     x4, esr_el1
    mrs     x5, far_el1
    stp     x4, x5, [sp, #{ESR}]            // ESR, FAR
    stp     x29, x2, [sp, #{RECORD}]        // the frame record of what was interrupted
    add     x29, sp, #{RECORD}
    .if {FP}
    mrs     x2, fpsr
    mrs     x3, fpcr
    stp     x2, x3, [sp, #{FP_STATUS}]
    add     x4, sp, #{Q}
    stp     q0, q1, [x4, #32 * 0]
    stp     q2, q3, [x4, #32 * 1]
    stp     q4, q5, [x4, #32 * 2]
    stp     q6, q7, [x4, #32 * 3]
    stp     q8, q9, [x4, #32 * 4]
    stp     q10, q11, [x4, #32 * 5]
    stp     q12, q13, [x4, #32 * 6]
    stp     q14, q15, [x4, #32 * 7]
    stp     q16, q17, [x4, #32 * 8]
    stp     q18, q19, [x4, #32 * 9]
    stp     q20, q21, [x4, #32 * 10]
    stp     q22, q23, [x4, #32 * 11]
    stp     q24, q25, [x4, #32 * 12]
    stp     q26, q27, [x4, #32 * 13]
    stp     q28, q29, [x4, #32 * 14]
    stp     q30, q31, [x4, #32 * 15]
    .endif

    mov     x1, sp                          // x0 = number, x1 = frame
    bl      {handler}
    .global support_handled
support_handled:

    .if {FP}
    add     x4, sp, #{Q}
    ldp     q0, q1, [x4, #32 * 0]
    ldp     q2, q3, [x4, #32 * 1]
    ldp     q4, q5, [x4, #32 * 2]
    ldp     q6, q7, [x4, #32 * 3]
    ldp     q8, q9, [x4, #32 * 4]
    ldp     q10, q11, [x4, #32 * 5]
    ldp     q12, q13, [x4, #32 * 6]
    ldp     q14, q15, [x4, #32 * 7]
    ldp     q16, q17, [x4, #32 * 8]
    ldp     q18, q19, [x4, #32 * 9]
    ldp     q20, q21, [x4, #32 * 10]
    ldp     q22, q23, [x4, #32 * 11]
    ldp     q24, q25, [x4, #32 * 12]
    ldp     q26, q27, [x4, #32 * 13]
    ldp     q28, q29, [x4, #32 * 14]
    ldp     q30, q31, [x4, #32 * 15]
    ldp     x2, x3, [sp, #{FP_STATUS}]
    msr     fpsr, x2
    msr     fpcr, x3
    .endif
    ldp     x2, x3, [sp, #{ELR}]
    msr     elr_el1, x2
    msr     spsr_el1, x3
    ldp     x2, x3, [sp, #{X} + 8 * 2]
    ldp     x4, x5, [sp, #{X} + 8 * 4]
    ldp     x6, x7, [sp, #{X} + 8 * 6]
    ldp     x8, x9, [sp, #{X} + 8 * 8]
    ldp     x10, x11, [sp, #{X} + 8 * 10]
    ldp     x12, x13, [sp, #{X} + 8 * 12]
    ldp     x14, x15, [sp, #{X} + 8 * 14]
    ldp     x16, x17, [sp, #{X} + 8 * 16]
    ldp     x18, x19, [sp, #{X} + 8 * 18]
    ldp     x20, x21, [sp, #{X} + 8 * 20]
    ldp     x22, x23, [sp, #{X} + 8 * 22]
    ldp     x24, x25, [sp, #{X} + 8 * 24]
    ldp     x26, x27, [sp, #{X} + 8 * 26]
    ldp     x28, x29, [sp, #{X} + 8 * 28]
    ldr     x30, [sp, #{X} + 8 * 30]
    // On the emergency stack SP does not come back by addition; only a fault that was caught returns from there, and
    // that sets SP itself.
    ldp     x0, x1, [sp, #{X}]
    add     sp, sp, #{SIZE}
    eret
    .size   support_save, . - support_save

    .popsection
    "#,
    SIZE = const size_of::<ExceptionFrame>(),
    X = const offset_of!(ExceptionFrame, x),
    ELR = const offset_of!(ExceptionFrame, elr),
    ESR = const offset_of!(ExceptionFrame, esr),
    RECORD = const offset_of!(ExceptionFrame, record),
    FP_STATUS = const offset_of!(ExceptionFrame, fp_status),
    Q = const offset_of!(ExceptionFrame, q),
    FP = const FP as usize,
    STACK_RESERVE = const offset_of!(PerCpu, stack_reserve),
    EMERGENCY_TOP = const offset_of!(PerCpu, emergency_top),
    handler = sym crate::exceptions::handle,
);
