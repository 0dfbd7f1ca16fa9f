//! Everything is hooked, on every CPU, under load: all callsites, entry and exit, with ticks and interrupts from other CPUs
//! at any moment, while real work is done.
//!
//! | checked | where |
//! |---|---|
//! | each piece of work gives what it gives unhooked | every piece, on every CPU |
//! | entries and exits balance, and nest as the calls do | every exit, and at the end on every CPU |
//! | a walk reaches the outermost frame, and never meets the return stub | at every tick, and in some exits |
//! | every record can be read; recorded + lost = produced, exactly | while rings are written, and after |
//! | an ops that is unregistered handles no exit any more | in the handler, by the ops's epoch |
//!
//! Nothing is left out of what is hooked: in this kernel no function changes the register by which the engine finds the
//! thread's context, or the shadow stack, between its entry and its return. A function that does (a switch of tasks) can't be
//! hooked: it would return with another thread's shadow stack.
#![no_std]
#![no_main]

extern crate alloc;

mod rings;
mod walks;
mod workload;

use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use fentry::context::shadow::ShadowStack;
use fentry::ops::{Entry, Exit, Probe};
use fentry::tracer::event::EventWriter;
use fentry::tracer::graph::Graph;
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::latency::{Histogram, Latency};
use fentry::tracer::profiler::{Profile, ProfileSlot, Profiler};
use fentry::tracer::ring::Mode;
use fentry::tracer::ticks;
use fentry::{Engine, Filter, Ops, Rule};
use rings::{Reading, Rings};
use spin::Once;
use support::random::Random;
use support::vectors::ExceptionFrame;
use support::{exceptions, interrupts, percpu, println, smp};
use workload::{a_little_work, work};

support::boot_tests! {
    a_million_hooked_calls_balance_and_are_recorded_in_rings_that_overwrite,
    a_million_hooked_calls_balance_and_are_recorded_in_rings_that_stop,
    all_tracers_at_once_count_the_same_calls,
    the_graph_ends_at_its_depth,
    hooks_come_and_go_while_other_cpus_are_inside_the_functions,
    calls_that_a_fault_ends_on_every_cpu_do_no_harm,
}

const MAX_CPUS: usize = percpu::MAX_CPUS;
/// Hooked calls in each of the large cases, on all CPUs together.
const CALLS: u64 = 1_000_000;
/// Pieces of work that differ.
const SEEDS: u64 = 16;

/// Deep enough for all calls of this kernel, hooked by several ops at once.
static STACKS: [ShadowStack<1024>; MAX_CPUS] = [const { ShadowStack::new() }; MAX_CPUS];

/// What one CPU counts; only it writes here.
struct Cpu {
    /// Whether calls are hooked. Changed by its thread where no hooked call is around it.
    on: AtomicBool,
    entries: AtomicU64,
    exits: AtomicU64,
    /// Hooked calls inside each other.
    depth: AtomicU64,
    deepest: AtomicU64,
}

static CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        on: AtomicBool::new(false),
        entries: AtomicU64::new(0),
        exits: AtomicU64::new(0),
        depth: AtomicU64::new(0),
        deepest: AtomicU64::new(0),
    }
}; MAX_CPUS];

fn this_cpu() -> &'static Cpu {
    &CPUS[percpu::this().index()]
}

