//! The kernel `console`, asked by lines as `cargo xtask console` asks it, while four CPUs work.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cargo_fentry::qemu::Boot;
use cargo_fentry::terminal;

/// The kernel.
pub(crate) const KERNEL: &str = "console";

/// How long a line reads that has no end of its own.
const PIPE: Duration = Duration::from_secs(2);

/// A line, and what must be in what the kernel says to it.
const ASKED: [(&str, &[&str]); 30] = [
    ("help tracing_on", &["tracing_on: 0: nothing is recorded"]),
    ("echo nosuch > set_ftrace_filter", &["set_ftrace_filter: 6: error: The rule selects no traceable function", "^"]),
    ("echo 'console::work::*' > set_ftrace_filter", &[]),
    ("echo console::work::serve > set_graph_function", &[]),
    ("echo function_graph > current_tracer", &[]),
    (
        "cat trace_pipe",
        &["|  console::work::serve() {", "|    console::work::disk::read() {", "} /* console::work::serve */"],
    ),
    ("echo > set_graph_function", &[]),
    // Beside that, another one.
    ("mkdir instances/disk", &[]),
    ("echo console::work::disk::seek > instances/disk/set_ftrace_filter", &[]),
    ("echo function > instances/disk/current_tracer", &[]),
    ("cat instances/disk/trace_pipe", &["console::work::disk::seek <-console::work::disk::read"]),
    ("cat current_tracer", &["function_graph\n"]),
    ("rmdir instances/disk", &[]),
    // An event, counted, and a function that fails.
    ("echo 'p:reads console::work::disk::read block=$arg1' > kprobe_events", &[]),
    ("echo 'hist:keys=block.buckets=1000000' > events/kprobes/reads/trigger", &[]),
    ("echo disk::read > fail_function/inject", &[]),
    ("echo 100 > fail_function/probability", &[]),
    ("cat trace_pipe", &["FAULT_INJECTION: forcing a failure."]),
    ("cat events/kprobes/reads/hist", &["{ block: ~ 0-999999 } hitcount:"]),
    ("echo > fail_function/inject", &[]),
    ("echo > events/kprobes/reads/trigger", &[]),
    ("echo > kprobe_events", &[]),
    // The last calls of a CPU.
    ("echo flight_recorder > current_tracer", &[]),
    ("cat per_cpu/cpu1/trace", &["# tracer: flight_recorder", "console::work::disk::read(0x"]),
    ("echo function_graph > current_tracer", &[]),
    // Everything, the console's own functions and the reader's included, while it is read.
    ("echo > set_ftrace_filter", &[]),
    ("echo function > current_tracer", &[]),
    // (What the workers do most of the time is to rest.)
    ("cat trace_pipe", &[" <-console::work::until", "support::console::read <-console::"]),
    ("echo 'console::work::*' > set_ftrace_filter", &[]),
    ("cat current_tracer", &["function\n"]),
];

/// Asks the kernel, and has what it recorded exported; returns how many lines were right.
pub(crate) fn run(image: &Path, boot: &Boot, directory: &Path) -> Result<usize> {
    let lines = ASKED.map(|(line, _)| line);
    let said = terminal::ask_all(image, boot, &lines, PIPE, directory)?;
    for ((line, expected), said) in ASKED.iter().zip(&said) {
        let missing = expected.iter().find(|part| !said.contains(**part));
        ensure!(missing.is_none(), "{line}: {:?} is not in what the kernel says: {said}", missing.unwrap_or(&""));
        ensure!(!expected.is_empty() || said.is_empty(), "{line}: the kernel says {said}");
    }
    let text = directory.join("trace.txt");
    let text = std::fs::read_to_string(&text).with_context(|| format!("there is no {}", text.display()))?;
    ensure!(text.contains("console::work::"), "the exported trace has no call of the workers");
    Ok(said.len())
}
