//! What is done to a thread's shadow stack: calls are put on it, given back, dropped.

use super::frame::{BOUND, FREE, FrameRef, HookedFrames, ShadowFrame};
use super::return_stub;
use super::stack::{ShadowFrames, ShadowStack};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, compiler_fence};

/// What a context without a stack has: no room, and nothing to take down.
static NO_STACK: ShadowStack<0> = ShadowStack::new();

/// The calls of one thread of execution whose returns are hooked: a part of its [`TraceContext`](crate::TraceContext).
///
/// # Invariants
///
/// `top` points into a [`ShadowStack`] that lives as long as the context is in use: at a frame, or at its end.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct HookedCalls {
    /// Behind the frame of the innermost hooked call.
    pub(crate) top: AtomicPtr<ShadowFrame>,
    start: AtomicPtr<ShadowFrame>,
    /// The thread's stack, from its lowest address to behind its highest; equal where that is not known.
    stack: [AtomicU64; 2],
    pub(crate) overflows: AtomicU64,
    pub(crate) abandoned: AtomicU64,
}

/// A call that shall be hooked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HookedCall {
    pub(crate) return_address: u64,
    pub(crate) function: u64,
    pub(crate) sp: u64,
    pub(crate) hook: u64,
}

impl HookedCalls {
    /// No room, and no calls.
    pub(crate) const fn new() -> Self {
        Self {
            top: AtomicPtr::new(NO_STACK.start()),
            start: AtomicPtr::new(NO_STACK.start()),
            stack: [const { AtomicU64::new(0) }; 2],
            overflows: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
        }
    }

    /// Gives it an empty stack.
    ///
    /// # Safety
    ///
    /// 1. The stack is no other context's, and lives as long as this one is in use.
    /// 2. No hooked call of this thread of execution returns any more.
    pub(crate) unsafe fn give<const CALLS: usize>(&self, stack: &ShadowStack<CALLS>) {
        // SAFETY: our caller's promises.
        unsafe { self.give_at(stack.start(), || stack.clear()) };
    }

    /// Gives it an empty stack whose length was chosen when the kernel runs.
    ///
    /// # Safety
    ///
    /// As for [`give`](Self::give).
    pub(crate) unsafe fn give_frames(&self, stack: &ShadowFrames) {
        // SAFETY: our caller's promises.
        unsafe { self.give_at(stack.start(), || stack.clear()) };
    }

