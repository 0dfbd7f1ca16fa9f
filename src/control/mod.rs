//! The control interface: what is traced is asked for in lines of text, in the words of Linux's tracefs, while the kernel
//! runs.
//!
//! ```text
//! # echo function_graph > current_tracer
//! # echo 'disk::*' '!disk::poll' > set_ftrace_filter
//! # cat trace
//! # tracer: function_graph
//! #
//! # CPU  DURATION                  FUNCTION CALLS
//! # |     |   |                     |   |   |   |
//!  0)               |  disk::read() {
//!  0)   0.816 us    |    disk::seek();
//!  0) + 12.048 us   |  } /* disk::read */
//! ```
//!
//! [`Control::execute`] carries out one line: from a serial console, a shell of the kernel's, a file of its debug file system,
//! a script. It needs no heap. How the bytes come in and where a line ends is the kernel's.
//!
//! | line | what it does |
//! |---|---|
//! | `echo VALUE > FILE` | writes a file: what it had is replaced |
//! | `echo VALUE >> FILE` | writes a file: the value is added to what it had |
//! | `cat FILE` | reads a file |
//! | `ls` | lists the files |
//! | `help`, `help FILE` | says what the files, or one of them, are for |
//! | `mkdir instances/NAME` | makes an [instance](#instances) |
//! | `rmdir instances/NAME` | removes it |
//! | `# ...` | nothing |
//!
//! A value may stand in `'` or `"`, as for a shell; a file's name may begin with `/sys/kernel/tracing/`, so that lines can be
//! copied from anywhere. A line that can't be carried out changes nothing, and is refused with the file, the column, the reason
//! and a caret under the place, on the output and in the file `error_log`:
//!
//! ```text
//! # echo disk::reed > set_ftrace_filter
//! set_ftrace_filter: 6: error: The rule selects no traceable function
//!   Command: echo disk::reed > set_ftrace_filter
//!                 ^
//! ```
//!
//! # Who owns what
//! Stubs call a tracer's handlers without any value, so what those write to stands in `static`s of the kernel's: its rings, its
//! [`Profile`](crate::tracer::profiler::Profile), and the [`Tracing`] with the tracers themselves. A [`Control`] borrows all of
//! these for ever. It owns only what lines change and no handler looks at: which tracer is registered, the rules, the last
//! refusals. So it is an ordinary value that is changed through `&mut`; a kernel has it in a lock, or on the stack of its
//! console's thread.
//!
//! The ops that a `Control` is given are for it alone. Whatever else the kernel registers with the same engine is not its
//! business: `enabled_functions` shows it, no line changes it.
//!
//! A kernel with tracers of its own gives them as [`Tracer`]s, each a name and an ops: they stand in `available_tracers` beside
//! `function`, `function_graph` and `nop`, get the same filter, and record into the same rings, from which `trace` shows any
//! [event](crate::tracer::event). Settings that they have are [`File`]s.
//!
//! # From where it may be called
//! [`execute`](Control::execute) registers and unregisters, so it runs in a thread, with interrupts enabled, and without a lock
//! that a traced function's caller may hold; never in a callback or a handler. [`Tracing::set_on`] may be called from anywhere.
//!
//! The output may be slow: it is written to event by event, a reader holds one block of each ring, and writers go past it. It
//! may be traced too: a read ends where the rings were when it began. It may not call the engine, which is locked while names
//! are written.
//!
//! # Events
//! With [`Events`], lines define events of their own: at which function, with which arguments and memory, as Linux's
//! `kprobe_events` has it; and say which of the times are recorded, what is done then, and what is counted:
//!
//! ```text
//! # echo 'p:reads disk::read block=$arg1 name=+0($arg2):string' > kprobe_events
//! # echo 'r:done disk::read $retval:s64' >> kprobe_events
//! # echo 'name ~ "sd*"' > events/kprobes/reads/filter
//! # echo 'traceoff:1 if arg1 < 0' > events/kprobes/done/trigger
//! # echo 'hist:keys=name,block.log2:sort=hitcount.descending' >> events/kprobes/reads/trigger
//! # echo 1 > events/enable
//! # cat events/kprobes/reads/hist
//! ```
//!
//! # Instances
//! With [`Instance`]s, lines can have tracers run beside the first ones, each with a ring for each CPU, rules, tasks, options and
//! switches of its own, in a directory that is made and removed as on Linux:
//!
//! ```text
//! # mkdir instances/net
//! # echo 'net::*' > instances/net/set_ftrace_filter
//! # echo function > instances/net/current_tracer
//! # cat instances/net/trace
//! # rmdir instances/net
//! ```
//!
//! An instance has the files that are about its rings and its tracers, `set_graph_function` and `max_graph_depth` among them; those
//! about events, failures, profiles and the deepest stack are there once.
//!
//! # What a line can't do
//! Whoever types lines can have the kernel's own tracers called at any function that has a callsite, which is safe, as
//! [`Engine::register`] is; slow it down; and read what it records. More only where the kernel says so: read any memory that it
//! lets [events](Events::with_memory) read, put probes at [any instruction](Events::anywhere), and make those functions fail that
//! it [names](Control::with_injection). There is no line that changes an argument, or writes to memory.
//!
//! # Where it is not as Linux
//! - A negative rule holds until `>` replaces it or the rule itself is added; Linux takes away what the rules before it have
//!   selected, and keeps functions, not rules. So `echo '!f' > set_ftrace_filter` leaves all but `f`.
//! - A rule that selects nothing is refused, and with it the line; Linux takes the line's other rules.
//! - A line of `kprobe_events` is one event of one place; user memory, arrays and `$comm` are not there, and the module of
//!   `MOD:SYMBOL` must be loaded. A number behind `r` has no effect: how many calls can be hooked at a time is a matter of each
//!   thread's shadow stack.
//! - A field that could not be read is `(fault)`, and no test of a filter is true of it; a string ends where what can be read ends.
//! - An event that turns the trace off or on is recorded itself, with or without a filter; one that takes a snapshot is in it.
//! - A backtrace of an event has the return stub in place of those who called a function that a hook is at.
//! - `trace` has the name of each function that returns (Linux: the option `funcgraph-tail`).
//! - The functions of `set_graph_function` are in the graph whatever `set_ftrace_filter` has.
//! - A command's count is of all its functions together, and a value of commands alone leaves the filter as it is.
//! - `buffer_size_kb` takes no other size than the one that the kernel has given a ring.
//! - The tracers `latency`, `flight_recorder`, `profile` and `stack` are our own; `latency` looks at functions, as Linux's latency
//!   tracers do at what is between two events. A line of the flight recorder has no task.
//! - What a function returns that is made to fail, [`injectable!`](crate::injectable) has said: there is no `retval`.
//! - `dump` and `cpudump` stop recording until [`Control::attend`] has written what was recorded: no handler prints.
//!
//! ```
//! use fentry::control::{Control, Tracing};
//! use fentry::tracer::kernel::{RecordTo, StoreIn};
//! use fentry::tracer::profiler::{Profile, ProfileSlot};
//! use fentry::tracer::ring::{Mode, Ring, RingBlock};
//!
//! static MEMORY: [RingBlock; 16] = [const { RingBlock::new() }; 16];
//! static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
//! static SLOTS: [ProfileSlot; 512] = [const { ProfileSlot::new() }; 512];
//! static PROFILE: Profile = Profile::new(&SLOTS);
//! static TRACING: Tracing<OneCpu> = Tracing::new();
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
//! impl StoreIn<Tracing<OneCpu>> for OneCpu {
//!     fn store() -> &'static Tracing<OneCpu> {
//!         &TRACING
//!     }
//! }
//!
//! # fn trace(engine: &'static fentry::Engine, console: &mut dyn core::fmt::Write, ticks_per_second: fn() -> u64) {
//! let mut control = Control::new(engine, TRACING.parts(), [&RING], ticks_per_second);
//! for line in ["echo disk::* > set_ftrace_filter", "echo function > current_tracer"] {
//!     // What is refused is told on the console.
//!     let _ = control.execute(line, console);
//! }
//! // ... the kernel works ...
//! let _ = control.execute("cat trace", console);
//! # }
//! ```
//!
//! [`Engine::register`]: crate::Engine::register

