//! The tracers of the control interface: what a kernel keeps in a `static`, as the stubs call a tracer's handlers without
//! any value.

use super::at_function::{Command, Slot};
use super::log::cut;
use super::reason::Reason;
use super::rules::MAX_COMMANDS;
use super::switches::{Asked, Gate, MAX_VERBOSITY, Switches};
use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;
use crate::inject::Failure;
use crate::ops::{Exit, Ops, Probe};
use crate::tracer::graph::record_exit;
use crate::tracer::kernel::{RecordTo, StoreIn, event_writer, record_stack};
use crate::tracer::profiler::{Profile, Profiler};
use crate::tracer::ring::{MAX_PAYLOAD, Ring};
use crate::tracer::under::{GraphOps, Recorded, Records};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;

/// A tracer that `current_tracer` can name.
#[derive(Clone, Copy, Debug)]
pub struct Tracer {
    /// Its name: no white space.
    pub name: &'static str,
    /// What is registered for the functions that the filter selects. For the control interface alone: nobody else registers
    /// or unregisters it.
    pub ops: &'static Ops,
}

/// The tracers `function`, `function_graph` and `latency`, the commands at functions and the profiler, and whether they record
/// now; in a `static`.
///
/// `K` is a type of the kernel's own that has no values and says where all is: the rings, the profile, and its `Tracing`.
pub struct Tracing<K> {
    function: Ops,
    graph: GraphOps,
    profile: Ops,
    commands: [Slot; MAX_COMMANDS],
    switches: Switches,
    latency: Ops,
    kernel: PhantomData<fn() -> K>,
}

/// A kernel's [`Tracing`] without its type.
#[derive(Clone, Copy, Debug)]
pub struct TracingParts {
    pub(super) function: &'static Ops,
    pub(super) graph: &'static GraphOps,
    pub(super) latency: &'static Ops,
    pub(super) profiler: &'static Ops,
    pub(super) commands: &'static [Slot; MAX_COMMANDS],
    pub(super) profile: fn() -> &'static Profile,
    pub(super) switches: &'static Switches,
    pub(super) mark: fn(&str) -> Result<(), Reason>,
}

impl<K: RecordTo + StoreIn<Profile> + StoreIn<Self>> Tracing<K> {
    /// Makes tracers that are not registered; they record when they are.
    pub const fn new() -> Self {
        Self {
            function: Ops::new(function::<K>),
            graph: GraphOps::new::<CallGraph<K>>(),
            profile: Ops::returning::<Profiler<K>>(),
            commands: Slot::all(act::<K>),
            switches: Switches::new(),
            latency: Ops::returning::<LongCalls<K>>(),
            kernel: PhantomData,
        }
    }

    /// Returns it for [`Control::new`](super::Control::new).
    pub const fn parts(&'static self) -> TracingParts {
        let Self { function, graph, latency, profile, commands, switches, .. } = self;
        let (store, mark) = (<K as StoreIn<Profile>>::store, mark::<K>);
        TracingParts { function, graph, latency, profiler: profile, commands, profile: store, switches, mark }
    }

    /// What an [`Injection`](crate::inject::Injection::with_report) can be given, so that calls which it makes fail are in the
    /// trace, each where it fails, as much of it as the file `fail_function/verbose` says.
    pub fn report_failure(failure: &Failure<'_>) {
        let switches = switches::<K>();
        let (gate, verbosity) = (switches.gate(), switches.verbosity());
        if verbosity == 0 || !(gate.is_free() || switches.lets_through::<K>(gate)) {
            return;
        }
        event_writer::<Turns<K>>().marker(&cut::<{ MAX_PAYLOAD * 8 }>(format_args!("{failure}")));
        if verbosity == MAX_VERBOSITY {
            record_stack::<Turns<K>>(failure.function.function(), failure.parent_ip, &failure.regs);
        }
    }

    /// Has calls be recorded, or not: `tracing_on`. From any context, as where a kernel sees that something has gone wrong.
    pub fn set_on(&self, on: bool) {
        self.switches.set_on(on);
    }

