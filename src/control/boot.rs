//! Words of a kernel's command line, which ask for what lines ask for: so that boot itself is traced.

use super::Control;
use super::line::Word;
use super::reason::{LINE_BYTES, Reason, Refusal};
use arrayvec::ArrayString;
use core::fmt::Write;

/// The words, and the files that they are written to. In the first ones commas part what the file has spaces between.
const FILES: [(&str, &str); 9] = [
    ("ftrace_filter", "set_ftrace_filter"),
    ("ftrace_notrace", "set_ftrace_notrace"),
    ("ftrace_graph_filter", "set_graph_function"),
    ("ftrace_graph_notrace", "set_graph_notrace"),
    ("ftrace_graph_max_depth", "max_graph_depth"),
    ("trace_options", "trace_options"),
    ("trace_buf_size", "buffer_size_kb"),
    ("trace_tracing_on", "tracing_on"),
    // Last, so that all else is as it was asked for.
    ("ftrace", "current_tracer"),
];

impl<const CPUS: usize> Control<CPUS> {
    /// Carries out what the words of the kernel's command line ask for, those of Linux: `ftrace=TRACER`,
    /// `ftrace_filter=RULE,RULE..`, `ftrace_notrace=`, `ftrace_graph_filter=`, `ftrace_graph_notrace=`,
    /// `ftrace_graph_max_depth=N`, `trace_options=OPTION,..`; and `trace_tracing_on=0`, with which nothing is recorded until a line
    /// says so (Linux: `ftrace.tracing_on` of its bootconfig). Other words are the kernel's own. `trace_buf_size=` is refused, as
    /// the kernel fixes the size. A `,` inside brackets or quotes is a name's.
    ///
    /// To be called right after the engine is initialised. [`words`](crate::tracer::session::words) divides a command line.
    ///
    /// # Errors
    ///
    /// The first refusal, which is told on `out` as that of the line which stands for the word. What the other words ask for is
    /// carried out.
    pub fn boot<'w>(
        &mut self,
        words: impl IntoIterator<Item = &'w str, IntoIter: Clone>,
        out: &mut dyn Write,
    ) -> Result<(), Refusal> {
        let words = words.into_iter();
        let mut done = Ok(());
        for (word, file) in FILES {
            for value in words.clone().filter_map(|whole| whole.strip_prefix(word)?.strip_prefix('=')) {
                done = done.and(self.boot_word(file, value, out));
            }
        }
        done
    }

    fn boot_word(&mut self, file: &str, value: &str, out: &mut dyn Write) -> Result<(), Refusal> {
        let mut done = Ok(());
        let parts = Parts { rest: value, is_over: false };
        // Each option is a line; rules are one, and added, since a word may come twice.
        if file == "trace_options" {
            for part in parts {
                done = done.and(self.boot_line(file, core::iter::once(part), out));
            }
            return done;
        }
        self.boot_line(file, parts, out)
    }

    fn boot_line<'v>(
        &mut self,
        file: &str,
        parts: impl Iterator<Item = &'v str>,
        out: &mut dyn Write,
    ) -> Result<(), Refusal> {
        let mut line = ArrayString::<LINE_BYTES>::new();
        let written = write!(line, "echo")
            .and_then(|()| parts.into_iter().try_for_each(|part| write!(line, " {part}")))
            .and_then(|()| write!(line, " {} {file}", if file.starts_with("set_") { ">>" } else { ">" }));
        if written.is_err() {
            let refusal = Word::end_of(&line).refuse(Reason::TooLong);
            // The caller has the refusal.
            let _ = writeln!(out, "{file}: {refusal}");
            return Err(refusal);
        }
        self.execute(line.as_bytes(), out)
    }
}

/// What commas part that are not inside brackets or quotes.
#[derive(Clone)]
struct Parts<'a> {
    rest: &'a str,
    is_over: bool,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.is_over {
            return None;
        }
        let (mut depth, mut in_quotes) = (0_usize, false);
        let end = self.rest.find(|c| {
            match c {
                '"' => in_quotes = !in_quotes,
                '<' | '(' | '[' | '{' => depth += 1,
                '>' | ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0 && !in_quotes
        });
        let (part, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, ""),
        };
        (self.rest, self.is_over) = (rest, end.is_none());
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::Parts;
    use std::vec::Vec;
    extern crate std;

    #[test]
    fn commas_part_what_is_not_in_brackets() {
        for (text, expected) in [
            ("a", &["a"][..]),
            ("a,b::*,!c", &["a", "b::*", "!c"]),
            ("<A<u8, u8> as B>::f,g", &["<A<u8, u8> as B>::f", "g"]),
            ("\"a,b\",c", &["\"a,b\"", "c"]),
            ("f::<fn(u8, u8) -> u8>,g", &["f::<fn(u8, u8) -> u8>", "g"]),
        ] {
            let parts = Parts { rest: text, is_over: false };
            assert_eq!(parts.collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
