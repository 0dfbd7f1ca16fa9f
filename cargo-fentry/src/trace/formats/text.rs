//! Text as Linux's `trace` file has it: the format of its function tracer, or of its function graph tracer where the
//! trace has returns. Tools that read those files read these. A profile is a table.
//!
//! Unlike the other formats, this one shows the events as they are: missing entries and exits are not supplied.

use std::collections::HashMap;
use std::io::Write;

use anyhow::Result;

use super::spelling::{in_one_line, micros};
use crate::trace::model::{Context, Cpu, Event, EventKind, Trace};

/// From which duration on a call gets which mark, in nanoseconds; the longest first.
const MARKS: [(u64, char); 6] =
    [(1_000_000_000, '$'), (100_000_000, '@'), (10_000_000, '*'), (1_000_000, '#'), (100_000, '!'), (10_000, '+')];
/// The column of durations where there is none.
const NO_DURATION: &str = "              ";
/// The state of interrupts and preemption, which is not recorded.
const NO_FLAGS: &str = ".....";
/// How much of a task's name fits into the lines that announce a task.
const SHORT_NAME: usize = 7;
const PROCESS_WIDTH: usize = 14;
const RULE: &str = " ------------------------------------------";
/// Return values from this one to -1 are shown as error numbers.
const LOWEST_ERROR: i64 = -4095;

/// Writes the trace in the format that fits its events.
pub(crate) fn write(trace: &Trace, out: &mut impl Write) -> Result<()> {
    if !trace.profile.is_empty() {
        return super::summary::write_functions(trace, usize::MAX, out);
    }
    let has_returns =
        trace.events.iter().any(|event| matches!(event.kind, EventKind::Entry { .. } | EventKind::Exit { .. }));
    if has_returns { Graph::new(trace).write(out) } else { write_functions(trace, out) }
}

fn write_functions(trace: &Trace, out: &mut impl Write) -> Result<()> {
    let kept = trace.events.len() as u64;
    let written = trace.cpus.iter().fold(kept, |sum, cpu| sum.saturating_add(cpu.lost()));
    writeln!(out, "# tracer: function\n#")?;
    writeln!(out, "# entries-in-buffer/entries-written: {kept}/{written}   #P:{}\n#", trace.cpus.len())?;
    writeln!(out, "#           TASK-PID     CPU#  flags  TIMESTAMP  FUNCTION")?;
    writeln!(out, "#              | |         |     |       |         |")?;
    let mut lost = Lost::new(trace);
    for (index, event) in trace.events.iter().enumerate() {
        let &Event { time_ns, cpu, task, ref kind } = event;
        lost.before(cpu, out)?;
        let name = trace.task_name(task);
        // Rounded, as Linux does; durations are not.
        let micros = time_ns.saturating_add(500) / 1000;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        write!(out, "{name:>16}-{task:<7} [{cpu:03}] {NO_FLAGS} {seconds:>5}.{micros:06}: ")?;
        writeln!(out, "{}", in_words(trace, kind))?;
        lost.behind(index, out)?;
    }
    lost.rest(out)
}

/// A function event or a marker in words.
fn in_words(trace: &Trace, kind: &EventKind) -> String {
    match kind {
        EventKind::Function { ip, parent, args } => {
            let args: Vec<String> = args.iter().map(|arg| format!("{arg:#x}")).collect();
            let args = if args.is_empty() { String::new() } else { format!("({})", args.join(", ")) };
            format!("{}{args} <-{}", trace.name_at(*ip), trace.name_at(*parent))
        }
        EventKind::Marker { text } => format!("tracing_mark_write: {}", in_one_line(text)),
        EventKind::Entry { ip, .. } | EventKind::Exit { ip, .. } => trace.name_at(*ip).into_owned(),
    }
}

/// The lost events of each CPU: told before its first event where newer ones took their place, behind its last one where
/// there was no room for more, and at the end for a CPU that has none.
struct Lost {
    /// By CPU, until they are told.
    overwritten: HashMap<u32, u64>,
    /// By the index of the CPU's last event.
    refused: HashMap<usize, Cpu>,
    /// The CPUs without an event.
    silent: Vec<Cpu>,
}

impl Lost {
    fn new(trace: &Trace) -> Self {
        let last: HashMap<u32, usize> =
            trace.events.iter().enumerate().map(|(index, event)| (event.cpu, index)).collect();
        let of_last = |cpu: &Cpu| Some((*last.get(&cpu.id)?, *cpu));
        let is_silent = |cpu: &&Cpu| !last.contains_key(&cpu.id);
        Self {
            overwritten: trace.cpus.iter().map(|cpu| (cpu.id, cpu.overwritten)).collect(),
            refused: trace.cpus.iter().filter_map(of_last).collect(),
            silent: trace.cpus.iter().filter(is_silent).copied().collect(),
        }
    }

    fn before(&mut self, cpu: u32, out: &mut impl Write) -> Result<()> {
        tell_lost(cpu, self.overwritten.remove(&cpu).unwrap_or(0), out)
    }

