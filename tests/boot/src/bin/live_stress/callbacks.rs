//! The callbacks, and what they check: that they are called while they may be.

use crate::functions::{MAX_OPS, Tally, address, call};
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::{FtraceRegs, Ops, OpsFlags, TextAddr};

/// How many CPUs register.
pub(crate) const PATCHERS: usize = 2;
/// How many ops each has: one that saves all registers, and one that doesn't.
pub(crate) const KINDS: usize = 2;

const _: () = assert!(PATCHERS * KINDS == MAX_OPS);

/// Calls from inside callbacks, none of which was traced.
pub(crate) static MISSED: AtomicU64 = AtomicU64::new(0);

/// An ops, and when it may call.
pub(crate) struct Kind {
    pub(crate) number: usize,
    pub(crate) ops: &'static Ops,
    /// Odd from before the registration until `unregister` has returned.
    epoch: AtomicU64,
}

static OPS: [Ops; MAX_OPS] = [
    Ops::new(live).with_data(0),
    Ops::new(full).with_data(1).with_flags(OpsFlags::SAVE_REGS),
    Ops::new(live).with_data(2),
    Ops::new(full).with_data(3).with_flags(OpsFlags::SAVE_REGS),
];

static ALL: [Kind; MAX_OPS] = {
    const fn kind(number: usize) -> Kind {
        Kind { number, ops: &OPS[number], epoch: AtomicU64::new(0) }
    }
    [kind(0), kind(1), kind(2), kind(3)]
};

impl Kind {
    pub(crate) fn of(patcher: usize, kind: usize) -> &'static Self {
        &ALL[patcher * KINDS + kind]
    }

    /// From here on it may call.
    pub(crate) fn begin(&self) {
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel);
        assert!(epoch.is_multiple_of(2));
    }

    /// From here on it never calls again.
    pub(crate) fn end(&self) {
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel);
        assert!(!epoch.is_multiple_of(2));
    }
}

extern "C" fn live(ip: TextAddr, _: TextAddr, ops: &'static Ops, regs: FtraceRegs<'_>) {
    count(ip, ops, &regs);
}

extern "C" fn full(ip: TextAddr, _: TextAddr, ops: &'static Ops, regs: FtraceRegs<'_>) {
    assert!(regs.pt_regs().is_some(), "an ops that wants all registers has not got them");
    count(ip, ops, &regs);
}

/// Counts in the tally that the traced function was given.
fn count(ip: TextAddr, ops: &'static Ops, regs: &FtraceRegs<'_>) {
    let number = ops.data();
    let epoch = &ALL[number].epoch;
    let before = epoch.load(Ordering::Acquire);
    assert!(!before.is_multiple_of(2), "ops {number} is called at {ip}, and is not registered (epoch {before})");
    let tally = regs.argument(1).unwrap_or_default() as usize;
    // SAFETY: every function that is traced here has its tally as the second argument, borrowed for the call.
    let tally = unsafe { &*core::ptr::with_exposed_provenance::<Tally>(tally) };
    tally.count(number);
    if ip.get().is_multiple_of(7) {
        // Calls whatever is traced, and itself is inside a callback.
        let inner = Tally::default();
        let function = ip.get() / 4 % crate::functions::COUNT as u64;
        call(function as usize, ip.get(), &inner);
        assert_eq!(inner.all(), 0, "a callback was called inside itself, at {}", address(function as usize));
        MISSED.fetch_add(1, Ordering::Relaxed);
    }
    let after = epoch.load(Ordering::Acquire);
    assert_eq!(after, before, "ops {number} was unregistered while its callback ran");
}
