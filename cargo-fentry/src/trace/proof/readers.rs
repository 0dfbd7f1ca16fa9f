//! What the real readers show of a trace: the same calls, times and losses as our own text and summary.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::trace::calls;
use crate::trace::formats::{summary, text};
use crate::trace::model::{Context, Trace};

/// Whether a reader can be started.
pub(crate) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Runs a reader; anything on its standard error is an error.
pub(crate) fn read_with(program: &str, args: &[&str], input: &Path) -> Result<Vec<u8>> {
    let option = match program {
        "uftrace" => Some("-d"),
        "trace-cmd" => Some("-i"),
        _ => None,
    };
    let output = Command::new(program).args(args).args(option).arg(input).output();
    let output = output.with_context(|| format!("{program} does not start"))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaints.is_empty(), "{program} {args:?}: {}: {complaints}", output.status);
    Ok(output.stdout)
}

fn lines_of(program: &str, args: &[&str], input: &Path) -> Result<Vec<String>> {
    read_with(program, args, input)?.lines().map(|line| Ok(line?)).collect()
}

fn text_of(trace: &Trace) -> Result<String> {
    let mut out = Vec::new();
    text::write(trace, &mut out)?;
    Ok(String::from_utf8(out)?)
}

/// The part of the trace that one context recorded.
fn part_of(trace: &Trace, context: Context) -> Trace {
    let mut part = trace.clone();
    part.events.retain(|event| event.context() == context);
    part
}

/// Calls and returns of a graph, each with its indentation: `(2, "f() {")`, `(2, "}")`.
type GraphLines = Vec<(usize, String)>;

fn graph_lines<'a>(bodies: impl Iterator<Item = &'a str>) -> GraphLines {
    let mut lines = Vec::new();
    for body in bodies {
        let words = body.trim_start();
        let indent = body.len() - words.len();
        // Comments are the reader's own.
        let code = words.split("/*").next().unwrap_or_default().trim_end();
        // So are the values, before the end of what returned them.
        let code = match code.split_once(" = ") {
            Some((returned, _)) => format!("{returned};").replace("};", "}"),
            None => code.to_owned(),
        };
        match code.strip_suffix("();") {
            _ if code.is_empty() => {}
            Some(leaf) => lines.extend([(indent, format!("{leaf}() {{")), (indent, "}".to_owned())]),
            None => lines.push((indent, code)),
        }
    }
    lines
}

/// What stands behind the bar of the function graph format.
fn bodies(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.split_once("|  ")?.1))
}

/// What `uftrace replay` shows of each task.
pub(crate) fn replayed(directory: &Path) -> Result<BTreeMap<u32, GraphLines>> {
    let replay = lines_of("uftrace", &["replay", "--no-pager", "--color=no", "-f", "tid"], directory)?;
    let mut bodies = BTreeMap::<u32, Vec<&str>>::new();
    for line in replay.iter().filter(|line| line.contains('[')) {
        let (tid, body) = line.split_once("] | ").with_context(|| format!("unexpected line {line:?}"))?;
        bodies.entry(tid.rsplit(['[', ' ']).next().unwrap_or_default().parse()?).or_default().push(body);
    }
    Ok(bodies.into_iter().map(|(tid, bodies)| (tid, graph_lines(bodies.into_iter()))).collect())
}

/// `uftrace replay` shows the calls that the text shows, one inside the other as there.
pub(crate) fn compare_replay(trace: &Trace, directory: &Path) -> Result<()> {
    let mut shown = replayed(directory)?;
    for thread in calls::threads(trace) {
        let text = text_of(&part_of(trace, thread.context))?;
        let expected = graph_lines(bodies(&text));
        let found = shown.remove(&trace.context_number(thread.context)).unwrap_or_default();
        ensure!(!expected.is_empty() && found == expected, "uftrace replays {found:?}, the text has {expected:?}");
    }
    ensure!(shown.is_empty(), "uftrace replays more: {shown:?}");
    Ok(())
}

/// A duration as uftrace prints it, in nanoseconds; none at all is 0.
fn nanoseconds(duration: &str) -> Result<f64> {
    let Some((number, unit)) = duration.trim().split_once(' ') else { return Ok(0.0) };
    let scale = match unit.trim() {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        other => anyhow::bail!("unknown unit {other}"),
    };
    Ok(number.parse::<f64>()? * scale)
}

