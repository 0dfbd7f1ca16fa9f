//! The files of the control interface.

pub(super) mod events;
mod fail_function;
mod functions;
mod graph;
mod kprobe_events;
pub(super) mod numbered;
mod options;
mod rings;
mod stack;
mod tasks;
mod tracers;
mod triggers;

use super::line::Value;
use super::reason::{Reason, Refusal};
use super::state::State;
use super::switches::Asked;
use crate::tracer::ring::Ring;
use core::fmt::{self, Write};
use numbered::Numbered;
use rings::Of;

/// Writes what a command at a function has asked for.
pub(super) fn dump<const CPUS: usize>(state: &State<CPUS>, asked: Asked, out: &mut dyn Write) -> fmt::Result {
    let of = match asked {
        Asked::Dump => Of::All,
        Asked::DumpOf(ring) => {
            let has = |own: &&'static Ring| core::ptr::from_ref::<Ring>(own).addr() as u64 == ring;
            state.rings.iter().position(has).map_or(Of::All, Of::Cpu)
        }
    };
    writeln!(out, "What was recorded before a function with the command dump was called:")?;
    // All that can fail is the output.
    rings::look(state, of, state.live(), false, out).map_err(|_| fmt::Error)
}

/// Writes what a file has.
type Read<const CPUS: usize> = fn(&State<CPUS>, &mut dyn Write) -> Result<(), Reason>;
/// Takes a value, or changes nothing.
type Take<const CPUS: usize> = fn(&mut State<CPUS>, &Value<'_>) -> Result<(), Refusal>;

/// One file.
pub(super) struct BuiltIn<const CPUS: usize> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) read: Option<Read<CPUS>>,
    pub(super) write: Option<Take<CPUS>>,
}

impl<const CPUS: usize> BuiltIn<CPUS> {
    /// Those that instances have too.
    const OF_INSTANCES: [&'static str; 21] = [
        "available_tracers",
        "buffer_size_kb",
        "buffer_total_size_kb",
        "current_tracer",
        "max_graph_depth",
        "set_ftrace_filter",
        "set_ftrace_notrace",
        "set_ftrace_notrace_pid",
        "set_ftrace_pid",
        "set_graph_function",
        "set_graph_notrace",
        "snapshot",
        "trace",
        "trace_dump",
        "trace_marker",
        "trace_options",
        "trace_pipe",
        "tracing_cpumask",
        "tracing_max_latency",
        "tracing_on",
        "tracing_thresh",
    ];

