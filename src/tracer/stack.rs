//! The deepest stack: how far down a call has gone, and by which calls (Linux's `stack_trace`).

use super::kernel::StoreIn;
use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;
use crate::context::unwind::Frames;
use crate::ops::Ops;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The most frames of the deepest stack that are kept.
pub const MAX_FRAMES: usize = 64;

/// Where the running thread's stack is, and where the deepest one is kept.
///
/// # Safety
///
/// 1. [`stack`](Self::stack) returns memory that may be read for as long as the running thread does not end.
pub unsafe trait Stacks: StoreIn<DeepestStack> {
    /// The running thread's stack.
    fn stack() -> Range<u64>;
}

/// Makes an ops that looks at the stack at each call of the functions that it is registered for.
pub const fn deepest<K: Stacks>() -> Ops {
    Ops::new(look::<K>)
}

extern "C" fn look<K: Stacks>(ip: TextAddr, parent_ip: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    let deepest = K::store();
    let sp = regs.stack_pointer();
    let stack = K::stack();
    let used = stack.end.saturating_sub(sp);
    if stack.contains(&sp) && used > deepest.used.load(Ordering::Relaxed) {
        // SAFETY: 1. Part of the running thread's stack, which may be read by the promise of `Stacks`.
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
    /// Makes a record of no stack yet.
    pub const fn new() -> Self {
        Self {
            used: AtomicU64::new(0),
            taking: AtomicBool::new(false),
            count: AtomicU64::new(0),
            frames: [const { AtomicU64::new(0) }; MAX_FRAMES],
        }
    }

    /// Returns how many bytes of it were in use at the callsite.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the function that was called, by its callsite, and the return addresses from there on, the innermost first.
    ///
    /// Right when nothing is traced meanwhile.
    pub fn frames(&self) -> impl Iterator<Item = TextAddr> {
        let count = self.count.load(Ordering::Acquire) as usize;
        self.frames.iter().take(count).map(|frame| TextAddr::new(frame.load(Ordering::Relaxed)))
    }

    /// Forgets it: the next one is the deepest so far. Waits while another CPU is just keeping one; not for callbacks.
    pub fn clear(&self) {
        // Else one that is just being kept could keep its depth and lose its frames.
        while self.taking.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        self.count.store(0, Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
        self.taking.store(false, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use super::{DeepestStack, Stacks, StoreIn, deepest};
    use crate::address::TextAddr;
    use crate::context::regs::PtRegs;
    use crate::fakes::FakeRegs;
    use crate::ops::Ops;
    use core::ops::Range;
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::vec::Vec;
    extern crate std;

    static DEEPEST: DeepestStack = DeepestStack::new();
    /// Where the stack is said to begin and to end.
    static STACK: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

    struct Thread;

    impl StoreIn<DeepestStack> for Thread {
        fn store() -> &'static DeepestStack {
            &DEEPEST
        }
    }

    // SAFETY: nothing is read, as no frame pointer is in the stack.
    unsafe impl Stacks for Thread {
        fn stack() -> Range<u64> {
            STACK[0].load(Ordering::Relaxed)..STACK[1].load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_deepest_call_on_the_thread_s_own_stack_is_kept() {
        static OPS: Ops = deepest::<Thread>();
        let mut saved = FakeRegs::new(&PtRegs { regs: [0; 31], sp: 0, pc: 0, pstate: 0 });
        let sp = saved.view().stack_pointer();
        // A call at `ip` where the stack goes from so far below SP to so far above.
        let mut call = |ip, below: u64, above: u64| {
            STACK[0].store(sp - below, Ordering::Relaxed);
            STACK[1].store(sp.wrapping_add(above), Ordering::Relaxed);
            (OPS.callback)(TextAddr::new(ip), TextAddr::new(ip + 0x100), &OPS, saved.view());
            (DEEPEST.used(), DEEPEST.frames().map(TextAddr::get).collect::<Vec<_>>())
        };
        assert_eq!(call(0x4000, 0x10, 0), (0, Vec::new()), "not on its stack");
        assert_eq!(call(0x4004, 0x10, 0x40), (0x40, Vec::from([0x4004, 0x4104])));
        assert_eq!(call(0x4008, 0x10, 0x40), (0x40, Vec::from([0x4004, 0x4104])), "as deep, but later");
        assert_eq!(call(0x400c, 0x10, 0x50), (0x50, Vec::from([0x400c, 0x410c])));
        assert_eq!(call(0x4010, 0x10, 0x48), (0x50, Vec::from([0x400c, 0x410c])));
        // Below the stack, as an exception handler's may be.
        STACK[0].store(sp + 8, Ordering::Relaxed);
        STACK[1].store(sp + 0x1000, Ordering::Relaxed);
        (OPS.callback)(TextAddr::new(0x4014), TextAddr::new(0x4114), &OPS, saved.view());
        assert_eq!(DEEPEST.used(), 0x50);
    }

    #[test]
    fn what_is_forgotten_while_it_is_being_kept_is_forgotten_as_a_whole() {
        static KEPT: DeepestStack = DeepestStack::new();
        // Another CPU is keeping two frames.
        KEPT.taking.store(true, Ordering::Relaxed);
        let forgets = std::thread::spawn(|| KEPT.clear());
        KEPT.count.store(2, Ordering::Release);
        for _ in 0..100 {
            assert_eq!(KEPT.frames().count(), 2, "it is forgotten in part");
            std::thread::yield_now();
        }
        KEPT.used.store(0x40, Ordering::Relaxed);
        KEPT.taking.store(false, Ordering::Release);
        forgets.join().unwrap();
        assert_eq!((KEPT.used(), KEPT.frames().count()), (0, 0));
    }
}
