//! What sessions understand, start, record and stop.

extern crate std;

use super::{MAX_RULES, OptionCause, OptionError, Options, Profile, RecordTo, Session, StoreIn, Tracer, words};
use crate::address::TextAddr;
use crate::context::regs::PtRegs;
use crate::context::shadow::HookedCall;
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, FakeKernel, FakeRegs, FakeText, Fault};
use crate::filter::{GlobError, Rule};
use crate::ops::{leave, thread};
use crate::tracer::dump::Dump;
use crate::tracer::event::Event;
use crate::tracer::profiler::ProfileSlot;
use crate::tracer::ring::{Mode, Ring, RingBlock};
use core::convert::Infallible;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

fn parse(line: &str) -> Result<Options<'_>, OptionError<'_>> {
    Options::parse(words(line))
}

#[test]
fn words_say_what_is_traced_and_others_are_left_alone() {
    assert_eq!(parse(""), Ok(Options::default()));
    let line = "root=sda tracer=function filter=disk::* verbose filter=!disk::poll depth=4 args=3 filters=x";
    let options = parse(line).unwrap();
    assert_eq!((options.tracer, options.depth, options.arguments), (Tracer::Function, 4, 3));
    assert_eq!(&options.rules[..], [Rule::parse("disk::*").unwrap(), Rule::parse("!disk::poll").unwrap()]);
    assert_eq!(parse("tracer=graph tracer=profile").unwrap().tracer, Tracer::Profile);
}

#[test]
fn a_name_with_white_space_is_in_one_word() {
    for (line, expected) in [
        ("", &[][..]),
        ("  a\tb\n", &["a", "b"]),
        ("filter=<a as b>::f depth=1", &["filter=<a as b>::f", "depth=1"]),
        ("filter=!<[u8; 4] as Debug>::fmt x", &["filter=!<[u8; 4] as Debug>::fmt", "x"]),
        ("filter=f::<fn(u8, u8) -> u8> x", &["filter=f::<fn(u8, u8) -> u8>", "x"]),
        ("filter=main::{closure#0} x", &["filter=main::{closure#0}", "x"]),
        ("filter=\"a < b\" x", &["filter=\"a < b\"", "x"]),
        (
            "\"trace-file=/some where/dump\" \"filter=<a as b>::f\"",
            &["trace-file=/some where/dump", "filter=<a as b>::f"],
        ),
        // What is never closed divides as if it were not there.
        ("filter=*<core::fmt x=1 y", &["filter=*<core::fmt", "x=1", "y"]),
        ("filter=a\"b x", &["filter=a\"b", "x"]),
        ("a) b", &["a)", "b"]),
        ("filter=<alloc* filter=*Vec>::push", &["filter=<alloc*", "filter=*Vec>::push"]),
        ("filter=f::<dyn Iterator<Item = u8>> x", &["filter=f::<dyn Iterator<Item = u8>>", "x"]),
        ("x->y z", &["x->y", "z"]),
    ] {
        assert_eq!(words(line).collect::<Vec<_>>(), expected, "{line}");
    }
    let options = parse("filter=<[u8; 4] as Debug>::fmt filter=!x:mod:y").unwrap();
    assert_eq!(options.rules.len(), 2);
    assert!(options.rules[0].matches(["<[u8; 4] as Debug>::fmt"], TextAddr::new(0)));
}

#[test]
fn options_are_read_from_the_words_that_they_are_written_as() {
    for line in [
        "tracer=graph",
        "tracer=function filter=disk::* filter=!disk::poll depth=4 args=3",
        "tracer=profile \"filter=!<disk::Disk as io::Read>::*:mod:disk\" depth=0",
        "tracer=graph filter=\"a [b]\" filter=0x4000",
        "tracer=graph filter=a under=disk::* \"under=<A as B>::f\" not-under=disk::poll depth=2",
    ] {
        let options = parse(line).unwrap();
        let written = options.to_string();
        assert_eq!((parse(&written), written.as_str()), (Ok(options), line));
    }
}

#[test]
fn a_wrong_word_is_named() {
    for (word, cause) in [
        ("tracer=grph", OptionCause::Tracer),
        ("filter=disk::[a", OptionCause::Rule(GlobError::OpenClass(6))),
        ("under=!disk::read", OptionCause::Negative),
        ("not-under=disk::[a", OptionCause::Rule(GlobError::OpenClass(6))),
        ("depth=", OptionCause::Number),
        ("depth=-1", OptionCause::Number),
        ("args=9", OptionCause::Arguments),
    ] {
        let line = ["quiet", word, "depth=1"].join(" ");
        assert_eq!(parse(&line), Err(OptionError { word, cause }));
        assert!(parse(&line).unwrap_err().to_string().contains(word));
    }
}

