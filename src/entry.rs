//! The entry stubs: what a callsite calls.
//!
//! Floor 3. `ftrace_caller` saves what the AAPCS64 makes live at a function's entry, `ftrace_regs_caller` every register;
//! both then call the dispatcher, put back what they saved, and go on in the function.
//!
//! # The contract
//! A callsite has run `MOV X9, LR; BL stub`, so:
//!
//! ```text
//!   at the stub's start     x9   where the function will return to, not signed yet
//!                           x30  where the function goes on, behind the BL
//!                           x0-x8, x18-x29, SP, q0-q7 are live; x10-x17, q16-q31 and the flags are free
//!   at the function         x30  where it will return to; all that is live as it was, or as a callback set it
//!                           x9   where it goes on: RET X9, since a BR would need a landing pad there
//! ```
//!
//! x18 is never written: as the platform register it is not the callback's to change either, and as a temporary it is dead.
//! SVE's Z and P registers are not saved; a kernel that passes them between its own functions can't be traced with this.
//!
//! # On the stack
//! ```text
//!   SP at the callsite ->  +----------------------+
//!                          | x29, x9              |  the caller's frame record, as the function is about to make it
//!                          | x29', x30            |  a record of the traced function: a walker finds both (AAPCS64 6.4.6)
//!                          | the TraceContext     |
//!                          | q0-q7                |  where the kernel is compiled for SIMD registers
//!                          | PtRegs               |
//!   SP in the callback ->  +----------------------+
//! ```
//!
//! # Before any Rust
//! The recursion guard is looked at here (see [`recursion`](crate::recursion)). The base register and the offset of the
//! context are the platform's to choose, so the two instructions that hold them are written at init, before a callsite can
//! be enabled.

use crate::address::{TextAddr, TextRange};
use crate::callsite::Change;
use crate::insn::{EncodeError, Insn, Reg, RegOrSp, SysReg};
use crate::ops::Ops;
use crate::platform::{BaseRegister, ContextBase};
use crate::recursion::TraceContext;
use crate::regs::{FtraceRegs, PtRegs};
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, Ordering};

/// A stub's stack frame.
#[repr(C, align(16))]
struct Frame {
    regs: PtRegs,
    q: [u128; SIMD_REGISTERS],
    context: u64,
    padding: u64,
    function_record: [u64; 2],
    caller_record: [u64; 2],
}

/// q0 to q7 carry arguments (AAPCS64 6.1.2); without SIMD registers in the ABI there are none to keep.
const SIMD_REGISTERS: usize = if cfg!(target_feature = "neon") { 8 } else { 0 };

const _: () = assert!(size_of::<Frame>().is_multiple_of(16) && size_of::<PtRegs>().is_multiple_of(16));

/// The ops that the stubs' callbacks belong to (Linux `function_trace_op`); null while there is none.
static FUNCTION_TRACE_OP: AtomicPtr<Ops> = AtomicPtr::new(core::ptr::null_mut());

/// The stubs of one engine, and the cell that says whose callback they call.
#[derive(Clone, Copy, Debug)]
pub struct Stubs {
    /// Saves [`FtraceRegs`].
    pub caller: Stub,
    /// Saves [`PtRegs`].
    pub regs_caller: Stub,
    /// All of their instructions: a thread that is interrupted there may be on its way to a callback, or back.
    pub text: TextRange,
    /// Whose callback.
    pub(crate) current: &'static AtomicPtr<Ops>,
}

/// One stub: where it begins, and where its two instructions are that find the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stub {
    /// What a callsite calls.
    pub entry: TextAddr,
    /// `MRS X10, <base register>`.
    pub base: TextAddr,
    /// `ADD X10, X10, #<offset>`.
    pub offset: TextAddr,
}

impl Stub {
    /// What makes the stub use this context base.
    pub(crate) fn changes(&self, base: ContextBase) -> Result<[Change<u32>; 2], EncodeError> {
        let (old_mrs, old_add) = (mrs(BaseRegister::TpidrEl1), add(0)?);
        Ok([
            Change { at: self.base, old: old_mrs, new: mrs(base.register) },
            Change { at: self.offset, old: old_add, new: add(base.offset)? },
        ])
    }
}

const fn mrs(register: BaseRegister) -> u32 {
    let register = match register {
        BaseRegister::TpidrEl1 => SysReg::TPIDR_EL1,
        BaseRegister::TpidrEl2 => SysReg::TPIDR_EL2,
        BaseRegister::TpidrEl0 => SysReg::TPIDR_EL0,
        BaseRegister::TpidrroEl0 => SysReg::TPIDRRO_EL0,
        BaseRegister::SpEl0 => SysReg::SP_EL0,
    };
    Insn::mrs(Reg::X10, register).encode()
}

fn add(offset: u16) -> Result<u32, EncodeError> {
    Insn::add_imm(RegOrSp::X10, RegOrSp::X10, u32::from(offset)).map(Insn::encode)
}

