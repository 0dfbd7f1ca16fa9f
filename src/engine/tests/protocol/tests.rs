//! What the model says about the engine's own sequence, and about that sequence with something wrong.

extern crate std;

use super::{Action, CPUS, Explored, Fetching, Migration, Rules, Script, Step, explore};
use crate::address::TextAddr;
use crate::callsite::{LiveWord, MOV_X9_LR, NOP};
use crate::context::regs::FtraceRegs;
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, Event, FakeKernel, FakeText, Fault};
use crate::filter::Filter;
use crate::insn::{BranchOffset, Insn};
use crate::ops::Ops;
use crate::text::{CacheType, PokeCause, Undone};
use std::collections::BTreeSet;
use std::vec::Vec;

const BASE: u64 = 0xffff_8000_8000_0000;
const LINE: usize = 64;
const PAGE: usize = 4096;

/// Where functions are: one, two in a line, two in a page, two in two pages.
const PLACES: [&[usize]; 4] = [&[0], &[0, LINE / 2], &[0, LINE], &[0, PAGE]];

/// CTR_EL0 with 64-byte lines and all that IDC and DIC can be.
const NEITHER: CacheType = CacheType::from_ctr(0x8444_c004);
const IDC: CacheType = CacheType::from_ctr(0x9444_c004);
const DIC: CacheType = CacheType::from_ctr(0xa444_c004);
const BOTH: CacheType = CacheType::from_ctr(0xb444_c004);
const ALL_CACHES: [CacheType; 4] = [NEITHER, IDC, DIC, BOTH];

const fn staying(caches: CacheType) -> Rules {
    Rules { caches, fetching: Fetching::Eager, migration: Migration::Never }
}

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}
static OPS: Ops = Ops::new(callback);

/// An engine with a function at each of these offsets.
fn engine_with(offsets: &[usize], caches: CacheType) -> (&'static FakeKernel, Engine, Vec<TextAddr>) {
    let mut text = FakeText::new(BASE);
    let functions = offsets.iter().map(|offset| {
        text.skip_to(*offset);
        text.function("f", COMPILED)
    });
    let functions = functions.collect();
    let kernel = text.build();
    kernel.set_cache_type(caches);
    (kernel, Engine::with_machine(kernel, kernel), functions)
}

/// The same after init, with nothing recorded.
fn ready(offsets: &[usize], caches: CacheType) -> (&'static FakeKernel, Engine, Vec<TextAddr>) {
    let (kernel, engine, functions) = engine_with(offsets, caches);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    kernel.take_events();
    (kernel, engine, functions)
}

/// What the kernel has recorded of live text; before that, all words that it stored to were NOP.
fn recorded(kernel: &FakeKernel, caches: CacheType) -> Script {
    Script::new(&kernel.take_live_events(), caches, |_| NOP)
}

/// The engine's own script for enabling the functions at these offsets.
fn enabling(offsets: &[usize], caches: CacheType) -> Script {
    let (kernel, engine, _) = ready(offsets, caches);
    engine.register(&OPS, &Filter::ALL).unwrap();
    recorded(kernel, caches)
}

/// The same where no word is stored a second time.
fn enabling_on_hardware(caches: CacheType) -> Script {
    let (kernel, engine, _) = ready(&[0], caches);
    kernel.set_may_be_emulated(false);
    engine.register(&OPS, &Filter::ALL).unwrap();
    recorded(kernel, caches)
}

/// `BL` from this function's callsite to the first stub, behind its landing pad.
fn call(kernel: &FakeKernel, function: TextAddr) -> u32 {
    let (from, to) = (function.offset(4).get(), kernel.stubs().room.start.get() + 4);
    Insn::bl(BranchOffset::between(from, to).unwrap()).encode()
}

/// Whether every CPU, once the script is through, can execute only what it left.
fn is_settled(script: &Script, explored: &Explored) -> bool {
    let last = |word| BTreeSet::from([script.last(word)]);
    explored.afterwards.iter().all(|words| words.iter().enumerate().all(|(word, values)| *values == last(word)))
}

