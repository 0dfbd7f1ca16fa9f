//! All rings as one stream of events, in the order of their times, without a buffer: each ring has its next record.

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

/// The events of all rings.
pub(super) struct Merged<const CPUS: usize> {
    cursors: [Cursor; CPUS],
    /// The record that is shown.
    bytes: [u8; MAX_RECORD_BYTES],
}

impl<const CPUS: usize> Merged<CPUS> {
    /// Begins a way through these rings. What is recorded meanwhile is seen up to the block that each ring writes to now, so it
    /// comes to an end, also where showing an event makes another one.
    pub(super) fn new(rings: [&'static Ring; CPUS], purpose: Purpose, since: u64) -> Self {
        Self { cursors: rings.map(|ring| Cursor::new(ring, purpose, since)), bytes: [0; MAX_RECORD_BYTES] }
    }

    /// The same of one CPU only.
    pub(super) fn of_cpu(mut self, cpu: usize) -> Self {
        for (number, cursor) in self.cursors.iter_mut().enumerate() {
            cursor.is_shown = number == cpu;
        }
        self
    }

    /// The next event that can be read. At each event that is taken, a ring goes past one record.
    pub(super) fn next(&mut self) -> Option<OfCpu<'_>> {
        let Self { cursors, bytes } = self;
        let times = cursors
            .iter_mut()
            .enumerate()
            .filter(|(_, cursor)| cursor.is_shown)
            .filter_map(|(cpu, cursor)| Some((cursor.peek(|record| record.time())?, cpu)));
        let (_, cpu) = times.min()?;
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