    fn behind(&mut self, event: usize, out: &mut impl Write) -> Result<()> {
        match self.refused.remove(&event) {
            Some(Cpu { id, refused, .. }) => tell_lost(id, refused, out),
            None => Ok(()),
        }
    }

    fn rest(self, out: &mut impl Write) -> Result<()> {
        self.silent.iter().try_for_each(|cpu| tell_lost(cpu.id, cpu.lost(), out))
    }
}

fn tell_lost(cpu: u32, lost: u64, out: &mut impl Write) -> Result<()> {
    if lost > 0 {
        writeln!(out, "CPU:{cpu} [LOST {lost} EVENTS]")?;
    }
    Ok(())
}

/// The function graph format, while it is being written.
struct Graph<'a> {
    trace: &'a Trace,
    /// For each event, the next one of its CPU.
    next_of_cpu: Vec<Option<usize>>,
    /// The task that each CPU ran last.
    running: HashMap<u32, u32>,
    /// The functions that each context is in, by depth, as far as the trace shows them.
    inside: HashMap<Context, Vec<Option<u64>>>,
    /// The width of a CPU's number.
    cpu_width: usize,
}

impl<'a> Graph<'a> {
    fn new(trace: &'a Trace) -> Self {
        let mut next_of_cpu = vec![None; trace.events.len()];
        let mut last_of_cpu = HashMap::new();
        for (index, event) in trace.events.iter().enumerate() {
            if let Some(last) = last_of_cpu.insert(event.cpu, index) {
                next_of_cpu[last] = Some(index);
            }
        }
        let highest = trace.cpus.iter().map(|cpu| cpu.id).max().unwrap_or(0);
        let cpu_width = highest.to_string().len();
        Self { trace, next_of_cpu, running: HashMap::new(), inside: HashMap::new(), cpu_width }
    }

    fn write(mut self, out: &mut impl Write) -> Result<()> {
        writeln!(out, "# tracer: function_graph\n#")?;
        writeln!(out, "# CPU  DURATION                  FUNCTION CALLS")?;
        writeln!(out, "# |     |   |                     |   |   |   |")?;
        let mut lost = Lost::new(self.trace);
        let mut shown_with_entry = vec![false; self.trace.events.len()];
        for (index, event) in self.trace.events.iter().enumerate() {
            if shown_with_entry[index] {
                lost.behind(index, out)?;
                continue;
            }
            lost.before(event.cpu, out)?;
            self.announce_task(event, out)?;
            write!(out, " {:>width$}) ", event.cpu, width = self.cpu_width)?;
            match event.kind {
                EventKind::Entry { ip, depth, .. } => {
                    let exit = self.exit_of_leaf(index);
                    self.write_entry(event.context(), ip, depth, exit.map(|(_, leaf)| leaf), out)?;
                    if let Some((exit, _)) = exit {
                        shown_with_entry[exit] = true;
                    }
                }
                EventKind::Exit { ip, depth, entry_time_ns, retval } => {
                    let duration = duration_field(event.time_ns.saturating_sub(entry_time_ns));
                    let is_known = self.leave(event.context(), ip, depth);
                    let comment = self.comment((!is_known).then_some(ip), retval);
                    writeln!(out, "{duration}|  {}}}{comment}", indent(depth))?;
                }
                EventKind::Function { .. } => {
                    writeln!(out, "{NO_DURATION}|  /* {} */", in_words(self.trace, &event.kind))?;
                }
                EventKind::Marker { ref text } => {
                    writeln!(out, "{NO_DURATION}|  /* {} */", in_one_line(text))?;
                }
            }
            lost.behind(index, out)?;
        }
        lost.rest(out)
    }

    fn write_entry(
        &mut self,
        context: Context,
        ip: u64,
        depth: u32,
        leaf: Option<Leaf>,
        out: &mut impl Write,
    ) -> Result<()> {
        let name = self.trace.name_at(ip);
        match leaf {
            Some(Leaf { duration_ns, retval }) => {
                let comment = self.comment(None, retval);
                writeln!(out, "{}|  {}{name}();{comment}", duration_field(duration_ns), indent(depth))?;
            }
            None => {
                writeln!(out, "{NO_DURATION}|  {}{name}() {{", indent(depth))?;
                let inside = self.inside.entry(context).or_default();
                inside.resize(usize::try_from(depth.min(MAX_INDENT)).unwrap_or(0), None);
                inside.push(Some(ip));
            }
        }
        Ok(())
    }

    /// The exit of a call with no event of its CPU between.
    fn exit_of_leaf(&self, entry: usize) -> Option<(usize, Leaf)> {
        let next = self.next_of_cpu[entry]?;
        let (entry, exit) = (&self.trace.events[entry], &self.trace.events[next]);
        let EventKind::Entry { ip: entered, depth: at, .. } = entry.kind else { return None };
        let EventKind::Exit { ip, depth, entry_time_ns, retval } = exit.kind else { return None };
        let duration_ns = exit.time_ns.saturating_sub(entry_time_ns);
        let is_same_call = (entry.context(), entered, at) == (exit.context(), ip, depth);
        is_same_call.then_some((next, Leaf { duration_ns, retval }))
    }