mod at_function;
mod boot;
mod event;
mod failing;
mod file;
mod files;
mod flight;
mod held;
mod instance;
mod left;
mod line;
mod log;
mod merge;
mod names;
mod options;
mod reason;
mod rules;
mod show;
mod state;
mod switches;
#[cfg(test)]
mod tests;
mod tracing;

pub use event::fetch::ReadMemory;
pub use event::hist::{HistMemory, Histogram};
pub use event::limits::{MAX_FIELDS, MAX_TESTS, STRING_BYTES};
pub use event::parts::EventsParts;
pub use event::reason::EventReason;
pub use event::store::Events;
pub use file::File;
pub use instance::Instance;
pub use line::{Redirection, Value, Word};
pub use log::KEPT_REFUSALS;
pub use reason::{INSTANCE_BYTES, LINE_BYTES, Reason, Refusal};
pub use rules::{COMMAND_RULE_BYTES, GRAPH_RULES_BYTES, MAX_COMMANDS, MAX_RULES, RULES_BYTES};
pub use switches::{MAX_CLOSED, MAX_PIDS};
pub use tracing::{Tracer, Tracing, TracingParts};

use crate::engine::Engine;
use crate::inject::{Injectable, Injection};
use crate::ops::Ops;
use crate::record::CpuArea;
use crate::tracer::ring::Ring;
use crate::tracer::stack::DeepestStack;
use crate::tracer::ticks;
use arrayvec::ArrayVec;
use core::fmt::{self, Write};
use failing::Failing;
use files::BuiltIn;
use files::events::EventFile;
use files::numbered::Numbered;
use flight::Flight;
use line::Command;
use log::Told;
use state::State;

