//! The deepest stack: how far down a call has gone, and by which calls (Linux's `stack_trace`).
//!
//! Floor 5.

use super::kernel::Keeps;
use crate::address::TextAddr;
use crate::ops::Ops;
use crate::regs::FtraceRegs;
use crate::unwind::Frames;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The most frames of the deepest stack that are kept.
pub const MAX_FRAMES: usize = 64;

/// Where the running thread's stack is, and where the deepest one is kept.
///
/// # Safety
///
/// 1. [`stack`](Self::stack) returns memory that may be read for as long as the running thread does not end.
pub unsafe trait Stacks: Keeps<DeepestStack> {
    /// The running thread's stack.
    fn stack() -> Range<u64>;
}

/// An ops that looks at each call of the functions that it is registered for.
pub const fn deepest<K: Stacks>() -> Ops {
    Ops::new(look::<K>)
}

extern "C" fn look<K: Stacks>(ip: TextAddr, parent_ip: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    let deepest = K::kept();
    let sp = regs.stack_pointer();
    let stack = K::stack();
    let used = stack.end.saturating_sub(sp);
    if stack.contains(&sp) && used > deepest.used.load(Ordering::Relaxed) {
        // SAFETY: the implementation of `Stacks` promises that the stack is mapped.
        let frames = unsafe { Frames::new(regs.frame_pointer(), sp..stack.end) };
        deepest.take(used, [ip, parent_ip].into_iter().chain(frames));
    }
}

/// The deepest stack so far.
#[derive(Debug)]
pub struct DeepestStack {
    used: AtomicU64,
    taking: AtomicBool,
    count: AtomicU64,
    frames: [AtomicU64; MAX_FRAMES],
}

impl DeepestStack {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            used: AtomicU64::new(0),
            taking: AtomicBool::new(false),
            count: AtomicU64::new(0),
            frames: [const { AtomicU64::new(0) }; MAX_FRAMES],
        }
    }

    /// How many bytes of it were in use at the callsite.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The function that was called, by its callsite, and the return addresses from there on, the innermost first.
    ///
    /// Right when nothing is traced meanwhile.
    pub fn frames(&self) -> impl Iterator<Item = TextAddr> {
        let count = self.count.load(Ordering::Acquire) as usize;
        self.frames.iter().take(count).map(|frame| TextAddr::new(frame.load(Ordering::Relaxed)))
    }

    /// Keeps these frames, unless another CPU, or what this one interrupted, is just keeping its own.
    fn take(&self, used: u64, frames: impl Iterator<Item = TextAddr>) {
        if self.taking.swap(true, Ordering::Acquire) {
            return;
        }
        if used > self.used.load(Ordering::Relaxed) {
            let mut count = 0;
            for (place, frame) in self.frames.iter().zip(frames) {
                place.store(frame.get(), Ordering::Relaxed);
                count += 1;
            }
            self.count.store(count, Ordering::Release);
            self.used.store(used, Ordering::Relaxed);
        }
        self.taking.store(false, Ordering::Release);
    }
}

impl Default for DeepestStack {
    fn default() -> Self {
        Self::new()
    }
}
