//! The registers at a callsite, as a callback sees them.
//!
//! A stub stores them on the stack of the thread that made the call and gives the callback a view; what the
//! callback changes through it is what the function starts with. The stubs take every offset from these types.
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
use core::marker::PhantomData;
use core::ptr::NonNull;

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

/// What a stub stores at a callsite: the layout that all stubs share.
///
/// # Invariants
///
/// Where `ALL_SAVED` is set in `context`, a [`PtRegs`] lies directly below.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct SavedRegs {
    /// A frame record that points at the next one; then where execution goes on.
    pub(crate) function_record: [u64; 2],
    /// x29 at the callsite; then the address that the function will return to.
    pub(crate) caller_record: [u64; 2],
    /// x0 to x8.
    pub(crate) x: [u64; 9],
    /// The address of the thread's [`TraceContext`](crate::TraceContext), and `ALL_SAVED`. A stub for one callback or one hook,
    /// whose callback does not look for it, may leave what the base register holds.
    pub(crate) context: u64,
}

// The stubs store and load pairs.
const _: () = assert!(size_of::<SavedRegs>() == 112 && size_of::<PtRegs>().is_multiple_of(16));

impl SavedRegs {
    /// The bit of `context` that says that a `PtRegs` is below.
    pub(crate) const ALL_SAVED: u64 = 1;

    /// Returns what a stub would have stored with these registers.
    #[cfg(any(test, feature = "fakes"))]
    pub(crate) const fn from_pt_regs(regs: &PtRegs) -> Self {
        let [x0, x1, x2, x3, x4, x5, x6, x7, x8, ..] = regs.regs;
        Self {
            function_record: [0, regs.pc],
            caller_record: [regs.regs[29], regs.regs[30]],
            x: [x0, x1, x2, x3, x4, x5, x6, x7, x8],
            context: 0,
        }
    }
}

/// The registers that the AAPCS64 makes live at a function's entry; and, where an ops asked for them, a copy of all.
///
/// A view of what the stub saved, which only a stub can make: it can't be assigned, swapped or built, so the setters are
/// the only way to change what the function starts with. Reading is always right. Writing changes what compiled code works
/// with, so the setters are unsafe.
///
/// # Invariants
///
/// `saved` is what a stub stored for the call that is going on, and for `'a` nobody else uses it.
#[repr(transparent)]
pub struct FtraceRegs<'a> {
    saved: NonNull<SavedRegs>,
    call: PhantomData<&'a mut SavedRegs>,
}

