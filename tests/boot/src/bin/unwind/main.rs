//! A walk by the unwind table, at every instruction, against a list of calls that the test keeps.
//!
//! The workload is executed one instruction at a time. Before each one, the handler walks from the registers, and the trace must
//! be what [`calls`] has seen: the calls that were made and have not returned. A trace that is complete and not that is an error;
//! one that is not complete says why, and what it says is counted. Every now and then the walk begins in the handler, on a stack of
//! its own, and goes back over the exception; so do walks in the timer's interrupts, which come between. Part of the workload are
//! functions of modules that are loaded far away.
//!
//! On the kernel's command line: `steps=N`, how many instructions for each way of tracing; `every=N`, of how many one is walked
//! from.
#![no_std]
#![no_main]

extern crate alloc;

mod callbacks;
mod calls;
mod modules;
mod proof;
mod workload;

use alloc::vec::Vec;
use callbacks::SITUATIONS;
use core::arch::naked_asm;
use core::time::Duration;
use fentry::{Engine, Filter, Rule};
use proof::PROOF;
use support::harness::setting;
use support::{engine, exceptions, interrupts, percpu, println, step};

support::boot_tests! {
    every_trace_is_true_at_every_instruction,
}

/// How many instructions of each situation are executed, at least.
const STEPS: u64 = 5_000;
/// Of so many one is walked from, another one each time that a function is called. Unoptimised, a walk takes long.
const EVERY: u64 = if cfg!(debug_assertions) { 197 } else { 5 };
/// The time between interrupts, which must be longer than their walk.
const TICK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 2 });
/// Of all traces, so many in a thousand are reliable at least.
const RELIABLE: u64 = 999;

/// The calls begin here, on a stack of their own.
#[unsafe(naked)]
unsafe extern "C" fn outermost(top: u64, f: extern "C" fn()) -> ! {
    naked_asm!(
        "hint #34", // BTI C
        "mov sp, x0",
        "mov x29, xzr",
        "mov x30, xzr",
        "blr x1",
        ".global unwind_test_outermost",
        "unwind_test_outermost:",
        "brk #5", // back to who waits for the fault
    )
}

/// Executes the workload as often as it takes.
extern "C" fn stepped() {
    interrupts::start_ticks(TICK);
    step::start(proof::before_instruction);
    loop {
        workload::run();
        if PROOF.has_enough() {
            break;
        }
    }
    step::stop();
    interrupts::stop_ticks();
}

/// Runs `f` where a walk has an end that is known.
fn run_from_nowhere(f: extern "C" fn()) {
    // A CPU that has not been started: nothing runs on its stack.
    let stack = percpu::thread_stack(1);
    proof::begin(stack.end);
    let ended = exceptions::catch(|| {
        // SAFETY: a stack of this kernel, that nobody uses.
        unsafe { outermost(stack.end, f) }
    });
    let brk = ended.expect_err("it ends by BRK");
    assert_eq!(brk.esr & 0xffff, 5, "{brk}");
}

fn traced(engine: &'static Engine, situation: &callbacks::Situation) {
    let own = Rule::glob("unwind::workload::*").expect("a glob");
    let rules: Vec<Rule<'_>> = modules::rules().chain([own]).collect();
    for ops in situation.ops {
        engine.register(ops, &Filter::new(&rules)).expect("it isn't registered");
    }
    run_from_nowhere(stepped);
    for ops in situation.ops {
        engine.unregister(ops).expect("it is registered");
    }
}

fn every_trace_is_true_at_every_instruction() -> Result<(), alloc::string::String> {
    let (engine, _) = engine();
    callbacks::prepare();
    modules::prepare()?;
    proof::prepare(setting("steps").unwrap_or(STEPS), setting("every").unwrap_or(EVERY));
    interrupts::on_tick(Some(proof::in_interrupt));
    for situation in &SITUATIONS {
        traced(engine, situation);
        PROOF.report(situation.name)?;
    }
    callbacks::with_failures(engine, || run_from_nowhere(stepped));
    PROOF.report("functions that fail")?;
    callbacks::with_attachments(engine, || run_from_nowhere(stepped));
    PROOF.report("typed attachments")?;
    for (name, by_jumps) in [("probes by jumps", true), ("probes by breakpoints", false)] {
        callbacks::with_probes(engine, by_jumps, || run_from_nowhere(stepped));
        PROOF.report(name)?;
    }
    interrupts::on_tick(None);
    let (all, reliable) = PROOF.totals();
    println!(
        "{all} traces, {reliable} of them reliable: {}.{:02} %",
        reliable * 100 / all,
        reliable * 10_000 / all % 100
    );
    let [from_here, in_interrupts] = PROOF.handlers();
    println!("{from_here} of them began in a handler, {in_interrupts} of these in an interrupt's");
    let [in_modules, in_veneers] = PROOF.modules();
    println!("{in_modules} of them were from a module's function, and {in_veneers} from a veneer");
    PROOF.show_causes();
    if in_modules == 0 || in_veneers == 0 {
        return Err("no module was walked from, or none of its veneers".into());
    }
    if in_interrupts == 0 {
        return Err("no interrupt came".into());
    }
    if reliable * 1000 < all * RELIABLE {
        return Err(alloc::format!("{} traces are not reliable", all - reliable));
    }
    Ok(())
}