/// Calls the callback, with the guard already taken by the stub.
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "only the assembly calls it"))]
extern "C" fn dispatch(regs: &mut FtraceRegs) {
    let ops = FUNCTION_TRACE_OP.load(Ordering::Acquire);
    // SAFETY: null, or stored from a `&'static Ops` by the engine.
    let Some(ops) = (unsafe { ops.as_ref() }) else { return };
    ops.call(regs.pc().offset(-4), regs.return_address(), regs);
}

#[cfg(target_os = "none")]
impl Stubs {
    /// The stubs in the assembly below.
    pub(crate) fn linked() -> Self {
        unsafe extern "C" {
            fn ftrace_caller();
            fn ftrace_regs_caller();
            static fentry_stub_text_start: u32;
            static fentry_stub_text_stop: u32;
            static fentry_caller_base: u32;
            static fentry_caller_offset: u32;
            static fentry_regs_caller_base: u32;
            static fentry_regs_caller_offset: u32;
        }
        let code = |stub: unsafe extern "C" fn()| TextAddr::new((stub as *const ()).addr() as u64);
        let word = |label: *const u32| TextAddr::new(label.addr() as u64);
        Self {
            caller: Stub {
                entry: code(ftrace_caller),
                base: word(&raw const fentry_caller_base),
                offset: word(&raw const fentry_caller_offset),
            },
            regs_caller: Stub {
                entry: code(ftrace_regs_caller),
                base: word(&raw const fentry_regs_caller_base),
                offset: word(&raw const fentry_regs_caller_offset),
            },
            text: TextRange::new(word(&raw const fentry_stub_text_start), word(&raw const fentry_stub_text_stop)),
            current: &FUNCTION_TRACE_OP,
        }
    }
}