#[test]
fn more_rules_than_there_is_room_for_are_refused() {
    let words: Vec<_> = (0..=MAX_RULES).map(|_| "filter=a*").collect();
    assert_eq!(Options::parse(words[1..].iter().copied()).unwrap().rules.len(), MAX_RULES);
    let error = Options::parse(words.iter().copied()).unwrap_err();
    assert_eq!(error, OptionError { word: "filter=a*", cause: OptionCause::TooManyRules });
}

static MEMORY: [RingBlock; 2] = [const { RingBlock::new() }; 2];
static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
static SLOTS: [[ProfileSlot; 16]; 2] = [const { [const { ProfileSlot::new() }; 16] }; 2];
static PROFILES: [Profile; 2] = [Profile::new(&SLOTS[0]), Profile::new(&SLOTS[1])];

/// A kernel whose sessions are the test's of this number.
struct One<const TEST: usize>;

static SESSIONS: (Session<One<0>>, Session<One<1>>, Session<One<2>>, Session<One<3>>) =
    (Session::new(), Session::new(), Session::new(), Session::new());

impl<const TEST: usize> RecordTo for One<TEST> {
    fn ring() -> &'static Ring {
        &RING
    }
    fn task() -> u32 {
        1
    }
}

impl<const TEST: usize> StoreIn<Profile> for One<TEST> {
    fn store() -> &'static Profile {
        // Only test 2 looks at its own.
        &PROFILES[usize::from(TEST == 2)]
    }
}

impl StoreIn<Session<Self>> for One<0> {
    fn store() -> &'static Session<Self> {
        &SESSIONS.0
    }
}

impl StoreIn<Session<Self>> for One<1> {
    fn store() -> &'static Session<Self> {
        &SESSIONS.1
    }
}

impl StoreIn<Session<Self>> for One<2> {
    fn store() -> &'static Session<Self> {
        &SESSIONS.2
    }
}

impl StoreIn<Session<Self>> for One<3> {
    fn store() -> &'static Session<Self> {
        &SESSIONS.3
    }
}

/// An engine on a kernel with a function in each of two pages.
fn engine() -> (&'static FakeKernel, Engine) {
    let mut text = FakeText::new(0xffff_8000_0000_0000);
    text.function("one", COMPILED);
    text.skip_to(4096);
    text.function("two", COMPILED);
    text.skip_to(8192);
    let kernel = text.build();
    let engine = Engine::with_machine(kernel, kernel);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    (kernel, engine)
}

#[test]
fn a_session_that_can_neither_start_nor_be_undone_is_stopped_like_one_that_has_begun() {
    let (kernel, engine) = engine();
    let (session, options) = (&SESSIONS.0, parse("tracer=function").unwrap());
    // The stub is written, twice, then one page is changed, and from then on none can be.
    kernel.set_fault(Some(Fault::AliasesFrom(3)));
    assert!(matches!(session.start(&engine, &options), Err(RegisterError::Text { .. })));
    assert_ne!(engine.check_text().enabled, 0, "the fault is no such fault");
    assert_eq!(session.start(&engine, &options), Err(RegisterError::AlreadyRegistered));
    assert!(matches!(session.stop(&engine), Err(RegisterError::Text { .. })), "it can be tried again");
    kernel.set_fault(None);
    session.stop(&engine).unwrap();
    assert_eq!((engine.check_text().enabled, engine.statistics().ops), (0, 0));
    assert_eq!(session.start(&engine, &parse("tracer=graph").unwrap()), Ok(2));
    assert_eq!(session.stop(&engine), Ok(2));
}

#[test]
fn a_session_that_failed_to_start_has_not_begun() {
    let (kernel, engine) = engine();
    let (session, options) = (&SESSIONS.1, parse("tracer=function").unwrap());
    assert_eq!(
        session.start(&engine, &parse("filter=three").unwrap()),
        Err(RegisterError::NothingSelected { rule: 0 })
    );
    kernel.set_fault(Some(Fault::Cpu(0)));
    assert!(session.start(&engine, &options).is_err());
    kernel.set_fault(None);
    assert_eq!(session.stop(&engine), Err(RegisterError::NotRegistered));
    assert_eq!((engine.check_text().enabled, engine.statistics().ops), (0, 0));
    assert_eq!(session.start(&engine, &options), Ok(2));
    assert_eq!(session.stop(&engine), Ok(2));
    assert_eq!(session.start(&engine, &parse("under=three").unwrap()), Err(RegisterError::NothingSelected { rule: 0 }));
    assert_eq!((engine.check_text().enabled, engine.statistics().ops), (0, 0));
}

