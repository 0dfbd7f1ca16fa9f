//! The entry stubs: what generated code goes on in when a callsite has several ops, or one that wants all registers.
//!
//! `ftrace_caller` saves what the AAPCS64 makes live at a function's entry, `ftrace_regs_caller` every register;
//! both then call the callbacks of a list, put back what they saved, and go on in the function or in a direct trampoline.
//! The list, and the few instructions that come here with its address, are what `stub` generates for each set of
//! ops.
//!
//! # The contract
//! A callsite has run `MOV X9, LR; BL stub`, so:
//!
//! ```text
//!   at the stub's start     x9   where the function will return to, not signed yet
//!                           x30  where the function goes on, behind the BL
//!                           x0-x8, x18-x29, SP, q0-q7 are live; x10-x17, q16-q31 and the flags are free
//!                           x11  the list (x17 for ftrace_regs_caller, which shows x10 to x15 as they were)
//!   at the function         x30  where it will return to; all that is live as it was, or as a callback set it
//!                           x9   where it goes on: RET X9, since a BR would need a landing pad there
//! ```
//!
//! x18 is never written: as the platform register it is not the callback's to change either, and as a temporary it is dead.
//! SVE's Z and P registers are not saved; a kernel that passes them between its own functions can't be traced with this.
//!
//! # The list
//! ```text
//!   list:  [ 1 if an ops is recursion-safe | &Ops, &Ops, ... | 0 | the direct trampoline, or 0 ]
//! ```
//!
//! # On the stack
//! [`regs`](crate::context::regs) has the picture. Every stub leaves the same one, so that a callback can't tell them apart.
//!
//! # Before any Rust
//! The recursion guard is looked at here (see [`context`](crate::context)). The base register and the offset of the
//! context are the platform's to choose, so the two instructions that hold them are written at init, before a callsite can
//! be enabled.

use crate::address::{TextAddr, TextRange};
use crate::callsite::WordChange;
#[cfg(target_os = "none")]
use crate::context::TraceContext;
#[cfg(target_os = "none")]
use crate::context::regs::{PtRegs, SavedRegs};
use crate::insn::{EncodeError, Insn, Reg, RegOrSp, SysReg};
#[cfg(target_os = "none")]
use crate::ops::{Ops, OpsFlags};
use crate::platform::{BaseRegister, ContextBase};
#[cfg(target_os = "none")]
use core::mem::offset_of;

/// The stubs of one engine, and the room for what it generates.
#[derive(Clone, Copy, Debug)]
pub struct Stubs {
    /// Saves [`FtraceRegs`](crate::FtraceRegs).
    pub caller: LinkedStub,
    /// Saves [`PtRegs`](crate::PtRegs) as well.
    pub regs_caller: LinkedStub,
    /// Counts a miss for each ops of the list at x11, and goes on; x10 is the context.
    pub miss: TextAddr,
    /// Goes on without a count.
    pub skip: TextAddr,
    /// Where a function returns whose return is hooked.
    pub returning: LinkedStub,
    /// All of their instructions: a thread that is interrupted there may be on its way to a callback, or back.
    pub text: [TextRange; 2],
    /// Where code can be generated: text that is mapped, and that nobody else uses.
    pub room: TextRange,
}

/// What is the same for all stubs of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StubEnv {
    pub(crate) stubs: Stubs,
    /// Where the thread's context is.
    pub(crate) context: ContextBase,
    /// Where the CPU's area is, if the platform has one.
    pub(crate) cpu: Option<ContextBase>,
    /// Whether the CPUs have atomic additions.
    pub(crate) atomics: bool,
}

/// One stub: where it begins, and where its two instructions are that find the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkedStub {
    /// Where generated code goes on.
    pub entry: TextAddr,
    /// `MRS X10, <base register>`.
    pub base: TextAddr,
    /// `ADD X10, X10, #<offset>`.
    pub offset: TextAddr,
}

impl LinkedStub {
    /// Returns the changes of text that make the stub use this context base.
    pub(crate) fn changes(&self, base: ContextBase) -> Result<[WordChange<u32>; 2], EncodeError> {
        let (old_mrs, old_add) = (mrs(BaseRegister::TpidrEl1), add(0)?);
        Ok([
            WordChange { at: self.base, old: old_mrs, new: mrs(base.register) },
            WordChange { at: self.offset, old: old_add, new: add(base.offset)? },
        ])
    }
}

