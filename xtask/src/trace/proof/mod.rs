//! Proves the command: traces a kernel, checks that the trace is whole, and compares what the real readers show with it. A part
//! of `cargo xtask test`.

pub(super) mod readers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fentry::tracer::dump::Dump;
use serde_json::Value;

use super::formats::{Format, summary};
use super::model::{Context, EventKind, Trace};
use super::record::{self, Recording, Tracer};
use crate::kernels::variant::Variant;
use crate::progress::Step;

use readers::{compare_replay, compare_report, compare_trace_cmd, is_installed, read_with};

/// The proof's result.
#[derive(Debug, Default)]
pub(crate) struct Proved {
    /// How many traces were checked.
    pub(crate) traces: usize,
    /// The readers that are not installed.
    pub(crate) left_out: Vec<&'static str>,
}

/// Traces these functions of a kernel with each tracer, and checks each trace.
pub(crate) fn run(image: &Path, functions: &str, variant: &Variant, directory: &Path, step: &Step) -> Result<Proved> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let readers = ["uftrace", "trace-cmd", "rsvg-convert"];
    let left_out: Vec<_> = readers.into_iter().filter(|program| !is_installed(program)).collect();
    let mut proved = Proved { traces: 0, left_out };
    let mut of_one_cpu = Vec::new();
    for (tracer, cpus) in [(Tracer::Graph, 1), (Tracer::Function, 1), (Tracer::Profile, 1), (Tracer::Graph, 4)] {
        step.note(&format!("{tracer:?} on {cpus} CPUs"));
        let recording = Recording {
            image: image.to_owned(),
            tracer,
            filters: vec![functions.to_owned()],
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

/// Every call is left in the right order and at the right depth.
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

/// Writes every format, and lets its reader read it.
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

/// The JSON can be read, and its events are in the order of time.
fn check_json(file: &PathBuf) -> Result<()> {
    let json: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let events = json["traceEvents"].as_array().context("there are no events")?;
    let times: Vec<f64> = events.iter().filter_map(|event| event["ts"].as_f64()).collect();
    ensure!(!times.is_empty() && times.is_sorted(), "the events are not ordered");
    Ok(())
}