/// Where tracefs is on Linux: in front of a file's name it is left out.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing/", "/sys/kernel/debug/tracing/"];

/// The control interface of a kernel with a ring for each of `CPUS` CPUs; about 11 KiB.
pub struct Control<const CPUS: usize> {
    state: State<CPUS>,
    instances: &'static mut [Instance<CPUS>],
    /// The kernel's own.
    files: &'static [&'static dyn File],
    ticks_per_second: fn() -> u64,
}

impl<const CPUS: usize> Control<CPUS> {
    /// Makes one with the tracer `nop`, of a kernel whose CPUs have these rings, in the order of their numbers.
    /// `ticks_per_second` is the frequency of the [clock](crate::tracer#), `tracer::ticks_per_second` in a kernel.
    pub const fn new(
        engine: &'static Engine,
        tracing: TracingParts,
        rings: [&'static Ring; CPUS],
        ticks_per_second: fn() -> u64,
    ) -> Self {
        Self { state: State::new(engine, tracing, rings), instances: &mut [], files: &[], ticks_per_second }
    }

    /// Adds tracers of the kernel's own.
    #[must_use]
    pub const fn with_tracers(mut self, tracers: &'static [Tracer]) -> Self {
        self.state.tracers = tracers;
        self
    }

    /// Adds [events that lines define](Events), which nobody else may be given.
    #[must_use]
    pub const fn with_events(mut self, events: EventsParts) -> Self {
        self.state.events = Some(events);
        self
    }

    /// Lets lines make these functions fail, by an injection that nobody else attaches.
    #[must_use]
    pub fn with_injection(mut self, injection: &'static Injection, functions: &'static [Injectable<'static>]) -> Self {
        self.state.failing = Some(Failing { injection, functions, chosen: ArrayVec::new_const() });
        self
    }

    /// Adds the CPUs' [second rings](crate::tracer::kernel::RecordTo::spare_ring), in the order of their numbers, for snapshots.
    #[must_use]
    pub const fn with_spare_rings(mut self, rings: [&'static Ring; CPUS]) -> Self {
        self.state.spares = Some(rings);
        self
    }

    /// Adds what looks for the deepest stack, [`deepest`](crate::tracer::stack::deepest), and where that keeps it. The ops is for
    /// the control interface alone.
    #[must_use]
    pub const fn with_deepest_stack(mut self, ops: &'static Ops, deepest: &'static DeepestStack) -> Self {
        self.state.deepest = Some((ops, deepest));
        self
    }

    /// Adds the tracer `flight_recorder`: the ops of an [`Ops::recorder`] that nobody else registers, and the CPUs' areas, in the
    /// order of their numbers, which [have rings](CpuArea::set_ring).
    ///
    /// It costs least, and knows least: no task, and of the switches only `tracing_on`, when a line writes it. While `trace` is
    /// read it records nothing.
    #[must_use]
    pub fn with_flight_recorder(mut self, ops: &'static Ops, areas: [&'static CpuArea; CPUS]) -> Self {
        self.state.flight = Some(Flight::new(ops, areas));
        self
    }

    /// Adds what [instances](Instance) can be made of.
    #[must_use]
    pub const fn with_instances(mut self, instances: &'static mut [Instance<CPUS>]) -> Self {
        self.instances = instances;
        self
    }

    /// Adds files of the kernel's own.
    #[must_use]
    pub const fn with_files(mut self, files: &'static [&'static dyn File]) -> Self {
        self.files = files;
        self
    }

    /// Says what tasks are called; without it each is `<...>`.
    #[must_use]
    pub const fn with_task_names(mut self, name: fn(u32) -> Option<&'static str>) -> Self {
        self.state.task_name = name;
        self
    }

    /// Has `trace` and `trace_pipe` be read as long as `goes_on` returns true: it is called before each event, and may look for
    /// ^C. `cat trace_pipe` then ends only so, and calls it again and again while there is nothing to read, where it may wait.
    /// A block that was shown in part stays in its ring. Without it, `cat trace_pipe` ends when all was read.
    #[must_use]
    pub const fn while_it_goes_on(mut self, goes_on: fn() -> bool) -> Self {
        self.state.goes_on = Some(goes_on);
        self
    }

    /// Carries out one line, whatever bytes it has; a line break at its end is left out. What it asks to read goes to `out`,
    /// and so does a refusal in words.
    ///
    /// # Errors
    ///
    /// The refusal. Nothing has changed then, but what stands in `error_log`.
    pub fn execute(&mut self, line: impl AsRef<[u8]>, out: &mut dyn Write) -> Result<(), Refusal> {
        self.execute_bytes(line.as_ref(), out)
    }

    fn execute_bytes(&mut self, line: &[u8], out: &mut dyn Write) -> Result<(), Refusal> {
        self.renew();
        let mut file = "";
        let done = line::text(line).and_then(|text| self.carry_out(text, &mut file, out));
        done.inspect_err(|refusal| {
            let micros = self.state.shown().micros(ticks());
            let file = if file.is_empty() { "control" } else { file };
            let told = Told::new(line, file, refusal, micros);
            // An output that fails has failed before; the caller has the refusal.
            let _ = write!(out, "{told}");
            self.state.log.keep(told);
        })
    }

    /// Writes what a command at a function has asked to be written, `dump` or `cpudump`, and has what comes now be recorded
    /// again. Whoever waits for lines calls it meanwhile.
    ///
    /// # Errors
    ///
    /// The output's own.
    pub fn attend(&mut self, out: &mut dyn Write) -> fmt::Result {
        let is_asked = |state: &State<CPUS>| state.tracing.switches.asked().is_some();
        if !self.states().any(is_asked) {
            return Ok(());
        }
        self.renew();
        let mut dumped = Ok(());
        for state in self.states() {
            if let Some(asked) = state.tracing.switches.asked() {
                dumped = dumped.and(files::dump(state, asked, out));
                state.tracing.switches.answer();
            }
        }
        dumped
    }

    /// What the files are about: the first tracers', and that of each instance.
    fn states(&self) -> impl Iterator<Item = &State<CPUS>> {
        core::iter::once(&self.state).chain(self.instances.iter().map(|instance| &instance.state))
    }

    /// Has all know what may have become known since.
    fn renew(&mut self) {
        let State { task_name, goes_on, .. } = self.state;
        let ticks_per_second = (self.ticks_per_second)();
        self.state.ticks_per_second = ticks_per_second;
        for Instance { state, .. } in &mut *self.instances {
            (state.task_name, state.goes_on, state.ticks_per_second) = (task_name, goes_on, ticks_per_second);
        }
    }

    /// Carries out a line; in `named`, the file that it is about.
    fn carry_out<'l>(&mut self, text: &'l str, named: &mut &'l str, out: &mut dyn Write) -> Result<(), Refusal> {
        let command = line::parse(text)?;
        let at_end = Word::end_of(text);
        match command {
            Command::Nothing => Ok(()),
            Command::List => self.list(out).map_err(|_| at_end.refuse(Reason::Output)),
            Command::HelpAll => self.help_all(out).map_err(|_| at_end.refuse(Reason::Output)),
            Command::Help(file) => {
                *named = file.text();
                let help = self.help(file)?;
                writeln!(out, "{}: {help}", name_of(file)).map_err(|_| file.refuse(Reason::Output))
            }
            Command::Show(file) => {
                *named = file.text();
                let (instance, found) = self.find(file)?;
                let state = self.state(instance);
                let read = match found {
                    Found::BuiltIn(BuiltIn { read: None, .. }) => Err(Reason::NotReadable),
                    Found::BuiltIn(BuiltIn { read: Some(read), .. }) => read(state, out),
                    Found::Event(events, found) => found.read(state, events, out),
                    Found::Numbered(file) => file.read(state, out),
                    Found::Own(own) => own.read(out),
                };
                read.map_err(|reason| file.refuse(reason))
            }
            Command::Write { file, value } => {
                *named = file.text();
                let (instance, found) = self.find(file)?;
                let state = instance.and_then(|number| self.instances.get_mut(number));
                let state = state.map_or(&mut self.state, |instance| &mut instance.state);
                match found {
                    Found::BuiltIn(BuiltIn { write: None, .. }) => Err(file.refuse(Reason::NotWritable)),
                    Found::BuiltIn(BuiltIn { write: Some(write), .. }) => write(state, &value),
                    Found::Event(events, found) => found.write(state, events, &value),
                    Found::Numbered(file) => file.write(state, &value),
                    Found::Own(own) => own.write(&value),
                }
            }
            Command::MakeInstance(directory) => {
                *named = directory.text();
                self.make_instance(directory)
            }
            Command::RemoveInstance(directory) => {
                *named = directory.text();
                self.remove_instance(directory)
            }
        }
    }

