//! What handlers look at: whether anything is recorded, and of which tasks and CPUs.

use super::held;
use crate::tracer::kernel::RecordTo;
use crate::tracer::ring::Ring;
use crate::tracer::ticks;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The most tasks that `set_ftrace_pid`, or `set_ftrace_notrace_pid`, can name.
pub const MAX_PIDS: usize = 16;

/// The most CPUs that `tracing_cpumask` can leave out.
pub const MAX_CLOSED: usize = 64;

/// The most that `fail_function/verbose` can be: what is told of a failure, with its callers.
pub(super) const MAX_VERBOSITY: u32 = 2;

/// What stands between a call and its record; nothing, usually, which is one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate(u64);

impl Gate {
    /// `tracing_on` is 0.
    const OFF: u64 = 1 << 0;
    /// A command has stopped recording until what was recorded is written.
    const HELD: u64 = 1 << 1;
    /// Only these tasks.
    const PIDS: u64 = 1 << 2;
    /// Not these tasks.
    const NOTRACE_PIDS: u64 = 1 << 3;
    /// Not on these CPUs.
    const CPUS: u64 = 1 << 4;
    /// Each call of the function tracer with its callers.
    const STACKS: u64 = 1 << 5;
    /// Of the graph only calls that are not shorter than a threshold.
    const LONG_CALLS: u64 = 1 << 6;

    #[inline]
    pub(super) const fn is_free(self) -> bool {
        self.0 == 0
    }

    /// Whether nothing is recorded, of whichever task.
    #[inline]
    pub(super) const fn is_off(self) -> bool {
        self.0 & (Self::OFF | Self::HELD) != 0
    }

    /// Whether a command has stopped recording.
    pub(super) const fn is_held(self) -> bool {
        self.0 & Self::HELD != 0
    }

    pub(super) const fn wants_stacks(self) -> bool {
        self.0 & Self::STACKS != 0
    }

    pub(super) const fn wants_long_calls(self) -> bool {
        self.0 & Self::LONG_CALLS != 0
    }
}

/// Numbers of tasks. 0 is none: it is a CPU that runs no task.
#[derive(Debug)]
pub(super) struct Pids([AtomicU32; MAX_PIDS]);

impl Pids {
    const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; MAX_PIDS])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|pid| pid.load(Ordering::Relaxed)).take_while(|pid| *pid != 0)
    }

    #[inline]
    fn has(&self, pid: u32) -> bool {
        for place in &self.0 {
            match place.load(Ordering::Relaxed) {
                0 => return false,
                one if one == pid => return true,
                _ => {}
            }
        }
        false
    }

    fn set(&self, pids: &[u32]) {
        for (place, pid) in self.0.iter().zip(pids.iter().copied().chain(core::iter::repeat(0))) {
            place.store(pid, Ordering::Relaxed);
        }
    }
}

/// What the handlers look at.
#[derive(Debug)]
pub(super) struct Switches {
    gate: AtomicU64,
    max_depth: AtomicUsize,
    /// Shorter calls are not recorded, in ticks; 0: there is no such threshold.
    threshold: AtomicU64,
    /// The longest call that was recorded for its length, in ticks.
    longest: AtomicU64,
    /// How much is recorded of a call that is made to fail.
    verbosity: AtomicU32,
    pub(super) pids: Pids,
    pub(super) notrace_pids: Pids,
    /// The addresses of the rings of the CPUs that are left out; 0 behind the last one.
    closed: [AtomicUsize; MAX_CLOSED],
    /// Whether the second rings are written to.
    swapped: AtomicBool,
    /// When each of the two sets of rings began to be written to, in ticks: what is older in there is of an earlier turn.
    began: [AtomicU64; 2],
    /// Whether the rings that are not written to have a snapshot.
    has_snapshot: AtomicBool,
    /// What commands at functions have asked for, as [`Asked`] has it.
    asked: AtomicU64,
}

/// What commands at functions ask of the control interface's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All that was recorded is to be written out.
    Dump,
    /// The same of the CPU with the ring at this address.
    DumpOf(u64),
}

impl Switches {
    pub(super) const fn new() -> Self {
        Self {
            gate: AtomicU64::new(0),
            max_depth: AtomicUsize::new(usize::MAX),
            threshold: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            verbosity: AtomicU32::new(MAX_VERBOSITY),
            pids: Pids::new(),
            notrace_pids: Pids::new(),
            closed: [const { AtomicUsize::new(0) }; MAX_CLOSED],
            swapped: AtomicBool::new(false),
            began: [const { AtomicU64::new(0) }; 2],
            has_snapshot: AtomicBool::new(false),
            asked: AtomicU64::new(0),
        }
    }

