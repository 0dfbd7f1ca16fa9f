//! Registers as a stub saves them.

use crate::context::regs::{FtraceRegs, PtRegs, SavedRegs};
use core::ptr::NonNull;

/// Registers as a stub saves them, to call a callback with.
#[derive(Debug)]
#[repr(C)]
pub struct FakeRegs {
    all: PtRegs,
    live: SavedRegs,
}

impl FakeRegs {
    /// Saves the registers that are live at a function's entry.
    pub const fn new(regs: &PtRegs) -> Self {
        Self { all: *regs, live: SavedRegs::from_pt_regs(regs) }
    }

    /// Marks all registers as saved, as for an ops with [`SAVE_REGS`](crate::OpsFlags::SAVE_REGS).
    #[must_use]
    pub const fn with_all_saved(mut self) -> Self {
        self.live.context |= SavedRegs::ALL_SAVED;
        self
    }

    /// Returns the view that a callback is given.
    pub const fn view(&mut self) -> FtraceRegs<'_> {
        let live = NonNull::from_mut(self).cast::<SavedRegs>();
        // SAFETY: inside this object.
        let live = unsafe { live.byte_add(core::mem::offset_of!(Self, live)) };
        // SAFETY:
        // 1. This object is borrowed as long as the view lives.
        // 2. The other registers lie directly below, in the same object.
        unsafe { FtraceRegs::new(live) }
    }
}
