//! The order of the ops and the text: who executes the new BL must find the new ops.
//!
//! The second model. It knows no caches: text may be fetched as it is, as it was or as it will be, from the moment of its
//! store, whatever has been maintained. The ops cell is data: all other CPUs see a store to it at once (Arm ARM B2.3,
//! "multi-copy atomic"), but when it likes, and with no order to the store of an instruction behind it, unless a DSB stands
//! between. The executing CPU fetches the BL first, and only then the load in the stub: fetches are made in the order of
//! the program. A stub that is on its way while ops are changed may see the next one; that is for quiescence to
//! exclude, and no fault here.

extern crate std;

use crate::address::TextAddr;
use crate::callsite::NOP;
use crate::engine::Engine;
use crate::fakes::{COMPILED, Event, FakeKernel, FakeText};
use crate::filter::Filter;
use crate::ops::Ops;
use crate::regs::FtraceRegs;
use std::collections::BTreeSet;
use std::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The next version of the ops cell is stored.
    Ops,
    /// The next version of the callsite is, and it calls or it doesn't.
    Text { calls: bool },
    /// DSB.
    Complete,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    next: usize,
    /// How many versions of the ops cell are stored, and how many of these others see.
    stored: usize,
    seen: usize,
    /// The oldest version of the ops cell that the BL which the CPU has executed was stored for: it is in the stub.
    inside: Option<usize>,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
struct Explored {
    states: usize,
    /// Calls that found the ops that they were for, or a later one.
    served: bool,
    /// Calls that found an older one.
    too_early: bool,
}

fn explore(steps: &[Step]) -> Explored {
    let mut found = Explored { states: 0, served: false, too_early: false };
    let mut known = BTreeSet::new();
    let mut reached = Vec::from([State::default()]);
    while let Some(state) = reached.pop() {
        if !known.insert(state) {
            continue;
        }
        found.states += 1;
        if let Some(step) = steps.get(state.next) {
            let next = State { next: state.next + 1, ..state };
            reached.push(match step {
                Step::Ops => State { stored: state.stored + 1, ..next },
                Step::Text { .. } => next,
                Step::Complete => State { seen: state.stored, ..next },
            });
        }
        if state.seen < state.stored {
            reached.push(State { seen: state.seen + 1, ..state });
        }
        match state.inside {
            // It fetches the callsite, as any store so far has left it.
            None => reached.extend(calls(&steps[..state.next]).map(|ops| State { inside: Some(ops), ..state })),
            Some(wanted) => {
                found.served |= state.seen >= wanted;
                found.too_early |= state.seen < wanted;
                reached.push(State { inside: None, ..state });
            }
        }
    }
    found
}

/// The calls that these steps have stored, by the number of ops stored before them.
fn calls(steps: &[Step]) -> impl Iterator<Item = usize> {
    let before = |at: usize| steps[..at].iter().filter(|step| **step == Step::Ops).count();
    steps.iter().enumerate().filter(|(_, step)| **step == Step::Text { calls: true }).map(move |(at, _)| before(at))
}

fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: &mut FtraceRegs) {}
static FIRST: Ops = Ops::new(callback);
static SECOND: Ops = Ops::new(callback);

/// What the engine does to register one ops, to unregister it, and to register another.
fn recorded() -> Vec<Step> {
    let mut text = FakeText::new(0xffff_8000_8000_0000);
    text.function("f", COMPILED);
    let kernel = text.build();
    let engine = Engine::with_machine(kernel, kernel);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    kernel.take_events();
    let mut steps = Vec::new();
    engine.register(&FIRST, &Filter::ALL).unwrap();
    steps.extend(since(kernel));
    engine.unregister(&FIRST).unwrap();
    steps.extend(since(kernel));
    engine.register(&SECOND, &Filter::ALL).unwrap();
    steps.extend(since(kernel));
    steps
}

/// What the engine has done since it was asked last.
fn since(kernel: &FakeKernel) -> Vec<Step> {
    let changes = kernel.ops_changes();
    let events = kernel.take_events();
    let mut steps = Vec::new();
    for number in 0..=events.len() {
        steps.extend(changes.iter().filter(|change| **change == number).map(|_| Step::Ops));
        match events.get(number) {
            Some(Event::Store(_, word)) => steps.push(Step::Text { calls: *word != NOP }),
            Some(Event::Complete) => steps.push(Step::Complete),
            _ => {}
        }
    }
    steps
}

#[test]
fn who_executes_the_new_call_finds_the_new_ops() {
    let steps = recorded();
    let batch = |calls| [Step::Text { calls }, Step::Complete, Step::Complete];
    let enabled = [&[Step::Ops, Step::Complete][..], &batch(true)].concat();
    let disabled = [&batch(false)[..], &[Step::Ops]].concat();
    assert_eq!(steps, [&enabled[..], &disabled, &enabled].concat());
    // 19 outside the stub: one for each of the 15 places in the script, and 1, 1 and 2 more behind each store of an ops
    // that nobody may have seen yet; 15 inside it by the first call, and 3 by the second.
    assert_eq!(explore(&steps), Explored { states: 37, served: true, too_early: false });
}

#[test]
fn without_the_dsb_behind_the_ops_a_call_finds_the_one_before() {
    let steps = recorded();
    let mut needed = Vec::new();
    for (number, _) in steps.iter().enumerate().filter(|(_, step)| **step == Step::Complete) {
        let mut rest = steps.clone();
        rest.remove(number);
        if explore(&rest).too_early {
            needed.push(number);
        }
    }
    // Each time the one between the ops and the text; the others are the text's own.
    let between = |at: &usize| steps[..*at].ends_with(&[Step::Ops]);
    assert_eq!(needed, Vec::from_iter((0..steps.len()).filter(|at| between(at) && steps[*at] == Step::Complete)));
    assert_eq!(needed.len(), 2);
}
