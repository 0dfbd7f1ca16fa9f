//! The [flight recorder](crate::record::flight) as a tracer: its stub writes, lines of text read.

use crate::ops::Ops;
use crate::record::CpuArea;
use crate::record::flight::{FlightReader, FlightRecord, MAX_ARGUMENTS};
use crate::tracer::event::{Event, PayloadWords, Recorded};
use core::sync::atomic::{AtomicU64, Ordering};

/// The flight recorder's ops, and where the calls of each CPU are.
#[derive(Debug)]
pub(super) struct Flight<const CPUS: usize> {
    pub(super) ops: &'static Ops,
    areas: [&'static CpuArea; CPUS],
    /// Of each CPU, the number of the first call that was not taken out.
    taken: [AtomicU64; CPUS],
}

impl<const CPUS: usize> Flight<CPUS> {
    pub(super) fn new(ops: &'static Ops, areas: [&'static CpuArea; CPUS]) -> Self {
        Self { ops, areas, taken: [const { AtomicU64::new(0) }; CPUS] }
    }

    /// The calls of a CPU that were not taken out; with `takes`, those that are passed are.
    pub(super) fn calls(&self, cpu: usize, takes: bool) -> Option<Calls<'_>> {
        let (area, taken) = (self.areas.get(cpu)?, self.taken.get(cpu)?);
        let reader = area.recording().starting_at(taken.load(Ordering::Relaxed));
        let end = reader.produced();
        Some(Calls { reader, end, next: None, taken: takes.then_some(taken), words: [[0; 8]; MAX_ARGUMENTS] })
    }

    /// Of a CPU's calls that were not taken out, how many are kept, and how many there were.
    pub(super) fn counts(&self, cpu: usize) -> [u64; 2] {
        self.calls(cpu, false)
            .map_or([0; 2], |calls| [calls.reader.kept(), calls.end.saturating_sub(calls.reader.at())])
    }

    /// Takes out all calls of a CPU.
    pub(super) fn forget(&self, cpu: usize) {
        if let Some((area, taken)) = self.areas.get(cpu).zip(self.taken.get(cpu)) {
            taken.store(area.recording().produced(), Ordering::Relaxed);
        }
    }

    /// How many arguments each call has.
    pub(super) fn arguments(&self) -> usize {
        self.ops.recorded_arguments()
    }
}

/// A way through the calls of one CPU, up to the last one that there was when it began: reading makes calls itself.
pub(super) struct Calls<'a> {
    reader: FlightReader<'static>,
    end: u64,
    next: Option<FlightRecord>,
    taken: Option<&'a AtomicU64>,
    /// The arguments of the call that is shown.
    words: [[u8; 8]; MAX_ARGUMENTS],
}

impl Calls<'_> {
    /// The time of the next call.
    pub(super) fn peek(&mut self) -> Option<u64> {
        while self.next.is_none() && self.reader.at() < self.end {
            self.next = self.reader.next().filter(|call| call.index < self.end);
            // A writer may be held up in the middle of one for as long as it likes.
            if self.next.is_none() && !self.reader.skip_unfinished() {
                break;
            }
        }
        self.next.map(|call| call.time)
    }

    /// The next call, with so many arguments, as the function tracer would have recorded it; of which task is not known.
    pub(super) fn take(&mut self, arguments: usize) -> Option<Recorded<'_>> {
        let call = self.next.take()?;
        if let Some(taken) = self.taken {
            taken.store(call.index + 1, Ordering::Relaxed);
        }
        self.words = call.arguments.map(u64::to_le_bytes);
        let arguments = PayloadWords::new(self.words.get(..arguments).unwrap_or_default());
        let event = Event::Function { ip: call.ip, parent: call.parent_ip, arguments };
        Some(Recorded { time: call.time, task: 0, event })
    }
}