    /// The number of the instance of this name.
    fn instance(&self, name: &str) -> Option<usize> {
        self.instances.iter().position(|instance| instance.name() == Some(name))
    }

    fn make_instance(&mut self, directory: Word<'_>) -> Result<(), Refusal> {
        let name = instance_name(directory)?;
        if self.instance(name).is_some() {
            return Err(directory.refuse(Reason::InstanceExists));
        }
        let instances = self.instances.len();
        let free = self.instances.iter_mut().find(|instance| instance.name().is_none());
        let free = free.ok_or_else(|| directory.refuse(Reason::NoInstance { instances }))?;
        free.make(name).map_err(|reason| directory.refuse(reason))
    }

    fn remove_instance(&mut self, directory: Word<'_>) -> Result<(), Refusal> {
        let name = instance_name(directory)?;
        let number = self.instance(name);
        let instance = number.and_then(|number| self.instances.get_mut(number));
        let instance = instance.ok_or_else(|| directory.refuse(Reason::NoSuchInstance))?;
        instance.remove().map_err(|reason| directory.refuse(reason))
    }

    /// What a file is about: an instance, or the first tracers.
    fn state(&self, instance: Option<usize>) -> &State<CPUS> {
        let instance = instance.and_then(|number| self.instances.get(number));
        instance.map_or(&self.state, |instance| &instance.state)
    }

