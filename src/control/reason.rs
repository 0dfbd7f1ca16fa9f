//! Why a line is refused, and where in it.

use super::event::reason::EventReason;
use super::rules::{COMMAND_RULE_BYTES, GRAPH_RULES_BYTES, MAX_COMMANDS, MAX_RULES, RULES_BYTES};
use super::switches::{MAX_CLOSED, MAX_PIDS};
use crate::engine::RegisterError;
use crate::filter::GlobError;
use crate::inject::MAX_SITES;
use crate::tracer::under::MAX_UNDER;
use core::fmt;
use thiserror::Error;

/// The longest line, in bytes.
pub const LINE_BYTES: usize = 512;

/// The longest name of an instance, in bytes.
pub const INSTANCE_BYTES: usize = 32;

/// Why a line is refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// The line is no UTF-8.
    #[error("The line is no UTF-8 from here on")]
    NotUtf8,
    /// A character that a terminal would act on.
    #[error("A control character can't be part of a line")]
    ControlCharacter,
    /// The line is longer than [`LINE_BYTES`].
    #[error("The line is longer than {LINE_BYTES} bytes")]
    TooLong,
    /// The line begins with another word than a command.
    #[error("There are the commands echo, cat, ls, mkdir, rmdir and help")]
    UnknownCommand,
    /// The line ends where a file's name should stand.
    #[error("The name of a file should stand here")]
    NoFile,
    /// There is no file of this name.
    #[error("There is no such file (`ls` lists them)")]
    UnknownFile,
    /// The line goes on behind the command's end.
    #[error("Nothing should stand here")]
    Extra,
    /// A value is written nowhere.
    #[error("`> FILE` or `>> FILE` should end the line")]
    NotRedirected,
    /// The line goes on with another command.
    #[error("A line is one command; what a value has of `;`, `|` and `&` stands in quotes")]
    OneCommand,
    /// The file has nothing to read.
    #[error("The file can't be read")]
    NotReadable,
    /// The file can't be written.
    #[error("The file can't be written")]
    NotWritable,
    /// Another value was expected.
    #[error("{0} should stand here")]
    Expected(&'static str),
    /// Another directory than one of `instances`, or a name that can't be that of one.
    #[error("instances/NAME should stand here, the name of letters, digits, _ and -, {INSTANCE_BYTES} at most")]
    InstanceName,
    /// There is an instance of this name.
    #[error("There is such an instance already")]
    InstanceExists,
    /// There is no instance of this name.
    #[error("There is no such instance")]
    NoSuchInstance,
    /// The kernel has no rings for one more instance.
    #[error("The kernel has rings for {instances} instances")]
    NoInstance {
        /// For how many.
        instances: usize,
    },
    /// There is no tracer of this name.
    #[error("There is no such tracer (available_tracers lists them)")]
    UnknownTracer,
    /// The tracer `profile` or `stack`, while its own file has it be on.
    #[error("It is on already: function_profile_enabled or stack_tracer_enabled is 1")]
    IsOn,
    /// The profiler or the stack tracer, while it is the current tracer.
    #[error("It is on already: it is the current tracer")]
    IsCurrentTracer,
    /// The rule is no glob.
    #[error("{0}")]
    Glob(#[source] GlobError),
    /// The rule selects nothing: an unknown name, or a function that can't be traced.
    #[error("The rule selects no traceable function")]
    NothingSelected,
    /// The negative rule takes nothing away: an unknown name, or a function that can't be traced anyhow.
    #[error("The rule takes no traceable function away")]
    NothingTakenAway,
    /// The file has no such rule to be removed.
    #[error("The file has no such rule")]
    NoSuchRule,
    /// An index beyond the list of functions.
    #[error("available_filter_functions has the lines 1 to {lines}")]
    NoSuchLine {
        /// How many there are.
        lines: usize,
    },
    /// There is no room for one more rule.
    #[error("There is room for {MAX_RULES} rules of {RULES_BYTES} bytes in all")]
    TooManyRules,
    /// `func:command` with a command that isn't there.
    #[error(
        "At functions there are the commands traceon, traceoff, snapshot, stacktrace, dump, cpudump, enable_event:GRP:EV and \
         disable_event:GRP:EV, and `:mod:MODULE`"
    )]
    FunctionCommand,
    /// There is no room for one more command, or for so long a rule.
    #[error("There is room for {MAX_COMMANDS} commands at functions, with rules of {COMMAND_RULE_BYTES} bytes")]
    TooManyCommands,
    /// There is no such command to be removed.
    #[error("There is no such command at a function")]
    NoSuchCommand,
    /// There is no room for one more function of a graph's file.
    #[error("There is room for {MAX_UNDER} rules of {GRAPH_RULES_BYTES} bytes in all")]
    TooManyUnder,
    /// There is no room for one more task.
    #[error("There is room for {MAX_PIDS} tasks")]
    TooManyPids,
    /// There is no room for one more CPU that is left out.
    #[error("At most {MAX_CLOSED} CPUs can be left out")]
    TooManyLeftOut,
    /// There is no option of this name.
    #[error("There is no such option (trace_options lists them)")]
    UnknownOption,
    /// The kernel does not look for the deepest stack.
    #[error("The kernel has not said where its stacks are")]
    NoStacks,
    /// The kernel has no second ring for each CPU.
    #[error("The kernel has no second rings, which snapshots need")]
    NoSpareRings,
    /// `tracing_on` is 0.
    #[error("Nothing is recorded: tracing_on is 0")]
    TracingIsOff,
    /// A command at a function has stopped recording until what was recorded is written.
    #[error("Nothing is recorded until what a command at a function asked for is written")]
    RecordingIsHeld,
    /// `tracing_cpumask` leaves this CPU out.
    #[error("tracing_cpumask leaves out the CPU on which it was written")]
    CpuIsLeftOut,
    /// Another size than a ring has.
    #[error("The ring has {kib} KiB, which the kernel has given it")]
    SizeIsFixed {
        /// What it has.
        kib: usize,
    },
    /// There is no room in a ring for what was written.
    #[error("The ring has no room")]
    RingIsFull,
    /// The kernel gave nothing that can fail.
    #[error("This kernel has no functions that can fail")]
    NothingFails,
    /// A function that can't fail.
    #[error("The function can't be made to fail (fail_function/injectable lists those that can)")]
    NotInjectable,
    /// More functions than an injection is attached to.
    #[error("At most {MAX_SITES} functions may fail at a time")]
    TooManyFailing,
    /// An event's definition, filter or trigger is refused.
    #[error("{0}")]
    Event(#[source] EventReason),
    /// The engine has refused.
    #[error("{0}")]
    Register(#[source] RegisterError),
    /// The output could not be written; what was asked for is done.
    #[error("The output could not be written")]
    Output,
    /// A reason of a kernel's own [file](super::File).
    #[error("{0}")]
    Other(&'static str),
}

impl From<fmt::Error> for Reason {
    fn from(_: fmt::Error) -> Self {
        Self::Output
    }
}

/// A refusal: why, and at which byte of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The byte of the line, from 0.
    pub at: usize,
    /// Why.
    #[source]
    pub reason: Reason,
}
