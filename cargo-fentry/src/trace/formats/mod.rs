//! The formats that a trace is written in.
//!
//! | file | what reads it |
//! |---|---|
//! | `text` | people, and what reads Linux's `trace` file |
//! | `uftrace` | uftrace's `replay`, `report`, `graph`, `tui` and `dump` |
//! | `trace_dat` | trace-cmd and KernelShark |
//! | `perfetto` | Perfetto's UI and `chrome://tracing` |
//! | `folded`, `flamegraph` | flame graph tools; a browser |
//! | `summary` | people: one table |
//!
//! Each takes a [`Trace`]. What they spell alike stands in `spelling`.

pub(super) mod flamegraph;
pub(super) mod folded;
pub(super) mod perfetto;
mod spelling;
pub(super) mod summary;
#[cfg(test)]
mod tests;
pub(super) mod text;
pub(super) mod trace_dat;
pub(super) mod uftrace;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use super::model::Trace;

/// A format, by the name that the command line has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
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
    pub(super) const ALL: [Self; 6] =
        [Self::Text, Self::Uftrace, Self::TraceDat, Self::Perfetto, Self::Folded, Self::Svg];

    /// The name that its readers look for, or the usual one.
    pub(super) fn default_output(self) -> &'static str {
        match self {
            Self::Text => "trace.txt",
            Self::Uftrace => "uftrace.data",
            Self::TraceDat => "trace.dat",
            Self::Perfetto => "trace.json",
            Self::Folded => "trace.folded",
            Self::Svg => "trace.svg",
        }
    }

    /// Whether it shows nothing but the time that calls took.
    pub(super) fn needs_durations(self) -> bool {
        matches!(self, Self::Folded | Self::Svg)
    }

    /// What to do with the file.
    pub(super) fn how_to_read(self, output: &Path) -> String {
        let output = output.display();
        match self {
            Self::Text => output.to_string(),
            Self::Uftrace => format!("uftrace replay -d {output}"),
            Self::TraceDat => format!("trace-cmd report -i {output}"),
            Self::Perfetto => format!("{output}, in https://ui.perfetto.dev or chrome://tracing"),
            Self::Folded => format!("{output}, for flame graph tools"),
            Self::Svg => format!("{output}, in a browser"),
        }
    }

    /// Writes the file or, for uftrace, the directory.
    pub(super) fn write(self, trace: &Trace, output: &Path) -> Result<()> {
        let write = match self {
            Self::Uftrace => return uftrace::write(trace, output),
            Self::Text => text::write,
            Self::TraceDat => trace_dat::write,
            Self::Perfetto => perfetto::write,
            Self::Folded => folded::write,
            Self::Svg => flamegraph::write,
        };
        let mut file = BufWriter::new(File::create(output)?);
        write(trace, &mut file)?;
        Ok(file.flush()?)
    }
}