    /// Takes a function off those that the context is in, and says whether it was the innermost one shown.
    fn leave(&mut self, context: Context, ip: u64, depth: u32) -> bool {
        let inside = self.inside.entry(context).or_default();
        let depth = usize::try_from(depth.min(MAX_INDENT)).unwrap_or(0);
        let is_known = inside.get(depth) == Some(&Some(ip));
        inside.truncate(depth);
        is_known
    }

    /// What stands behind a call: the name of a function whose entry was not shown, and what it returned.
    fn comment(&self, ip: Option<u64>, retval: Option<u64>) -> String {
        let name = ip.map(|ip| self.trace.name_at(ip).into_owned());
        let value = retval.map(|value| match value.cast_signed() {
            error @ LOWEST_ERROR..=-1 => format!("= {error}"),
            _ => format!("= {value:#x}"),
        });
        let words: Vec<String> = name.into_iter().chain(value).collect();
        if words.is_empty() { String::new() } else { format!(" /* {} */", words.join(" ")) }
    }

    /// Announces another task than the CPU ran before.
    fn announce_task(&mut self, event: &Event, out: &mut impl Write) -> Result<()> {
        let Some(before) = self.running.insert(event.cpu, event.task).filter(|before| *before != event.task) else {
            return Ok(());
        };
        let process = |id: u32| {
            let name: String = self.trace.task_name(id).chars().take(SHORT_NAME).collect();
            format!("{:^PROCESS_WIDTH$}", format!("{name}-{id}"))
        };
        let (before, now) = (process(before), process(event.task));
        writeln!(out, "{RULE}\n {:>width$}) {before} => {now}\n{RULE}\n", event.cpu, width = self.cpu_width)?;
        Ok(())
    }
}

/// What is shown of a leaf's exit.
#[derive(Clone, Copy)]
struct Leaf {
    duration_ns: u64,
    retval: Option<u64>,
}

/// From this depth on, calls are not indented further.
const MAX_INDENT: u32 = 512;

fn indent(depth: u32) -> String {
    "  ".repeat(usize::try_from(depth.min(MAX_INDENT)).unwrap_or(0))
}

/// The column of durations: the mark, then microseconds with as many decimals as fit.
fn duration_field(duration_ns: u64) -> String {
    let mark = MARKS.iter().find(|(threshold, _)| duration_ns > *threshold).map_or(' ', |(_, mark)| *mark);
    let mut number = micros(duration_ns);
    let whole = number.len() - ".000".len();
    number.truncate(whole.max(8));
    let number = number.trim_end_matches('.');
    let unit_width = 12_usize.saturating_sub(number.len());
    format!("{mark} {number}{:<unit_width$}", " us ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::formats::tests::expect_golden;
    use crate::trace::tests::fixture;

    fn text_of(trace: &Trace) -> String {
        let mut out = Vec::new();
        write(trace, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_as_linux_prints_it() {
        expect_golden("functions.txt", text_of(&fixture::functions()).as_bytes());
        expect_golden("graph.txt", text_of(&fixture::graph()).as_bytes());
        expect_golden("damaged.txt", text_of(&fixture::damaged()).as_bytes());
    }

    #[test]
    fn what_was_lost_is_told_where_it_was() {
        for trace in [fixture::full(), Trace { events: fixture::functions().events, ..fixture::full() }] {
            let text = text_of(&trace);
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            let of_cpu =
                |line: &str, cpu: u32| line.starts_with(&format!(" {cpu})")) || line.contains(&format!(" [{cpu:03}] "));
            let events =
                |cpu| lines.iter().enumerate().filter(move |(_, line)| of_cpu(line, cpu)).map(|(line, _)| line);
            let told =
                |what: &str| lines.iter().position(|line| *line == what).unwrap_or_else(|| panic!("{what}: {text}"));
            // CPU 0: at the end; CPU 1: at both; CPU 2 has nothing else.
            assert_eq!(told("CPU:0 [LOST 7 EVENTS]"), events(0).max().unwrap() + 1, "{text}");
            assert!(told("CPU:1 [LOST 21 EVENTS]") < events(1).min().unwrap(), "{text}");
            assert_eq!(told("CPU:1 [LOST 22 EVENTS]"), events(1).max().unwrap() + 1, "{text}");
            assert_eq!(told("CPU:2 [LOST 9 EVENTS]"), lines.len() - 1, "{text}");
            assert_eq!(text.matches("LOST").count(), 4);
        }
    }

    #[test]
    fn durations_have_the_marks_and_the_width_of_linux() {
        // Every line has 16 columns up to the bar, as in Linux's documentation of the format.
        for (duration_ns, expected) in [
            (0, "  0.000 us    "),
            (1_382, "  1.382 us    "),
            (10_000, "  10.000 us   "),
            (10_001, "+ 10.001 us   "),
            (100_001, "! 100.001 us  "),
            (1_000_001, "# 1000.001 us "),
            (10_000_001, "* 10000.00 us "),
            (100_000_001, "@ 100000.0 us "),
            (1_000_000_001, "$ 1000000 us  "),
            (12_345_678_901, "$ 12345678 us "),
        ] {
            assert_eq!(duration_field(duration_ns), expected);
        }
    }
}
