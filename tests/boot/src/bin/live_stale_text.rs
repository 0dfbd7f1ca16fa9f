//! What a change of text leaves to execute on an emulator: the new words, on every CPU, from its return on.
//!
//! Releases of QEMU up to 7.2, with a thread for each CPU, keep the translation of an old word if a CPU was at it while
//! another one stored the new word (see the head of the crate's `text`). It takes translations that are missing when the
//! store comes: so all CPUs but one call a thousand functions, round and round, and the one changes all of them at once,
//! again and again, each time while the others still translate what the change before has left them to.
//!
//! Threads, so nothing here repeats exactly: without the crate's second store most boots fail, not all. Neither this file
//! nor the kernel under it does anything for the emulator's sake.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use boot_tests::functions::FUNCTIONS;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr};
use support::memory::{self, Alias};
use support::{engine, percpu, smp};

support::boot_tests! {
    nobody_is_called_after_unregister,
    every_call_after_register_is_seen,
    a_stub_in_reused_room_is_the_new_one,
}

/// How often everything changes, with each kind of alias.
const ROUNDS: usize = if cfg!(debug_assertions) { 5 } else { 10 };

/// Their stubs differ in their words, and the last one's in its length.
static OPS: [Ops; 3] =
    [Ops::new(count::<0>), Ops::new(count::<1>), Ops::new(count::<2>).with_flags(OpsFlags::SAVE_REGS)];

/// Calls of each, by all CPUs and by the one that registers.
static CALLS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static OWN_CALLS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

extern "C" fn count<const N: usize>(_: TextAddr, _: TextAddr, ops: &'static Ops, _: FtraceRegs<'_>) {
    assert!(core::ptr::eq(ops, &raw const OPS[N]));
    CALLS[N].fetch_add(1, Ordering::Relaxed);
    if percpu::this().index() == 0 {
        OWN_CALLS[N].fetch_add(1, Ordering::Relaxed);
    }
}

fn read(counts: &[AtomicU64; 3]) -> [u64; 3] {
    counts.each_ref().map(|count| count.load(Ordering::SeqCst))
}

/// Calls every function once, from this one on.
fn call_all(first: usize) {
    let all = FUNCTIONS.as_flattened();
    let (before, after) = all.split_at(first % all.len());
    for (number, function) in after.iter().chain(before).enumerate() {
        let _ = function(number as u64);
    }
}

/// Runs `f` on this CPU, with each kind of alias, while all others call.
fn while_others_call(f: impl Fn(&'static Engine, &Filter<'_>) + Sync) {
    let (engine, _) = engine();
    let cpus = smp::start_all();
    assert!(cpus > 2, "a CPU that translates, one that writes, and one more");
    let rules = [Rule::glob("*::functions::function::*").expect("it is well formed")];
    let filter = Filter::new(&rules);
    for alias in [Alias::Permanent, Alias::Window] {
        memory::use_alias(alias);
        let stop = AtomicBool::new(false);
        smp::on_all(|cpu| {
            if cpu == 0 {
                (0..ROUNDS).for_each(|_| f(engine, &filter));
                stop.store(true, Ordering::Release);
            }
            while !stop.load(Ordering::Acquire) {
                call_all(cpu * 311);
            }
        });
    }
    memory::use_alias(Alias::Permanent);
}

fn register(engine: &Engine, ops: &'static Ops, filter: &Filter<'_>) {
    assert_eq!(engine.register(ops, filter), Ok(FUNCTIONS.as_flattened().len()));
}

fn unregister(engine: &Engine, ops: &'static Ops) {
    assert_eq!(engine.unregister(ops), Ok(FUNCTIONS.as_flattened().len()));
}

/// Asserts that no ops is called by anybody, while all functions are.
fn nothing_is_called(stale: &AtomicU64) {
    let before = read(&CALLS);
    call_all(0);
    let after = read(&CALLS);
    stale.fetch_add(after.iter().sum::<u64>() - before.iter().sum::<u64>(), Ordering::Relaxed);
}

fn none(count: AtomicU64, what: &str) -> Result<(), String> {
    match count.into_inner() {
        0 => Ok(()),
        count => Err(format!("{count} {what}")),
    }
}

fn nobody_is_called_after_unregister() -> Result<(), String> {
    let stale = AtomicU64::new(0);
    while_others_call(|engine, filter| {
        register(engine, &OPS[0], filter);
        unregister(engine, &OPS[0]);
        nothing_is_called(&stale);
    });
    none(stale, "calls after unregister")
}

fn every_call_after_register_is_seen() -> Result<(), String> {
    let missed = AtomicU64::new(0);
    while_others_call(|engine, filter| {
        register(engine, &OPS[0], filter);
        let before = read(&OWN_CALLS);
        call_all(0);
        let seen = read(&OWN_CALLS)[0] - before[0];
        missed.fetch_add(FUNCTIONS.as_flattened().len() as u64 - seen, Ordering::Relaxed);
        unregister(engine, &OPS[0]);
    });
    none(missed, "calls missed after register")
}

/// One ops after the other, each with a stub where the one before had its own.
fn a_stub_in_reused_room_is_the_new_one() -> Result<(), String> {
    let wrong = AtomicU64::new(0);
    while_others_call(|engine, filter| {
        for (number, ops) in OPS.iter().enumerate() {
            register(engine, ops, filter);
            let before = read(&CALLS);
            call_all(0);
            let after = read(&CALLS);
            let others = (0..3).filter(|other| *other != number).map(|other| after[other] - before[other]);
            wrong.fetch_add(others.sum(), Ordering::Relaxed);
            unregister(engine, ops);
        }
    });
    none(wrong, "calls of an ops that was not registered")
}
