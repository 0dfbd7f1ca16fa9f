//! The registers at a callsite, as C sees them: the layout of what a stub has stored.

use crate::context::regs::{PtRegs, SavedRegs};
use core::mem::offset_of;

/// The registers that the AAPCS64 makes live at a function's entry, where a stub has saved them.
///
/// Reading is always right. What a callback writes is what the function starts with:
///
/// - `x[0]` to `x[8]`: the arguments, and the address of a result in memory. The function must be sound with them;
/// - `pc`, by an ops with FENTRY_OPS_IPMODIFY only: where execution goes on, a function of the same signature;
/// - `lr`: the address that the function returns to. In a probe's entry handler that has no effect.
///
/// At a function's exit, `x[0]` to `x[7]` are its results, and nothing else may be written.
#[derive(Debug)]
#[repr(C)]
pub struct fentry_regs {
    /// The engine's own.
    pub record: u64,
    /// Where execution goes on: at first, the function's first instruction after the callsite.
    pub pc: u64,
    /// x29 at the callsite: the caller's frame record.
    pub fp: u64,
    /// x30: the address that the function will return to, unsigned.
    pub lr: u64,
    /// x0 to x8.
    pub x: [u64; 9],
    /// The engine's own.
    pub context: u64,
}

/// Every general register as it was at a callsite, laid out as Linux's `struct pt_regs` begins.
#[derive(Debug)]
#[repr(C)]
pub struct fentry_pt_regs {
    /// x0 to x30. x9 and x30 both hold the address that the function will return to.
    pub regs: [u64; 31],
    /// The stack pointer at the callsite; arguments passed in memory begin there.
    pub sp: u64,
    /// Where the function goes on.
    pub pc: u64,
    /// NZCV, DAIF, CurrentEL and SPSel, in the places that SPSR_EL1 has them.
    pub pstate: u64,
}

// The same as the engine's own.
const _: () = assert!(
    size_of::<fentry_regs>() == size_of::<SavedRegs>()
        && offset_of!(fentry_regs, record) == offset_of!(SavedRegs, function_record)
        && offset_of!(fentry_regs, fp) == offset_of!(SavedRegs, caller_record)
        && offset_of!(fentry_regs, x) == offset_of!(SavedRegs, x)
        && offset_of!(fentry_regs, context) == offset_of!(SavedRegs, context)
);
const _: () = assert!(
    size_of::<fentry_pt_regs>() == size_of::<PtRegs>()
        && offset_of!(fentry_pt_regs, sp) == offset_of!(PtRegs, sp)
        && offset_of!(fentry_pt_regs, pc) == offset_of!(PtRegs, pc)
        && offset_of!(fentry_pt_regs, pstate) == offset_of!(PtRegs, pstate)
);

/// Returns every register as it was at the callsite; NULL where no ops with FENTRY_OPS_SAVE_REGS had them saved, and for
/// NULL.
///
/// # Safety
///
/// `regs` is NULL, or what this callback was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_regs_all(regs: *const fentry_regs) -> *const fentry_pt_regs {
    // SAFETY: NULL, or a stub's registers by our caller's promise.
    let Some(view) = (unsafe { regs.as_ref() }) else { return core::ptr::null() };
    if view.context & SavedRegs::ALL_SAVED == 0 {
        return core::ptr::null();
    }
    // They lie directly below.
    regs.cast::<fentry_pt_regs>().wrapping_sub(1)
}

/// Returns the stack pointer at the callsite, where arguments passed in memory begin; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn fentry_regs_sp(regs: *const fentry_regs) -> u64 {
    if regs.is_null() { 0 } else { regs.wrapping_add(1).addr() as u64 }
}

/// Makes the call return to its caller at once with `value` in x0; the function does not run. For an ops with
/// FENTRY_OPS_IPMODIFY, or a probe's entry handler whose ops has it. NULL is ignored.
///
/// # Safety
///
/// `regs` is NULL, or what this callback was given. The function returns its result in x0 alone, `value` is a valid one,
/// and what else the caller relies on has been done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_regs_return_early(regs: *mut fentry_regs, value: u64) {
    // SAFETY: NULL, or a stub's registers by our caller's promise, which nobody else uses while the callback runs.
    if let Some(regs) = unsafe { regs.as_mut() } {
        regs.x[0] = value;
        regs.pc = regs.lr;
    }
}

#[cfg(test)]
mod tests {
    use super::{fentry_regs, fentry_regs_all, fentry_regs_return_early, fentry_regs_sp};
    use crate::context::regs::PtRegs;
    use crate::fakes::FakeRegs;

    const ALL: PtRegs = PtRegs { regs: [7; 31], sp: 0x9000, pc: 0x4008, pstate: 5 };

    #[test]
    fn c_sees_what_rust_sees() {
        let mut saved =
            FakeRegs::new(&PtRegs { regs: core::array::from_fn(|n| 100 + n as u64), ..ALL }).with_all_saved();
        let mut view = saved.view();
        let (sp, at) = (view.stack_pointer(), view.as_ptr().as_ptr().cast::<fentry_regs>());
        assert_eq!(fentry_regs_sp(at), sp);
        // SAFETY: the view's registers, which nobody else uses.
        let regs = unsafe { &mut *at };
        assert_eq!((regs.pc, regs.fp, regs.lr, regs.x[0], regs.x[8]), (0x4008, 129, 130, 100, 108));
        // SAFETY: as above.
        let all = unsafe { fentry_regs_all(at) };
        // SAFETY: a copy of all is below.
        let all = unsafe { &*all };
        assert_eq!((all.regs[9], all.regs[30], all.sp, all.pc, all.pstate), (109, 130, 0x9000, 0x4008, 5));
        // SAFETY: they are never run with.
        unsafe { fentry_regs_return_early(at, 5) };
        assert!(view.is_answered() && view.argument(0) == Some(5));
    }

    #[test]
    fn registers_that_were_not_saved_are_null() {
        let mut saved = FakeRegs::new(&ALL);
        let at = saved.view().as_ptr().as_ptr().cast::<fentry_regs>();
        // SAFETY: a stub's registers.
        assert!(unsafe { fentry_regs_all(at) }.is_null());
        // SAFETY: NULL.
        assert!(unsafe { fentry_regs_all(core::ptr::null()) }.is_null());
        assert_eq!(fentry_regs_sp(core::ptr::null()), 0);
        // SAFETY: NULL.
        unsafe { fentry_regs_return_early(core::ptr::null_mut(), 1) };
    }
}
