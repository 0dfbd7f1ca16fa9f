//! The shadow stack: where traced calls will really return to.
//!
//! At the entry of a function whose return is hooked, the address that it will return to is put on the shadow
//! stack of the running thread's [`TraceContext`](crate::TraceContext), and the address of the return stub takes its place.
//! The return stub takes it down again. So hooked calls and returns nest as the calls do:
//!
//! ```text
//!   lowest  +-------------------------------+
//!           | SP = all ones                 |  below it nothing can be taken down
//!   start   +-------------------------------+
//!           | returns to, function, SP, ... |  the outermost hooked call
//!           | ...                           |
//!   top ->  +-------------------------------+
//!           | 0, ...                        |  free: returns to nowhere
//!           | ...                           |
//!   end     +-------------------------------+
//!           | all ones                      |  no room from here on
//! ```
//!
//! Both bounds are marked in the memory itself, next to what is loaded anyway: the stub looks at the SP below `top` and at
//! the word at `top`, which are neighbours, and so knows with one load whether there is room and whether what is below
//! is still going on. One store of `top` is all that it takes to give a thread another stack.
//!
//! # Calls that never return
//! A panic that is caught, a task that is killed, a longjmp leave frames behind. They are told from others by SP, since
//! stacks grow downwards:
//!
//! - at a *return*, a function has the SP that it was called with, so frames above the one with that SP are of calls that
//!   are over, on whatever stack they were;
//! - at the *end of an exception handler* that the context was told of, frames that were made since its beginning are of
//!   calls that are over, but for those of the handler's own callers;
//! - at an *entry*, a frame of the same stack whose SP is below the new call's is over; and one with the same SP is over as
//!   well, unless the new call will return to the return stub: then it is a tail call of that one, or a second hook at the
//!   same function. Which stack an SP belongs to is known where the context was told its
//!   [bounds](crate::TraceContext::set_stack_bounds); frames of other stacks are left alone.
//!
//! What is dropped is counted.
//!
//! # Interrupts
//! A context is changed by its thread and by what interrupts it, and an interrupt leaves `top` where it was, but for stale
//! frames that it may have dropped. (One whose handler leaves hooked calls behind, and which the context was not told of,
//! leaves their frames, until something below them returns.) A frame is taken (`top` goes up) before it is filled, and its
//! return address is written last. Until then it holds zero there, because whoever gives a frame back writes zero first: so
//! a frame in the making is told from a stale one.
//!
//! The memory is the kernel's: [`ShadowStack`] in a `static`, or in what belongs to a task, for as long as its context; or
//! [`ShadowFrames`] in bytes of its allocator.

use super::in_place::in_place;
use crate::address::TextAddr;
use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, offset_of};
use core::ops::Deref;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, compiler_fence};
use thiserror::Error;

/// How many bytes of an ops's own there are in a frame.
pub const DATA_BYTES: usize = 16;

/// The SP of what lies below all calls, and the first word behind the last frame.
const BOUND: u64 = u64::MAX;
/// The return address of a frame that is free, or in the making.
const FREE: u64 = 0;

/// One hooked call.
#[repr(C)]
pub(crate) struct ShadowFrame {
    /// Where it returns to: an address of the caller's, or the return stub's for the outer of two ops at one function.
    pub(crate) return_address: AtomicU64,
    /// Where the function went on behind its callsite.
    pub(crate) function: AtomicU64,
    /// CNTVCT_EL0 at the entry.
    pub(crate) entry_time: AtomicU64,
    /// The ticks of the hooked calls inside this one, as far as their exits have said so.
    pub(crate) inside: AtomicU64,
    /// What the entry hands to the exit.
    pub(crate) data: UnsafeCell<MaybeUninit<[u64; DATA_BYTES / 8]>>,
    /// Whose exit handler runs at the return: a [`HookId`](crate::ops::HookId).
    pub(crate) hook: AtomicU64,
    /// SP at the callsite, and at the return.
    pub(crate) sp: AtomicU64,
}

const _: () = assert!(size_of::<ShadowFrame>() == 64);
// The stubs load the SP of the top frame together with the first word above it, and store pairs of neighbours.
const _: () = assert!(
    offset_of!(ShadowFrame, return_address) == 0
        && offset_of!(ShadowFrame, function) == 8
        && offset_of!(ShadowFrame, inside) == offset_of!(ShadowFrame, entry_time) + 8
        && offset_of!(ShadowFrame, sp) == offset_of!(ShadowFrame, hook) + 8
        && offset_of!(ShadowFrame, sp) == size_of::<ShadowFrame>() - 8
);

impl ShadowFrame {
    const fn new(sp: u64) -> Self {
        Self {
            return_address: AtomicU64::new(FREE),
            function: AtomicU64::new(0),
            entry_time: AtomicU64::new(0),
            inside: AtomicU64::new(0),
            data: UnsafeCell::new(MaybeUninit::uninit()),
            hook: AtomicU64::new(0),
            sp: AtomicU64::new(sp),
        }
    }

