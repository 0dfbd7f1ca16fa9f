//! What it costs to ask for tracing by lines, where nothing is recorded: guest instructions for each call, beyond the disabled
//! callsite. And what it costs not to be below a function.
//!
//! Counted by the emulator, so they repeat exactly. The function returns at once.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use fentry::context::shadow::ShadowStack;
use fentry::control::{Control, Tracing};
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::profiler::{Profile, ProfileSlot};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::tracer::ticks_per_second;
use fentry::tracer::under::{Scope, Under};
use fentry::{Engine, Rule, TextAddr};
use support::{count, percpu, println};

support::boot_tests! {
    what_is_not_below_a_function_costs_least,
    what_a_line_has_not_asked_for_costs_few_instructions,
}

static SHADOW: ShadowStack<8> = ShadowStack::new();
static BLOCKS: [RingBlock; 64] = [const { RingBlock::new() }; 64];
static RING: Ring = Ring::new(&BLOCKS, Mode::Overwrite);
static SLOTS: [ProfileSlot; 64] = [const { ProfileSlot::new() }; 64];
static PROFILE: Profile = Profile::new(&SLOTS);
static UNDER: Under<Kernel> = Under::new();
static TRACING: Tracing<Kernel> = Tracing::new();

struct Kernel;

impl RecordTo for Kernel {
    #[inline]
    fn ring() -> &'static Ring {
        &RING
    }

    #[inline]
    fn task() -> u32 {
        1
    }
}

impl StoreIn<Profile> for Kernel {
    #[inline]
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<Under<Self>> for Kernel {
    #[inline]
    fn store() -> &'static Under<Self> {
        &UNDER
    }
}

impl StoreIn<Tracing<Self>> for Kernel {
    #[inline]
    fn store() -> &'static Tracing<Self> {
        &TRACING
    }
}

fn engine() -> &'static Engine {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    let (engine, _) = support::engine();
    if !GIVEN.swap(true, Ordering::Relaxed) {
        // SAFETY: this test runs on the boot CPU, and nothing is hooked yet.
        unsafe { percpu::this().trace.set_shadow_stack(&SHADOW) };
    }
    engine
}

/// As small as a traced function can be.
#[inline(never)]
extern "C" fn empty() {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) };
}

/// The instructions of a hundred calls.
fn of_calls() -> Option<u32> {
    let counter = count::start()?;
    let start = counter.instructions();
    for _ in 0..100 {
        empty();
    }
    Some(counter.instructions().wrapping_sub(start))
}

/// The function below which calls are traced.
#[inline(never)]
fn root() -> Option<u32> {
    of_calls()
}

/// How many calls of handlers keep SIMD registers, where there are any: eight instructions each.
const SIMD: u32 = if cfg!(target_feature = "neon") { 8 } else { 0 };

/// Prints what a call costs as things are now, whose stubs call `handlers` handlers, beyond what a hundred calls cost without
/// anything, and looks that it is what it costs today in a kernel without SIMD registers: `today`, and two more or less for
/// another compiler.
fn assert_cost(what: &str, plain: u32, of_calls: fn() -> Option<u32>, today: u32, handlers: u32) {
    // Once before, so that what is only done the first time is done.
    let cost = of_calls().and_then(|_| Some((of_calls()? - plain) as f32 / 100.0)).unwrap_or(0.0);
    println!("{what:42} {cost:6.1} instructions a call");
    let today = (today + handlers * SIMD) as f32;
    assert!((cost - today).abs() <= 2.0, "{what}: {cost} instructions, and not {today}");
}

fn rule(function: *const ()) -> Rule<'static> {
    Rule::address(TextAddr::new(function.addr() as u64))
}

fn what_is_not_below_a_function_costs_least() {
    let engine = engine();
    let Some(plain) = of_calls() else { return };
    let (filter, under) = ([rule(empty as *const ())], [rule(root as *const ())]);
    assert_eq!(UNDER.start(engine, &Scope { filter: &filter, under: &under, not_under: &[] }), Ok(2));
    assert_cost("graph below another function", plain, of_calls, 10, 0);
    assert_cost("graph below a function, and inside it", plain, root, 212, 2);
    assert_eq!(UNDER.start(engine, &Scope { filter: &filter, under: &[], not_under: &under }), Ok(1));
    assert_cost("graph, not below a function", plain, root, 98, 1);
    assert_eq!(UNDER.stop(engine), Ok(1));
}

fn what_a_line_has_not_asked_for_costs_few_instructions() {
    let mut control = Control::new(engine(), TRACING.parts(), [&RING], ticks_per_second);
    let Some(plain) = of_calls() else { return };
    let mut run = |line: &str| {
        let mut out = String::new();
        assert_eq!(control.execute(line, &mut out), Ok(()), "{line}: {out}");
    };
    let empty = format!("{:#x}", (empty as *const ()).addr());
    run(&format!("echo {empty} > set_ftrace_filter"));
    run("echo function > current_tracer");
    assert_cost("function of a line", plain, of_calls, 93, 1);
    run("echo 2 > set_ftrace_pid");
    assert_cost("function of another task", plain, of_calls, 55, 1);
    run("echo > set_ftrace_pid");
    run("echo 0 > tracing_on");
    assert_cost("function, recording off", plain, of_calls, 38, 1);
    run("echo nop > current_tracer");
    run("echo 1 > tracing_on");
    run(&format!("echo {empty}:traceon > set_ftrace_filter"));
    assert_cost("a command that has nothing to do", plain, of_calls, 61, 1);
    run(&format!("echo {empty}:stacktrace:0 !{empty}:traceon > set_ftrace_filter"));
    assert_cost("a command whose count is used up", plain, of_calls, 65, 1);
    run(&format!("echo !{empty}:stacktrace:0 > set_ftrace_filter"));
}