impl FtraceRegs<'_> {
    /// The registers that are saved here.
    ///
    /// # Safety
    ///
    /// 1. `saved` holds what a stub has stored, and for the view's lifetime nobody else uses it.
    /// 2. Where `ALL_SAVED` is set in its context, a [`PtRegs`] lies directly below, which `saved` may reach as well.
    #[cfg(any(test, feature = "fakes"))]
    pub(crate) const unsafe fn new(saved: NonNull<SavedRegs>) -> Self {
        // INVARIANT: our caller's first promise.
        Self { saved, call: PhantomData }
    }

    /// Borrows the view, for a function that takes one.
    #[inline]
    pub const fn reborrow(&mut self) -> FtraceRegs<'_> {
        // INVARIANT: `self` is borrowed as long as the other view lives.
        FtraceRegs { saved: self.saved, call: PhantomData }
    }

    /// The registers' address, for C. They are used through it only as long as the view is borrowed.
    #[cfg(feature = "capi")]
    #[inline]
    pub(crate) const fn as_ptr(&mut self) -> NonNull<SavedRegs> {
        self.saved
    }

    #[inline]
    pub(crate) const fn saved(&self) -> &SavedRegs {
        // SAFETY: the type's invariant; `self` is borrowed as long as the reference lives.
        unsafe { self.saved.as_ref() }
    }

    #[inline]
    const fn saved_mut(&mut self) -> &mut SavedRegs {
        // SAFETY: the type's invariant; `self` is borrowed mutably as long as the reference lives.
        unsafe { self.saved.as_mut() }
    }

    /// Returns the argument register x`n`, for `n` below 8 (AAPCS64 6.4.2, stage C).
    #[inline]
    pub const fn argument(&self, n: usize) -> Option<u64> {
        if n < 8 { Some(self.saved().x[n]) } else { None }
    }

    /// Returns x0 to x7.
    #[inline]
    pub const fn arguments(&self) -> [u64; 8] {
        let [x0, x1, x2, x3, x4, x5, x6, x7, _] = self.saved().x;
        [x0, x1, x2, x3, x4, x5, x6, x7]
    }

    /// Returns x8: the address of the result where it is returned in memory (AAPCS64 6.5).
    #[inline]
    pub const fn indirect_result(&self) -> u64 {
        self.saved().x[8]
    }

    /// Returns x29 at the callsite: the caller's frame record.
    #[inline]
    pub const fn frame_pointer(&self) -> u64 {
        self.saved().caller_record[0]
    }

    /// Returns x30: the address that the function will return to, unsigned.
    #[inline]
    pub const fn return_address(&self) -> TextAddr {
        TextAddr::new(self.saved().caller_record[1])
    }

    /// Returns the stack pointer at the callsite; arguments passed in memory begin there (AAPCS64 6.4.2).
    #[inline]
    pub fn stack_pointer(&self) -> u64 {
        (self.saved.addr().get() + size_of::<SavedRegs>()) as u64
    }

    /// Returns where execution goes on after the stub: at first, the function's first instruction after the callsite.
    #[inline]
    pub const fn pc(&self) -> TextAddr {
        TextAddr::new(self.saved().function_record[1])
    }

    /// Returns every register as it was at the callsite, where an ops with
    /// [`SAVE_REGS`](crate::ops::OpsFlags::SAVE_REGS) had them saved.
    #[inline]
    pub fn pt_regs(&self) -> Option<&PtRegs> {
        if self.saved().context & SavedRegs::ALL_SAVED == 0 {
            return None;
        }
        let below = self.saved.as_ptr().cast::<PtRegs>().wrapping_sub(1);
        // SAFETY: where `ALL_SAVED` is set, a `PtRegs` lies directly below by the invariant of `SavedRegs`, aligned as that
        // is; the stub leaves it there as long as the callback runs, and the view is borrowed as long as the reference lives.
        Some(unsafe { &*below })
    }

    /// Changes the argument register x`n`; without effect for `n` of 8 and more.
    ///
    /// # Safety
    ///
    /// 1. The function must be sound when it is called with that value in that register.
    #[inline]
    pub const unsafe fn set_argument(&mut self, n: usize, value: u64) {
        if n < 8 {
            self.saved_mut().x[n] = value;
        }
    }

    /// Makes execution go on at `pc` instead of in the function, with the function's own arguments and return address.
    ///
    /// # Safety
    ///
    /// 1. The ops was made with [`IPMODIFY`](crate::ops::OpsFlags::IPMODIFY).
    /// 2. At `pc` there is code that may be entered with these registers: a function of the same signature.
    #[inline]
    pub const unsafe fn set_pc(&mut self, pc: TextAddr) {
        self.saved_mut().function_record[1] = pc.get();
    }

    /// Makes the call return to its caller at once with `value` in x0; the function does not run.
    ///
    /// # Safety
    ///
    /// 1. The ops was made with [`IPMODIFY`](crate::ops::OpsFlags::IPMODIFY).
    /// 2. The function returns its result in x0 alone, and `value` is a valid one.
    /// 3. What else the caller relies on having been done by the function was done.
    #[inline]
    pub const unsafe fn return_early(&mut self, value: u64) {
        let saved = self.saved_mut();
        saved.x[0] = value;
        saved.function_record[1] = saved.caller_record[1];
    }

    /// Returns whether the call returns to its caller at once.
    #[inline]
    pub(crate) const fn is_answered(&self) -> bool {
        self.saved().function_record[1] == self.saved().caller_record[1]
    }

    /// Changes the address that the function will return to. In the entry of a [`Probe`](crate::ops::Probe) that has no
    /// effect: the return is hooked already.
    ///
    /// # Safety
    ///
    /// 1. At `address` there is code that may be returned to from this function, and that in the end returns to the
    ///    address that was here before.
    #[inline]
    pub const unsafe fn set_return_address(&mut self, address: TextAddr) {
        self.saved_mut().caller_record[1] = address.get();
    }

    /// Changes x0.
    ///
    /// # Safety
    ///
    /// 1. Who reads x0 next must be sound with that value.
    #[inline]
    pub(crate) const unsafe fn set_x0(&mut self, value: u64) {
        self.saved_mut().x[0] = value;
    }
}

