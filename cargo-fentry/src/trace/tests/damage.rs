//! Reads damaged dumps and exports what could be read: the result is an error or part of the trace, never a panic, and takes
//! no more time and memory than the dump is worth.
//!
//! The damage is drawn where a reader looks: numbers get values from the edges of their ranges, names lose their ends, whole
//! pieces are cut out or are there twice. In half of the rounds the checksum is right again.

use std::cell::Cell;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use fentry::tracer::dump::{DumpWriter, Reading};
use fentry::tracer::event::EventWriter;
use fentry::tracer::profiler::{Profile, ProfileSlot};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::{TextAddr, TextRange};

use super::fixture::Scratch;
use super::{at, functions};
use crate::damage::{Random, seconds_of_damage};
use crate::trace::formats::{flamegraph, folded, perfetto, summary, text, trace_dat, uftrace};
use crate::trace::model::Trace;

const ROUNDS: usize = 1500;
const SEED: u64 = 0x5eed_0d0d;
/// How long a round may take. It takes a few milliseconds.
const LIMIT: Duration = Duration::from_secs(10);
/// How many bytes an exporter may write for a dump of a few kilobytes.
const MOST_BYTES: u64 = 16 << 20;

/// A dump with each kind of chunk and of record in it; with a profile, if that is wanted.
fn dump(with_profile: bool) -> Vec<u8> {
    let ring = |mode| -> &'static Ring {
        let memory = Box::leak((0..2).map(|_| RingBlock::new()).collect());
        Box::leak(Box::new(Ring::from_slice(memory, mode).unwrap()))
    };
    let rings = [ring(Mode::Stop), ring(Mode::Overwrite), ring(Mode::Stop)];
    let mut bytes = Vec::new();
    let sink = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok::<(), ()>(())
    };
    let mut writer = DumpWriter::begin(sink, 62_500_000, &rings).unwrap();
    [(0, "idle"), (1, "worker"), (2, "")].iter().for_each(|(task, name)| writer.task(*task, name).unwrap());
    writer.slide(0x40).unwrap();
    writer.module(TextRange::new(TextAddr::new(0x9000_0000), TextAddr::new(0x9000_1000)), "net").unwrap();
    writer.symbol(0x9000_0100, 0x40, "net::send").unwrap();
    if with_profile {
        let profile = Profile::new(Box::leak((0..2).map(|_| ProfileSlot::new()).collect()));
        (1..=3).for_each(|n| profile.add(at(n), 100 * n, 10));
        writer.profile(&profile).unwrap();
    }
    for round in (0..20).filter(|_| !with_profile) {
        for (task, ring) in (0..).zip(&rings[..2]) {
            let time = Cell::new(100 * round + u64::from(task));
            let recorder = EventWriter { ring, task, clock: || time.replace(time.get() + 10) };
            recorder.function(at(1 + round % 9), at(2), &[round, u64::MAX]);
            recorder.graph_entry(at(3), at(4), 0);
            recorder.graph_exit(at(5), 100 * round + 15, 1, 7);
            recorder.graph_exit(at(3), 0, 0, 9);
            recorder.marker("half done");
            recorder.stack(at(6), &[at(7), TextAddr::new(0x9000_0104)]);
            recorder.user(1, 0, [round]);
        }
        // Small chunks: one that is damaged is lost as a whole.
        writer.pull(Reading::Consume).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

/// Damages a dump in a few places.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at + 1),
            1 => bytes[at] = random.next() as u8,
            2 => bytes[at] ^= 1 << random.below(8),
            3 => {
                let piece: Vec<u8> = bytes[at..].iter().take(random.below(200)).copied().collect();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            4 => drop(bytes.drain(at..(at + random.below(64)).min(bytes.len()))),
            _ => {
                // A number, where there may be one.
                let (at, size) = (at & !3, if random.below(2) == 0 { 4 } else { 8 });
                let edges = [
                    0,
                    1,
                    0x7f,
                    0xffff,
                    u64::from(u32::MAX),
                    1 << 31,
                    1 << 47,
                    i64::MAX as u64,
                    u64::MAX - 1,
                    u64::MAX,
                ];
                let number = match random.below(3) {
                    0 => random.next(),
                    _ => edges[random.below(edges.len())],
                };
                if let Some(place) = bytes.get_mut(at..at + size) {
                    place.copy_from_slice(&number.to_le_bytes()[..size]);
                }
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    // The end: 16 bytes of a head, the length before it, the checksum.
    if random.below(2) == 0
        && let Some(end) = bytes.len().checked_sub(32)
    {
        bytes[end + 16..end + 24].copy_from_slice(&(end as u64).to_le_bytes());
        let check = crc32(&bytes[..end]);
        bytes[end + 24..].copy_from_slice(&u64::from(check).to_le_bytes());
    }
}

/// CRC-32/ISO-HDLC, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 })
    })
}

/// Counts what is written.
struct Counting(u64);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        if self.0 > MOST_BYTES { Err(io::Error::other("too much")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a trace in every format; whether each could be.
fn export(trace: &Trace, scratch: &Scratch) -> [bool; 7] {
    let mut outs: [Counting; 6] = std::array::from_fn(|_| Counting(0));
    let [text_out, dat, json, folded_out, svg, table] = &mut outs;
    let done = [
        text::write(trace, text_out),
        trace_dat::write(trace, dat),
        perfetto::write(trace, json),
        folded::write(trace, folded_out),
        flamegraph::write(trace, svg),
        summary::write(trace, table),
        uftrace::write(trace, &scratch.0.join("uftrace.data")),
    ];
    assert!(outs.iter().all(|out| out.0 <= MOST_BYTES), "an exporter wrote without end");
    done.map(|done| done.is_ok())
}

#[test]
fn damaged_dumps_are_refused_or_read_in_part() {
    let scratch = Scratch::new("damage");
    let seconds = seconds_of_damage();
    let (whole, functions) = ([dump(false), dump(true)], functions());
    let mut random = Random(SEED);
    let started = Instant::now();
    let (mut rounds, mut read, mut damaged, mut written) = (0, 0, 0, [0; 7]);
    while seconds.map_or(rounds < ROUNDS, |limit| started.elapsed() < limit) {
        // One in four has a profile.
        let mut bytes = whole[usize::from(random.below(4) == 0)].clone();
        damage(&mut bytes, &mut random);
        let round = Instant::now();
        // What is to be seen of a panic.
        std::fs::write(scratch.0.join("last.dump"), &bytes).unwrap();
        if let Ok(trace) = Trace::from_dump(&bytes, &functions) {
            // No record is shorter than 16 bytes, and one may become two events.
            assert!(trace.events.len() <= bytes.len() / 8, "round {rounds}: {} events", trace.events.len());
            read += 1;
            damaged += usize::from(trace.damage.is_some());
            for (count, done) in written.iter_mut().zip(export(&trace, &scratch)) {
                *count += usize::from(done);
            }
        }
        assert!(round.elapsed() < LIMIT, "round {rounds} took {:?}", round.elapsed());
        rounds += 1;
    }
    if seconds.is_some() {
        eprintln!("{rounds} rounds: {read} read, {damaged} of them in part; written {written:?}");
    }
    // The damage is not such that nothing is left to go wrong.
    assert!(read > rounds / 4 && damaged > rounds / 8 && read < rounds, "{read} of {rounds} read, {damaged} in part");
    assert!(written.iter().all(|count| *count > rounds / 8), "{written:?} of {rounds} written");
}
