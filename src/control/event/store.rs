//! The memory of a kernel's events, and what their probes call.

use super::fetch::ReadMemory;
use super::happen::{AtProbe, Place};
use super::hist::Histogram;
use super::limits::MAX_EVENTS;
use super::parts::{EventsParts, Shared};
use super::slot::Slot;
use super::values::Hooks;
use crate::address::TextAddr;
use crate::control::tracing::Tracing;
use crate::kprobe::{Kprobe, KprobeRegs, Kprobes};
use crate::ops::{Exit, Ops, Probe};
use crate::tracer::kernel::{RecordTo, StoreIn};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::AtomicU16;

/// Memory for `N` events that lines define, in a `static`; about 12 KiB each.
///
/// `K` is the type that says where the kernel's [`Tracing`] is and where its rings are; it says where this is as well.
///
/// ```
/// use fentry::control::{Events, Tracing};
/// use fentry::kprobe::Kprobes;
/// use fentry::tracer::kernel::{RecordTo, StoreIn};
/// # use fentry::tracer::profiler::{Profile, ProfileSlot};
/// # use fentry::tracer::ring::{Mode, Ring, RingBlock};
///
/// # fn kernel(engine: &'static fentry::Engine) {
/// # static MEMORY: [RingBlock; 4] = [const { RingBlock::new() }; 4];
/// # static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
/// # static EVENTS: spin::Once<Events<OneCpu, 16>> = spin::Once::new();
/// # static TRACING: Tracing<OneCpu> = Tracing::new();
/// # static SLOTS: [ProfileSlot; 2] = [const { ProfileSlot::new() }; 2];
/// # static PROFILE: Profile = Profile::new(&SLOTS);
/// # struct OneCpu;
/// # impl RecordTo for OneCpu {
/// #     fn ring() -> &'static Ring {
/// #         &RING
/// #     }
/// #     fn task() -> u32 {
/// #         1
/// #     }
/// # }
/// # impl StoreIn<Profile> for OneCpu {
/// #     fn store() -> &'static Profile {
/// #         &PROFILE
/// #     }
/// # }
/// # impl StoreIn<Tracing<OneCpu>> for OneCpu {
/// #     fn store() -> &'static Tracing<OneCpu> {
/// #         &TRACING
/// #     }
/// # }
/// # let kprobes: &'static Kprobes<8> = Box::leak(Box::new(Kprobes::new(engine)));
/// # EVENTS.call_once(|| Events::new(kprobes));
/// // static KPROBES: Kprobes<8> = Kprobes::new(&ENGINE);
/// // static EVENTS: Events<OneCpu, 16> = Events::new(&KPROBES);
/// impl StoreIn<Events<OneCpu, 16>> for OneCpu {
///     fn store() -> &'static Events<OneCpu, 16> {
///         // &EVENTS
/// #       EVENTS.wait()
///     }
/// }
/// # }
/// ```
pub struct Events<K, const N: usize> {
    shared: Shared,
    slots: [Slot; N],
    kernel: PhantomData<fn() -> K>,
}

impl<K: RecordTo + StoreIn<Tracing<K>> + StoreIn<Self>, const N: usize> Events<K, N> {
    /// Makes memory for events at the entries and returns of functions, by these probes; at other instructions after
    /// [`anywhere`](Self::anywhere).
    pub const fn new<const POINTS: usize>(probes: &'static Kprobes<POINTS>) -> Self {
        const { assert!(N <= MAX_EVENTS, "there are at most 256 events") };
        let shared = Shared {
            probes,
            is_anywhere: false,
            hooks: Hooks { memory: None, name_task: None },
            spare_ring: K::spare_ring,
            histograms: &[],
            changes: spin::Mutex::new(()),
            last_id: AtomicU16::new(0),
        };
        Self {
            shared,
            slots: [const { Slot::new(fire::<K, N>, Ops::returning::<Returns<K, N>>()) }; N],
            kernel: PhantomData,
        }
    }

    /// Lets events read memory; without it, `@ADDRESS`, `+OFFSET(...)`, `$stackN` and strings are refused.
    #[must_use]
    pub const fn with_memory(mut self, memory: ReadMemory) -> Self {
        self.shared.hooks.memory = Some(memory);
        self
    }

    /// Says what tasks are called where events happen; without it, `$comm` and `comm` are refused. Handlers call it, in any
    /// context: it must neither block, nor take a lock, nor be slow. What it calls may be traced.
    #[must_use]
    pub const fn with_task_names(mut self, name: fn(u32) -> Option<&'static str>) -> Self {
        self.shared.hooks.name_task = Some(name);
        self
    }

    /// Gives memory for histograms, which no other events have.
    #[must_use]
    pub const fn with_histograms(mut self, histograms: &'static [Histogram]) -> Self {
        self.shared.histograms = histograms;
        self
    }

    /// Allows events at any instruction of any function that the symbol table has.
    ///
    /// # Safety
    ///
    /// For every function of the kernel's symbol table and of the modules', as long as events are defined:
    ///
    /// 1. It has no data among its instructions.
    /// 2. Whoever executes it has a stack at SP, with room for a probe's handler; or the platform's
    ///    [`for_each_brk_range`](crate::Platform::for_each_brk_range) has it.
    #[must_use]
    pub const unsafe fn anywhere(mut self) -> Self {
        self.shared.is_anywhere = true;
        self
    }

    /// Returns them for [`Control::with_events`](super::super::Control::with_events).
    pub const fn parts(&'static self) -> EventsParts {
        EventsParts { shared: &self.shared, slots: &self.slots }
    }
}

impl<K, const N: usize> fmt::Debug for Events<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// The handler of a probe.
extern "C" fn fire<K, const N: usize>(ip: TextAddr, _: TextAddr, probe: &'static Kprobe, regs: KprobeRegs<'_>)
where
    K: RecordTo + StoreIn<Tracing<K>> + StoreIn<Events<K, N>>,
{
    let events = <K as StoreIn<Events<K, N>>>::store().parts();
    if let Some(slot) = events.slot_with(probe) {
        events.happen(slot, &AtProbe { ip, regs }, 0, &Place::here::<K>());
    }
}

/// The probe of an event at a function's return.
struct Returns<K, const N: usize>(PhantomData<K>);

impl<K, const N: usize> Probe for Returns<K, N>
where
    K: RecordTo + StoreIn<Tracing<K>> + StoreIn<Events<K, N>>,
{
    const ENTRY: bool = false;
    type Data = ();

    fn exit(call: &mut Exit<'_>, (): &()) {
        let events = <K as StoreIn<Events<K, N>>>::store().parts();
        if let Some(slot) = events.slot_with(call.ops()) {
            events.happen(slot, &*call, call.parent_ip().get(), &Place::here::<K>());
        }
    }
}
