//! An ops: a callback with its flags, the unit of registration (Linux `ftrace_ops`).
//!
//! Floor 2. An ops lives in a `static`, because a CPU may be on its way into the callback at any moment: what a callsite can
//! reach must never go away.
//!
//! ```
//! use fentry::{FtraceRegs, Ops, OpsFlags, TextAddr};
//!
//! static WATCH: Ops = Ops::new(watch).with_flags(OpsFlags::SAVE_REGS);
//!
//! fn watch(ip: TextAddr, parent_ip: TextAddr, _ops: &'static Ops, regs: &mut FtraceRegs) {
//!     log::info!("{ip} from {parent_ip}: {:x?}", regs.arguments());
//! }
//! ```

use crate::address::TextAddr;
use crate::regs::FtraceRegs;
use core::fmt;

/// What a traced function's entry calls: the callsite's address, the address that the function will return to, the ops,
/// and the registers.
///
/// It runs on the stack of the traced call, in whatever context that was, with interrupts as they were. It may call traced
/// functions (they are not traced while it runs), but must not wait for a lock that the code it interrupts can hold, nor
/// register or unregister anything.
pub type Callback = fn(ip: TextAddr, parent_ip: TextAddr, ops: &'static Ops, regs: &mut FtraceRegs);

bitflags::bitflags! {
    /// What an ops asks of the engine.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpsFlags: u32 {
        /// Every register is saved, not only the live ones: [`FtraceRegs::pt_regs`] has them.
        const SAVE_REGS = 1 << 0;
        /// The callback may change where execution goes on ([`FtraceRegs::set_pc`]).
        const IPMODIFY = 1 << 1;
    }
}

/// A callback with its flags and one word of the caller's own.
pub struct Ops {
    callback: Callback,
    flags: OpsFlags,
    data: usize,
}

impl Ops {
    /// An ops without flags.
    pub const fn new(callback: Callback) -> Self {
        Self { callback, flags: OpsFlags::empty(), data: 0 }
    }

    /// The same with these flags.
    #[must_use]
    pub const fn with_flags(self, flags: OpsFlags) -> Self {
        Self { flags, ..self }
    }

    /// The same with a word that the callback finds in [`data`](Self::data).
    #[must_use]
    pub const fn with_data(self, data: usize) -> Self {
        Self { data, ..self }
    }

    /// What it asks of the engine.
    pub const fn flags(&self) -> OpsFlags {
        self.flags
    }

    /// The word given at construction.
    pub const fn data(&self) -> usize {
        self.data
    }

    /// Calls the callback.
    pub(crate) fn call(&'static self, ip: TextAddr, parent_ip: TextAddr, regs: &mut FtraceRegs) {
        (self.callback)(ip, parent_ip, self, regs);
    }
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("flags", &self.flags).field("data", &self.data).finish_non_exhaustive()
    }
}
