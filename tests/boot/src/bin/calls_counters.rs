//! Counters and recorders count every call once, on four CPUs, with interrupts in between, alone and beside other ops.
//!
//! The emulator's CPUs run at the same time here; `cost_counters` has the interrupts between any two instructions.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use fentry::engine::RegisterError;
use fentry::record::COUNTERS;
use fentry::record::flight::{FlightReader, FlightRecord, FlightSlot, RingError};
use fentry::record::hits::CallsiteHits;
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr, TextRange};
use support::percpu::{self, MAX_CPUS};
use support::vectors::ExceptionFrame;
use support::{engine, interrupts, println, smp};

support::boot_tests! {
    hits_are_exact_on_four_cpus_and_in_their_interrupts,
    a_counter_that_is_used_again_begins_with_nothing,
    more_counters_than_a_cpu_has_are_as_exact,
    hits_are_exact_for_each_callsite,
    a_callsite_without_a_counter_is_refused,
    a_record_tells_of_its_call,
    a_recorder_stores_the_arguments_that_it_was_asked_for,
    records_are_whole_while_they_are_written,
    counters_and_recorders_stand_beside_callbacks_and_a_direct_trampoline,
    a_callback_is_counted_inside_a_callback,
}

/// How often each CPU calls.
const CALLS: u64 = if cfg!(debug_assertions) { 5_000 } else { 200_000 };
const TICK: Duration = Duration::from_micros(10);

#[inline(never)]
extern "C" fn first(x: u64) -> u64 {
    black_box(x) + 1
}

#[inline(never)]
extern "C" fn second(x: u64) -> u64 {
    black_box(x) + 2
}

#[inline(never)]
extern "C" fn four(a: u64, b: u64, c: u64, d: u64) -> u64 {
    black_box(a) ^ b ^ c ^ d
}

fn address(function: *const ()) -> TextAddr {
    TextAddr::new(function.addr() as u64)
}

fn prepare() -> &'static Engine {
    let (engine, _) = engine();
    smp::start_all();
    engine
}

/// Registers `ops` for the functions while `run` runs.
fn traced<R>(ops: &'static Ops, functions: &[*const ()], run: impl FnOnce() -> R) -> R {
    let (engine, _) = engine();
    let rules: Vec<Rule<'_>> = functions.iter().map(|function| Rule::address(address(*function))).collect();
    assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(functions.len()));
    let result = run();
    assert_eq!(engine.unregister(ops), Ok(functions.len()));
    result
}

/// How often the ticks' handlers have called [`first`].
static NESTED: AtomicU64 = AtomicU64::new(0);

fn call_in_interrupt(_: &ExceptionFrame) {
    black_box(first as extern "C" fn(u64) -> u64)(1);
    NESTED.fetch_add(1, Ordering::Relaxed);
}

/// Runs `run` on every CPU, with ticks that call [`first`]; how often they did.
fn with_ticks(run: impl Fn(usize) + Sync) -> u64 {
    let before = NESTED.load(Ordering::Relaxed);
    interrupts::on_tick(Some(call_in_interrupt));
    smp::on_all(|cpu| {
        interrupts::start_ticks(TICK);
        run(cpu);
        interrupts::stop_ticks();
    });
    interrupts::on_tick(None);
    NESTED.load(Ordering::Relaxed) - before
}

fn call_first(_: usize) {
    for n in 0..CALLS {
        assert_eq!(black_box(first as extern "C" fn(u64) -> u64)(n), n + 1);
    }
}

fn hits_are_exact_on_four_cpus_and_in_their_interrupts() {
    static OPS: Ops = Ops::counter();
    let engine = prepare();
    let cpus = smp::online().count() as u64;
    assert_eq!(engine.hits(&OPS), 0);
    let nested = traced(&OPS, &[first as *const ()], || {
        let nested = with_ticks(call_first);
        assert_eq!(engine.hits(&OPS), cpus * CALLS + nested);
        nested
    });
    println!("{cpus} CPUs, {nested} calls in interrupts");
    assert!(nested > 0);
    call_first(0);
    assert_eq!(engine.hits(&OPS), cpus * CALLS + nested, "what it has counted stays, and no more is counted");
}

