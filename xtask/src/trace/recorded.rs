//! What a kernel recorded: its dump, as a [`Trace`].
//!
//! A kernel records a call once, at its exit, with the time of its entry. Here each gets its entry back, in the place
//! where it was: of one context, exits come in the order of time, those of calls inside before those around them, and so
//! the calls inside one are the last ones before it that are deeper and did not begin earlier. Times alone would not do:
//! many calls can fall into one tick of the clock.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use fentry::symbols::Function;
use fentry::tracer::dump::{Dump, TimedEvent};
use fentry::tracer::event;
use fentry::tracer::profiler::FunctionProfile;

use super::model::{Context, Cpu, Event, EventKind, LeftOut, Profiled, Symbol, Task, Trace};

/// What is deeper than every call.
const NO_CALL: u32 = u32::MAX;

impl Trace {
    /// Reads a dump. `functions` are those of the kernel that wrote it, by address.
    pub(crate) fn from_dump(bytes: &[u8], functions: &[Function]) -> Result<Self> {
        let dump = Dump::parse(bytes).context("this is not what a kernel's tracer wrote")?;
        ensure!(dump.ticks_per_second() > 0, "the dump's clock does not tick");
        let clock = Clock { ticks_per_second: dump.ticks_per_second() };
        let mut left_out = LeftOut::default();
        let mut contexts = BTreeMap::<Context, Nest>::new();
        let symbols: Vec<Symbol> = functions
            .iter()
            .map(|Function { name, addr, size, .. }| Symbol { addr: *addr, size: *size, name: name.clone() })
            .collect();
        let mut trace = Self {
            counter_hz: dump.ticks_per_second(),
            start_time_ns: 0,
            cpus: (0..dump.cpus())
                .map(|id| Cpu { id, lost: dump.counts(id).map_or(0, |counts| counts.lost()) })
                .collect(),
            symbols,
            tasks: dump.tasks().map(|(id, name)| Task { id, name: name.to_owned() }).collect(),
            events: Vec::new(),
            profile: Vec::new(),
            left_out,
        };
        for timed in dump.events() {
            match event_of(&timed, clock, &trace) {
                Ok(event) => contexts.entry(event.context()).or_default().add(event),
                Err(NotShown::Void) => left_out.void += 1,
                Err(NotShown::User) => left_out.user += 1,
            }
        }
        trace.events = contexts.into_values().flat_map(Nest::into_events).collect();
        // Stable: what a context did in one tick stays in its order.
        trace.events.sort_by_key(|event| event.time_ns);
        trace.start_time_ns = trace.events.first().map_or(0, |event| event.time_ns);
        for FunctionProfile { ip, hits, total, own, min, max } in dump.functions() {
            if ip.get() == 0 {
                left_out.unprofiled += hits;
                continue;
            }
            let [total_ns, own_ns, min_ns, max_ns] = [total, own, min, max].map(|ticks| clock.nanoseconds(ticks));
            trace.profile.push(Profiled { ip: ip.get(), hits, total_ns, own_ns, min_ns, max_ns });
        }
        trace.left_out = left_out;
        trace.check()?;
        Ok(trace)
    }
}

/// The clock of a dump.
#[derive(Clone, Copy)]
struct Clock {
    ticks_per_second: u64,
}

impl Clock {
    fn nanoseconds(self, ticks: u64) -> u64 {
        let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }
}

/// Why a record is no event of a trace.
enum NotShown {
    Void,
    User,
}

fn event_of(timed: &TimedEvent<'_>, clock: Clock, trace: &Trace) -> Result<Event, NotShown> {
    let time_ns = clock.nanoseconds(timed.recorded.time);
    let kind = match timed.recorded.event {
        event::Event::Function { ip, parent, arguments } => {
            EventKind::Function { ip: ip.get(), parent: parent.get(), args: arguments.iter().collect() }
        }
        event::Event::GraphEntry { ip, parent, depth } => {
            EventKind::Entry { ip: ip.get(), parent: Some(parent.get()), depth: depth.into() }
        }
        event::Event::GraphExit { ip, entry_time, depth, value } => EventKind::Exit {
            ip: ip.get(),
            depth: depth.into(),
            entry_time_ns: clock.nanoseconds(entry_time).min(time_ns),
            retval: Some(value),
        },
        event::Event::Stack { ip, frames } => {
            let frames: String = frames.iter().map(|frame| format!(" <- {}", trace.name_at(frame))).collect();
            EventKind::Marker { text: format!("stack: {}{frames}", trace.name_at(ip.get())) }
        }
        event::Event::Marker { text } => EventKind::Marker { text: text.to_owned() },
        event::Event::User { .. } => return Err(NotShown::User),
        _ => return Err(NotShown::Void),
    };
    Ok(Event { time_ns, cpu: timed.cpu, task: timed.recorded.task, kind })
}

