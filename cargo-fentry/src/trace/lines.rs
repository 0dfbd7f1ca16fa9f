//! A dump that came as lines of text, among the others of a console.

use std::ops::ControlFlow;

use fentry::tracer::dump::{LAST_LINE, LINE_PREFIX};

/// What the lines of a console have had of a dump so far; of several dumps, the last.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    pub(super) is_whole: bool,
}

/// Whether a line is of a dump.
pub(super) fn is_one(line: &str) -> bool {
    line.contains(LINE_PREFIX)
}

impl Lines {
    /// Takes what a line has; breaks at the end of a dump.
    pub(super) fn take(&mut self, line: &str) -> ControlFlow<()> {
        let Some((_, rest)) = line.split_once(LINE_PREFIX) else { return ControlFlow::Continue(()) };
        if self.is_whole {
            *self = Self::default();
        }
        if rest.starts_with(LAST_LINE) {
            self.is_whole = true;
            return ControlFlow::Break(());
        }
        // What is cut off or garbled is missing, which the dump's own checks notice.
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        let byte = |pair: &[u8; 2]| Some((digit(&pair[0])? << 4 | digit(&pair[1])?) as u8);
        self.bytes.extend(rest.as_bytes().as_chunks().0.iter().map_while(byte));
        ControlFlow::Continue(())
    }

    /// The dump in a console's whole output.
    pub(super) fn in_text(text: &[u8]) -> Self {
        let mut lines = Self::default();
        for line in String::from_utf8_lossy(text).lines() {
            // Another may follow.
            let _ = lines.take(line);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use fentry::tracer::dump::DumpLines;

    use super::*;

    fn written(bytes: &[u8]) -> String {
        let mut console = String::new();
        let mut lines = DumpLines::new(&mut console);
        lines.write(bytes).unwrap();
        lines.finish().unwrap();
        console
    }

    #[test]
    fn a_dump_is_found_among_other_lines() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = written(&bytes).replace('\n', "\u{1b}[0m\r\n[    0.5] another line\n[    0.6] ");
        let lines = Lines::in_text(text.as_bytes());
        assert_eq!((lines.bytes, lines.is_whole), (bytes, true));
    }

    #[test]
    fn the_last_of_several_is_taken_and_a_part_is_not_whole() {
        let both = written(b"first") + &written(b"second");
        let lines = Lines::in_text(both.as_bytes());
        assert_eq!((lines.bytes.as_slice(), lines.is_whole), (&b"second"[..], true));
        let lines = Lines::in_text(b"fentry-dump 6162\nfentry-dump 636");
        assert_eq!((lines.bytes.as_slice(), lines.is_whole), (&b"abc"[..], false));
        assert!(Lines::in_text(b"a kernel's own words").bytes.is_empty());
    }
}
