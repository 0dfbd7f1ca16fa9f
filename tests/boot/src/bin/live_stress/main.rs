//! Functions are traced, and not traced, while every CPU calls them, with interrupts at any moment.
//!
//! All CPUs call functions whose answers are known. One or two of them, between their calls, register and unregister ops on
//! random subsets of these functions. Ticks and interrupts from other CPUs come meanwhile, and call the functions as well.
//!
//! | checked | where |
//! |---|---|
//! | each call gives the right answer | every call, from threads and from handlers |
//! | a callsite calls an ops once or not at all | every call |
//! | registered: exactly the chosen functions are traced | on the CPU that registered, between the two |
//! | unregistered: the callback is over, and never runs again | in the callback, by the ops' epoch |
//! | text is what the engine believes, and in the end what it was | after each part |
//!
//! On the kernel's command line: `seed=N`, `changes=N` (changed callsites in each part), `tick-ns=N`.
#![no_std]
#![no_main]

extern crate alloc;

mod callbacks;
mod functions;

use alloc::string::String;
use alloc::vec::Vec;
use callbacks::{KINDS, Kind, MISSED};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use fentry::{Engine, Filter, Ops, Rule};
use functions::{COUNT, Tally, address, call, entered};
use support::harness::setting;
use support::memory::{self, Alias};
use support::random::Random;
use support::vectors::ExceptionFrame;
use support::{count, engine, interrupts, percpu, println, smp};

support::boot_tests! {
    calls_are_right_while_text_changes_by_a_permanent_alias,
    calls_are_right_while_text_changes_by_windows,
}

fn calls_are_right_while_text_changes_by_a_permanent_alias() -> Result<(), String> {
    run(Alias::Permanent)
}

fn calls_are_right_while_text_changes_by_windows() -> Result<(), String> {
    run(Alias::Window)
}

/// Changed callsites in each part, unless the command line says otherwise. An unoptimised kernel is much slower.
const CHANGES: u64 = if cfg!(debug_assertions) { 2_000 } else { 50_000 };
/// Any number will do.
const SEED: u64 = 1;

static CHANGED: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);
static TRACED: AtomicU64 = AtomicU64::new(0);
static FROM_HANDLERS: AtomicU64 = AtomicU64::new(0);

fn run(alias: Alias) -> Result<(), String> {
    let (engine, report) = engine();
    let cpus = smp::start_all();
    memory::use_alias(alias);
    let seed = setting("seed").unwrap_or(SEED);
    let changes = setting("changes").unwrap_or(CHANGES);
    println!("seed={seed} changes={changes} on {cpus} CPUs, {alias:?}");
    for counter in [&CHANGED, &CALLS, &TRACED, &FROM_HANDLERS, &MISSED] {
        counter.store(0, Ordering::Relaxed);
    }
    SEEDS.iter().enumerate().for_each(|(cpu, state)| state.store(seed ^ (cpu as u64) << 48, Ordering::Relaxed));
    let before = memory::copy_of_text();
    let patchers = (cpus / 2).clamp(1, callbacks::PATCHERS);
    let patching = AtomicU64::new(patchers as u64);
    let period = Duration::from_nanos(setting("tick-ns").unwrap_or_else(default_tick_ns));

    interrupts::on_tick(Some(tick));
    smp::on_all(|cpu| {
        let mut random = Random::new(seed, cpu as u64);
        interrupts::start_ticks(period);
        if cpu < patchers {
            patch(engine, cpu, changes, &mut random);
            patching.fetch_sub(1, Ordering::AcqRel);
        }
        while patching.load(Ordering::Acquire) != 0 {
            call_some(&mut random);
            disturb(&mut random, cpu);
        }
        interrupts::stop_ticks();
    });
    interrupts::on_tick(None);
    memory::use_alias(Alias::Permanent);

    let [changed, calls, traced, handlers, missed] =
        [&CHANGED, &CALLS, &TRACED, &FROM_HANDLERS, &MISSED].map(|counter| counter.load(Ordering::Relaxed));
    println!("{changed} callsites changed");
    println!("{calls} calls, {handlers} of them from handlers; {traced} traced; {missed} missed inside callbacks");
    let check = engine.check_text();
    assert_eq!((check.disabled, check.enabled, check.wrong), (report.counts.accepted, 0, 0));
    if let Some(at) = before.iter().zip(&memory::copy_of_text()).position(|(before, after)| before != after) {
        return Err(alloc::format!("the text's word {at} is not what it was"));
    }
    assert!(changed >= changes && traced > 0 && handlers > 0 && missed > 0);
    Ok(())
}

/// Where instructions are counted they are also the time, and a machine that runs no faster than it prints has a long one.
fn default_tick_ns() -> u64 {
    if count::start().is_some() { 20_000 } else { 200_000 }
}

