//! Ops: what happens at the functions that they are registered for (Linux `ftrace_ops`).
//!
//! An ops lives in a `static`, because a CPU may be on its way into the callback at any moment: what a callsite can
//! reach must never go away.
//!
//! ```
//! use fentry::{FtraceRegs, Ops, OpsFlags, TextAddr};
//!
//! static WATCH: Ops = Ops::new(watch).with_flags(OpsFlags::SAVE_REGS);
//!
//! extern "C" fn watch(ip: TextAddr, parent_ip: TextAddr, _ops: &'static Ops, regs: FtraceRegs<'_>) {
//!     log::info!("{ip} from {parent_ip}: {:x?}", regs.arguments());
//! }
//! ```
//!
//! One that can go away is refused by the compiler, and forgetting one changes nothing:
//!
//! ```compile_fail,E0597
//! # use fentry::{Engine, Filter, FtraceRegs, Ops, TextAddr};
//! # extern "C" fn watch(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}
//! fn trace(engine: &Engine) {
//!     let watch = Ops::new(watch);
//!     let _ = engine.register(&watch, &Filter::ALL);
//! }
//! ```
//!
//! # Direct calls
//! A direct trampoline is called by the callsite itself, with no stub between, and so costs what its own instructions cost.
//! It is entered, and left, as follows:
//!
//! ```text
//!   at its start      x9   where the function will return to, not signed yet
//!                     x30  where the function goes on
//!                     x0-x8, x18-x29, SP, q0-q7 are live; x10-x17, q16-q31 and the flags are free
//!   to the function   RET X10, with x30 = what x9 was, X10 = what x30 was, and all that is live as the function
//!                     shall see it (RET, since the function has no landing pad there)
//!   to the caller     RET X9, with the function's result in x0 and so on: the function does not run
//! ```
//!
//! It begins with BTI C, as it is reached by BR where BL doesn't reach. The smallest one goes straight on:
//!
//! ```text
//!   trampoline:  bti  c
//!                mov  x10, x30
//!                mov  x30, x9
//!                ret  x10
//! ```
//!
//! The macro `direct_trampoline!` makes one around a Rust function (see [`direct`]).
//!
//! # Counting and recording
//! An ops may have no callback at all: [`Ops::counter`], [`Ops::callsite_counter`] and [`Ops::recorder`] are a few
//! instructions in the callsite's stub. They save no registers, and no guard stops them: they see every call, those of a
//! callback, an interrupt handler and an NMI among them. [`Engine::hits`](crate::Engine::hits) reads a counter.

pub mod direct;
mod exits;
mod probe;

#[cfg(target_os = "none")]
pub(crate) use exits::EXITS;
pub(crate) use exits::HookId;
pub(crate) use probe::DECLINED;
#[cfg(test)]
pub(crate) use probe::tests::{enter, leave, thread};
pub use probe::{Entry, Exit, Probe};

use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;
use crate::context::shadow::ShadowFrame;
use crate::record::flight::MAX_ARGUMENTS;
use crate::record::hits::CallsiteHits;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use direct::Trampoline;

/// The most ops that are registered at a time.
pub(crate) const MAX_OPS: usize = if cfg!(feature = "many-ops") { 1024 } else { 128 };

/// The bits of [`Ops::due`] that say that no call is. One of them stays set while late ones count down.
pub(crate) const NEVER_DUE: u64 = 0b11 << (NEVER_DUE_BIT - 1);
/// The number of the one that is looked at.
pub(crate) const NEVER_DUE_BIT: u32 = 62;

