//! The registers at a probe, as its handlers see them.

use crate::address::TextAddr;
use crate::context::regs::{FtraceRegs, PtRegs};
#[cfg(target_os = "none")]
use aarch64_cpu::registers::{CurrentEL, DAIF, Readable, SPSel};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// The registers at a probed instruction: before it, or after it.
///
/// A view of what was saved, as [`FtraceRegs`] is one. Reading is always right. What is written is what the interrupted code goes
/// on with, so the setters are unsafe.
///
/// # Invariants
///
/// By the lowest bits of `saved`, the rest of it is what a [`FtraceRegs`] holds, or the address of a `JumpRegs` or of a
/// `BreakpointRegs`, which for `'a` nobody else uses.
#[repr(transparent)]
pub struct KprobeRegs<'a> {
    saved: NonNull<u8>,
    probed: PhantomData<&'a mut PtRegs>,
}

/// What the lowest bits of the address say: at a function's entry they are zero.
pub(super) const AT_JUMP: usize = 1;
const AT_BREAKPOINT: usize = 2;
const KINDS: usize = AT_JUMP | AT_BREAKPOINT;

/// What a detour saves: its stack frame, from SP on.
#[repr(C, align(16))]
pub(super) struct JumpRegs {
    /// x0 to x30.
    pub(super) regs: [u64; 31],
    /// The flags, as NZCV has them.
    pub(super) nzcv: u64,
    /// A frame record: x29; and where the probed instruction is.
    pub(super) record: [u64; 2],
}

/// Whether compiled code uses the SIMD registers, of which the handlers keep only some.
pub(super) const HAS_SIMD: bool = cfg!(target_feature = "neon");

/// The bytes that a detour takes of the stack: with q0 to q31, FPSR and FPCR where they are in use.
pub(super) const fn frame_bytes(has_simd: bool) -> usize {
    size_of::<JumpRegs>() + if has_simd { 32 * 16 + 16 } else { 0 }
}

/// What the handlers at a breakpoint work with.
pub(super) struct BreakpointRegs<'a> {
    pub(super) regs: &'a mut PtRegs,
    /// Whether a handler has said where execution goes on.
    pub(super) is_elsewhere: bool,
}

