//! What a report of a fault says of who called: every caller, wherever in a function the fault comes, and nobody else.
//!
//! The functions that fault are in assembly, so that it is known where; those that call them each call once.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::arch::naked_asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use fentry::context::shadow::ShadowStack;
use fentry::ops::{Entry, Exit, Probe};
use fentry::{Filter, Ops, Rule, TextAddr};
use spin::Mutex;
use support::exceptions::catch_traced;
use support::{engine, interrupts, percpu};

support::boot_tests! {
    a_fault_in_a_leaf_names_its_caller,
    a_fault_before_the_frame_record_names_the_caller,
    a_fault_after_the_frame_record_names_the_caller,
    a_fault_in_an_interrupt_names_what_was_interrupted,
    a_fault_in_hooked_calls_names_where_they_return,
    a_fault_where_nothing_is_known_is_marked,
}

/// Faults without a frame.
#[unsafe(naked)]
extern "C" fn leaf(address: u64) -> u64 {
    naked_asm!("hint #34", "ldr x0, [x0]", "ret")
}

/// Faults between two instructions that make a frame record: x29 is still the caller's.
#[unsafe(naked)]
extern "C" fn prologue(address: u64) -> u64 {
    naked_asm!("hint #34", "stp x29, x30, [sp, #-32]!", "ldr x0, [x0]", "mov x29, sp", "ldp x29, x30, [sp], #32", "ret",)
}

/// Faults when its frame has gone.
#[unsafe(naked)]
extern "C" fn epilogue(address: u64) -> u64 {
    naked_asm!("hint #34", "stp x29, x30, [sp, #-32]!", "mov x29, sp", "ldp x29, x30, [sp], #32", "ldr x0, [x0]", "ret",)
}

/// Faults with a stack pointer that came from elsewhere, and no frame record of its own.
#[unsafe(naked)]
extern "C" fn nowhere(address: u64) -> u64 {
    naked_asm!(
        "hint #34",
        "stp x29, x30, [sp, #-32]!",
        "mov x10, sp",
        "and x9, x0, #0xf0",
        "sub x9, x10, x9",
        "mov sp, x9",
        "ldr x0, [x0]",
        "mov sp, x10",
        "ldp x29, x30, [sp], #32",
        "ret",
    )
}

/// Where the fault comes. The functions are called by their names: they have no hashes for a call by a pointer.
#[derive(Clone, Copy)]
enum At {
    Leaf,
    Prologue,
    Epilogue,
    Nowhere,
}

/// Where nothing is mapped.
const UNMAPPED: u64 = 0x7_0000_0000;

#[inline(never)]
fn inner(at: At) -> u64 {
    let address = black_box(UNMAPPED);
    let loaded = match black_box(at) {
        At::Leaf => leaf(address),
        At::Prologue => prologue(address),
        At::Epilogue => epilogue(address),
        At::Nowhere => nowhere(address),
    };
    black_box(loaded) + 1
}

#[inline(never)]
fn outer(at: At) -> u64 {
    black_box(inner(at)) + 1
}

/// The lines of the backtrace that a fault in there prints.
fn crash(at: At) -> Vec<String> {
    let ended = catch_traced(|| {
        black_box(outer(at));
    });
    let (fault, trace) = ended.expect_err("it faults");
    assert!(fault.is_translation(), "{fault}");
    trace.lines().map(ToString::to_string).collect()
}

/// A line's function, with the mark of one that is not sure; the line where it is none of a frame.
fn function(line: &str) -> &str {
    // Behind the number and the address.
    let name = line.get(25..).unwrap_or(line);
    name.split("+0x").next().unwrap_or(name)
}

/// The report begins with these functions, goes on to the first one of the kernel, and is sure of all of them.
fn check(trace: &[String], faulting: &str) -> Result<(), String> {
    let names: Vec<&str> = trace.iter().map(|line| function(line)).collect();
    let all = || trace.join("\n");
    let expected = [faulting, "crash::inner", "crash::outer"];
    if names.get(..3) != Some(&expected) {
        return Err(format!("{names:?} and not {expected:?}:\n{}", all()));
    }
    let [.., last] = names[..] else { return Err(all()) };
    if all().contains('?') || all().contains("not sure") || !last.contains("kernel_main") {
        return Err(format!("the trace is not sure of itself, or ends early:\n{}", all()));
    }
    // Each called once.
    let count = |name: &str| names.iter().filter(|other| **other == name).count();
    if expected.iter().any(|name| count(name) != 1) || count("support_catch") != 1 {
        return Err(format!("somebody is there twice, or not at all:\n{}", all()));
    }
    Ok(())
}

