//! A frame of a shadow stack, and the way from it to those below.

use crate::address::TextAddr;
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, offset_of};
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};

/// How many bytes of an ops's own there are in a frame.
pub const DATA_BYTES: usize = 16;

/// The SP of what lies below all calls, and the first word behind the last frame.
pub(super) const BOUND: u64 = u64::MAX;
/// The return address of a frame that is free, or in the making.
pub(super) const FREE: u64 = 0;

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
    pub(super) const fn new(sp: u64) -> Self {
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