/// `uftrace report` has the times that the summary has.
pub(crate) fn compare_report(trace: &Trace, directory: &Path) -> Result<()> {
    let mut reported = BTreeMap::new();
    for line in lines_of("uftrace", &["report", "--no-pager"], directory)?.iter().skip(2) {
        // Three columns of 12, then the name.
        let column = |number: usize| line.get(12 * number..12 * (number + 1)).unwrap_or_default();
        let figures = (column(2).trim().parse::<u64>()?, nanoseconds(column(0))?, nanoseconds(column(1))?);
        reported.insert(line.get(36..).unwrap_or_default().trim().to_owned(), figures);
    }
    let rows = summary::rows(trace);
    ensure!(rows.len() == reported.len(), "uftrace reports {reported:?}");
    for (name, row) in rows {
        let (calls, total, own) = *reported.get(&name).with_context(|| format!("uftrace does not report {name}"))?;
        ensure!(calls == row.calls, "{name}: {calls} calls are not {}", row.calls);
        // uftrace shows a thousandth of its unit.
        for (theirs, ours) in [(total, row.total), (own, row.own)] {
            let ours = ours as f64;
            ensure!((theirs - ours).abs() <= ours.max(1.0) * 0.002, "{name}: {theirs} is not {ours}");
        }
    }
    Ok(())
}

/// The whole microseconds in the column of durations. The marks are left out: trace-cmd has fewer than Linux.
fn micros_in(column: &str) -> Option<u64> {
    let number = column.trim().trim_start_matches(|mark: char| !mark.is_ascii_digit()).strip_suffix(" us")?;
    number.split('.').next()?.parse().ok()
}

/// A line of a graph with its indentation, and the name in it as trace-cmd shows it.
fn without_spaces_inside(body: &str) -> String {
    let words = body.trim_start();
    let indent = &body[..body.len() - words.len()];
    match words.split_once("()") {
        Some((name, rest)) => format!("{indent}{}(){rest}", name.replace(' ', "_")),
        None => body.to_owned(),
    }
}

/// `trace-cmd report` shows the lines that the text has, with their CPUs and durations.
pub(crate) fn compare_trace_cmd(trace: &Trace, file: &Path) -> Result<()> {
    let report = lines_of("trace-cmd", &["report"], file)?;
    let parsed = |line: &str| {
        let (_, after) = line.split_once(" [")?;
        let (cpu, after) = after.split_once("] ")?;
        let (_, graph) = after.split_once(": funcgraph_")?;
        let (duration, body) = graph.split_once(": ")?.1.split_once("|  ")?;
        Some((cpu.parse::<u32>().ok()?, micros_in(duration), body.trim_end().to_owned()))
    };
    let shown: Vec<_> = report.iter().filter_map(|line| parsed(line)).collect();
    let text = text_of(trace)?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("|  /*"));
    let expected: Vec<_> = lines
        .filter_map(|line| {
            let (head, body) = line.split_once("|  ")?;
            let (cpu, duration) = head.split_once(')')?;
            let body = body.split("/*").next()?.trim_end();
            Some((cpu.trim().parse().ok()?, micros_in(duration), without_spaces_inside(body)))
        })
        .collect();
    ensure!(!expected.is_empty() && shown == expected, "trace-cmd reports {shown:?}, the text has {expected:?}");
    let told: Vec<&str> =
        report.iter().filter(|line| line.contains(" EVENTS DROPPED]")).map(|line| line.trim()).collect();
    for cpu in &trace.cpus {
        let is_silent = !trace.events.iter().any(|event| event.cpu == cpu.id);
        let expected = if is_silent { vec![cpu.lost()] } else { vec![cpu.overwritten, cpu.refused] };
        let line = |lost: &u64| format!("CPU:{} [{lost} EVENTS DROPPED]", cpu.id);
        let expected: Vec<String> = expected.iter().filter(|lost| **lost > 0).map(line).collect();
        let of_cpu = format!("CPU:{} ", cpu.id);
        let found: Vec<&str> = told.iter().copied().filter(|line| line.starts_with(&of_cpu)).collect();
        ensure!(found == expected, "trace-cmd tells {found:?} of CPU {}, and not {expected:?}", cpu.id);
    }
    Ok(())
}
