//! One probe: its handlers and what it counts.

use super::regs::KprobeRegs;
use crate::address::TextAddr;
use crate::ops::{Callback, Ops, OpsFlags};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};

/// What a probe calls, with the arguments of a [`Callback`]: `ip` is where execution is, at the probed instruction, or behind it in
/// the handler that is called after it; at a function's entry it is the callsite, as callbacks get it. `lr` is what X30 holds, at
/// a function's entry where it will return to.
///
/// At a [breakpoint](ServedBy::Breakpoint) it runs with interrupts masked, on the stack of the exception handler; elsewhere as a
/// [`Callback`] does, with interrupts as they were. It may call traced and probed functions: they are not traced while it runs,
/// nor are probes served at their entries, and but for a function's entry no others either. It must not wait for a lock that the
/// code it interrupts can hold, nor sleep, nor register or remove anything, nor unwind.
pub type Handler = extern "C" fn(ip: TextAddr, lr: TextAddr, probe: &'static Kprobe, regs: KprobeRegs<'_>);

/// Handlers that are called at one instruction, before it and after it (Linux `struct kprobe`).
///
/// Like an ops, it is a `static`.
///
/// # Invariants
///
/// `ops` comes first, so that its address is the probe's.
#[repr(C)]
pub struct Kprobe {
    pub(super) ops: Ops,
    before: Handler,
    after: Option<Handler>,
    counts_hits: bool,
    hits: AtomicU64,
    missed: AtomicU64,
    is_enabled: AtomicBool,
    /// A [`State`].
    state: AtomicU8,
    at: AtomicU64,
    /// The next one at the same instruction.
    pub(super) next: AtomicPtr<Self>,
}

/// How a probe is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    /// The callsite at the function's entry calls its stub: no exception.
    Callsite,
    /// A BRK stands in the instruction's place.
    Breakpoint,
    /// A B stands in the instruction's place, to generated code that calls the handlers: no exception.
    Jump,
}

/// Where a probe is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Nobody has it.
    Free,
    /// It is being registered or removed.
    Changing,
    AtCallsite,
    /// At an instruction with a breakpoint, or with none, since nobody there is enabled.
    AtBreakpoint,
    /// At an instruction with a jump.
    AtJump,
    /// It is called no more, but a CPU may still be in its handlers.
    Leaving,
}

impl Kprobe {
    /// Makes one that calls `before` before the instruction.
    pub const fn new(before: Handler) -> Self {
        Self {
            ops: Ops::new(callback(before)),
            before,
            after: None,
            counts_hits: false,
            hits: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            is_enabled: AtomicBool::new(true),
            state: AtomicU8::new(State::Free as u8),
            at: AtomicU64::new(0),
            next: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Has `after` called as well, after the instruction. At a function's entry that is directly after `before`.
    #[must_use]
    pub const fn with_after(self, after: Handler) -> Self {
        let flags = self.ops.flags();
        Self { ops: Ops::new(callback(all)).with_flags(flags), after: Some(after), ..self }
    }

    /// Has [`hits`](Self::hits) counted, by an atomic addition to one word for all CPUs.
    #[must_use]
    pub const fn with_hits(self) -> Self {
        let flags = self.ops.flags();
        Self { ops: Ops::new(callback(all)).with_flags(flags), counts_hits: true, ..self }
    }

    /// Has every register saved at a function's entry as well, where else only those are there that are live
    /// ([`FtraceRegs`](crate::FtraceRegs)).
    #[must_use]
    pub const fn with_all_registers(self) -> Self {
        let flags = self.ops.flags().union(OpsFlags::SAVE_REGS);
        Self { ops: self.ops.with_flags(flags), ..self }
    }

    /// Lets `before` change where execution goes on ([`KprobeRegs::set_pc`]). A callsite can have one such probe or ops; elsewhere
    /// it takes a breakpoint.
    #[must_use]
    pub const fn with_pc(self) -> Self {
        let flags = self.ops.flags().union(OpsFlags::IPMODIFY);
        Self { ops: self.ops.with_flags(flags), ..self }
    }

    /// Where it is registered: the instruction, or for [`ServedBy::Callsite`] the function.
    pub fn at(&self) -> Option<TextAddr> {
        self.served_by().map(|_| TextAddr::new(self.at.load(Ordering::Relaxed)))
    }

    /// How it is reached, while it is registered.
    pub fn served_by(&self) -> Option<ServedBy> {
        match self.state() {
            State::AtCallsite => Some(ServedBy::Callsite),
            State::AtBreakpoint => Some(ServedBy::Breakpoint),
            State::AtJump => Some(ServedBy::Jump),
            State::Free | State::Changing | State::Leaving => None,
        }
    }

    /// How often its handlers were called, if it was made [to count that](Self::with_hits); else 0.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How often the instruction was executed without its handlers: inside a probe's handler, or on a CPU that has no
    /// [`TraceContext`](crate::TraceContext) yet; at a function's entry also inside a callback.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed).wrapping_add(self.ops.misses())
    }

    /// Whether its handlers are called.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled.load(Ordering::Relaxed)
    }