/// Registers and unregisters until enough callsites were changed by all who do.
fn patch(engine: &Engine, patcher: usize, changes: u64, random: &mut Random) {
    let mut last_kind = 0;
    while CHANGED.load(Ordering::Relaxed) < changes {
        // The other stub each time, or the same one, so that callsites come to call one right after the other.
        last_kind = (last_kind + random.below(2) as usize) % KINDS;
        let ops = Kind::of(patcher, last_kind);
        let chosen: [bool; COUNT] = choose(random);
        ops.begin();
        let selected = register(engine, ops.ops, &chosen);
        for _ in 0..random.below(4) {
            call_and_expect(ops, &chosen, random);
        }
        assert_eq!(engine.unregister(ops.ops), Ok(selected));
        ops.end();
        let tally = Tally::default();
        for _ in 0..8 {
            one_call(random, &tally);
        }
        assert_eq!(tally.of(ops.number), 0, "a callback ran after its ops was unregistered");
        CHANGED.fetch_add(2 * selected as u64, Ordering::Relaxed);
    }
}

/// Some functions, at least one; from nearly none to nearly all.
fn choose(random: &mut Random) -> [bool; COUNT] {
    let density = 1 + random.below(8);
    let mut chosen = [false; COUNT];
    chosen.iter_mut().for_each(|one| *one = random.below(8) < density);
    chosen[random.below(COUNT as u64) as usize] = true;
    chosen
}

/// Registers, whatever the other CPU has registered.
fn register(engine: &Engine, ops: &'static Ops, chosen: &[bool; COUNT]) -> usize {
    let rules: Vec<Rule<'_>> = chosen
        .iter()
        .enumerate()
        .filter(|(_, is)| **is)
        .map(|(function, _)| Rule::address(address(function)))
        .collect();
    let selected = engine.register(ops, &Filter::new(&rules)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(selected, rules.len());
    selected
}

/// Calls every function: those that are chosen are traced by this ops, and no others are.
fn call_and_expect(ops: &Kind, chosen: &[bool; COUNT], random: &mut Random) {
    for function in 0..COUNT {
        let tally = Tally::default();
        call(function, random.next(), &tally);
        let expected = entered(function).filter(|entered| chosen[*entered]).count() as u32;
        assert_eq!(tally.of(ops.number), expected, "function {function}");
    }
    CALLS.fetch_add(COUNT as u64, Ordering::Relaxed);
}

/// Calls some functions.
fn call_some(random: &mut Random) {
    let calls = 1 + random.below(64);
    for _ in 0..calls {
        let tally = Tally::default();
        one_call(random, &tally);
    }
}

/// Calls any function. Each callsite that it goes through is traced by each patcher's ops once or not at all.
fn one_call(random: &mut Random, tally: &Tally) {
    let function = random.below(COUNT as u64) as usize;
    let before = tally.all();
    call(function, random.next(), tally);
    let traced = tally.all() - before;
    assert!(
        traced as usize <= callbacks::PATCHERS * entered(function).count(),
        "function {function} was traced {traced} times"
    );
    CALLS.fetch_add(1, Ordering::Relaxed);
    TRACED.fetch_add(u64::from(traced), Ordering::Relaxed);
}

/// Now and then lets another CPU run, or interrupts it.
fn disturb(random: &mut Random, cpu: usize) {
    match random.below(64) {
        0 => {
            let online = smp::online().count() as u64;
            let other = random.below(online) as usize;
            if other != cpu {
                smp::interrupt(other, in_handler);
            }
        }
        1..16 => smp::pause(),
        _ => {}
    }
}

/// What handlers choose by, one for each CPU.
static SEEDS: [AtomicU64; percpu::MAX_CPUS] = [const { AtomicU64::new(0) }; percpu::MAX_CPUS];
static IN_TICK: [AtomicBool; percpu::MAX_CPUS] = [const { AtomicBool::new(false) }; percpu::MAX_CPUS];

fn tick(_: &ExceptionFrame) {
    let this = percpu::this();
    let again = IN_TICK[this.index()].swap(true, Ordering::Relaxed);
    assert!(!again, "a tick interrupted a tick");
    in_handler();
    IN_TICK[this.index()].store(false, Ordering::Relaxed);
}

fn in_handler() {
    assert!(interrupts::are_masked());
    let this = percpu::this();
    let state = &SEEDS[this.index()];
    let mut random = Random::new(state.load(Ordering::Relaxed), this.ticks());
    let tally = Tally::default();
    for _ in 0..=random.below(4) {
        one_call(&mut random, &tally);
        FROM_HANDLERS.fetch_add(1, Ordering::Relaxed);
    }
    state.store(random.next(), Ordering::Relaxed);
}