    /// Finds a file, and the instance that it is of.
    fn find(&self, file: Word<'_>) -> Result<(Option<usize>, Found<CPUS>), Refusal> {
        let name = name_of(file);
        let numbered = |name| Numbered::named(name, CPUS).map(Found::Numbered);
        if let Some((instance, name)) = name.strip_prefix(instance::DIRECTORY).and_then(|name| name.split_once('/')) {
            let instance = self.instance(instance).ok_or(file.refuse(Reason::NoSuchInstance))?;
            let built_in = BuiltIn::<CPUS>::named(name).filter(|file| file.is_of_instances()).map(Found::BuiltIn);
            let found = built_in.or_else(|| numbered(name)).ok_or(file.refuse(Reason::UnknownFile))?;
            return Ok((Some(instance), found));
        }
        let built_in = BuiltIn::<CPUS>::named(name).map(Found::BuiltIn);
        let own = || self.files.iter().find(|own| own.name() == name).map(|own| Found::Own(*own));
        let event = || {
            let events = self.state.events?;
            EventFile::named(events, name).map(|found| Found::Event(events, found))
        };
        let found = built_in.or_else(event).or_else(|| numbered(name)).or_else(own);
        Ok((None, found.ok_or(file.refuse(Reason::UnknownFile))?))
    }

