//! What tracers that record ask of a kernel.

use super::event::EventWriter;
use super::ring::Ring;
use super::ticks;
use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;

/// The most frames of a stack trace that is recorded, the function itself included.
pub const STACK_FRAMES: usize = 32;

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

    /// Returns the running CPU's second ring, if it has one: with it, [snapshots](crate::control) can be taken.
    fn spare_ring() -> Option<&'static Ring> {
        None
    }

    /// Writes the return addresses of the running thread's callers, the innermost first, and returns how many there are: from
    /// the caller's caller on, of the call with these registers. It is called where stack traces are recorded, in a callback.
    ///
    /// ```
    /// use fentry::context::unwind::Frames;
    /// use fentry::{FtraceRegs, TextAddr};
    /// # fn stack() -> core::ops::Range<u64> { 0..0 }
    ///
    /// fn frames(regs: &FtraceRegs<'_>, frames: &mut [TextAddr]) -> usize {
    ///     // SAFETY: 1. The running thread's stack, which may be read.
    ///     let found = unsafe { Frames::new(regs.frame_pointer(), regs.stack_pointer()..stack().end) };
    ///     frames.iter_mut().zip(found).map(|(place, frame)| *place = frame).count()
    /// }
    /// ```
    fn frames(regs: &FtraceRegs<'_>, frames: &mut [TextAddr]) -> usize {
        let (_, _) = (regs, frames);
        0
    }
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

/// Records the callers of a call, the function itself first; returns whether there was room.
pub(crate) fn record_stack<K: RecordTo>(ip: TextAddr, parent_ip: TextAddr, regs: &FtraceRegs<'_>) -> bool {
    let mut frames = [ip.offset(4); STACK_FRAMES];
    frames[1] = parent_ip;
    let found = K::frames(regs, &mut frames[2..]).min(STACK_FRAMES - 2);
    event_writer::<K>().stack(ip, &frames[..2 + found])
}
