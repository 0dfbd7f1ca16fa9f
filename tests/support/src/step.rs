//! Code that is executed one instruction at a time: before each, a hook is called.
//!
//! By software step exceptions (Arm ARM D2.12): with MDSCR_EL1.SS set, an exception return with SPSR_EL1.SS set executes one
//! instruction, and the exception that follows leads to the next. What the handler itself does is not stepped, since an
//! exception masks debug exceptions (PSTATE.D).
//!
//! Each exception clears the exclusive monitor, so a store exclusive would fail for ever. It is carried out here instead, as
//! nothing else runs meanwhile that could have stored.

use crate::vectors::ExceptionFrame;
use core::arch::asm;
use core::sync::atomic::{AtomicPtr, Ordering};

/// MDSCR_EL1: software step, and debug exceptions from the level that handles them.
const STEP: u64 = 1 | 1 << 13;
/// SPSR_EL1: one instruction, then the exception.
const ONE: u64 = 1 << 21;

/// What is called with the registers before each instruction.
pub type StepHook = fn(&ExceptionFrame);

static HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Begins with the caller's next instructions, on this CPU, whose other CPUs don't run.
#[inline(always)]
pub fn start(hook: StepHook) {
    HOOK.store(hook as *mut (), Ordering::Release);
    // SAFETY: the handler below takes the exceptions; OSLAR_EL1 unlocks nothing else.
    unsafe { asm!("msr oslar_el1, xzr", "isb", "msr mdscr_el1, {}", "isb", in(reg) STEP, options(nostack)) };
}

/// Ends it.
#[inline(always)]
pub fn stop() {
    // SAFETY: no exceptions any more.
    unsafe { asm!("msr mdscr_el1, xzr", "isb", options(nostack)) };
}

/// Handles a software step exception, if somebody has started them.
pub(crate) fn handle(frame: &mut ExceptionFrame) -> bool {
    let hook = HOOK.load(Ordering::Acquire);
    if hook.is_null() {
        return false;
    }
    // SAFETY: `start` stored a function of exactly this type.
    let hook = unsafe { core::mem::transmute::<*mut (), StepHook>(hook) };
    loop {
        hook(frame);
        if !store_exclusive(frame) {
            break;
        }
    }
    frame.spsr |= ONE;
    true
}

/// Carries out the next instruction if it is a store exclusive of one register.
fn store_exclusive(frame: &mut ExceptionFrame) -> bool {
    // SAFETY: the instruction that is to be executed next.
    let word = unsafe { core::ptr::with_exposed_provenance::<u32>(frame.elr as usize).read_volatile() };
    // STXR and STLXR of each size (Arm ARM C4.1.94.6).
    if word & 0x3fe0_0000 != 0x0800_0000 {
        return false;
    }
    let field = |at: u32| (word >> at & 31) as usize;
    let (base, value) = (field(5), frame.x.get(field(0)).copied().unwrap_or(0));
    let address = frame.x.get(base).copied().unwrap_or(frame.sp) as usize;
    let bytes = value.to_le_bytes();
    let to = core::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: what the instruction would store, where it would: up to eight bytes.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), 1 << (word >> 30)) };
    if let Some(status) = frame.x.get_mut(field(16)) {
        *status = 0;
    }
    frame.elr += 4;
    true
}