    /// Returns whether calls are recorded.
    pub fn is_on(&self) -> bool {
        self.switches.is_on()
    }
}

impl<K: RecordTo + StoreIn<Profile> + StoreIn<Self>> Default for Tracing<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for Tracing<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing").field("switches", &self.switches).finish_non_exhaustive()
    }
}

/// The kernel's rings, the first or the second ones: as its snapshots have them take turns.
pub(super) struct Turns<K>(PhantomData<K>);

impl<K: RecordTo + StoreIn<Tracing<K>>> RecordTo for Turns<K> {
    #[inline]
    fn ring() -> &'static Ring {
        match K::spare_ring() {
            Some(spare) if switches::<K>().are_swapped() => spare,
            _ => K::ring(),
        }
    }

    #[inline]
    fn task() -> u32 {
        K::task()
    }

    fn frames(regs: &FtraceRegs<'_>, frames: &mut [TextAddr]) -> usize {
        K::frames(regs, frames)
    }
}

extern "C" fn function<K: RecordTo + StoreIn<Tracing<K>>>(
    ip: TextAddr,
    parent_ip: TextAddr,
    _: &'static Ops,
    regs: FtraceRegs<'_>,
) {
    let gate = switches::<K>().gate();
    if gate.is_free() {
        event_writer::<Turns<K>>().function(ip, parent_ip, &[]);
    } else if switches::<K>().lets_task_through::<K>(gate) {
        record_behind_gate::<K>(gate, ip, parent_ip, regs);
    }
}

/// With nothing of it in the callback, where it would cost each call.
#[inline(never)]
fn record_behind_gate<K: RecordTo + StoreIn<Tracing<K>>>(
    gate: Gate,
    ip: TextAddr,
    parent_ip: TextAddr,
    regs: FtraceRegs<'_>,
) {
    if !switches::<K>().lets_cpu_through::<K>(gate) {
        return;
    }
    event_writer::<Turns<K>>().function(ip, parent_ip, &[]);
    if gate.wants_stacks() {
        record_stack::<Turns<K>>(ip, parent_ip, &regs);
    }
}

#[inline]
pub(super) fn switches<K: StoreIn<Tracing<K>>>() -> &'static Switches {
    &K::store().switches
}

/// Records a text that somebody wrote to `trace_marker`, whichever task that is.
fn mark<K: RecordTo + StoreIn<Tracing<K>>>(text: &str) -> Result<(), Reason> {
    let switches = switches::<K>();
    let gate = switches.gate();
    if !switches.is_on() {
        return Err(Reason::TracingIsOff);
    }
    if gate.is_held() {
        return Err(Reason::RecordingIsHeld);
    }
    if !switches.lets_cpu_through::<K>(gate) {
        return Err(Reason::CpuIsLeftOut);
    }
    if event_writer::<Turns<K>>().marker(text) { Ok(()) } else { Err(Reason::RingIsFull) }
}

/// Records entries and exits, so that a reader can show calls inside each other as they come.
struct CallGraph<K>(PhantomData<K>);

impl<K: RecordTo + StoreIn<Tracing<K>>> Records for CallGraph<K> {
    type Kernel = Turns<K>;

    #[inline]
    fn ops() -> &'static GraphOps {
        &K::store().graph
    }

    #[inline]
    fn at_entry() -> Recorded {
        let gate = switches::<K>().gate();
        match gate {
            _ if gate.is_free() => Recorded::EntryAndExit,
            _ if gate.is_off() => Recorded::Nothing,
            _ => entry_behind_gate::<K>(gate),
        }
    }

    #[inline]
    fn wants_exit(call: &Exit<'_>) -> bool {
        let gate = switches::<K>().gate();
        gate.is_free() || !gate.is_off() && exit_behind_gate::<K>(gate, call)
    }

    #[inline]
    fn max_depth() -> usize {
        switches::<K>().max_depth()
    }
}

