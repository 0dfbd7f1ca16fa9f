//! Calls, put together from entries and exits.
//!
//! A trace seldom has both of every call: recording begins and ends inside calls, and events are lost. What is missing
//! is worked out here once, so that every exporter that needs balanced calls has the same ones:
//!
//! | missing | what is done |
//! |---|---|
//! | the entry | put in at the time that the exit knows it happened |
//! | the exit, at the end of the trace | the call lasts to the end |
//! | the exit, before that | the call ends where its context was last seen inside; its duration counts as unknown |

use std::collections::BTreeMap;

use super::model::{Context, Event, EventKind, Trace};

/// One call of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) ip: u64,
    /// Where it returns to, if that is known.
    pub(super) parent: Option<u64>,
    depth: u32,
    /// If its exit is in the trace.
    pub(super) duration_ns: Option<u64>,
    pub(super) retval: Option<u64>,
}

/// One step of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) time_ns: u64,
    pub(super) cpu: u32,
    pub(super) kind: StepKind,
}

/// What a step is. A call is its index in [`Thread::calls`], an event its index in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepKind {
    Enter(usize),
    Leave(usize),
    /// A function event or a marker.
    Instant(usize),
}

/// What one context did: steps in the order of time, with as many calls left as entered.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub(super) context: Context,
    pub(super) calls: Vec<Call>,
    pub(super) steps: Vec<Step>,
    open: Vec<Open>,
}

/// A call that was entered and not left yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    call: usize,
    /// The step that entered it.
    step: usize,
}

/// A call that has been left, for [`Thread::for_each_call`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<'a> {
    pub(super) call: &'a Call,
    /// The calls that it was made in, the outermost first, and itself.
    pub(super) stack: &'a [usize],
    /// The time between the steps that entered and left it, without that of the calls inside.
    pub(super) self_ns: u64,
}

/// What each context of the trace did.
pub(super) fn threads(trace: &Trace) -> Vec<Thread> {
    let mut threads = BTreeMap::new();
    for (index, event) in trace.events.iter().enumerate() {
        let context = event.context();
        threads.entry(context).or_insert_with(|| Thread::new(context)).add(index, event);
    }
    let mut threads: Vec<Thread> = threads.into_values().collect();
    threads.iter_mut().for_each(|thread| thread.end(trace.end_time_ns()));
    threads
}

/// The steps of all threads in the order of time, each with the thread's index.
pub(super) fn by_time(threads: &[Thread]) -> Vec<(usize, Step)> {
    let numbered = threads.iter().enumerate();
    let mut steps: Vec<(usize, Step)> =
        numbered.flat_map(|(index, thread)| thread.steps.iter().map(move |step| (index, *step))).collect();
    // Stable: a thread's own steps stay in their order.
    steps.sort_by_key(|(_, step)| step.time_ns);
    steps
}

/// A way through the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Back,
    On,
}

impl Thread {
    /// The next place from before this step on where the context is in no call.
    pub(super) fn outside(&self, step: usize, direction: Direction) -> usize {
        let mut depth = 0_usize;
        let mut place = 0;
        for (index, one) in self.steps.iter().enumerate() {
            if depth == 0 {
                if index >= step && direction == Direction::On {
                    return index;
                }
                if index <= step {
                    place = index;
                }
            }
            match one.kind {
                StepKind::Enter(_) => depth += 1,
                StepKind::Leave(_) => depth = depth.saturating_sub(1),
                StepKind::Instant(_) => {}
            }
        }
        match direction {
            Direction::Back => place,
            Direction::On => self.steps.len(),
        }
    }

    pub(super) fn new(context: Context) -> Self {
        Self { context, calls: Vec::new(), steps: Vec::new(), open: Vec::new() }
    }

