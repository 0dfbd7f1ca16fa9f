//! The registers at a probe, as its handlers see them.

use crate::address::TextAddr;
use crate::context::regs::{FtraceRegs, PtRegs};
use core::fmt;

/// The registers at a probed instruction: before it, or after it.
///
/// Reading is always right. What is written is what the interrupted code goes on with, so the setters are unsafe.
pub struct KprobeRegs<'a> {
    saved: Saved<'a>,
    /// Whether a handler has said where execution goes on.
    pub(super) is_elsewhere: bool,
}

enum Saved<'a> {
    All(&'a mut PtRegs),
    Entry { ip: TextAddr, regs: FtraceRegs<'a> },
}

impl<'a> KprobeRegs<'a> {
    /// Those of an instruction, all of which were saved.
    pub(super) const fn of_all(regs: &'a mut PtRegs) -> Self {
        Self { saved: Saved::All(regs), is_elsewhere: false }
    }

    pub(super) const fn at_entry(ip: TextAddr, regs: FtraceRegs<'a>) -> Self {
        Self { saved: Saved::Entry { ip, regs }, is_elsewhere: false }
    }

    /// Where execution is: at the probed instruction, or behind it in the handler that is called after it. At a function's entry
    /// it is the callsite, as callbacks get it.
    pub fn pc(&self) -> TextAddr {
        match &self.saved {
            Saved::All(regs) => TextAddr::new(regs.pc),
            Saved::Entry { ip, .. } => *ip,
        }
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        match &self.saved {
            Saved::All(regs) => regs.sp,
            Saved::Entry { regs, .. } => regs.stack_pointer(),
        }
    }

    /// Register x`n`. `None` from 31 on, and at a function's entry for one that was not saved: all but x0 to x8, x29 and x30, if
    /// the probe was not made [with all](super::Kprobe::with_all_registers).
    pub fn x(&self, n: usize) -> Option<u64> {
        match &self.saved {
            Saved::All(regs) => regs.regs.get(n).copied(),
            Saved::Entry { regs, .. } => match n {
                0..8 => regs.argument(n),
                8 => Some(regs.indirect_result()),
                29 => Some(regs.frame_pointer()),
                30 => Some(regs.return_address().get()),
                _ => regs.pt_regs()?.regs.get(n).copied(),
            },
        }
    }

    /// All registers, if they were saved: always but at a function's entry.
    pub fn pt_regs(&self) -> Option<&PtRegs> {
        match &self.saved {
            Saved::All(regs) => Some(regs),
            Saved::Entry { regs, .. } => regs.pt_regs(),
        }
    }

    /// Changes register x`n`; returns whether it could be. At a function's entry those are x0 to x7.
    ///
    /// # Safety
    ///
    /// 1. The code at the probe is sound with that value in that register.
    pub const unsafe fn set_x(&mut self, n: usize, value: u64) -> bool {
        match &mut self.saved {
            Saved::All(regs) => {
                if n < regs.regs.len() {
                    regs.regs[n] = value;
                }
                n < 31
            }
            Saved::Entry { regs, .. } => {
                // SAFETY: 1. our caller's promise.
                unsafe { regs.set_argument(n, value) };
                n < 8
            }
        }
    }

    /// Makes execution go on at `pc`, in the handler that is called before the instruction: that is not carried out then, and
    /// handlers that would be called after it are not.
    ///
    /// # Safety
    ///
    /// 1. At `pc` there is code that may be entered with these registers.
    /// 2. The probe was made [for it](super::Kprobe::with_pc).
    pub const unsafe fn set_pc(&mut self, pc: TextAddr) {
        self.is_elsewhere = true;
        match &mut self.saved {
            Saved::All(regs) => regs.pc = pc.get(),
            // SAFETY: 1. and 2. our caller's promises.
            Saved::Entry { regs, .. } => unsafe { regs.set_pc(pc) },
        }
    }
}

impl fmt::Debug for KprobeRegs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.saved {
            Saved::All(regs) => regs.fmt(f),
            Saved::Entry { regs, .. } => regs.fmt(f),
        }
    }
}
