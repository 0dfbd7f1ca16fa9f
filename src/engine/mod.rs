//! Which callsite calls what, now: registration, planning, and the record of what was done.
//!
//! A hundred ops and more are registered, each with a filter of its own; a callsite must pay for its own ops only, changing
//! thousands of callsites must need no memory, and what fails half-way must leave nothing behind. So a callsite holds no list
//! of ops.
//! Callsites with the same ops share a *set*, and the set has one stub, made for just those ops. A callsite's record in the
//! table holds two sets' numbers: the one that it has now, and the one that it shall have next. The second is the plan:
//!
//! ```text
//!   records (8 bytes each)          sets                          stubs                  members
//!   where | now | next
//!   [ f   |  2  |  5 ] --now-----> 2 = {A}     3 callsites  ---> [ calls A       ]      A: ops, filter, life
//!   [ g   |  2  |  2 ]    next---> 5 = {A, B}  0 callsites  ---> [ calls A, B    ]      B: ops, filter, life
//!   [ h   |  -  |  - ]                                           a veneer before it where BL doesn't reach
//! ```
//!
//! The records whose two numbers differ are the batch, with the BL from each callsite to its set's stub as the old and the
//! new word. What a set becomes by a change (here: plus B) is worked out once, however many callsites have it.
//!
//! A set outlives its last callsite: a CPU that fetched the BL before may still be inside the stub. It goes when every CPU
//! was seen quiescent, and so does a member's number. A callsite whose text somebody else has written is quarantined: it is
//! left alone with its set, since whoever wrote a breakpoint there may put the BL back.
//!
//! One registration, by files. To roll back is to drop two guards: a dropped `Plan` puts `now` into `next` again, a dropped
//! `Added` takes the member's number back.
//!
//! | step | file | if it fails |
//! |---|---|---|
//! | an ops becomes a member with a number | `register`, `registry`, `members` | nothing has happened |
//! | its filter selects callsites, whose `next` changes | `plan`, `selection`, `change`, `sets` | rolled back |
//! | new sets get stubs, and veneers to them | `apply`, `sets`, `veneers` | rolled back; what was made is reclaimed |
//! | every old word is compared with the text | `apply`, `text` | where it differs, the callsite is quarantined and left out; rolled back if the ops would be nowhere then |
//! | every new word is written | `text` | `text` writes the old ones back; rolled back |
//! | | | what can't be written back is committed as the text says, and the member stays |
//! | `next` becomes `now`, and sets are counted | `region` | can't fail |
//! | unused sets are reclaimed after quiescence | `apply` | they wait for another time |
//!
//! Other changes of a registration, modules that come and go, and text that is given back differ in what they plan.

mod apply;
mod change;
mod claim;
mod error;
mod generated;
mod handlers;
mod hits;
mod image;
mod init;
mod left_out;
mod mask;
mod members;
mod memory;
#[cfg(feature = "module")]
mod modules;
mod names;
mod plan;
mod quarantine;
mod region;
mod register;
mod registry;
mod selection;
mod sets;
mod show;
mod spans;
mod stub_text;
#[cfg(test)]
mod tests;
mod text_word;
mod veneers;

pub use claim::NotClaimed;
pub(crate) use claim::{Claim, Surroundings};
pub use error::{InitError, RegisterError};
pub(crate) use generated::{GenerateError, GenerateMembersError, GeneratedText};
pub(crate) use handlers::StubRange;
pub use hits::FunctionHits;
pub use image::Image;
pub use init::InitReport;
pub use left_out::LeftOut;
pub use memory::EngineMemory;
#[cfg(feature = "module")]
pub use show::ModuleStatus;
pub use show::{OpsStatus, Statistics, Status, TextCheck};

// What `Image::new` takes.
pub use crate::stub::entry::{LinkedStub, Stubs};

use crate::address::{TextAddr, TextRange};
use crate::context::TraceContext;
use crate::platform::{ContextBase, Platform};
use crate::symbols::Symbols;
use crate::text::{Cpu, Machine};
use core::fmt;
#[cfg(target_os = "none")]
use memory::DEFAULT;
use memory::Memory;
use registry::{Registry, RegistryGuard};
use stub_text::StubText;

/// The engine: one for a kernel, in a `static`.
///
/// All methods may be called with interrupts on or off, from any CPU, but neither from a callback nor from an interrupt
/// handler, nor from a closure that was passed to one of them: they take one lock. [`symbols`](Self::symbols), [`is_quiescent`](Self::is_quiescent) and
/// [`for_each_stub_range`](Self::for_each_stub_range) take none, and may be called anywhere.
/// A caller that holds a lock which another CPU spins on with interrupts masked keeps that CPU from synchronising: the
/// batch is then undone when the platform's timeout expires.
///
/// # Stack
/// Optimised, no method but [`init`](Self::init) takes more than 1 KiB of stack, and `init` takes 3 KiB at most; what the
/// platform's methods, a logger and closures take comes on top. Without optimisation it is more, and so it is where modules
/// are loaded.
pub struct Engine {
    platform: &'static dyn Platform,
    memory: &'static dyn Memory,
    state: spin::Mutex<Registry>,
    /// Outside of the lock, so that names are available while it is held: in a panic, or while callsites are shown.
    symbols: spin::Once<Symbols<'static>>,
    /// Outside of the lock, for interrupt handlers.
    stub_text: StubText,
    /// What exception handlers ask; none before init.
    running: spin::Once<Running>,
}

