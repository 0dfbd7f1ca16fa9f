//! Filters and trampolines change while four CPUs call.

use crate::targets::{self, COUNT, answer, call, register, set_filter};
use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use fentry::ops::direct::Trampoline;
use fentry::{FtraceRegs, Ops, OpsFlags, TextAddr};
use support::{engine, println, smp};

/// How often something changes.
const ROUNDS: usize = if cfg!(debug_assertions) { 10 } else { 40 };

/// How many callbacks there were for one call, by ops; on the stack of who calls, the function's second argument.
#[derive(Default)]
struct Tally([AtomicU32; 2]);

impl Tally {
    fn of(&self, ops: usize) -> u32 {
        self.0[ops].load(Ordering::Relaxed)
    }
}

extern "C" fn count(_: TextAddr, _: TextAddr, ops: &'static Ops, regs: FtraceRegs<'_>) {
    let tally = regs.argument(1).unwrap_or_default() as usize;
    if tally != 0 {
        // SAFETY: a call with a second argument that isn't 0 has a tally there, borrowed for the call.
        let tally = unsafe { &*core::ptr::with_exposed_provenance::<Tally>(tally) };
        tally.0[ops.data()].fetch_add(1, Ordering::Relaxed);
    }
}

/// Its filter changes.
static CHANGES: Ops = Ops::new(count).with_data(0);
/// It stays.
static STAYS: Ops = Ops::new(count).with_data(1).with_flags(OpsFlags::SAVE_REGS);

/// In all filters, and in none.
const ALWAYS: usize = 0;
const NEVER: usize = 7;
const FILTERS: [&[usize]; 4] = [&[ALWAYS, 1, 2, 3], &[ALWAYS, 3, 4, 5], &[ALWAYS], &[6, 5, 4, 3, 2, 1, ALWAYS]];

fn tallied(n: usize, x: u64) -> Tally {
    let tally = Tally::default();
    assert_eq!(call(n, x, core::ptr::from_ref(&tally).expose_provenance() as u64), answer(n, x), "target {n}");
    tally
}

/// Runs `change` on this CPU and `calls` on all others, again and again, until the first is done.
fn while_others_call(change: impl Fn() + Sync, calls: impl Fn(u64) + Sync) -> u64 {
    let (done, called) = (AtomicBool::new(false), AtomicU64::new(0));
    smp::start_all();
    smp::on_all(|cpu| {
        if cpu == 0 {
            change();
            done.store(true, Ordering::Release);
        }
        let mut x = 0;
        while !done.load(Ordering::Acquire) {
            calls(x);
            x += 1;
            // Outside of stubs: who waits for quiescence is to find some.
            smp::pause();
        }
        called.fetch_add(x, Ordering::Relaxed);
    });
    called.load(Ordering::Relaxed)
}

pub(crate) fn a_filter_changes_while_other_cpus_call() {
    let (engine, _) = engine();
    let all: [usize; COUNT] = core::array::from_fn(|n| n);
    assert_eq!(register(engine, &STAYS, &all), Ok(COUNT));
    assert_eq!(register(engine, &CHANGES, FILTERS[0]), Ok(4));
    let change = || {
        for round in 0..ROUNDS {
            let filter = FILTERS[round % FILTERS.len()];
            assert_eq!(set_filter(engine, &CHANGES, filter), Ok(filter.len()));
            for n in 0..COUNT {
                let tally = tallied(n, 1);
                assert_eq!([tally.of(0), tally.of(1)], [u32::from(filter.contains(&n)), 1], "target {n}");
            }
        }
    };
    let called = while_others_call(change, |x| {
        for n in 0..COUNT {
            let tally = tallied(n, x);
            assert_eq!(tally.of(1), 1, "the one that stays misses nothing");
            match n {
                ALWAYS => assert_eq!(tally.of(0), 1, "what both filters select misses nothing"),
                NEVER => assert_eq!(tally.of(0), 0),
                _ => assert!(tally.of(0) <= 1),
            }
        }
    });
    println!("    {ROUNDS} filters, {} calls", called * COUNT as u64);
    assert_eq!(engine.unregister(&CHANGES).map(|count| count > 0), Ok(true));
    assert_eq!(engine.unregister(&STAYS), Ok(COUNT));
    assert_eq!(targets::enabled(engine), 0);
    assert_eq!((CHANGES.misses(), STAYS.misses()), (0, 0));
}

#[unsafe(naked)]
unsafe extern "C" fn adds_1000() {
    naked_asm!("hint #34", "add x0, x0, #1000", "mov x10, x30", "mov x30, x9", "ret x10")
}

#[unsafe(naked)]
unsafe extern "C" fn adds_2000() {
    naked_asm!("hint #34", "add x0, x0, #2000", "mov x10, x30", "mov x30, x9", "ret x10")
}

const TRAMPOLINES: [Trampoline; 2] = {
    // SAFETY: it keeps to the convention.
    let first = unsafe { Trampoline::new(adds_1000) };
    // SAFETY: it keeps to the convention.
    let second = unsafe { Trampoline::new(adds_2000) };
    [first, second]
};
static DIRECT: Ops = Ops::direct_call(TRAMPOLINES[0]);

/// Odd while the trampoline changes; half of it is how often it has.
static CHANGED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn a_trampoline_changes_while_other_cpus_call() {
    let (engine, _) = engine();
    assert_eq!(register(engine, &DIRECT, &[2]), Ok(1));
    change_trampolines();
    assert_eq!(engine.unregister(&DIRECT), Ok(1));
    assert_eq!(targets::enabled(engine), 0);
}

pub(crate) fn a_trampoline_beside_an_ops_changes_while_other_cpus_call() {
    let (engine, _) = engine();
    assert_eq!(register(engine, &STAYS, &[2, 3]), Ok(2));
    assert_eq!(register(engine, &DIRECT, &[2]), Ok(1));
    change_trampolines();
    assert_eq!(engine.unregister(&DIRECT), Ok(1));
    assert_eq!(engine.unregister(&STAYS), Ok(2));
    assert_eq!(targets::enabled(engine), 0);
}

fn change_trampolines() {
    let (engine, _) = engine();
    CHANGED.store(0, Ordering::Release);
    let expected = |changed: u64, x: u64| answer(2, x + 1000 * (1 + changed / 2 % 2));
    let change = || {
        for _ in 0..ROUNDS {
            let next = CHANGED.fetch_add(1, Ordering::AcqRel) / 2 + 1;
            // SAFETY: both keep to the convention.
            unsafe { engine.modify_direct(&DIRECT, TRAMPOLINES[next as usize % 2].address()) }
                .unwrap_or_else(|error| panic!("{error}"));
            let changed = CHANGED.fetch_add(1, Ordering::AcqRel) + 1;
            assert_eq!(call(2, 5, 0), expected(changed, 5));
        }
    };
    let called = while_others_call(change, |x| {
        let before = CHANGED.load(Ordering::Acquire);
        let found = call(2, x, 0);
        let after = CHANGED.load(Ordering::Acquire);
        if before == after && before.is_multiple_of(2) {
            assert_eq!(found, expected(before, x), "after a change only the new one is called");
        } else {
            assert!(found == expected(0, x) || found == expected(2, x), "{found}: one of the two is called");
        }
    });
    println!("    {ROUNDS} changes, {called} calls");
}
