//! The guard that keeps a callback from being called inside itself.
//!
//! Floor 1. A callback is compiled code of a kernel whose functions are nearly all callsites: it will call traced
//! functions. The stubs therefore look, before anything of Rust runs, into the [`TraceContext`] of the thread of
//! execution: one word says that its present level is inside a callback already. If so the call goes straight on to the
//! function, and is counted as a miss of each ops that it would have called.
//!
//! The check is in the stubs, not in Rust, because in an unoptimised kernel even an atomic load is a function of `core`
//! with a callsite of its own. Plain loads and stores are enough: a context is only touched by the thread of execution
//! that it belongs to and by interrupts on top of it, and an interrupt leaves its words as it found them.
//!
//! ```text
//!   thread:  ....[callback.........................]....      busy
//!   irq:                  ....[callback]...                   its own level, not busy before: it is traced
//!   either level again, inside its own callback:              busy: skipped, and counted
//! ```

use crate::address::{TextAddr, TextRange};
use crate::shadow::{ShadowFrame, ShadowStack};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What kind of context is running; each can be inside a callback once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// A task, or a kernel's only thread.
    Thread = 1,
    /// An interrupt handler.
    Irq = 2,
    /// What can interrupt an interrupt handler: an FIQ used as NMI, an SError, a debug exception.
    Nmi = 4,
}

/// The engine's own few words for one thread of execution.
///
/// Where the kernel never switches tasks inside kernel code, one for each CPU; where it does, one for each task. Its
/// address, less the offset of [`ContextBase`](crate::platform::ContextBase), is what the kernel puts into the base
/// register. It must live as long as it can be reached through that register.
///
/// # Invariants
///
/// `level` holds the bit of the running [`Level`]; `below` the bits of the levels that were interrupted inside a callback;
/// `busy` is not zero where the running level is inside a callback, or is among those.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct TraceContext {
    pub(crate) busy: AtomicU64,
    /// Behind the frame of the innermost call whose return is hooked; equal to `shadow_end` where there is no shadow stack.
    pub(crate) shadow_top: AtomicU64,
    pub(crate) shadow_end: AtomicU64,
    shadow_start: AtomicU64,
    level: AtomicU32,
    below: AtomicU32,
    pub(crate) misses: AtomicU64,
    pub(crate) overflows: AtomicU64,
    pub(crate) abandoned: AtomicU64,
}

impl TraceContext {
    /// A context at [`Level::Thread`] with no callback running.
    pub const fn new() -> Self {
        // INVARIANT: the thread's level, nothing interrupted.
        Self {
            busy: AtomicU64::new(0),
            level: AtomicU32::new(Level::Thread as u32),
            below: AtomicU32::new(0),
            misses: AtomicU64::new(0),
            shadow_top: AtomicU64::new(0),
            shadow_end: AtomicU64::new(0),
            shadow_start: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
        }
    }

    /// Gives it a shadow stack, without which no return is hooked. Given again, to a context whose task has ended, it is empty
    /// again.
    ///
    /// # Safety
    ///
    /// - The stack is no other context's, and lives as long as this one is in use.
    /// - No hooked call of this thread of execution returns any more.
    pub unsafe fn set_shadow_stack<const CALLS: usize>(&self, stack: &ShadowStack<CALLS>) {
        let [start, end] = stack.bounds();
        // The end last: until then there is no room.
        self.shadow_end.store(0, Ordering::Relaxed);
        self.shadow_start.store(start, Ordering::Relaxed);
        self.shadow_top.store(start, Ordering::Relaxed);
        self.shadow_end.store(end, Ordering::Relaxed);
    }

    /// How many calls are inside each other now whose return is hooked.
    #[inline]
    pub fn depth(&self) -> usize {
        let bytes = self.shadow_top.load(Ordering::Relaxed).wrapping_sub(self.shadow_start.load(Ordering::Relaxed));
        bytes as usize / size_of::<ShadowFrame>()
    }

    /// The hooked calls around which there are less than `below` others, from the innermost outwards: around how many, where
    /// each returns to, and with which SP.
    pub(crate) fn hooked(&self, below: usize) -> impl Iterator<Item = (usize, u64, u64)> + use<> {
        let [start, top] = [&self.shadow_start, &self.shadow_top].map(|word| word.load(Ordering::Relaxed));
        let frames = top.wrapping_sub(start) as usize / size_of::<ShadowFrame>();
        (0..frames.min(below)).rev().map(move |number| {
            let at = core::ptr::with_exposed_provenance::<ShadowFrame>(start as usize).wrapping_add(number);
            // SAFETY: between the start and the top of a shadow stack, which lives as long as this context is in use. A
            // frame in the making holds some number; an interrupt's are gone when it is over.
            let ShadowFrame { return_address, sp, .. } = unsafe { at.read_volatile() };
            (number, return_address, sp)
        })
    }

