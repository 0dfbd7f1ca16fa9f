//! The tracers of the control interface: what a kernel keeps in a `static`, as the stubs call a tracer's handlers without
//! any value.

use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;
use crate::ops::{Entry, Exit, Ops, Probe};
use crate::tracer::function::record_call;
use crate::tracer::graph::record_exit;
use crate::tracer::kernel::{RecordTo, StoreIn, event_writer};
use crate::tracer::profiler::{Profile, Profiler};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A tracer that `current_tracer` can name.
#[derive(Clone, Copy, Debug)]
pub struct Tracer {
    /// Its name: no white space.
    pub name: &'static str,
    /// What is registered for the functions that the filter selects. For the control interface alone: nobody else registers
    /// or unregisters it.
    pub ops: &'static Ops,
}

/// The tracers `function` and `function_graph` and the profiler, and whether they record now; in a `static`.
///
/// `K` is a type of the kernel's own that has no values and says where all is: the rings, the profile, and its `Tracing`.
pub struct Tracing<K> {
    function: Ops,
    graph: Ops,
    profile: Ops,
    switches: Switches,
    kernel: PhantomData<fn() -> K>,
}

/// What the handlers look at.
#[derive(Debug)]
pub(super) struct Switches {
    pub(super) on: AtomicBool,
    pub(super) max_depth: AtomicUsize,
}

/// A kernel's [`Tracing`] without its type.
#[derive(Clone, Copy, Debug)]
pub struct TracingParts {
    pub(super) function: &'static Ops,
    pub(super) graph: &'static Ops,
    pub(super) profiler: &'static Ops,
    pub(super) profile: fn() -> &'static Profile,
    pub(super) switches: &'static Switches,
    pub(super) mark: fn(&str) -> bool,
}

impl<K: RecordTo + StoreIn<Profile> + StoreIn<Self>> Tracing<K> {
    /// Makes tracers that are not registered; they record when they are.
    pub const fn new() -> Self {
        Self {
            function: Ops::new(function::<K>),
            graph: Ops::returning::<CallGraph<K>>(),
            profile: Ops::returning::<Profiler<K>>(),
            switches: Switches { on: AtomicBool::new(true), max_depth: AtomicUsize::new(usize::MAX) },
            kernel: PhantomData,
        }
    }

    /// Returns it for [`Control::new`](super::Control::new).
    pub const fn parts(&'static self) -> TracingParts {
        let Self { function, graph, profile, switches, .. } = self;
        let (store, mark) = (<K as StoreIn<Profile>>::store, mark::<K>);
        TracingParts { function, graph, profiler: profile, profile: store, switches, mark }
    }

    /// Has calls be recorded, or not: `tracing_on`. From any context, as where a kernel sees that something has gone wrong.
    pub fn set_on(&self, on: bool) {
        self.switches.on.store(on, Ordering::Relaxed);
    }

    /// Returns whether calls are recorded.
    pub fn is_on(&self) -> bool {
        self.switches.on.load(Ordering::Relaxed)
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

extern "C" fn function<K: RecordTo + StoreIn<Tracing<K>>>(
    ip: TextAddr,
    parent_ip: TextAddr,
    _: &'static Ops,
    regs: FtraceRegs<'_>,
) {
    if switches::<K>().on.load(Ordering::Relaxed) {
        record_call::<K>(ip, parent_ip, &regs, 0);
    }
}

#[inline]
pub(super) fn switches<K: StoreIn<Tracing<K>>>() -> &'static Switches {
    &K::store().switches
}

/// A text that somebody wrote to `trace_marker`; whether there was room for it.
fn mark<K: RecordTo>(text: &str) -> bool {
    event_writer::<K>().marker(text)
}

/// Records entries and exits, so that a reader can show calls inside each other as they come.
struct CallGraph<K>(PhantomData<K>);

impl<K: RecordTo + StoreIn<Tracing<K>>> Probe for CallGraph<K> {
    type Data = ();

    #[inline]
    fn entry(call: &mut Entry<'_>) -> Option<()> {
        let Switches { on, max_depth } = switches::<K>();
        let depth = call.depth();
        if !on.load(Ordering::Relaxed) || depth >= max_depth.load(Ordering::Relaxed) {
            return None;
        }
        event_writer::<K>().graph_entry(call.ip, call.parent_ip, depth as u16).then_some(())
    }

    #[inline]
    fn exit(call: &mut Exit<'_>, (): &()) {
        record_exit::<K>(call, |_| switches::<K>().on.load(Ordering::Relaxed));
    }
}
