//! What must hold of a trace: its own sums, its calls one inside the other, and what the real readers show of it. For the
//! tests of this crate, and for whoever checks the traces of a whole kernel as fentry's own suite does.

pub(super) mod readers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use fentry::tracer::dump::Dump;
use serde_json::Value;

use super::formats::{Format, summary};
use super::model::{Context, EventKind, Trace};
use super::record;

use readers::{compare_replay, compare_report, compare_trace_cmd, is_installed, read_with};

/// The programs that read exported traces, of those that are asked here.
const READERS: [&str; 3] = ["uftrace", "trace-cmd", "rsvg-convert"];

/// The readers that are not installed.
pub fn missing_readers() -> Vec<&'static str> {
    READERS.into_iter().filter(|program| !is_installed(program)).collect()
}

/// Checks the dump that the kernel of this image has left, and its exports, which are written into `directory`, by all
/// readers but those that are `left_out`; gives how often each function was called.
///
/// # Errors
///
/// The dump can't be read, or something does not hold.
pub fn check(dump: &Path, image: &Path, directory: &Path, left_out: &[&str]) -> Result<BTreeMap<String, u64>> {
    let trace = read(dump, image)?;
    // A profile has no events to export.
    if trace.profile.is_empty() {
        check_formats(&trace, directory, left_out)?;
    }
    Ok(calls_by_name(&trace))
}

/// Checks the dump itself, and gives how often each function was called.
///
/// # Errors
///
/// As [`check`].
pub fn calls(dump: &Path, image: &Path) -> Result<BTreeMap<String, u64>> {
    read(dump, image).map(|trace| calls_by_name(&trace))
}

/// Finds rings in an image of memory, checks what is left in them, and gives how often each function was called. A dump is written
/// into `directory`.
///
/// # Errors
///
/// There are none, or as [`check`].
pub fn calls_in_memory(memory: &Path, image: &Path, directory: &Path) -> Result<BTreeMap<String, u64>> {
    let dump = directory.join("memory.dump");
    super::memory::to_dump(memory, &dump)?;
    calls(&dump, image)
}

fn read(dump: &Path, image: &Path) -> Result<Trace> {
    check_counts(&std::fs::read(dump)?)?;
    let trace = record::read(dump, &record::functions_of(image)?)?;
    check_balance(&trace)?;
    Ok(trace)
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
