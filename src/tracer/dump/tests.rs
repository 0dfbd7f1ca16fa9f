//! Dumps that are whole, and dumps that are not.

extern crate std;

use super::{
    CHUNK_HEAD_BYTES, Dump, DumpCause, DumpError, DumpWriter, HEADER_BYTES, MAGIC, ModuleSymbol, ModuleText, Reading,
};
use crate::address::{TextAddr, TextRange};
use crate::engine::Engine;
use crate::fakes::{COMPILED, FakeText};
use crate::module::regions::Regions as _;
use crate::symbols::{Convention, Function, Symbols, encode};
use crate::tracer::event::{Event, EventWriter};
use crate::tracer::profiler::{FunctionProfile, Profile, ProfileSlot};
use crate::tracer::ring::{Counts, Mode, Ring, RingBlock};
use core::cell::Cell;
use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

const IP: TextAddr = TextAddr::new(0xffff_8000_8012_3450);
const HERTZ: u64 = 62_500_000;

fn ring(blocks: usize, mode: Mode) -> &'static Ring {
    let memory = Box::leak((0..blocks).map(|_| RingBlock::new()).collect());
    Box::leak(Box::new(Ring::from_slice(memory, mode).unwrap()))
}

/// Three CPUs, the middle one silent, of which the others record calls at odd and at even times.
fn busy_rings(calls: u64) -> [&'static Ring; 3] {
    let rings = [ring(4, Mode::Stop), ring(2, Mode::Stop), ring(8, Mode::Overwrite)];
    for (cpu, first) in [(0, 1), (2, 2)] {
        let time = Cell::new(first);
        let recorder = EventWriter { ring: rings[cpu], task: cpu as u32 + 10, clock: || time.replace(time.get() + 2) };
        (0..calls).for_each(|call| {
            recorder.function(IP, IP, &[call][..(call % 2) as usize]);
        });
    }
    rings
}

fn dumped(rings: &[&Ring], reading: Reading) -> Vec<u8> {
    let mut bytes = Vec::new();
    let sink = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok::<(), ()>(())
    };
    let mut writer = DumpWriter::begin(sink, HERTZ, rings).unwrap();
    writer.pull(reading).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn all_events_come_out_in_the_order_of_time() {
    let bytes = dumped(&busy_rings(40), Reading::Consume);
    let dump = Dump::parse(&bytes).unwrap();
    assert_eq!((dump.cpus(), dump.ticks_per_second()), (3, HERTZ));
    let events: Vec<_> = dump.events().collect();
    let cpus = |time| if time % 2 == 1 { 0 } else { 2 };
    let expected: Vec<_> = (1..=80).map(|time| (time, cpus(time), cpus(time) + 10)).collect();
    let found: Vec<_> = events.iter().map(|event| (event.recorded.time, event.cpu, event.recorded.task)).collect();
    assert_eq!(found, expected);
    for event in events {
        let call = (event.recorded.time - 1) / 2;
        let Event::Function { ip: IP, parent: IP, arguments } = event.recorded.event else { panic!("{event:?}") };
        assert!(arguments.iter().eq((call % 2 == 1).then_some(call)));
    }
}

#[test]
fn what_was_lost_is_told() {
    let rings = busy_rings(1000);
    let bytes = dumped(&rings, Reading::Snapshot);
    assert_eq!(dumped(&rings, Reading::Consume).len(), bytes.len(), "a snapshot leaves all where it is");
    let dump = Dump::parse(&bytes).unwrap();
    assert_eq!((dump.counts(1), dump.counts(3)), (Some(Counts::default()), None));
    for cpu in [0, 2] {
        let (counts, events) =
            (dump.counts(cpu).unwrap(), dump.events().filter(|event| event.cpu == cpu).count() as u64);
        assert_eq!((counts.produced(), counts.kept, counts.read), (1000, events, 0));
        assert_eq!((counts.refused > 0, counts.overwritten > 0), (cpu == 0, cpu == 2));
    }
    // Consumed and dumped again, nothing is left.
    let bytes = dumped(&rings, Reading::Consume);
    let dump = Dump::parse(&bytes).unwrap();
    assert_eq!((dump.events().count(), dump.counts(0).unwrap().kept), (0, 0));
}