#[cfg(test)]
mod tests {
    use super::{Flight, FlightRecord};
    use crate::address::TextAddr;
    use crate::control::merge::{Merged, OfCpu, Purpose};
    use crate::ops::Ops;
    use crate::record::CpuArea;
    use crate::record::flight::FlightSlot;
    use crate::tracer::event::{Event, EventWriter};
    use crate::tracer::ring::{Mode, Ring, RingBlock};
    use std::boxed::Box;
    use std::vec::Vec;

    static OPS: Ops = Ops::recorder(1);

    fn flight() -> (Flight<2>, [&'static CpuArea; 2]) {
        let areas: [&'static CpuArea; 2] = core::array::from_fn(|_| &*Box::leak(Box::new(CpuArea::new())));
        for area in areas {
            area.set_ring(Box::leak((0..4).map(|_| FlightSlot::new()).collect::<Vec<_>>().into_boxed_slice())).unwrap();
        }
        (Flight::new(&OPS, areas), areas)
    }

    fn write(area: &CpuArea, time: u64) {
        let (ip, parent_ip) = (TextAddr::new(0x1000 + time), TextAddr::new(0x2000));
        area.write(&FlightRecord { index: 0, ip, parent_ip, time, arguments: [time * 2, 7, 7, 7] });
    }

    fn rings() -> [&'static Ring; 2] {
        core::array::from_fn(|_| {
            let blocks: &'static [RingBlock; 2] = Box::leak(Box::new([const { RingBlock::new() }; 2]));
            &*Box::leak(Box::new(Ring::new(blocks, Mode::Overwrite)))
        })
    }

    /// CPUs, times and the first arguments; of a marker none.
    fn read(mut merged: Merged<'_, 2>) -> Vec<(usize, u64, Option<u64>)> {
        let mut read = Vec::new();
        while let Some(OfCpu { cpu, recorded }) = merged.next() {
            let argument = match recorded.event {
                Event::Function { arguments, ip, .. } => {
                    assert_eq!((ip.get(), arguments.len()), (0x1000 + recorded.time, 1));
                    arguments.iter().next()
                }
                _ => None,
            };
            read.push((cpu, recorded.time, argument));
        }
        read
    }

    #[test]
    fn calls_come_between_events_by_their_times_and_are_taken_once() {
        let ((flight, areas), rings) = (flight(), rings());
        [10, 40].into_iter().for_each(|time| write(areas[0], time));
        [20, 30].into_iter().for_each(|time| write(areas[1], time));
        EventWriter { ring: rings[1], task: 1, clock: || 25_u64 }.marker("between");
        let all = [(0, 10, Some(20)), (1, 20, Some(40)), (1, 25, None), (1, 30, Some(60)), (0, 40, Some(80))];
        let merged = |purpose| Merged::new(rings, purpose, 0).with_calls(&flight, purpose);
        assert_eq!(read(merged(Purpose::Look)), all);
        assert_eq!(flight.counts(0), [2, 2]);
        assert_eq!(read(merged(Purpose::Look).of_cpu(0)), [all[0], all[4]]);
        assert_eq!(read(merged(Purpose::Consume).of_cpu(1)), all[1..4]);
        assert_eq!(read(merged(Purpose::Look)), [all[0], all[4]]);
        write(areas[1], 50);
        flight.forget(0);
        assert_eq!(read(merged(Purpose::Consume)), [(1, 50, Some(100))]);
        assert_eq!(read(merged(Purpose::Consume)), []);
    }

    #[test]
    fn what_is_called_while_calls_are_read_is_for_the_next_time() {
        let (flight, areas) = flight();
        (0..6).for_each(|time| write(areas[0], time));
        assert_eq!(flight.counts(0), [4, 6]);
        let mut calls = flight.calls(0, true).unwrap();
        assert_eq!(calls.peek(), Some(2));
        write(areas[0], 6);
        let mut times = Vec::new();
        while calls.peek().is_some() {
            times.push(calls.take(0).unwrap().time);
        }
        assert_eq!(times, [2, 3, 4, 5]);
        assert_eq!(flight.calls(0, true).unwrap().peek(), Some(6));
    }
}
