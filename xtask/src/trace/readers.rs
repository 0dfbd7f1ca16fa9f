//! What the real readers make of the files: the same functions, in the same order, one inside the other as the text
//! has them. A reader that is not installed is said to be missing, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::fixture::{self, Scratch};
use super::model::{Context, EventKind, Trace};
use super::{calls, folded, text, trace_dat, uftrace};

/// Whether a reader can be run. Where not, that is said past the test's captured output.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        let missing =
            format!("LEFT OUT: {program} is not installed; `cargo xtask setup --trace-readers` installs it\n");
        std::io::stderr().write_all(missing.as_bytes()).unwrap();
    }
    found
}

/// What a reader prints; it must not complain.
fn read_with(program: &str, args: &[&str], input: &Path) -> String {
    let option = if program == "uftrace" { "-d" } else { "-i" };
    let output = Command::new(program).args(args).arg(option).arg(input).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{program} {args:?}: {}: {complaints}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn uftrace_directory(trace: &Trace, scratch: &Scratch) -> PathBuf {
    let directory = scratch.0.join("uftrace.data");
    uftrace::write(trace, &directory).unwrap();
    directory
}

fn trace_dat_file(trace: &Trace, scratch: &Scratch) -> PathBuf {
    let path = scratch.0.join("trace.dat");
    let mut file = Vec::new();
    trace_dat::write(trace, &mut file).unwrap();
    fs::write(&path, file).unwrap();
    path
}

fn text_of(trace: &Trace) -> String {
    let mut out = Vec::new();
    text::write(trace, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The part of the trace that one context recorded.
fn part_of(trace: &Trace, context: Context) -> Trace {
    let mut part = trace.clone();
    part.events.retain(|event| event.context() == context);
    part
}

/// Calls and returns of a graph, each with its indentation: `(2, "f() {")`, `(2, "}")`.
fn graph_lines<'a>(bodies: impl Iterator<Item = &'a str>) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    for body in bodies {
        let words = body.trim_start();
        let indent = body.len() - words.len();
        // Comments are the reader's own.
        let code = words.split("/*").next().unwrap().trim_end();
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
fn replayed(directory: &Path) -> BTreeMap<u32, Vec<(usize, String)>> {
    let replay = read_with("uftrace", &["replay", "--no-pager", "--color=no", "-f", "tid"], directory);
    let mut bodies = BTreeMap::<u32, Vec<&str>>::new();
    for line in replay.lines().filter(|line| line.contains('[')) {
        let (tid, body) = line.split_once("] | ").unwrap();
        bodies.entry(tid.trim_start_matches([' ', '[']).parse().unwrap()).or_default().push(body);
    }
    bodies.into_iter().map(|(tid, bodies)| (tid, graph_lines(bodies.into_iter()))).collect()
}

#[test]
fn uftrace_replays_the_graph_that_the_text_shows() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("replay");
    let trace = fixture::graph();
    let mut shown = replayed(&uftrace_directory(&trace, &scratch));
    for thread in calls::threads(&trace) {
        let text = text_of(&part_of(&trace, thread.context));
        let expected = graph_lines(bodies(&text));
        assert!(!expected.is_empty());
        assert_eq!(shown.remove(&trace.context_number(thread.context)), Some(expected), "{:?}", thread.context);
    }
    assert!(shown.is_empty());
}

#[test]
fn uftrace_shows_what_was_returned() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("returned");
    let directory = uftrace_directory(&fixture::graph(), &scratch);
    let replay = read_with("uftrace", &["replay", "--no-pager", "-f", "none"], &directory);
    let values: Vec<&str> = replay.lines().filter_map(|line| line.split_once("} = ")?.1.split(';').next()).collect();
    assert_eq!(values, ["512", "0", "-5", "-5001"]);
}

#[test]
fn uftrace_takes_addresses_of_the_upper_half() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("upper");
    let low = fixture::graph();
    let expected = replayed(&uftrace_directory(&low, &scratch));
    for base in [0xffff_0000_0000_0000, 0xffff_8000_0000_0000, 0xffff_ffff_8000_0000_u64] {
        let mut json: Value = serde_json::from_str(&low.to_interchange()).unwrap();
        for (list, field) in [("symbols", "addr"), ("events", "ip")] {
            for item in json["trace"][list].as_array_mut().unwrap() {
                if let Some(addr) = item[field].as_u64() {
                    item[field] = (addr + base - 0x4000_0000).into();
                }
            }
        }
        let high = Trace::from_interchange(json.to_string().as_bytes()).unwrap();
        assert_eq!(replayed(&uftrace_directory(&high, &scratch)), expected, "{base:#x}");
    }
}

