//! What tracers that record ask of a kernel.

use super::event::EventWriter;
use super::ring::Ring;
use super::ticks;

/// Where a kernel's tracers record. Implemented by a type of the kernel's own that has no values, since the stubs call a
/// tracer's handlers without any.
///
/// ```
/// use fentry::tracer::graph::Graph;
/// use fentry::tracer::kernel::RecordTo;
/// use fentry::tracer::ring::{Mode, Ring, RingBlock};
/// use fentry::Ops;
///
/// static MEMORY: [RingBlock; 16] = [const { RingBlock::new() }; 16];
/// static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
///
/// struct OneCpu;
/// impl RecordTo for OneCpu {
///     fn ring() -> &'static Ring {
///         &RING
///     }
///     fn task() -> u32 {
///         1
///     }
/// }
///
/// static CALLS: Ops = Ops::returning::<Graph<OneCpu>>();
/// ```
pub trait RecordTo: 'static {
    /// Returns the running CPU's ring. Called by a thread that may be preempted right after, so the ring may be another
    /// CPU's by the time that it is written to.
    fn ring() -> &'static Ring;

    /// Returns the running task's number; 0 where a CPU runs no task.
    fn task() -> u32;
}

/// Where a kernel keeps what a tracer finds: a `static`, told by a type of the kernel's own.
///
/// ```
/// use fentry::tracer::kernel::StoreIn;
/// use fentry::tracer::latency::{Histogram, Latency};
/// use fentry::Ops;
///
/// static READS: Histogram = Histogram::new();
///
/// struct Reads;
/// impl StoreIn<Histogram> for Reads {
///     fn store() -> &'static Histogram {
///         &READS
///     }
/// }
///
/// static TIME_READS: Ops = Ops::returning::<Latency<Reads>>();
/// ```
pub trait StoreIn<T: 'static>: 'static {
    /// Returns what is kept.
    fn store() -> &'static T;
}

/// A recorder on the running CPU's ring.
#[inline]
pub(crate) fn event_writer<K: RecordTo>() -> EventWriter<'static, impl Fn() -> u64 + Copy> {
    EventWriter { ring: K::ring(), task: K::task(), clock: ticks }
}
