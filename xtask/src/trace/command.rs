//! The command line of `cargo xtask trace`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::model::Trace;
use super::{flamegraph, folded, perfetto, summary, text, trace_dat, uftrace};
use crate::progress::Step;

/// Write a recorded trace as other tools read it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask trace --from trace.json --format uftrace && uftrace replay\n  \
                        cargo xtask trace --from trace.json --format svg --output flames.svg")]
pub(crate) struct TraceArgs {
    /// The trace, in the interchange form: JSON
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where to write it [default: by the format, in the current directory]
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text, as Linux's tracers print it
    Text,
    /// A data directory for uftrace
    Uftrace,
    /// A file for trace-cmd and KernelShark
    #[value(name = "trace.dat")]
    TraceDat,
    /// JSON for Perfetto and chrome://tracing
    Perfetto,
    /// Stacks with their self time, for flame graph tools
    Folded,
    /// A flame graph
    Svg,
}

impl Format {
    /// The name that its readers look for, or the usual one.
    fn default_output(self) -> &'static str {
        match self {
            Self::Text => "trace.txt",
            Self::Uftrace => "uftrace.data",
            Self::TraceDat => "trace.dat",
            Self::Perfetto => "trace.json",
            Self::Folded => "trace.folded",
            Self::Svg => "trace.svg",
        }
    }

    fn write(self, trace: &Trace, output: &Path) -> Result<()> {
        if self == Self::Uftrace {
            return uftrace::write(trace, output);
        }
        let mut file = BufWriter::new(File::create(output)?);
        match self {
            Self::Text => text::write(trace, &mut file),
            Self::TraceDat => trace_dat::write(trace, &mut file),
            Self::Perfetto => perfetto::write(trace, &mut file),
            Self::Folded => folded::write(trace, &mut file),
            Self::Svg => flamegraph::write(trace, &mut file),
            Self::Uftrace => Ok(()),
        }?;
        Ok(file.flush()?)
    }
}

/// Reads the trace, writes it, and prints the summary.
pub(crate) fn run(args: &TraceArgs) -> Result<()> {
    let TraceArgs { from, format, output } = args;
    let step = Step::start(format!("reading {}", from.display()));
    let contents = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let trace = Trace::from_interchange(&contents).with_context(|| format!("cannot use {}", from.display()))?;
    step.finish(&format!("{} events", trace.events.len()));
    let output = output.clone().unwrap_or_else(|| format.default_output().into());
    let step = Step::start(format!("writing {}", output.display()));
    format.write(&trace, &output).with_context(|| format!("cannot write {}", output.display()))?;
    step.finish("done");
    let mut table = Vec::new();
    summary::write(&trace, &mut table)?;
    println!("\n{}", String::from_utf8_lossy(&table).trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::fixture::{self, Scratch};

    #[test]
    fn every_format_is_written_where_it_is_asked_for() {
        let scratch = Scratch::new("command");
        let from = scratch.0.join("input.json");
        std::fs::write(&from, fixture::damaged().to_interchange()).unwrap();
        for format in Format::value_variants() {
            let output = scratch.0.join(format.default_output());
            run(&TraceArgs { from: from.clone(), format: *format, output: Some(output.clone()) }).unwrap();
            let file = if output.is_dir() { output.join("info") } else { output };
            let begins: &[u8] = match format {
                Format::Text => b"# tracer: function_graph\n",
                Format::Uftrace => b"Ftrace!\0",
                Format::TraceDat => b"\x17\x08\x44tracing6\0",
                Format::Perfetto => b"{\"displayTimeUnit\":\"ns\"",
                Format::Folded => b"worker;kernel::main",
                Format::Svg => b"<svg xmlns",
            };
            assert!(std::fs::read(&file).unwrap().starts_with(begins), "{format:?}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let scratch = Scratch::new("errors");
        let from = scratch.0.join("input.json");
        std::fs::write(&from, "[]").unwrap();
        let args = TraceArgs { from: from.clone(), format: Format::Text, output: None };
        let error = format!("{:#}", run(&args).unwrap_err());
        assert!(error.contains("input.json") && error.contains("interchange form"), "{error}");
        std::fs::write(&from, fixture::graph().to_interchange()).unwrap();
        let output = Some(scratch.0.join("nowhere/trace.txt"));
        let error = format!("{:#}", run(&TraceArgs { output, ..args }).unwrap_err());
        assert!(error.contains("nowhere/trace.txt"), "{error}");
    }
}
