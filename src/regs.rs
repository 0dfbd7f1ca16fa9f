//! The registers at a callsite, as a callback sees them.
//!
//! Floor 0. A stub stores them on the stack of the thread that made the call and gives the callback a reference; what the
//! callback changes there is what the function starts with. The stubs take every offset from these types.
//!
//! | register | at the callsite | [`FtraceRegs`] | [`PtRegs`] |
//! |---|---|---|---|
//! | x0-x7, x8 | arguments, indirect result (AAPCS64 6.4, 6.5) | saved, restored | saved |
//! | x9 | the return address, taken before it is signed | - | saved |
//! | x10-x16 | dead (AAPCS64 6.1.1: corruptible) | - | saved |
//! | x17 | dead, and used on the way to the stub | - | - |
//! | x18 | the platform register, or dead | - | saved |
//! | x19-x28 | callee-saved, so the callback keeps them | - | saved |
//! | x29, x30 | the caller's frame record; the return address | saved, restored | saved |
//! | SP, PC | at the callsite; where the function goes on | known; PC restored | saved |
//! | PSTATE | flags are dead | - | saved |
//!
//! ```text
//!   SP at the callsite ->  +----------------------+
//!                          | x8, the context      |
//!                          | x0 ... x7            |
//!                          | x29, x9              |  the caller's frame record, as the function is about to make it
//!                          | x29', x30            |  a record of the traced function: a walker finds both (AAPCS64 6.4.6)
//!          FtraceRegs ->   +----------------------+
//!                          | PtRegs               |  where an ops asked for it
//!                          | q0-q7, x19-x22       |  where they are in use
//!   SP in the callback ->  +----------------------+
//! ```

use crate::address::TextAddr;
use core::fmt;

/// Every general register, SP, PC and PSTATE as they were at a callsite, laid out as Linux's `struct pt_regs` begins.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PtRegs {
    /// x0 to x30. x9 and x30 both hold the address that the function will return to.
    pub regs: [u64; 31],
    /// The stack pointer at the callsite; arguments passed in memory begin there (AAPCS64 6.4.2).
    pub sp: u64,
    /// Where the function goes on after the stub.
    pub pc: u64,
    /// NZCV, DAIF, CurrentEL and SPSel, in the places that SPSR_EL1 has them.
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

/// The registers that the AAPCS64 makes live at a function's entry; and, where an ops asked for them, a copy of all.
///
/// Reading is always right. Writing changes what compiled code works with, so the setters are unsafe.
///
/// # Invariants
///
/// Where `ALL_SAVED` is set in `context`, a [`PtRegs`] lies directly below.
#[repr(C, align(16))]
pub struct FtraceRegs {
    /// A frame record that points at the next one; then where execution goes on.
    pub(crate) function_record: [u64; 2],
    /// x29 at the callsite; then the address that the function will return to.
    pub(crate) caller_record: [u64; 2],
    /// x0 to x8.
    pub(crate) x: [u64; 9],
    /// The address of the thread's [`TraceContext`](crate::TraceContext), and `ALL_SAVED`.
    pub(crate) context: u64,
}

// The stubs store and load pairs.
const _: () = assert!(size_of::<FtraceRegs>() == 112 && size_of::<PtRegs>().is_multiple_of(16));

impl FtraceRegs {
    /// The bit of `context` that says that a `PtRegs` is below.
    pub(crate) const ALL_SAVED: u64 = 1;

    /// Registers as a stub would have saved them; for tests of callbacks on a host. Of `regs` only the live ones are taken.
    pub const fn from_pt_regs(regs: &PtRegs) -> Self {
        let [x0, x1, x2, x3, x4, x5, x6, x7, x8, ..] = regs.regs;
        Self {
            function_record: [0, regs.pc],
            caller_record: [regs.regs[29], regs.regs[30]],
            x: [x0, x1, x2, x3, x4, x5, x6, x7, x8],
            context: 0,
        }
    }

    /// The argument register x`n`, for `n` below 8 (AAPCS64 6.4.2, stage C).
    pub const fn argument(&self, n: usize) -> Option<u64> {
        if n < 8 { Some(self.x[n]) } else { None }
    }

    /// x0 to x7.
    pub const fn arguments(&self) -> [u64; 8] {
        let [x0, x1, x2, x3, x4, x5, x6, x7, _] = self.x;
        [x0, x1, x2, x3, x4, x5, x6, x7]
    }

    /// x8: the address of the result where it is returned in memory (AAPCS64 6.5).
    pub const fn indirect_result(&self) -> u64 {
        self.x[8]
    }

    /// x29 at the callsite: the caller's frame record.
    pub const fn frame_pointer(&self) -> u64 {
        self.caller_record[0]
    }