    /// As they were made.
    pub(super) fn reset(&self) {
        self.answer();
        self.close(core::iter::empty());
        self.pids.set(&[]);
        self.notrace_pids.set(&[]);
        self.set_max_depth(usize::MAX);
        self.set_threshold(0);
        self.set_longest(0);
        self.set_verbosity(MAX_VERBOSITY);
        self.forget_snapshot();
        self.swapped.store(false, Ordering::Relaxed);
        self.began.iter().for_each(|began| began.store(0, Ordering::Relaxed));
        self.gate.store(0, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn gate(&self) -> Gate {
        Gate(self.gate.load(Ordering::Relaxed))
    }

    /// Whether a call of the running task, on the running CPU, is recorded although the gate is not free.
    #[inline]
    pub(super) fn lets_through<K: RecordTo>(&self, gate: Gate) -> bool {
        self.lets_task_through::<K>(gate) && self.lets_cpu_through::<K>(gate)
    }

    /// Whether one of the running task is, if it is one of the running CPU.
    #[inline(always)]
    pub(super) fn lets_task_through<K: RecordTo>(&self, Gate(gate): Gate) -> bool {
        !Gate(gate).is_off()
            && (gate & Gate::PIDS == 0 || self.pids.has(K::task()))
            && (gate & Gate::NOTRACE_PIDS == 0 || !self.notrace_pids.has(K::task()))
    }

    /// Whether one of the running CPU is, if it is one of the running task.
    #[inline]
    pub(super) fn lets_cpu_through<K: RecordTo>(&self, Gate(gate): Gate) -> bool {
        gate & Gate::CPUS == 0 || !self.is_closed(K::ring())
    }

    fn set(&self, bit: u64, is_set: bool) {
        if is_set {
            self.gate.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.gate.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn has(&self, bit: u64) -> bool {
        self.gate.load(Ordering::Relaxed) & bit != 0
    }

    pub(super) fn set_on(&self, on: bool) {
        self.set(Gate::OFF, !on);
    }

    pub(super) fn is_on(&self) -> bool {
        !self.has(Gate::OFF)
    }

    pub(super) fn set_stacks(&self, stacks: bool) {
        self.set(Gate::STACKS, stacks);
    }

    pub(super) fn wants_stacks(&self) -> bool {
        self.has(Gate::STACKS)
    }

    #[inline]
    pub(super) fn max_depth(&self) -> usize {
        self.max_depth.load(Ordering::Relaxed)
    }

    pub(super) fn set_max_depth(&self, depth: usize) {
        self.max_depth.store(depth, Ordering::Relaxed);
    }

    pub(super) fn verbosity(&self) -> u32 {
        self.verbosity.load(Ordering::Relaxed)
    }

    pub(super) fn set_verbosity(&self, verbosity: u32) {
        self.verbosity.store(verbosity, Ordering::Relaxed);
    }

    pub(super) fn threshold(&self) -> u64 {
        self.threshold.load(Ordering::Relaxed)
    }

    pub(super) fn set_threshold(&self, ticks: u64) {
        self.threshold.store(ticks, Ordering::Relaxed);
        self.set(Gate::LONG_CALLS, ticks > 0);
    }

    pub(super) fn longest(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }

    pub(super) fn set_longest(&self, ticks: u64) {
        self.longest.store(ticks, Ordering::Relaxed);
    }

    /// Whether a call of this length is long, unless a longer one ends just now: with a threshold, if it is not shorter; without,
    /// if it is longer than all before.
    #[inline]
    pub(super) fn may_be_long(&self, ticks: u64) -> bool {
        match self.threshold() {
            0 => ticks > self.longest(),
            threshold => ticks >= threshold,
        }
    }

    /// Whether it is long, of which the longest is kept.
    pub(super) fn is_long(&self, ticks: u64) -> bool {
        let before = self.longest.fetch_max(ticks, Ordering::Relaxed);
        ticks > before || self.threshold() > 0
    }

    pub(super) fn set_pids(&self, pids: &[u32]) {
        self.pids.set(pids);
        self.set(Gate::PIDS, !pids.is_empty());
    }

    pub(super) fn set_notrace_pids(&self, pids: &[u32]) {
        self.notrace_pids.set(pids);
        self.set(Gate::NOTRACE_PIDS, !pids.is_empty());
    }

    #[cold]
    #[inline(never)]
    fn is_closed(&self, ring: &'static Ring) -> bool {
        let address = core::ptr::from_ref(ring).addr();
        self.closed_rings().any(|one| one == address)
    }

    fn closed_rings(&self) -> impl Iterator<Item = usize> {
        self.closed.iter().map(|ring| ring.load(Ordering::Relaxed)).take_while(|ring| *ring != 0)
    }

    /// Whether a CPU records, which has this ring.
    pub(super) fn is_open(&self, ring: &'static Ring) -> bool {
        !self.has(Gate::CPUS) || !self.is_closed(ring)
    }

    /// Leaves out the CPUs with these rings, of which there are no more than [`MAX_CLOSED`].
    pub(super) fn close(&self, rings: impl Iterator<Item = &'static Ring>) {
        let (mut rings, mut count) = (rings.map(|ring| core::ptr::from_ref(ring).addr()), 0);
        for place in &self.closed {
            let ring = rings.next();
            count += usize::from(ring.is_some());
            place.store(ring.unwrap_or(0), Ordering::Relaxed);
        }
        self.set(Gate::CPUS, count > 0);
    }

    #[inline]
    pub(super) fn are_swapped(&self) -> bool {
        self.swapped.load(Ordering::Relaxed)
    }

    /// Takes a snapshot: from now on the other rings are written to. From any context.
    pub(super) fn swap(&self) {
        self.swap_at(ticks());
    }

    /// The same at this time.
    pub(super) fn swap_at(&self, now: u64) {
        let swapped = self.are_swapped();
        let Some(began) = self.began.get(usize::from(!swapped)) else { return };
        began.store(now, Ordering::Relaxed);
        self.has_snapshot.store(true, Ordering::Relaxed);
        self.swapped.store(!swapped, Ordering::Relaxed);
    }

    /// From when on records are of the present turn, of the rings that are written to or of the others.
    pub(super) fn began(&self, of_snapshot: bool) -> u64 {
        let set = usize::from(self.are_swapped() != of_snapshot);
        self.began.get(set).map_or(0, |began| began.load(Ordering::Relaxed))
    }

    pub(super) fn has_snapshot(&self) -> bool {
        self.has_snapshot.load(Ordering::Relaxed)
    }

    pub(super) fn forget_snapshot(&self) {
        self.has_snapshot.store(false, Ordering::Relaxed);
    }

    /// Holds what is recorded, and asks for it to be written out; returns whether nothing else had been asked for.
    pub(super) fn ask(&self, asked: Asked) -> bool {
        let number = match asked {
            Asked::Dump => 1,
            Asked::DumpOf(ring) => ring,
        };
        held::ask(&self.gate, Gate::HELD, &self.asked, number)
    }

    pub(super) fn asked(&self) -> Option<Asked> {
        match held::asked(&self.asked)? {
            1 => Some(Asked::Dump),
            ring => Some(Asked::DumpOf(ring)),
        }
    }

    /// What was asked for is done.
    pub(super) fn answer(&self) {
        held::answer(&self.gate, Gate::HELD, &self.asked);
    }
}

#[cfg(test)]
mod tests {
    use super::Switches;

    #[test]
    fn a_call_is_long_if_it_is_longer_than_all_before_or_not_shorter_than_the_threshold() {
        let switches = Switches::new();
        let is_long = |ticks| switches.may_be_long(ticks) && switches.is_long(ticks);
        assert_eq!([0, 5, 4, 5, 6].map(is_long), [false, true, false, false, true]);
        assert_eq!(switches.longest(), 6);
        switches.set_threshold(4);
        assert!(switches.gate().wants_long_calls());
        assert_eq!([3, 4, 9, 5].map(is_long), [false, true, true, true]);
        assert_eq!(switches.longest(), 9);
        // Two that end at once: the longer one is known first.
        switches.set_threshold(0);
        assert!(switches.gate().is_free() && switches.may_be_long(10) && switches.may_be_long(11));
        assert!(switches.is_long(11) && !switches.is_long(10));
        switches.reset();
        assert_eq!((switches.longest(), is_long(1)), (0, true));
    }
}
