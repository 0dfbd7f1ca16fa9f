//! The last refusals, as the file `error_log` has them.

use super::reason::{LINE_BYTES, Refusal};
use arrayvec::{ArrayString, ArrayVec};
use core::fmt::{self, Write};
use core::iter::repeat_n;

/// How many refusals are kept (Linux: `TRACING_LOG_ERRS_MAX`).
pub const KEPT_REFUSALS: usize = 8;

const FILE_BYTES: usize = 64;
const REASON_BYTES: usize = 192;

/// A refusal in words.
#[derive(Clone, Debug)]
pub(super) struct Told {
    micros: u64,
    file: ArrayString<FILE_BYTES>,
    reason: ArrayString<REASON_BYTES>,
    line: ArrayString<LINE_BYTES>,
    /// How many characters stand before the one that is refused.
    column: usize,
}

/// A text that ends where there is no room for more of it.
struct Cut<'s, const BYTES: usize>(&'s mut ArrayString<BYTES>);

impl<const BYTES: usize> Write for Cut<'_, BYTES> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fitting = text.floor_char_boundary(self.0.remaining_capacity());
        let pushed = self.0.try_push_str(text.get(..fitting).unwrap_or_default());
        // What is behind a cut is left out too.
        if pushed.is_ok() && fitting == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// As much of a text as there is room for.
pub(super) fn cut<const BYTES: usize>(text: impl fmt::Display) -> ArrayString<BYTES> {
    let mut cut = ArrayString::new();
    // What there was room for is kept.
    let _ = write!(Cut(&mut cut), "{text}");
    cut
}

/// A line as far as it can be shown: its bytes may be anything.
fn shown(line: &[u8]) -> ArrayString<LINE_BYTES> {
    let line = line.trim_ascii_end();
    let shown = |f: &mut fmt::Formatter<'_>| {
        for chunk in line.utf8_chunks() {
            for c in chunk.valid().chars() {
                f.write_char(if c.is_control() && c != '\t' { '?' } else { c })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char('?')?;
            }
        }
        Ok(())
    };
    cut(fmt::from_fn(shown))
}

impl Told {
    /// Puts the refusal of a line into words, at a time in microseconds.
    pub(super) fn new(line: &[u8], file: &str, refusal: &Refusal, micros: u64) -> Self {
        let before = line.get(..refusal.at).unwrap_or(line);
        let column =
            before.utf8_chunks().map(|chunk| chunk.valid().chars().count() + usize::from(!chunk.invalid().is_empty()));
        let (file, reason, column) = (cut(file), cut(refusal.reason), column.sum());
        Self { micros, file, reason, line: shown(line), column }
    }

    fn write_time(&self, out: &mut dyn Write) -> fmt::Result {
        write!(out, "[{:>5}.{:06}] ", self.micros / 1_000_000, self.micros % 1_000_000)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, reason, line, column, .. } = self;
        writeln!(f, "{file}: {}: error: {reason}", column + 1)?;
        writeln!(f, "  Command: {line}")?;
        f.write_str("           ")?;
        // A caret under a tab's column.
        let before = line.chars().map(|c| if c == '\t' { c } else { ' ' }).chain(repeat_n(' ', *column));
        before.take(*column).try_for_each(|c| f.write_char(c))?;
        f.write_str("^\n")
    }
}

/// The last refusals.
#[derive(Debug)]
pub(super) struct ErrorLog(ArrayVec<Told, KEPT_REFUSALS>);

impl ErrorLog {
    pub(super) const fn new() -> Self {
        Self(ArrayVec::new_const())
    }

    /// Keeps one more, in the place of the oldest where there is none left.
    pub(super) fn keep(&mut self, told: Told) {
        if self.0.is_full() {
            self.0.remove(0);
        }
        // There is a place now.
        let _ = self.0.try_push(told);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn show(&self, out: &mut dyn Write) -> fmt::Result {
        for told in &self.0 {
            told.write_time(out)?;
            write!(out, "{told}")?;
        }
        Ok(())
    }
}