    /// Gives it the stack with this first frame, which `clear` clears.
    ///
    /// # Safety
    ///
    /// As for [`give`](Self::give).
    unsafe fn give_at(&self, start: *mut ShadowFrame, clear: impl FnOnce()) {
        // It may be another thread's from now on.
        self.set_stack_bounds(0, 0);
        // While its frames are cleared there is no room, for interrupts as well.
        self.top.store(NO_STACK.start(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        clear();
        // The stubs go there by an address that they load as a number.
        start.expose_provenance();
        self.start.store(start, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // INVARIANT: our caller's first promise.
        self.top.store(start, Ordering::Relaxed);
    }

    /// Forgets all calls.
    ///
    /// # Safety
    ///
    /// 1. No hooked call of this thread of execution returns any more.
    pub(crate) unsafe fn reset(&self) {
        while let Some(frame) = self.iter().next() {
            self.give_back(frame);
        }
    }

    /// Tells where the thread's stack is.
    pub(crate) fn set_stack_bounds(&self, low: u64, high: u64) {
        // Nothing is on the stack for as long as the two don't belong together.
        self.stack[1].store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        self.stack[0].store(low, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        self.stack[1].store(high, Ordering::Relaxed);
    }

    /// Returns how many calls are inside each other.
    #[inline]
    pub(crate) fn depth(&self) -> usize {
        let [top, start] = [&self.top, &self.start].map(|at| at.load(Ordering::Relaxed).addr());
        top.saturating_sub(start) / size_of::<ShadowFrame>()
    }

    /// Returns how many calls one of them is inside.
    #[inline]
    pub(crate) fn around(&self, frame: FrameRef<'_>) -> usize {
        let start = self.start.load(Ordering::Relaxed).addr();
        frame.as_ptr().addr().wrapping_sub(start) / size_of::<ShadowFrame>()
    }

    /// The frames, from the innermost call outwards.
    pub(crate) fn iter(&self) -> HookedFrames<'_> {
        // SAFETY: 1. By the invariant, a frame or the end of a stack that lives as long as we do; the pointer was made for all
        // of the stack. It is not read itself: the frame below it is, or the lowest.
        let top = unsafe { FrameRef::new(self.top.load(Ordering::Relaxed)) };
        top.around()
    }

    /// Puts a call on the stack, if there is room when what is over has been dropped.
    pub(crate) fn push(&self, call: HookedCall) -> Option<FrameRef<'_>> {
        self.drop_stale(&call);
        let top = self.top.load(Ordering::Relaxed);
        // SAFETY: by the invariant, the first word of a frame, or the end's: an atomic word of a stack that lives.
        let first = unsafe { &*top.cast::<AtomicU64>() };
        if first.load(Ordering::Relaxed) == BOUND {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        // What an interrupt left behind that was itself abandoned.
        first.store(FREE, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // Taken before it is filled: an interrupt goes on above.
        self.top.store(top.wrapping_add(1), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: 1. Not the end, so by the invariant a frame of a stack that lives as long as we do.
        let frame = unsafe { FrameRef::new(top) };
        frame.function.store(call.function, Ordering::Relaxed);
        frame.entry_time.store(0, Ordering::Relaxed);
        frame.inside.store(0, Ordering::Relaxed);
        frame.hook.store(call.hook, Ordering::Relaxed);
        frame.sp.store(call.sp, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        frame.return_address.store(call.return_address, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        Some(frame)
    }

    /// Gives the top frame back.
    pub(crate) fn give_back(&self, frame: FrameRef<'_>) {
        frame.return_address.store(FREE, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        self.top.store(frame.as_ptr(), Ordering::Relaxed);
    }

    /// Returns where the next frame would be, to be given to [`drop_left`](Self::drop_left).
    pub(crate) fn mark(&self) -> usize {
        self.top.load(Ordering::Relaxed).addr()
    }

    /// Drops the frames that were made since `mark`, by an exception handler that is over now: those of calls that its
    /// own, with an SP of `here` or above, have not ended are left behind.
    pub(crate) fn drop_left(&self, mark: usize, here: u64) {
        while let Some(frame) = self.iter().next().filter(|frame| frame.as_ptr().addr() >= mark && frame.sp() < here) {
            self.drop_top(frame);
        }
    }

    /// Drops frames from the top whose calls are over, now that this one is made.
    fn drop_stale(&self, call: &HookedCall) {
        while let Some(frame) = self.iter().next() {
            let sp = frame.sp();
            let is_over = sp < call.sp || sp == call.sp && call.return_address != return_stub().get();
            let is_made = frame.return_address() != FREE;
            if !(is_over && is_made && self.is_on_stack(sp) && self.is_on_stack(call.sp)) {
                break;
            }
            self.drop_top(frame);
        }
    }

    fn is_on_stack(&self, sp: u64) -> bool {
        let [low, high] = self.stack.each_ref().map(|bound| bound.load(Ordering::Relaxed));
        low < sp && sp <= high
    }

    /// Takes down the frame at the top, unless an interrupt has just done so.
    fn drop_top(&self, frame: FrameRef<'_>) {
        frame.return_address.store(FREE, Ordering::Relaxed);
        let (old, new) = (frame.as_ptr().wrapping_add(1), frame.as_ptr());
        if self.top.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Drops the frames above that of the call which returns with this SP; `None` if there is no such frame.
    pub(crate) fn bring_to_top(&self, sp: u64) -> Option<()> {
        let is_it = |frame: &FrameRef<'_>| frame.sp() == sp && frame.return_address() != FREE;
        self.iter().find(is_it)?;
        while let Some(frame) = self.iter().next().filter(|frame| !is_it(frame)) {
            self.drop_top(frame);
        }
        Some(())
    }
}

#[cfg(test)]
impl HookedCalls {
    /// Hooks calls with these return addresses and SPs, from the outermost inwards.
    pub(crate) fn push_all(&self, calls: &[(u64, u64)]) {
        for &(return_address, sp) in calls {
            self.push(HookedCall { return_address, function: 0, sp, hook: 0 }).expect("there is room");
        }
    }
}
