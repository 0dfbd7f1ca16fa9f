//! Trace events in JSON, for Perfetto's UI and `chrome://tracing`: one track a task, calls as `B` and `E`, function
//! events and markers as instants. In the order of time.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::spelling::in_one_line;
use crate::trace::calls::{self, StepKind, Thread};
use crate::trace::model::{Cpu, EventKind, Trace};

/// The process that all tracks are in. Not 0, which stands for idle CPUs.
const PROCESS: u32 = 1;

/// Writes the JSON.
pub(crate) fn write(trace: &Trace, out: &mut impl Write) -> Result<()> {
    let threads = calls::threads(trace);
    let numbers: Vec<u32> = threads.iter().map(|thread| trace.context_number(thread.context)).collect();
    writeln!(out, "{{\"displayTimeUnit\":\"ns\",\"otherData\":{},", other_data(trace))?;
    write!(out, "\"traceEvents\":[\n{}", metadata("process_name", PROCESS, "kernel"))?;
    for (thread, number) in threads.iter().zip(&numbers) {
        write!(out, ",\n{}", metadata("thread_name", *number, &trace.context_name(thread.context)))?;
    }
    for (index, step) in calls::by_time(&threads) {
        let mut event = event(trace, &threads[index], step.kind);
        // Microseconds, with the nanoseconds behind the point.
        event["ts"] = json!(step.time_ns as f64 / 1000.0);
        event["pid"] = json!(PROCESS);
        event["tid"] = json!(numbers[index]);
        event["args"]["cpu"] = json!(step.cpu);
        write!(out, ",\n{event}")?;
    }
    writeln!(out, "\n]}}")?;
    Ok(())
}

fn other_data(trace: &Trace) -> Value {
    let of_cpu = |cpu: &Cpu| {
        [("overwritten", cpu.overwritten), ("refused", cpu.refused)]
            .map(|(what, count)| (format!("{what} events of CPU {}", cpu.id), json!(count)))
    };
    let mut data: serde_json::Map<String, Value> = trace.cpus.iter().flat_map(of_cpu).collect();
    data.extend(trace.damage.iter().map(|damage| ("damage".to_owned(), json!(damage))));
    Value::Object(data)
}

fn metadata(what: &str, thread: u32, name: &str) -> Value {
    json!({"name": what, "ph": "M", "pid": PROCESS, "tid": thread, "args": {"name": name}})
}

/// What is of this event alone.
fn event(trace: &Trace, thread: &Thread, kind: StepKind) -> Value {
    let hex = |value: u64| format!("{value:#x}");
    match kind {
        StepKind::Enter(call) => {
            let call = &thread.calls[call];
            let mut event = json!({"name": trace.name_at(call.ip), "cat": "call", "ph": "B"});
            if let Some(parent) = call.parent {
                event["args"]["caller"] = json!(trace.name_at(parent));
            }
            event
        }
        StepKind::Leave(call) => {
            let call = &thread.calls[call];
            let mut event = json!({"name": trace.name_at(call.ip), "cat": "call", "ph": "E"});
            if call.duration_ns.is_none() {
                event["args"]["note"] = json!("the return is not in the trace");
            }
            if let Some(value) = call.retval {
                event["args"]["returned"] = json!(hex(value));
            }
            event
        }
        StepKind::Instant(index) => match &trace.events[index].kind {
            EventKind::Function { ip, parent, args } => {
                let name = trace.name_at(*ip);
                let mut event = json!({"name": name, "cat": "function", "ph": "i", "s": "t"});
                event["args"]["caller"] = json!(trace.name_at(*parent));
                for (number, arg) in args.iter().enumerate() {
                    event["args"][format!("x{number}")] = json!(hex(*arg));
                }
                event
            }
            EventKind::Marker { text } => json!({"name": in_one_line(text), "cat": "marker", "ph": "i", "s": "p"}),
            // Calls; they are steps of their own.
            EventKind::Entry { .. } | EventKind::Exit { .. } => json!({}),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::formats::tests::expect_golden;
    use crate::trace::tests::fixture;

    fn json_of(trace: &Trace) -> Value {
        let mut out = Vec::new();
        write(trace, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn json_is_as_expected() {
        for (name, trace) in [("graph.json", fixture::graph()), ("functions.json", fixture::functions())] {
            let mut out = Vec::new();
            write(&trace, &mut out).unwrap();
            expect_golden(name, &out);
        }
    }

    #[test]
    fn events_are_ordered_balanced_and_on_named_tracks() {
        for trace in [fixture::graph(), fixture::functions(), fixture::damaged()] {
            let json = json_of(&trace);
            let mut named = Vec::new();
            let mut time = 0.0;
            let mut stacks = std::collections::BTreeMap::<i64, Vec<Value>>::new();
            for event in json["traceEvents"].as_array().unwrap() {
                let thread = event["tid"].as_i64().unwrap();
                assert!(event["name"].is_string() && event["pid"].is_number() && event["args"].is_object());
                let phase = event["ph"].as_str().unwrap();
                if phase == "M" {
                    named.push(thread);
                    continue;
                }
                assert!(named.contains(&thread));
                let at = event["ts"].as_f64().unwrap();
                assert!(at >= time);
                time = at;
                let stack = stacks.entry(thread).or_default();
                match phase {
                    "B" => stack.push(event["name"].clone()),
                    "E" => assert_eq!(stack.pop().unwrap(), event["name"]),
                    other => assert_eq!((other, event["s"].is_string()), ("i", true)),
                }
            }
            assert!(stacks.values().all(Vec::is_empty));
        }
    }
}