fn a_fault_in_a_leaf_names_its_caller() -> Result<(), String> {
    check(&crash(At::Leaf), "crash::leaf")
}

fn a_fault_before_the_frame_record_names_the_caller() -> Result<(), String> {
    check(&crash(At::Prologue), "crash::prologue")
}

fn a_fault_after_the_frame_record_names_the_caller() -> Result<(), String> {
    check(&crash(At::Epilogue), "crash::epilogue")
}

/// The trace of a fault in the timer's interrupt.
static IN_INTERRUPT: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Not by the lock: who waits for the interrupt with it would keep it from ever being taken.
static HAS_COME: AtomicBool = AtomicBool::new(false);

#[inline(never)]
extern "C" fn waits() -> u64 {
    while !HAS_COME.load(Ordering::Acquire) {
        core::hint::spin_loop();
    }
    black_box(1)
}

fn a_fault_in_an_interrupt_names_what_was_interrupted() -> Result<(), String> {
    interrupts::on_tick(Some(|_| {
        if !HAS_COME.load(Ordering::Relaxed) {
            *IN_INTERRUPT.lock() = crash(At::Leaf);
            HAS_COME.store(true, Ordering::Release);
        }
    }));
    interrupts::start_ticks(Duration::from_millis(1));
    black_box(waits());
    interrupts::stop_ticks();
    interrupts::on_tick(None);
    let trace = core::mem::take(&mut *IN_INTERRUPT.lock());
    check(&trace, "crash::leaf")?;
    let all = trace.join("\n");
    let interrupted = trace.iter().position(|line| line == "  -- interrupted").ok_or_else(|| all.clone())?;
    let waits = trace.iter().position(|line| function(line) == "crash::waits").ok_or_else(|| all.clone())?;
    if interrupted < waits { Ok(()) } else { Err(all) }
}

/// What is hooked returns to a stub: neither that nor the shadow stack's keeper is a caller.
struct Nothing;

impl Probe for Nothing {
    type Data = ();

    fn entry(_: &mut Entry<'_>) -> Option<()> {
        Some(())
    }

    fn exit(_: &mut Exit<'_>, (): &()) {}
}

static HOOKED: Ops = Ops::returning::<Nothing>();
static ALSO: Ops = Ops::returning::<Nothing>();
static CALLS: ShadowStack<64> = ShadowStack::new();

fn a_fault_in_hooked_calls_names_where_they_return() -> Result<(), String> {
    let (engine, _) = engine();
    // SAFETY: the stack is this context's only, for ever; nothing is hooked yet.
    unsafe { percpu::this().trace.set_shadow_stack(&CALLS) };
    percpu::this().tell_stack_bounds();
    let at = |function: *const ()| Rule::address(TextAddr::new(function.addr() as u64));
    let rules = [at(inner as *const ()), at(outer as *const ())];
    for ops in [&HOOKED, &ALSO] {
        engine.register(ops, &Filter::new(&rules)).map_err(|error| format!("{error}"))?;
    }
    let traces = [At::Leaf, At::Prologue, At::Epilogue].map(|at| {
        let trace = crash(at);
        // SAFETY: the stack is this context's; the hooked calls that the fault has ended will not return.
        unsafe { percpu::this().trace.set_shadow_stack(&CALLS) };
        percpu::this().tell_stack_bounds();
        trace
    });
    for ops in [&HOOKED, &ALSO] {
        engine.unregister(ops).map_err(|error| format!("{error}"))?;
    }
    for (trace, name) in traces.iter().zip(["crash::leaf", "crash::prologue", "crash::epilogue"]) {
        check(trace, name)?;
    }
    Ok(())
}

fn a_fault_where_nothing_is_known_is_marked() -> Result<(), String> {
    let trace = crash(At::Nowhere);
    let all = trace.join("\n");
    // The fault itself is where it is. Its caller is nowhere to be found, and the records begin with that one's caller.
    let names: Vec<&str> = trace.iter().map(|line| function(line)).collect();
    let is_told = names.get(..2) == Some(&["crash::nowhere", "? crash::outer"]) && all.contains("(not sure: at ");
    if is_told { Ok(()) } else { Err(all) }
}
