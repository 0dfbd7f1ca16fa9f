//! What counters, recorders and injections cost a call, in instructions beyond the disabled callsite; and that they are exact
//! where an interrupt comes between any two instructions.
//!
//! On the kernel's command line: `seed=N`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use fentry::inject::{Injectable, Injection};
use fentry::record::flight::{FlightRecord, FlightSlot};
use fentry::record::hits::CallsiteHits;
use fentry::{Filter, Ops, Rule, TextAddr, TextRange};
use support::harness::setting;
use support::random::Random;
use support::vectors::ExceptionFrame;
use support::{count, engine, interrupts, percpu, println};

support::boot_tests! {
    a_counter_costs_ten_instructions_and_a_record_twenty_five,
    a_call_that_does_not_fail_costs_fifteen_instructions,
    hits_and_records_are_exact_with_interrupts_between_any_two_instructions,
}

static COUNTER: Ops = Ops::counter();
static RECORDER: Ops = Ops::recorder(4);

#[inline(never)]
extern "C" fn traced(a: u64, b: u64, c: u64, d: u64) -> u64 {
    black_box(a) ^ b ^ c ^ d
}

fentry::injectable! {
    // SAFETY: what it returns is looked at by nobody.
    unsafe extern "C" fn traced(a: u64, b: u64, c: u64, d: u64) -> u64 { 0 }
}

fn function() -> TextAddr {
    TextAddr::new((traced as *const ()).addr() as u64)
}

fn callsite_counter() -> (&'static CallsiteHits, &'static Ops) {
    let count = CallsiteHits::counters_for(TextRange::new(function(), function().offset(16)));
    let counters: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
    let hits = Box::leak(Box::new(CallsiteHits::new(function(), Box::leak(counters.into_boxed_slice()))));
    (hits, Box::leak(Box::new(Ops::callsite_counter(hits))))
}

fn set_ring() {
    static SLOTS: [FlightSlot; 8] = [const { FlightSlot::new() }; 8];
    // The second time it is there already.
    let _ = percpu::this().area.set_ring(&SLOTS);
}

const CALLS: u32 = 1000;

/// The instructions of [`CALLS`] calls.
fn instructions() -> Option<u32> {
    instructions_of(CALLS)
}

/// The instructions of so many calls.
#[inline(never)]
fn instructions_of(calls: u32) -> Option<u32> {
    let counter = count::start()?;
    let start = counter.instructions();
    for n in 0..calls {
        black_box(traced as extern "C" fn(u64, u64, u64, u64) -> u64)(n.into(), 2, 3, 4);
    }
    Some(counter.instructions().wrapping_sub(start))
}

fn a_counter_costs_ten_instructions_and_a_record_twenty_five() {
    let (engine, _) = engine();
    set_ring();
    let (_, callsites) = callsite_counter();
    let rules = [Rule::address(function())];
    let Some(disabled) = instructions() else {
        println!("(this machine counts no instructions)");
        return;
    };
    let mut all = 0;
    let kinds = [("a counter", &COUNTER, 10), ("per callsite", callsites, 10), ("four arguments", &RECORDER, 25)];
    for (what, ops, most) in kinds {
        engine.register(ops, &Filter::new(&rules)).expect("nothing else is registered");
        let enabled = instructions().expect("it was counted before");
        engine.unregister(ops).expect("it is registered");
        let each = enabled.wrapping_sub(disabled) / CALLS;
        println!("{what:16} {each:3} instructions a call");
        assert_eq!(enabled.wrapping_sub(disabled), each * CALLS);
        assert!((1..=most).contains(&each), "{what}: {each} instructions a call");
        all += each;
    }
    for ops in kinds.map(|(_, ops, _)| ops) {
        engine.register(ops, &Filter::new(&rules)).expect("it isn't registered");
    }
    let each = instructions().expect("it was counted before").wrapping_sub(disabled) / CALLS;
    for ops in kinds.map(|(_, ops, _)| ops) {
        engine.unregister(ops).expect("it is registered");
    }
    println!("all three        {each:3} instructions a call");
    // The way back to the function only once.
    assert_eq!(each, all - 6);
    assert_eq!(instructions(), Some(disabled));
}

static INJECTION: Injection = Injection::new();