#[test]
fn pulled_again_and_again_nothing_is_twice_or_missing() {
    let (ring, time, mut bytes) = (ring(4, Mode::Stop), Cell::new(0), Vec::new());
    let recorder = EventWriter { ring, task: 1, clock: || time.replace(time.get() + 1) };
    let sink = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok::<(), ()>(())
    };
    let rings = [ring];
    let mut writer = DumpWriter::begin(sink, HERTZ, &rings).unwrap();
    for _ in 0..50 {
        (0..30).for_each(|_| assert!(recorder.graph_entry(IP, IP, 1)));
        writer.pull(Reading::Consume).unwrap();
    }
    writer.finish().unwrap();
    let dump = Dump::parse(&bytes).unwrap();
    assert!(dump.events().map(|event| event.recorded.time).eq(0..1500));
}

#[test]
fn profiles_and_names_come_out_as_they_went_in() {
    let profile = Profile::new(Box::leak((0..2).map(|_| ProfileSlot::new()).collect()));
    (1..=3).for_each(|n| profile.add(TextAddr::new(n * 64), 10 * n, n));
    let mut bytes = Vec::new();
    let sink = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok::<(), ()>(())
    };
    // Without any ring.
    let mut writer = DumpWriter::begin(sink, HERTZ, &[]).unwrap();
    assert_eq!(std::format!("{writer:?}"), std::format!("DumpWriter {{ rings: [], bytes: {HEADER_BYTES}, .. }}"));
    writer.profile(&profile).unwrap();
    [(1, "one"), (7, "caf\u{e9}"), (9, "")].iter().for_each(|(number, name)| writer.task(*number, name).unwrap());
    writer.finish().unwrap();
    let dump = Dump::parse(&bytes).unwrap();
    let unplaced = FunctionProfile { hits: 1, ..FunctionProfile::NONE };
    let functions: Vec<_> = dump.functions().collect();
    assert!(functions[..2].iter().copied().eq(profile.functions()) && functions[2..] == [unplaced], "{functions:?}");
    assert!(dump.tasks().eq([(1, "one"), (7, "caf\u{e9}"), (9, "")]));
    let name = bytes.windows(3).position(|window| window == b"one").unwrap();
    bytes[name] = 0xff;
    assert_eq!(Dump::parse(&bytes).unwrap_err().cause, DumpCause::Task);
}

#[test]
fn the_slide_and_the_names_of_modules_come_out_as_they_went_in() {
    let text = TextRange::new(TextAddr::new(0xffff_0000_1000), TextAddr::new(0xffff_0000_3000));
    let mut bytes = Vec::new();
    let sink = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok::<(), ()>(())
    };
    let mut writer = DumpWriter::begin(sink, HERTZ, &[]).unwrap();
    writer.slide(0u64.wrapping_sub(0x20_0000)).unwrap();
    writer.module(text, "net").unwrap();
    writer.symbol(0xffff_8000_0000_1008, 0x40, "net::send").unwrap();
    writer.symbol(u64::MAX, 0, "").unwrap();
    writer.finish().unwrap();
    let dump = Dump::parse(&bytes).unwrap();
    assert_eq!(dump.slide(), 0u64.wrapping_sub(0x20_0000));
    assert!(dump.modules().eq([ModuleText { text, name: "net" }]));
    let send = ModuleSymbol { addr: 0xffff_8000_0000_1008, size: 0x40, name: "net::send" };
    assert!(dump.symbols().eq([send, ModuleSymbol { addr: u64::MAX, size: 0, name: "" }]));

    let error_of = |from: &[u8], offset: isize, byte: u8| {
        let mut changed = bytes.clone();
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        changed[at.strict_add_signed(offset)] = byte;
        Dump::parse(&changed).unwrap_err().cause
    };
    // A name that is none; a text that ends before it begins; a function that ends beyond the last address.
    assert_eq!(error_of(b"net::send", 0, 0xff), DumpCause::Symbol);
    assert_eq!(error_of(b"net::send", -1, 0xff), DumpCause::Symbol);
    assert_eq!(error_of(b"net", 0, 0xff), DumpCause::Module);
    assert_eq!(error_of(b"net", -9, 0xff), DumpCause::Module);
}