#[test]
fn a_session_below_a_function_has_the_functions_of_its_filter_and_that_one() {
    let (_, engine) = engine();
    let session = &SESSIONS.3;
    for (words, functions, ops) in [("under=one", 2, 2), ("under=one filter=one", 1, 1), ("not-under=one", 1, 2)] {
        assert_eq!(session.start(&engine, &parse(words).unwrap()), Ok(functions), "{words}");
        assert_eq!(engine.statistics().ops, ops, "{words}");
        assert_eq!(session.start(&engine, &parse("").unwrap()), Err(RegisterError::AlreadyRegistered));
        assert_eq!(session.stop(&engine), Ok(functions), "{words}");
        assert_eq!((engine.check_text().enabled, engine.statistics().ops), (0, 0));
    }
    let many = "under=a ".repeat(9);
    assert_eq!(parse(&many).unwrap_err().cause, OptionCause::TooManyUnder);
}

/// What the sessions of test 2 have recorded, and what they have counted.
fn dumped(engine: &Engine) -> (Vec<String>, usize) {
    let mut bytes = Vec::new();
    let sink = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok::<(), Infallible>(())
    };
    SESSIONS.2.dump(engine, sink, 1_000, &[&RING], [(1, "main")]).unwrap();
    let dump = Dump::parse(&bytes).unwrap();
    let events = dump.events().map(|timed| match timed.recorded.event {
        Event::GraphExit { ip, depth, value, .. } => format!("{ip} inside {depth} gives {value}"),
        Event::Function { ip, parent, arguments } => {
            format!("{ip} from {parent} with {:?}", arguments.iter().collect::<Vec<_>>())
        }
        event => format!("{event:?}"),
    });
    (events.collect(), dump.functions().count())
}

#[test]
fn a_session_records_as_deep_and_with_as_many_arguments_as_it_was_asked_for() {
    let (_, engine) = engine();
    let session = &SESSIONS.2;
    let context = thread();
    let call = |number: u64| HookedCall { return_address: 0x9000, function: 0x4008 + number * 0x100, sp: 0, hook: 0 };
    for (depth, recorded) in [("depth=2", 2), ("depth=0", 0), ("verbose", 3)] {
        assert_eq!(session.start(&engine, &parse(depth).unwrap()), Ok(2));
        (0..3).for_each(|number| assert!(context.calls.push(call(number)).is_some()));
        (0..3).for_each(|number| leave(context, &session.graph, [number; 8]));
        let (events, functions) = dumped(&engine);
        let all = ["0x4204 inside 2 gives 0", "0x4104 inside 1 gives 1", "0x4004 inside 0 gives 2"];
        assert_eq!((events.as_slice(), functions), (&all.map(String::from)[3 - recorded..], 0), "{depth}");
        assert_eq!(session.stop(&engine), Ok(2));
    }

    let mut regs = PtRegs { regs: [0; 31], sp: 0, pc: 0x4008, pstate: 0 };
    regs.regs[..3].copy_from_slice(&[7, 8, 9]);
    for (words, arguments) in [("tracer=function args=2", "[7, 8]"), ("tracer=function", "[]")] {
        assert_eq!(session.start(&engine, &parse(words).unwrap()), Ok(2));
        let (ip, parent_ip) = (TextAddr::new(0x4004), TextAddr::new(0x9000));
        (session.function.callback)(ip, parent_ip, &session.function, FakeRegs::new(&regs).view());
        let expected = format!("0x4004 from 0x9000 with {arguments}");
        assert_eq!(dumped(&engine).0, [expected], "{words}");
        assert_eq!(session.stop(&engine), Ok(2));
    }

    // A profile is of its own session, not of those before.
    for _ in 0..2 {
        assert_eq!(session.start(&engine, &parse("tracer=profile").unwrap()), Ok(2));
        assert_eq!(dumped(&engine), (Vec::new(), 0));
        assert!(context.calls.push(call(0)).is_some());
        leave(context, &session.profile, [0; 8]);
        assert_eq!(dumped(&engine), (Vec::new(), 1));
        assert_eq!(session.stop(&engine), Ok(2));
    }
}