/// The system register that is a base register.
pub(crate) const fn system_register(register: BaseRegister) -> SysReg {
    match register {
        BaseRegister::TpidrEl1 => SysReg::TPIDR_EL1,
        BaseRegister::TpidrEl2 => SysReg::TPIDR_EL2,
        BaseRegister::TpidrEl0 => SysReg::TPIDR_EL0,
        BaseRegister::TpidrroEl0 => SysReg::TPIDRRO_EL0,
        BaseRegister::SpEl0 => SysReg::SP_EL0,
    }
}

/// `MRS X10, <base register>`.
pub(crate) const fn mrs(register: BaseRegister) -> u32 {
    Insn::mrs(Reg::X10, system_register(register)).encode()
}

/// `ADD X10, X10, #offset`.
pub(crate) fn add(offset: u16) -> Result<u32, EncodeError> {
    Insn::add_imm(RegOrSp::X10, RegOrSp::X10, u32::from(offset)).map(Insn::encode)
}

#[cfg(target_os = "none")]
impl Stubs {
    /// The stubs in the assembly below, with the room that the linker script reserves.
    pub(crate) fn linked() -> Self {
        unsafe extern "C" {
            fn ftrace_caller();
            fn ftrace_regs_caller();
            static fentry_miss: u32;
            static fentry_skip: u32;
            static fentry_stub_text_start: u32;
            static fentry_stub_text_stop: u32;
            static fentry_return_stop: u32;
            static fentry_return: u32;
            static fentry_return_base: u32;
            static fentry_return_offset: u32;
            static fentry_caller_base: u32;
            static fentry_caller_offset: u32;
            static fentry_regs_caller_base: u32;
            static fentry_regs_caller_offset: u32;
            static __fentry_stubs_start: u32;
            static __fentry_stubs_stop: u32;
        }
        let code = |stub: unsafe extern "C" fn()| TextAddr::new((stub as *const ()).addr() as u64);
        let word = |label: *const u32| TextAddr::new(label.addr() as u64);
        Self {
            caller: LinkedStub {
                entry: code(ftrace_caller),
                base: word(&raw const fentry_caller_base),
                offset: word(&raw const fentry_caller_offset),
            },
            regs_caller: LinkedStub {
                entry: code(ftrace_regs_caller),
                base: word(&raw const fentry_regs_caller_base),
                offset: word(&raw const fentry_regs_caller_offset),
            },
            returning: LinkedStub {
                entry: word(&raw const fentry_return),
                base: word(&raw const fentry_return_base),
                offset: word(&raw const fentry_return_offset),
            },
            miss: word(&raw const fentry_miss),
            skip: word(&raw const fentry_skip),
            text: [
                TextRange::new(word(&raw const fentry_stub_text_start), word(&raw const fentry_stub_text_stop)),
                TextRange::new(word(&raw const fentry_return), word(&raw const fentry_return_stop)),
            ],
            room: TextRange::new(word(&raw const __fentry_stubs_start), word(&raw const __fentry_stubs_stop)),
        }
    }
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".pushsection .text.fentry_stubs, \"ax\", %progbits",
    // x10 = this thread's TraceContext, x12 = what `busy` was. No flags are changed.
    ".macro fentry_guard skip, busy, base, offset",
    ".global \\base",
    ".hidden \\base",
    ".global \\offset",
    ".hidden \\offset",
    "\\base:",
    "    mrs   x10, tpidr_el1",                 // x10 = the base; which register is written at init
    "    cbz   x10, \\skip",                    // zero: this CPU isn't ready to be traced
    "\\offset:",
    "    add   x10, x10, #0",                   // the offset is written at init
    "    ldr   x12, [x10, {BUSY}]",
    "    cbnz  x12, \\busy",                    // inside a callback of our own level
    "\\busy\\()_go_on:",
    "    str   x10, [x10, {BUSY}]",             // anything but zero
    ".endm",

    // Inside a callback only what is recursion-safe is called.
    ".macro fentry_busy name, undo",
    "\\name:",
    "    ldr   x13, [x11]",
    "    cbnz  x13, \\name\\()_go_on",
    "    \\undo",
    "    b     fentry_miss",
    ".endm",

