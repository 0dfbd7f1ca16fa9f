//! What an emulator may execute that translates text, with a thread for each CPU, and why words are stored a second time.
//!
//! The other model's machine is a CPU. This one is an emulator as QEMU is up to its release 7.2, where no cache and no
//! barrier matters and one thing does: a translation is thrown away when its word is stored to, but one that is only
//! being made then is not there yet to be thrown away.
//!
//! ```text
//!     patching CPU                          each other CPU
//!     store --> memory ----------------> being translated ------------> translated (for all CPUs) --> executed
//!               stored     read, where               put there, when    emptied by each store
//!                          none is there             it is done         to the word
//! ```
//!
//! A CPU answers an IPI between two translations, never inside of one. So behind a round of IPIs nobody is at the old word
//! any more; what has been made of it is all there, and the second store throws it away.
//!
//! A CPU that is in the midst of a translation that is thrown away finishes it. Its call of the function was under way
//! when the store came, so it is one that came before the change; the next one looks for a translation, and finds the new.

extern crate std;

use super::explorer::{CPUS, members};
use super::script::{Script, Step, WORDS};
use crate::address::TextAddr;
use crate::callsite::NOP;
use crate::context::regs::FtraceRegs;
use crate::engine::Engine;
use crate::fakes::{COMPILED, Event, FakeKernel, FakeText, Fault};
use crate::filter::Filter;
use crate::ops::Ops;
use crate::text::CacheType;
use std::collections::{BTreeSet, HashSet};
use std::vec::Vec;

const CACHES: CacheType = CacheType::from_ctr(0x8444_c004);

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}
static OPS: Ops = Ops::new(callback);

/// Where everything is. CPU 0 patches; sets have a bit a version or a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    next: u8,
    waiting: bool,
    asked: u8,
    /// By word: the version in memory, and those of which there are translations.
    stored: [u8; WORDS],
    translated: [u8; WORDS],
    /// By CPU: the word and its version that are being translated.
    translating: [Option<(u8, u8)>; CPUS],
}

/// By word: every value that any CPU may execute at any time, and once the script is through.
struct Executed {
    ever: Vec<BTreeSet<u32>>,
    afterwards: Vec<BTreeSet<u32>>,
}

impl Executed {
    /// Whether every CPU, once the script is through, can execute only what it left.
    fn is_settled(&self, script: &Script) -> bool {
        self.afterwards.iter().enumerate().all(|(word, values)| *values == BTreeSet::from([script.last(word)]))
    }
}

/// Tries everything.
fn explore(script: &Script) -> Executed {
    let (mut ever, mut afterwards) = ([0; WORDS], [0; WORDS]);
    let mut reached = Vec::from([State::default()]);
    let mut known: HashSet<State> = reached.iter().copied().collect();
    while let Some(state) = reached.pop() {
        let over = usize::from(state.next) == script.steps.len();
        for (word, versions) in state.translated.iter().enumerate() {
            ever[word] |= versions;
            afterwards[word] |= if over { *versions } else { 0 };
        }
        each_next(script, state, |next| {
            if known.insert(next) {
                reached.push(next);
            }
        });
    }
    let values =
        |sets: [u8; WORDS]| script.words.iter().zip(sets).map(|(word, set)| word.values(set).collect()).collect();
    Executed { ever: values(ever), afterwards: values(afterwards) }
}

/// Calls `each` with every state that can come next.
fn each_next(script: &Script, state: State, mut each: impl FnMut(State)) {
    if let Some(step) = script.steps.get(usize::from(state.next))
        && (!state.waiting || state.asked == 0)
    {
        let mut next = State { next: state.next + 1, waiting: false, ..state };
        match *step {
            Step::Store(word) => {
                next.stored[word] += 1;
                next.translated[word] = 0;
            }
            Step::SynchronizeCpus if !state.waiting => {
                next = State { waiting: true, asked: (1 << CPUS) - 2, ..state };
            }
            // All caches are one, and hold what memory holds.
            Step::SynchronizeCpus | Step::Clean(_) | Step::Complete | Step::Invalidate(_) | Step::Synchronize => {}
        }
        each(next);
    }
    for cpu in 1..CPUS {
        match state.translating[cpu] {
            Some((word, version)) => {
                let mut next = state;
                next.translating[cpu] = None;
                next.translated[usize::from(word)] |= 1 << version;
                each(next);
            }
            None => {
                for word in (0..script.words.len()).filter(|word| state.translated[*word] == 0) {
                    let mut next = state;
                    next.translating[cpu] = Some((word as u8, state.stored[word]));
                    each(next);
                }
                if members(state.asked).any(|asked| asked == cpu) {
                    each(State { asked: state.asked & !(1 << cpu), ..state });
                }
            }
        }
    }
}