enum Saved<'a> {
    Entry(&'a FtraceRegs<'a>),
    Jump(&'a JumpRegs),
    Breakpoint(&'a PtRegs),
}

impl<'a> KprobeRegs<'a> {
    /// Those at a breakpoint.
    pub(super) const fn at_breakpoint(regs: &'a mut BreakpointRegs<'_>) -> Self {
        // INVARIANT: they are borrowed as long as the view lives, and the address is even.
        let saved = NonNull::from_mut(regs).cast::<u8>();
        // SAFETY: inside the object, which is a pointer long at least.
        Self { saved: unsafe { saved.add(AT_BREAKPOINT) }, probed: PhantomData }
    }

    /// Borrows the view, for a function that takes one.
    #[inline]
    pub const fn reborrow(&mut self) -> KprobeRegs<'_> {
        // INVARIANT: `self` is borrowed as long as the other view lives.
        KprobeRegs { saved: self.saved, probed: PhantomData }
    }

    #[inline]
    fn kind(&self) -> usize {
        self.saved.addr().get() & KINDS
    }

    #[inline]
    fn address<T>(&self) -> *mut T {
        self.saved.as_ptr().map_addr(|address| address & !KINDS).cast()
    }

    #[inline]
    fn saved(&self) -> Saved<'_> {
        match self.kind() {
            // SAFETY: by the type's invariant, for as long as `self` is borrowed.
            AT_JUMP => Saved::Jump(unsafe { &*self.address::<JumpRegs>() }),
            AT_BREAKPOINT => {
                // SAFETY: as above.
                let at_breakpoint = unsafe { &*self.address::<BreakpointRegs<'_>>() };
                Saved::Breakpoint(at_breakpoint.regs)
            }
            // SAFETY: both are an address and nothing else, here that of the same by the type's invariant.
            _ => Saved::Entry(unsafe { &*core::ptr::from_ref(self).cast::<FtraceRegs<'_>>() }),
        }
    }

    /// The view of a callback, at a function's entry.
    #[inline]
    const fn at_entry(&mut self) -> &mut FtraceRegs<'a> {
        // SAFETY: both are an address and nothing else, and our caller has looked at the kind: the type's invariant.
        unsafe { &mut *core::ptr::from_mut(self).cast::<FtraceRegs<'a>>() }
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        match self.saved() {
            Saved::Entry(regs) => regs.stack_pointer(),
            Saved::Jump(regs) => (core::ptr::from_ref(regs).addr() + frame_bytes(HAS_SIMD)) as u64,
            Saved::Breakpoint(regs) => regs.sp,
        }
    }

    /// Register x`n`. `None` from 31 on, and at a function's entry for one that was not saved: all but x0 to x8, x29 and x30, if
    /// the probe was not made [with all](super::Kprobe::with_all_registers).
    pub fn x(&self, n: usize) -> Option<u64> {
        match self.saved() {
            Saved::Jump(JumpRegs { regs, .. }) | Saved::Breakpoint(PtRegs { regs, .. }) => regs.get(n).copied(),
            Saved::Entry(regs) => match n {
                0..8 => regs.argument(n),
                8 => Some(regs.indirect_result()),
                29 => Some(regs.frame_pointer()),
                30 => Some(regs.return_address().get()),
                _ => regs.pt_regs()?.regs.get(n).copied(),
            },
        }
    }

    /// All registers, if they were saved: always but at a function's entry.
    ///
    /// At a [jump](super::ServedBy::Jump) PSTATE has the flags of the probed code, and the rest as it is now: no exception has
    /// changed it.
    pub fn pt_regs(&self) -> Option<PtRegs> {
        match self.saved() {
            Saved::Entry(regs) => regs.pt_regs().copied(),
            Saved::Jump(saved) => {
                let &JumpRegs { regs, nzcv, record: [_, pc] } = saved;
                Some(PtRegs { regs, sp: self.sp(), pc, pstate: nzcv | state() })
            }
            Saved::Breakpoint(regs) => Some(*regs),
        }
    }

    /// Changes register x`n`; returns whether it could be. At a function's entry those are x0 to x7.
    ///
    /// # Safety
    ///
    /// 1. The code at the probe is sound with that value in that register.
    pub unsafe fn set_x(&mut self, n: usize, value: u64) -> bool {
        let regs = match self.kind() {
            // SAFETY: by the type's invariant, for as long as `self` is borrowed.
            AT_JUMP => unsafe { &mut (*self.address::<JumpRegs>()).regs },
            // SAFETY: as above.
            AT_BREAKPOINT => unsafe { &mut (*self.address::<BreakpointRegs<'_>>()).regs.regs },
            _ => {
                // SAFETY: 1. our caller's promise.
                unsafe { self.at_entry().set_argument(n, value) };
                return n < 8;
            }
        };
        regs.get_mut(n).map(|place| *place = value).is_some()
    }

    /// Makes execution go on at `pc`, in the handler that is called before the instruction: that is not carried out then, and
    /// handlers that would be called after it are not.
    ///
    /// # Safety
    ///
    /// 1. At `pc` there is code that may be entered with these registers.
    /// 2. The probe was made [for it](super::Kprobe::with_pc).
    pub unsafe fn set_pc(&mut self, pc: TextAddr) {
        match self.kind() {
            // None that was made for it is served so: promise 2.
            AT_JUMP => {}
            AT_BREAKPOINT => {
                // SAFETY: by the type's invariant, for as long as `self` is borrowed.
                let at_breakpoint = unsafe { &mut *self.address::<BreakpointRegs<'_>>() };
                at_breakpoint.is_elsewhere = true;
                at_breakpoint.regs.pc = pc.get();
            }
            // SAFETY: 1. and 2. our caller's promises.
            _ => unsafe { self.at_entry().set_pc(pc) },
        }
    }

    /// Where execution goes on, at a function's entry.
    pub(super) fn next(&self) -> Option<TextAddr> {
        match self.saved() {
            Saved::Entry(regs) => Some(regs.pc()),
            Saved::Jump(_) | Saved::Breakpoint(_) => None,
        }
    }
}

impl fmt::Debug for KprobeRegs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.saved(), self.pt_regs()) {
            (Saved::Entry(regs), _) => regs.fmt(f),
            (_, Some(all)) => all.fmt(f),
            (_, None) => Ok(()),
        }
    }
}

/// What of PSTATE no call changes, in the places that SPSR_EL1 has it.
fn state() -> u64 {
    #[cfg(target_os = "none")]
    return DAIF.get() | CurrentEL.get() | SPSel.get();
    #[cfg(not(target_os = "none"))]
    0
}