    pub(super) fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|file| file.name == name)
    }

    /// Whether instances have it too.
    pub(super) fn is_of_instances(&self) -> bool {
        Self::OF_INSTANCES.contains(&self.name)
    }

    /// Calls `each` with the names of those that are meant and of all that are numbered, in their order, and what they are for.
    pub(super) fn each(
        is_meant: impl Fn(&Self) -> bool,
        each: &mut dyn FnMut(fmt::Arguments<'_>, &str) -> fmt::Result,
    ) -> fmt::Result {
        let (before, behind) = Self::ALL.split_at(Self::ALL.partition_point(|file| file.name < Numbered::DIRECTORY));
        for file in before.iter().filter(|file| is_meant(file)) {
            each(format_args!("{}", file.name), file.help)?;
        }
        Numbered::each(CPUS, each)?;
        for file in behind.iter().filter(|file| is_meant(file)) {
            each(format_args!("{}", file.name), file.help)?;
        }
        Ok(())
    }

    /// All of them, in the order in which `ls` lists them.
    pub(super) const ALL: &'static [Self] = &[
        Self {
            name: "available_events",
            help: "the events that kprobe_events defines",
            read: Some(events::available),
            write: None,
        },
        Self {
            name: "available_filter_functions",
            help: "the functions that can be traced, with their modules",
            read: Some(functions::available),
            write: None,
        },
        Self {
            name: "available_tracers",
            help: "what current_tracer can be",
            read: Some(tracers::available),
            write: None,
        },
        Self {
            name: "buffer_size_kb",
            help: "the size of each CPU's ring in KiB, which the kernel fixes (X: they differ)",
            read: Some(rings::size),
            write: Some(rings::set_size),
        },
        Self {
            name: "buffer_total_size_kb",
            help: "the size of all rings in KiB",
            read: Some(rings::total_size),
            write: None,
        },
        Self {
            name: "current_tracer",
            help: "what is done at each call of the functions in set_ftrace_filter",
            read: Some(tracers::current),
            write: Some(tracers::set_current),
        },
        Self {
            name: "dyn_ftrace_total_info",
            help: "how many functions can be traced, and the 4 KiB pages of their records",
            read: Some(functions::total_info),
            write: None,
        },
        Self {
            name: "enabled_functions",
            help: "the functions that call something now, how much it is, R: with all registers, I: it may change \
                   where they go on, D: without a stub",
            read: Some(functions::enabled),
            write: None,
        },
        Self {
            name: "error_log",
            help: "the last refusals; written, it is emptied",
            read: Some(rings::error_log),
            write: Some(rings::clear_error_log),
        },
        Self {
            name: "events/enable",
            help: "1: all events are recorded; 0: none is",
            read: Some(events::all_enabled),
            write: Some(events::set_all_enabled),
        },
        Self {
            name: "fail_function/inject",
            help: "the functions that may fail now: FUNCTION, !FUNCTION takes away; > replaces, >> adds",
            read: Some(fail_function::inject),
            write: Some(fail_function::set_inject),
        },
        Self {
            name: "fail_function/injectable",
            help: "the functions that can fail",
            read: Some(fail_function::injectable),
            write: None,
        },
        Self {
            name: "fail_function/interval",
            help: "each call of this number may fail",
            read: Some(fail_function::interval),
            write: Some(fail_function::set_interval),
        },
        Self {
            name: "fail_function/probability",
            help: "how likely a call fails, in percent; 0: never",
            read: Some(fail_function::probability),
            write: Some(fail_function::set_probability),
        },
        Self {
            name: "fail_function/space",
            help: "so many calls go by first",
            read: Some(fail_function::space),
            write: Some(fail_function::set_space),
        },
        Self {
            name: "fail_function/task-filter",
            help: "Y: only tasks that may fail do",
            read: Some(fail_function::task_filter),
            write: Some(fail_function::set_task_filter),
        },
        Self {
            name: "fail_function/times",
            help: "how many calls may still fail; -1: any number",
            read: Some(fail_function::times),
            write: Some(fail_function::set_times),
        },
        Self {
            name: "fail_function/verbose",
            help: "1: a call that is made to fail is in the trace, where the kernel reports it there; 2: with its callers; 0: it is not",
            read: Some(fail_function::verbose),
            write: Some(fail_function::set_verbose),
        },
        Self {
            name: "function_profile_enabled",
            help: "1: calls of the functions in set_ftrace_filter are counted and timed, from zero; 0: no longer",
            read: Some(tracers::profiles),
            write: Some(tracers::set_profiles),
        },
        Self {
            name: "kprobe_events",
            help: "the events at functions' entries, returns and other instructions: p[:[GRP/]EV] [MOD:]SYMBOL[+OFFSET] [NAME=ARG[:TYPE]].., \
                   r[:[GRP/]EV] [MOD:]SYMBOL [NAME=ARG[:TYPE]]..; -:[GRP/]EV removes; ARG is %REG, $argN, $retval, $stack, $stackN, \
                   @ADDR, @SYMBOL, \\VALUE, +OFFSET(ARG); > replaces, >> adds",
            read: Some(kprobe_events::list),
            write: Some(kprobe_events::define),
        },
        Self {
            name: "kprobe_profile",
            help: "how often each event's place was come to, and how often that was missed",
            read: Some(kprobe_events::profile),
            write: None,
        },
        Self {
            name: "max_graph_depth",
            help: "function_graph has calls that are inside less than this many others; 0: all",
            read: Some(tracers::max_depth),
            write: Some(tracers::set_max_depth),
        },
        Self {
            name: "set_event",
            help: "the events that are recorded: [GRP:]EV, GRP:, *:*; !GRP:EV takes away; > replaces, >> adds",
            read: Some(events::enabled),
            write: Some(events::set_event),
        },
        Self {
            name: "set_ftrace_filter",
            help: "the functions that are traced, all if it is empty: names, globs, \"exact names\", lines of \
                   available_filter_functions; !RULE takes away; RULE:mod:MODULE; > replaces, >> adds; and commands at \
                   functions: RULE:traceon, traceoff, snapshot, stacktrace, dump, cpudump, enable_event:GRP:EV, \
                   disable_event:GRP:EV[:COUNT], which !RULE:COMMAND removes",
            read: Some(functions::filter),
            write: Some(functions::set_filter),
        },
        Self {
            name: "set_ftrace_notrace",
            help: "functions that are not traced whatever set_ftrace_filter has",
            read: Some(functions::notrace),
            write: Some(functions::set_notrace),
        },
        Self {
            name: "set_ftrace_notrace_pid",
            help: "the tasks that are not traced",
            read: Some(tasks::notrace_pids),
            write: Some(tasks::set_notrace_pids),
        },
        Self {
            name: "set_ftrace_pid",
            help: "the tasks that are traced, all if it is empty; > replaces, >> adds",
            read: Some(tasks::pids),
            write: Some(tasks::set_pids),
        },
        Self {
            name: "set_graph_function",
            help: "function_graph has calls of these functions, and calls inside them, only; !RULE removes",
            read: Some(graph::function),
            write: Some(graph::set_function),
        },
        Self {
            name: "set_graph_notrace",
            help: "function_graph has no calls of these functions, nor any inside them; !RULE removes",
            read: Some(graph::notrace),
            write: Some(graph::set_notrace),
        },
        Self {
            name: "snapshot",
            help: "what was recorded until 1 was written; 0 or 2 forgets it",
            read: Some(rings::snapshot),
            write: Some(rings::set_snapshot),
        },
        Self {
            name: "stack_max_size",
            help: "how many bytes the deepest stack had in use; 0 forgets it",
            read: Some(stack::max_size),
            write: Some(stack::clear),
        },
        Self {
            name: "stack_trace",
            help: "the calls of the deepest stack, the innermost first",
            read: Some(stack::frames),
            write: None,
        },
        Self {
            name: "stack_tracer_enabled",
            help: "1: the deepest stack is looked for, at calls of the functions in set_ftrace_filter; 0: no longer",
            read: Some(stack::is_traced),
            write: Some(stack::set_traced),
        },
        Self {
            name: "touched_functions",
            help: "the functions that call something now or have ever done so, and how much it is now",
            read: Some(functions::touched),
            write: None,
        },
        Self {
            name: "trace",
            help: "what was recorded, which stays; written, the rings are emptied",
            read: Some(rings::trace),
            write: Some(rings::clear_trace),
        },
        Self {
            name: "trace_dump",
            help: "what was recorded, as lines that `cargo fentry trace --from` exports to other tools",
            read: Some(rings::dump_lines),
            write: None,
        },
        Self { name: "trace_marker", help: "a text between the events", read: None, write: Some(rings::mark) },
        Self {
            name: "trace_options",
            help: "how events are shown, and what is recorded besides: OPTION, or noOPTION",
            read: Some(options::list),
            write: Some(options::set),
        },
        Self {
            name: "trace_pipe",
            help: "what was recorded, which is taken out of the rings",
            read: Some(rings::trace_pipe),
            write: None,
        },
        Self {
            name: "trace_stat/function",
            help: "what was counted and timed, the longest in all first",
            read: Some(tracers::profile),
            write: None,
        },
        Self {
            name: "tracing_cpumask",
            help: "the CPUs that record, as a hexadecimal mask",
            read: Some(tasks::cpumask),
            write: Some(tasks::set_cpumask),
        },
        Self {
            name: "tracing_max_latency",
            help: "how many microseconds the longest call took that the tracer latency has seen; only longer ones are recorded",
            read: Some(tracers::max_latency),
            write: Some(tracers::set_max_latency),
        },
        Self {
            name: "tracing_on",
            help: "0: nothing is recorded, though functions are traced",
            read: Some(tracers::is_on),
            write: Some(tracers::set_on),
        },
        Self {
            name: "tracing_thresh",
            help: "function_graph and latency record calls that take so many microseconds or more; 0: all, and those that are \
                   longer than all before",
            read: Some(tracers::threshold),
            write: Some(tracers::set_threshold),
        },
    ];
}
