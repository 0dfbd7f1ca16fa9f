//! What `mkdir instances/NAME` makes an instance of: rings and tracers beside the first ones.

use crate::tracing::{Kernel, rings};
use alloc::boxed::Box;
use fentry::Engine;
use fentry::control::{Instance, Tracing};
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::profiler::Profile;
use fentry::tracer::ring::{Ring, RingBlock};
use support::percpu::{self, MAX_CPUS};

/// 64 KiB for each CPU.
static MEMORY: [[RingBlock; 16]; MAX_CPUS] = [const { [const { RingBlock::new() }; 16] }; MAX_CPUS];
static RINGS: [Ring; MAX_CPUS] = rings(&MEMORY);
static TRACING: Tracing<Beside> = Tracing::new();

struct Beside;

impl RecordTo for Beside {
    fn ring() -> &'static Ring {
        &RINGS[percpu::this().index()]
    }

    fn task() -> u32 {
        Kernel::task()
    }
}

/// An instance has no profiler of its own.
impl StoreIn<Profile> for Beside {
    fn store() -> &'static Profile {
        Kernel::store()
    }
}

impl StoreIn<Tracing<Self>> for Beside {
    fn store() -> &'static Tracing<Self> {
        &TRACING
    }
}

/// Room for one instance.
pub(crate) fn instances(engine: &'static Engine) -> &'static mut [Instance<MAX_CPUS>] {
    Box::leak(Box::new([Instance::new(engine, TRACING.parts(), RINGS.each_ref())]))
}
