//! The interchange form: a [`Trace`] as JSON, for tests and for tools that bring a trace of their own.
//!
//! It is what [`Trace`] says, field by field, under a name and a version of its own. It is not what a kernel writes.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::model::Trace;

const FORMAT: &str = "fentry trace interchange";
const VERSION: u32 = 1;

/// The file's whole contents.
#[derive(Debug, Serialize, Deserialize)]
struct Interchange {
    format: String,
    version: u32,
    trace: Trace,
}

impl Trace {
    /// Reads the interchange form, and checks it.
    pub(crate) fn from_interchange(json: &[u8]) -> Result<Self> {
        let Interchange { format, version, trace } =
            serde_json::from_slice(json).context("this is not a trace in the interchange form")?;
        ensure!(format == FORMAT, "the format is {format:?}, not {FORMAT:?}");
        ensure!(version == VERSION, "this is version {version} of the interchange form; version {VERSION} is known");
        trace.check()?;
        Ok(trace)
    }

    /// The interchange form.
    #[cfg(test)]
    pub(super) fn to_interchange(&self) -> String {
        let whole = Interchange { format: FORMAT.to_owned(), version: VERSION, trace: self.clone() };
        let mut text = serde_json::to_string_pretty(&whole).unwrap();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::fixture::{self, expect_golden};

    #[test]
    fn a_trace_survives_the_interchange_form() {
        for trace in [fixture::graph(), fixture::functions(), fixture::damaged()] {
            assert_eq!(Trace::from_interchange(trace.to_interchange().as_bytes()).unwrap(), trace);
        }
        expect_golden("damaged.interchange.json", fixture::damaged().to_interchange().as_bytes());
    }

    #[test]
    fn other_files_are_refused() {
        let good = fixture::graph().to_interchange();
        let refused = |text: &str| format!("{:#}", Trace::from_interchange(text.as_bytes()).unwrap_err());
        assert!(refused("{}").contains("not a trace in the interchange form"));
        assert!(refused(&good.replace("\"version\": 1", "\"version\": 2")).contains("version 2"));
        assert!(refused(&good.replace(FORMAT, "perfetto")).contains("perfetto"));
        assert!(refused(&good.replace("\"counter_hz\": 62500000", "\"counter_hz\": 0")).contains("frequency"));
        assert!(refused(&good.replace("\"lost\": 0", "\"lots\": 0")).contains("lots"));
    }
}
