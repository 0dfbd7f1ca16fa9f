//! The summary: a table of the functions with their calls and times, and what each CPU recorded.

use std::collections::HashMap;
use std::io::Write;

use anyhow::Result;

use super::spelling::micros;
use crate::trace::calls::{self, StepKind};
use crate::trace::model::{Cpu, EventKind, LeftOut, Profiled, Trace};

/// How many functions are shown; the rest are counted.
const MAX_FUNCTIONS: usize = 40;

/// A function's figures. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    pub(crate) calls: u64,
    /// Those whose return was recorded; the other figures are of these.
    timed: u64,
    /// A function that calls itself counts at each level.
    pub(crate) total: u64,
    pub(crate) own: u64,
    min: u64,
    max: u64,
}

/// Writes the tables, the functions by their self time.
pub(crate) fn write(trace: &Trace, out: &mut impl Write) -> Result<()> {
    write_functions(trace, MAX_FUNCTIONS, out)?;
    writeln!(out)?;
    // A profile has none.
    for cpu in trace.cpus.iter().filter(|_| trace.profile.is_empty()) {
        let events = trace.events.iter().filter(|event| event.cpu == cpu.id).count();
        let Cpu { id, overwritten, refused } = cpu;
        write!(out, "CPU {id}: {events} events, {} lost", cpu.lost())?;
        match (*overwritten, *refused) {
            (0, 0) => writeln!(out)?,
            (_, 0) => writeln!(out, " before the first: newer ones took their place")?,
            (0, _) => writeln!(out, " behind the last: there was no room")?,
            _ => writeln!(out, ": {overwritten} before the first, {refused} behind the last")?,
        }
    }
    let per_tick = 1e9 / trace.counter_hz as f64;
    if trace.profile.is_empty() {
        let span = micros(trace.end_time_ns() - trace.start_time_ns);
        write!(out, "{} events in {span} us; ", trace.events.len())?;
    }
    writeln!(out, "the clock ticks every {per_tick:.1} ns")?;
    let LeftOut { void, user, unprofiled } = trace.left_out;
    for (count, what) in [
        (void, "records that were given up"),
        (user, "records of the kernel's own kinds"),
        (unprofiled, "calls of functions that the profiler had no room for"),
    ] {
        if count > 0 {
            writeln!(out, "left out: {count} {what}")?;
        }
    }
    if let Some(damage) = &trace.damage {
        writeln!(out, "the dump is damaged, and what came behind is missing: {damage}")?;
    }
    Ok(())
}

/// Writes the table of functions, so many of them.
pub(crate) fn write_functions(trace: &Trace, most: usize, out: &mut impl Write) -> Result<()> {
    let rows = rows(trace);
    writeln!(
        out,
        "{:>9}  {:>14}  {:>14}  {:>14}  {:>14}  {:>14}  FUNCTION",
        "CALLS", "TOTAL us", "SELF us", "AVERAGE us", "MIN us", "MAX us"
    )?;
    for (name, row) in rows.iter().take(most) {
        let time = |value: u64| if row.timed > 0 { micros(value) } else { "-".to_owned() };
        let average = row.total.checked_div(row.timed).unwrap_or(0);
        let times = [row.total, row.own, average, row.min, row.max].map(|value| format!("{:>14}", time(value)));
        writeln!(out, "{:>9}  {}  {name}", row.calls, times.join("  "))?;
    }
    if let Some(more) = rows.len().checked_sub(most).filter(|more| *more > 0) {
        writeln!(out, "{more:>9}  more functions")?;
    }
    Ok(())
}

/// A row for each name, the one with the most self time first.
pub(crate) fn rows(trace: &Trace) -> Vec<(String, Row)> {
    let mut by_ip = HashMap::<u64, Row>::new();
    for &Profiled { ip, hits, total_ns: total, own_ns: own, min_ns: min, max_ns: max } in &trace.profile {
        by_ip.entry(ip).or_default().add(&Row { calls: hits, timed: hits, total, own, min, max });
    }
    for thread in calls::threads(trace) {
        thread.for_each_call(|left| by_ip.entry(left.call.ip).or_default().count(left.call.duration_ns, left.self_ns));
        for step in &thread.steps {
            if let StepKind::Instant(event) = step.kind
                && let EventKind::Function { ip, .. } = trace.events[event].kind
            {
                by_ip.entry(ip).or_default().calls += 1;
            }
        }
    }
    let mut rows = HashMap::<String, Row>::new();
    for (ip, row) in by_ip {
        rows.entry(trace.name_at(ip).into_owned()).or_default().add(&row);
    }
    let mut rows: Vec<(String, Row)> = rows.into_iter().collect();
    rows.sort_by(|(name, row), (other_name, other)| {
        (other.own, other.calls).cmp(&(row.own, row.calls)).then_with(|| name.cmp(other_name))
    });
    rows
}

impl Row {
    fn add(&mut self, other: &Self) {
        if other.timed > 0 {
            self.min = if self.timed == 0 { other.min } else { self.min.min(other.min) };
        }
        self.max = self.max.max(other.max);
        self.calls = self.calls.saturating_add(other.calls);
        self.timed = self.timed.saturating_add(other.timed);
        self.total = self.total.saturating_add(other.total);
        self.own = self.own.saturating_add(other.own);
    }

    fn count(&mut self, duration_ns: Option<u64>, own: u64) {
        let timed =
            duration_ns.map(|duration| Self { calls: 1, timed: 1, total: duration, own, min: duration, max: duration });
        self.add(&timed.unwrap_or(Self { calls: 1, ..Self::default() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::formats::tests::expect_golden;
    use crate::trace::tests::fixture::{self, entry, exit, function};

    fn table_of(trace: &Trace) -> String {
        let mut out = Vec::new();
        write(trace, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_are_as_expected() {
        expect_golden("graph.summary", table_of(&fixture::graph()).as_bytes());
        expect_golden("functions.summary", table_of(&fixture::functions()).as_bytes());
        expect_golden("damaged.summary", table_of(&fixture::damaged()).as_bytes());
        expect_golden("profile.summary", table_of(&fixture::profile()).as_bytes());
    }

    #[test]
    fn rows_are_by_self_time() {
        let (outer, inner) = (function(0), function(1));
        let trace = fixture::of_events(vec![
            entry(0, outer, 0),
            entry(10, inner, 1),
            exit(70, inner, 1, 10),
            entry(80, inner, 1),
            exit(90, inner, 1, 80),
            exit(100, outer, 0, 0),
        ]);
        let found: Vec<_> = rows(&trace)
            .into_iter()
            .map(|(name, row)| (name, row.calls, row.total, row.own, row.min, row.max))
            .collect();
        let (main, work) = ("kernel::main".to_owned(), "kernel::work".to_owned());
        assert_eq!(found, [(work, 2, 70, 70, 10, 60), (main, 1, 100, 30, 100, 100)]);
    }
}
