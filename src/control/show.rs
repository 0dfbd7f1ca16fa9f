//! Events as Linux prints them: the formats of the files `trace` and `trace_pipe`.

use super::event::parts::EventsParts;
use super::event::show;
use super::log::cut;
use super::merge::{Merged, OfCpu};
use super::names::Names;
use super::options::{Options, TraceOption};
use crate::tracer::event::{Event, Recorded};
use arrayvec::ArrayString;
use core::fmt::{self, Write};

/// Linux's five columns of flags, which are not recorded.
const NO_FLAGS: &str = ".....";
const NO_DURATION: &str = "              ";
const RULE: &str = " ------------------------------------------";

/// How many letters of a task's name stand where the task changes.
const SHORT_NAME: usize = 7;

/// From this depth on calls are not indented further.
const MAX_INDENT: u16 = 64;

/// The thresholds of durations in nanoseconds, the highest first, and their marks.
const MARKS: [(u64, char); 6] =
    [(1_000_000_000, '$'), (100_000_000, '@'), (10_000_000, '*'), (1_000_000, '#'), (100_000, '!'), (10_000, '+')];

/// Which of Linux's formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A line for each event.
    Lines,
    /// Calls inside each other.
    Graph,
}

/// What events are shown with.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) names: Names<'a>,
    pub(super) task_name: fn(u32) -> Option<&'static str>,
    pub(super) ticks_per_second: u64,
    pub(super) events: Option<EventsParts>,
    pub(super) options: Options,
}

