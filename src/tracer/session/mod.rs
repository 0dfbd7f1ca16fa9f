//! A session: what a command line asks to be traced, from its words to the bytes that leave the kernel.
//!
//! A kernel that wants to be traced by whoever boots it reads a few words of its command line, in any order:
//!
//! | word | what it asks for |
//! |---|---|
//! | `tracer=graph` | calls with their nesting, durations and results (the default) |
//! | `tracer=function` | calls with their callers |
//! | `tracer=profile` | only how often each function was called and how long it took |
//! | `filter=RULE` | the functions, as [`Rule::parse`](crate::Rule::parse) reads it: a name, a glob, `!` before what is left out; several times |
//! | `under=RULE` | of the graph, only calls of these functions, and calls inside them: [`Scope::under`](super::under::Scope); several times |
//! | `not-under=RULE` | of the graph, no calls of these functions, nor any inside them; several times |
//! | `depth=N` | of the graph, calls that are inside less than N others |
//! | `args=N` | of the function tracer, the first N arguments, 8 at most |
//!
//! [`words`] divides the line: at white space, but not inside `<a as b>` or what stands in quotes, since names have spaces.
//! Other words are the kernel's own. `cargo xtask trace` boots kernels with such words, and with `trace-file=PATH`, which
//! the kernel reads itself: where the dump is to go.
//!
//! ```no_run
//! use fentry::tracer::kernel::{RecordTo, StoreIn};
//! use fentry::tracer::profiler::{Profile, ProfileSlot};
//! use fentry::tracer::ring::{Mode, Ring, RingBlock};
//! use fentry::tracer::session::{Options, Session, words};
//!
//! static MEMORY: [RingBlock; 16] = [const { RingBlock::new() }; 16];
//! static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
//! static SLOTS: [ProfileSlot; 512] = [const { ProfileSlot::new() }; 512];
//! static PROFILE: Profile = Profile::new(&SLOTS);
//! static SESSION: Session<OneCpu> = Session::new();
//!
//! struct OneCpu;
//! impl RecordTo for OneCpu {
//!     fn ring() -> &'static Ring {
//!         &RING
//!     }
//!     fn task() -> u32 {
//!         1
//!     }
//! }
//! impl StoreIn<Profile> for OneCpu {
//!     fn store() -> &'static Profile {
//!         &PROFILE
//!     }
//! }
//! impl StoreIn<Session<OneCpu>> for OneCpu {
//!     fn store() -> &'static Session<OneCpu> {
//!         &SESSION
//!     }
//! }
//!
//! # fn trace(engine: &fentry::Engine, line: &str, ticks_per_second: u64) -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options::parse(words(line)).map_err(|error| error.to_string())?;
//! SESSION.start(engine, &options).map_err(|error| error.to_string())?;
//! // ... the kernel works ...
//! SESSION.stop(engine)?;
//! let mut file = std::fs::File::create("trace.dump")?;
//! let sink = |bytes: &[u8]| std::io::Write::write_all(&mut file, bytes);
//! SESSION.dump(engine, sink, ticks_per_second, &[&RING], [(1, "main")])?;
//! # Ok(())
//! # }
//! ```

mod options;
#[cfg(test)]
mod tests;
mod words;

pub use options::{MAX_RULES, OptionCause, OptionError, Options, Tracer};
pub use words::words;

use super::dump::{DumpWriter, Reading};
use super::function::record_call;
use super::graph::record_exit;
use super::kernel::{RecordTo, StoreIn};
use super::profiler::{Profile, Profiler};
use super::ring::Ring;
use super::under::{GraphOps, Recorded, Records};
use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;
use crate::engine::{Engine, RegisterError};
use crate::filter::Filter;
use crate::ops::{Exit, Ops, Probe};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// No tracer, and one that is being started: neither can be stopped.
const NONE: u8 = 0;
const STARTING: u8 = u8::MAX;
/// The graph tracer with a scope, beside the numbers of [`Tracer`]s.
const SCOPED: u8 = 4;

/// The ops of a kernel's sessions, one at a time; in a `static`.
///
/// `K` is a type of the kernel's own that has no values and says where all is: the rings, the profile, and its `Session`.
pub struct Session<K> {
    graph: Ops,
    scoped: GraphOps,
    function: Ops,
    profile: Ops,
    /// The [`Tracer`] that was started last, as a number; [`NONE`] for none, [`STARTING`] while it is being started, [`SCOPED`].
    tracer: AtomicU8,
    depth: AtomicUsize,
    arguments: AtomicUsize,
    kernel: PhantomData<fn() -> K>,
}

impl<K: RecordTo + StoreIn<Profile> + StoreIn<Self>> Session<K> {
    /// Makes a session that has not begun.
    pub const fn new() -> Self {
        Self {
            graph: Ops::returning::<SessionGraph<K>>(),
            scoped: GraphOps::new::<SessionScoped<K>>(),
            function: Ops::new(session_function::<K>),
            profile: Ops::returning::<Profiler<K>>(),
            tracer: AtomicU8::new(NONE),
            depth: AtomicUsize::new(usize::MAX),
            arguments: AtomicUsize::new(0),
            kernel: PhantomData,
        }
    }