    // Where x29 is the SavedRegs: calls every ops of the list at x11, and returns to the function.
    ".macro fentry_call_list_and_return context=, drop=",
    crate::__frame_simd!(save_simd),
    "    stp   x21, x22, [sp, #-32]!",
    "    stp   x19, x20, [sp, #16]",
    "    mov   x19, x11",                       // x19 = the place in the list
    "    mov   x20, x12",                       // x20 = what `busy` was
    "    sub   x21, x30, #4",                   // x21 = ip
    "    mov   x22, x9",                        // x22 = parent_ip
    "    ldr   x2, [x19, #8]!",                 // there is one
    "    cbnz  x20, 5f",
    "2:  ldr   x12, [x2, {CALLBACK}]",
    "    mov   x0, x21",
    "    mov   x1, x22",
    "    mov   x3, x29",
    "    blr   x12",
    "    ldr   x2, [x19, #8]!",
    "    cbnz  x2, 2b",
    "3:  ldr   x16, [x19, #8]",                 // x16 = the direct trampoline, or 0
    "    ldp   x8, x10, [x29, {X8}]",
    "    \\context",
    "    str   x20, [x10, {BUSY}]",             // the guard first: nothing from here on can call anything
    "    ldp   x19, x20, [sp, #16]",
    "    ldp   x21, x22, [sp], #32",
    crate::__frame_simd!(restore_simd),
    "    \\drop",
    // x9 = where to go on: the function, or where a callback sent us; x29 is the caller's again, x30 the return address
    crate::__frame!(text: restore),
    "    cbnz  x16, 4f",
    "    ret   x9",
    "4:  mov   x10, x9",                        // as the callsite would call it: x9 and x30 as they were there
    "    mov   x9, x30",
    "    mov   x30, x10",
    "    br    x16",
    "5:  ldr   w12, [x2, {FLAGS}]",             // inside a callback: only what is recursion-safe
    "    tbnz  w12, {RECURSION_SAFE}, 7f",
    "    add   x12, x2, {OPS_MISSES}",
    "6:  ldxr  x13, [x12]",
    "    add   x13, x13, #1",
    "    stxr  w14, x13, [x12]",
    "    cbnz  w14, 6b",
    "    b     8f",
    "7:  ldr   x12, [x2, {CALLBACK}]",
    "    mov   x0, x21",
    "    mov   x1, x22",
    "    mov   x3, x29",
    "    blr   x12",
    "8:  ldr   x2, [x19, #8]!",
    "    cbnz  x2, 5b",
    "    b     3b",
    ".endm",

    "    .balign 16",
    "    .global ftrace_caller",
    "    .type ftrace_caller, %function",
    "    .global fentry_stub_text_start",
    "    .hidden fentry_stub_text_start",
    "fentry_stub_text_start:",
    "ftrace_caller:",
    "    fentry_guard fentry_skip, .Lfentry_caller_busy, fentry_caller_base, fentry_caller_offset",
    crate::__frame!(text: save(X10, X30)),
    "    fentry_call_list_and_return",
    "    fentry_busy .Lfentry_caller_busy, nop",
    "    .size ftrace_caller, . - ftrace_caller",