    fn add(&mut self, index: usize, event: &Event) {
        let &Event { time_ns, cpu, ref kind, .. } = event;
        match *kind {
            EventKind::Function { .. } | EventKind::Marker { .. } => {
                self.steps.push(Step { time_ns, cpu, kind: StepKind::Instant(index) });
            }
            EventKind::Entry { ip, parent, depth } => {
                self.leave_unseen_from(depth);
                let call = Call { ip, parent, depth, duration_ns: None, retval: None };
                self.enter_at(self.steps.len(), time_ns, cpu, call);
            }
            EventKind::Exit { ip, depth, entry_time_ns, retval } => {
                let is_this = |call: &Call| call.depth == depth && call.ip == ip;
                match self.open.iter().rposition(|open| is_this(&self.calls[open.call])) {
                    Some(position) => {
                        self.leave_unseen_above(position + 1);
                        self.correct_entry_time(self.open[position].step, entry_time_ns);
                    }
                    None => {
                        let at = self.place_of_entry(depth, entry_time_ns);
                        let call = Call { ip, parent: None, depth, duration_ns: None, retval: None };
                        self.enter_at(at, time_ns, cpu, call);
                        self.correct_entry_time(at, entry_time_ns);
                    }
                }
                if let Some(open) = self.open.pop() {
                    let call = &mut self.calls[open.call];
                    call.duration_ns = Some(time_ns.saturating_sub(entry_time_ns));
                    call.retval = retval;
                    self.steps.push(Step { time_ns, cpu, kind: StepKind::Leave(open.call) });
                }
            }
        }
    }

    fn enter_at(&mut self, step: usize, time_ns: u64, cpu: u32, call: Call) {
        self.open.push(Open { call: self.calls.len(), step });
        self.steps.insert(step, Step { time_ns, cpu, kind: StepKind::Enter(self.calls.len()) });
        self.calls.push(call);
    }

    /// Where the entry of a call belongs that is about to be left: before all that it called, and nowhere inside a call.
    ///
    /// Leaves the open calls that cannot be open around it.
    fn place_of_entry(&mut self, depth: u32, entry_time_ns: u64) -> usize {
        // Those that it called, whose exits are missing, end here.
        while let Some(open) = self.open.last()
            && self.calls[open.call].depth > depth
            && self.steps[open.step].time_ns >= entry_time_ns
        {
            self.leave_unseen_above(self.open.len() - 1);
        }
        let mut place = self.steps.len();
        let floor = self.open.last().map_or(0, |open| open.step + 1);
        let mut inside = 0_usize;
        for index in (floor..self.steps.len()).rev() {
            let step = &self.steps[index];
            match step.kind {
                _ if step.time_ns < entry_time_ns => break,
                StepKind::Leave(call) if inside == 0 && self.calls[call].depth <= depth => break,
                StepKind::Leave(_) => inside += 1,
                StepKind::Enter(_) => inside = inside.saturating_sub(1),
                StepKind::Instant(_) => {}
            }
            if inside == 0 {
                place = index;
            }
        }
        // Those that ended before it was called, whose exits are missing too.
        while let Some(open) = self.open.pop_if(|open| self.calls[open.call].depth >= depth) {
            let Step { time_ns, cpu, .. } = self.steps[place - 1];
            self.steps.insert(place, Step { time_ns, cpu, kind: StepKind::Leave(open.call) });
            place += 1;
        }
        place
    }

    /// The entry's event is recorded a little after the time that durations start from.
    fn correct_entry_time(&mut self, step: usize, entry_time_ns: u64) {
        let not_before = step.checked_sub(1).map_or(0, |before| self.steps[before].time_ns);
        let not_after = self.steps.get(step + 1).map_or(self.steps[step].time_ns, |after| after.time_ns);
        self.steps[step].time_ns = entry_time_ns.min(not_after).max(not_before);
    }

    /// Leaves the open calls of this depth and deeper: their exits are missing.
    fn leave_unseen_from(&mut self, depth: u32) {
        let above = self.open.partition_point(|open| self.calls[open.call].depth < depth);
        self.leave_unseen_above(above);
    }

    fn leave_unseen_above(&mut self, position: usize) {
        while self.open.len() > position {
            let Some(&Step { time_ns, cpu, .. }) = self.steps.last() else { break };
            let Some(open) = self.open.pop() else { break };
            self.steps.push(Step { time_ns, cpu, kind: StepKind::Leave(open.call) });
        }
    }

    /// Leaves what is open at the end of the trace.
    fn end(&mut self, time_ns: u64) {
        while let Some(open) = self.open.pop() {
            let cpu = self.steps.last().map_or(0, |step| step.cpu);
            self.steps.push(Step { time_ns, cpu, kind: StepKind::Leave(open.call) });
        }
    }