fn a_counter_that_is_used_again_begins_with_nothing() {
    static OPS: [Ops; 2] = [const { Ops::counter() }; 2];
    let engine = prepare();
    for (ops, calls) in OPS.iter().zip([7, 5]) {
        traced(ops, &[first as *const ()], || (0..calls).for_each(|n| assert_eq!(first(n), n + 1)));
        assert_eq!(engine.hits(ops), calls);
    }
    traced(&OPS[0], &[first as *const ()], || first(0));
    assert_eq!(OPS.each_ref().map(|ops| engine.hits(ops)), [8, 5]);
}

fn more_counters_than_a_cpu_has_are_as_exact() {
    static OPS: [Ops; COUNTERS + 3] = [const { Ops::counter() }; COUNTERS + 3];
    let engine = prepare();
    let rules = [Rule::address(address(first as *const ()))];
    for ops in &OPS {
        assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(1));
    }
    let nested = with_ticks(|_| (0..1000).for_each(|n| assert_eq!(black_box(first)(n), n + 1)));
    for ops in &OPS {
        assert_eq!(engine.unregister(ops), Ok(1));
    }
    for (number, ops) in OPS.iter().enumerate() {
        assert_eq!(engine.hits(ops), smp::online().count() as u64 * 1000 + nested, "the counter {number}");
    }
}

/// Counters for the text from one function to another.
fn callsite_hits(functions: &[*const ()]) -> &'static CallsiteHits {
    let addresses = || functions.iter().map(|function| address(*function));
    let (start, last) = (addresses().min().unwrap(), addresses().max().unwrap());
    let count = CallsiteHits::counters_for(TextRange::new(start, last.offset(16)));
    let hits: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
    Box::leak(Box::new(CallsiteHits::new(start, Box::leak(hits.into_boxed_slice()))))
}

fn hits_are_exact_for_each_callsite() {
    let engine = prepare();
    let functions = [first as *const (), second as *const (), four as *const ()];
    let hits = callsite_hits(&functions);
    let ops: &'static Ops = Box::leak(Box::new(Ops::callsite_counter(hits)));
    let nested = traced(ops, &functions, || {
        with_ticks(|_| {
            for n in 0..CALLS {
                assert_eq!(black_box(first)(n), n + 1);
                assert_eq!(black_box(second)(n), n + 2);
                assert_eq!(black_box(second)(n), n + 2);
            }
        })
    });
    let all = smp::online().count() as u64 * CALLS;
    let of = |function| engine.function_hits(hits, address(function));
    assert_eq!(functions.map(of), [Some(all + nested), Some(2 * all), Some(0)]);
    let mut shown = Vec::new();
    engine.for_each_function_hit(hits, |hit| shown.push((String::from(hit.name.unwrap()), hit.hits)));
    shown.sort();
    assert_eq!(shown, [("calls_counters::first".into(), all + nested), ("calls_counters::second".into(), 2 * all)]);
    assert_eq!(of(a_callsite_without_a_counter_is_refused as *const ()), None);
}

fn a_callsite_without_a_counter_is_refused() {
    let engine = prepare();
    let hits = callsite_hits(&[first as *const ()]);
    let ops: &'static Ops = Box::leak(Box::new(Ops::callsite_counter(hits)));
    let outside = address(four as *const ());
    let before = engine.check_text();
    let rules = [first as *const (), four as *const ()].map(|function| Rule::address(address(function)));
    let refused = Err(RegisterError::NoCounter { function: outside, name: Some("calls_counters::four") });
    assert_eq!(engine.register(ops, &Filter::new(&rules)), refused);
    assert_eq!((engine.check_text(), engine.unregister(ops)), (before, Err(RegisterError::NotRegistered)));
    assert_eq!(engine.register(ops, &Filter::new(&rules[..1])), Ok(1));
    assert_eq!(engine.set_filter(ops, &Filter::new(&rules)), refused);
    assert_eq!((first(1), four(1, 2, 3, 4)), (2, 4));
    assert_eq!(engine.unregister(ops), Ok(1));
    assert_eq!(engine.function_hits(hits, address(first as *const ())), Some(1));
}

