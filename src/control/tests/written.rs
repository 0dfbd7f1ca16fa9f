//! Lines as they are written, and how they are refused.

use super::*;

#[test]
fn lines_may_be_written_as_on_linux() {
    let mut fixture = fixture!();
    for line in ["", "   ", "# a comment", "\r\n"] {
        assert_eq!(fixture.run(line), "");
    }
    for (line, depth) in [
        ("echo 1 > max_graph_depth", "1\n"),
        ("echo 2>max_graph_depth\r\n", "2\n"),
        ("  echo  -n  '3'  >  /sys/kernel/tracing/max_graph_depth", "3\n"),
        ("echo \"4\" >> /sys/kernel/debug/tracing/max_graph_depth\n", "4\n"),
    ] {
        fixture.run(line);
        assert_eq!(fixture.run("cat max_graph_depth"), depth, "{line}");
    }
    let files: Vec<String> = fixture.run("ls").lines().map(String::from).collect();
    assert!(files.contains(&"set_ftrace_filter".to_string()) && files.is_sorted());
    for file in files {
        assert!(fixture.run(&format!("help {file}")).starts_with(&format!("{file}: ")));
        assert!(fixture.run("help").contains(&format!("\n{file}: ")));
    }
}

#[test]
fn a_line_is_refused_with_its_file_the_column_the_reason_and_a_caret() {
    let mut fixture = fixture!();
    for (line, file, column, reason) in [
        ("trace", "control", 1, Reason::UnknownCommand),
        ("  catalogue x", "control", 3, Reason::UnknownCommand),
        ("cat", "control", 4, Reason::NoFile),
        ("cat nosuch", "nosuch", 5, Reason::UnknownFile),
        ("cat trace trace", "control", 11, Reason::Extra),
        ("ls trace", "control", 4, Reason::Extra),
        ("echo 1", "control", 7, Reason::NotRedirected),
        ("echo f::<u8>", "control", 13, Reason::NoFile),
        ("echo <A as B>::f", "control", 17, Reason::NotRedirected),
        ("echo nop > current_tracer; echo > trace", "control", 26, Reason::OneCommand),
        ("echo a | b > trace_marker", "control", 8, Reason::OneCommand),
        ("echo [u8; 4]; > trace_marker", "control", 13, Reason::OneCommand),
        ("echo 1 > tracing_on 2", "control", 21, Reason::Extra),
        ("cat trace_marker", "trace_marker", 5, Reason::NotReadable),
        ("echo 1 > available_tracers", "available_tracers", 10, Reason::NotWritable),
        ("echo 2 > tracing_on", "tracing_on", 6, Reason::Expected("0 or 1")),
        ("echo > tracing_on", "tracing_on", 6, Reason::Expected("0 or 1")),
        ("echo -1 > max_graph_depth", "max_graph_depth", 6, Reason::Expected("A number")),
        ("echo '+1' > max_graph_depth", "max_graph_depth", 7, Reason::Expected("A number")),
        ("echo long > tracing_thresh", "tracing_thresh", 6, Reason::Expected("A number")),
        ("echo grph >current_tracer", "current_tracer", 6, Reason::UnknownTracer),
        ("echo 'disk::* nosuch' > set_ftrace_filter", "set_ftrace_filter", 15, Reason::NothingSelected),
        ("echo disk::* !nosuch* > set_ftrace_filter", "set_ftrace_filter", 14, Reason::NothingTakenAway),
        ("echo disk::read:traceof > set_ftrace_filter", "set_ftrace_filter", 17, Reason::FunctionCommand),
        (
            "echo disk::read:enable_event:a:b > set_ftrace_filter",
            "set_ftrace_filter",
            17,
            Reason::Event(crate::control::EventReason::NoEvents),
        ),
        ("echo disk::read:traceoff:many > set_ftrace_filter", "set_ftrace_filter", 26, Reason::Expected("A number")),
        ("echo nosuch:traceoff > set_ftrace_filter", "set_ftrace_filter", 6, Reason::NothingSelected),
        ("echo net::send !disk::read:dump > set_ftrace_filter", "set_ftrace_filter", 17, Reason::NoSuchCommand),
        ("echo disk::[a:dump > set_ftrace_filter", "set_ftrace_filter", 6, Reason::Glob(GlobError::OpenClass(6))),
        ("echo nosuch > set_graph_function", "set_graph_function", 6, Reason::NothingSelected),
        ("echo !disk::read >> set_graph_notrace", "set_graph_notrace", 6, Reason::NoSuchRule),
        ("echo 7 main > set_ftrace_pid", "set_ftrace_pid", 8, Reason::Expected("A number")),
        (
            "echo 0 > set_ftrace_notrace_pid",
            "set_ftrace_notrace_pid",
            6,
            Reason::Expected("The number of a task, which is not 0,"),
        ),
        (
            "echo 8 > tracing_cpumask",
            "tracing_cpumask",
            6,
            Reason::Expected("A hexadecimal mask of CPUs, one of them at least,"),
        ),
        ("echo nosuch > trace_options", "trace_options", 6, Reason::UnknownOption),
        ("echo 2 > options/sym-offset", "options/sym-offset", 6, Reason::Expected("0 or 1")),
        ("cat options/nosuch", "options/nosuch", 5, Reason::UnknownFile),
        ("cat per_cpu/cpu2/trace", "per_cpu/cpu2/trace", 5, Reason::UnknownFile),
        ("echo 1 > per_cpu/cpu1/stats", "per_cpu/cpu1/stats", 6, Reason::NotWritable),
        ("echo 0 > set_ftrace_filter", "set_ftrace_filter", 6, Reason::NoSuchLine { lines: 6 }),
        ("echo 1 7 > set_ftrace_filter", "set_ftrace_filter", 8, Reason::NoSuchLine { lines: 6 }),
        ("echo !net::send >> set_ftrace_notrace", "set_ftrace_notrace", 6, Reason::NoSuchRule),
        ("echo \x1b[2J > trace_marker", "control", 6, Reason::ControlCharacter),
        ("cat \u{e9}t\u{e9}", "\u{e9}t\u{e9}", 5, Reason::UnknownFile),
        ("echo \u{e9}t\u{e9} > current_tracer", "current_tracer", 6, Reason::UnknownTracer),
        ("echo '\u{e9} x' > set_ftrace_filter", "set_ftrace_filter", 7, Reason::NothingSelected),
        ("echo \u{e9} > \u{e9}", "control", 11, Reason::NotRedirected),
    ] {
        let before = fixture.all();
        let (refusal, out) = fixture.refused(line);
        assert_eq!(refusal.reason, reason, "{line}");
        let shown = line.replace('\x1b', "?");
        let caret = " ".repeat(column - 1);
        assert_eq!(
            out,
            format!("{file}: {column}: error: {reason}\n  Command: {shown}\n           {caret}^\n"),
            "{line}"
        );
        assert_eq!(fixture.all(), before, "{line}");
    }
    let (refusal, _) = fixture.refused(b"cat tr\xffce");
    assert_eq!(refusal, Refusal { at: 6, reason: Reason::NotUtf8 });
    // What is too long for the message is cut, and nothing comes behind the cut.
    let (_, out) = fixture.refused(format!("cat {}\u{e9}", "x".repeat(63)));
    assert!(out.starts_with(&format!("{}: 5: error: There", "x".repeat(63))), "{out}");
    assert_eq!(fixture.refused("x".repeat(LINE_BYTES + 1)).0, Refusal { at: LINE_BYTES, reason: Reason::TooLong });
    assert_eq!(fixture.refused("x".repeat(LINE_BYTES)).0, Refusal { at: 0, reason: Reason::UnknownCommand });
}

#[test]
fn the_last_refusals_stay_in_the_log() {
    let mut fixture = fixture!();
    assert_eq!(fixture.run("cat error_log"), "");
    let told: Vec<String> = (0..11).map(|number| fixture.refused(format!("cat file{number}")).1).collect();
    let log: String = told[3..].iter().map(|told| format!("[    0.000000] {told}")).collect();
    assert_eq!(fixture.run("cat error_log"), log);
    assert_eq!(fixture.run("echo > error_log"), "");
    assert_eq!(fixture.run("cat error_log"), "");
}