#[test]
fn uftrace_names_tasks_and_markers() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("names");
    let directory = uftrace_directory(&fixture::graph(), &scratch);
    let info = read_with("uftrace", &["info", "--no-pager"], &directory);
    let tasks = info.lines().find(|line| line.contains("task list")).unwrap();
    for task in ["7(worker)", "12(disk reader)", "14(<idle>/1)"] {
        assert!(tasks.contains(task), "{tasks}");
    }
    let replay = read_with("uftrace", &["replay", "--no-pager"], &directory);
    assert!(replay.contains("/* marker:half_done:_50_% */"), "{replay}");
}

/// A duration as uftrace prints it, in nanoseconds; none at all is 0.
fn nanoseconds(duration: &str) -> f64 {
    let Some((number, unit)) = duration.trim().split_once(' ') else { return 0.0 };
    let scale = match unit.trim() {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        other => panic!("what unit is {other}"),
    };
    number.parse::<f64>().unwrap() * scale
}

#[test]
fn uftrace_reports_the_times_that_the_summary_has() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("report");
    let trace = fixture::graph();
    let report = read_with("uftrace", &["report", "--no-pager"], &uftrace_directory(&trace, &scratch));
    let mut reported = BTreeMap::new();
    // Three columns of 12, then the name.
    for line in report.lines().skip(2) {
        let (total, rest) = line.split_at(12);
        let (own, rest) = rest.split_at(12);
        let (calls, name) = rest.split_at(12);
        let figures = (calls.trim().parse::<u64>().unwrap(), nanoseconds(total), nanoseconds(own));
        reported.insert(name.trim().to_owned(), figures);
    }
    let rows = super::summary::rows(&trace);
    assert_eq!(rows.len(), reported.len(), "{report}");
    for (name, row) in rows {
        let (calls, total, own) = reported[&name];
        assert_eq!(calls, row.calls, "{name}");
        // uftrace shows a thousandth of its unit.
        for (theirs, ours) in [(total, row.total), (own, row.own)] {
            let ours = ours as f64;
            assert!((theirs - ours).abs() <= ours.max(1.0) * 0.002, "{name}: {theirs} is not {ours}");
        }
    }
}

#[test]
fn uftrace_folds_the_stacks_that_we_fold() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("folded");
    for trace in [fixture::graph(), fixture::damaged()] {
        let directory = uftrace_directory(&trace, &scratch);
        let args = ["dump", "--flame-graph", "--sample-time", "1ns", "--no-pager"];
        let theirs = read_with("uftrace", &args, &directory);
        let parsed = |line: &str| {
            let (stack, time) = line.rsplit_once(' ').unwrap();
            (stack.to_owned(), time.parse::<u64>().unwrap())
        };
        // They keep the semicolon in a name.
        let theirs: BTreeMap<_, _> = theirs.lines().map(|line| parsed(&line.replace("; ", ": "))).collect();
        let mut folded = Vec::new();
        folded::write(&trace, &mut folded).unwrap();
        let mut ours = BTreeMap::<String, u64>::new();
        for (stack, time) in String::from_utf8(folded).unwrap().lines().map(parsed) {
            // They do not tell tasks apart.
            let (_, functions) = stack.split_once(';').unwrap();
            *ours.entry(functions.to_owned()).or_default() += time;
        }
        assert_eq!(ours, theirs);
    }
}

#[test]
fn uftrace_makes_graphs_and_chrome_traces_of_all() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("graph");
    for trace in [fixture::graph(), fixture::functions(), fixture::damaged()] {
        let directory = uftrace_directory(&trace, &scratch);
        let threads = calls::threads(&trace);
        let graph = read_with("uftrace", &["graph", "--no-pager"], &directory);
        for thread in &threads {
            for call in &thread.calls {
                assert!(graph.contains(&*trace.name_at(call.ip)), "{graph}");
            }
        }
        let chrome: Value =
            serde_json::from_str(&read_with("uftrace", &["dump", "--chrome", "--no-pager"], &directory)).unwrap();
        let begins = chrome["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "B").count();
        let calls: usize = threads.iter().map(|thread| thread.calls.len()).sum();
        let functions = trace.events.iter().filter(|event| matches!(event.kind, EventKind::Function { .. })).count();
        assert_eq!(begins, calls + functions);
    }
}

#[test]
fn uftrace_replays_function_events_in_their_order() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("functions");
    let trace = fixture::functions();
    let directory = uftrace_directory(&trace, &scratch);
    let replay = read_with("uftrace", &["replay", "--no-pager", "--color=no", "-f", "none"], &directory);
    let calls = replay.lines().filter_map(|line| line.trim().strip_suffix(");"));
    let shown: Vec<&str> = calls.clone().map(|call| call.rsplit_once('(').unwrap().0).collect();
    assert_eq!(shown, functions_of(&text_of(&trace)).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    let with_arguments: Vec<&str> = calls.filter(|call| !call.ends_with('(')).collect();
    assert_eq!(with_arguments, ["<kernel::disk::Disk as kernel::io::Read>::read(0x40100000, 0x200"]);
}