impl Shown<'_> {
    /// Returns ticks in nanoseconds.
    pub(super) fn nanos(&self, ticks: u64) -> u64 {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Returns a time in microseconds, rounded as Linux does.
    pub(super) fn micros(&self, ticks: u64) -> u64 {
        self.nanos(ticks).saturating_add(500) / 1000
    }

    fn task(&self, task: u32) -> &'static str {
        (self.task_name)(task).unwrap_or("<...>")
    }

    /// Writes the head of the file `trace`.
    pub(super) fn head(
        &self,
        format: Format,
        tracer: &str,
        counts: [u64; 2],
        cpus: usize,
        out: &mut dyn Write,
    ) -> fmt::Result {
        writeln!(out, "# tracer: {tracer}\n#")?;
        match format {
            Format::Lines => {
                let [kept, written] = counts;
                writeln!(out, "# entries-in-buffer/entries-written: {kept}/{written}   #P:{cpus}\n#")?;
                writeln!(out, "#           TASK-PID     CPU#  flags  TIMESTAMP  FUNCTION")?;
                writeln!(out, "#              | |         |     |       |         |")
            }
            Format::Graph => {
                let columns = [
                    (TraceOption::GraphAbsTime, "    TIME       ", "     |         "),
                    (TraceOption::GraphCpu, "CPU", "|  "),
                    (TraceOption::GraphProc, "  TASK/PID       ", "   |    |        "),
                    (TraceOption::GraphDuration, "  DURATION       ", "   |   |         "),
                ];
                let columns = || columns.iter().filter(|(option, ..)| self.options.has(*option));
                out.write_str("# ")?;
                columns().try_for_each(|(_, title, _)| out.write_str(title))?;
                out.write_str("           FUNCTION CALLS\n# ")?;
                columns().try_for_each(|(_, _, lines)| out.write_str(lines))?;
                out.write_str("            |   |   |   |\n")
            }
        }
    }

    /// Writes all events that are to come, as long as `goes_on`, if there is one, says so; returns whether it did to the end.
    pub(super) fn events<const CPUS: usize>(
        &self,
        format: Format,
        mut merged: Merged<'_, CPUS>,
        goes_on: Option<fn() -> bool>,
        out: &mut dyn Write,
    ) -> Result<bool, fmt::Error> {
        let mut running = [None; CPUS];
        while goes_on.is_none_or(|goes_on| goes_on()) {
            let Some(OfCpu { cpu, recorded }) = merged.next() else { return Ok(true) };
            match format {
                Format::Lines => self.line(cpu, &recorded, out)?,
                Format::Graph => {
                    let Recorded { time, task, event } = recorded;
                    if matches!(event, Event::Void) {
                        continue;
                    }
                    let before = running.get_mut(cpu).and_then(|running| running.replace(task));
                    if let Some(before) = before.filter(|before| *before != task) {
                        let [before, now] = [before, task].map(|task| self.process(task));
                        writeln!(out, "{RULE}\n {cpu}) {before:^14} => {now:^14}\n{RULE}\n")?;
                    }
                    self.before_call(time, cpu, task, out)?;
                    if let Event::GraphEntry { ip, depth, .. } = event {
                        let exit = merged.take_exit(cpu, task, ip.get(), depth);
                        self.entry(ip.get(), depth, exit.map(|(exit, value)| (exit.saturating_sub(time), value)), out)?;
                    } else {
                        self.in_graph(time, &event, out)?;
                    }
                }
            }
        }
        Ok(false)
    }

    /// The columns before a call's duration.
    fn before_call(&self, time: u64, cpu: usize, task: u32, out: &mut dyn Write) -> fmt::Result {
        if self.options.has(TraceOption::GraphAbsTime) {
            let micros = self.micros(time);
            write!(out, "{:>5}.{:06} |  ", micros / 1_000_000, micros % 1_000_000)?;
        }
        if self.options.has(TraceOption::GraphCpu) {
            write!(out, " {cpu}) ")?;
        }
        if self.options.has(TraceOption::GraphProc) {
            write!(out, "{:^14} | ", self.process(task))?;
        }
        Ok(())
    }

    /// The function at an address, as the options have it.
    fn name(&self, addr: u64, out: &mut dyn Write) -> fmt::Result {
        if self.options.has(TraceOption::SymOffset) {
            self.names.write_place(addr, out)?;
        } else {
            self.names.write(addr, out)?;
        }
        if self.options.has(TraceOption::SymAddr) { write!(out, " <{addr:016x}>") } else { Ok(()) }
    }

    /// A task as it stands where a CPU goes on with another one.
    fn process(&self, task: u32) -> ArrayString<40> {
        let name = self.task(task);
        let end = name.char_indices().nth(SHORT_NAME).map_or(name.len(), |(at, _)| at);
        cut(format_args!("{}-{task}", name.get(..end).unwrap_or_default()))
    }

    /// One line for one event.
    fn line(&self, cpu: usize, recorded: &Recorded<'_>, out: &mut dyn Write) -> fmt::Result {
        let Recorded { time, task, ref event } = *recorded;
        if matches!(event, Event::Void) {
            return Ok(());
        }
        let micros = self.micros(time);
        let (seconds, micros, name) = (micros / 1_000_000, micros % 1_000_000, self.task(task));
        write!(out, "{name:>16}-{task:<7} [{cpu:03}] {NO_FLAGS} {seconds:>5}.{micros:06}: ")?;
        self.in_words(time, event, out)?;
        out.write_str("\n")
    }

    fn in_words(&self, time: u64, event: &Event<'_>, out: &mut dyn Write) -> fmt::Result {
        match *event {
            Event::Void => Ok(()),
            Event::Function { ip, parent, arguments } => {
                self.name(ip.get(), out)?;
                for (number, argument) in arguments.iter().enumerate() {
                    write!(out, "{}{argument:#x}", if number == 0 { "(" } else { ", " })?;
                }
                out.write_str(if arguments.is_empty() { "" } else { ")" })?;
                if !self.options.has(TraceOption::PrintParent) {
                    return Ok(());
                }
                out.write_str(" <-")?;
                // What returns there was called before.
                self.name(parent.get().wrapping_sub(4), out)
            }
            // The names of the events of Linux's own.
            Event::GraphEntry { ip, depth, .. } => {
                out.write_str("funcgraph_entry: ")?;
                self.name(ip.get(), out)?;
                write!(out, "() depth={depth}")
            }
            Event::GraphExit { ip, entry_time, depth, .. } => {
                let nanos = self.nanos(time.saturating_sub(entry_time));
                write!(out, "funcgraph_exit: {}.{:03} us ", nanos / 1000, nanos % 1000)?;
                self.name(ip.get(), out)?;
                write!(out, "() depth={depth}")
            }
            Event::Stack { frames, .. } => {
                out.write_str("<stack trace>")?;
                for frame in frames.iter() {
                    out.write_str("\n => ")?;
                    self.name(frame.wrapping_sub(4), out)?;
                }
                Ok(())
            }
            Event::Marker { text } => {
                out.write_str("tracing_mark_write: ")?;
                text.trim_end().chars().try_for_each(|c| out.write_char(if c.is_control() { ' ' } else { c }))
            }
            Event::Probe { id, payload } => match self.events.and_then(|events| events.of_id(id)) {
                Some(known) => show::write(&known, payload, self.names, out),
                None => write!(out, "an event of the unknown number {id}"),
            },
            Event::User { kind, extra, payload } => {
                write!(out, "kind {kind}: {extra}")?;
                payload.iter().try_for_each(|word| write!(out, " {word:#x}"))
            }
        }
    }

    /// An entry: with a duration if the call has ended and nothing stands between.
    fn entry(&self, ip: u64, depth: u16, exit: Option<(u64, u64)>, out: &mut dyn Write) -> fmt::Result {
        self.duration(exit.map(|(ticks, _)| ticks), out)?;
        indent(depth, out)?;
        self.name(ip, out)?;
        match exit {
            None => out.write_str("() {\n"),
            Some((_, value)) if self.options.has(TraceOption::GraphRetval) => writeln!(out, "(); /* = {value:#x} */"),
            Some(_) => out.write_str("();\n"),
        }
    }

    /// An exit, or an event that is no call's.
    fn in_graph(&self, time: u64, event: &Event<'_>, out: &mut dyn Write) -> fmt::Result {
        if let Event::GraphExit { ip, entry_time, depth, value } = *event {
            self.duration(Some(time.saturating_sub(entry_time)), out)?;
            indent(depth, out)?;
            let [tail, retval] =
                [TraceOption::GraphTail, TraceOption::GraphRetval].map(|option| self.options.has(option));
            if !tail && !retval {
                return out.write_str("}\n");
            }
            out.write_str("} /*")?;
            if tail {
                out.write_str(" ")?;
                self.name(ip.get(), out)?;
            }
            if retval {
                write!(out, " = {value:#x}")?;
            }
        } else {
            self.duration(None, out)?;
            indent(0, out)?;
            out.write_str("/* ")?;
            self.in_words(time, event, out)?;
        }
        out.write_str(" */\n")
    }

    /// The column of durations: the mark, then microseconds with as many decimals as fit.
    fn duration(&self, ticks: Option<u64>, out: &mut dyn Write) -> fmt::Result {
        if !self.options.has(TraceOption::GraphDuration) {
            return Ok(());
        }
        let Some(ticks) = ticks else { return out.write_str(NO_DURATION) };
        let nanos = self.nanos(ticks);
        let mark =
            MARKS.iter().find(|(threshold, _)| nanos > *threshold && self.options.has(TraceOption::GraphOverhead));
        let mark = mark.map_or(' ', |(_, mark)| *mark);
        let number: ArrayString<24> = cut(format_args!("{}.{:03}", nanos / 1000, nanos % 1000));
        let whole = number.len().saturating_sub(".000".len());
        let number = number.get(..whole.max(8).min(number.len())).unwrap_or_default().trim_end_matches('.');
        let width = 12_usize.saturating_sub(number.len());
        write!(out, "{mark} {number}{:<width$}", " us ")
    }
}

fn indent(depth: u16, out: &mut dyn Write) -> fmt::Result {
    out.write_str("|  ")?;
    (0..depth.min(MAX_INDENT)).try_for_each(|_| out.write_str("  "))
}