/// A kernel with a symbol table needs no word of the platform.
#[test]
fn the_symbol_table_knows_the_slide() {
    const SLIDE: u64 = 0x20_0000;
    let mut text = FakeText::new(0xffff_8000_0000_0000);
    let one = text.function("one", COMPILED);
    let kernel = text.build();
    let linked = Function { name: "one".into(), addr: one.get() - SLIDE, size: 12, convention: Convention::Base };
    let symbols = Symbols::parse(encode(&[linked], 0).unwrap().leak()).unwrap().relocated(SLIDE);
    let engine = Engine::with_machine(kernel, kernel);
    assert_eq!(engine.slide(), 0);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image().with_symbols(symbols)) }.unwrap();
    assert_eq!(engine.slide(), SLIDE);
}

/// What is in a dump is what the engine has: the platform's slide, and the modules that are loaded, under their addresses.
#[test]
fn an_engine_s_text_has_names() {
    let mut text = FakeText::new(0xffff_8000_0000_0000);
    text.function("one", COMPILED);
    let mut module = FakeText::new(0xffff_8000_1000_0000);
    let functions = ["send", "receive"].map(|name| module.function(name, COMPILED));
    text.module(module);
    let kernel = text.build();
    kernel.set_slide(0x1234_0000);
    let engine = Engine::with_machine(kernel, kernel);
    let dumped = || {
        let mut bytes = Vec::new();
        let sink = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok::<(), ()>(())
        };
        let mut writer = DumpWriter::begin(sink, HERTZ, &[]).unwrap();
        writer.names(&engine).unwrap();
        writer.finish().unwrap();
        bytes
    };
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    let region = kernel.module(0);
    let (name, text) = (region.module, region.text);
    // SAFETY: as above.
    let token = unsafe { engine.add(region) }.unwrap();
    let bytes = dumped();
    let dump = Dump::parse(&bytes).unwrap();
    assert_eq!(dump.slide(), 0x1234_0000);
    assert!(dump.modules().eq([ModuleText { text, name }]));
    let symbols: Vec<_> = dump.symbols().map(|symbol| (symbol.name, TextAddr::new(symbol.addr))).collect();
    assert_eq!(symbols, [("send", functions[0]), ("receive", functions[1])]);

    engine.remove(token).unwrap();
    let bytes = dumped();
    assert_eq!(Dump::parse(&bytes).unwrap().symbols().count(), 0);

    // A sink that is full says so, and the engine is free again.
    let mut left = 60;
    let sink = |part: &[u8]| {
        left = usize::checked_sub(left, part.len()).ok_or("full")?;
        Ok(())
    };
    // SAFETY: as above.
    unsafe { engine.add(kernel.module(0)) }.unwrap();
    assert_eq!(DumpWriter::begin(sink, HERTZ, &[]).and_then(|mut writer| writer.names(&engine)), Err("full"));
    assert_eq!(engine.statistics().regions, 2);
}

#[test]
fn what_the_sink_does_not_take_stays() {
    let rings = busy_rings(40);
    for room in 0..400 {
        let mut left = room;
        let sink = |part: &[u8]| {
            left = usize::checked_sub(left, part.len()).ok_or("full")?;
            Ok(())
        };
        let result = DumpWriter::begin(sink, HERTZ, &rings).and_then(|mut writer| writer.pull(Reading::Consume));
        assert_eq!((result, rings[0].counts().kept), (Err("full"), 40), "{room}");
    }
}

#[test]
fn a_dump_cut_off_anywhere_is_seen_and_its_beginning_saved() {
    let bytes = dumped(&busy_rings(10), Reading::Consume);
    let whole: Vec<_> = Dump::parse(&bytes).unwrap().events().collect();
    for length in 0..bytes.len() {
        let cut = &bytes[..length];
        let error = Dump::parse(cut).unwrap_err();
        assert!(matches!(error.cause, DumpCause::Truncated { .. }), "{length}: {error}");
        assert_eq!(Dump::salvage(cut).is_ok(), length >= HEADER_BYTES);
        if let Ok((dump, found)) = Dump::salvage(cut) {
            assert_eq!(found, Some(error));
            let events: Vec<_> = dump.events().collect();
            assert!(events.iter().all(|event| whole.contains(event)));
        }
    }
    // Of the two chunks of records, the first one is whole.
    let (dump, _) = Dump::salvage(&bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(dump.events().count(), 10);
}

#[test]
fn a_bit_that_is_not_as_it_was_is_seen() {
    let bytes = dumped(&busy_rings(10), Reading::Consume);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Dump::parse(&changed).is_err(), "bit {bit}");
    }
}

