//! By which callers a call may fail.

use crate::address::{TextAddr, TextRange};
use crate::context::regs::FtraceRegs;
use core::fmt;
use core::ops::ControlFlow;

/// How the callers of a call are found, by a kernel that knows its stacks: with an
/// [`Unwinder`](crate::context::unwind) where it has one.
pub trait Callers: Sync {
    /// Calls `each` with the places where the call's callers go on, from the inside outwards, as long as it continues and they
    /// are sure. Returns whether they were shown up to the outermost one.
    fn for_each_caller(&self, regs: &FtraceRegs<'_>, each: &mut dyn FnMut(TextAddr) -> ControlFlow<()>) -> bool;
}

/// Lets calls fail that have come through one function, and have not come through another one.
#[derive(Clone, Copy)]
pub struct StackFilter {
    callers: &'static dyn Callers,
    require: TextRange,
    reject: TextRange,
}

impl StackFilter {
    /// Makes one that lets every call fail, and finds the callers so.
    pub const fn new(callers: &'static dyn Callers) -> Self {
        Self { callers, require: TextRange::EMPTY, reject: TextRange::EMPTY }
    }

    /// Lets only calls fail of which a caller is in this text (Linux: `require-start`, `require-end`).
    #[must_use]
    pub const fn require(self, require: TextRange) -> Self {
        Self { require, ..self }
    }

    /// Lets no call fail of which a caller is in this text (Linux: `reject-start`, `reject-end`).
    #[must_use]
    pub const fn reject(self, reject: TextRange) -> Self {
        Self { reject, ..self }
    }

    /// Whether the call may fail. Where that can't be told, it may not.
    pub(super) fn lets(&self, regs: &FtraceRegs<'_>) -> bool {
        let (mut is_required, mut is_rejected) = (self.require.is_empty(), false);
        let is_whole = self.callers.for_each_caller(regs, &mut |caller| {
            // The call itself: behind one that never returns another function may begin.
            let call = caller.offset(-4);
            is_required |= self.require.contains(call);
            is_rejected |= self.reject.contains(call);
            let is_decided = is_rejected || (is_required && self.reject.is_empty());
            if is_decided { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        is_required && !is_rejected && (is_whole || self.reject.is_empty())
    }
}

impl fmt::Debug for StackFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { require, reject, .. } = self;
        f.debug_struct("StackFilter").field("require", require).field("reject", reject).finish_non_exhaustive()
    }
}
