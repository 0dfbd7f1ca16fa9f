//! Folded stacks: one line for each stack that calls were in, with the nanoseconds of its last function itself. The
//! input of flame graph tools, of which `flamegraph` is ours.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use anyhow::{Result, ensure};

use super::spelling::in_one_line;
use crate::trace::calls::{self, Thread};
use crate::trace::model::Trace;

/// How deep stacks are told apart. What is deeper counts for the last that is not.
const MAX_DEPTH: usize = 1024;
/// The frame that all are in.
pub(crate) const ROOT: usize = 0;

/// A function in one place of the stacks; a context's name, where stacks begin.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) name: String,
    /// The frame that it was called in. Its index is the lower one.
    pub(crate) outer: usize,
    /// The frames that were called in it, by name.
    pub(crate) inside: BTreeMap<String, usize>,
    depth: usize,
    pub(crate) self_ns: u64,
}

/// All stacks of a trace, as a tree of frames.
#[derive(Debug)]
pub(crate) struct Stacks {
    pub(crate) frames: Vec<Frame>,
    /// Where a function is in a frame, once its name is known.
    by_ip: HashMap<(usize, u64), usize>,
}

impl Stacks {
    /// The stacks that calls were in; an error where no call took any time.
    pub(crate) fn of(trace: &Trace) -> Result<Self> {
        let root = Frame { name: "all".to_owned(), ..Frame::default() };
        let mut stacks = Self { frames: vec![root], by_ip: HashMap::new() };
        for thread in calls::threads(trace) {
            stacks.add(trace, &thread);
        }
        let total: u64 = stacks.frames.iter().fold(0, |sum, frame| sum.saturating_add(frame.self_ns));
        ensure!(total > 0, "no call in this trace has a duration; function events alone have no stacks");
        Ok(stacks)
    }

    fn add(&mut self, trace: &Trace, thread: &Thread) {
        let context = self.frame_named(ROOT, trace.context_name(thread.context).into_owned());
        let mut frame_of_call = vec![None; thread.calls.len()];
        thread.for_each_call(|left| {
            // From the innermost call that has its frame already.
            let known = left.stack.iter().rposition(|call| frame_of_call[*call].is_some());
            let mut frame = known.and_then(|known| frame_of_call[left.stack[known]]).unwrap_or(context);
            for call in &left.stack[known.map_or(0, |known| known + 1)..] {
                frame = self.frame_at(frame, thread.calls[*call].ip, trace);
                frame_of_call[*call] = Some(frame);
            }
            let self_ns = &mut self.frames[frame].self_ns;
            *self_ns = self_ns.saturating_add(left.self_ns);
        });
    }

    fn frame_at(&mut self, outer: usize, ip: u64, trace: &Trace) -> usize {
        if self.frames[outer].depth == MAX_DEPTH {
            return outer;
        }
        if let Some(frame) = self.by_ip.get(&(outer, ip)) {
            return *frame;
        }
        let frame = self.frame_named(outer, trace.name_at(ip).into_owned());
        self.by_ip.insert((outer, ip), frame);
        frame
    }

    fn frame_named(&mut self, outer: usize, name: String) -> usize {
        let next = self.frames.len();
        let frame = *self.frames[outer].inside.entry(name.clone()).or_insert(next);
        if frame == next {
            let depth = self.frames[outer].depth + 1;
            self.frames.push(Frame { name, outer, depth, ..Frame::default() });
        }
        frame
    }

    /// Writes the line of a frame, then those of the frames inside. `path` is where it is, and comes back unchanged.
    fn write_lines(&self, frame: usize, path: &mut String, out: &mut impl Write) -> Result<()> {
        for (name, inner) in &self.frames[frame].inside {
            let length = path.len();
            if !path.is_empty() {
                path.push(';');
            }
            // A semicolon parts the names; the tools take what is after the last space for the number.
            path.push_str(&in_one_line(name).replace(';', ":"));
            let self_ns = self.frames[*inner].self_ns;
            if self_ns > 0 {
                writeln!(out, "{path} {self_ns}")?;
            }
            self.write_lines(*inner, path, out)?;
            path.truncate(length);
        }
        Ok(())
    }
}

/// Writes the lines: the context's name, then the functions.
pub(crate) fn write(trace: &Trace, out: &mut impl Write) -> Result<()> {
    Stacks::of(trace)?.write_lines(ROOT, &mut String::new(), out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::formats::tests::expect_golden;
    use crate::trace::tests::fixture::{self, entry, exit, function};

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
    fn endless_recursion_is_folded_to_a_limit() {
        let depths = 0..20_000_u32;
        let entries = depths.clone().map(|depth| entry(depth.into(), function(0), depth));
        let exits = depths.rev().map(|depth| exit(50_000 - u64::from(depth), function(0), depth, depth.into()));
        let lines = lines_of(&fixture::of_events(entries.chain(exits).collect()));
        assert_eq!(lines.lines().count(), MAX_DEPTH - 1);
        assert_eq!(lines.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>(), 50_000);
    }

    #[test]
    fn function_events_alone_are_refused() {
        assert!(Stacks::of(&fixture::functions()).unwrap_err().to_string().contains("no call"));
    }
}
