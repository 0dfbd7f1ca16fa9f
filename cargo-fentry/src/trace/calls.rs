//! Calls, put together from entries and exits.
//!
//! A kernel records a call once, at its exit, with the time of its entry; and recording begins and ends inside calls, and
//! events are lost. What is missing is worked out here, for the dump's reader ([`with_entries`]) and for every format that
//! needs balanced calls ([`threads`]):
//!
//! | missing | what is done |
//! |---|---|
//! | the entry | put in at the time that the exit knows it happened |
//! | the exit, at the end of the trace | the call lasts to the end |
//! | the exit, before that | the call ends where its context was last seen inside; its duration counts as unknown |
//!
//! Where an entry was follows from depths and times together. Exits of one context come in the order of time, those of
//! calls inside before those around them: the calls inside one are the last ones before its exit that are deeper and did
//! not begin earlier. Times alone would not do, since many calls can fall into one tick of the clock.

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
    /// How many steps there are from its entry to its exit.
    steps: usize,
    /// Its events in the trace.
    entry: Option<usize>,
    exit: Option<usize>,
    /// When it was entered, as the kernel has it; its step may have been moved among the others.
    entered_ns: u64,
}

impl Call {
    fn of(ip: u64, depth: u32, entered_ns: u64) -> Self {
        Self { ip, parent: None, depth, duration_ns: None, retval: None, steps: 0, entry: None, exit: None, entered_ns }
    }
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

/// A call at the moment that it is left, for [`Thread::for_each_call`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<'a> {
    pub(super) call: &'a Call,
    /// The calls around it, the outermost first, then itself.
    pub(super) stack: &'a [usize],
    /// The time between the steps that entered and left it, without that of the calls inside.
    pub(super) self_ns: u64,
}

/// The calls of each context of the trace.
pub(super) fn threads(trace: &Trace) -> Vec<Thread> {
    threads_of(&trace.events, trace.end_time_ns())
}

fn threads_of(events: &[Event], end_time_ns: u64) -> Vec<Thread> {
    let mut threads = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        let context = event.context();
        threads.entry(context).or_insert_with(|| Thread::new(context)).add(index, event);
    }
    let mut threads: Vec<Thread> = threads.into_values().collect();
    threads.iter_mut().for_each(|thread| thread.end(end_time_ns));
    threads
}

/// Gives each exit that has no entry one, and sorts the events by time. Those of one context come in their order.
pub(super) fn with_entries(events: Vec<Event>) -> Vec<Event> {
    let threads = threads_of(&events, 0);
    let mut events: Vec<Option<Event>> = events.into_iter().map(Some).collect();
    let mut all = Vec::with_capacity(events.len());
    for Thread { calls, steps, .. } in &threads {
        let mut time_ns = 0;
        for step in steps {
            let event = match step.kind {
                StepKind::Instant(index) => events[index].take(),
                StepKind::Enter(call) => match calls[call] {
                    Call { entry: Some(index), .. } => events[index].take(),
                    Call { exit, .. } => exit.and_then(|index| events[index].as_ref()?.entry()),
                },
                StepKind::Leave(call) => calls[call].exit.and_then(|index| events[index].take()),
            };
            all.extend(event.map(|event| {
                // Counters of two CPUs may differ by a little.
                time_ns = event.time_ns.max(time_ns);
                Event { time_ns, ..event }
            }));
        }
    }
    // Stable: what a context did in one tick stays in its order.
    all.sort_by_key(|event| event.time_ns);
    all
}

impl Event {
    /// The entry of the call that this is the exit of.
    fn entry(&self) -> Option<Self> {
        let EventKind::Exit { ip, depth, entry_time_ns, .. } = self.kind else { return None };
        let kind = EventKind::Entry { ip, parent: None, depth };
        Some(Self { time_ns: entry_time_ns, cpu: self.cpu, task: self.task, kind })
    }
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

/// A direction through the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Back,
    On,
}

impl Thread {
    /// The nearest place, from before this step, at which the context is in no call.
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
                let call = Call { parent, entry: Some(index), ..Call::of(ip, depth, time_ns) };
                self.enter_at(self.steps.len(), time_ns, cpu, call);
            }
            EventKind::Exit { ip, depth, entry_time_ns, retval } => {
                let is_inside = |call: &Call| call.depth > depth && call.entered_ns >= entry_time_ns;
                // Those that it called, whose exits are missing, end here.
                while self.open.last().is_some_and(|open| is_inside(&self.calls[open.call])) {
                    self.leave_unseen_above(self.open.len() - 1);
                }
                let place = self.place_before(entry_time_ns, is_inside);
                let is_this = |open: &Open| {
                    let call = &self.calls[open.call];
                    // One that others came between is an earlier call, whose exit is missing.
                    let is_next = call.entered_ns >= entry_time_ns || open.step + 1 == place;
                    (call.depth, call.ip) == (depth, ip) && is_next
                };
                if !self.open.last().is_some_and(is_this) {
                    let place = self.leave_unseen_before(place, depth);
                    self.enter_at(place, time_ns, cpu, Call::of(ip, depth, entry_time_ns));
                }
                if let Some(open) = self.open.pop() {
                    self.correct_entry_time(open.step, entry_time_ns);
                    let call = &mut self.calls[open.call];
                    call.duration_ns = Some(time_ns.saturating_sub(entry_time_ns));
                    (call.retval, call.exit, call.entered_ns) = (retval, Some(index), entry_time_ns);
                    self.leave_at(self.steps.len(), open, time_ns, cpu);
                }
            }
        }
    }

    fn enter_at(&mut self, step: usize, time_ns: u64, cpu: u32, call: Call) {
        self.open.push(Open { call: self.calls.len(), step });
        self.steps.insert(step, Step { time_ns, cpu, kind: StepKind::Enter(self.calls.len()) });
        self.calls.push(call);
    }

    fn leave_at(&mut self, step: usize, open: Open, time_ns: u64, cpu: u32) {
        self.calls[open.call].steps = step - open.step;
        self.steps.insert(step, Step { time_ns, cpu, kind: StepKind::Leave(open.call) });
    }

    /// Where the entry of a call belongs that is about to be left: before all that happened inside, and nowhere inside
    /// another call.
    fn place_before(&self, entry_time_ns: u64, is_inside: impl Fn(&Call) -> bool) -> usize {
        let floor = self.open.last().map_or(0, |open| open.step + 1);
        let mut place = self.steps.len();
        while place > floor {
            let last = &self.steps[place - 1];
            place -= match last.kind {
                StepKind::Leave(call) if is_inside(&self.calls[call]) => self.calls[call].steps + 1,
                StepKind::Instant(_) if last.time_ns >= entry_time_ns => 1,
                _ => break,
            };
        }
        place
    }

    /// Leaves, before this step, the open calls that can't be around one of this depth; gives the step behind that.
    fn leave_unseen_before(&mut self, mut step: usize, depth: u32) -> usize {
        while let Some(open) = self.open.pop_if(|open| self.calls[open.call].depth >= depth) {
            let Step { time_ns, cpu, .. } = self.steps[step - 1];
            self.leave_at(step, open, time_ns, cpu);
            step += 1;
        }
        step
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
            self.leave_at(self.steps.len(), open, time_ns, cpu);
        }
    }

    /// Leaves what is open at the end of the trace.
    fn end(&mut self, time_ns: u64) {
        while let Some(open) = self.open.pop() {
            let cpu = self.steps.last().map_or(0, |step| step.cpu);
            self.leave_at(self.steps.len(), open, time_ns, cpu);
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