/// What there is to know of the CPU and the thread of execution that run something.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    context: ContextBase,
    machine: Cpu,
    /// Whether the CPU checks landing pads.
    pub(crate) has_landing_pads: bool,
}

impl Running {
    fn new(context: ContextBase, machine: Cpu) -> Self {
        Self { context, machine, has_landing_pads: machine.has_landing_pads() }
    }

    /// Where the running thread's context is.
    pub(crate) const fn context_base(&self) -> ContextBase {
        self.context
    }

    /// Calls `f` with the context of the thread of execution that runs this, if it has one.
    #[inline]
    pub(crate) fn with_context<T>(&self, f: impl FnOnce(Option<&TraceContext>) -> T) -> T {
        let base = self.machine.base(self.context.register);
        if base == 0 {
            return f(None);
        }
        let context = (base + u64::from(self.context.offset)) as usize;
        let context = core::ptr::with_exposed_provenance::<TraceContext>(context);
        // SAFETY: where the register isn't zero, a context is at the offset from it, which belongs to the thread that reads it
        // and lives as long as it can be reached so (`Platform`, 4): longer than `f` runs.
        f(Some(unsafe { &*context }))
    }
}

impl Engine {
    /// Makes an engine that runs on this kernel's own CPU, with room for 128 ops, in memory that a kernel has once: one
    /// engine made so can be initialised.
    #[cfg(target_os = "none")]
    pub const fn new(platform: &'static dyn Platform) -> Self {
        Self::new_in(platform, &DEFAULT)
    }

    /// Makes an engine that runs on this kernel's own CPU, with as much room as `memory` has.
    #[cfg(target_os = "none")]
    pub const fn new_in<const OPS: usize, const SETS: usize, const REGIONS: usize>(
        platform: &'static dyn Platform,
        memory: &'static EngineMemory<OPS, SETS, REGIONS>,
    ) -> Self {
        Self::on(crate::text::Hardware, platform, memory)
    }

    /// Makes an engine that runs on any machine, such as one of `fakes`, with room for 128 ops: memory of its own, which
    /// stays allocated for ever.
    #[cfg(not(target_os = "none"))]
    pub const fn with_machine(platform: &'static dyn Platform, machine: &'static dyn Machine) -> Self {
        Self::on(machine, platform, &memory::Heap)
    }

    /// Makes an engine that runs on any machine, with as much room as `memory` has.
    #[cfg(not(target_os = "none"))]
    pub const fn with_machine_in<const OPS: usize, const SETS: usize, const REGIONS: usize>(
        platform: &'static dyn Platform,
        machine: &'static dyn Machine,
        memory: &'static EngineMemory<OPS, SETS, REGIONS>,
    ) -> Self {
        Self::on(machine, platform, memory)
    }

    const fn on(machine: Cpu, platform: &'static dyn Platform, memory: &'static dyn Memory) -> Self {
        Self {
            platform,
            memory,
            state: spin::Mutex::new(Registry::new(platform, machine)),
            symbols: spin::Once::new(),
            stub_text: StubText::new(),
            running: spin::Once::new(),
        }
    }

    /// Returns the kernel's symbols, as init was given them.
    pub fn symbols(&self) -> Option<Symbols<'static>> {
        self.symbols.get().copied()
    }

    /// Returns how far above its linked addresses the kernel runs, modulo 2^64: as its symbol table has found out, or else as
    /// the platform says ([`Platform::slide`]).
    pub fn slide(&self) -> u64 {
        match self.symbols().map_or(0, |symbols| symbols.slide()) {
            0 => self.platform.slide(),
            slide => slide,
        }
    }

    /// Returns whether a thread of execution that is interrupted at `pc` is quiescent: inside no callback, and in no stub.
    /// `context` is its own. Always true before init.
    ///
    /// Waits for nothing: for interrupt handlers, also of a CPU that is inside the engine. A kernel that preempts only
    /// where this is true has no preempted threads that [`quiesce`](Platform::quiesce) would have to look at
    /// ([how](crate::guide#preemption-without-a-list-of-tasks)).
    pub fn is_quiescent(&self, context: &TraceContext, pc: TextAddr) -> bool {
        !context.in_callback() && !self.stub_text.iter().any(|stub| stub.contains(pc))
    }

    /// Calls `show` with every range of text in which a thread may be on its way to a callback:
    /// [`MAX_STUB_RANGES`](crate::platform::MAX_STUB_RANGES) at most. It is what [`quiesce`](Platform::quiesce) is given,
    /// at any time and without waiting.
    ///
    /// The veneers of modules come and go. They are shown from before a callsite leads to them until no thread is in them.
    pub fn for_each_stub_range(&self, show: impl FnMut(TextRange)) {
        self.stub_text.iter().for_each(show);
    }

    /// What handlers of exceptions ask of the engine, which wait for nothing; nothing before init.
    #[inline]
    pub(crate) fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    /// One turn of waiting for another CPU.
    pub(crate) fn relax(&self) {
        self.platform.relax();
    }

    /// What this kernel is run by.
    pub(crate) fn platform(&self) -> &'static dyn Platform {
        self.platform
    }

    fn lock(&self) -> RegistryGuard<'_> {
        loop {
            if let Some(guard) = self.state.try_lock() {
                return RegistryGuard::new(guard);
            }
            self.platform.relax();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