/// The steps without any of which, one at a time, the rest would do as well. Stores are not tried.
fn redundant(script: &Script, rules: Rules) -> Vec<usize> {
    let optional = |step: &usize| !matches!(script.steps[*step], Step::Store(_));
    let rest = |step: &usize| {
        let rest = script.without(*step);
        is_settled(&rest, &explore(&rest, rules))
    };
    (0..script.steps.len()).filter(optional).filter(rest).collect()
}

#[test]
fn a_script_with_nothing_to_do_has_the_states_that_can_be_counted_by_hand() {
    let script = enabling(&[0], NEITHER).with_steps(Vec::new());
    let stepwise = Rules { fetching: Fetching::Stepwise, ..staying(NEITHER) };
    // Each CPU by itself: nothing, cached, or cached and fetched.
    assert_eq!(explore(&script, stepwise).states, 3_usize.pow(CPUS as u32));
    assert_eq!(explore(&script, staying(NEITHER)).states, 1);
}

#[test]
fn every_interleaving_executes_the_old_or_the_new_word_and_afterwards_the_new() {
    let states = [[23, 89, 101, 101], [21, 85, 93, 93], [14, 24, 28, 28], [12, 20, 20, 20]];
    for (caches, states) in ALL_CACHES.into_iter().zip(states) {
        for (offsets, states) in PLACES.into_iter().zip(states) {
            let (kernel, engine, functions) = ready(offsets, caches);
            engine.register(&OPS, &Filter::ALL).unwrap();
            let script = recorded(kernel, caches);
            let explored = explore(&script, staying(caches));
            for (word, function) in functions.iter().enumerate() {
                let call = call(kernel, *function);
                assert_eq!(explored.ever[word], BTreeSet::from([NOP, call]));
                assert!(explored.ever[word].iter().all(|word| LiveWord::new(*word).is_some()));
                assert!(explored.afterwards.iter().all(|words| words[word] == BTreeSet::from([call])));
            }
            assert_eq!(explored.states, states, "{caches:?} {offsets:?}");
        }
    }
}

#[test]
fn disabling_is_as_safe_as_enabling() {
    for caches in ALL_CACHES {
        let (kernel, engine, functions) = ready(&[0], caches);
        engine.register(&OPS, &Filter::ALL).unwrap();
        kernel.take_events();
        engine.unregister(&OPS).unwrap();
        let call = call(kernel, functions[0]);
        let script = Script::new(&kernel.take_live_events(), caches, |_| call);
        let explored = explore(&script, staying(caches));
        assert_eq!(explored.ever[0], BTreeSet::from([NOP, call]));
        assert!(explored.afterwards.iter().all(|words| words[0] == BTreeSet::from([NOP])));
        assert_eq!(redundant(&script, staying(caches)), []);
    }
}

#[test]
fn no_step_can_be_left_out() {
    for caches in ALL_CACHES {
        for offsets in PLACES {
            let script = enabling(offsets, caches);
            assert_eq!(redundant(&script, staying(caches)), [], "{caches:?} {offsets:?}");
        }
    }
}

#[test]
fn coherent_caches_need_fewer_steps_and_those_are_all_that_are_taken() {
    let maintenance = |caches| enabling(&[0], caches).steps.split_off(1);
    let told = [Step::Synchronize, Step::SynchronizeCpus, Step::Store(0)];
    let expected: [&[Step]; 4] = [
        &[Step::Clean(1), Step::Complete, Step::Invalidate(1), Step::Complete],
        &[Step::Complete, Step::Invalidate(1), Step::Complete],
        &[Step::Clean(1), Step::Complete],
        &[Step::Complete],
    ];
    for (caches, expected) in ALL_CACHES.into_iter().zip(expected) {
        assert_eq!(maintenance(caches), [expected, &told].concat());
    }
    // And what one machine does without, another can't.
    for (shorter, stronger) in [(IDC, NEITHER), (DIC, NEITHER), (BOTH, IDC), (BOTH, DIC)] {
        let script = enabling(&[0], shorter);
        assert!(!is_settled(&script, &explore(&script, staying(stronger))));
    }
}

