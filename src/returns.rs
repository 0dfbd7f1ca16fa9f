//! The return stub: where a function returns whose return is hooked.
//!
//! Floor 3. [`ops`](crate::ops) has what a user sees of return hooks, [`shadow`](crate::shadow) where the real return
//! addresses are.
//!
//! # The contract
//! ```text
//!   at its start    x0-x7, x8, q0-q7: results (AAPCS64 6.5); x18-x29, SP: the caller's; x30: the stub itself
//!                   x9-x17, q16-q31 and the flags are free
//!   at the caller   x30: where it returns; all else as it was, or as the exit handler set it
//! ```
//!
//! On the stack it leaves the same picture as the entry stubs, so that a backtrace taken in an exit handler shows the
//! function and its caller. A RET needs no landing pad (Arm ARM D8.4.9.1), and since the function's return address was
//! replaced before it was signed, it authenticates as any other.
//!
//! # Which frame
//! The first from the top whose SP is that of the return. Those above it are of calls that never returned, and are dropped.
//! If there is none this return was not hooked, or was taken down before: nobody knows where to go, and the stub stops at a
//! BRK with the immediate [`LOST_RETURN`].

#[cfg(target_os = "none")]
use crate::ops::Ops;
#[cfg(target_os = "none")]
use crate::recursion::TraceContext;
#[cfg(target_os = "none")]
use crate::regs::FtraceRegs;
#[cfg(target_os = "none")]
use crate::shadow::ShadowFrame;
#[cfg(target_os = "none")]
use core::mem::offset_of;

/// The immediate of the BRK at which a return ends whose frame is not on the shadow stack.
pub const LOST_RETURN: u16 = 0xf7e;

#[cfg(target_os = "none")]
macro_rules! return_assembly {
    ($save_simd:literal, $restore_simd:literal) => {
        core::arch::global_asm!(
            ".pushsection .text.fentry_stubs, \"ax\", %progbits",
            "    .balign 16",
            "    .global fentry_return",
            "    .hidden fentry_return",
            "    .type fentry_return, %function",
            "    .global fentry_return_base",
            "    .hidden fentry_return_base",
            "    .global fentry_return_offset",
            "    .hidden fentry_return_offset",
            // The instruction before a return address is taken for the call by whoever looks its function up.
            "    nop",
            "fentry_return:",
            "fentry_return_base:",
            "    mrs   x10, tpidr_el1",                 // which register is written at init
            "fentry_return_offset:",
            "    add   x10, x10, #0",                   // x10 = this thread's TraceContext
            "    mov   x13, sp",
            "1:  ldp   x15, x11, [x10, {BUSY}]",        // x11 = behind the frame
            "    ldr   x12, [x11, {FRAME_SP} - {FRAME}]",
            "    cmp   x12, x13",
            "    b.ne  3f",
            "    cbnz  x15, 2f",                        // inside a callback of our own level
            "    str   x10, [x10, {BUSY}]",
            "    ldr   x14, [x11, {FRAME_OPS} - {FRAME}]",
            "    ldp   x9, x12, [x11, -{FRAME}]",       // x9 = the return address, x12 = the function
            "    stp   x29, x9, [sp, #-{REST}]!",
            "    stp   x0, x1, [sp, {X0} - 16]",
            "    stp   x2, x3, [sp, {X0}]",
            "    stp   x4, x5, [sp, {X0} + 16]",
            "    stp   x6, x7, [sp, {X0} + 32]",
            "    stp   x8, x10, [sp, {X8} - 16]",
            "    mov   x29, sp",
            "    stp   x29, x12, [sp, #-16]!",
            "    mov   x29, sp",
            $save_simd,
            "    ldr   x16, [x14, {EXIT}]",
            "    sub   x0, x11, {FRAME}",
            "    mov   x1, x29",
            "    blr   x16",
            $restore_simd,
            "    ldp   x8, x10, [sp, {X8}]",
            "    ldr   x11, [x10, {TOP}]",
            "    sub   x11, x11, {FRAME}",
            "    stp   xzr, x11, [x10, {BUSY}]",
            "    ldp   x6, x7, [sp, {X0} + 48]",
            "    ldp   x4, x5, [sp, {X0} + 32]",
            "    ldp   x2, x3, [sp, {X0} + 16]",
            "    ldp   x0, x1, [sp, {X0}]",
            "    ldp   x29, x9, [sp], #16",
            "    ldp   x29, x30, [sp], {REST}",
            "    ret",
            "2:  ldr   x30, [x11, -{FRAME}]",
            "    sub   x11, x11, {FRAME}",
            "    str   x11, [x10, {TOP}]",
            "    ret",
            "3:  mov   x14, xzr",                       // x14 = how many calls never returned
            "5:  cmn   x12, #1",                        // the lowest
            "    b.eq  4f",
            "    add   x14, x14, #1",
            "    sub   x11, x11, {FRAME}",
            "    ldr   x12, [x11, {FRAME_SP} - {FRAME}]",
            "    cmp   x12, x13",
            "    b.ne  5b",
            "    str   x11, [x10, {TOP}]",
            "    ldr   x12, [x10, {ABANDONED}]",
            "    add   x12, x12, x14",
            "    str   x12, [x10, {ABANDONED}]",
            "    b     1b",
            "4:  brk   {LOST_RETURN}",
            "    b     4b",
            "    .size fentry_return, . - fentry_return",
            "    .global fentry_return_stop",
            "    .hidden fentry_return_stop",
            "fentry_return_stop:",
            ".popsection",
            TOP = const offset_of!(TraceContext, shadow_top),
            BUSY = const offset_of!(TraceContext, busy),
            ABANDONED = const offset_of!(TraceContext, abandoned),
            FRAME = const size_of::<ShadowFrame>(),
            FRAME_SP = const offset_of!(ShadowFrame, sp),
            FRAME_OPS = const offset_of!(ShadowFrame, ops),
            EXIT = const offset_of!(Ops, exit_now),
            X0 = const offset_of!(FtraceRegs, x),
            X8 = const offset_of!(FtraceRegs, x) + 64,
            REST = const size_of::<FtraceRegs>() - 16,
            LOST_RETURN = const LOST_RETURN,
        );
    };
}

// `ldp x9, x12` and `ldp x15, x11` read both.
#[cfg(target_os = "none")]
const _: () = assert!(
    offset_of!(ShadowFrame, return_address) == 0
        && offset_of!(ShadowFrame, function) == 8
        && offset_of!(TraceContext, shadow_top) == offset_of!(TraceContext, busy) + 8
);

#[cfg(all(target_os = "none", target_feature = "neon"))]
return_assembly!(
    "stp q6, q7, [sp, #-128]!
    stp q4, q5, [sp, #32]
    stp q2, q3, [sp, #64]
    stp q0, q1, [sp, #96]",
    "ldp q0, q1, [sp, #96]
    ldp q2, q3, [sp, #64]
    ldp q4, q5, [sp, #32]
    ldp q6, q7, [sp], #128"
);

#[cfg(all(target_os = "none", not(target_feature = "neon")))]
return_assembly!("// q0-q7 are nobody's", "//");
