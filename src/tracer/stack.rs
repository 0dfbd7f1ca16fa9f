//! The deepest stack: how far down a call has gone, and by which calls (Linux's `stack_trace`).

use super::kernel::StoreIn;
use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;
use crate::context::unwind::Frames;
use crate::ops::Ops;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

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

const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// Taken, and what it is by then is to be forgotten.
const TO_FORGET: u8 = 2;

/// The deepest stack so far.
#[derive(Debug)]
pub struct DeepestStack {
    used: AtomicU64,
    /// Who keeps or forgets a stack has changed it from `FREE` to `TAKEN`, and changes it back.
    state: AtomicU8,
    count: AtomicU64,
    frames: [AtomicU64; MAX_FRAMES],
}

impl DeepestStack {
    /// Makes a record of no stack yet.
    pub const fn new() -> Self {
        Self {
            used: AtomicU64::new(0),
            state: AtomicU8::new(FREE),
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

    /// Forgets it: the next one is the deepest so far. One that is just being kept is forgotten as soon as it is.
    pub fn clear(&self) {
        let change = |from, to| self.state.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok();
        loop {
            if change(FREE, TAKEN) {
                self.forget();
                return self.give_back();
            }
            // Waiting for who keeps one would be for ever where this thread has preempted it.
            if change(TAKEN, TO_FORGET) || self.state.load(Ordering::Relaxed) == TO_FORGET {
                return;
            }
        }
    }

    fn forget(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
    }

    /// What was taken is free again.
    fn give_back(&self) {
        if self.state.compare_exchange(TAKEN, FREE, Ordering::Release, Ordering::Relaxed).is_err() {
            self.forget();
            self.state.store(FREE, Ordering::Release);
        }
    }

    /// Keeps these frames, unless another CPU, or what this one interrupted, is just keeping its own.
    fn take(&self, used: u64, frames: impl Iterator<Item = TextAddr>) {
        if self.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_err() {
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
        self.give_back();
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
        let frames = || [0x4000, 0x4100].into_iter().map(TextAddr::new);
        let kept = || (KEPT.used(), KEPT.frames().count());
        // By a callback in the middle, or another thread: nobody waits for anybody, and who asks twice is not in the way.
        KEPT.take(0x40, frames().inspect(|_| [(), ()].into_iter().for_each(|()| KEPT.clear())));
        assert_eq!(kept(), (0, 0));
        KEPT.take(0x20, frames());
        assert_eq!(kept(), (0x20, 2));
        KEPT.clear();
        assert_eq!(kept(), (0, 0));
    }
}