    /// How many calls were not hooked because the shadow stack was full, or there is none.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// How many hooked calls never returned, as far as a later return has shown it.
    pub fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Tells that an exception handler of this level begins; returns what [`leave`](Self::leave) must be given at its end.
    ///
    /// A kernel that never calls this is traced all the same; what its interrupt handlers call while they interrupt a
    /// callback is then counted as a miss.
    pub fn enter(&self, level: Level) -> Outer {
        let outer = Outer {
            busy: self.busy.load(Ordering::Relaxed),
            level: self.level.load(Ordering::Relaxed),
            below: self.below.load(Ordering::Relaxed),
        };
        let below = if outer.busy == 0 { outer.below } else { outer.below | outer.level };
        // INVARIANT: the new level is busy from the start if it was interrupted inside a callback.
        self.below.store(below, Ordering::Relaxed);
        self.level.store(level as u32, Ordering::Relaxed);
        self.busy.store(u64::from(below & level as u32), Ordering::Relaxed);
        outer
    }

    /// Tells that the exception handler is over.
    pub fn leave(&self, outer: Outer) {
        // INVARIANT: an `Outer` holds what was here.
        self.busy.store(outer.busy, Ordering::Relaxed);
        self.level.store(outer.level, Ordering::Relaxed);
        self.below.store(outer.below, Ordering::Relaxed);
    }

    /// Whether this thread of execution is inside a callback, at any level.
    pub fn in_callback(&self) -> bool {
        self.busy.load(Ordering::Relaxed) != 0 || self.below.load(Ordering::Relaxed) != 0
    }

    /// Whether the thread of execution, interrupted or preempted at `pc`, is quiescent: it is inside no callback, and not on
    /// the few instructions of a stub before the guard is taken or after it is given back.
    pub fn is_quiescent(&self, pc: TextAddr, stubs: &[TextRange]) -> bool {
        !self.in_callback() && !stubs.iter().any(|stub| stub.contains(pc))
    }

    /// How many calls went untraced because their level was inside a callback already.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl TraceContext {
    /// As if so many calls were hooked.
    pub(crate) fn pretend_depth(&self, calls: u64) {
        let top = self.shadow_start.load(Ordering::Relaxed) + calls * size_of::<ShadowFrame>() as u64;
        self.shadow_top.store(top, Ordering::Relaxed);
    }
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::new()
    }
}

/// What an exception interrupted.
#[derive(Debug)]
#[must_use = "give it back to `TraceContext::leave` when the handler ends"]
pub struct Outer {
    busy: u64,
    level: u32,
    below: u32,
}

#[cfg(test)]
mod tests {
    use super::{Level, TraceContext};
    use crate::address::{TextAddr, TextRange};
    use core::sync::atomic::Ordering;

    fn is_busy(context: &TraceContext) -> bool {
        context.busy.load(Ordering::Relaxed) != 0
    }

    #[test]
    fn inside_a_callback_or_a_stub_nothing_is_quiescent() {
        let context = TraceContext::new();
        let stubs = [TextRange::new(TextAddr::new(0x100), TextAddr::new(0x180))];
        assert!(context.is_quiescent(TextAddr::new(0xfc), &stubs));
        assert!(!context.is_quiescent(TextAddr::new(0x17c), &stubs));
        context.busy.store(1, Ordering::Relaxed);
        assert!(!context.is_quiescent(TextAddr::new(0xfc), &stubs));
        // Neither for the handler that interrupted the callback.
        let outer = context.enter(Level::Irq);
        assert!(!context.is_quiescent(TextAddr::new(0xfc), &stubs));
        context.leave(outer);
    }

    #[test]
    fn each_level_can_be_inside_a_callback_once() {
        let context = TraceContext::new();
        context.busy.store(1, Ordering::Relaxed);
        let thread = context.enter(Level::Irq);
        assert!(!is_busy(&context), "the handler's own level");
        context.busy.store(1, Ordering::Relaxed);
        let irq = context.enter(Level::Nmi);
        assert!(!is_busy(&context));
        let nmi = context.enter(Level::Irq);
        assert!(is_busy(&context), "the same level once more, inside its own callback");
        context.leave(nmi);
        assert!(!is_busy(&context));
        context.leave(irq);
        assert!(is_busy(&context));
        context.busy.store(0, Ordering::Relaxed);
        context.leave(thread);
        assert!(is_busy(&context), "the thread's callback goes on");
    }

    #[test]
    fn a_handler_that_interrupts_no_callback_leaves_no_trace() {
        let context = TraceContext::new();
        let thread = context.enter(Level::Irq);
        let irq = context.enter(Level::Irq);
        assert!(!is_busy(&context) && !context.in_callback());
        context.leave(irq);
        context.leave(thread);
        assert!(!context.in_callback());
    }
}
