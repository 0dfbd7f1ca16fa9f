//! Lines that nobody has thought of.

use super::*;

/// Lines as somebody may type them who does not know how, and worse.
struct Typist(u64);

impl Typist {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % count
    }

    fn line(&mut self) -> Vec<u8> {
        const PARTS: [&str; 50] = [
            "echo",
            "cat",
            "ls",
            "help",
            " ",
            " ",
            " ",
            ">",
            ">>",
            " > ",
            " >> ",
            "'",
            "\"",
            "!",
            "*",
            "?",
            "[",
            "]",
            "\\",
            ":mod:",
            ":",
            "::",
            "0",
            "1",
            "99",
            "disk::",
            "read",
            "net::send",
            "<[u8; 4] as Debug>::fmt",
            "function",
            "nop",
            "function_graph",
            "current_tracer",
            "set_ftrace_filter",
            "set_ftrace_notrace",
            "tracing_on",
            "trace",
            "\t",
            "\u{e9}",
            "function_profile_enabled",
            "set_graph_function",
            "set_graph_notrace",
            "set_ftrace_pid",
            "tracing_cpumask",
            "trace_options",
            "snapshot",
            "disk::poll",
            ":traceoff",
            ":stacktrace:3",
            "nofuncgraph-cpu",
        ];
        let mut line = Vec::new();
        if self.below(4) > 0 {
            line.extend(["echo ", "cat "][self.below(8) / 7].as_bytes());
        }
        for _ in 0..self.below(8) {
            match self.below(12) {
                0 => line.push(self.below(256) as u8),
                _ => line.extend(PARTS[self.below(PARTS.len())].as_bytes()),
            }
        }
        if self.below(3) > 0 {
            let file = PARTS[[32, 33, 34, 35, 36, 39, 40, 41, 42, 43, 44, 45][self.below(12)]];
            line.extend(format!("{}{file}", [" > ", " >> "][self.below(2)]).as_bytes());
        }
        line
    }
}

#[test]
fn no_line_panics_and_a_refused_one_changes_nothing() {
    let mut fixture = fixture!();
    let mut typist = Typist(0x9e37_79b9_7f4a_7c15);
    // `FENTRY_LINES_SECONDS=600 cargo test no_line_panics` goes on for ten minutes.
    let seconds = std::env::var("FENTRY_LINES_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let end = seconds.map(|seconds| std::time::Instant::now() + std::time::Duration::from_secs(seconds));
    let usual = if cfg!(miri) { 60 } else { 20_000 };
    let (mut lines, mut refused, mut before) = (0, 0, fixture.all());
    while end.map_or(lines < usual, |end| std::time::Instant::now() < end) {
        lines += 1;
        let line = typist.line();
        let mut out = String::new();
        let done = fixture.control.execute(&line, &mut out);
        let after = fixture.all();
        if let Err(refusal) = done {
            refused += 1;
            let line = String::from_utf8_lossy(&line);
            assert_eq!(after, before, "{line:?} was refused: {refusal}");
            assert!(out.contains(": error: ") && out.ends_with("^\n"), "{line:?}: {out}");
        }
        before = after;
    }
    // Neither kind is rare.
    assert!((lines / 4..lines * 19 / 20).contains(&refused), "{refused} of {lines}");
    assert_eq!(fixture.engine.check_text().wrong, 0);
}
