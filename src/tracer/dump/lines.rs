//! A dump as lines of text: for a kernel that has no way out but its console.

use arrayvec::ArrayVec;
use core::fmt;

/// What each line of a dump has before its bytes, which are hexadecimal. On the last line, [`LAST_LINE`] stands for them.
pub const LINE_PREFIX: &str = "fentry-dump ";

/// What stands behind the prefix on the line after the last byte.
pub const LAST_LINE: &str = "end";

/// The bytes of a line.
const LINE_BYTES: usize = 32;

/// Writes a dump as lines of text, which `cargo fentry trace` finds among the others of a console.
///
/// Other lines may stand between them, and other text before the prefix; a line itself must stay whole.
///
/// ```
/// use fentry::tracer::dump::{DumpLines, DumpWriter};
///
/// let mut console = String::new(); // the kernel's own `fmt::Write`
/// let mut lines = DumpLines::new(&mut console);
/// let writer = DumpWriter::begin(|bytes: &[u8]| lines.write(bytes), 62_500_000, &[])?;
/// writer.finish()?;
/// lines.finish()?;
/// assert!(console.starts_with("fentry-dump 66656e7472795452")); // fentryTR
/// assert!(console.ends_with("\nfentry-dump end\n"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
#[derive(Debug)]
pub struct DumpLines<W> {
    console: W,
    /// The bytes of the line to come.
    line: ArrayVec<u8, LINE_BYTES>,
}

impl<W: fmt::Write> DumpLines<W> {
    /// Begins a dump on this console, at the start of a line.
    pub const fn new(console: W) -> Self {
        Self { console, line: ArrayVec::new_const() }
    }

    /// Writes a piece of the dump: the sink of a [`DumpWriter`](super::DumpWriter).
    ///
    /// # Errors
    ///
    /// The console's own, as for [`finish`](Self::finish).
    pub fn write(&mut self, mut bytes: &[u8]) -> fmt::Result {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.line.remaining_capacity()));
            // They fit.
            self.line.extend(now.iter().copied());
            bytes = later;
            if self.line.is_full() {
                self.end_line()?;
            }
        }
        Ok(())
    }

    /// Writes what is left, and the last line.
    ///
    /// # Errors
    ///
    /// The console's own.
    pub fn finish(mut self) -> fmt::Result {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        writeln!(self.console, "{LINE_PREFIX}{LAST_LINE}")
    }

    fn end_line(&mut self) -> fmt::Result {
        self.console.write_str(LINE_PREFIX)?;
        for byte in self.line.drain(..) {
            write!(self.console, "{byte:02x}")?;
        }
        self.console.write_str("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    #[test]
    fn lines_hold_the_bytes_in_order_however_they_come() {
        let bytes: Vec<u8> = (0..=255).chain(0..9).collect();
        let written = |pieces: usize| {
            let mut console = String::new();
            let mut lines = DumpLines::new(&mut console);
            bytes.chunks(pieces).for_each(|piece| lines.write(piece).unwrap());
            lines.finish().unwrap();
            console
        };
        let text = written(1);
        assert_eq!(text.lines().count(), 256_usize.div_ceil(LINE_BYTES) + 2);
        assert!(text.starts_with("fentry-dump 000102030405060708090a0b0c0d0e0f1011"), "{text}");
        assert!(text.ends_with("\nfentry-dump 000102030405060708\nfentry-dump end\n"), "{text}");
        for pieces in [7, LINE_BYTES, LINE_BYTES + 1, bytes.len()] {
            assert_eq!(written(pieces), text, "{pieces}");
        }
    }
}