/// What a context did, put inside each other.
#[derive(Default)]
struct Nest {
    done: Vec<Group>,
}

/// A call with all that happened inside, or an event that is none.
struct Group {
    depth: u32,
    start_ns: u64,
    events: Vec<Event>,
}

impl Nest {
    fn add(&mut self, event: Event) {
        let (depth, start_ns) = match event.kind {
            EventKind::Exit { depth, entry_time_ns, .. } => (depth, entry_time_ns),
            EventKind::Entry { depth, .. } => (depth, event.time_ns),
            EventKind::Function { .. } | EventKind::Marker { .. } => (NO_CALL, event.time_ns),
        };
        let mut events = Vec::new();
        if let EventKind::Exit { ip, .. } = event.kind {
            let inside = self.done.iter().rev().take_while(|group| group.depth > depth && group.start_ns >= start_ns);
            let first = self.done.len() - inside.count();
            let inside = self.done.split_off(first);
            // An entry of its own, where the kernel recorded one.
            match self.done.pop_if(|group| group.is_entry_of(ip, depth)) {
                Some(entry) => events = entry.events,
                None => {
                    let kind = EventKind::Entry { ip, parent: None, depth };
                    events.push(Event { time_ns: start_ns, kind, ..event });
                }
            }
            events.extend(inside.into_iter().flat_map(|group| group.events));
        }
        events.push(event);
        self.done.push(Group { depth, start_ns, events });
    }

    /// All events, in the order in which they happened.
    fn into_events(self) -> Vec<Event> {
        let mut events: Vec<Event> = self.done.into_iter().flat_map(|group| group.events).collect();
        let mut time_ns = 0;
        for event in &mut events {
            // Counters of two CPUs may differ by a little.
            time_ns = event.time_ns.max(time_ns);
            event.time_ns = time_ns;
        }
        events
    }
}

impl Group {
    fn is_entry_of(&self, function: u64, level: u32) -> bool {
        let [Event { kind: EventKind::Entry { ip, depth, .. }, .. }] = self.events[..] else { return false };
        (ip, depth) == (function, level)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use fentry::TextAddr;
    use fentry::tracer::dump::{DumpWriter, Reading};
    use fentry::tracer::event::Recorder;
    use fentry::tracer::profiler::{Profile, ProfileSlot};
    use fentry::tracer::ring::{Mode, Ring, RingBlock};

    use super::*;
    use fentry::symbols::Convention;

    const HERTZ: u64 = 62_500_000;

    fn at(number: u64) -> TextAddr {
        TextAddr::new(0x1000 * number + 4)
    }

    fn functions() -> Vec<Function> {
        (1..=9)
            .map(|n| Function { name: format!("f{n}"), addr: 0x1000 * n, size: 0x800, convention: Convention::Base })
            .collect()
    }

    /// The trace of what `record` records on each of two CPUs, with a clock that it sets.
    fn traced(record: impl Fn(usize, &Recorder<'_, &dyn Fn() -> u64>, &Cell<u64>)) -> Trace {
        let ring = || -> &'static Ring {
            let memory = Box::leak((0..4).map(|_| RingBlock::new()).collect());
            Box::leak(Box::new(Ring::from_slice(memory, Mode::Overwrite).unwrap()))
        };
        let rings = [ring(), ring()];
        for (cpu, ring) in rings.into_iter().enumerate() {
            let time = Cell::new(0);
            let clock = || time.get();
            record(cpu, &Recorder { ring, task: cpu as u32 + 1, clock: &clock }, &time);
        }
        Trace::from_dump(&dump(&rings), &functions()).unwrap()
    }

    fn dump(rings: &[&Ring]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let sink = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok::<(), ()>(())
        };
        let mut writer = DumpWriter::begin(sink, HERTZ, rings).unwrap();
        writer.task(1, "first").unwrap();
        writer.pull(Reading::Consume).unwrap();
        writer.finish().unwrap();
        bytes
    }

    /// `time task +name` for an entry, `-name` for an exit.
    fn in_words(trace: &Trace) -> Vec<String> {
        let word = |event: &Event| {
            let name = |ip| trace.name_at(ip);
            let what = match &event.kind {
                EventKind::Entry { ip, .. } => format!("+{}", name(*ip)),
                EventKind::Exit { ip, .. } => format!("-{}", name(*ip)),
                EventKind::Function { ip, .. } => name(*ip).into_owned(),
                EventKind::Marker { text } => text.clone(),
            };
            format!("{} {} {what}", event.time_ns, event.task)
        };
        trace.events.iter().map(word).collect()
    }