#[test]
fn lines_of_two_sizes_are_each_maintained() {
    // Lines of 128 bytes for data, of 16 for instructions: one of the former, two of the latter.
    let caches = CacheType::from_ctr(0x8445_c002);
    let script = enabling(&[0, LINE / 2], caches);
    let maintenance = [Step::Clean(3), Step::Complete, Step::Invalidate(1), Step::Invalidate(2), Step::Complete];
    // Behind the two stores.
    assert_eq!(script.steps[2..7], maintenance);
    assert!(is_settled(&script, &explore(&script, staying(caches))));
    assert_eq!(redundant(&script, staying(caches)), []);
}

#[test]
fn a_batch_that_failed_leaves_only_the_old_words() {
    for caches in ALL_CACHES {
        // The first write and two aliases are for the stub.
        for (offsets, fault) in [(&[0, LINE / 2], Fault::Write(2)), (&[0, PAGE], Fault::Alias(3))] {
            let (kernel, engine, functions) = ready(offsets, caches);
            kernel.set_fault(Some(fault));
            let error = engine.register(&OPS, &Filter::ALL).unwrap_err();
            assert!(matches!(error, RegisterError::Text { error, .. } if error.undone == Undone::Entirely));
            let script = recorded(kernel, caches);
            assert_eq!(script.words[0].versions, [NOP, call(kernel, functions[0]), NOP, NOP]);
            let explored = explore(&script, staying(caches));
            assert_eq!(explored.ever[0], BTreeSet::from([NOP, call(kernel, functions[0])]));
            assert!(explored.afterwards.iter().all(|words| words[0] == BTreeSet::from([NOP])));
            assert_eq!(redundant(&script, staying(caches)), []);
        }
    }
}

#[test]
fn a_cpu_that_does_not_answer_leaves_only_the_old_words() {
    for caches in ALL_CACHES {
        let (kernel, engine, functions) = ready(&[0, LINE], caches);
        // The first round is for the stub.
        kernel.set_fault(Some(Fault::Round(1)));
        let error = engine.register(&OPS, &Filter::ALL).unwrap_err();
        let RegisterError::Text { error, .. } = error else { panic!("{error:?}") };
        assert!(matches!(error.cause, PokeCause::Cpu(_)) && error.undone == Undone::Entirely);
        let script = recorded(kernel, caches);
        let failed = script.steps.iter().position(|step| *step == Step::SynchronizeCpus).unwrap();
        // At worst, nobody has answered.
        let script = script.without(failed);
        let explored = explore(&script, staying(caches));
        for (word, function) in functions.iter().enumerate() {
            assert_eq!(explored.ever[word], BTreeSet::from([NOP, call(kernel, *function)]));
            assert!(explored.afterwards.iter().all(|words| words[word] == BTreeSet::from([NOP])));
        }
        // Of the round that failed nothing is needed, since the second does all of it again, for every word. Had it not
        // failed, there would be no second.
        let is_store = |step: &usize| matches!(script.steps[*step], Step::Store(_));
        let undo = (0..script.steps.len()).filter(is_store).nth(functions.len()).unwrap();
        let before = (0..undo).filter(|step| !matches!(script.steps[*step], Step::Store(_)));
        assert_eq!(redundant(&script, staying(caches)), Vec::from_iter(before));
    }
}