/// The engine, with a shadow stack on every CPU, and what the pieces of work answer unhooked.
fn kernel() -> (&'static Engine, &'static [u64]) {
    static KERNEL: Once<(&'static Engine, Vec<u64>)> = Once::new();
    let (engine, answers) = KERNEL.call_once(|| {
        let (engine, _) = support::engine();
        smp::start_all();
        smp::on_all(|cpu| {
            // SAFETY: each CPU has one of its own, and nothing is hooked yet.
            unsafe { percpu::this().trace.set_shadow_stack(&STACKS[cpu]) };
        });
        (engine, (0..SEEDS).map(work).collect())
    });
    (engine, answers)
}

/// Counts, records, and looks that entry and exit belong together.
struct Everything;

impl Probe for Everything {
    type Data = u64;

    fn entry(call: &mut Entry<'_>) -> Option<u64> {
        let cpu = this_cpu();
        if !cpu.on.load(Ordering::Relaxed) {
            return None;
        }
        cpu.entries.fetch_add(1, Ordering::Relaxed);
        let depth = cpu.depth.fetch_add(1, Ordering::Relaxed);
        cpu.deepest.fetch_max(depth + 1, Ordering::Relaxed);
        let recorder = EventWriter { ring: Rings::ring(), task: Rings::task(), clock: ticks };
        recorder.graph_entry(call.ip, call.parent_ip, depth as u16);
        Some(depth)
    }

    fn exit(call: &mut Exit<'_>, depth: &u64) {
        let cpu = this_cpu();
        let inside = cpu.depth.fetch_sub(1, Ordering::Relaxed) - 1;
        assert_eq!(inside, *depth, "{call:?} is not the innermost call");
        // One more where an interrupt came between a call's own frame and its count.
        assert!((inside..=inside + 1).contains(&(call.depth() as u64)), "{call:?} is {} deep", call.depth());
        Graph::<Rings>::exit(call, &());
        if cpu.exits.fetch_add(1, Ordering::Relaxed).is_multiple_of(509) {
            walks::walk_from_here();
        }
    }
}

static EVERYTHING: Ops = Ops::returning::<Everything>();

fn a_million_hooked_calls_balance_and_are_recorded_in_rings_that_overwrite() {
    a_million_hooked_calls(Mode::Overwrite);
}

fn a_million_hooked_calls_balance_and_are_recorded_in_rings_that_stop() {
    a_million_hooked_calls(Mode::Stop);
}

fn a_million_hooked_calls(mode: Mode) {
    let (engine, _) = kernel();
    rings::choose(mode);
    let before = Totals::now();
    let callsites = engine.register(&EVERYTHING, &Filter::ALL).expect("there is room for one stub");
    under_load(|cpu, load| {
        let mut reading = Reading::of(mode, (cpu + 1) % load.cpus);
        this_cpu().on.store(true, Ordering::Relaxed);
        while Totals::now().exits - before.exits < CALLS {
            load.work_once();
            reading.read_some();
        }
        this_cpu().on.store(false, Ordering::Relaxed);
        assert_eq!(percpu::this().trace.depth(), 0);
        reading.done();
    });
    engine.unregister(&EVERYTHING).expect("it is registered");
    let after = Totals::now();
    let (entries, exits) = (after.entries - before.entries, after.exits - before.exits);
    println!("{callsites} callsites, {exits} hooked calls, {} inside each other", after.deepest);
    assert_eq!(entries, exits);
    assert!(CPUS.iter().all(|cpu| cpu.depth.load(Ordering::Relaxed) == 0));
    after.assert_harmless_since(&before);
    // One record an entry and one an exit, on the CPU's own ring.
    rings::assert_exact(mode, entries + exits);
}

/// What CPUs have counted.
struct Totals {
    entries: u64,
    exits: u64,
    deepest: u64,
    overflows: u64,
    abandoned: u64,
}

impl Totals {
    #[inline(always)]
    fn now() -> Self {
        let sum = |of: fn(&Cpu) -> &AtomicU64| CPUS.iter().map(|cpu| of(cpu).load(Ordering::Relaxed)).sum();
        let contexts = || smp::online().map(|cpu| &percpu::of(cpu).trace);
        Self {
            entries: sum(|cpu| &cpu.entries),
            exits: sum(|cpu| &cpu.exits),
            deepest: CPUS.iter().map(|cpu| cpu.deepest.load(Ordering::Relaxed)).max().unwrap_or(0),
            overflows: contexts().map(|context| context.overflows()).sum(),
            abandoned: contexts().map(|context| context.abandoned()).sum(),
        }
    }

    fn assert_harmless_since(&self, before: &Self) {
        assert_eq!((self.overflows, self.abandoned), (before.overflows, before.abandoned));
    }
}

/// What a CPU does under load.
struct Load {
    cpus: usize,
    answers: &'static [u64],
    random: Random,
}

impl Load {
    /// Does a piece of work, and now and then interrupts another CPU.
    fn work_once(&mut self) {
        let seed = self.random.below(SEEDS);
        assert_eq!(work(seed), self.answers[seed as usize]);
        let other = self.random.below(self.cpus as u64) as usize;
        if other != percpu::this().index() && self.random.below(4) == 0 {
            smp::interrupt(other, || a_little_work(ticks()));
        }
    }
}

/// Runs `on_cpu` on all CPUs at once, with ticks.
fn under_load(on_cpu: impl Fn(usize, &mut Load) + Sync) {
    let (_, answers) = kernel();
    let cpus = smp::online().count();
    interrupts::on_tick(Some(tick));
    smp::on_all(|cpu| {
        walks::set_outermost();
        interrupts::start_ticks(Duration::from_micros(200));
        on_cpu(cpu, &mut Load { cpus, answers, random: Random::new(3, cpu as u64) });
        interrupts::stop_ticks();
    });
    interrupts::on_tick(None);
    let (walks, frames) = walks::take();
    println!("{walks} walks of {frames} frames");
    assert!(walks > 0);
}

fn tick(frame: &ExceptionFrame) {
    walks::walk_from(frame.x[29]);
    a_little_work(frame.elr);
}

/// Counts what it is asked for, which is once a record.
struct CountedRings;

impl RecordTo for CountedRings {
    fn ring() -> &'static fentry::tracer::ring::Ring {
        Rings::ring()
    }

    fn task() -> u32 {
        this_cpu().exits.fetch_add(1, Ordering::Relaxed);
        Rings::task()
    }
}

