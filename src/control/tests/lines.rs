//! Lines as people type them elsewhere.

use super::*;

/// What `one_liners.txt` expects of each line.
const LINES: &str = include_str!("one_liners.txt");

/// The state in which each line is tried.
const RESET: [&str; 16] = [
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

#[test]
fn lines_of_elsewhere_work_or_are_refused_with_the_right_reason() {
    let mut fixture = fixture!();
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
        if expected != "?" && !said.starts_with(expected) {
            wrong.push(format!("{line}\n    {said}, and not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