#[test]
fn a_batch_that_could_not_be_stored_again_leaves_only_the_old_words() {
    for caches in ALL_CACHES {
        let (kernel, engine, functions) = ready(&[0, PAGE], caches);
        // Two aliases are for the stub, two for the two pages; the second page is not stored again.
        kernel.set_fault(Some(Fault::Alias(5)));
        let error = engine.register(&OPS, &Filter::ALL).unwrap_err();
        assert!(matches!(error, RegisterError::Text { error, .. } if error.undone == Undone::Entirely));
        let script = recorded(kernel, caches);
        let calls = functions.iter().map(|function| call(kernel, *function)).collect::<Vec<_>>();
        assert_eq!(script.words[0].versions, [NOP, calls[0], calls[0], NOP, NOP]);
        assert_eq!(script.words[1].versions, [NOP, calls[1], NOP, NOP]);
        let explored = explore(&script, staying(caches));
        for (word, call) in calls.into_iter().enumerate() {
            assert_eq!(explored.ever[word], BTreeSet::from([NOP, call]));
        }
        assert!(is_settled(&script, &explored));
    }
}

#[test]
fn a_second_store_changes_nothing_for_a_cpu_wherever_it_comes() {
    for caches in ALL_CACHES {
        let script = enabling(&[0], caches);
        let (again, rest) = script.steps.split_last().unwrap();
        assert_eq!(*again, Step::Store(0));
        let once = explore(&enabling_on_hardware(caches), staying(caches));
        for place in 1..=rest.len() {
            let mut steps = rest.to_vec();
            steps.insert(place, *again);
            let script = script.with_steps(steps);
            let explored = explore(&script, staying(caches));
            assert_eq!((&explored.ever, &explored.afterwards), (&once.ever, &once.afterwards), "{:?}", script.steps);
        }
    }
}

#[test]
fn cleaning_and_invalidating_the_other_way_round_is_seen() {
    let (kernel, engine, _) = ready(&[0], NEITHER);
    engine.register(&OPS, &Filter::ALL).unwrap();
    let events = kernel.take_live_events().into_iter().map(|event| match event {
        Event::Clean(at) => Event::Invalidate(at),
        Event::Invalidate(at) => Event::Clean(at),
        other => other,
    });
    let script = Script::new(&Vec::from_iter(events), NEITHER, |_| NOP);
    let explored = explore(&script, staying(NEITHER));
    assert!(explored.afterwards.iter().all(|words| words[0].contains(&NOP)));
}

#[test]
fn of_all_orders_of_the_same_steps_only_two_work() {
    let script = enabling_on_hardware(NEITHER);
    let [store, clean, complete, invalidate, _, synchronize, cpus] = script.steps[..] else { panic!("{script:?}") };
    let (mut orders, mut working) = (0, Vec::new());
    each_order(&script.steps, &mut Vec::new(), &mut |order| {
        let reordered = script.with_steps(order.to_vec());
        orders += 1;
        if is_settled(&reordered, &explore(&reordered, staying(NEITHER))) {
            working.push(order.to_vec());
        }
    });
    // Of seven steps, two are alike.
    assert_eq!(orders, 5040 / 2);
    let maintained = [store, clean, complete, invalidate, complete];
    assert_eq!(working, [[synchronize, cpus], [cpus, synchronize]].map(|told| [&maintained[..], &told].concat()));
}

/// Calls `each` with every order of these steps that looks different from the others.
fn each_order(left: &[Step], begun: &mut Vec<Step>, each: &mut impl FnMut(&[Step])) {
    if left.is_empty() {
        return each(begun);
    }
    for (at, step) in left.iter().enumerate().filter(|(at, step)| !left[..*at].contains(step)) {
        begun.push(*step);
        each_order(&[&left[..at], &left[at + 1..]].concat(), begun, each);
        begun.pop();
    }
}

#[test]
fn the_isb_is_for_the_patching_cpu_and_the_interrupts_for_the_others() {
    let script = enabling(&[0], NEITHER);
    let stale = |without: Step| {
        let script = script.without(script.steps.iter().position(|step| *step == without).unwrap());
        explore(&script, staying(NEITHER)).afterwards.iter().map(|words| words[0].contains(&NOP)).collect::<Vec<_>>()
    };
    assert_eq!(stale(Step::Synchronize), [true, false, false]);
    assert_eq!(stale(Step::SynchronizeCpus), [false, true, true]);
}

