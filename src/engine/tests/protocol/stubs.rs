//! The order of a stub and the call of it: who executes the new BL must find the new stub.
//!
//! A stub is written where nobody is, the BL to it where everybody may be. The explorer looks at two words of what the
//! engine wrote, the callsite's and one of the stub's, as a pair that a CPU executes one after the other: no CPU may ever
//! have the new BL and behind it what was in the stub's place before.

extern crate std;

use super::{Fetching, Migration, Rules, Script, Step, explore};
use crate::address::TextAddr;
use crate::callsite::NOP;
use crate::context::regs::FtraceRegs;
use crate::engine::Engine;
use crate::fakes::{COMPILED, Event, FakeText};
use crate::filter::{Filter, Rule};
use crate::module::regions::Regions;
use crate::ops::{Ops, OpsFlags};
use crate::text::CacheType;
use std::collections::BTreeSet;
use std::vec::Vec;

const BASE: u64 = 0xffff_8000_8000_0000;
/// Where BL doesn't reach.
const FAR: u64 = BASE + (1 << 30);

/// CTR_EL0 with 64-byte lines and all that IDC and DIC can be.
const ALL_CACHES: [CacheType; 4] = [
    CacheType::from_ctr(0x8444_c004),
    CacheType::from_ctr(0x9444_c004),
    CacheType::from_ctr(0xa444_c004),
    CacheType::from_ctr(0xb444_c004),
];

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

/// An ops with a stub that has no list, and one with a stub that is little else.
static OPS: [Ops; 2] = [Ops::new(callback), Ops::new(callback).with_flags(OpsFlags::SAVE_REGS)];

/// What the engine did to have a function call an ops.
struct Recorded {
    events: Vec<Event>,
    caches: CacheType,
    /// The callsite's BL.
    callsite: TextAddr,
    /// All other words that were written: the stub's, and where the function is far away its veneer's.
    generated: Vec<TextAddr>,
}

impl Recorded {
    fn new(ops: &'static Ops, far: bool, caches: CacheType) -> Self {
        let mut text = FakeText::new(BASE);
        let near_function = text.function("near", COMPILED);
        let mut module = FakeText::new(FAR);
        let far_function = module.function("far", COMPILED);
        text.module(module);
        let kernel = text.build();
        kernel.set_cache_type(caches);
        let engine = Engine::with_machine(kernel, kernel);
        // SAFETY: nothing executes a fake's text.
        unsafe { engine.init(kernel.image()) }.unwrap();
        // SAFETY: as above.
        unsafe { engine.add(kernel.module(0)) }.unwrap();
        kernel.take_events();

        engine.register(ops, &Filter::new(&[Rule::name(if far { "far" } else { "near" })])).unwrap();
        let callsite = (if far { far_function } else { near_function }).offset(4);
        let mut events = kernel.take_events();
        let call = events.iter().position(|event| matches!(event, Event::Store(at, _) if *at == callsite)).unwrap();
        let stored = events.iter().filter_map(|event| if let Event::Store(at, _) = event { Some(*at) } else { None });
        let generated = stored.filter(|at| *at != callsite).collect();
        // The call is found as soon as it is stored; what is done to have it found by all is the other model's.
        events.truncate(call + 1);
        Self { events, caches, callsite, generated }
    }

    /// What becomes of the callsite, as the first word, and of this one.
    fn script(&self, word: TextAddr) -> Script {
        let concerns = |event: &&Event| !matches!(event, Event::Store(at, _) if *at != self.callsite && *at != word);
        let events: Vec<Event> = self.events.iter().filter(concerns).copied().collect();
        let script = Script::new(&events, self.caches, |at| if at == self.callsite { NOP } else { 0 });
        // The callsite is stored to last.
        script.with_words_swapped()
    }

    fn rules(&self) -> Rules {
        Rules { caches: self.caches, fetching: Fetching::Eager, migration: Migration::Never }
    }

    /// Whether a CPU can execute the new call and then something else than the new word.
    fn comes_too_early(&self, script: &Script) -> bool {
        let explored = explore(script, self.rules());
        let (call, word) = (script.last(0), script.last(1));
        assert!(explored.ever[0].contains(&call), "nobody executes the call");
        explored.pairs.iter().any(|(first, second)| *first == call && *second != word)
    }
}

/// Every stub, in the kernel's own text and far away, on every machine.
fn each(mut look: impl FnMut(&Recorded)) {
    for ops in &OPS {
        for far in [false, true] {
            for caches in ALL_CACHES {
                look(&Recorded::new(ops, far, caches));
            }
        }
    }
}

#[test]
fn who_executes_the_new_call_finds_every_word_of_the_new_stub() {
    let mut generated = BTreeSet::new();
    each(|recorded| {
        generated.insert(recorded.generated.len());
        for word in &recorded.generated {
            let script = recorded.script(*word);
            assert!(!recorded.comes_too_early(&script), "{word}: {:?}", script.steps);
        }
    });
    assert!(generated.len() == 4 && generated.iter().all(|words| *words > 10), "{generated:?}");
}

#[test]
fn no_step_before_the_call_can_be_left_out() {
    each(|recorded| {
        for word in &recorded.generated {
            let script = recorded.script(*word);
            let stored = script.steps.iter().position(|step| *step == Step::Store(1)).unwrap();
            let told = script.steps.iter().rposition(|step| *step == Step::SynchronizeCpus).unwrap();
            let rounds = script.steps[stored..].iter().filter(|step| **step == Step::SynchronizeCpus).count();
            if script.last(1) == 0 || rounds > 1 {
                continue; // As it was before; or a veneer follows, which has all that the stub had.
            }
            for step in stored..=told {
                let rest = script.without(step);
                assert!(recorded.comes_too_early(&rest), "{word}: {:?} of {:?}", script.steps[step], script.steps);
            }
        }
    });
}

#[test]
fn a_call_that_is_stored_before_all_that_is_there_for_it_finds_what_was_there_before() {
    each(|recorded| {
        let word = recorded.generated[0];
        let script = recorded.script(word);
        let (call, before) = script.steps.split_last().unwrap();
        for place in 0..before.len() {
            let mut steps = before.to_vec();
            steps.insert(place, *call);
            let told = before[..place].contains(&Step::SynchronizeCpus);
            assert_eq!(recorded.comes_too_early(&script.with_steps(steps)), !told, "{place} of {before:?}");
        }
    });
}