/// The functions of the function tracer's text, with their callers.
fn functions_of(text: &str) -> Vec<(String, String)> {
    let calls = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" <-"));
    let name =
        |line: &str| line.split_once(": ").map_or(line, |(_, call)| call).split("(0x").next().unwrap().to_owned();
    calls.map(|(call, caller)| (name(call), caller.to_owned())).collect()
}

/// Names as trace-cmd shows them.
fn without_spaces(name: &str) -> String {
    name.replace(' ', "_")
}

#[test]
fn trace_cmd_reports_the_graph_that_the_text_shows() {
    if !is_installed("trace-cmd") {
        return;
    }
    let scratch = Scratch::new("report-graph");
    for trace in [fixture::graph(), fixture::damaged()] {
        let report = read_with("trace-cmd", &["report"], &trace_dat_file(&trace, &scratch));
        // The CPU, the duration, and the line of the graph.
        let mut shown = Vec::new();
        for line in report.lines().filter(|line| line.contains(": funcgraph_")) {
            let (_, after) = line.split_once(" [").unwrap();
            let (cpu, after) = after.split_once("] ").unwrap();
            let (_, graph) = after.split_once(": funcgraph_").unwrap();
            let (duration, body) = graph.split_once(": ").unwrap().1.split_once("|  ").unwrap();
            shown.push((cpu.parse::<u32>().unwrap(), micros_in(duration), body.trim_end().to_owned()));
        }
        let text = text_of(&trace);
        let mut expected = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.contains("|  /*")) {
            let Some((head, body)) = line.split_once("|  ") else { continue };
            let (cpu, duration) = head.split_once(')').unwrap();
            let body = body.split("/*").next().unwrap().trim_end();
            expected.push((cpu.trim().parse().unwrap(), micros_in(duration), without_spaces_inside(body)));
        }
        assert_eq!(shown, expected);
        for cpu in &trace.cpus {
            let dropped = format!("CPU:{} [{} EVENTS DROPPED]", cpu.id, cpu.lost);
            assert_eq!(report.contains(&dropped), cpu.lost > 0, "{report}");
        }
    }
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
        Some((name, rest)) => format!("{indent}{}(){rest}", without_spaces(name)),
        None => body.to_owned(),
    }
}

#[test]
fn trace_cmd_reports_function_events_markers_and_tasks() {
    if !is_installed("trace-cmd") {
        return;
    }
    let scratch = Scratch::new("report-functions");
    let trace = fixture::functions();
    let report = read_with("trace-cmd", &["report", "-O", "parent"], &trace_dat_file(&trace, &scratch));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let shown: Vec<Vec<String>> = report.lines().filter(|line| line.contains("] ")).map(words).collect();
    let text = text_of(&trace);
    let expected = text.lines().filter(|line| line.contains("] "));
    let mut functions = functions_of(&text).into_iter();
    let expected: Vec<Vec<String>> = expected
        .map(|line| {
            let (task, after) = line.split_once(" [").unwrap();
            let mut words = vec![without_spaces(task.trim()), format!("[{}", after.split(' ').next().unwrap())];
            words.push(after.split_whitespace().nth(2).unwrap().to_owned());
            match line.split_once("tracing_mark_write: ") {
                Some((_, marker)) => words.extend(format!("print: 0x0: {marker}").split(' ').map(str::to_owned)),
                None => {
                    let (name, caller) = functions.next().unwrap();
                    words.extend(["function:".to_owned(), without_spaces(&name)]);
                    words.extend(["<--".to_owned(), without_spaces(&caller)]);
                }
            }
            words
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn trace_cmd_reads_long_traces() {
    if !is_installed("trace-cmd") {
        return;
    }
    let scratch = Scratch::new("report-long");
    // Many pages; gaps beyond the 27 bits of a time; markers beyond the length in an event's first word.
    let long = "m".repeat(200);
    let events = (0..2000_u64).flat_map(|number| {
        let time = number * 1_000_000 + number.pow(2) * 300_000;
        let function = fixture::function(number % 10);
        [
            fixture::entry(time, function, 0),
            fixture::exit(time + number, function, 0, time),
            fixture::marker(time + number + 5, &long),
        ]
    });
    let trace = fixture::of_events(events.collect());
    let path = trace_dat_file(&trace, &scratch);
    let report = read_with("trace-cmd", &["report", "-t"], &path);
    let time_of = |line: &str| {
        let (_, after) = line.split_once("] ").unwrap();
        after.trim().split(':').next().unwrap().replace('.', "").parse::<u64>().unwrap()
    };
    // The entry and the exit are one line, and a marker is one.
    let shown: Vec<u64> = report.lines().filter(|line| line.contains("] ")).map(time_of).collect();
    let lines = trace.events.iter().filter(|event| !matches!(event.kind, EventKind::Exit { .. }));
    assert_eq!(shown, lines.map(|event| event.time_ns).collect::<Vec<_>>());
    assert_eq!(report.lines().filter(|line| line.ends_with(&long)).count(), 2000);
}