    /// Visits every call when it is left.
    pub(super) fn for_each_call(&self, mut visit: impl FnMut(Left<'_>)) {
        let mut stack = Vec::new();
        // For each call on the stack: when it was entered, and how long the calls inside took.
        let mut times: Vec<(u64, u64)> = Vec::new();
        for step in &self.steps {
            match step.kind {
                StepKind::Instant(_) => {}
                StepKind::Enter(call) => {
                    stack.push(call);
                    times.push((step.time_ns, 0));
                }
                StepKind::Leave(call) => {
                    let (entered, inside) = times.pop().unwrap_or((step.time_ns, 0));
                    let took = step.time_ns.saturating_sub(entered);
                    visit(Left { call: &self.calls[call], stack: &stack, self_ns: took.saturating_sub(inside) });
                    stack.pop();
                    if let Some((_, of_caller)) = times.last_mut() {
                        *of_caller = of_caller.saturating_add(took);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::fixture::{self, entry, exit, marker};

    /// The steps in words: `time enter ip`, `time leave ip (duration)`.
    fn steps_of(events: Vec<Event>) -> Vec<String> {
        let trace = fixture::of_events(events);
        let threads = threads(&trace);
        assert_eq!(threads.len(), 1);
        let thread = &threads[0];
        let in_words = |step: &Step| {
            let time = step.time_ns;
            match step.kind {
                StepKind::Enter(call) => format!("{time} enter {:x}", thread.calls[call].ip),
                StepKind::Leave(call) => match thread.calls[call].duration_ns {
                    Some(duration) => format!("{time} leave {:x} ({duration})", thread.calls[call].ip),
                    None => format!("{time} leave {:x}", thread.calls[call].ip),
                },
                StepKind::Instant(_) => format!("{time} instant"),
            }
        };
        thread.steps.iter().map(in_words).collect()
    }

    #[test]
    fn entries_and_exits_are_paired_at_one_time_too() {
        // A coarse clock: three calls in one moment, the middle one inside the first.
        let events = vec![
            entry(5, 0xa, 0),
            entry(5, 0xb, 1),
            exit(5, 0xb, 1, 5),
            exit(5, 0xa, 0, 5),
            entry(5, 0xc, 0),
            exit(9, 0xc, 0, 5),
        ];
        let expected = ["5 enter a", "5 enter b", "5 leave b (0)", "5 leave a (0)", "5 enter c", "9 leave c (4)"];
        assert_eq!(steps_of(events), expected);
    }

    #[test]
    fn a_lost_entry_is_put_before_what_was_called_inside() {
        let events = vec![
            entry(10, 0xa, 0),
            entry(12, 0xb, 1),
            exit(14, 0xb, 1, 12),
            // The entry of c, at 14, is lost.
            entry(16, 0xd, 2),
            exit(18, 0xd, 2, 16),
            exit(20, 0xc, 1, 14),
            exit(22, 0xa, 0, 10),
        ];
        let expected = [
            "10 enter a",
            "12 enter b",
            "14 leave b (2)",
            "14 enter c",
            "16 enter d",
            "18 leave d (2)",
            "20 leave c (6)",
            "22 leave a (12)",
        ];
        assert_eq!(steps_of(events), expected);
    }

    #[test]
    fn a_trace_that_begins_inside_calls_gets_their_entries() {
        let events = vec![exit(20, 0xb, 3, 15), marker(21, "here"), exit(30, 0xa, 2, 10)];
        let expected = ["10 enter a", "15 enter b", "20 leave b (5)", "21 instant", "30 leave a (20)"];
        assert_eq!(steps_of(events), expected);
    }

    #[test]
    fn a_lost_exit_ends_its_call_where_it_was_last_seen() {
        let events = vec![
            entry(1, 0xa, 0),
            entry(2, 0xb, 1),
            marker(3, "in b"),
            // The exit of b is lost; then that of a.
            entry(5, 0xc, 1),
            exit(6, 0xc, 1, 5),
            entry(8, 0xd, 0),
            exit(9, 0xd, 0, 8),
        ];
        let expected = [
            "1 enter a",
            "2 enter b",
            "3 instant",
            "3 leave b",
            "5 enter c",
            "6 leave c (1)",
            "6 leave a",
            "8 enter d",
            "9 leave d (1)",
        ];
        assert_eq!(steps_of(events), expected);
    }

    #[test]
    fn a_lost_exit_and_a_lost_entry_leave_each_call_what_is_its_own() {
        let events = vec![
            entry(1, 0xa, 0),
            entry(2, 0xb, 1),
            marker(3, "in b"),
            // The exit of b and the entry of c, at 5, are lost.
            entry(6, 0xd, 2),
            exit(7, 0xd, 2, 6),
            entry(8, 0xe, 2),
            // So is the exit of e.
            exit(9, 0xc, 1, 5),
            exit(10, 0xa, 0, 1),
        ];
        let expected = [
            "1 enter a",
            "2 enter b",
            "3 instant",
            "3 leave b",
            "5 enter c",
            "6 enter d",
            "7 leave d (1)",
            "8 enter e",
            "8 leave e",
            "9 leave c (4)",
            "10 leave a (9)",
        ];
        assert_eq!(steps_of(events), expected);
    }

    #[test]
    fn an_exit_ends_the_calls_that_never_returned() {
        let events = vec![entry(1, 0xa, 0), entry(2, 0xb, 1), entry(3, 0xc, 2), exit(9, 0xa, 0, 1)];
        let expected = ["1 enter a", "2 enter b", "3 enter c", "3 leave c", "3 leave b", "9 leave a (8)"];
        assert_eq!(steps_of(events), expected);
    }

    #[test]
    fn recursive_calls_are_told_apart_by_depth() {
        let events = vec![entry(1, 0xa, 0), entry(2, 0xa, 1), exit(9, 0xa, 0, 1)];
        assert_eq!(steps_of(events), ["1 enter a", "2 enter a", "2 leave a", "9 leave a (8)"]);
    }

    #[test]
    fn what_is_open_at_the_end_lasts_to_the_end() {
        let events = vec![entry(1, 0xa, 0), entry(2, 0xb, 1), exit(7, 0xb, 1, 2)];
        assert_eq!(steps_of(events), ["1 enter a", "2 enter b", "7 leave b (5)", "7 leave a"]);
    }

    #[test]
    fn any_order_of_entries_and_exits_gives_balanced_steps() {
        // Every trace of up to five events out of these: two functions, two depths, right and wrong.
        let choices: [fn(u64) -> Event; 6] = [
            |time| entry(time, 0xa, 0),
            |time| entry(time, 0xb, 1),
            |time| exit(time, 0xa, 0, 1),
            |time| exit(time, 0xb, 1, time - 1),
            |time| exit(time, 0xb, 0, 0),
            |time| marker(time, "m"),
        ];
        for number in 0..6_usize.pow(5) {
            let digits = (0..5).map(|place| number / 6_usize.pow(place) % 6);
            let events = digits.zip(1..).map(|(digit, time)| choices[digit](time)).collect();
            let trace = fixture::of_events(events);
            for thread in threads(&trace) {
                let mut stack = Vec::new();
                let mut time = 0;
                for step in &thread.steps {
                    assert!(step.time_ns >= time, "{number}: {:?}", thread.steps);
                    time = step.time_ns;
                    match step.kind {
                        StepKind::Enter(call) => stack.push(call),
                        StepKind::Leave(call) => assert_eq!(stack.pop(), Some(call), "{number}: {:?}", thread.steps),
                        StepKind::Instant(_) => {}
                    }
                }
                assert!(stack.is_empty());
            }
        }
    }

    #[test]
    fn self_time_leaves_out_the_calls_inside() {
        let trace = fixture::of_events(vec![
            entry(0, 0xa, 0),
            entry(10, 0xb, 1),
            exit(13, 0xb, 1, 10),
            entry(20, 0xb, 1),
            exit(25, 0xb, 1, 20),
            exit(100, 0xa, 0, 0),
        ]);
        let mut seen = Vec::new();
        threads(&trace)[0].for_each_call(|left| seen.push((left.call.ip, left.stack.len(), left.self_ns)));
        assert_eq!(seen, [(0xb, 2, 3), (0xb, 2, 5), (0xa, 1, 92)]);
    }
}