fn a_call_that_does_not_fail_costs_fifteen_instructions() {
    let (engine, _) = engine();
    // One interval, but for the call before, by which the next ones are worked out, and the one that fails.
    const GO_BY: u32 = 62;
    let Some(disabled) = instructions_of(GO_BY) else {
        println!("(this machine counts no instructions)");
        return;
    };
    // SAFETY: linker.ld puts the two symbols around the section, in memory that nobody can write.
    let [site] = (unsafe { Injectable::linked() }) else { panic!("one function is in the list") };
    INJECTION.attach(engine, [site]).expect("nothing else is registered");
    INJECTION.set_interval(GO_BY + 2);
    for (what, probability, most) in [("nothing fails", 0, 10), ("calls are counted", 100, 15)] {
        INJECTION.set_probability(probability);
        instructions_of(1);
        let enabled = instructions_of(GO_BY).expect("it was counted before").wrapping_sub(disabled);
        let each = enabled / GO_BY;
        println!("{what:20} {each:3} instructions a call");
        assert_eq!(enabled, each * GO_BY);
        assert!((1..=most).contains(&each), "{what}: {each} instructions a call");
    }
    instructions_of(1);
    assert_eq!(INJECTION.failures(), 1, "the last call of the interval");
    INJECTION.set_probability(0);
    INJECTION.detach(engine).expect("it is attached");
    assert_eq!(instructions_of(GO_BY), Some(disabled));
}

/// How many ticks there are.
const TICKS: u64 = if cfg!(debug_assertions) { 2_000 } else { 20_000 };

static NESTED: AtomicU64 = AtomicU64::new(0);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static IN_STUB: AtomicU64 = AtomicU64::new(0);

fn call_in_interrupt(frame: &ExceptionFrame) {
    unsafe extern "C" {
        static __fentry_stubs_start: u8;
        static __fentry_stubs_stop: u8;
    }
    let mut random = Random::new(RANDOM.load(Ordering::Relaxed), percpu::this().ticks());
    // Now and then more than the ring has slots: then a record is given up, where one is in the making.
    let calls = if random.below(8) == 0 { 20 } else { 1 };
    for n in 0..calls {
        black_box(traced as extern "C" fn(u64, u64, u64, u64) -> u64)(n, !n, n, n);
    }
    NESTED.fetch_add(calls, Ordering::Relaxed);
    let stubs = (&raw const __fentry_stubs_start).addr()..(&raw const __fentry_stubs_stop).addr();
    if stubs.contains(&(frame.elr as usize)) {
        IN_STUB.fetch_add(1, Ordering::Relaxed);
    }
    interrupts::set_tick_period(Duration::from_nanos(16 * (1 + random.below(20))));
    RANDOM.store(random.next(), Ordering::Relaxed);
}

fn hits_and_records_are_exact_with_interrupts_between_any_two_instructions() {
    let (engine, _) = engine();
    set_ring();
    let seed = setting("seed").unwrap_or(1);
    RANDOM.store(seed, Ordering::Relaxed);
    let (hits, callsites) = callsite_counter();
    let rules = [Rule::address(function())];
    let all: [&'static Ops; 3] = [&COUNTER, callsites, &RECORDER];
    let mut recording = percpu::this().area.recording();
    recording.by_ref().for_each(drop);
    let (counted, produced, lost) = (engine.hits(&COUNTER), recording.produced(), recording.lost());
    all.iter().for_each(|ops| assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(1)));

    let whole = |record: &FlightRecord| {
        let [a, b, c, d] = record.arguments;
        b == !a && c == a && d == a
    };
    let mut calls = 0;
    let mut read = 0;
    interrupts::on_tick(Some(call_in_interrupt));
    let until = percpu::this().ticks() + TICKS;
    interrupts::start_ticks(Duration::from_nanos(1000));
    while percpu::this().ticks() < until {
        black_box(traced as extern "C" fn(u64, u64, u64, u64) -> u64)(calls, !calls, calls, calls);
        calls += 1;
        // Not all: the interrupts write faster than this reads.
        for record in recording.by_ref().take(4) {
            assert!(whole(&record), "{record:x?}");
            read += 1;
        }
    }
    interrupts::stop_ticks();
    interrupts::on_tick(None);
    all.iter().for_each(|ops| assert_eq!(engine.unregister(ops), Ok(1)));
    while recording.by_ref().inspect(|record| assert!(whole(record))).map(|_| read += 1).count() > 0
        || recording.skip_unfinished()
    {}

    let (nested, in_stub) = (NESTED.load(Ordering::Relaxed), IN_STUB.load(Ordering::Relaxed));
    let lost = recording.lost() - lost;
    println!("seed={seed}: {calls} calls, {nested} in interrupts, of which {in_stub} came inside a stub");
    println!("{read} records were read, {lost} were lost");
    let expected = calls + nested;
    assert_eq!(engine.hits(&COUNTER) - counted, expected);
    assert_eq!(engine.function_hits(hits, function()), Some(expected));
    assert_eq!((recording.produced() - produced, read + lost), (expected, expected));
    if count::start().is_some() {
        assert!(in_stub > TICKS / 100, "only {in_stub} interrupts came inside a stub");
    }
}
