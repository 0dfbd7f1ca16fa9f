//! What the control interface needs of a kernel: rings, tasks, stacks.

use crate::beside::instances;
use crate::events;
use core::ops::Range;
use fentry::context::shadow::ShadowStack;
use fentry::context::unwind::Frames;
use fentry::control::{Control, Tracing};
use fentry::record::flight::FlightSlot;
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::profiler::{Profile, ProfileSlot};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::tracer::stack::{DeepestStack, Stacks, deepest};
use fentry::tracer::ticks_per_second;
use fentry::{FtraceRegs, Ops, TextAddr};
use support::percpu::{self, MAX_CPUS};

/// The control interface of this kernel.
pub(crate) type KernelControl = Control<MAX_CPUS>;

/// 256 KiB for each CPU, twice.
const BLOCKS: usize = 64;
static MEMORY: [[[RingBlock; BLOCKS]; MAX_CPUS]; 2] =
    [const { [const { [const { RingBlock::new() }; BLOCKS] }; MAX_CPUS] }; 2];
static RINGS: [Ring; MAX_CPUS] = rings(&MEMORY[0]);
/// What snapshots take turns with.
static SPARES: [Ring; MAX_CPUS] = rings(&MEMORY[1]);
static SLOTS: [ProfileSlot; 8192] = [const { ProfileSlot::new() }; 8192];
static PROFILE: Profile = Profile::new(&SLOTS);
static TRACING: Tracing<Kernel> = Tracing::new();
static DEEPEST: DeepestStack = DeepestStack::new();
static DEEP: Ops = deepest::<Kernel>();
/// The last calls of each CPU.
static FLIGHTS: [[FlightSlot; 256]; MAX_CPUS] = [const { [const { FlightSlot::new() }; 256] }; MAX_CPUS];
static RECORDER: Ops = Ops::recorder(2);
static SHADOWS: [ShadowStack<128>; MAX_CPUS] = [const { ShadowStack::new() }; MAX_CPUS];

/// A ring for each CPU.
pub(crate) const fn rings<const BLOCKS: usize>(memory: &'static [[RingBlock; BLOCKS]; MAX_CPUS]) -> [Ring; MAX_CPUS] {
    const fn ring<const BLOCKS: usize>(blocks: &'static [RingBlock; BLOCKS]) -> Ring {
        Ring::new(blocks, Mode::Overwrite)
    }
    let [a, b, c, d, e, f, g, h] = memory;
    [ring(a), ring(b), ring(c), ring(d), ring(e), ring(f), ring(g), ring(h)]
}

pub(crate) struct Kernel;

impl RecordTo for Kernel {
    fn ring() -> &'static Ring {
        &RINGS[percpu::this().index()]
    }

    /// One for each CPU.
    fn task() -> u32 {
        percpu::this().index() as u32 + 1
    }

    fn spare_ring() -> Option<&'static Ring> {
        Some(&SPARES[percpu::this().index()])
    }

    fn frames(regs: &FtraceRegs<'_>, frames: &mut [TextAddr]) -> usize {
        let Some(stack) = percpu::stack_around(regs.stack_pointer()) else { return 0 };
        // SAFETY: 1. A stack of this kernel's, which are never given back.
        let found = unsafe { Frames::new(regs.frame_pointer(), stack) };
        frames.iter_mut().zip(found).map(|(place, frame)| *place = frame).count()
    }
}

impl StoreIn<Profile> for Kernel {
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<Tracing<Self>> for Kernel {
    fn store() -> &'static Tracing<Self> {
        &TRACING
    }
}

impl StoreIn<DeepestStack> for Kernel {
    fn store() -> &'static DeepestStack {
        &DEEPEST
    }
}

// SAFETY: 1. A stack of this kernel's, which are never given back.
unsafe impl Stacks for Kernel {
    fn stack() -> Range<u64> {
        percpu::thread_stack(percpu::this().index())
    }
}

/// Gives this CPU a shadow stack, so that returns are seen.
pub(crate) fn init_cpu() {
    let this = percpu::this();
    if this.trace.depth() == 0 {
        // SAFETY: 1. It is this CPU's alone, and lives for ever. 2. No hooked call is under way. 3., 4. This is the thread, in
        // no callback.
        unsafe { this.trace.set_shadow_stack(&SHADOWS[this.index()]) };
        this.tell_stack_bounds();
    }
}

pub(crate) fn task_name(task: u32) -> Option<&'static str> {
    const NAMES: [&str; MAX_CPUS] =
        ["console", "worker/1", "worker/2", "worker/3", "worker/4", "worker/5", "worker/6", "worker/7"];
    NAMES.get((task as usize).wrapping_sub(1)).copied()
}

/// Makes the control interface; once.
pub(crate) fn control() -> KernelControl {
    let (engine, _) = support::engine();
    init_cpu();
    let [rings, spares] = [&RINGS, &SPARES].map(|rings| rings.each_ref());
    let areas = core::array::from_fn(|cpu| &percpu::of(cpu).area);
    for (area, slots) in areas.into_iter().zip(&FLIGHTS) {
        area.set_ring(slots).expect("it has none");
    }
    let control = Control::new(engine, TRACING.parts(), rings, ticks_per_second)
        .with_spare_rings(spares)
        .with_task_names(task_name)
        .with_deepest_stack(&DEEP, &DEEPEST)
        .with_flight_recorder(&RECORDER, areas)
        .with_instances(instances(engine));
    events::add(control)
}
