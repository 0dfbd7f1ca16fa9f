//! What the real readers show of the files: the same functions, in the same order and nesting as the text. A test whose
//! reader is not installed says so, and the suite does not count it as passed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::left_out::leave_out;
use crate::trace::calls;
use crate::trace::formats::{folded, text, trace_dat, uftrace};
use crate::trace::model::{EventKind, Trace};
use crate::trace::proof::readers as proof;
use crate::trace::tests::fixture::{self, Scratch};

/// Whether a reader is installed. If not, says so past the test's captured output, in the words by which the suite knows
/// that this test has not passed.
fn is_installed(program: &str) -> bool {
    let found = proof::is_installed(program);
    if !found {
        leave_out(&format!("{program} is not installed; `cargo xtask setup --for-tests` installs it"));
    }
    found
}

/// Runs a reader; anything on its standard error fails the test.
fn read_with(program: &str, args: &[&str], input: &Path) -> String {
    String::from_utf8(proof::read_with(program, args, input).unwrap()).unwrap()
}

fn replayed(directory: &Path) -> BTreeMap<u32, Vec<(usize, String)>> {
    proof::replayed(directory).unwrap()
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

#[test]
fn uftrace_replays_the_graph_that_the_text_shows() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("replay");
    for trace in [fixture::graph(), fixture::full()] {
        proof::compare_replay(&trace, &uftrace_directory(&trace, &scratch)).unwrap();
    }
}

#[test]
fn uftrace_tells_what_was_lost_and_where() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("lost");
    let trace = fixture::full();
    let directory = uftrace_directory(&trace, &scratch);
    // Without the option, it leaves out what was lost outside of calls.
    let args = ["replay", "--kernel-full", "--no-pager", "--color=no", "-f", "tid"];
    let replay = read_with("uftrace", &args, &directory);
    let told: Vec<(usize, &str)> = replay.lines().enumerate().filter(|(_, line)| line.contains("LOST")).collect();
    let count = |line: &str| line.split_whitespace().skip_while(|word| *word != "LOST").nth(1).unwrap().parse::<u64>();
    let mut counts: Vec<u64> = told.iter().map(|(_, line)| count(line).unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [7, 9, 21, 22], "{replay}");
    // What was overwritten on CPU 1 is before its first event, the idle task's; what was refused on CPU 0 behind its last.
    let line_of = |number: u64| told.iter().find(|(_, line)| count(line) == Ok(number)).unwrap().0;
    let last = replay.lines().position(|line| line.contains("} = -5;")).unwrap();
    let idle = replay.lines().position(|line| line.contains("kernel::idle")).unwrap();
    assert!(line_of(21) < idle && line_of(7) > last, "{replay}");
    // The times are those of the same calls without losses.
    proof::compare_report(&trace, &directory).unwrap();
}

#[test]
fn readers_show_no_function_where_there_is_none() {
    let scratch = Scratch::new("gap");
    let mut trace = fixture::graph();
    trace.symbols.iter_mut().for_each(|symbol| symbol.size = 0x80);
    let gap = fixture::function(2) + 0x90;
    for event in &mut trace.events {
        if let EventKind::Entry { ip, .. } | EventKind::Exit { ip, .. } = &mut event.kind
            && *ip == fixture::function(2)
        {
            *ip = gap;
        }
    }
    assert_eq!(trace.name_at(gap), format!("{gap:#x}"));
    if is_installed("uftrace") {
        let replay = read_with("uftrace", &["replay", "--no-pager"], &uftrace_directory(&trace, &scratch));
        assert!(!replay.contains("kernel::step") && replay.contains("kernel::work"), "{replay}");
        assert!(replay.contains("no_function();"), "{replay}");
    }
    if is_installed("trace-cmd") {
        let report = read_with("trace-cmd", &["report"], &trace_dat_file(&trace, &scratch));
        assert!(!report.contains("kernel::step") && report.contains("kernel::work"), "{report}");
        assert!(report.contains("no_function();"), "{report}");
    }
}

#[test]
fn readers_read_a_trace_with_names_that_say_nothing() {
    let scratch = Scratch::new("blank");
    let mut trace = fixture::graph();
    trace.tasks[0].name = String::new();
    trace.tasks[1].name = "\t ".to_owned();
    trace.symbols[2].name = String::new();
    let mut folded = Vec::new();
    folded::write(&trace, &mut folded).unwrap();
    let folded = String::from_utf8(folded).unwrap();
    assert!(
        folded.lines().all(|line| line.rsplit_once(' ').unwrap().0.split(';').all(|name| !name.is_empty())),
        "{folded}"
    );
    if is_installed("trace-cmd") {
        let report = read_with("trace-cmd", &["report"], &trace_dat_file(&trace, &scratch));
        assert!(report.contains("<...>-7 ") && report.contains("kernel::work"), "{report}");
        assert!(!report.contains("kernel::step"), "{report}");
    }
    if is_installed("uftrace") {
        let replay = read_with("uftrace", &["replay", "--no-pager"], &uftrace_directory(&trace, &scratch));
        assert!(replay.contains("kernel::work") && !replay.contains("kernel::step"), "{replay}");
        let info = read_with("uftrace", &["info", "--no-pager"], &scratch.0.join("uftrace.data"));
        assert!(info.contains("7(<...>)") && info.contains("12(<...>)"), "{info}");
    }
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
        let mut high = low.clone();
        let raised = |addr: u64| addr - 0x4000_0000 + base;
        high.symbols.iter_mut().for_each(|symbol| symbol.addr = raised(symbol.addr));
        for event in &mut high.events {
            if let EventKind::Entry { ip, .. } | EventKind::Exit { ip, .. } = &mut event.kind {
                *ip = raised(*ip);
            }
        }
        high.check().unwrap();
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

#[test]
fn uftrace_reports_the_times_that_the_summary_has() {
    if !is_installed("uftrace") {
        return;
    }
    let scratch = Scratch::new("report");
    let trace = fixture::graph();
    proof::compare_report(&trace, &uftrace_directory(&trace, &scratch)).unwrap();
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
    for mut trace in [fixture::graph(), fixture::functions(), fixture::damaged()] {
        // It warns of what was lost.
        trace.cpus.iter_mut().for_each(|cpu| cpu.overwritten = 0);
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
    for trace in [fixture::graph(), fixture::damaged(), fixture::full()] {
        proof::compare_trace_cmd(&trace, &trace_dat_file(&trace, &scratch)).unwrap();
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
