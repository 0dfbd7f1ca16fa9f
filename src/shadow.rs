//! The shadow stack: where traced calls will really return to.
//!
//! Floor 1. At the entry of a function whose return is hooked, the address that it will return to is put on the shadow
//! stack of the running thread's [`TraceContext`](crate::TraceContext), and the address of the return stub takes its place.
//! The return stub takes it down again. So hooked calls and returns nest as the calls do:
//!
//! ```text
//!   top ->  +-------------------------------+
//!           | returns to, function, SP, ... |  the innermost hooked call
//!           | ...                           |
//!           | the lowest: SP = all ones     |  below it nothing can be taken down
//!           +-------------------------------+
//! ```
//!
//! A call that never returns (a panic that is caught, a task that is killed, a longjmp) leaves its frame behind. It is told
//! from others by SP: a function returns with the SP that it was called with, so frames above the one with that SP are of
//! calls that are over, on whatever stack they were. They are dropped at the next return, and counted.
//!
//! The memory is the kernel's: [`ShadowStack`] in a `static`, or in what belongs to a task, for as long as its context.

use crate::address::TextAddr;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;

/// How many bytes of an ops's own there are in a frame.
pub const DATA_BYTES: usize = 16;

/// One hooked call.
#[repr(C)]
pub struct ShadowFrame {
    /// Where it returns to: an address of the caller's, or the return stub's for the outer of two ops at one function.
    pub(crate) return_address: u64,
    /// Where the function went on behind its callsite.
    pub(crate) function: u64,
    /// SP at the callsite, and at the return.
    pub(crate) sp: u64,
    /// CNTVCT_EL0 at the entry.
    pub(crate) entry_time: u64,
    /// The address of the ops.
    pub(crate) ops: u64,
    /// For a probe without an entry: the ticks of the hooked calls inside this one, as far as their exits have said so.
    pub(crate) inside: u64,
    pub(crate) data: MaybeUninit<[u64; DATA_BYTES / 8]>,
}

const _: () = assert!(size_of::<ShadowFrame>() == 64);

impl ShadowFrame {
    /// What lies below all calls.
    const LOWEST: Self = Self {
        return_address: 0,
        function: 0,
        sp: u64::MAX,
        entry_time: 0,
        ops: 0,
        inside: 0,
        data: MaybeUninit::uninit(),
    };

    /// The callsite of the function: the `ip` of its entry.
    pub const fn ip(&self) -> TextAddr {
        TextAddr::new(self.function).offset(-4)
    }

    /// CNTVCT_EL0 at the entry.
    pub const fn entry_time(&self) -> u64 {
        self.entry_time
    }
}

impl fmt::Debug for ShadowFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { return_address, sp, .. } = self;
        write!(f, "{} called with SP {sp:#x}, returns to {return_address:#x}", self.ip())
    }
}

/// Room for `CALLS` hooked calls inside each other.
#[repr(C, align(16))]
pub struct ShadowStack<const CALLS: usize> {
    lowest: UnsafeCell<ShadowFrame>,
    frames: [UnsafeCell<MaybeUninit<ShadowFrame>>; CALLS],
}

// SAFETY: only the thread of execution that has the context touches it, and its interrupts, one inside the other.
unsafe impl<const CALLS: usize> Sync for ShadowStack<CALLS> {}

impl<const CALLS: usize> ShadowStack<CALLS> {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            lowest: UnsafeCell::new(ShadowFrame::LOWEST),
            frames: [const { UnsafeCell::new(MaybeUninit::uninit()) }; CALLS],
        }
    }

    /// Its first frame and the end of its last.
    pub(crate) fn bounds(&self) -> [u64; 2] {
        let start = core::ptr::from_ref(&self.frames).expose_provenance() as u64;
        let _ = self.lowest.get().expose_provenance();
        [start, start + size_of_val(&self.frames) as u64]
    }
}

#[cfg(test)]
impl<const CALLS: usize> ShadowStack<CALLS> {
    /// One with these return addresses and SPs, from the outermost call inwards.
    pub(crate) fn with_frames(frames: &[(u64, u64)]) -> Self {
        let mut stack = Self::new();
        for (place, (return_address, sp)) in stack.frames.iter_mut().zip(frames) {
            let (return_address, sp) = (*return_address, *sp);
            place.get_mut().write(ShadowFrame { return_address, sp, ..ShadowFrame::LOWEST });
        }
        stack
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

/// The address of the [return stub](crate::returns).
#[cfg(target_os = "none")]
pub(crate) fn return_stub() -> TextAddr {
    unsafe extern "C" {
        fn fentry_return();
    }
    TextAddr::new((fentry_return as *const ()).addr() as u64)
}

/// A host has none.
#[cfg(not(target_os = "none"))]
pub(crate) const fn return_stub() -> TextAddr {
    TextAddr::new(0)
}
