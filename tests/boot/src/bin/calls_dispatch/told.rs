//! What callbacks were told, by one CPU.

use crate::targets::{self, COUNT, answer, call};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use fentry::{Engine, FtraceRegs, Ops, TextAddr};

static LOG: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Set where the callback was shown every register.
const ALL_REGISTERS: u64 = 1 << 32;

/// Notes who was told, from a callback.
pub(crate) extern "C" fn note(_: TextAddr, _: TextAddr, ops: &'static Ops, regs: FtraceRegs<'_>) {
    let all = if regs.pt_regs().is_some() { ALL_REGISTERS } else { 0 };
    push(ops.data() as u64 | all);
}

/// Notes that something else happened.
pub(crate) fn push(what: u64) {
    if let Some(place) = LOG.get(LENGTH.fetch_add(1, Ordering::Relaxed)) {
        place.store(what, Ordering::Relaxed);
    }
}

/// Everything since the last time.
fn take() -> Vec<u64> {
    let length = LENGTH.swap(0, Ordering::Relaxed);
    LOG[..length].iter().map(|place| place.load(Ordering::Relaxed)).collect()
}

/// Runs it; who was told meanwhile, in their order.
pub(crate) fn told_by(run: impl FnOnce()) -> Vec<u64> {
    take();
    run();
    take().into_iter().map(|who| who & !ALL_REGISTERS).collect()
}

/// Calls a target and looks at its answer; who was told of it.
pub(crate) fn told_of(n: usize) -> Vec<u64> {
    told_by(|| assert_eq!(call(n, 7, 0), answer(n, 7), "target {n}"))
}

/// Calls a target; whether each of those who were told was shown every register.
pub(crate) fn shown_all_by(n: usize) -> Vec<bool> {
    take();
    call(n, 7, 0);
    take().into_iter().map(|who| who & ALL_REGISTERS != 0).collect()
}

/// An ops, by its number, and the targets of its filter.
pub(crate) type Registered = (u64, Vec<usize>);

/// Calls every target: exactly those of `registered` are told, in its order.
pub(crate) fn assert_told(engine: &Engine, registered: &[Registered]) {
    let mut called = 0;
    for n in 0..COUNT {
        let expected: Vec<u64> =
            registered.iter().filter(|(_, filter)| filter.contains(&n)).map(|(ops, _)| *ops).collect();
        assert_eq!(told_of(n), expected, "target {n} with {registered:?}");
        called += usize::from(!expected.is_empty());
    }
    assert_eq!(targets::enabled(engine), called, "callsites that call, with {registered:?}");
}