impl fmt::Debug for FtraceRegs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(all) = self.pt_regs() {
            return all.fmt(f);
        }
        for (number, value) in self.saved().x.iter().enumerate() {
            write!(f, "x{number} {value:016x}  ")?;
        }
        let ([fp, lr], sp, pc) = (self.saved().caller_record, self.stack_pointer(), self.pc().get());
        write!(f, "fp {fp:016x}  lr {lr:016x}  sp {sp:016x}  pc {pc:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::{FtraceRegs, PtRegs, SavedRegs};
    use crate::fakes::FakeRegs;
    extern crate std;

    const ALL: PtRegs = PtRegs { regs: [7; 31], sp: 0x9000, pc: 0x4008, pstate: 5 };

    fn regs() -> PtRegs {
        PtRegs { regs: core::array::from_fn(|n| 100 + n as u64), ..ALL }
    }

    #[test]
    fn the_live_registers_show() {
        let mut saved = FakeRegs::new(&regs());
        let regs = saved.view();
        assert_eq!(regs.pt_regs(), None);
        assert_eq!(regs.argument(7), Some(107));
        assert_eq!(regs.argument(8), None);
        assert_eq!(regs.indirect_result(), 108);
        assert_eq!((regs.frame_pointer(), regs.return_address().get()), (129, 130));
    }

    #[test]
    fn all_registers_show_where_they_were_saved() {
        assert_eq!(FakeRegs::new(&ALL).with_all_saved().view().pt_regs(), Some(&ALL));
    }

    #[test]
    fn returning_early_goes_to_the_caller_with_the_value() {
        let mut saved = FakeRegs::new(&regs());
        let mut regs = saved.view();
        assert!(!regs.is_answered());
        // SAFETY: these registers are never run with.
        unsafe { regs.return_early(7) };
        assert_eq!((regs.argument(0), regs.pc().get(), regs.is_answered()), (Some(7), 130, true));
    }

    #[test]
    fn the_stack_pointer_is_behind_what_was_saved() {
        let mut saved = FakeRegs::new(&regs());
        let end = (&raw const saved).addr() + size_of::<FakeRegs>();
        assert_eq!(saved.view().stack_pointer(), end as u64);
    }

    #[test]
    fn all_registers_are_shown_four_to_a_line() {
        let text = std::format!("{:?}", PtRegs { sp: 0x9000, pc: 0x4008, ..regs() });
        assert_eq!(text.lines().count(), 9);
        let third = "x8  000000000000006c  x9  000000000000006d  x10 000000000000006e  x11 000000000000006f  ";
        assert_eq!(text.lines().nth(2), Some(third));
        let last = "sp  0000000000009000  pc  0000000000004008  pstate 00000005";
        assert_eq!(text.lines().last(), Some(last));
    }

    #[test]
    fn a_view_is_one_pointer() {
        assert_eq!(size_of::<FtraceRegs<'_>>(), size_of::<*mut SavedRegs>());
    }
}
