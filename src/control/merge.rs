//! All rings as one stream of events, in the order of their times, without a buffer: each ring has its next record.

use super::flight::{Calls, Flight};
use crate::tracer::event::{Event, GRAPH_EXIT, Recorded, decode};
use crate::tracer::ring::{HeldBlock, MAX_RECORD_BYTES, Pass, Record, Ring};

/// What becomes of the events that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They stay.
    Look,
    /// They are taken out, block by block.
    Consume,
}

/// A way through one ring.
struct Cursor {
    pass: Pass<'static>,
    block: Option<HeldBlock<'static>>,
    /// How many of the block's records are behind it.
    passed: usize,
    /// What is older is left out.
    since: u64,
    is_shown: bool,
}

impl Cursor {
    fn new(ring: &'static Ring, purpose: Purpose, since: u64) -> Self {
        let pass = match purpose {
            Purpose::Look => ring.snapshot(),
            Purpose::Consume => ring.consume(),
        };
        Self { pass, block: None, passed: 0, since, is_shown: true }
    }

    /// Calls `look` with the next record, without going past it.
    fn peek<R>(&mut self, look: impl FnOnce(&Record<'_>) -> R) -> Option<R> {
        loop {
            if let Some(record) = self.block.as_ref().and_then(|block| block.records().nth(self.passed)) {
                if record.time() >= self.since {
                    return Some(look(&record));
                }
                self.passed += 1;
                continue;
            }
            // One at a time is held; writers go past it meanwhile.
            self.block.take().into_iter().for_each(HeldBlock::consume);
            (self.block, self.passed) = (Some(self.pass.next_block()?), 0);
        }
    }
}

/// An event, and where it was recorded.
pub(super) struct OfCpu<'a> {
    pub(super) cpu: usize,
    pub(super) recorded: Recorded<'a>,
}

/// The events of all rings, and the calls of the flight recorder.
pub(super) struct Merged<'a, const CPUS: usize> {
    cursors: [Cursor; CPUS],
    calls: [Option<Calls<'a>>; CPUS],
    /// How many arguments each of these calls has.
    arguments: usize,
    /// The record that is shown.
    bytes: [u8; MAX_RECORD_BYTES],
}

impl<'a, const CPUS: usize> Merged<'a, CPUS> {
    /// Begins a way through these rings. What is recorded meanwhile is seen up to the block that each ring writes to now, so it
    /// comes to an end, also where showing an event makes another one.
    pub(super) fn new(rings: [&'static Ring; CPUS], purpose: Purpose, since: u64) -> Self {
        let cursors = rings.map(|ring| Cursor::new(ring, purpose, since));
        Self { cursors, calls: [const { None }; CPUS], arguments: 0, bytes: [0; MAX_RECORD_BYTES] }
    }

    /// The same with the calls of the flight recorder, which are up to the last one that there is now.
    pub(super) fn with_calls(mut self, flight: &'a Flight<CPUS>, purpose: Purpose) -> Self {
        self.calls = core::array::from_fn(|cpu| flight.calls(cpu, purpose == Purpose::Consume));
        self.arguments = flight.arguments();
        self
    }

    /// The same of one CPU only.
    pub(super) fn of_cpu(mut self, cpu: usize) -> Self {
        for (number, cursor) in self.cursors.iter_mut().enumerate() {
            cursor.is_shown = number == cpu;
        }
        for (number, calls) in self.calls.iter_mut().enumerate() {
            calls.take_if(|_| number != cpu);
        }
        self
    }

    /// The next event that can be read. At each event that is taken, a ring goes past one record.
    pub(super) fn next(&mut self) -> Option<OfCpu<'_>> {
        let Self { cursors, calls, arguments, bytes } = self;
        let times = cursors
            .iter_mut()
            .enumerate()
            .filter(|(_, cursor)| cursor.is_shown)
            .filter_map(|(cpu, cursor)| Some((cursor.peek(|record| record.time())?, cpu)));
        let next = times.min();
        let call = calls.iter_mut().enumerate().filter_map(|(cpu, calls)| Some((calls.as_mut()?.peek()?, cpu))).min();
        if let Some((_, cpu)) = call.filter(|(time, _)| next.is_none_or(|(before, _)| *time < before)) {
            let recorded = calls.get_mut(cpu)?.as_mut()?.take(*arguments)?;
            return Some(OfCpu { cpu, recorded });
        }
        let (_, cpu) = next?;
        let cursor = cursors.get_mut(cpu)?;
        let length = cursor.peek(|record| record.bytes(bytes).len())?;
        cursor.passed += 1;
        let bytes = bytes.get(..length)?;
        // A kind that a kernel's own tracer gave a record of another shape.
        let void = Recorded { time: 0, task: 0, event: Event::Void };
        Some(OfCpu { cpu, recorded: decode(bytes).map_or(void, |(recorded, _)| recorded) })
    }

    /// If the CPU's next record is the exit of this call, goes past it and returns its time and its result.
    pub(super) fn take_exit(&mut self, cpu: usize, task: u32, ip: u64, depth: u16) -> Option<(u64, u64)> {
        let cursor = self.cursors.get_mut(cpu)?;
        let exit = cursor.peek(|record| {
            let label = record.label();
            let is_it = (label.kind, label.task, label.extra, record.word(0)) == (GRAPH_EXIT, task, depth, Some(ip));
            is_it.then(|| (record.time(), record.word(2).unwrap_or(0)))
        });
        let exit = exit??;
        cursor.passed += 1;
        Some(exit)
    }
}