/// A call that is not long is not known to be so before it ends (Linux: `tracing_thresh`).
#[inline(never)]
fn entry_behind_gate<K: RecordTo + StoreIn<Tracing<K>>>(gate: Gate) -> Recorded {
    match gate {
        _ if !switches::<K>().lets_through::<K>(gate) => Recorded::Nothing,
        _ if gate.wants_long_calls() => Recorded::Exit,
        _ => Recorded::EntryAndExit,
    }
}

#[inline(never)]
fn exit_behind_gate<K: RecordTo + StoreIn<Tracing<K>>>(gate: Gate, call: &Exit<'_>) -> bool {
    let switches = switches::<K>();
    switches.lets_through::<K>(gate) && (!gate.wants_long_calls() || call.ticks() >= switches.threshold())
}

/// Records each call that is longer than all before or, where there is a threshold, not shorter than that; as Linux's latency
/// tracers do (`report_latency`).
struct LongCalls<K>(PhantomData<K>);

impl<K: RecordTo + StoreIn<Tracing<K>>> Probe for LongCalls<K> {
    const ENTRY: bool = false;
    type Data = ();

    #[inline]
    fn exit(call: &mut Exit<'_>, (): &()) {
        let switches = switches::<K>();
        let (gate, ticks) = (switches.gate(), call.ticks());
        // What is none of them costs least.
        if switches.may_be_long(ticks)
            && (gate.is_free() || switches.lets_through::<K>(gate))
            && switches.is_long(ticks)
        {
            record_exit::<Turns<K>>(call, |_| true);
        }
    }
}

/// The callback of all commands at functions.
extern "C" fn act<K: RecordTo + StoreIn<Tracing<K>>>(
    ip: TextAddr,
    parent_ip: TextAddr,
    ops: &'static Ops,
    regs: FtraceRegs<'_>,
) {
    let tracing = K::store();
    let Some(slot) = tracing.commands.get(ops.data()) else { return };
    // What does nothing costs least: what is so already, or is used up.
    let so_already = if tracing.switches.is_on() { Command::TraceOn } else { Command::TraceOff };
    if !slot.is(so_already) && !slot.left.is_used_up() {
        act_now::<K>(slot, ip, parent_ip, &regs);
    }
}

/// With nothing of it in the callback, where it would cost each call.
#[inline(never)]
fn act_now<K: RecordTo + StoreIn<Tracing<K>>>(slot: &Slot, ip: TextAddr, parent_ip: TextAddr, regs: &FtraceRegs<'_>) {
    let switches = switches::<K>();
    let Some(command) = slot.command() else { return };
    // Only what does something is counted.
    match command {
        Command::TraceOn | Command::TraceOff => {
            if slot.left.take() {
                switches.set_on(command == Command::TraceOn);
            }
        }
        Command::Snapshot => {
            // What is about to be written stays where it is.
            let acts = switches.is_on() && !switches.gate().is_held();
            if acts && K::spare_ring().is_some() && slot.left.take() {
                switches.swap();
            }
        }
        Command::StackTrace => {
            let gate = switches.gate();
            if (gate.is_free() || switches.lets_through::<K>(gate)) && slot.left.take() {
                record_stack::<Turns<K>>(ip, parent_ip, regs);
            }
        }
        Command::EnableEvent | Command::DisableEvent => {
            let wanted = command == Command::EnableEvent;
            let records = slot.records().filter(|records| records.load(Ordering::Relaxed) != wanted);
            if let Some(records) = records.filter(|_| slot.left.take()) {
                records.store(wanted, Ordering::Relaxed);
            }
        }
        Command::Dump | Command::CpuDump => {
            let ring = core::ptr::from_ref(K::ring()).addr() as u64;
            let asked = if command == Command::Dump { Asked::Dump } else { Asked::DumpOf(ring) };
            if !switches.gate().is_held() && slot.left.take() {
                switches.ask(asked);
            }
        }
    }
}