/// A small generator of numbers (SplitMix64), so that each run tries the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ number >> 31) as usize % end
    }
}

#[test]
fn no_bytes_make_the_reader_panic_or_run_on() {
    let bytes = dumped(&busy_rings(30), Reading::Consume);
    let (mut numbers, mut decoded) = (Numbers(7), 0);
    for _ in 0..20_000 {
        let mut changed = bytes.clone();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(changed.len());
            match numbers.below(4) {
                0 => changed.truncate(at + 1),
                1 => changed[at] = [0, 1, 3, 0x7f, 0xff][numbers.below(5)],
                2 => changed[at] = numbers.below(256) as u8,
                _ => {
                    let piece: Vec<u8> = changed[at..].iter().take(numbers.below(64)).copied().collect();
                    let to = numbers.below(changed.len());
                    changed.splice(to..to, piece);
                }
            }
        }
        if let Ok((dump, _)) = Dump::salvage(&changed) {
            // No record is shorter than 16 bytes.
            let events = dump.events().take(changed.len()).count();
            assert!(events <= changed.len() / 16);
            decoded += events;
            assert!((0..dump.cpus()).filter_map(|cpu| dump.counts(cpu)).count() <= dump.cpus() as usize);
        }
    }
    assert!(decoded > 20_000, "{decoded}");
}

#[test]
fn what_is_wrong_is_told_by_place_and_reason() {
    let bytes = dumped(&[ring(2, Mode::Stop)], Reading::Consume);
    let error_of = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.clone();
        change(&mut changed);
        let error = Dump::parse(&changed).unwrap_err();
        let (said, DumpError { at, cause }) = (error.to_string(), error);
        assert!(said.starts_with("The ") && said.ends_with(&std::format!(" (at byte {at})")), "{said}");
        (at, cause)
    };
    // One chunk of counts, then the end.
    let end = HEADER_BYTES + CHUNK_HEAD_BYTES + 32;
    assert_eq!(bytes.len(), end + CHUNK_HEAD_BYTES + 16);
    assert_eq!(bytes[..8], MAGIC);
    assert_eq!(error_of(&|bytes| bytes[0] = b'F'), (0, DumpCause::Magic));
    assert_eq!(error_of(&|bytes| bytes[8] = 3), (0, DumpCause::Version(3)));
    assert_eq!(error_of(&|bytes| bytes[13] = 2), (0, DumpCause::Cpus(513)));
    assert_eq!(error_of(&|bytes| bytes[HEADER_BYTES] = 9), (HEADER_BYTES, DumpCause::Chunk(9)));
    assert_eq!(error_of(&|bytes| bytes[HEADER_BYTES + 4] = 1), (HEADER_BYTES, DumpCause::Cpu(1)));
    assert_eq!(error_of(&|bytes| bytes[end + 16] += 1), (end, DumpCause::End(end as u64 + 1)));
    assert_eq!(error_of(&|bytes| bytes.push(0)), (bytes.len(), DumpCause::Behind));
    let (at, cause) = error_of(&|bytes| bytes[16] ^= 1);
    assert!(at == end && matches!(cause, DumpCause::Check { .. }), "{cause:?}");
    let (at, cause) = error_of(&|bytes| bytes[HEADER_BYTES] = 1);
    assert!(at == HEADER_BYTES + CHUNK_HEAD_BYTES && matches!(cause, DumpCause::Record(_)), "{cause:?}");
    let (at, cause) = error_of(&|bytes| bytes[HEADER_BYTES] = 3);
    assert_eq!((at, cause), (HEADER_BYTES, DumpCause::Length(32)));
}