/// Keeps what tracers find.
struct Kept;

static PROFILE_SLOTS: [ProfileSlot; 4096] = [const { ProfileSlot::new() }; 4096];
static PROFILE: Profile = Profile::new(&PROFILE_SLOTS);
static HISTOGRAM: Histogram = Histogram::new();

impl StoreIn<Profile> for Kept {
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<Histogram> for Kept {
    fn store() -> &'static Histogram {
        &HISTOGRAM
    }
}

fn all_tracers_at_once_count_the_same_calls() {
    static GRAPH: Ops = Ops::returning::<Graph<CountedRings>>();
    static PROFILER: Ops = Ops::returning::<Profiler<Kept>>();
    static LATENCY: Ops = Ops::returning::<Latency<Kept>>();
    let (engine, _) = kernel();
    rings::choose(Mode::Overwrite);
    let before = Totals::now();
    // Of these, so that all calls begin and end between the registrations.
    let rules =
        [Rule::glob("returns_under_load::workload::*").expect("a glob"), Rule::glob("alloc::*").expect("a glob")];
    for ops in [&GRAPH, &PROFILER, &LATENCY] {
        engine.register(ops, &Filter::new(&rules)).expect("there is room");
    }
    under_load(|_, load| {
        while Totals::now().exits - before.exits < CALLS / 10 {
            load.work_once();
        }
        assert_eq!(percpu::this().trace.depth(), 0);
    });
    for ops in [&GRAPH, &PROFILER, &LATENCY] {
        engine.unregister(ops).expect("it is registered");
    }
    let after = Totals::now();
    after.assert_harmless_since(&before);
    let calls = after.exits - before.exits;
    println!("{calls} calls, three hooks on each");
    rings::assert_exact(Mode::Overwrite, calls);
    let hits: u64 = PROFILE.functions().map(|function| function.hits).sum();
    let counts: u64 = HISTOGRAM.buckets().map(|bucket| bucket.count).sum();
    assert_eq!((hits, counts, PROFILE.unplaced()), (calls, calls, 0));
    assert!(PROFILE.functions().all(|function| {
        let times = function.min..=function.max;
        function.own <= function.total && times.contains(&function.average())
    }));
}

fn the_graph_ends_at_its_depth() {
    static SHALLOW: Ops = Ops::returning::<Graph<CountedRings, 3>>();
    let (engine, _) = kernel();
    rings::choose(Mode::Stop);
    let before = Totals::now();
    let rules = [Rule::glob("returns_under_load::workload::*").expect("a glob")];
    engine.register(&SHALLOW, &Filter::new(&rules)).expect("there is room");
    under_load(|cpu, load| {
        let mut reading = Reading::of(Mode::Stop, (cpu + 1) % load.cpus).up_to_depth(3);
        for _ in 0..20 {
            load.work_once();
            reading.read_some();
        }
        reading.done();
    });
    engine.unregister(&SHALLOW).expect("it is registered");
    let after = Totals::now();
    after.assert_harmless_since(&before);
    rings::assert_exact(Mode::Stop, after.exits - before.exits);
}

/// Checks at exits that its ops is registered.
struct Epoch;

static EPOCHS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static SEEN: AtomicU64 = AtomicU64::new(0);

impl Probe for Epoch {
    const ENTRY: bool = false;
    type Data = ();