/// What the stubs call at an entry, with the call's frame, filled but for its time. It is returned, with [`DECLINED`] in its
/// address to let the call go.
pub(crate) type EntryHandler = unsafe extern "C" fn(frame: *mut ShadowFrame, regs: FtraceRegs<'_>) -> *mut ShadowFrame;

/// What the return stub calls: the frame, which it returns so that the stub need not look for it again.
pub(crate) type ExitHandler = unsafe extern "C" fn(frame: *mut ShadowFrame, regs: FtraceRegs<'_>) -> *mut ShadowFrame;

/// What a traced function's entry calls: the callsite's address, the address that the function will return to, the ops,
/// and the registers.
///
/// It runs on the stack of the traced call, in whatever context that was, with interrupts as they were. It may call traced
/// functions (they are not traced while it runs), but must not wait for a lock that the code it interrupts can hold, nor
/// register or unregister anything. It must not sleep or otherwise give up its CPU by itself: where the context is the CPU's,
/// whoever runs there next would be taken for it. It must not unwind.
///
/// `extern "C"`, because stubs call it.
pub type Callback = extern "C" fn(ip: TextAddr, parent_ip: TextAddr, ops: &'static Ops, regs: FtraceRegs<'_>);

bitflags::bitflags! {
    /// What an ops asks of the engine.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpsFlags: u32 {
        /// Every register is saved, not only the live ones: [`FtraceRegs::pt_regs`] has them.
        const SAVE_REGS = 1 << 0;
        /// The callback may change where execution goes on ([`FtraceRegs::set_pc`]). A callsite can have one such ops.
        const IPMODIFY = 1 << 1;
        /// The callback is called inside callbacks of its own level as well (Linux: without `FTRACE_OPS_FL_RECURSION`). It
        /// calls nothing that is traced, or ends the recursion itself.
        const RECURSION_SAFE = 1 << 2;
        /// Once registered it stays so.
        const PERMANENT = 1 << 3;
    }
}

/// What an ops was made to do at a function's entry.
#[derive(Clone, Copy, Debug)]
enum Made {
    Action(Action),
    /// The address of a function is not known where a `static` is made.
    Trampoline(Trampoline),
    /// The trampoline is generated; [`Ops::hits`] has its address.
    Attached,
}

/// What an ops does at a function's entry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Its callback is called by a stub.
    Callback,
    /// The callsite calls this trampoline itself.
    Direct(TextAddr),
    /// The function's return is hooked.
    Return,
    /// Hits are counted.
    Count,
    /// Hits are counted for each callsite.
    CountCallsites(&'static CallsiteHits),
    /// The call goes into the flight recorder, with so many arguments.
    Record { arguments: u8 },
    /// Its callback is called where [`Ops::due`] says that it may have something to do.
    Inject,
}

/// What happens at a function's entry and exit, with flags and one word of the caller's own.
///
/// The stubs read the callback and the flags, and count misses.
#[repr(C)]
pub struct Ops {
    pub(crate) callback: Callback,
    pub(crate) misses: AtomicU64,
    pub(crate) flags: OpsFlags,
    /// Of an ops that hooks returns: that a call which no hooked one is around is let go before the entry handler.
    pub(crate) only_inside: bool,
    pub(crate) entry: Option<EntryHandler>,
    exit: Option<ExitHandler>,
    /// The [`HookId`] of this registration, if the ops hooks returns: what its frames hold. 0 while it is not registered.
    pub(crate) hook: AtomicU64,
    made: Made,
    data: usize,
    /// What was counted elsewhere than on a CPU of its own; or of an injection, [`Self::due`]; or where a generated trampoline is.
    pub(crate) hits: AtomicU64,
}

impl Ops {
    /// Makes an ops that calls `callback`, without flags.
    pub const fn new(callback: Callback) -> Self {
        Self {
            callback,
            misses: AtomicU64::new(0),
            flags: OpsFlags::empty(),
            only_inside: false,
            entry: None,
            exit: None,
            hook: AtomicU64::new(0),
            made: Made::Action(Action::Callback),
            data: 0,
            hits: AtomicU64::new(0),
        }
    }

    /// Returns its exit handler, if it hooks returns.
    pub(crate) const fn exit_handler(&self) -> Option<ExitHandler> {
        self.exit
    }

    /// Makes an ops whose callsites call this trampoline.
    ///
    /// # Safety
    ///
    /// 1. The code at `trampoline` keeps to the convention of [direct calls](self#direct-calls).
    /// 2. It stays there for as long as a CPU can be inside it: what [`unregister`](crate::Engine::unregister) waits for does
    ///    not include it.
    pub const unsafe fn direct(trampoline: TextAddr) -> Self {
        Self { made: Made::Action(Action::Direct(trampoline)), ..Self::new(nothing) }
    }

    /// Makes an ops whose callsites call this trampoline, which is there for ever.
    pub const fn direct_call(trampoline: Trampoline) -> Self {
        Self { made: Made::Trampoline(trampoline), ..Self::new(nothing) }
    }

    /// Makes an ops that counts the calls; [`Engine::hits`](crate::Engine::hits) reads it.
    ///
    /// Each CPU counts for itself where the platform has a [`cpu_base`](crate::Platform::cpu_base), and not more than
    /// [`COUNTERS`](crate::record::COUNTERS) such ops are registered; else all CPUs count in one place. The sum is exact
    /// either way.
    pub const fn counter() -> Self {
        Self { made: Made::Action(Action::Count), ..Self::new(nothing) }
    }

    /// Makes an ops that counts the calls of each callsite on its own, in counters that all CPUs share.
    ///
    /// A callsite that they don't cover is refused at registration; in a module it is left alone.
    pub const fn callsite_counter(hits: &'static CallsiteHits) -> Self {
        Self { made: Made::Action(Action::CountCallsites(hits)), ..Self::new(nothing) }
    }

    /// Makes an ops that records the calls in the flight recorder, with the first `arguments` of X0 to X3: 4 at most.
    ///
    /// It takes a platform with a [`cpu_base`](crate::Platform::cpu_base); [`flight`](crate::record::flight) has more. A
    /// call that several recorders select is recorded once, with the most arguments that one of them asks for.
    pub const fn recorder(arguments: usize) -> Self {
        let arguments = if arguments > MAX_ARGUMENTS { MAX_ARGUMENTS } else { arguments } as u8;
        Self { made: Made::Action(Action::Record { arguments }), ..Self::new(nothing) }
    }

    /// How many arguments a recorder records.
    pub(crate) const fn recorded_arguments(&self) -> usize {
        match self.made {
            Made::Action(Action::Record { arguments }) => arguments as usize,
            _ => 0,
        }
    }

    /// Makes an ops whose callback is called for the calls that are due, and may answer for the function.
    pub(crate) const fn injecting(callback: Callback) -> Self {
        let (made, flags) = (Made::Action(Action::Inject), OpsFlags::IPMODIFY);
        Self { made, flags, hits: AtomicU64::new(NEVER_DUE), ..Self::new(callback) }
    }

    /// Has calls be let go that are inside no hooked call, of whichever ops: its stub sees that at once. Of an ops that hooks
    /// returns.
    pub(crate) const fn only_inside_hooked_calls(self) -> Self {
        Self { only_inside: true, ..self }
    }

    /// Of an injection: twice the number of calls that go by before one is looked at, and in the lowest bit something of the
    /// callback's own; or [`NEVER_DUE`]. Stubs count it down by 2.
    pub(crate) const fn due(&self) -> &AtomicU64 {
        &self.hits
    }

    /// Makes an ops whose callsites call a trampoline that is generated later.
    pub(crate) const fn attached() -> Self {
        Self { made: Made::Attached, ..Self::new(nothing) }
    }

    /// Says where the trampoline of an [attached](Self::attached) ops is, before that is registered.
    pub(crate) fn set_trampoline(&self, trampoline: TextAddr) {
        self.hits.store(trampoline.get(), Ordering::Relaxed);
    }

    /// Sets the flags.
    #[must_use]
    pub const fn with_flags(self, flags: OpsFlags) -> Self {
        Self { flags, ..self }
    }

    /// Sets the word that the callback finds in [`data`](Self::data).
    #[must_use]
    pub const fn with_data(self, data: usize) -> Self {
        Self { data, ..self }
    }

    /// Returns its flags.
    pub const fn flags(&self) -> OpsFlags {
        self.flags
    }

    /// Returns what it does at a function's entry.
    pub(crate) fn action(&self) -> Action {
        match self.made {
            Made::Action(action) => action,
            Made::Trampoline(trampoline) => Action::Direct(trampoline.address()),
            Made::Attached => Action::Direct(TextAddr::new(self.hits.load(Ordering::Relaxed))),
        }
    }

    /// Returns the word that [`with_data`](Self::with_data) set; 0 without.
    pub const fn data(&self) -> usize {
        self.data
    }

    /// Returns the number of calls that it missed, because their level was inside a callback already.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}

/// For an ops whose stub calls nothing.
extern "C" fn nothing(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flags, made, data, .. } = self;
        f.debug_struct("Ops").field("flags", flags).field("action", made).field("data", data).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::direct::Trampoline;
    use super::{Action, Entry, Exit, Ops, OpsFlags, Probe};
    use crate::address::TextAddr;
    use crate::record::hits::CallsiteHits;
    use core::sync::atomic::AtomicU64;

    struct Empty<const ENTRY: bool>;

    impl<const ENTRY: bool> Probe for Empty<ENTRY> {
        const ENTRY: bool = ENTRY;
        type Data = ();
        fn entry(_: &mut Entry<'_>) -> Option<()> {
            Some(())
        }
        fn exit(_: &mut Exit<'_>, (): &()) {}
    }

    unsafe extern "C" fn code() {}

    static COUNTS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    static HITS: CallsiteHits = CallsiteHits::new(TextAddr::new(0x1000), &COUNTS);

    #[test]
    fn an_ops_does_what_it_was_made_for() {
        // SAFETY: 1., 2. It is never registered, so nobody goes there.
        let direct = unsafe { Ops::direct(TextAddr::new(0x4000)) };
        assert!(matches!(direct.action(), Action::Direct(at) if at.get() == 0x4000));
        // SAFETY: 1. Nobody goes there, as it is never registered.
        let trampoline = unsafe { Trampoline::new(code) };
        assert!(matches!(Ops::direct_call(trampoline).action(), Action::Direct(_)));
        assert!(matches!(Ops::counter().action(), Action::Count));
        assert!(
            matches!(Ops::callsite_counter(&HITS).action(), Action::CountCallsites(hits) if core::ptr::eq(hits, &raw const HITS))
        );
        for (asked, recorded) in [(0, 0), (4, 4), (9, 4)] {
            assert!(matches!(Ops::recorder(asked).action(), Action::Record { arguments } if arguments == recorded));
        }
    }

    #[test]
    fn a_probe_has_the_handlers_that_it_asks_for() {
        let (both, exit) = (Ops::returning::<Empty<true>>(), Ops::returning::<Empty<false>>());
        assert!(matches!(both.action(), Action::Return) && both.entry.is_some() && both.exit_handler().is_some());
        assert!(matches!(exit.action(), Action::Return) && exit.entry.is_none() && exit.exit_handler().is_some());
        let ops = exit.with_flags(OpsFlags::PERMANENT).with_data(7);
        assert!(matches!(ops.action(), Action::Return) && ops.exit_handler().is_some());
        assert_eq!((ops.flags(), ops.data()), (OpsFlags::PERMANENT, 7));
    }
}
