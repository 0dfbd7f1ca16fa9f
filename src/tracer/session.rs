//! A session: what a command line asks to be traced, from its words to the bytes that leave the kernel.
//!
//! A kernel that wants to be traced by whoever boots it reads a few words of its command line, in any order:
//!
//! | word | what it asks for |
//! |---|---|
//! | `tracer=graph` | calls with their nesting, durations and results (the default) |
//! | `tracer=function` | calls with their callers |
//! | `tracer=profile` | only how often each function was called and how long it took |
//! | `filter=RULE` | the functions, as [`Rule::parse`] reads it: a name, a glob, `!` before what is left out; several times |
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

use super::dump::{DumpWriter, Reading};
use super::event::MAX_ARGUMENTS;
use super::kernel::{RecordTo, StoreIn, event_writer};
use super::profiler::{Profile, Profiler};
use super::ring::Ring;
use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;
use crate::engine::{Engine, RegisterError};
use crate::filter::{Filter, GlobError, Rule};
use crate::ops::{Entry, Exit, Ops, Probe};
use arrayvec::ArrayVec;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// The most rules of a session's filter.
pub const MAX_RULES: usize = 32;

/// What is done at each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tracer {
    /// Calls are recorded with their returns.
    Graph = 1,
    /// Calls are recorded.
    Function = 2,
    /// Calls are counted and timed.
    Profile = 3,
}

/// No tracer, and one that is being started: neither can be stopped.
const NONE: u8 = 0;
const STARTING: u8 = u8::MAX;

/// What the words of a command line ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// What is done at each call.
    pub tracer: Tracer,
    /// Of which functions; all, if there are no rules.
    pub rules: ArrayVec<Rule<'a>, MAX_RULES>,
    /// The graph has calls that are inside less than this many others.
    pub depth: usize,
    /// How many arguments the function tracer records.
    pub arguments: usize,
}

/// A word that can't be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionError<'a> {
    /// The word.
    pub word: &'a str,
    /// What is wrong with it.
    pub cause: OptionCause,
}

/// What is wrong with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionCause {
    /// There is no such tracer.
    Tracer,
    /// The rule is no glob.
    Rule(GlobError),
    /// There are [`MAX_RULES`] rules already.
    TooManyRules,
    /// It should end in a number.
    Number,
    /// A call has no more than eight arguments in registers.
    Arguments,
}

impl fmt::Display for OptionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The word {:?}: ", self.word)?;
        match self.cause {
            OptionCause::Tracer => f.write_str("there are the tracers graph, function and profile"),
            OptionCause::Rule(error) => write!(f, "{error}"),
            OptionCause::TooManyRules => write!(f, "there are {MAX_RULES} rules already"),
            OptionCause::Number => f.write_str("a number should stand behind the ="),
            OptionCause::Arguments => write!(f, "a call has {MAX_ARGUMENTS} arguments in registers"),
        }
    }
}

impl core::error::Error for OptionError<'_> {}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { tracer: Tracer::Graph, rules: ArrayVec::new(), depth: usize::MAX, arguments: 0 }
    }
}

/// The words of a command line: what is between white space. A name may have white space in it: between brackets that
/// belong together, and between two `"`, none divides words; but a `key=` always begins one. A word that is in `"` as a whole
/// loses them.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    core::iter::from_fn(move || {
        rest = rest.trim_start();
        let word;
        (word, rest) = rest.split_at(word_len(rest));
        let unquoted = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
        (!word.is_empty()).then_some(unquoted.unwrap_or(word))
    })
}

/// How long the word is that a text begins with. Where what it opens is not closed, it ends at the first white space.
fn word_len(text: &str) -> usize {
    let (mut depth, mut in_quotes, mut before) = (0_usize, false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '"' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            '<' | '[' | '(' | '{' => depth += 1,
            // `Fn(u8) -> u8`
            '>' if before == '-' => {}
            '>' | ']' | ')' | '}' => depth = depth.saturating_sub(1),
            c if c.is_whitespace() && (depth == 0 || begins_with_key(&text[at..])) => return at,
            _ => {}
        }
        before = c;
    }
    let is_closed = depth == 0 && !in_quotes;
    if is_closed { text.len() } else { text.find(char::is_whitespace).unwrap_or(text.len()) }
}

/// Whether the next word is a `key=`.
fn begins_with_key(text: &str) -> bool {
    let key = text.trim_start().split('=').next().unwrap_or_default();
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    is_key && text.trim_start().len() > key.len()
}