#[test]
fn without_the_dsb_between_clean_and_invalidate_a_cpu_takes_the_old_word_in_again() {
    let script = enabling(&[0], NEITHER);
    let script = script.without(script.steps.iter().position(|step| *step == Step::Clean(1)).unwrap() + 1);
    let stepwise = Rules { fetching: Fetching::Stepwise, ..staying(NEITHER) };
    let witness = explore(&script, stepwise).witness.unwrap();
    let place = |action| witness.iter().position(|taken| *taken == action);
    let invalidated = place(Action::Patch(Step::Invalidate(1))).unwrap();
    let fetch = witness.iter().find_map(|action| match *action {
        Action::Fetch { cpu, version: 0, .. } => Some(cpu),
        _ => None,
    });
    let cpu = fetch.unwrap();
    let forgot = place(Action::Forget { cpu, word: 0 }).unwrap();
    let refilled = place(Action::Fill { cpu, word: 0 }).unwrap();
    let completed = witness.iter().rposition(|action| *action == Action::Patch(Step::Complete)).unwrap();
    assert!(invalidated < forgot && forgot < refilled && refilled < completed, "{witness:?}");
}

#[test]
fn fetching_all_at_once_finds_what_fetching_step_by_step_does() {
    for (caches, states) in ALL_CACHES.into_iter().zip([9031, 8275, 400, 328]) {
        let whole = enabling(&[0], caches);
        let stepwise = |script: &Script| explore(script, Rules { fetching: Fetching::Stepwise, ..staying(caches) });
        let all = (0..whole.steps.len()).filter(|step| !matches!(whole.steps[*step], Step::Store(_)));
        for script in all.map(|step| whole.without(step)).chain([whole.clone()]) {
            let (slow, fast) = (stepwise(&script), explore(&script, staying(caches)));
            assert_eq!((slow.ever, slow.afterwards), (fast.ever, fast.afterwards), "{:?}", script.steps);
        }
        assert_eq!(stepwise(&whole).states, states, "{caches:?}");
    }
}

#[test]
fn a_patching_task_may_migrate_where_both_cpus_do_their_part() {
    for (caches, states) in ALL_CACHES.into_iter().zip([135, 129, 129, 99]) {
        let script = enabling(&[0], caches);
        let explored = |migration| explore(&script, Rules { migration, ..staying(caches) });
        let both = explored(Migration::CompletingAndSynchronising);
        assert!(is_settled(&script, &both));
        assert_eq!(both.states, states, "{caches:?}");
        // A DSB for another CPU's maintenance completes nothing.
        assert!(!is_settled(&script, &explored(Migration::Bare)));
        // Moved between the ISB and the IPIs, which go to all other CPUs, it comes to one that had neither.
        assert!(!is_settled(&script, &explored(Migration::Completing)));
    }
}

#[test]
fn a_word_in_two_halves_would_be_seen() {
    let mut script = enabling_on_hardware(NEITHER);
    let [old, new] = script.words[0].versions[..] else { panic!("{script:?}") };
    let torn = old & 0xffff_0000 | new & 0xffff;
    script.words[0].versions.insert(1, torn);
    let store = script.steps.iter().position(|step| *step == Step::Store(0)).unwrap();
    script.steps.insert(store, Step::Store(0));
    let explored = explore(&script, staying(NEITHER));
    assert_eq!(explored.ever[0], BTreeSet::from([old, torn, new]));
}

#[test]
fn init_is_not_for_live_text_and_the_model_says_why() {
    let (kernel, engine, functions) = engine_with(&[0], NEITHER);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    let events = kernel.take_events().into_iter();
    let callsite = events.filter(|event| !matches!(event, Event::Store(at, _) if *at != functions[0]));
    let script = Script::new(&Vec::from_iter(callsite), NEITHER, |_| NOP);
    let explored = explore(&script, staying(NEITHER));
    // A running CPU could be at this word while it changes, and MOV is not an instruction for that.
    assert_eq!(explored.ever[0], BTreeSet::from([NOP, MOV_X9_LR]));
    assert!(LiveWord::new(MOV_X9_LR).is_none());
}