    fn entry(_: &mut Entry<'_>) -> Option<()> {
        None
    }

    fn exit(call: &mut Exit<'_>, (): &()) {
        let epoch = &EPOCHS[call.ops().data()];
        let before = epoch.load(Ordering::Acquire);
        assert!(!before.is_multiple_of(2), "an exit of an ops that is not registered");
        SEEN.fetch_add(1, Ordering::Relaxed);
        assert_eq!(epoch.load(Ordering::Acquire), before, "unregistered inside the handler");
    }
}

/// Checks at exits that its ops is registered, and has an entry handler too.
struct EpochOfBoth;

impl Probe for EpochOfBoth {
    type Data = ();

    fn entry(call: &mut Entry<'_>) -> Option<()> {
        assert!(!EPOCHS[call.ops().data()].load(Ordering::Acquire).is_multiple_of(2), "an entry");
        Some(())
    }

    fn exit(call: &mut Exit<'_>, (): &()) {
        Epoch::exit(call, &());
    }
}

fn hooks_come_and_go_while_other_cpus_are_inside_the_functions() {
    static OPS: [Ops; 2] = [Ops::returning::<Epoch>().with_data(0), Ops::returning::<EpochOfBoth>().with_data(1)];
    const ROUNDS: usize = 30;
    let (engine, _) = kernel();
    let before = Totals::now();
    let busy = AtomicUsize::new(1);
    under_load(|cpu, load| {
        // The calls around this one are hooked too, on a CPU that starts after the first registration.
        let around = percpu::this().trace.depth();
        if cpu == 0 {
            for round in 0..ROUNDS {
                let all: &[usize] = [&[0_usize] as &[usize], &[1], &[0, 1]][round % 3];
                for number in all {
                    EPOCHS[*number].fetch_add(1, Ordering::AcqRel);
                    engine.register(&OPS[*number], &Filter::ALL).expect("there is room");
                }
                load.work_once();
                for number in all {
                    engine.unregister(&OPS[*number]).expect("it is registered");
                    EPOCHS[*number].fetch_add(1, Ordering::AcqRel);
                }
            }
            busy.store(0, Ordering::Release);
        }
        while busy.load(Ordering::Acquire) != 0 {
            load.work_once();
        }
        // All calls that were hooked in here have returned.
        assert_eq!(percpu::this().trace.depth(), around);
    });
    let seen = SEEN.load(Ordering::Relaxed);
    println!("{ROUNDS} rounds, {seen} exits");
    assert!(seen > 0);
    Totals::now().assert_harmless_since(&before);
}

#[inline(never)]
extern "C" fn faults(depth: u64) -> u64 {
    if depth > 0 {
        return black_box(faults(depth - 1)) + 1;
    }
    let nothing = core::ptr::without_provenance::<u64>(0xdead_0000_0000);
    // SAFETY: not mapped: it faults, as the test wants.
    unsafe { nothing.read_volatile() }
}

#[inline(never)]
fn catches(depth: u64) -> bool {
    exceptions::catch(|| {
        faults(black_box(depth));
    })
    .is_err()
}

fn calls_that_a_fault_ends_on_every_cpu_do_no_harm() {
    const FAULTS: u64 = 50;
    static FAULTING: Ops = Ops::returning::<Epoch>().with_data(0);
    let (engine, _) = kernel();
    let before = Totals::now();
    let rules = ["returns_under_load::faults", "returns_under_load::catches", "returns_under_load::workload::work"]
        .map(Rule::name);
    EPOCHS[0].fetch_add(1, Ordering::AcqRel);
    engine.register(&FAULTING, &Filter::new(&rules)).expect("there is room");
    under_load(|_, load| {
        for depth in 0..FAULTS {
            assert!(catches(depth % 7));
            load.work_once();
        }
        // What a kernel does whose task is killed while hooked calls are around it: nothing.
        assert_eq!(percpu::this().trace.depth(), 0);
    });
    engine.unregister(&FAULTING).expect("it is registered");
    EPOCHS[0].fetch_add(1, Ordering::AcqRel);
    let after = Totals::now();
    let ended: u64 = (0..FAULTS).map(|depth| depth % 7 + 1).sum();
    assert_eq!(after.abandoned - before.abandoned, ended * smp::online().count() as u64);
    assert_eq!(after.overflows, before.overflows);
}
