//! One running call: the recursion guard, the registers, the shadow stack, backtraces, the clock.
//!
//! What belongs to one thread of execution is its [`TraceContext`]; [`regs`] is what a stub saves of a call, [`shadow`]
//! where hooked calls really return to, and [`unwind`] walks frame records through both. The rest of this page is about the
//! guard that keeps a callback from being called inside itself.
//!
//! # The recursion guard
//! A callback is compiled code of a kernel whose functions are nearly all callsites: it will call traced
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

pub(crate) mod clock;
mod frame;
pub(crate) mod in_place;
mod injection;
pub mod regs;
pub mod shadow;
pub mod unwind;

use crate::address::{TextAddr, TextRange};
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};
pub(crate) use injection::TaskInjection;
use shadow::{HookedCalls, ShadowFrames, ShadowStack};

/// The level of what is running: each can be inside a callback once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum ContextLevel {
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
/// `level` holds the bit of the running [`ContextLevel`]; `below` the bits of the levels that were interrupted inside a
/// callback, and above them those of the levels that were interrupted in a probe's handler; `busy` is not zero where the running
/// level is inside a callback, or is among those, and `in_probe` where it is in a probe's handler, in the same way.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct TraceContext {
    pub(crate) busy: AtomicU64,
    pub(crate) calls: HookedCalls,
    level: AtomicU32,
    below: AtomicU32,
    pub(crate) in_probe: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) injection: TaskInjection,
}

/// How far above a level's own bit in `below` is the one that says that it was interrupted in a probe's handler.
const IN_PROBE_SHIFT: u32 = 3;

impl TraceContext {
    /// Makes a context at [`ContextLevel::Thread`] with no callback running.
    pub const fn new() -> Self {
        // INVARIANT: the thread's level, nothing interrupted.
        Self {
            busy: AtomicU64::new(0),
            calls: HookedCalls::new(),
            level: AtomicU32::new(ContextLevel::Thread as u32),
            below: AtomicU32::new(0),
            in_probe: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            injection: TaskInjection::new(),
        }
    }

    /// Gives it a shadow stack, without which no return is hooked, and resets it: at [`ContextLevel::Thread`], inside
    /// no callback and no hooked call. What it has counted stays.
    ///
    /// Where the thread's stack is should be told anew, by [`set_stack_bounds`](Self::set_stack_bounds).
    ///
    /// # Safety
    ///
    /// 1. The stack is no other context's, and lives as long as this one is in use.
    /// 2. No hooked call of this thread of execution returns any more.
    /// 3. It is inside no callback, or will never go on there: its task has ended, for example.
    /// 4. It is inside no exception handler that has [entered](Self::enter) a level.
    pub unsafe fn set_shadow_stack<const CALLS: usize>(&self, stack: &ShadowStack<CALLS>) {
        self.leave_everything();
        // SAFETY: 1., 2. Our caller's promises 1 and 2.
        unsafe { self.calls.give(stack) };
    }

    /// Gives it a shadow stack whose length was chosen when the kernel runs, as
    /// [`set_shadow_stack`](Self::set_shadow_stack) gives one.
    ///
    /// # Safety
    ///
    /// As for [`set_shadow_stack`](Self::set_shadow_stack).
    pub unsafe fn set_shadow_frames(&self, stack: &ShadowFrames) {
        self.leave_everything();
        // SAFETY: 1., 2. Our caller's promises 1 and 2.
        unsafe { self.calls.give_frames(stack) };
    }

    /// Resets it for another task: at [`ContextLevel::Thread`], inside no callback and no hooked call. What it has
    /// counted stays, and so do its shadow stack and the bounds of its stack: the other task is to run on the same one.
    ///
    /// A task that is killed leaves its context inside whatever it was inside of; a context that is used again without this
    /// may never be traced any more, nor ever be quiescent.
    ///
    /// # Safety
    ///
    /// As for [`set_shadow_stack`](Self::set_shadow_stack), from 2 on.
    pub unsafe fn reset(&self) {
        self.leave_everything();
        // SAFETY: 1. Our caller's promise 2 of `set_shadow_stack`.
        unsafe { self.calls.reset() };
    }

    fn leave_everything(&self) {
        // INVARIANT: as in `new`.
        self.level.store(ContextLevel::Thread as u32, Ordering::Relaxed);
        self.below.store(0, Ordering::Relaxed);
        self.busy.store(0, Ordering::Relaxed);
        self.in_probe.store(0, Ordering::Relaxed);
    }

