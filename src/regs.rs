//! The registers at a callsite, as a callback sees them.
//!
//! Floor 0. An entry stub stores them on the stack of the thread that made the call and gives the callback a reference;
//! what the callback changes there is what the function starts with. The layout is Linux's arm64 `pt_regs` up to PSTATE,
//! so that what knows the one can read the other; the assembly takes every offset from these types.
//!
//! | register | at the callsite | `ftrace_caller` | `ftrace_regs_caller` |
//! |---|---|---|---|
//! | x0-x7, x8 | arguments, indirect result (AAPCS64 6.4, 6.5) | saved, restored | saved, restored |
//! | x9 | the return address, taken before it is signed | - | saved |
//! | x10-x17 | dead (AAPCS64 6.1.1: corruptible) | - | saved |
//! | x18 | the platform register, or dead | - | saved |
//! | x19-x28 | callee-saved, so the callback keeps them | - | saved |
//! | x29, x30 | the caller's frame record; the return address | saved, restored | saved, restored |
//! | SP, PC | at the callsite; where the function goes on | saved; PC restored | saved; PC restored |
//! | PSTATE | flags are dead | - | saved |

use crate::address::TextAddr;
use core::fmt;

/// Every general register, SP, PC and PSTATE at a callsite (Linux `struct pt_regs`).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PtRegs {
    /// x0 to x30. x9 and x30 both hold the address that the function will return to.
    pub regs: [u64; 31],
    /// The stack pointer at the callsite; arguments passed in memory begin there (AAPCS64 6.4.2).
    pub sp: u64,
    /// Where the function goes on after the stub.
    pub pc: u64,
    /// NZCV, DAIF, CurrentEL and SPSel, in the places that SPSR_EL1 has them; 0 where the stub saved only
    /// [`FtraceRegs`].
    pub pstate: u64,
}

impl fmt::Debug for PtRegs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, regs) in self.regs.chunks(4).enumerate() {
            for (column, value) in regs.iter().enumerate() {
                let number = row * 4 + column;
                write!(f, "x{number:<2} {value:016x}  ")?;
            }
            writeln!(f)?;
        }
        write!(f, "sp  {:016x}  pc  {:016x}  pstate {:08x}", self.sp, self.pc, self.pstate)
    }
}

/// The registers that the AAPCS64 makes live at a function's entry, and, where the ops asked for them, all the others.
///
/// Reading is always right. Writing changes what compiled code works with, so the setters are unsafe.
#[repr(transparent)]
pub struct FtraceRegs {
    /// With PSTATE 0, x9 to x28 hold whatever was on the stack.
    inner: PtRegs,
}

impl FtraceRegs {
    /// Registers as a stub would have saved them; for tests of callbacks on a host.
    pub const fn from_pt_regs(regs: PtRegs) -> Self {
        Self { inner: regs }
    }

    /// The argument register x`n`, for `n` below 8 (AAPCS64 6.4.2, stage C).
    pub const fn argument(&self, n: usize) -> Option<u64> {
        if n < 8 { Some(self.inner.regs[n]) } else { None }
    }

    /// x0 to x7.
    pub const fn arguments(&self) -> [u64; 8] {
        let [x0, x1, x2, x3, x4, x5, x6, x7, ..] = self.inner.regs;
        [x0, x1, x2, x3, x4, x5, x6, x7]
    }

    /// x8: the address of the result where it is returned in memory (AAPCS64 6.5).
    pub const fn indirect_result(&self) -> u64 {
        self.inner.regs[8]
    }

    /// x29 at the callsite: the caller's frame record.
    pub const fn frame_pointer(&self) -> u64 {
        self.inner.regs[29]
    }

    /// x30: the address that the function will return to, unsigned.
    pub const fn return_address(&self) -> TextAddr {
        TextAddr::new(self.inner.regs[30])
    }

    /// The stack pointer at the callsite.
    pub const fn stack_pointer(&self) -> u64 {
        self.inner.sp
    }

    /// Where execution goes on after the stub: at first, the function's first instruction after the callsite.
    pub const fn pc(&self) -> TextAddr {
        TextAddr::new(self.inner.pc)
    }

    /// Every register, where an ops with [`SAVE_REGS`](crate::ops::OpsFlags::SAVE_REGS) had them saved.
    pub const fn pt_regs(&self) -> Option<&PtRegs> {
        if self.inner.pstate == 0 { None } else { Some(&self.inner) }
    }

    /// Changes the argument register x`n`; without effect for `n` of 8 and more.
    ///
    /// # Safety
    ///
    /// The function must be sound when it is called with that value in that register.
    pub const unsafe fn set_argument(&mut self, n: usize, value: u64) {
        if n < 8 {
            self.inner.regs[n] = value;
        }
    }

    /// Makes execution go on at `pc` instead of in the function, with the function's own arguments and return address.
    ///
    /// # Safety
    ///
    /// - The ops was made with [`IPMODIFY`](crate::ops::OpsFlags::IPMODIFY).
    /// - At `pc` there is code that may be entered with these registers: a function of the same signature.
    pub const unsafe fn set_pc(&mut self, pc: TextAddr) {
        self.inner.pc = pc.get();
    }

    /// Makes the call return to its caller at once with `value` in x0; the function does not run.
    ///
    /// # Safety
    ///
    /// - The ops was made with [`IPMODIFY`](crate::ops::OpsFlags::IPMODIFY).
    /// - The function returns its result in x0 alone, and `value` is a valid one; what else the caller relies on having been
    ///   done by the function was done.
    pub const unsafe fn return_early(&mut self, value: u64) {
        self.inner.regs[0] = value;
        self.inner.pc = self.inner.regs[30];
    }

    /// Changes the address that the function will return to.
    ///
    /// # Safety
    ///
    /// At `address` there is code that may be returned to from this function, and that in the end returns to the address
    /// that was here before.
    pub const unsafe fn set_return_address(&mut self, address: TextAddr) {
        self.inner.regs[30] = address.get();
    }
}

impl fmt::Debug for FtraceRegs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(all) = self.pt_regs() {
            return all.fmt(f);
        }
        for (number, value) in self.inner.regs.iter().take(9).enumerate() {
            write!(f, "x{number} {value:016x}  ")?;
        }
        let [fp, lr] = [self.inner.regs[29], self.inner.regs[30]];
        write!(f, "fp {fp:016x}  lr {lr:016x}  sp {:016x}  pc {:016x}", self.inner.sp, self.inner.pc)
    }
}

#[cfg(test)]
mod tests {
    use super::{FtraceRegs, PtRegs};

    fn regs(pstate: u64) -> FtraceRegs {
        let regs = core::array::from_fn(|n| 100 + n as u64);
        FtraceRegs::from_pt_regs(PtRegs { regs, sp: 0x9000, pc: 0x4008, pstate })
    }

    #[test]
    fn only_the_live_registers_show_unless_all_were_saved() {
        assert_eq!(regs(0).pt_regs(), None);
        assert_eq!(regs(5).pt_regs().map(|all| all.regs[27]), Some(127));
        assert_eq!(regs(0).argument(7), Some(107));
        assert_eq!(regs(0).argument(8), None);
        assert_eq!(regs(0).indirect_result(), 108);
    }

    #[test]
    fn returning_early_goes_to_the_caller_with_the_value() {
        let mut regs = regs(0);
        // SAFETY: these registers are never run with.
        unsafe { regs.return_early(7) };
        assert_eq!((regs.argument(0), regs.pc().get()), (Some(7), 130));
    }
}
