//! What hooks and tracers cost: guest instructions for each call, beyond the disabled callsite.
//!
//! Counted by the emulator, so they repeat exactly. The function returns at once, and all that a tracer meets is in its
//! usual state: the function is in the profile, the ring's block has room.
#![no_std]
#![no_main]

use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::context::shadow::ShadowStack;
use fentry::ops::{Entry, Exit, Probe};
use fentry::tracer::function::function;
use fentry::tracer::graph::Graph;
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::latency::{Histogram, Latency, Slow, SlowerThan};
use fentry::tracer::profiler::{Profile, ProfileSlot, Profiler};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::tracer::stack::{DeepestStack, Stacks, deepest};
use fentry::{Engine, Filter, Ops, Rule, TextAddr};
use support::{count, percpu, println};

support::boot_tests! {
    return_hooks_cost_few_instructions,
    recording_costs_few_instructions,
    what_is_kept_in_memory_costs_few_instructions,
}

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

/// How many calls of handlers keep SIMD registers, where there are any: eight instructions each.
const SIMD: u32 = if cfg!(target_feature = "neon") { 8 } else { 0 };

/// Prints what a call costs with this ops on it, whose stubs call `handlers` handlers, and looks that it is what it costs
/// today in a kernel without SIMD registers: `today`, and two more or less for another compiler.
fn assert_cost(what: &str, ops: &'static Ops, today: u32, handlers: u32) {
    let engine = engine();
    let Some(plain) = of_calls() else {
        println!("(this machine counts no instructions)");
        return;
    };
    let rules = [Rule::address(TextAddr::new((empty as *const ()).addr() as u64))];
    engine.register(ops, &Filter::new(&rules)).expect("there is room");
    // Once before, so that what is only done the first time is done.
    let cost = of_calls().and_then(|_| Some((of_calls()? - plain) as f32 / 100.0)).unwrap_or(0.0);
    engine.unregister(ops).expect("it is registered");
    println!("{what:42} {cost:6.1} instructions a call");
    let today = (today + handlers * SIMD) as f32;
    assert!((cost - today).abs() <= 2.0, "{what}: {cost} instructions, and not {today}");
}

struct Empty<const ENTRY: bool>;

impl<const ENTRY: bool> Probe for Empty<ENTRY> {
    const ENTRY: bool = ENTRY;
    type Data = ();

    fn entry(_: &mut Entry<'_>) -> Option<()> {
        Some(())
    }

    fn exit(_: &mut Exit<'_>, (): &()) {}
}

fn return_hooks_cost_few_instructions() {
    static EXIT: Ops = Ops::returning::<Empty<false>>();
    static BOTH: Ops = Ops::returning::<Empty<true>>();
    assert_cost("an exit handler", &EXIT, 62, 1);
    assert_cost("an entry and an exit handler", &BOTH, 90, 2);
}

static BLOCKS: [RingBlock; 64] = [const { RingBlock::new() }; 64];
static RING: Ring = Ring::new(&BLOCKS, Mode::Overwrite);

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

fn recording_costs_few_instructions() {
    static FUNCTION: Ops = function::<Kernel, 0>();
    static ARGUMENTS: Ops = function::<Kernel, 3>();
    static GRAPH: Ops = Ops::returning::<Graph<Kernel>>();
    static SHALLOW: Ops = Ops::returning::<Graph<Kernel, 4>>();
    assert_cost("function, recorded", &FUNCTION, 88, 1);
    assert_cost("function with three arguments, recorded", &ARGUMENTS, 98, 1);
    assert_cost("graph, recorded", &GRAPH, 127, 1);
    assert_cost("graph to a depth of 4, recorded", &SHALLOW, 129, 1);
}

static SLOTS: [ProfileSlot; 64] = [const { ProfileSlot::new() }; 64];
static PROFILE: Profile = Profile::new(&SLOTS);
static HISTOGRAM: Histogram = Histogram::new();
static DEEPEST: DeepestStack = DeepestStack::new();

impl StoreIn<Profile> for Kernel {
    #[inline]
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<Histogram> for Kernel {
    #[inline]
    fn store() -> &'static Histogram {
        &HISTOGRAM
    }
}

impl StoreIn<DeepestStack> for Kernel {
    #[inline]
    fn store() -> &'static DeepestStack {
        &DEEPEST
    }
}

// SAFETY: the boot stack is mapped.
unsafe impl Stacks for Kernel {
    #[inline]
    fn stack() -> Range<u64> {
        unsafe extern "C" {
            static __boot_stack_start: u8;
            static boot_stack_end: u8;
        }
        (&raw const __boot_stack_start).addr() as u64..(&raw const boot_stack_end).addr() as u64
    }
}

/// Ticks: as a kernel has it that can be told otherwise while it runs.
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

impl Slow for Kernel {
    #[inline]
    fn limit() -> u64 {
        LIMIT.load(Ordering::Relaxed)
    }

    fn slow(_: &mut Exit<'_>, _: u64) {}
}

fn what_is_kept_in_memory_costs_few_instructions() {
    static PROFILER: Ops = Ops::returning::<Profiler<Kernel>>();
    static LATENCY: Ops = Ops::returning::<Latency<Kernel>>();
    static SLOW: Ops = Ops::returning::<SlowerThan<Kernel>>();
    static DEEP: Ops = deepest::<Kernel>();
    assert_cost("profiler", &PROFILER, 109, 1);
    assert_cost("latency histogram", &LATENCY, 76, 1);
    assert_cost("slower than", &SLOW, 64, 1);
    assert_cost("deepest stack", &DEEP, 57, 1);
    assert!(PROFILE.functions().all(|function| function.hits == 200));
}