    "    .balign 16",
    "    .global ftrace_regs_caller",
    "    .type ftrace_regs_caller, %function",
    "ftrace_regs_caller:",
    "    sub   sp, sp, {PT_REGS} + {LIVE}",     // sp = the PtRegs
    "    stp   x10, x11, [sp, 80]",             // before the guard, which needs x10-x13
    "    stp   x12, x13, [sp, 96]",
    "    mov   x11, x17",
    "    fentry_guard .Lfentry_regs_caller_skip, .Lfentry_regs_caller_busy, fentry_regs_caller_base, \
             fentry_regs_caller_offset",
    crate::__frame!(text: store_arguments(0)),
    "    stp   x8, x9, [sp, 64]",
    "    stp   x14, x15, [sp, 112]",
    "    stp   x16, x17, [sp, 128]",
    "    stp   x18, x19, [sp, 144]",
    "    stp   x20, x21, [sp, 160]",
    "    stp   x22, x23, [sp, 176]",
    "    stp   x24, x25, [sp, 192]",
    "    stp   x26, x27, [sp, 208]",
    "    stp   x28, x29, [sp, 224]",
    "    add   x13, sp, {PT_REGS} + {LIVE}",
    "    stp   x9, x13, [sp, 240]",             // x30 is the return address, as at any function's entry
    "    mrs   x14, nzcv",                      // no instruction above sets the flags
    "    mrs   x15, daif",
    "    orr   x14, x14, x15",
    "    mrs   x15, CurrentEL",
    "    orr   x14, x14, x15",
    "    mrs   x15, SPSel",
    "    orr   x14, x14, x15",
    "    stp   x30, x14, [sp, 256]",            // pc, pstate
    // Not pushed as elsewhere: SP is below already.
    crate::__frame!(text: store_arguments("{PT_REGS} + {X0}")),
    "    orr   x10, x10, {ALL_SAVED}",
    "    stp   x8, x10, [sp, {PT_REGS} + {X8}]",
    "    stp   x29, x9, [sp, {PT_REGS} + 16]",  // the two records
    "    add   x29, sp, {PT_REGS} + 16",
    "    stp   x29, x30, [sp, {PT_REGS}]",
    "    add   x29, sp, {PT_REGS}",
    "    fentry_call_list_and_return \"and x10, x10, {CONTEXT_MASK}\", \"mov sp, x29\"",
    "    fentry_busy .Lfentry_regs_caller_busy, \"add sp, sp, {PT_REGS} + {LIVE}\"",
    ".Lfentry_regs_caller_skip:",
    "    add   sp, sp, {PT_REGS} + {LIVE}",
    "    b     fentry_skip",
    "    .size ftrace_regs_caller, . - ftrace_regs_caller",

    // x10 = the context, x11 = the list.
    "    .global fentry_miss",
    "    .hidden fentry_miss",
    "fentry_miss:",
    "    add   x12, x10, {MISSES}",
    "5:  ldxr  x13, [x12]",                     // an interrupt may miss one as well
    "    add   x13, x13, #1",
    "    stxr  w14, x13, [x12]",
    "    cbnz  w14, 5b",
    "1:  ldr   x12, [x11, #8]!",
    "    cbz   x12, 3f",
    "    add   x12, x12, {OPS_MISSES}",
    "2:  ldxr  x13, [x12]",                     // other CPUs miss it as well
    "    add   x13, x13, #1",
    "    stxr  w14, x13, [x12]",
    "    cbnz  w14, 2b",
    "    b     1b",
    "    .global fentry_skip",
    "    .hidden fentry_skip",
    "fentry_skip:",
    "    ldr   x12, [x11, #8]!",
    "    cbnz  x12, fentry_skip",
    "3:  ldr   x16, [x11, #8]",
    "    cbnz  x16, 4f",
    "    mov   x10, x30",                       // on in the function, as if the callsite were disabled
    "    mov   x30, x9",
    "    ret   x10",
    "4:  br    x16",
    "    .global fentry_stub_text_stop",
    "    .hidden fentry_stub_text_stop",
    "fentry_stub_text_stop:",

    ".purgem fentry_guard",
    ".purgem fentry_busy",
    ".purgem fentry_call_list_and_return",
    ".popsection",
    BUSY = const offset_of!(TraceContext, busy),
    MISSES = const offset_of!(TraceContext, misses),
    CALLBACK = const offset_of!(Ops, callback),
    FLAGS = const offset_of!(Ops, flags),
    OPS_MISSES = const offset_of!(Ops, misses),
    RECURSION_SAFE = const OpsFlags::RECURSION_SAFE.bits().trailing_zeros(),
    X0 = const offset_of!(SavedRegs, x),
    X8 = const offset_of!(SavedRegs, x) + 64,
    LIVE = const size_of::<SavedRegs>(),
    PT_REGS = const size_of::<PtRegs>(),
    ALL_SAVED = const SavedRegs::ALL_SAVED,
    CONTEXT_MASK = const !SavedRegs::ALL_SAVED as i64,
);

// `stp x8, x10` writes x8 and the context; the rest is pairs of neighbours.
#[cfg(target_os = "none")]
const _: () = assert!(
    offset_of!(SavedRegs, caller_record) == 16
        && offset_of!(SavedRegs, context) == offset_of!(SavedRegs, x) + 72
        && offset_of!(PtRegs, sp) == 248
        && offset_of!(PtRegs, pstate) == 264
);
