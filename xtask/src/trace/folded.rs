//! Folded stacks: one line for each stack that calls were in, with the nanoseconds of its last function itself. The
//! input of flame graph tools, of which `flamegraph` is ours.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Result, ensure};

use super::calls;
use super::model::Trace;
use super::text::in_one_line;

/// How deep stacks are told apart. What is deeper counts for the last that is not.
const MAX_DEPTH: usize = 1024;

/// Stacks, the outermost name first, with their nanoseconds.
pub(super) type Folded = BTreeMap<Vec<String>, u64>;

/// Folds the calls: the context's name, then the functions.
pub(super) fn fold(trace: &Trace) -> Result<Folded> {
    let mut folded = Folded::new();
    for thread in calls::threads(trace) {
        let context = trace.context_name(thread.context).into_owned();
        thread.for_each_call(|left| {
            if left.self_ns > 0 {
                let shown = left.stack.iter().take(MAX_DEPTH);
                let names = shown.map(|call| trace.name_at(thread.calls[*call].ip).into_owned());
                let stack = std::iter::once(context.clone()).chain(names).collect();
                *folded.entry(stack).or_default() += left.self_ns;
            }
        });
    }
    ensure!(!folded.is_empty(), "no call in this trace has a duration; function events alone cannot be folded");
    Ok(folded)
}

/// Writes the lines.
pub(super) fn write(trace: &Trace, out: &mut impl Write) -> Result<()> {
    for (stack, nanoseconds) in fold(trace)? {
        // A semicolon parts the names; the tools take what is after the last space for the number.
        let names: Vec<String> = stack.iter().map(|name| in_one_line(name).replace(';', ":")).collect();
        writeln!(out, "{} {nanoseconds}", names.join(";"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::fixture::{self, expect_golden};

    fn lines_of(trace: &Trace) -> String {
        let mut out = Vec::new();
        write(trace, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn stacks_are_as_expected() {
        expect_golden("graph.folded", lines_of(&fixture::graph()).as_bytes());
        expect_golden("damaged.folded", lines_of(&fixture::damaged()).as_bytes());
    }

    #[test]
    fn self_times_add_up_to_the_outermost_calls() {
        let trace = fixture::graph();
        let of_lines = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
        let sum: u64 = lines_of(&trace).lines().map(of_lines).sum();
        let outermost = trace.events.iter().filter_map(|event| match event.kind {
            crate::trace::model::EventKind::Exit { depth: 0, entry_time_ns, .. } => Some(event.time_ns - entry_time_ns),
            _ => None,
        });
        assert_eq!(sum, outermost.sum::<u64>());
    }

    #[test]
    fn function_events_alone_are_refused() {
        assert!(fold(&fixture::functions()).unwrap_err().to_string().contains("no call"));
    }
}