impl<'a> Options<'a> {
    /// What these words ask for, as [`words`] divides a line; of two that contradict each other, the later one.
    ///
    /// # Errors
    ///
    /// The first word that begins as one of the session's own and goes on wrong.
    pub fn parse(words: impl IntoIterator<Item = &'a str>) -> Result<Self, OptionError<'a>> {
        let mut options = Self::default();
        for word in words {
            options.take(word).map_err(|cause| OptionError { word, cause })?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &'a str) -> Result<(), OptionCause> {
        let number = |text: &str| text.parse().map_err(|_| OptionCause::Number);
        match word.split_once('=') {
            Some(("tracer", "graph")) => self.tracer = Tracer::Graph,
            Some(("tracer", "function")) => self.tracer = Tracer::Function,
            Some(("tracer", "profile")) => self.tracer = Tracer::Profile,
            Some(("tracer", _)) => return Err(OptionCause::Tracer),
            Some(("filter", rule)) => {
                let rule = Rule::parse(rule).map_err(OptionCause::Rule)?;
                self.rules.try_push(rule).map_err(|_| OptionCause::TooManyRules)?;
            }
            Some(("depth", depth)) => self.depth = number(depth)?,
            Some(("args", count)) => {
                self.arguments = number(count)?;
                if self.arguments > MAX_ARGUMENTS {
                    return Err(OptionCause::Arguments);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The ops of a kernel's sessions, one at a time; in a `static`.
///
/// `K` is a type of the kernel's own that has no values and says where all is: the rings, the profile, and its `Session`.
pub struct Session<K> {
    graph: Ops,
    function: Ops,
    profile: Ops,
    /// The [`Tracer`] that was started last, as a number; [`NONE`] for none, [`STARTING`] while it is being started.
    tracer: AtomicU8,
    depth: AtomicUsize,
    arguments: AtomicUsize,
    kernel: PhantomData<fn() -> K>,
}

impl<K: RecordTo + StoreIn<Profile> + StoreIn<Self>> Session<K> {
    /// One that has not begun.
    pub const fn new() -> Self {
        Self {
            graph: Ops::returning::<DepthLimited<K>>(),
            function: Ops::new(record::<K>),
            profile: Ops::returning::<Profiler<K>>(),
            tracer: AtomicU8::new(NONE),
            depth: AtomicUsize::new(usize::MAX),
            arguments: AtomicUsize::new(0),
            kernel: PhantomData,
        }
    }

    /// Has the functions traced from now on; returns how many those are. A profile begins anew.
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
        let ops = self.ops(options.tracer);
        let registered = engine.register(ops, &Filter::new(&options.rules));
        // An ops that could not be registered may still have callsites that call it.
        let has_begun =
            registered.is_ok() || !matches!(engine.unregister(ops), Ok(_) | Err(RegisterError::NotRegistered));
        self.tracer.store(if has_begun { options.tracer as u8 } else { NONE }, Ordering::Relaxed);
        registered
    }

    /// Has nothing traced any more; returns how many functions were. Another one may be started.
    ///
    /// # Errors
    ///
    /// The engine's own, [`RegisterError::NotRegistered`] if there is nothing to stop.
    pub fn stop(&'static self, engine: &Engine) -> Result<usize, RegisterError> {
        let tracer = self.running().ok_or(RegisterError::NotRegistered)?;
        let count = engine.unregister(self.ops(tracer))?;
        self.tracer.store(NONE, Ordering::Relaxed);
        Ok(count)
    }

    /// Writes a dump of what was recorded into a sink, and takes it out of the rings, one for each CPU: [`DumpWriter`] has
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

    fn running(&self) -> Option<Tracer> {
        let number = self.tracer.load(Ordering::Relaxed);
        [Tracer::Graph, Tracer::Function, Tracer::Profile].into_iter().find(|tracer| *tracer as u8 == number)
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

/// The graph tracer with a limit that is known when the kernel runs.
struct DepthLimited<K>(PhantomData<K>);

impl<K: RecordTo + StoreIn<Session<K>>> Probe for DepthLimited<K> {
    const ENTRY: bool = false;
    type Data = ();

    fn entry(_: &mut Entry<'_>) -> Option<()> {
        None
    }

    #[inline]
    fn exit(call: &mut Exit<'_>, (): &()) {
        let depth = call.depth();
        if depth < K::store().depth.load(Ordering::Relaxed) {
            event_writer::<K>().graph_exit(call.ip(), call.entry_time(), depth as u16, call.value());
        }
    }
}

extern "C" fn record<K: RecordTo + StoreIn<Session<K>>>(
    ip: TextAddr,
    parent_ip: TextAddr,
    _: &'static Ops,
    regs: FtraceRegs<'_>,
) {
    let arguments = regs.arguments();
    let count = K::store().arguments.load(Ordering::Relaxed);
    event_writer::<K>().function(ip, parent_ip, arguments.get(..count).unwrap_or(&arguments));
}

#[cfg(test)]
mod tests;
