use fentry::TextAddr;
use fentry::tracer::dump::{Dump, DumpWriter, Reading};
use fentry::tracer::event::{Event, EventWriter};
use fentry::tracer::latency::Histogram;
use fentry::tracer::profiler::{Profile, ProfileSlot};
use fentry::tracer::ring::{Label, Mode, Ring, RingBlock};
use fentry::tracer::stack::DeepestStack;
use std::cell::Cell;
use std::convert::Infallible;
use std::thread;

const IP: TextAddr = TextAddr::new(0x4020_0000);

fn ring(mode: Mode) -> &'static Ring {
    let blocks = Box::leak((0..4).map(|_| RingBlock::new()).collect());
    Box::leak(Box::new(Ring::from_slice(blocks, mode).unwrap()))
}

fn dumped(rings: &[&Ring], profile: &Profile) -> Vec<u8> {
    let mut bytes = Vec::new();
    let sink = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok::<(), Infallible>(())
    };
    let mut writer = DumpWriter::begin(sink, 1_000, rings).unwrap();
    writer.task(1, "first").unwrap();
    writer.pull(Reading::Consume).unwrap();
    writer.profile(profile).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn what_is_recorded_comes_out_of_the_dump() {
    static SLOTS: [ProfileSlot; 4] = [const { ProfileSlot::new() }; 4];
    static PROFILE: Profile = Profile::new(&SLOTS);
    let ring = ring(Mode::Overwrite);
    let time = Cell::new(1);
    let recorder = EventWriter { ring, task: 1, clock: || time.replace(time.get() + 1) };
    assert!(recorder.function(IP, IP, &[1, 2, 3]));
    assert!(recorder.graph_entry(IP, IP, 0) && recorder.graph_exit(IP, 2, 0, 5));
    assert!(recorder.stack(IP, &[IP, IP]) && recorder.marker("half done") && recorder.user(3, 4, [5, 6]));
    PROFILE.add(IP, 10, 4);
    let bytes = dumped(&[ring], &PROFILE);
    let dump = Dump::parse(&bytes).unwrap();
    assert_eq!((dump.cpus(), dump.ticks_per_second(), dump.events().count()), (1, 1_000, 6));
    assert!(
        matches!(dump.events().next().unwrap().recorded.event, Event::Function { arguments, .. } if arguments.len() == 3)
    );
    assert_eq!(dump.tasks().collect::<Vec<_>>(), [(1, "first")]);
    assert_eq!(
        dump.functions().map(|function| (function.hits, function.total, function.own)).collect::<Vec<_>>(),
        [(1, 10, 6)]
    );
    assert_eq!(dump.counts(0).map(|counts| (counts.produced(), counts.lost())), Some((6, 0)));
    // Cut anywhere, it is an error or less, never something else.
    for length in (0..bytes.len()).step_by(if cfg!(miri) { 37 } else { 1 }) {
        assert!(Dump::parse(&bytes[..length]).is_err(), "{length}");
        if let Ok((salvaged, _)) = Dump::salvage(&bytes[..length]) {
            assert!(salvaged.events().count() <= 6);
        }
    }
}

#[test]
fn several_threads_write_and_one_reads() {
    const WRITERS: u64 = 3;
    const RECORDS: u64 = if cfg!(miri) { 40 } else { 4_000 };
    let ring = ring(Mode::Overwrite);
    let mut read = 0;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for n in 0..RECORDS {
                    let recorder = EventWriter { ring, task: writer as u32, clock: || n };
                    recorder.function(IP, IP, &[n, !n]);
                }
            });
        }
        for _ in 0..10 {
            let mut pass = ring.consume();
            while let Some(block) = pass.next_block() {
                read += block.records().filter(|record| record.word(0).is_some()).count() as u64;
                block.consume();
            }
            thread::yield_now();
        }
    });
    let counts = ring.counts();
    assert_eq!(counts.produced(), WRITERS * RECORDS);
    assert!(read <= counts.read, "{read} {counts:?}");
}

#[test]
fn a_record_may_be_written_by_words_or_given_up() {
    let ring = ring(Mode::Stop);
    let mut slot = ring.reserve(3, || 7).unwrap();
    (0..5).for_each(|index| slot.write(index, 11));
    drop(slot);
    let slot = ring.reserve(0, || 8).unwrap();
    slot.commit(Label { kind: 9, extra: 1, task: 2 });
    assert!(ring.reserve(usize::MAX, || 9).is_none());
    assert_eq!(ring.counts().produced(), 3);
    assert!(matches!(ring.mode(), Mode::Stop));
}

#[test]
fn what_tracers_keep_can_be_filled_by_anybody() {
    static SLOTS: [ProfileSlot; 2] = [const { ProfileSlot::new() }; 2];
    static PROFILE: Profile = Profile::new(&SLOTS);
    let histogram = Histogram::new();
    for ticks in [0, 1, 7, u64::MAX] {
        histogram.add(ticks);
        PROFILE.add(TextAddr::new(0x1000 * (1 + ticks % 3)), ticks, u64::MAX);
    }
    assert_eq!(histogram.buckets().map(|bucket| bucket.count).sum::<u64>(), 4);
    assert!(PROFILE.functions().count() <= 2);
    PROFILE.clear();
    assert_eq!(PROFILE.functions().count(), 0);
    let deepest = DeepestStack::new();
    assert_eq!((deepest.used(), deepest.frames().count()), (0, 0));
}