    /// The callsite of the function: the `ip` of its entry. Of a call of the running thread that is under way.
    #[inline]
    pub(crate) fn ip(&self) -> TextAddr {
        // Not atomic, so that who doesn't look at it doesn't load it.
        // SAFETY: aligned and inside the frame; no thread but this one writes it, and this one not while the call is under
        // way.
        TextAddr::new(unsafe { self.function.as_ptr().read() }).offset(-4)
    }

    /// Returns where the function returns to.
    #[inline]
    pub(crate) fn return_address(&self) -> u64 {
        self.return_address.load(Ordering::Relaxed)
    }

    /// SP at the callsite.
    #[inline]
    pub(crate) fn sp(&self) -> u64 {
        self.sp.load(Ordering::Relaxed)
    }

    fn is_lowest(&self) -> bool {
        self.sp() == BOUND
    }
}

/// A frame on a shadow stack, from which the frames below it can be reached.
///
/// # Invariants
///
/// It points at a frame, or at the lowest one, of a [`ShadowStack`] that lives for `'a`, and may be used for all of it.
#[derive(Clone, Copy)]
pub(crate) struct FrameRef<'a> {
    at: *mut ShadowFrame,
    stack: PhantomData<&'a ShadowFrame>,
}

impl<'a> FrameRef<'a> {
    /// The frame at this address.
    ///
    /// # Safety
    ///
    /// 1. It is one of a shadow stack that lives for as long as this is used, and the pointer may be used for all of it.
    #[inline]
    pub(crate) const unsafe fn new(at: *mut ShadowFrame) -> Self {
        // INVARIANT: our caller's promise.
        Self { at, stack: PhantomData }
    }

    /// Returns its address.
    #[inline]
    pub(crate) const fn as_ptr(self) -> *mut ShadowFrame {
        self.at
    }

    /// The one below; the lowest has none.
    #[inline]
    pub(crate) fn below(self) -> Self {
        // INVARIANT: below a frame that isn't the lowest there is another one.
        Self { at: self.at.wrapping_sub(1), ..self }
    }

    /// The frames that it is inside, from the innermost call outwards.
    #[inline]
    pub(crate) fn around(self) -> HookedFrames<'a> {
        HookedFrames { next: self.below() }
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Deref for FrameRef<'_> {
    type Target = ShadowFrame;

    #[inline]
    fn deref(&self) -> &ShadowFrame {
        // SAFETY: the invariant: a frame that lives for `'a`. Everything in it but its data is atomic, and that is reached
        // through its cell only.
        unsafe { &*self.at }
    }
}

impl fmt::Debug for ShadowFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sp, return_address) = (self.sp(), self.return_address());
        write!(f, "{} called with SP {sp:#x}, returns to {return_address:#x}", self.ip())
    }
}

/// Room for `CALLS` hooked calls inside each other.
#[repr(C, align(16))]
pub struct ShadowStack<const CALLS: usize> {
    lowest: ShadowFrame,
    frames: [ShadowFrame; CALLS],
    end: AtomicU64,
}

// SAFETY: everything but a frame's data is atomic, and that is touched only by the thread of execution that has the
// context.
unsafe impl<const CALLS: usize> Sync for ShadowStack<CALLS> {}

impl<const CALLS: usize> ShadowStack<CALLS> {
    /// Makes a stack without calls.
    pub const fn new() -> Self {
        Self {
            lowest: ShadowFrame::new(BOUND),
            frames: [const { ShadowFrame::new(0) }; CALLS],
            end: AtomicU64::new(BOUND),
        }
    }

    /// Makes a stack without calls where it stays, with nothing of it on the stack of the one who calls:
    ///
    /// ```
    /// # use fentry::context::shadow::ShadowStack;
    /// let mut memory = Box::<ShadowStack<256>>::new_uninit();
    /// ShadowStack::new_in(&mut memory);
    /// // SAFETY: just initialised.
    /// let stack: Box<ShadowStack<256>> = unsafe { memory.assume_init() };
    /// # drop(stack);
    /// ```
    pub fn new_in(memory: &mut MaybeUninit<Self>) -> &mut Self {
        let place = memory.as_mut_ptr();
        // SAFETY: inside the place.
        let lowest = unsafe { &raw mut (*place).lowest };
        // SAFETY: as above.
        let frames = unsafe { &raw mut (*place).frames }.cast::<ShadowFrame>();
        // SAFETY: as above.
        let end = unsafe { &raw mut (*place).end };
        // SAFETY: the place is ours, and aligned.
        unsafe { lowest.write(ShadowFrame::new(BOUND)) };
        for number in 0..CALLS {
            // SAFETY: as above; there are so many frames.
            unsafe { frames.wrapping_add(number).write(ShadowFrame::new(0)) };
        }
        // SAFETY: as above.
        unsafe { end.write(AtomicU64::new(BOUND)) };
        // SAFETY: these are all of its fields.
        unsafe { memory.assume_init_mut() }
    }