/// An engine with two functions in two pages, ready, with nothing recorded.
fn ready() -> (&'static FakeKernel, Engine) {
    let mut text = FakeText::new(0xffff_8000_8000_0000);
    text.function("f", COMPILED);
    text.skip_to(4096);
    text.function("g", COMPILED);
    let kernel = text.build();
    let engine = Engine::with_machine(kernel, kernel);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    kernel.take_events();
    (kernel, engine)
}

/// What was done to live text. Before the first call of this, all words that are stored to were NOP.
fn recorded(kernel: &FakeKernel) -> Script {
    Script::new(&kernel.take_live_events(), CACHES, |_| NOP)
}

/// The script as it would be without second stores: those of the value that the word has.
fn stored_once(script: &Script) -> Script {
    let mut once = script.clone();
    for word in &mut once.words {
        word.versions.dedup();
    }
    let mut seen = [0; WORDS];
    once.steps.retain(|step| {
        let Step::Store(word) = *step else { return true };
        seen[word] += 1;
        script.words[word].versions[seen[word]] != script.words[word].versions[seen[word] - 1]
    });
    assert!(once.steps.len() < script.steps.len(), "there are no second stores");
    once
}

#[test]
fn a_word_that_was_stored_again_is_not_executed_as_it_was_before() {
    let (kernel, engine) = ready();
    engine.register(&OPS, &Filter::ALL).unwrap();
    let enabling = recorded(kernel);
    engine.unregister(&OPS).unwrap();
    let mut disabling = recorded(kernel);
    for (word, enabled) in disabling.words.iter_mut().zip(&enabling.words) {
        word.versions[0] = enabled.versions[1];
    }
    for script in [enabling, disabling] {
        let executed = explore(&script);
        assert!(executed.is_settled(&script), "{script:?}");
        // Nothing else than the old and the new word meanwhile.
        for (word, values) in executed.ever.iter().enumerate() {
            assert_eq!(*values, script.words[word].versions.iter().copied().collect());
        }
        let once = stored_once(&script);
        assert!(!explore(&once).is_settled(&once), "{once:?}");
    }
}

#[test]
fn words_are_stored_again_behind_the_round_and_no_round_is_needed_behind_that() {
    let (kernel, engine) = ready();
    engine.register(&OPS, &Filter::ALL).unwrap();
    let script = recorded(kernel);
    let round = script.steps.iter().position(|step| *step == Step::SynchronizeCpus).unwrap();
    assert_eq!(script.steps[round + 1..], [Step::Store(0), Step::Store(1)]);
    for step in 0..script.steps.len() {
        // Each store, and the round, but nothing that is for caches.
        let needed = matches!(script.steps[step], Step::Store(_) | Step::SynchronizeCpus);
        let mut rest = script.without(step);
        if let Step::Store(word) = script.steps[step] {
            rest.words[word].versions.pop();
        }
        assert_eq!(explore(&rest).is_settled(&rest), !needed, "without {:?} of {:?}", script.steps[step], script.steps);
    }
    let mut steps = script.steps.clone();
    steps.remove(round);
    steps.push(Step::SynchronizeCpus);
    assert!(!explore(&script.with_steps(steps)).is_settled(&script), "a round after both stores is too late");
}

#[test]
fn what_is_undone_is_stored_again_as_well() {
    // The stub takes two aliases, and the callsites four. The second page fails, or the second store of either.
    for fault in [Fault::Alias(3), Fault::Alias(4), Fault::Alias(5)] {
        let (kernel, engine) = ready();
        kernel.set_fault(Some(fault));
        engine.register(&OPS, &Filter::ALL).unwrap_err();
        let script = recorded(kernel);
        assert!(explore(&script).is_settled(&script), "{fault:?}: {script:?}");
        let once = stored_once(&script);
        assert!(!explore(&once).is_settled(&once), "{fault:?}: {once:?}");
    }
}

#[test]
fn generated_code_is_stored_again_as_well() {
    let (kernel, engine) = ready();
    engine.register(&OPS, &Filter::ALL).unwrap();
    let events = kernel.take_events();
    let room = kernel.stubs().room;
    let end = events.iter().position(|event| *event == Event::EndBatch).unwrap();
    let words: BTreeSet<TextAddr> = events[..end]
        .iter()
        .filter_map(|event| if let Event::Store(at, _) = event { Some(*at) } else { None })
        .collect();
    assert!(words.len() > 10 && words.iter().all(|at| room.contains(*at)));
    for word in words {
        let of_word = |event: &&Event| !matches!(event, Event::Store(at, _) if *at != word);
        let events: Vec<Event> = events[..end].iter().filter(of_word).copied().collect();
        // What was in its place is any other word.
        let script = Script::new(&events, CACHES, |at| !kernel.word(at));
        assert!(explore(&script).is_settled(&script), "{word}");
        assert!(!explore(&stored_once(&script)).is_settled(&script), "{word}");
    }
}
