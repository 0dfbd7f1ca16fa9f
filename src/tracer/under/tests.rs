//! What is recorded under which functions: handlers against what the words mean, on random calls.

extern crate std;

use super::{MAX_UNDER, Scope, Under};
use crate::context::TraceContext;
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, FakeKernel, FakeText};
use crate::filter::{Filter, Rule};
use crate::ops::{Entry, Exit, Ops, Probe, enter, leave, thread};
use crate::tracer::event::{Event, decode};
use crate::tracer::kernel::{RecordTo, StoreIn};
use crate::tracer::ring::{MAX_RECORD_BYTES, Mode, Ring, RingBlock};
use std::boxed::Box;
use std::vec::Vec;

const FUNCTIONS: [&str; 5] = ["a", "b", "c", "d", "e"];
const BASE: u64 = 0xffff_8000_8000_0000;

macro_rules! kernel {
    () => {{
        static MEMORY: [RingBlock; 8] = [const { RingBlock::new() }; 8];
        static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
        static UNDER: Under<Kernel> = Under::new();
        struct Kernel;
        impl RecordTo for Kernel {
            fn ring() -> &'static Ring {
                &RING
            }
            fn task() -> u32 {
                1
            }
        }
        impl StoreIn<Under<Self>> for Kernel {
            fn store() -> &'static Under<Self> {
                &UNDER
            }
        }
        (&UNDER, &RING)
    }};
}

fn engine() -> &'static Engine {
    let mut text = FakeText::new(BASE);
    for name in FUNCTIONS {
        text.function(name, COMPILED);
    }
    let kernel: &'static FakeKernel = text.build();
    let engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    engine
}

/// A function is called, whose callsite calls what the engine says; returns the ops that hooked its return.
fn call(engine: &Engine, context: &'static TraceContext, function: usize) -> Vec<&'static Ops> {
    let mut hooked = Vec::new();
    engine.for_each_callsite(|status| {
        if status.name == Some(FUNCTIONS[function]) {
            let ip = status.callsite.call_addr();
            for ops in status.ops() {
                // SAFETY: ops that are registered live for ever.
                let ops: &'static Ops = unsafe { &*core::ptr::from_ref(ops) };
                if enter(context, ops, ip) {
                    hooked.push(ops);
                }
            }
        }
    });
    hooked
}

/// What was recorded since the last time: functions and depths.
fn recorded(ring: &'static Ring) -> Vec<(&'static str, u16)> {
    let (mut calls, mut bytes) = (Vec::new(), [0; MAX_RECORD_BYTES]);
    let mut pass = ring.consume();
    while let Some(block) = pass.next_block() {
        for record in block.records() {
            let (recorded, _) = decode(record.bytes(&mut bytes)).unwrap();
            if let Event::GraphExit { ip, depth, .. } = recorded.event {
                calls.push((FUNCTIONS[(ip.get() - BASE) as usize / 16], depth));
            }
        }
        block.consume();
    }
    calls
}

/// Hooks everything as well.
struct Other;

impl Probe for Other {
    type Data = u64;
    fn entry(_: &mut Entry<'_>) -> Option<u64> {
        Some(u64::MAX)
    }
    fn exit(_: &mut Exit<'_>, data: &u64) {
        assert_eq!(*data, u64::MAX);
    }
}

/// Numbers that are as good as random.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % count
    }

    fn some(&mut self) -> Vec<usize> {
        (0..FUNCTIONS.len()).filter(|_| self.below(3) == 0).collect()
    }
}

/// Which calls are recorded of these that are under way, by what the words mean; the innermost last.
fn model(calls: &[usize], [filter, under, not_under]: &[Vec<usize>; 3]) -> bool {
    let Some(last) = calls.last() else { return false };
    let is_wanted = filter.is_empty() || filter.contains(last) || under.contains(last);
    let is_below = under.is_empty() || calls.iter().any(|call| under.contains(call));
    is_wanted && is_below && !calls.iter().any(|call| not_under.contains(call))
}