    fn help(&self, file: Word<'_>) -> Result<&'static str, Refusal> {
        Ok(match self.find(file)?.1 {
            Found::BuiltIn(BuiltIn { help, .. }) => help,
            Found::Event(_, found) => found.help(),
            Found::Numbered(file) => file.help(),
            Found::Own(own) => own.help(),
        })
    }

    /// Calls `each` with all files and what they are for, in the order of their names; then with those of the instances that there
    /// are now, the kernel's own, and those of the events.
    fn each(&self, each: &mut dyn FnMut(fmt::Arguments<'_>, &str) -> fmt::Result) -> fmt::Result {
        BuiltIn::<CPUS>::each(|_| true, each)?;
        self.instances.iter().try_for_each(|instance| instance::each(instance, each))?;
        self.files.iter().try_for_each(|own| each(format_args!("{}", own.name()), own.help()))?;
        self.state.events.map_or(Ok(()), |events| EventFile::each(events, each))
    }

    fn list(&self, out: &mut dyn Write) -> fmt::Result {
        self.each(&mut |name, _| writeln!(out, "{name}"))
    }

    fn help_all(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(
            out,
            "echo VALUE > FILE, echo VALUE >> FILE, cat FILE, ls, help [FILE], mkdir and rmdir instances/NAME"
        )?;
        self.each(&mut |name, help| writeln!(out, "{name}: {help}"))
    }
}

impl<const CPUS: usize> fmt::Debug for Control<CPUS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A file's name, wherever the line says that it is.
fn name_of(file: Word<'_>) -> &str {
    TRACEFS.iter().find_map(|root| file.text().strip_prefix(root)).unwrap_or(file.text())
}

/// The name in `instances/NAME`.
fn instance_name(directory: Word<'_>) -> Result<&str, Refusal> {
    let name = name_of(directory).strip_prefix(instance::DIRECTORY).filter(|name| instance::is_name(name));
    name.ok_or(directory.refuse(Reason::InstanceName))
}

/// A file that a line names.
enum Found<const CPUS: usize> {
    BuiltIn(&'static BuiltIn<CPUS>),
    Event(EventsParts, EventFile),
    Numbered(Numbered),
    Own(&'static dyn File),
}