    pub(super) fn set_enabled(&self, is_enabled: bool) {
        self.is_enabled.store(is_enabled, Ordering::Relaxed);
    }

    pub(super) const fn has_after(&self) -> bool {
        self.after.is_some()
    }

    /// Whether a jump does, and no exception is needed.
    pub(super) const fn is_for_jump(&self) -> bool {
        self.after.is_none() && !self.ops.flags().contains(OpsFlags::IPMODIFY)
    }

    pub(super) fn state(&self) -> State {
        const STATES: [State; 5] =
            [State::Changing, State::AtCallsite, State::AtBreakpoint, State::AtJump, State::Leaving];
        let state = self.state.load(Ordering::Acquire);
        STATES.into_iter().find(|known| *known as u8 == state).unwrap_or(State::Free)
    }

    /// Goes from one state to another; whether it was there.
    pub(super) fn take(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Where it is registered, or was.
    pub(super) fn was_at(&self) -> Option<TextAddr> {
        Some(TextAddr::new(self.at.load(Ordering::Relaxed))).filter(|at| at.get() != 0)
    }

    pub(super) fn set_at(&self, at: TextAddr) {
        self.at.store(at.get(), Ordering::Relaxed);
    }

    pub(super) fn miss(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn call_before(&'static self, ip: TextAddr, lr: TextAddr, regs: KprobeRegs<'_>) {
        if self.counts_hits {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        (self.before)(ip, lr, self, regs);
    }

    #[inline]
    pub(super) fn call_after(&'static self, ip: TextAddr, lr: TextAddr, regs: KprobeRegs<'_>) {
        if let Some(after) = self.after {
            after(ip, lr, self, regs);
        }
    }
}

impl fmt::Debug for Kprobe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kprobe").field("at", &self.at()).field("served_by", &self.served_by()).finish_non_exhaustive()
    }
}

/// What does all that a probe may ask for beside its handler.
extern "C" fn all(ip: TextAddr, lr: TextAddr, probe: &'static Kprobe, mut regs: KprobeRegs<'_>) {
    let next = regs.next();
    probe.call_before(ip, lr, regs.reborrow());
    if regs.next() == next {
        probe.call_after(ip, lr, regs);
    }
}

/// The callback that a handler is, for the ops that comes first in its probe.
const fn callback(handler: Handler) -> Callback {
    // SAFETY: the two differ in the types of two arguments, of which each is an address: that of the ops is its probe's, by the
    // invariant of `Kprobe`, and a `KprobeRegs` holds what a `FtraceRegs` does at a function's entry. Stubs call it, which know
    // no types.
    unsafe { core::mem::transmute::<Handler, Callback>(handler) }
}