#[test]
fn calls_are_recorded_below_the_roots_and_not_below_what_is_silent() {
    static OTHER: Ops = Ops::returning::<Other>();
    let (tracer, ring) = kernel!();
    let engine = engine();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..if cfg!(miri) { 6 } else { 400 } {
        let chosen = [random.some(), random.some(), random.some()];
        let rules = chosen.each_ref().map(|some| some.iter().map(|n| Rule::name(FUNCTIONS[*n])).collect::<Vec<_>>());
        let [filter, under, not_under] = rules.each_ref().map(Vec::as_slice);
        let started = tracer.start(engine, &Scope { filter, under, not_under });
        if started == Err(RegisterError::EmptySelection) {
            assert!((0..FUNCTIONS.len()).all(|function| !model(&[function], &chosen)), "{chosen:?}");
            continue;
        }
        assert!(started.is_ok(), "{started:?}: {chosen:?}");
        if round % 2 == 0 {
            engine.register(&OTHER, &Filter::ALL).unwrap();
        }
        let context = thread();
        // Each call with what hooked it, and how deep it should be recorded.
        let (mut calls, mut expected) = (Vec::new(), Vec::new());
        let mut open: Vec<(Vec<&'static Ops>, Option<u16>)> = Vec::new();
        for _ in 0..60 {
            if random.below(2) == 0 && calls.len() < 4 {
                // Not one inside itself: on a host all calls have one SP, and both would be one call.
                let function = random.below(FUNCTIONS.len());
                if calls.contains(&function) {
                    continue;
                }
                calls.push(function);
                let depth = open.iter().filter(|(_, recorded)| recorded.is_some()).count();
                let is_recorded = model(&calls, &chosen);
                open.push((call(engine, context, function), is_recorded.then_some(depth as u16)));
            } else if let Some((hooked, depth)) = open.pop() {
                hooked.into_iter().rev().for_each(|ops| leave(context, ops, [0; 8]));
                let function = calls.pop().unwrap();
                expected.extend(depth.map(|depth| (FUNCTIONS[function], depth)));
            }
        }
        while let Some((hooked, depth)) = open.pop() {
            hooked.into_iter().rev().for_each(|ops| leave(context, ops, [0; 8]));
            let function = calls.pop().unwrap();
            expected.extend(depth.map(|depth| (FUNCTIONS[function], depth)));
        }
        assert_eq!(recorded(ring), expected, "{chosen:?}");
        assert_eq!((context.depth(), context.overflows()), (0, 0));
        if round % 2 == 0 {
            engine.unregister(&OTHER).unwrap();
        }
        if round % 3 == 0 {
            tracer.stop(engine).unwrap();
            assert_eq!(engine.statistics().ops, 0);
        }
    }
}

#[test]
fn a_scope_that_can_not_be_is_refused_and_nothing_is_traced() {
    let (tracer, _) = kernel!();
    let engine = engine();
    let names = |names: &[&'static str]| names.iter().map(|name| Rule::name(name)).collect::<Vec<_>>();
    let (a, nosuch) = (names(&["a"]), names(&["nosuch"]));
    let many = names(&["a"; MAX_UNDER + 1]);
    for (filter, under, not_under) in [(&a, &nosuch, &a), (&a, &a, &a), (&nosuch, &a, &many), (&a, &many, &nosuch)] {
        let refused = tracer.start(engine, &Scope { filter, under, not_under });
        assert!(refused.is_err());
        assert_eq!((engine.check_text().enabled, engine.statistics().ops), (0, 0));
    }
    // Of the filter, all are roots.
    assert_eq!(tracer.start(engine, &Scope { filter: &a, under: &a, not_under: &[] }), Ok(1));
    assert_eq!(tracer.start(engine, &Scope { filter: &[], under: &a, not_under: &[] }), Ok(5));
    assert_eq!(tracer.stop(engine), Ok(5));
}
