//! Misses are counted with exclusive loads and stores, since several CPUs may miss the same ops at once: none gets lost, in
//! any of the places that count them.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr};
use support::vectors::ExceptionFrame;
use support::{count, interrupts, percpu, println, smp};

/// Calls of each CPU, and how many more each has inside a callback.
const CALLS: u64 = 2000;
const INSIDE: u64 = 20;

#[inline(never)]
extern "C" fn outer(n: u64) -> u64 {
    black_box(n) + 1
}

#[inline(never)]
extern "C" fn inner(n: u64) -> u64 {
    black_box(n) + 2
}

/// Calls a traced function, again and again: each call is missed by every ops that isn't recursion-safe.
extern "C" fn calls(ip: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    let outer = TextAddr::new((outer as *const ()).addr() as u64);
    if (outer..outer.offset(16)).contains(&ip) {
        for n in 0..INSIDE {
            assert_eq!(black_box(inner as extern "C" fn(u64) -> u64)(n), n + 2);
        }
    }
}

extern "C" fn calls_nothing(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

static CALLER: Ops = Ops::new(calls);
static BESIDE: Ops = Ops::new(calls_nothing);
static FULL: Ops = Ops::new(calls_nothing).with_flags(OpsFlags::SAVE_REGS);
static SAFE: Ops = Ops::new(calls_nothing).with_flags(OpsFlags::RECURSION_SAFE);

/// How many interrupts came inside a stub.
static IN_STUB: AtomicU64 = AtomicU64::new(0);

/// Comes soon again, after another number of instructions.
fn note_place(frame: &ExceptionFrame) {
    unsafe extern "C" {
        static ftrace_caller: u8;
        static fentry_stub_text_stop: u8;
    }
    let stubs = (&raw const ftrace_caller).addr()..(&raw const fentry_stub_text_stop).addr();
    if stubs.contains(&(frame.elr as usize)) {
        IN_STUB.fetch_add(1, Ordering::Relaxed);
    }
    interrupts::set_tick_period(Duration::from_nanos(16 * (60 + percpu::this().ticks() % 23)));
}

/// Makes every CPU miss `together` at once.
fn assert_exact(engine: &Engine, together: &[&'static Ops], what: &str) {
    let functions = [outer as *const (), inner as *const ()];
    let rules = functions.map(|function| Rule::address(TextAddr::new(function.addr() as u64)));
    for ops in together {
        assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(2));
    }
    let misses = || together.iter().map(|ops| ops.misses()).collect::<alloc::vec::Vec<_>>();
    let before = misses();
    smp::on_all(|_| {
        let context = &percpu::this().trace;
        let missed = context.misses();
        interrupts::start_ticks(Duration::from_micros(1));
        for n in 0..CALLS {
            assert_eq!(black_box(outer as extern "C" fn(u64) -> u64)(n), n + 1);
        }
        interrupts::stop_ticks();
        // Where a recursion-safe ops is called all the same, the call as a whole is none.
        let whole = if together.iter().any(|ops| ops.flags().contains(OpsFlags::RECURSION_SAFE)) { 0 } else { 1 };
        assert_eq!(context.misses() - missed, whole * CALLS * INSIDE, "{what}");
    });
    let cpus = smp::online().count() as u64;
    for ((ops, before), after) in together.iter().zip(before).zip(misses()) {
        let safe = ops.flags().contains(OpsFlags::RECURSION_SAFE);
        let expected = if safe { 0 } else { cpus * CALLS * INSIDE };
        assert_eq!(after - before, expected, "{what}: {ops:?}");
        assert_eq!(engine.unregister(ops), Ok(2));
    }
}

/// Makes all CPUs miss one ops, and several at once, with an interrupt at any moment; each miss is counted.
pub fn several_cpus_miss_the_same_ops_and_no_miss_is_lost() {
    let (engine, _) = support::engine();
    let cpus = smp::start_all();
    interrupts::on_tick(Some(note_place));
    assert_exact(engine, &[&CALLER], "one ops");
    assert_exact(engine, &[&CALLER, &BESIDE], "a list");
    assert_exact(engine, &[&CALLER, &FULL], "a list that has all registers");
    assert_exact(engine, &[&CALLER, &SAFE, &BESIDE], "a list with one that is recursion-safe");
    interrupts::on_tick(None);
    let in_stub = IN_STUB.load(Ordering::Relaxed);
    println!("{cpus} CPUs, {in_stub} interrupts came inside a stub");
    if count::start().is_some() {
        assert!(in_stub > 1000, "only {in_stub} interrupts came inside a stub");
    }
}