    /// x30: the address that the function will return to, unsigned.
    pub const fn return_address(&self) -> TextAddr {
        TextAddr::new(self.caller_record[1])
    }

    /// The stack pointer at the callsite; arguments passed in memory begin there (AAPCS64 6.4.2).
    pub fn stack_pointer(&self) -> u64 {
        (core::ptr::from_ref(self).addr() + size_of::<Self>()) as u64
    }

    /// Where execution goes on after the stub: at first, the function's first instruction after the callsite.
    pub const fn pc(&self) -> TextAddr {
        TextAddr::new(self.function_record[1])
    }

    /// Every register as it was at the callsite, where an ops with [`SAVE_REGS`](crate::ops::OpsFlags::SAVE_REGS) had them
    /// saved.
    pub fn pt_regs(&self) -> Option<&PtRegs> {
        if self.context & Self::ALL_SAVED == 0 {
            return None;
        }
        let below = core::ptr::from_ref(self).addr() - size_of::<PtRegs>();
        // SAFETY: by the type's invariant a stub has written it there, and leaves it as long as the callback runs.
        Some(unsafe { &*core::ptr::with_exposed_provenance::<PtRegs>(below) })
    }

    /// Changes the argument register x`n`; without effect for `n` of 8 and more.
    ///
    /// # Safety
    ///
    /// The function must be sound when it is called with that value in that register.
    pub const unsafe fn set_argument(&mut self, n: usize, value: u64) {
        if n < 8 {
            self.x[n] = value;
        }
    }

    /// Makes execution go on at `pc` instead of in the function, with the function's own arguments and return address.
    ///
    /// # Safety
    ///
    /// - The ops was made with [`IPMODIFY`](crate::ops::OpsFlags::IPMODIFY).
    /// - At `pc` there is code that may be entered with these registers: a function of the same signature.
    pub const unsafe fn set_pc(&mut self, pc: TextAddr) {
        self.function_record[1] = pc.get();
    }

    /// Makes the call return to its caller at once with `value` in x0; the function does not run.
    ///
    /// # Safety
    ///
    /// - The ops was made with [`IPMODIFY`](crate::ops::OpsFlags::IPMODIFY).
    /// - The function returns its result in x0 alone, and `value` is a valid one; what else the caller relies on having been
    ///   done by the function was done.
    pub const unsafe fn return_early(&mut self, value: u64) {
        self.x[0] = value;
        self.function_record[1] = self.caller_record[1];
    }

    /// Changes the address that the function will return to.
    ///
    /// # Safety
    ///
    /// At `address` there is code that may be returned to from this function, and that in the end returns to the address
    /// that was here before.
    pub const unsafe fn set_return_address(&mut self, address: TextAddr) {
        self.caller_record[1] = address.get();
    }
}

impl fmt::Debug for FtraceRegs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(all) = self.pt_regs() {
            return all.fmt(f);
        }
        for (number, value) in self.x.iter().enumerate() {
            write!(f, "x{number} {value:016x}  ")?;
        }
        let ([fp, lr], sp, pc) = (self.caller_record, self.stack_pointer(), self.pc().get());
        write!(f, "fp {fp:016x}  lr {lr:016x}  sp {sp:016x}  pc {pc:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::{FtraceRegs, PtRegs};

    const ALL: PtRegs = PtRegs { regs: [7; 31], sp: 0x9000, pc: 0x4008, pstate: 5 };

    fn regs() -> FtraceRegs {
        let regs = core::array::from_fn(|n| 100 + n as u64);
        FtraceRegs::from_pt_regs(&PtRegs { regs, ..ALL })
    }

    #[test]
    fn the_live_registers_show() {
        assert_eq!(regs().pt_regs(), None);
        assert_eq!(regs().argument(7), Some(107));
        assert_eq!(regs().argument(8), None);
        assert_eq!(regs().indirect_result(), 108);
        assert_eq!((regs().frame_pointer(), regs().return_address().get()), (129, 130));
    }

    #[test]
    fn all_registers_show_where_they_were_saved() {
        #[repr(C)]
        struct Frame {
            all: PtRegs,
            live: FtraceRegs,
        }
        let mut frame = Frame { all: ALL, live: regs() };
        core::ptr::from_ref(&frame).expose_provenance();
        frame.live.context |= FtraceRegs::ALL_SAVED;
        assert_eq!(frame.live.pt_regs(), Some(&ALL));
    }

    #[test]
    fn returning_early_goes_to_the_caller_with_the_value() {
        let mut regs = regs();
        // SAFETY: these registers are never run with.
        unsafe { regs.return_early(7) };
        assert_eq!((regs.argument(0), regs.pc().get()), (Some(7), 130));
    }
}
