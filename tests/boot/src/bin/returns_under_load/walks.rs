//! Walks along the stack at any moment: each must reach the outermost frame, and see no return stub.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use support::{backtrace, percpu};

static OUTERMOST: [AtomicU64; percpu::MAX_CPUS] = [const { AtomicU64::new(0) }; percpu::MAX_CPUS];
static WALKS: AtomicU64 = AtomicU64::new(0);
static FRAMES: AtomicU64 = AtomicU64::new(0);

/// Notes where this CPU's calls begin. Called where nothing is hooked yet.
#[inline(never)]
pub(crate) fn set_outermost() {
    let outermost = backtrace::callers(backtrace::frame_pointer()).last().expect("somebody calls this");
    OUTERMOST[percpu::this().index()].store(outermost.get(), Ordering::Relaxed);
}

/// Walks from here.
#[inline(never)]
pub(crate) fn walk_from_here() {
    // What it returns is used: a call that is a function's last may be a jump, and the record is no more then.
    black_box(walk_from(backtrace::frame_pointer()));
}

/// Walks from this frame record of the running CPU; returns how many frames there are.
pub(crate) fn walk_from(record: u64) -> u64 {
    unsafe extern "C" {
        fn fentry_return();
    }
    let stub = (fentry_return as *const ()).addr() as u64;
    let outermost = OUTERMOST[percpu::this().index()].load(Ordering::Relaxed);
    let (mut last, mut frames) = (0, 0);
    for address in backtrace::callers(record) {
        assert_ne!(address.get(), stub, "frame {frames} of a walk from {record:#x} is the return stub");
        last = address.get();
        frames += 1;
    }
    assert_eq!(last, outermost, "a walk from {record:#x} ends after {frames} frames");
    WALKS.fetch_add(1, Ordering::Relaxed);
    FRAMES.fetch_add(frames, Ordering::Relaxed);
    frames
}

/// How many walks there were since the last call, and of how many frames.
pub(crate) fn take() -> (u64, u64) {
    (WALKS.swap(0, Ordering::Relaxed), FRAMES.swap(0, Ordering::Relaxed))
}
