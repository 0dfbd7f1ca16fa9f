//! What becomes of a dump, whole or not.

use std::cell::Cell;

use fentry::tracer::dump::{DumpWriter, Reading};
use fentry::tracer::event::EventWriter;
use fentry::tracer::profiler::{Profile, ProfileSlot};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::{TextAddr, TextRange};

use super::{at, functions};
use crate::trace::model::{Event, EventKind, LeftOut, Profiled, Trace};

const HERTZ: u64 = 62_500_000;

/// The trace of what `record` records on each of two CPUs, with a clock that it sets.
fn traced(record: impl Fn(usize, &EventWriter<'_, &dyn Fn() -> u64>, &Cell<u64>)) -> Trace {
    let ring = || -> &'static Ring {
        let memory = Box::leak((0..4).map(|_| RingBlock::new()).collect());
        Box::leak(Box::new(Ring::from_slice(memory, Mode::Overwrite).unwrap()))
    };
    let rings = [ring(), ring()];
    for (cpu, ring) in rings.into_iter().enumerate() {
        let time = Cell::new(0);
        let clock = || time.get();
        record(cpu, &EventWriter { ring, task: cpu as u32 + 1, clock: &clock }, &time);
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
    let EventKind::Exit { depth: 0, entry_time_ns: 16, retval: Some(7), .. } = trace.events[14].kind else { panic!() };
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
    assert!(trace.cpus[0].lost() == 0 && trace.cpus[1].overwritten > 0 && trace.cpus[1].refused == 0);
    assert_eq!(trace.cpus[1].lost() + trace.events.len() as u64 / 2, 1000);

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

/// A dump of one call of the function at each address, and what is written before the records.
fn dump_of(ips: &[u64], before: impl Fn(&mut Writer<'_, '_>)) -> Vec<u8> {
    let memory = Box::leak((0..4).map(|_| RingBlock::new()).collect());
    let ring = Box::leak(Box::new(Ring::from_slice(memory, Mode::Stop).unwrap()));
    let recorder = EventWriter { ring, task: 1, clock: || 5 };
    ips.iter().for_each(|ip| assert!(recorder.function(TextAddr::new(*ip), TextAddr::new(*ip), &[])));
    let (mut bytes, rings) = (Vec::new(), [&*ring]);
    let sink: &mut dyn FnMut(&[u8]) -> Result<(), ()> = &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    };
    let mut writer = DumpWriter::begin(sink, HERTZ, &rings).unwrap();
    before(&mut writer);
    writer.pull(Reading::Consume).unwrap();
    writer.finish().unwrap();
    bytes
}

type Writer<'r, 's> = DumpWriter<'r, &'s mut dyn FnMut(&[u8]) -> Result<(), ()>>;

#[test]
fn a_kernel_that_runs_elsewhere_and_its_modules_have_names() {
    let module = |writer: &mut Writer<'_, '_>| {
        let text = TextRange::new(TextAddr::new(0xffff_9000_0000), TextAddr::new(0xffff_9000_1000));
        writer.module(text, "net").unwrap();
        writer.symbol(0xffff_9000_0100, 0x40, "net::send").unwrap();
        writer.symbol(0xffff_a000_0000, 0x40, "stray").unwrap();
    };
    // Up, down, and not at all.
    for slide in [0x7fff_0020_0000, 0u64.wrapping_sub(0x800), 0] {
        let ips = [0x2004_u64.wrapping_add(slide), 0xffff_9000_0104, 0xffff_9000_0140, 0xffff_a000_0000];
        let bytes = dump_of(&ips, |writer| {
            writer.slide(slide).unwrap();
            module(writer);
        });
        let trace = Trace::from_dump(&bytes, &functions()).unwrap();
        let expected = ["f2", "net::send [net]", "0xffff90000140", "stray"];
        assert_eq!(ips.map(|ip| trace.name_at(ip).into_owned()), expected, "{slide:#x}");
        assert!(trace.damage.is_none());
    }
    // A kernel that does not say where it is.
    let trace = Trace::from_dump(&dump_of(&[0x2004], |_| {}), &functions()).unwrap();
    assert_eq!(trace.name_at(0x2004), "f2");
}

#[test]
fn what_is_whole_of_a_dump_is_read_and_the_rest_is_said_to_be_missing() {
    let trace = traced(|_, recorder, time| {
        (0..40).for_each(|now| {
            time.set(now);
            recorder.function(at(1), at(2), &[]);
        });
    });
    assert_eq!((trace.events.len(), &trace.damage), (80, &None));
    let ips = [0x1004; 40];
    let bytes = dump_of(&ips, |writer| writer.task(1, "first").unwrap());
    let mut seen = [false; 2];
    for length in 24..bytes.len() {
        let trace = Trace::from_dump(&bytes[..length], &functions()).unwrap();
        let damage = trace.damage.as_deref().unwrap();
        assert!(damage.contains("ends too early"), "{damage}");
        assert!([0, 40].contains(&trace.events.len()), "a chunk is read whole: {}", trace.events.len());
        seen[usize::from(trace.events.len() == 40)] = true;
        let mut table = Vec::new();
        crate::trace::formats::summary::write(&trace, &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("is missing") && table.contains(damage), "{table}");
    }
    assert_eq!(seen, [true; 2]);
    assert!(Trace::from_dump(&bytes[..23], &functions()).is_err());
}

#[test]
fn what_was_refused_and_what_was_overwritten_are_told_apart() {
    let memory = || Box::leak((0..2).map(|_| RingBlock::new()).collect());
    let rings: [&Ring; 2] =
        [Mode::Stop, Mode::Overwrite].map(|mode| &*Box::leak(Box::new(Ring::from_slice(memory(), mode).unwrap())));
    for ring in rings {
        let recorder = EventWriter { ring, task: 1, clock: || 5 };
        for _ in 0..1000 {
            let _ = recorder.function(at(1), at(2), &[]);
        }
    }
    let trace = Trace::from_dump(&dump(&rings), &functions()).unwrap();
    let [stopped, overwriting] = trace.cpus[..] else { panic!() };
    assert!(stopped.refused > 0 && stopped.overwritten == 0, "{stopped:?}");
    assert!(overwriting.overwritten > 0 && overwriting.refused == 0, "{overwriting:?}");
}

#[test]
fn other_bytes_are_refused() {
    let error = format!("{:#}", Trace::from_dump(b"fentryTX and on", &[]).unwrap_err());
    assert!(error.contains("no dump of trace buffers"), "{error}");
}
