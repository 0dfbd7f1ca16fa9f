//! Lines as people type them elsewhere.

use super::*;
use crate::control::Events;
use crate::kprobe::Kprobes;

/// What `one_liners.txt` expects of each line.
const LINES: &str = include_str!("one_liners.txt");

/// The state in which each line is tried.
const RESET: [&str; 18] = [
    "echo 0 > events/enable",
    "echo > dynamic_events",
    "echo nop > current_tracer",
    "echo 0 > function_profile_enabled",
    "echo > set_ftrace_filter",
    "echo > set_ftrace_notrace",
    "echo > set_graph_function",
    "echo > set_graph_notrace",
    "echo > set_ftrace_pid",
    "echo > set_ftrace_notrace_pid",
    "echo 0 > max_graph_depth",
    "echo 3 > tracing_cpumask",
    "echo 1 > tracing_on",
    "echo 0 > snapshot",
    "echo noprint-parent > trace_options",
    "echo print-parent > trace_options",
    "echo > error_log",
    "echo > trace",
];

/// Where events are recorded that lines define.
struct Recorded;

static MEMORY: [RingBlock; 2] = [const { RingBlock::new() }; 2];
static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
static SLOTS: [ProfileSlot; 2] = [const { ProfileSlot::new() }; 2];
static PROFILE: Profile = Profile::new(&SLOTS);
static TRACING: Tracing<Recorded> = Tracing::new();
static EVENTS: spin::Once<Events<Recorded, 4>> = spin::Once::new();

impl RecordTo for Recorded {
    fn ring() -> &'static Ring {
        &RING
    }
    fn task() -> u32 {
        1
    }
}

impl StoreIn<Profile> for Recorded {
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<Tracing<Self>> for Recorded {
    fn store() -> &'static Tracing<Self> {
        &TRACING
    }
}

impl StoreIn<Events<Self, 4>> for Recorded {
    fn store() -> &'static Events<Self, 4> {
        EVENTS.wait()
    }
}

#[test]
fn lines_of_elsewhere_work_or_are_refused_with_the_right_reason() {
    let mut fixture = fixture!();
    let kprobes: &'static Kprobes<4> = Box::leak(Box::new(Kprobes::new(fixture.engine)));
    let events = || Events::new(kprobes).with_memory(|_, _| false).with_task_names(|_| Some("main"));
    fixture.control = fixture.control.with_events(EVENTS.call_once(events).parts());
    let lines: Vec<(&str, &str)> = LINES.lines().filter_map(|line| line.split_once('\t')).collect();
    assert!(lines.len() >= 300, "{}", lines.len());
    let mut wrong = Vec::new();
    for (expected, line) in lines {
        RESET.iter().for_each(|line| drop(fixture.run(line)));
        // Commands at functions stay until they are removed.
        for command in fixture.run("cat set_ftrace_filter").lines().filter_map(|line| line.rsplit_once(':')) {
            fixture.run(&format!("echo '!{}:0' > set_ftrace_filter", command.0));
        }
        let before = fixture.all();
        let mut out = String::new();
        let said = match fixture.control.execute(line, &mut out) {
            Ok(()) => "ok".to_string(),
            Err(refusal) => {
                assert_eq!(fixture.all(), before, "{line} was refused: {refusal}");
                refusal.reason.to_string()
            }
        };
        if !said.starts_with(expected) {
            wrong.push(format!("{line}\n    {said}, and not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
