//! The times of hooked calls: from the function's first instruction to its return, without what its own entry handler takes.
//!
//! Booted in virtual time, where a tick is sixteen instructions and every run is the same. What is measured waits for a
//! number of ticks that is known; what a stub may add to it is a few.
#![no_std]
#![no_main]

extern crate alloc;

use aarch64_cpu::registers::{CNTVCT_EL0, Readable as _};
use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::context::shadow::ShadowStack;
use fentry::ops::{Entry, Exit, Probe};
use fentry::tracer::kernel::StoreIn;
use fentry::tracer::profiler::{Profile, ProfileSlot, Profiler};
use fentry::{Engine, Filter, Ops, Rule, TextAddr};
use spin::Mutex;
use support::{percpu, println};

support::boot_tests! {
    a_hooked_call_takes_the_time_that_the_function_takes,
    a_profile_has_the_total_and_the_own_time_of_each_function,
}

/// What may come to each hooked call that is inside what is measured: the rest of a stub and a handler. 16 instructions
/// each; an unoptimised kernel's handlers are longer.
const SLACK: u64 = if cfg!(debug_assertions) { 250 } else { 12 };

static SHADOW: ShadowStack<8> = ShadowStack::new();

fn engine() -> &'static Engine {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    let (engine, _) = support::engine();
    if !GIVEN.swap(true, Ordering::Relaxed) {
        // SAFETY: this test runs on the boot CPU, and nothing is hooked yet.
        unsafe { percpu::this().trace.set_shadow_stack(&SHADOW) };
    }
    engine
}

/// CNTVCT_EL0, read where this stands.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: a barrier changes nothing.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
    CNTVCT_EL0.get()
}

/// Waits for so many ticks.
#[inline(always)]
fn wait(ticks: u64) {
    let start = now();
    while now() - start < ticks {}
}

const WAIT: u64 = 5_000;
/// What an entry handler waits for, which is none of the function's time.
const IN_ENTRY: u64 = 50_000;

#[inline(never)]
extern "C" fn waits(n: u64) -> u64 {
    wait(WAIT);
    black_box(n) + 1
}

/// When the function's entry handler was done, or just before the call where there is none; what the exit said.
static BEGAN: AtomicU64 = AtomicU64::new(0);
static SEEN: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

struct Timed<const ENTRY: bool>;

impl<const ENTRY: bool> Probe for Timed<ENTRY> {
    const ENTRY: bool = ENTRY;
    type Data = ();

    fn entry(_: &mut Entry<'_>) -> Option<()> {
        wait(IN_ENTRY);
        BEGAN.store(now(), Ordering::Relaxed);
        Some(())
    }

    fn exit(call: &mut Exit<'_>, (): &()) {
        let ticks = call.ticks();
        SEEN.lock().push((call.entry_time(), ticks));
    }
}

fn at(function: *const ()) -> TextAddr {
    TextAddr::new(function.addr() as u64)
}

fn within(what: &str, value: u64, bounds: Range<u64>) {
    assert!(bounds.contains(&value), "{what}: {value} ticks are not within {bounds:?}");
}

/// Calls the function while these are registered; what each exit has seen, from the inner to the outer.
fn timed(together: &[&'static Ops]) -> Vec<(u64, u64)> {
    let engine = engine();
    let rules = [Rule::address(at(waits as *const ()))];
    together.iter().for_each(|ops| assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(1)));
    BEGAN.store(now(), Ordering::Relaxed);
    assert_eq!(black_box(waits as extern "C" fn(u64) -> u64)(3), 4);
    together.iter().for_each(|ops| assert_eq!(engine.unregister(ops), Ok(1)));
    core::mem::take(&mut *SEEN.lock())
}

fn a_hooked_call_takes_the_time_that_the_function_takes() {
    static EXIT: Ops = Ops::returning::<Timed<false>>();
    static BOTH: Ops = Ops::returning::<Timed<true>>();
    for (what, ops) in [("an exit handler", &EXIT), ("an entry and an exit handler", &BOTH)] {
        let before = now();
        let seen = timed(&[ops]);
        let (after, began) = (now(), BEGAN.load(Ordering::Relaxed));
        let [(entry_time, ticks)] = seen[..] else { panic!("{what}: {seen:?}") };
        println!("    {what}: {} ticks after it began, {ticks} ticks", entry_time - began);
        within(what, entry_time, before..after);
        within(what, entry_time - began, 0..SLACK);
        within(what, ticks, WAIT..WAIT + SLACK);
    }
    // In a list, where each hook is a callback; the second one's entry is inside the first one's time.
    let seen = timed(&[&EXIT, &BOTH]);
    let [(inner_time, inner), (outer_time, outer)] = seen[..] else { panic!("{seen:?}") };
    println!("    both in a list: {inner} ticks inside {outer} ticks");
    within("the inner of two", inner, WAIT..WAIT + SLACK);
    // Its handler, the list's walk to the next, and that one's handler; the last is in the inner time too.
    within("the outer of two", outer, IN_ENTRY + WAIT..IN_ENTRY + WAIT + 4 * SLACK);
    within("the inner one's entry", inner_time - outer_time, IN_ENTRY..IN_ENTRY + 2 * SLACK);
}

static SLOTS: [ProfileSlot; 16] = [const { ProfileSlot::new() }; 16];
static PROFILE: Profile = Profile::new(&SLOTS);

struct Kernel;

impl StoreIn<Profile> for Kernel {
    fn store() -> &'static Profile {
        &PROFILE
    }
}

const BEFORE: u64 = 3_000;
const INNER: u64 = 7_000;
const AFTER: u64 = 2_000;
const CALLS: u64 = 5;

#[inline(never)]
extern "C" fn inner() {
    wait(INNER);
}

#[inline(never)]
extern "C" fn outer() {
    wait(BEFORE);
    inner();
    inner();
    wait(AFTER);
}

fn a_profile_has_the_total_and_the_own_time_of_each_function() {
    static PROFILER: Ops = Ops::returning::<Profiler<Kernel>>();
    let engine = engine();
    let rules = [outer as *const (), inner as *const ()].map(|function| Rule::address(at(function)));
    assert_eq!(engine.register(&PROFILER, &Filter::new(&rules)), Ok(2));
    for _ in 0..CALLS {
        outer();
    }
    assert_eq!(engine.unregister(&PROFILER), Ok(2));
    let of = |function: *const ()| {
        let range = at(function)..at(function).offset(16);
        PROFILE.functions().find(|profile| range.contains(&profile.ip)).expect("it was called")
    };
    let (inner, outer) = (of(inner as *const ()), of(outer as *const ()));
    println!("    inner {inner:?}\n    outer {outer:?}");
    assert_eq!((inner.hits, outer.hits), (2 * CALLS, CALLS));
    // Each has a call's own cost twice: for the whole, and where it is inside another one.
    let bounds = |each: u64, calls: u64| calls * each..calls * (each + SLACK);
    within("the inner function's total", inner.total, bounds(INNER, 2 * CALLS));
    assert_eq!(inner.own, inner.total, "it calls nothing");
    within("its fastest call", inner.min, INNER..INNER + SLACK);
    within("its slowest call", inner.max, inner.min..INNER + SLACK);
    let (own, whole) = (BEFORE + AFTER, BEFORE + AFTER + 2 * INNER);
    within("the outer function's total", outer.total, CALLS * whole..CALLS * (whole + 5 * SLACK));
    within("the outer function's own time", outer.own, CALLS * own..CALLS * (own + 4 * SLACK));
    assert_eq!(outer.total - outer.own, inner.total, "what was inside is what the inner calls took");
}