#[cfg(target_os = "none")]
macro_rules! stub_assembly {
    ($save_simd:literal, $restore_simd:literal) => {
        core::arch::global_asm!(
            ".pushsection .text.fentry_stubs, \"ax\", %progbits",
            // Only x10-x13 are changed before the guard has been taken, and no flags.
            ".macro fentry_guard skip, base, offset",
            ".global \\base",
            ".hidden \\base",
            ".global \\offset",
            ".hidden \\offset",
            "\\base:",
            "    mrs   x10, tpidr_el1",                 // x10 = the base; which register is written at init
            "    cbz   x10, \\skip",                    // zero: this CPU isn't ready to be traced
            "\\offset:",
            "    add   x10, x10, #0",                   // x10 = this thread's TraceContext; the offset is written at init
            "    ldp   w11, w12, [x10, {LEVEL}]",       // w11 = our level's bit, w12 = the levels inside a callback
            "    and   w13, w11, w12",
            "    cbnz  w13, \\skip\\()_miss",           // inside a callback of our own level: not again
            "    orr   w12, w12, w11",
            "    str   w12, [x10, {ACTIVE}]",
            ".endm",

            ".macro fentry_skip name, undo",
            "\\name\\()_miss:",
            "    ldr   x11, [x10, {MISSES}]",
            "    add   x11, x11, #1",
            "    str   x11, [x10, {MISSES}]",
            "\\name:",
            "    \\undo",
            "    mov   x10, x30",                       // on in the function, as if the callsite were disabled
            "    mov   x30, x9",
            "    ret   x10",
            ".endm",

            // From here on SP is the frame, and x13 the SP of the callsite.
            ".macro fentry_save_live",
            "    stp   x0, x1, [sp, {X0}]",
            "    stp   x2, x3, [sp, {X0} + 16]",
            "    stp   x4, x5, [sp, {X0} + 32]",
            "    stp   x6, x7, [sp, {X0} + 48]",
            "    stp   x8, x9, [sp, {X0} + 64]",
            "    stp   x29, x9, [sp, {X0} + 232]",      // regs[29], regs[30]: the caller's frame, the return address
            "    stp   x13, x30, [sp, {SP}]",           // sp, pc
            "    str   x10, [sp, {CONTEXT}]",
            $save_simd,
            // Two records: x29 -> {{function_record}} -> {{caller_record}} -> the caller's own.
            "    stp   x29, x9, [sp, {CALLER_RECORD}]",
            "    add   x29, sp, {CALLER_RECORD}",
            "    stp   x29, x30, [sp, {FUNCTION_RECORD}]",
            "    add   x29, sp, {FUNCTION_RECORD}",
            ".endm",

            ".macro fentry_call_and_return",
            "    mov   x0, sp",
            "    bl    {dispatch}",
            // The guard first: nothing from here on can call anything.
            "    ldr   x10, [sp, {CONTEXT}]",
            "    ldp   w11, w12, [x10, {LEVEL}]",
            "    bic   w12, w12, w11",
            "    str   w12, [x10, {ACTIVE}]",
            $restore_simd,
            "    ldp   x0, x1, [sp, {X0}]",
            "    ldp   x2, x3, [sp, {X0} + 16]",
            "    ldp   x4, x5, [sp, {X0} + 32]",
            "    ldp   x6, x7, [sp, {X0} + 48]",
            "    ldr   x8, [sp, {X0} + 64]",
            "    ldp   x29, x30, [sp, {X0} + 232]",     // x29 is the caller's again, x30 the return address
            "    ldr   x9, [sp, {PC}]",                 // the function, or where a callback sent us
            "    add   sp, sp, {FRAME}",
            "    ret   x9",
            ".endm",

            "    .balign 16",
            ".global fentry_stub_text_start",
            ".hidden fentry_stub_text_start",
            "fentry_stub_text_start:",
            "    .global ftrace_caller",
            "    .type ftrace_caller, %function",
            "ftrace_caller:",
            "    hint  #34",                            // BTI C: a far callsite comes through a veneer's BR
            "    fentry_guard .Lfentry_caller_skip, fentry_caller_base, fentry_caller_offset",
            "    mov   x13, sp",
            "    sub   sp, sp, {FRAME}",
            "    str   xzr, [sp, {PSTATE}]",            // 0: only the live registers were saved
            "    fentry_save_live",
            "    fentry_call_and_return",
            "    fentry_skip .Lfentry_caller_skip, nop",
            "    .size ftrace_caller, . - ftrace_caller",

            "    .balign 16",
            "    .global ftrace_regs_caller",
            "    .type ftrace_regs_caller, %function",
            "ftrace_regs_caller:",
            "    hint  #34",
            "    sub   sp, sp, {FRAME}",                // before the guard, which needs x10-x13
            "    stp   x10, x11, [sp, {X0} + 80]",
            "    stp   x12, x13, [sp, {X0} + 96]",
            "    fentry_guard .Lfentry_regs_caller_skip, fentry_regs_caller_base, fentry_regs_caller_offset",
            "    stp   x14, x15, [sp, {X0} + 112]",
            "    stp   x16, x17, [sp, {X0} + 128]",
            "    stp   x18, x19, [sp, {X0} + 144]",
            "    stp   x20, x21, [sp, {X0} + 160]",
            "    stp   x22, x23, [sp, {X0} + 176]",
            "    stp   x24, x25, [sp, {X0} + 192]",
            "    stp   x26, x27, [sp, {X0} + 208]",
            "    str   x28, [sp, {X0} + 224]",
            "    mrs   x11, nzcv",                      // no instruction above sets the flags
            "    mrs   x12, daif",
            "    orr   x11, x11, x12",
            "    mrs   x12, CurrentEL",
            "    orr   x11, x11, x12",
            "    mrs   x12, SPSel",
            "    orr   x11, x11, x12",
            "    str   x11, [sp, {PSTATE}]",
            "    add   x13, sp, {FRAME}",
            "    fentry_save_live",
            "    fentry_call_and_return",
            "    fentry_skip .Lfentry_regs_caller_skip, \"add sp, sp, {FRAME}\"",
            "    .size ftrace_regs_caller, . - ftrace_regs_caller",
            ".global fentry_stub_text_stop",
            ".hidden fentry_stub_text_stop",
            "fentry_stub_text_stop:",

            ".purgem fentry_guard",
            ".purgem fentry_skip",
            ".purgem fentry_save_live",
            ".purgem fentry_call_and_return",
            ".popsection",
            dispatch = sym dispatch,
            LEVEL = const offset_of!(TraceContext, level),
            ACTIVE = const offset_of!(TraceContext, active),
            MISSES = const offset_of!(TraceContext, misses),
            FRAME = const size_of::<Frame>(),
            X0 = const offset_of!(Frame, regs.regs),
            SP = const offset_of!(Frame, regs.sp),
            PC = const offset_of!(Frame, regs.pc),
            PSTATE = const offset_of!(Frame, regs.pstate),
            CONTEXT = const offset_of!(Frame, context),
            FUNCTION_RECORD = const offset_of!(Frame, function_record),
            CALLER_RECORD = const offset_of!(Frame, caller_record),
            Q0 = const offset_of!(Frame, q),
        );
    };
}

// `ldp w11, w12` reads both words of the guard at once; `stp x13, x30` writes sp and pc.
const _: () = assert!(offset_of!(TraceContext, active) == offset_of!(TraceContext, level) + 4);
const _: () = assert!(offset_of!(PtRegs, pc) == offset_of!(PtRegs, sp) + 8);

#[cfg(all(target_os = "none", target_feature = "neon"))]
stub_assembly!(
    "stp q0, q1, [sp, {Q0}]
    stp q2, q3, [sp, {Q0} + 32]
    stp q4, q5, [sp, {Q0} + 64]
    stp q6, q7, [sp, {Q0} + 96]",
    "ldp q0, q1, [sp, {Q0}]
    ldp q2, q3, [sp, {Q0} + 32]
    ldp q4, q5, [sp, {Q0} + 64]
    ldp q6, q7, [sp, {Q0} + 96]"
);

#[cfg(all(target_os = "none", not(target_feature = "neon")))]
stub_assembly!("// q0-q7 are nobody's: {Q0}", "// {Q0}");