    /// Enters a probe's handler, which is a callback, and may interrupt one; `None` inside another probe's of the same level.
    ///
    /// For the thread of execution that the context belongs to, which leaves before anything else of it goes on.
    pub(crate) fn enter_probe(&self) -> Option<InProbe<'_>> {
        if self.in_probe.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let busy = self.busy.load(Ordering::Relaxed);
        // INVARIANT: the running level is inside a callback, which is a probe's handler.
        self.busy.store(1, Ordering::Relaxed);
        self.in_probe.store(1, Ordering::Relaxed);
        Some(InProbe { context: self, busy })
    }

    /// Sets the bounds of the thread's stack, as addresses from its lowest to behind its highest; 0..0 where nobody knows.
    ///
    /// With it, hooked calls on that stack that never returned are dropped at the next hooked call, however they ended;
    /// without, only when a hooked call around them returns. What runs on other stacks, exception handlers for example,
    /// is not touched by it.
    ///
    /// # Safety
    ///
    /// 1. That is the stack of this context's thread of execution, and nothing else that runs in this context uses a part of
    ///    it, but for exception handlers that go on below what they interrupt.
    /// 2. There a function calls another one with the SP that it was called with itself only by a tail call. (Compilers do
    ///    no other.)
    pub unsafe fn set_stack_bounds(&self, stack: Range<u64>) {
        self.calls.set_stack_bounds(stack.start, stack.end);
    }

    /// Returns the number of hooked calls that are under way, inside each other.
    #[inline]
    pub fn depth(&self) -> usize {
        self.calls.depth()
    }

    /// Returns how many calls were not hooked because the shadow stack was full, or there is none.
    pub fn overflows(&self) -> u64 {
        self.calls.overflows.load(Ordering::Relaxed)
    }

    /// Returns how many hooked calls never returned, as far as a later call or return has shown it.
    pub fn abandoned(&self) -> u64 {
        self.calls.abandoned.load(Ordering::Relaxed)
    }

    /// Enters an exception handler of this level; returns what [`leave`](Self::leave) must be given at its end.
    ///
    /// A kernel that never calls this is traced all the same; what its interrupt handlers call while they interrupt a
    /// callback is then counted as a miss.
    ///
    /// # Safety
    ///
    /// 1. The context is that of the thread of execution that calls this.
    /// 2. The result is given to [`leave`](Self::leave) of the same context, by the same thread of execution, before what
    ///    was interrupted goes on.
    /// 3. Of several handlers inside each other, the one that entered last leaves first; and a callback that is called
    ///    between the two calls has ended before the second.
    pub unsafe fn enter(&self, level: ContextLevel) -> Interrupted {
        let outer = Interrupted {
            busy: self.busy.load(Ordering::Relaxed),
            in_probe: self.in_probe.load(Ordering::Relaxed),
            level: self.level.load(Ordering::Relaxed),
            below: self.below.load(Ordering::Relaxed),
            calls: self.calls.mark(),
        };
        let mut below = outer.below;
        if outer.busy != 0 {
            below |= outer.level;
            if outer.in_probe != 0 {
                below |= outer.level << IN_PROBE_SHIFT;
            }
        }
        // INVARIANT: the new level is busy from the start if it was interrupted inside a callback.
        self.below.store(below, Ordering::Relaxed);
        // In this order, so that whatever interrupts finds one of the two that says that a callback is going on.
        compiler_fence(Ordering::SeqCst);
        self.level.store(level as u32, Ordering::Relaxed);
        self.busy.store(u64::from(below & level as u32), Ordering::Relaxed);
        self.in_probe.store(u64::from(below >> IN_PROBE_SHIFT & level as u32), Ordering::Relaxed);
        outer
    }

    /// Leaves an exception handler. Hooked calls that were made inside it and never returned are dropped.
    ///
    /// # Safety
    ///
    /// 1. `outer` is what the call of [`enter`](Self::enter) has returned that this one ends, with what is promised there.
    pub unsafe fn leave(&self, outer: Interrupted) {
        // Our callers are above this, on the stack that the handler runs on.
        let here = 0_u8;
        self.calls.drop_left(outer.calls, (&raw const here).addr() as u64);
        // INVARIANT: an `Interrupted` holds what was here.
        self.busy.store(outer.busy, Ordering::Relaxed);
        self.in_probe.store(outer.in_probe, Ordering::Relaxed);
        self.level.store(outer.level, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        self.below.store(outer.below, Ordering::Relaxed);
    }

    /// Returns whether this thread of execution is inside a callback, at any level.
    pub fn in_callback(&self) -> bool {
        self.busy.load(Ordering::Relaxed) != 0 || self.below.load(Ordering::Relaxed) != 0
    }

    /// Returns whether the thread of execution, interrupted or preempted at `pc`, is quiescent: it is inside no
    /// callback, and not on the few instructions of a stub before the guard is taken or after it is given back.
    pub fn is_quiescent(&self, pc: TextAddr, stubs: &[TextRange]) -> bool {
        !self.in_callback() && !stubs.iter().any(|stub| stub.contains(pc))
    }

    /// Says whether injections with a [task filter](crate::inject::Injection::set_task_filter) are for this task; at first they
    /// are not (Linux: `make-it-fail`).
    pub fn set_may_fail(&self, may_fail: bool) {
        self.injection.set_may_fail(may_fail);
    }

    /// Whether what runs is the thread itself, and no exception handler.
    pub(crate) fn is_thread(&self) -> bool {
        self.level.load(Ordering::Relaxed) == ContextLevel::Thread as u32
    }

    /// Returns how many calls went untraced because their level was inside a callback already.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}

/// A probe's handler runs.
pub(crate) struct InProbe<'a> {
    context: &'a TraceContext,
    busy: u64,
}