const SLOTS: usize = 256;
static RINGS: [[FlightSlot; SLOTS]; MAX_CPUS] = [const { [const { FlightSlot::new() }; SLOTS] }; MAX_CPUS];

/// Gives each CPU a ring, the first time; readers that begin with what comes now.
fn recordings() -> Vec<FlightReader<'static>> {
    prepare();
    let area = |cpu: usize| &percpu::of(cpu).area;
    for (cpu, slots) in RINGS.iter().enumerate() {
        assert!(matches!(area(cpu).set_ring(slots), Ok(()) | Err(RingError::AlreadySet)));
    }
    let mut recordings: Vec<_> = (0..MAX_CPUS).map(|cpu| area(cpu).recording()).collect();
    for recording in &mut recordings {
        recording.by_ref().for_each(drop);
        assert!(!recording.skip_unfinished());
    }
    recordings
}

fn call_addr(function: *const ()) -> TextAddr {
    let mut found = None;
    engine().0.for_each_callsite(|status| {
        if status.callsite.function() == address(function) {
            found = Some(status.callsite.call_addr());
        }
    });
    found.expect("it has a callsite")
}

#[inline(never)]
fn call_four(cpu: usize, n: u64) {
    // Not a tail call.
    black_box(black_box(four as extern "C" fn(u64, u64, u64, u64) -> u64)(cpu as u64, n, !0, 3));
}

fn a_record_tells_of_its_call() {
    static OPS: Ops = Ops::recorder(4);
    let mut recordings = recordings();
    let ip = call_addr(four as *const ());
    let start = interrupts::now_ns();
    traced(&OPS, &[four as *const ()], || {
        smp::on_all(|cpu| {
            for n in 0..10 {
                call_four(cpu, n);
            }
        });
    });
    let end = interrupts::now_ns();
    let symbols = engine().0.symbols().unwrap();
    for cpu in smp::online() {
        let lost = recordings[cpu].lost();
        let records: Vec<FlightRecord> = recordings[cpu].by_ref().collect();
        assert_eq!((records.len(), recordings[cpu].lost()), (10, lost), "CPU {cpu}");
        assert!(records.is_sorted_by(|a, b| a.time <= b.time && a.index + 1 == b.index), "{records:?}");
        for (n, record) in (0..).zip(&records) {
            assert_eq!((record.ip, record.arguments), (ip, [cpu as u64, n, !0, 3]));
            let parent = symbols.lookup_addr(record.parent_ip.get()).unwrap().symbol.name;
            assert_eq!(parent, "calls_counters::call_four");
        }
        let ns = |record: &FlightRecord| interrupts::ticks_to_ns(record.time);
        assert!(start <= ns(&records[0]) && ns(&records[9]) <= end, "{start} {records:?} {end}");
    }
}

fn a_recorder_stores_the_arguments_that_it_was_asked_for() {
    static OPS: [Ops; 6] =
        [Ops::recorder(0), Ops::recorder(1), Ops::recorder(2), Ops::recorder(3), Ops::recorder(4), Ops::recorder(5)];
    let mut recordings = recordings();
    for (count, ops) in OPS.iter().enumerate() {
        traced(ops, &[four as *const ()], || black_box(four)(11, 12, 13, 14));
        let expected = [11, 12, 13, 14].map(|value| if value - 11 < count as u64 { value } else { 0 });
        let record = recordings[0].next().unwrap();
        assert_eq!((record.arguments, recordings[0].next()), (expected, None));
    }
    // Both at once: one record, with the most.
    traced(&OPS[1], &[four as *const ()], || {
        traced(&OPS[3], &[four as *const ()], || black_box(four)(21, 22, 23, 24));
    });
    assert_eq!(recordings[0].by_ref().map(|record| record.arguments).collect::<Vec<_>>(), [[21, 22, 23, 0]]);
}