    /// Starts tracing the functions that the options select; returns their number. A profile begins anew.
    ///
    /// Returns are hooked where threads have shadow stacks.
    ///
    /// # Errors
    ///
    /// The engine's own, [`RegisterError::AlreadyRegistered`] if the session has begun. Nothing is traced then, unless text
    /// can neither be changed nor be put back: then the session has begun, and [`stop`](Self::stop) can be tried until it
    /// succeeds. [`RegisterError::NothingSelected`] has the rule's place among the options' own.
    pub fn start(&'static self, engine: &Engine, options: &Options<'_>) -> Result<usize, RegisterError> {
        if self.tracer.compare_exchange(NONE, STARTING, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Err(RegisterError::AlreadyRegistered);
        }
        self.depth.store(options.depth, Ordering::Relaxed);
        self.arguments.store(options.arguments, Ordering::Relaxed);
        let profile: &Profile = K::store();
        profile.clear();
        if options.tracer == Tracer::Graph && options.has_scope() {
            let started = self.scoped.set(engine, &options.scope());
            let has_begun = started.is_ok() || self.scoped.stop(engine).is_err();
            self.tracer.store(if has_begun { SCOPED } else { NONE }, Ordering::Relaxed);
            return started;
        }
        let ops = self.ops(options.tracer);
        let registered = engine.register(ops, &Filter::new(&options.rules));
        // An ops that could not be registered may still have callsites that call it.
        let has_begun =
            registered.is_ok() || !matches!(engine.unregister(ops), Ok(_) | Err(RegisterError::NotRegistered));
        self.tracer.store(if has_begun { options.tracer as u8 } else { NONE }, Ordering::Relaxed);
        registered
    }

    /// Stops tracing; returns the number of functions that were traced. Then another session may be started.
    ///
    /// # Errors
    ///
    /// The engine's own, [`RegisterError::NotRegistered`] if there is nothing to stop.
    pub fn stop(&'static self, engine: &Engine) -> Result<usize, RegisterError> {
        let count = if self.tracer.load(Ordering::Relaxed) == SCOPED {
            self.scoped.stop(engine)?
        } else {
            let tracer = self.running().ok_or(RegisterError::NotRegistered)?;
            engine.unregister(self.ops(tracer))?
        };
        self.tracer.store(NONE, Ordering::Relaxed);
        Ok(count)
    }

    /// Writes a dump of what was recorded to a sink, and takes it out of the rings, one for each CPU: [`DumpWriter`] has
    /// the arguments. The tasks are those that have names. Modules that were traced should still be loaded: what they were
    /// called is written with the rest, and the engine is asked for it, so the sink may not call the engine.
    ///
    /// # Errors
    ///
    /// The sink's own.
    pub fn dump<'n, E>(
        &self,
        engine: &Engine,
        sink: impl FnMut(&[u8]) -> Result<(), E>,
        ticks_per_second: u64,
        rings: &[&Ring],
        tasks: impl IntoIterator<Item = (u32, &'n str)>,
    ) -> Result<(), E> {
        let mut writer = DumpWriter::begin(sink, ticks_per_second, rings)?;
        tasks.into_iter().try_for_each(|(number, name)| writer.task(number, name))?;
        writer.names(engine)?;
        writer.pull(Reading::Consume)?;
        writer.profile(K::store())?;
        writer.finish()
    }

    /// Whether it has begun, or is beginning.
    #[cfg(feature = "capi")]
    pub(crate) fn has_begun(&self) -> bool {
        self.tracer.load(Ordering::Relaxed) != NONE
    }

    /// A tracer without a scope.
    fn running(&self) -> Option<Tracer> {
        let number = self.tracer.load(Ordering::Relaxed);
        Tracer::ALL.into_iter().find(|tracer| *tracer as u8 == number)
    }

    const fn ops(&self, tracer: Tracer) -> &Ops {
        match tracer {
            Tracer::Graph => &self.graph,
            Tracer::Function => &self.function,
            Tracer::Profile => &self.profile,
        }
    }
}

impl<K: RecordTo + StoreIn<Profile> + StoreIn<Self>> Default for Session<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for Session<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("tracer", &self.tracer).finish_non_exhaustive()
    }
}

/// The graph tracer, within the depth that the running session was asked for.
struct SessionGraph<K>(PhantomData<K>);

impl<K: RecordTo + StoreIn<Session<K>>> Probe for SessionGraph<K> {
    const ENTRY: bool = false;
    type Data = ();

    #[inline]
    fn exit(call: &mut Exit<'_>, (): &()) {
        record_exit::<K>(call, |depth| depth < K::store().depth.load(Ordering::Relaxed));
    }
}

/// The graph tracer within a scope as well.
struct SessionScoped<K>(PhantomData<K>);

impl<K: RecordTo + StoreIn<Session<K>>> Records for SessionScoped<K> {
    type Kernel = K;

    #[inline]
    fn ops() -> &'static GraphOps {
        &K::store().scoped
    }

    #[inline]
    fn at_entry() -> Recorded {
        Recorded::Exit
    }

    #[inline]
    fn wants_exit(_: &Exit<'_>) -> bool {
        true
    }

    #[inline]
    fn max_depth() -> usize {
        K::store().depth.load(Ordering::Relaxed)
    }
}

/// The function tracer, with as many arguments as the running session was asked for.
extern "C" fn session_function<K: RecordTo + StoreIn<Session<K>>>(
    ip: TextAddr,
    parent_ip: TextAddr,
    _: &'static Ops,
    regs: FtraceRegs<'_>,
) {
    record_call::<K>(ip, parent_ip, &regs, K::store().arguments.load(Ordering::Relaxed));
}