impl Drop for InProbe<'_> {
    fn drop(&mut self) {
        // INVARIANT: as it was.
        self.context.in_probe.store(0, Ordering::Relaxed);
        self.context.busy.store(self.busy, Ordering::Relaxed);
    }
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::new()
    }
}

/// The state of the level that an exception interrupted.
#[derive(Debug)]
#[must_use = "give it back to `TraceContext::leave` when the handler ends"]
pub struct Interrupted {
    busy: u64,
    in_probe: u64,
    level: u32,
    below: u32,
    /// Up to where there were hooked calls.
    calls: usize,
}

#[cfg(test)]
mod tests {
    use super::{ContextLevel, Interrupted, TraceContext};
    use crate::address::{TextAddr, TextRange};
    use core::sync::atomic::Ordering;

    fn enter(context: &TraceContext, level: ContextLevel) -> Interrupted {
        // SAFETY: these tests leave in the reverse order, and nothing else uses the context.
        unsafe { context.enter(level) }
    }

    fn leave(context: &TraceContext, outer: Interrupted) {
        // SAFETY: as above.
        unsafe { context.leave(outer) };
    }

    #[test]
    fn a_context_whose_task_was_killed_inside_everything_is_as_new() {
        let context = TraceContext::new();
        context.busy.store(1, Ordering::Relaxed);
        let _ = enter(&context, ContextLevel::Irq);
        context.busy.store(1, Ordering::Relaxed);
        // SAFETY: nothing goes on.
        unsafe { context.reset() };
        assert!(!is_busy(&context) && !context.in_callback());
        let outer = enter(&context, ContextLevel::Irq);
        assert!(!is_busy(&context), "the handler's level was not inside a callback");
        leave(&context, outer);
    }

    #[test]
    fn what_is_counted_shows() {
        let context = TraceContext::new();
        context.misses.store(3, Ordering::Relaxed);
        context.calls.overflows.store(4, Ordering::Relaxed);
        context.calls.abandoned.store(5, Ordering::Relaxed);
        assert_eq!((context.misses(), context.overflows(), context.abandoned()), (3, 4, 5));
    }

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
        let outer = enter(&context, ContextLevel::Irq);
        assert!(!context.is_quiescent(TextAddr::new(0xfc), &stubs));
        leave(&context, outer);
    }

    #[test]
    fn each_level_can_be_inside_a_callback_once() {
        let context = TraceContext::new();
        context.busy.store(1, Ordering::Relaxed);
        let thread = enter(&context, ContextLevel::Irq);
        assert!(!is_busy(&context), "the handler's own level");
        context.busy.store(1, Ordering::Relaxed);
        let irq = enter(&context, ContextLevel::Nmi);
        assert!(!is_busy(&context));
        let nmi = enter(&context, ContextLevel::Irq);
        assert!(is_busy(&context), "the same level once more, inside its own callback");
        leave(&context, nmi);
        assert!(!is_busy(&context));
        leave(&context, irq);
        assert!(is_busy(&context));
        context.busy.store(0, Ordering::Relaxed);
        leave(&context, thread);
        assert!(is_busy(&context), "the thread's callback goes on");
    }

    #[test]
    fn a_handler_that_interrupts_no_callback_leaves_no_trace() {
        let context = TraceContext::new();
        let thread = enter(&context, ContextLevel::Irq);
        let irq = enter(&context, ContextLevel::Irq);
        assert!(!is_busy(&context) && !context.in_callback());
        leave(&context, irq);
        leave(&context, thread);
        assert!(!context.in_callback());
    }
}