    #[test]
    fn calls_get_their_entries_back_where_they_were() {
        let trace = traced(|cpu, recorder, time| {
            let exit = |now, function, entry, depth| {
                time.set(now);
                assert!(recorder.graph_exit(at(function), entry, depth, 7));
            };
            if cpu == 0 {
                // All in one tick: f1 { f2 { f3 } f3 } f1 { }
                exit(5, 3, 5, 2);
                exit(5, 2, 5, 1);
                exit(5, 3, 5, 1);
                exit(5, 1, 5, 0);
                exit(5, 1, 5, 0);
            } else {
                exit(3, 5, 2, 1);
                recorder.marker("between");
                exit(9, 4, 1, 0);
            }
        });
        let expected = [
            "16 2 +f4",
            "32 2 +f5",
            "48 2 -f5",
            "48 2 between",
            "80 1 +f1",
            "80 1 +f2",
            "80 1 +f3",
            "80 1 -f3",
            "80 1 -f2",
            "80 1 +f3",
            "80 1 -f3",
            "80 1 -f1",
            "80 1 +f1",
            "80 1 -f1",
            "144 2 -f4",
        ];
        assert_eq!(in_words(&trace), expected);
        assert_eq!((trace.start_time_ns, trace.task_name(1), trace.cpus.len()), (16, "first", 2));
        let EventKind::Exit { depth: 0, entry_time_ns: 16, retval: Some(7), .. } = trace.events[14].kind else {
            panic!()
        };
    }

    #[test]
    fn what_began_before_a_call_is_not_inside_it() {
        // The exit of what was around f2 is lost.
        let trace = traced(|cpu, recorder, time| {
            for (now, function, entry, depth) in [(3, 2, 1, 1), (8, 1, 6, 0)].into_iter().filter(|_| cpu == 0) {
                time.set(now);
                recorder.graph_exit(at(function), entry, depth, 0);
            }
        });
        assert_eq!(in_words(&trace), ["16 1 +f2", "48 1 -f2", "96 1 +f1", "128 1 -f1"]);
    }

    #[test]
    fn entries_that_were_recorded_are_not_put_in_again() {
        let trace = traced(|cpu, recorder, time| {
            if cpu == 0 {
                recorder.graph_entry(at(1), at(2), 0);
                recorder.graph_entry(at(3), at(1), 1);
                time.set(4);
                recorder.graph_exit(at(3), 0, 1, 0);
                recorder.graph_exit(at(1), 0, 0, 0);
            }
        });
        assert_eq!(in_words(&trace), ["0 1 +f1", "0 1 +f3", "64 1 -f3", "64 1 -f1"]);
    }

    #[test]
    fn other_records_become_events_or_are_counted() {
        let trace = traced(|cpu, recorder, _| {
            recorder.function(at(1), at(2), &[8, 9]);
            recorder.stack(at(3), &[at(4), TextAddr::new(0x10)]);
            recorder.user(200, 0, [1]);
            if cpu == 1 {
                recorder.user(1, 0, [1]);
            }
        });
        assert_eq!(in_words(&trace)[..2], ["0 1 f1", "0 1 stack: f3 <- f4 <- 0x10"]);
        assert_eq!(trace.left_out, LeftOut { void: 1, user: 2, unprofiled: 0 });
        let EventKind::Function { parent: 0x2004, ref args, .. } = trace.events[0].kind else { panic!() };
        assert_eq!(args[..], [8, 9]);
    }

    #[test]
    fn what_was_lost_and_what_was_counted_is_told() {
        let trace = traced(|cpu, recorder, time| {
            (0..1000 * cpu as u64).for_each(|now| {
                time.set(now);
                recorder.graph_exit(at(1), now, 0, 0);
            });
        });
        assert!(trace.cpus[0].lost == 0 && trace.cpus[1].lost > 0);
        assert_eq!(trace.cpus[1].lost + trace.events.len() as u64 / 2, 1000);

        let profile = Profile::new(Box::leak((0..2).map(|_| ProfileSlot::new()).collect()));
        (1..=3).for_each(|n| profile.add(at(n), 100 * n, 10));
        let mut bytes = Vec::new();
        let sink = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok::<(), ()>(())
        };
        let mut writer = DumpWriter::begin(sink, HERTZ, &[]).unwrap();
        writer.profile(&profile).unwrap();
        writer.finish().unwrap();
        let mut trace = Trace::from_dump(&bytes, &functions()).unwrap();
        trace.profile.sort_by_key(|row| row.ip);
        let row = |ip: TextAddr, total_ns| Profiled {
            ip: ip.get(),
            hits: 1,
            total_ns,
            own_ns: total_ns - 160,
            min_ns: total_ns,
            max_ns: total_ns,
        };
        assert_eq!(trace.profile, [row(at(1), 1600), row(at(2), 3200)]);
        assert_eq!(trace.left_out.unprofiled, 1);
    }

    #[test]
    fn other_bytes_are_refused() {
        let error = format!("{:#}", Trace::from_dump(b"fentryTX and on", &[]).unwrap_err());
        assert!(error.contains("no dump of trace buffers"), "{error}");
    }
}
