//! The proof of the command: the demo is traced, and what comes out is compared with what it must be, and with what the
//! real readers make of it. A part of `cargo xtask test`.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fentry::tracer::dump::Dump;
use serde_json::Value;

use super::command::{Format, WORKLOAD};
use super::model::{Context, EventKind, Trace};
use super::record::{self, RecordTo, Tracer};
use super::{calls, summary, text};
use crate::kernels::variant::Variant;
use crate::progress::Step;

/// What was proved.
#[derive(Debug, Default)]
pub(crate) struct Proved {
    /// How many traces were as they must be.
    pub(crate) traces: usize,
    /// The readers that are not installed.
    pub(crate) left_out: Vec<&'static str>,
}

/// Traces the demo in each way, and checks each trace.
pub(crate) fn run(image: &Path, variant: &Variant, directory: &Path, step: &Step) -> Result<Proved> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let readers = ["uftrace", "trace-cmd", "rsvg-convert"];
    let left_out: Vec<_> = readers.into_iter().filter(|program| !is_installed(program)).collect();
    let mut proved = Proved { traces: 0, left_out };
    let mut of_one_cpu = Vec::new();
    for (tracer, cpus) in [(Tracer::Graph, 1), (Tracer::Function, 1), (Tracer::Profile, 1), (Tracer::Graph, 4)] {
        step.note(&format!("{tracer:?} on {cpus} CPUs"));
        let recording = RecordTo {
            image: image.to_owned(),
            tracer,
            filters: vec![WORKLOAD.to_owned()],
            depth: None,
            args: Some(2).filter(|_| tracer == Tracer::Function),
            append: None,
            cpu: variant.cpu.to_owned(),
            cpus,
            icount: true,
            limit: Duration::from_secs(60),
        };
        let check = || -> Result<Trace> {
            let dump = directory.join("trace.dump");
            recording.boot(&dump)?;
            check_counts(&std::fs::read(&dump)?)?;
            let trace = record::read(&dump, image)?;
            check_balance(&trace)?;
            if tracer != Tracer::Profile {
                check_formats(&trace, directory, &proved.left_out)?;
            }
            Ok(trace)
        };
        let trace = check().with_context(|| format!("{tracer:?} on {cpus} CPUs"))?;
        if cpus == 1 {
            of_one_cpu.push(calls_by_name(&trace));
        }
        proved.traces += 1;
    }
    let [graph, function, profile] = &of_one_cpu[..] else { return Ok(proved) };
    ensure!(!graph.is_empty() && graph == function && graph == profile, "the tracers disagree: {of_one_cpu:?}");
    Ok(proved)
}

/// How often each function was called.
fn calls_by_name(trace: &Trace) -> BTreeMap<String, u64> {
    summary::rows(trace).into_iter().map(|(name, row)| (name, row.calls)).collect()
}

/// Every record that was produced is in the dump, or counted as lost.
fn check_counts(bytes: &[u8]) -> Result<()> {
    let dump = Dump::parse(bytes)?;
    for cpu in 0..dump.cpus() {
        let counts = dump.counts(cpu).with_context(|| format!("CPU {cpu} has no counts"))?;
        let recorded = dump.events().filter(|event| event.cpu == cpu).count() as u64;
        let (produced, lost) = (counts.produced(), counts.lost());
        ensure!(produced == recorded + lost, "CPU {cpu} produced {produced}, recorded {recorded}, lost {lost}");
    }
    Ok(())
}

/// Every call that was entered was left, in the right order and at the right depth.
fn check_balance(trace: &Trace) -> Result<()> {
    let mut open = BTreeMap::<Context, Vec<u64>>::new();
    for event in &trace.events {
        let inside = open.entry(event.context()).or_default();
        match event.kind {
            EventKind::Entry { ip, depth, .. } => {
                ensure!(inside.len() == depth as usize, "{event:?} is inside {} calls", inside.len());
                inside.push(ip);
            }
            EventKind::Exit { ip, .. } => ensure!(inside.pop() == Some(ip), "{event:?} leaves another function"),
            EventKind::Function { .. } | EventKind::Marker { .. } => {}
        }
    }
    ensure!(open.values().all(Vec::is_empty), "calls were not left: {open:?}");
    Ok(())
}

/// Writes every format, and has its reader read it.
fn check_formats(trace: &Trace, directory: &Path, left_out: &[&str]) -> Result<()> {
    let has_returns = trace.events.iter().any(|event| matches!(event.kind, EventKind::Exit { .. }));
    for format in Format::ALL {
        // Function events have no durations to fold.
        if !has_returns && matches!(format, Format::Folded | Format::Svg) {
            continue;
        }
        let output = directory.join(format.default_output());
        format.write(trace, &output).with_context(|| format!("{format:?}"))?;
        let is_readable = |program| !left_out.contains(&program);
        match format {
            Format::Uftrace if is_readable("uftrace") && has_returns => {
                compare_replay(trace, &output)?;
                compare_report(trace, &output)
            }
            Format::TraceDat if is_readable("trace-cmd") && has_returns => compare_trace_cmd(trace, &output),
            Format::Perfetto => check_json(&output),
            Format::Svg if is_readable("rsvg-convert") => read_with("rsvg-convert", &[], &output).map(drop),
            _ => Ok(()),
        }
        .with_context(|| format!("{format:?}"))?;
    }
    Ok(())
}

/// Whether a reader can be started.
pub(super) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// What a reader prints; it must not complain.
pub(super) fn read_with(program: &str, args: &[&str], input: &Path) -> Result<Vec<u8>> {
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
pub(super) fn replayed(directory: &Path) -> Result<BTreeMap<u32, GraphLines>> {
    let replay = lines_of("uftrace", &["replay", "--no-pager", "--color=no", "-f", "tid"], directory)?;
    let mut bodies = BTreeMap::<u32, Vec<&str>>::new();
    for line in replay.iter().filter(|line| line.contains('[')) {
        let (tid, body) = line.split_once("] | ").with_context(|| format!("what is {line:?}"))?;
        bodies.entry(tid.rsplit(['[', ' ']).next().unwrap_or_default().parse()?).or_default().push(body);
    }
    Ok(bodies.into_iter().map(|(tid, bodies)| (tid, graph_lines(bodies.into_iter()))).collect())
}

/// `uftrace replay` shows the calls that the text shows, one inside the other as there.
pub(super) fn compare_replay(trace: &Trace, directory: &Path) -> Result<()> {
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
        other => anyhow::bail!("what unit is {other}"),
    };
    Ok(number.parse::<f64>()? * scale)
}

/// `uftrace report` has the times that the summary has.
pub(super) fn compare_report(trace: &Trace, directory: &Path) -> Result<()> {
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
pub(super) fn compare_trace_cmd(trace: &Trace, file: &Path) -> Result<()> {
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

/// The JSON can be read, and its events are in the order of time.
fn check_json(file: &PathBuf) -> Result<()> {
    let json: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let events = json["traceEvents"].as_array().context("there are no events")?;
    let times: Vec<f64> = events.iter().filter_map(|event| event["ts"].as_f64()).collect();
    ensure!(!times.is_empty() && times.is_sorted(), "the events are not ordered");
    Ok(())
}