/// One CPU reads what the others write, in their threads and in their interrupts.
fn records_are_whole_while_they_are_written() {
    static OPS: Ops = Ops::recorder(4);
    let recordings = recordings();
    let (four_ip, first_ip) = (call_addr(four as *const ()), call_addr(first as *const ()));
    let produced = || recordings.iter().map(FlightReader::produced).sum::<u64>();
    let lost = || recordings.iter().map(FlightReader::lost).sum::<u64>();
    let (produced_before, lost_before) = (produced(), lost());
    let writers = smp::online().count() - 1;
    assert!(writers > 0);
    let left = AtomicUsize::new(writers);
    let done = AtomicBool::new(false);
    let (read, passed) = (AtomicU64::new(0), AtomicU64::new(0));
    let nested = traced(&OPS, &[four as *const (), first as *const ()], || {
        with_ticks(|cpu| {
            if cpu != 0 {
                for n in 0..CALLS {
                    black_box(four)(n, n << 8, n << 16, !n);
                    if n.is_multiple_of(16) {
                        smp::pause();
                    }
                }
                left.fetch_sub(1, Ordering::Release);
                return;
            }
            let mut recordings = recordings.clone();
            while !done.swap(left.load(Ordering::Acquire) == 0, Ordering::Relaxed) {
                for (of, recording) in recordings.iter_mut().enumerate().skip(1) {
                    let mut last = None;
                    for record in recording.by_ref() {
                        assert!(last < Some(record.index));
                        last = Some(record.index);
                        let [n, ..] = record.arguments;
                        let whole = if record.ip == first_ip {
                            n == 1
                        } else {
                            record.ip == four_ip && record.arguments == [n, n << 8, n << 16, !n]
                        };
                        assert!(whole, "CPU {of}: {record:x?}");
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            let lost: u64 = recordings.iter().map(FlightReader::lost).sum();
            passed.store(lost - lost_before, Ordering::Relaxed);
        })
    });
    let (read, passed) = (read.load(Ordering::Relaxed), passed.load(Ordering::Relaxed));
    println!("{read} records read while they were written, {passed} overwritten before, {nested} calls in interrupts");
    assert_eq!(produced() - produced_before, writers as u64 * CALLS + nested);
    assert!(read > 0);
    // The rest: what the reader's own CPU did, and what came after the last look.
    let mut recordings = recordings.clone();
    let mut rest = 0;
    for recording in &mut recordings {
        rest += recording.by_ref().count() as u64;
        while recording.skip_unfinished() {
            rest += recording.by_ref().count() as u64;
        }
    }
    let lost: u64 = recordings.iter().map(FlightReader::lost).sum::<u64>() - lost_before;
    assert_eq!(rest + lost, writers as u64 * CALLS + nested, "a reader that comes late");
}

core::arch::global_asm!(
    ".pushsection .text.counters_trampoline, \"ax\", %progbits",
    ".arch_extension bti",
    "    .balign 16",
    "    .global counters_trampoline",
    "    .type counters_trampoline, %function",
    "counters_trampoline:",
    "    bti   c",
    "    adrp  x10, {passed}",
    "    add   x10, x10, :lo12:{passed}",
    "1:  ldxr  x11, [x10]",
    "    add   x11, x11, #1",
    "    stxr  w12, x11, [x10]",
    "    cbnz  w12, 1b",
    "    mov   x10, x30",
    "    mov   x30, x9",
    "    ret   x10",
    "    .size counters_trampoline, . - counters_trampoline",
    ".popsection",
    passed = sym PASSED,
);

static PASSED: AtomicU64 = AtomicU64::new(0);
static CALLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(ip: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    assert_eq!((ip, regs.argument(2)), (call_addr_of_four(), Some(33)));
    CALLED.fetch_add(1, Ordering::Relaxed);
}

static FOUR: AtomicU64 = AtomicU64::new(0);

fn call_addr_of_four() -> TextAddr {
    TextAddr::new(FOUR.load(Ordering::Relaxed))
}

fn counters_and_recorders_stand_beside_callbacks_and_a_direct_trampoline() {
    unsafe extern "C" {
        fn counters_trampoline();
    }
    static COUNTS: [Ops; 2] = [const { Ops::counter() }; 2];
    static RECORDER: Ops = Ops::recorder(4);
    static LIVE: Ops = Ops::new(count);
    static ALSO: Ops = Ops::new(count);
    static ALL: Ops = Ops::new(count).with_flags(OpsFlags::SAVE_REGS);
    let engine = prepare();
    let mut recordings = recordings();
    FOUR.store(call_addr(four as *const ()).get(), Ordering::Relaxed);
    // SAFETY: the assembly above keeps to the convention, and is there for ever.
    let direct = unsafe { Ops::direct(address(counters_trampoline as *const ())) };
    let direct: &'static Ops = Box::leak(Box::new(direct));
    let rests: [&[&'static Ops]; 7] =
        [&[], &[&LIVE], &[&LIVE, &ALSO], &[&ALL], &[direct], &[&LIVE, direct], &[&ALL, &LIVE, direct]];
    let hits = callsite_hits(&[four as *const ()]);
    let callsites: &'static Ops = Box::leak(Box::new(Ops::callsite_counter(hits)));
    let frameless: [&'static Ops; 4] = [&COUNTS[0], &RECORDER, callsites, &COUNTS[1]];
    let rules = [Rule::address(address(four as *const ()))];
    let filter = Filter::new(&rules);
    let mut calls = 0;
    for rest in rests {
        // Before the others, and behind them.
        for order in 0..2 {
            let all: Vec<&'static Ops> = match order {
                0 => frameless.iter().chain(rest).copied().collect(),
                _ => rest.iter().chain(&frameless).copied().collect(),
            };
            all.iter().for_each(|ops| assert_eq!(engine.register(ops, &filter), Ok(1)));
            let (called, passed) = (CALLED.swap(0, Ordering::Relaxed), PASSED.swap(0, Ordering::Relaxed));
            assert_eq!((called, passed), (0, 0));
            for n in 0..10 {
                assert_eq!(black_box(four)(n, 22, 33, 44), n ^ 22 ^ 33 ^ 44);
            }
            calls += 10;
            let has_direct = rest.iter().any(|ops| core::ptr::eq(*ops, direct));
            let callbacks = rest.len() - usize::from(has_direct);
            assert_eq!(CALLED.swap(0, Ordering::Relaxed), 10 * callbacks as u64);
            assert_eq!(PASSED.swap(0, Ordering::Relaxed), if has_direct { 10 } else { 0 });
            assert_eq!(
                recordings[0].by_ref().map(|record| record.arguments[0]).collect::<Vec<_>>(),
                [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
            );
            all.iter().for_each(|ops| assert_eq!(engine.unregister(ops), Ok(1)));
            assert_eq!(COUNTS.each_ref().map(|ops| engine.hits(ops)), [calls; 2]);
            assert_eq!(engine.function_hits(hits, address(four as *const ())), Some(calls));
        }
    }
    assert_eq!(engine.check_text().wrong, 0);
}

/// A counter has no guard.
fn a_callback_is_counted_inside_a_callback() {
    extern "C" fn calls_first(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
        black_box(first)(0);
    }
    static OPS: Ops = Ops::new(calls_first);
    static COUNTER: Ops = Ops::counter();
    let engine = prepare();
    traced(&OPS, &[first as *const ()], || traced(&COUNTER, &[first as *const ()], || black_box(first)(0)));
    assert_eq!((engine.hits(&COUNTER), OPS.misses()), (2, 1));
}