    /// The first frame; all of the stack may be reached from there.
    const fn start(&self) -> *mut ShadowFrame {
        core::ptr::from_ref(self).cast::<ShadowFrame>().wrapping_add(1).cast_mut()
    }

    /// Makes all frames free.
    fn clear(&self) {
        for frame in &self.frames {
            frame.return_address.store(FREE, Ordering::Relaxed);
        }
    }
}

impl<const CALLS: usize> Default for ShadowStack<CALLS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const CALLS: usize> fmt::Debug for ShadowStack<CALLS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShadowStack of {CALLS} calls")
    }
}

/// Room for as many hooked calls inside each other as a piece of memory holds: a [`ShadowStack`] whose length is chosen when
/// the kernel runs, for [`set_shadow_frames`](crate::TraceContext::set_shadow_frames).
///
/// ```
/// use core::mem::MaybeUninit;
/// use fentry::context::shadow::ShadowFrames;
///
/// let calls = 300;
/// let memory = vec![MaybeUninit::uninit(); ShadowFrames::bytes(calls)].leak();
/// let stack: &'static ShadowFrames = ShadowFrames::new_in(memory).unwrap();
/// assert!(stack.calls() >= calls);
/// ```
#[repr(transparent)]
pub struct ShadowFrames(
    /// # Invariants
    ///
    /// Three at least. The first is the lowest, and the last one's first word is the bound: it is no frame.
    [ShadowFrame],
);

// SAFETY: as for `ShadowStack`.
unsafe impl Sync for ShadowFrames {}

/// The memory for a shadow stack is too small for a single call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("A shadow stack takes {needed} bytes at least, and was given {bytes}")]
pub struct ShadowMemoryError {
    /// How many bytes there are.
    pub bytes: usize,
    /// How many are enough, however they are aligned.
    pub needed: usize,
}

impl ShadowFrames {
    /// Returns how many bytes are enough for so many calls, however they are aligned.
    pub const fn bytes(calls: usize) -> usize {
        (calls + 2) * size_of::<ShadowFrame>() + align_of::<ShadowFrame>() - 1
    }

    /// Makes a stack without calls of all of this memory, where it stays.
    ///
    /// # Errors
    ///
    /// If there is no room for one call.
    pub fn new_in(memory: &mut [MaybeUninit<u8>]) -> Result<&mut Self, ShadowMemoryError> {
        let bytes = memory.len();
        let count = Cell::new(0);
        let choose = |fitting| {
            count.set(if fitting < 3 { 0 } else { fitting });
            count.get()
        };
        let make = |number, place: &mut MaybeUninit<ShadowFrame>| {
            let is_last = number + 1 == count.get();
            let frame = place.write(ShadowFrame::new(if number == 0 { BOUND } else { 0 }));
            if is_last {
                *frame.return_address.get_mut() = BOUND;
            }
        };
        // SAFETY: 1. it writes each.
        let frames = unsafe { in_place(memory, choose, make) };
        if frames.is_empty() {
            return Err(ShadowMemoryError { bytes, needed: Self::bytes(1) });
        }
        let frames = core::ptr::from_mut(frames) as *mut Self;
        // INVARIANT: three at least, the first and the last as they should be.
        // SAFETY: the same memory, for as long; `ShadowFrames` is nothing but the slice.
        Ok(unsafe { &mut *frames })
    }

    /// Returns how many calls there is room for.
    pub const fn calls(&self) -> usize {
        self.0.len() - 2
    }

    fn start(&self) -> *mut ShadowFrame {
        self.0.as_ptr().wrapping_add(1).cast_mut()
    }

    fn clear(&self) {
        for frame in &self.0[..self.0.len() - 1] {
            frame.return_address.store(FREE, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for ShadowFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShadowFrames of {} calls", self.calls())
    }
}

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
        HookedFrames { next: top.below() }
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

/// Iterates over the frames of a shadow stack, from the top down.
#[derive(Clone)]
pub(crate) struct HookedFrames<'a> {
    next: FrameRef<'a>,
}

impl<'a> Iterator for HookedFrames<'a> {
    type Item = FrameRef<'a>;

    fn next(&mut self) -> Option<FrameRef<'a>> {
        let frame = self.next;
        if frame.is_lowest() {
            return None;
        }
        self.next = frame.below();
        Some(frame)
    }
}

/// The address of the [return stub](crate::stub::exit).
#[cfg(target_os = "none")]
pub(crate) fn return_stub() -> TextAddr {
    // Declared as where the stubs are collected: the compiler keeps one declaration of a name.
    unsafe extern "C" {
        static fentry_return: u32;
    }
    TextAddr::new((&raw const fentry_return).addr() as u64)
}

/// A host has none; where nothing is.
#[cfg(not(target_os = "none"))]
pub(crate) const fn return_stub() -> TextAddr {
    TextAddr::new(8)
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

#[cfg(test)]
mod tests;
