//! What instances are made of: rings and tracers beside the first ones.

use super::{CPUS, Kernel, PROFILE, engine};
use alloc::boxed::Box;
use fentry::control::{Control, Instance, Tracing};
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::profiler::Profile;
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::{FtraceRegs, TextAddr};
use support::percpu;

const INSTANCES: usize = 2;

static MEMORY: [[[RingBlock; 4]; CPUS]; INSTANCES] =
    [const { [const { [const { RingBlock::new() }; 4] }; CPUS] }; INSTANCES];
static RINGS: [[Ring; CPUS]; INSTANCES] = [rings(&MEMORY[0]), rings(&MEMORY[1])];
static TRACING: (Tracing<Beside<0>>, Tracing<Beside<1>>) = (Tracing::new(), Tracing::new());

const fn rings(memory: &'static [[RingBlock; 4]; CPUS]) -> [Ring; CPUS] {
    let [first, second, third, fourth] = memory;
    [
        Ring::new(first, Mode::Overwrite),
        Ring::new(second, Mode::Overwrite),
        Ring::new(third, Mode::Overwrite),
        Ring::new(fourth, Mode::Overwrite),
    ]
}

struct Beside<const NUMBER: usize>;

impl<const NUMBER: usize> RecordTo for Beside<NUMBER> {
    fn ring() -> &'static Ring {
        &RINGS[NUMBER][percpu::this().index() % CPUS]
    }

    fn task() -> u32 {
        Kernel::task()
    }

    fn frames(regs: &FtraceRegs<'_>, frames: &mut [TextAddr]) -> usize {
        Kernel::frames(regs, frames)
    }
}

impl<const NUMBER: usize> StoreIn<Profile> for Beside<NUMBER> {
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<Tracing<Self>> for Beside<0> {
    fn store() -> &'static Tracing<Self> {
        &TRACING.0
    }
}

impl StoreIn<Tracing<Self>> for Beside<1> {
    fn store() -> &'static Tracing<Self> {
        &TRACING.1
    }
}

/// Gives a control interface what two instances are made of.
pub(crate) fn beside(control: Control<CPUS>) -> Control<CPUS> {
    let rings = RINGS.each_ref().map(|rings| rings.each_ref());
    let parts = [TRACING.0.parts(), TRACING.1.parts()];
    let instances = [0, 1].map(|number| Instance::new(engine(), parts[number], rings[number]));
    control.with_instances(Box::leak(Box::new(instances)))
}
