//! The memory of a shadow stack.

use super::frame::{BOUND, FREE, ShadowFrame};
use crate::context::in_place::in_place;
use core::cell::Cell;
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

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
    pub(super) const fn start(&self) -> *mut ShadowFrame {
        core::ptr::from_ref(self).cast::<ShadowFrame>().wrapping_add(1).cast_mut()
    }

    /// Makes all frames free.
    pub(super) fn clear(&self) {
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

    pub(super) fn start(&self) -> *mut ShadowFrame {
        self.0.as_ptr().wrapping_add(1).cast_mut()
    }

    pub(super) fn clear(&self) {
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
