//! The explorer: every state that a script can lead to, each once.

extern crate std;

use super::script::{Script, Step, WORDS};
use crate::text::CacheType;
use std::collections::{BTreeSet, HashSet};
use std::vec::Vec;

/// The CPUs; the patching one begins as number 0.
pub(super) const CPUS: usize = 3;

/// The versions that a word can have: a set of them is a `u8`.
const VERSIONS: usize = 8;
/// The most that a script may have: what was there, what was written, and twice again; all of that stored twice.
const MAX_VERSIONS: usize = 5;

/// The machine that the script runs on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) caches: CacheType,
    pub(super) fetching: Fetching,
    pub(super) migration: Migration,
}

/// When instruction caches fill and CPUs fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetching {
    /// Each fill and each fetch by itself, at any time or never.
    Stepwise,
    /// All of them as soon as they can be.
    Eager,
}

/// Whether the task that patches may be moved to another CPU between any two steps, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Migration {
    /// It stays where it is.
    Never,
    /// Nothing is done for it.
    Bare,
    /// The CPU that it leaves executes a DSB.
    Completing,
    /// The same, and the CPU that it comes to goes through a context synchronisation event, such as the return from the
    /// exception that it was interrupted by.
    CompletingAndSynchronising,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The patching CPU does its next step, or begins to wait in it.
    Patch(Step),
    /// The next version of this word gets to the point of unification by itself.
    Unify { word: usize },
    /// An IC IVAU of this word arrives.
    Forget { cpu: usize, word: usize },
    /// A speculative fill of the instruction cache.
    Fill { cpu: usize, word: usize },
    /// A fetch, which finds this version.
    Fetch { cpu: usize, word: usize, version: usize },
    /// The answer to an IPI, by a context synchronisation event.
    Answer { cpu: usize },
    /// The patching task goes to this CPU.
    Migrate { cpu: usize },
}

/// Where everything is. Versions are numbers, sets have a bit a version, and a bit a word or a CPU.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The step that the patching task does next, whether it is waiting in it, and on which CPU.
    next: u8,
    waiting: bool,
    on: u8,
    /// By word: the newest version for data accesses, and for fills.
    stored: [u8; WORDS],
    unified: [u8; WORDS],
    /// By CPU that issued it, by word: the version that the next DSB brings to the point of unification.
    cleaning: [[u8; WORDS]; CPUS],
    /// By CPU that issued it: the words whose IC IVAU may not have arrived yet, by CPU where it shall.
    forgetting: [[u8; CPUS]; CPUS],
    /// By CPU, by word: the versions that a fetch may find, and those that may be executed.
    cached: [[u8; WORDS]; CPUS],
    fetched: [[u8; WORDS]; CPUS],
    /// The CPUs that have not answered their IPI yet.
    asked: u8,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Explored {
    /// How many states there are.
    pub(super) states: usize,
    /// By word: every value that any CPU may execute at any time.
    pub(super) ever: Vec<BTreeSet<u32>>,
    /// Of two words: every pair of values that a CPU may execute one after the other.
    pub(super) pairs: BTreeSet<(u32, u32)>,
    /// By CPU, by word: every value that it may execute once the script is through.
    pub(super) afterwards: Vec<Vec<BTreeSet<u32>>>,
    /// A shortest way to where a CPU may execute, after the script, what is not the last version's value.
    pub(super) witness: Option<Vec<Action>>,
}

/// Tries everything.
pub(super) fn explore(script: &Script, rules: Rules) -> Explored {
    let machine = Machine { script, rules };
    assert!(
        script.steps.len() < 32 && script.words.iter().all(|word| word.versions.len() <= MAX_VERSIONS),
        "State::key"
    );
    let first = machine.settled(State::default());
    // Breadth first: `reached` is the queue as well, each state with the one that it was reached from.
    let mut reached: Vec<(State, Option<(usize, Action)>)> = Vec::from([(first, None)]);
    let mut known = HashSet::from([first.key()]);
    let mut done = 0;
    // Sets of versions until all is done.
    let (mut ever, mut pairs, mut afterwards) = ([0; WORDS], [0; VERSIONS], [[0; WORDS]; CPUS]);
    let mut witness = None;
    while let Some(&(state, _)) = reached.get(done) {
        let over = usize::from(state.next) == script.steps.len();
        for (cpu, buffers) in state.fetched.iter().enumerate() {
            members(buffers[0]).for_each(|first| pairs[first] |= buffers[1]);
            for (number, word) in script.words.iter().enumerate() {
                ever[number] |= buffers[number];
                if over {
                    afterwards[cpu][number] |= buffers[number];
                    if witness.is_none() && word.values(buffers[number]).any(|value| value != script.last(number)) {
                        witness = Some(way(&reached, done));
                    }
                }
            }
        }
        machine.each_action(&state, |action| {
            let next = machine.settled(machine.after(state, action));
            if known.insert(next.key()) {
                reached.push((next, Some((done, action))));
            }
        });
        done += 1;
    }
    let values = |sets: [u8; WORDS]| script.words.iter().zip(sets).map(|(word, set)| word.values(set).collect());
    Explored {
        states: done,
        ever: values(ever).collect(),
        pairs: pairs_of(script, pairs),
        afterwards: afterwards.into_iter().map(|sets| values(sets).collect()).collect(),
        witness,
    }
}

/// The values of pairs of versions: by that of the first word, those of the second.
fn pairs_of(script: &Script, pairs: [u8; VERSIONS]) -> BTreeSet<(u32, u32)> {
    let [first, second] = &script.words[..] else { return BTreeSet::new() };
    let of = |(version, set): (usize, &u8)| second.values(*set).map(move |value| (first.versions[version], value));
    pairs.iter().enumerate().flat_map(of).collect()
}

/// What led to a state.
fn way(reached: &[(State, Option<(usize, Action)>)], mut state: usize) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some((from, action)) = reached[state].1 {
        actions.push(action);
        state = from;
    }
    actions.reverse();
    actions
}

/// The members of a set.
pub(super) fn members(set: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |bit| set & (1 << bit) != 0)
}

impl State {
    /// All of it as one number: in a debug build, hashing field by field is what takes the time.
    fn key(&self) -> u128 {
        let mut key = 0;
        let mut add = |bits: usize, values: &[u8]| {
            values.iter().for_each(|value| key = key << bits | u128::from(*value));
        };
        // Sets of versions, versions, sets of words and of CPUs: 124 bits in all.
        add(MAX_VERSIONS, self.cached.as_flattened());
        add(MAX_VERSIONS, self.fetched.as_flattened());
        add(3, self.cleaning.as_flattened());
        add(3, &self.stored);
        add(3, &self.unified);
        add(WORDS, self.forgetting.as_flattened());
        add(CPUS, &[self.asked]);
        // No script is longer than 31 steps.
        add(5, &[self.next]);
        add(2, &[self.on]);
        add(1, &[u8::from(self.waiting)]);
        key
    }
}

struct Machine<'a> {
    script: &'a Script,
    rules: Rules,
}

impl Machine<'_> {
    /// Calls `each` with all that can happen next.
    fn each_action(&self, state: &State, mut each: impl FnMut(Action)) {
        if let Some(step) = self.script.steps.get(usize::from(state.next)) {
            if !state.waiting || state.asked == 0 {
                each(Action::Patch(*step));
            }
            if self.rules.migration != Migration::Never {
                (0..CPUS).filter(|cpu| *cpu != usize::from(state.on)).for_each(|cpu| each(Action::Migrate { cpu }));
            }
        }
        for word in 0..self.script.words.len() {
            if state.unified[word] < state.stored[word] {
                each(Action::Unify { word });
            }
        }
        for cpu in 0..CPUS {
            if state.asked & (1 << cpu) != 0 {
                each(Action::Answer { cpu });
            }
            for word in 0..self.script.words.len() {
                if state.forgetting.iter().any(|arriving| arriving[cpu] & (1 << word) != 0) {
                    each(Action::Forget { cpu, word });
                }
                if self.rules.fetching == Fetching::Stepwise {
                    let unified = 1 << state.unified[word];
                    if self.rules.caches.needs_invalidate() && state.cached[cpu][word] & unified == 0 {
                        each(Action::Fill { cpu, word });
                    }
                    members(self.fetchable(state, cpu, word) & !state.fetched[cpu][word])
                        .for_each(|version| each(Action::Fetch { cpu, word, version }));
                }
            }
        }
    }

    /// The versions that a fetch may find.
    fn fetchable(&self, state: &State, cpu: usize, word: usize) -> u8 {
        if self.rules.caches.needs_invalidate() { state.cached[cpu][word] } else { 1 << state.unified[word] }
    }

    /// The state behind an action.
    fn after(&self, mut state: State, action: Action) -> State {
        match action {
            Action::Patch(step) => self.patch(&mut state, step),
            Action::Unify { word } => state.unified[word] += 1,
            Action::Forget { cpu, word } => {
                state.forgetting.iter_mut().for_each(|arriving| arriving[cpu] &= !(1 << word));
                state.cached[cpu][word] = 0;
            }
            Action::Fill { cpu, word } => state.cached[cpu][word] |= 1 << state.unified[word],
            Action::Fetch { cpu, word, version } => state.fetched[cpu][word] |= 1 << version,
            Action::Answer { cpu } => {
                state.asked &= !(1 << cpu);
                state.fetched[cpu] = [0; WORDS];
            }
            Action::Migrate { cpu } => {
                if self.rules.migration != Migration::Bare {
                    self.complete(&mut state);
                }
                if self.rules.migration == Migration::CompletingAndSynchronising {
                    state.fetched[cpu] = [0; WORDS];
                }
                state.on = cpu as u8;
            }
        }
        state
    }

    /// The patching task's own step.
    fn patch(&self, state: &mut State, step: Step) {
        let on = usize::from(state.on);
        match step {
            Step::Store(word) => {
                state.stored[word] += 1;
                if !self.rules.caches.needs_clean() {
                    // Where the data caches are is the point of unification: it only has to leave the CPU.
                    state.cleaning[on][word] = state.stored[word];
                }
            }
            Step::Clean(line) => members(line).for_each(|word| state.cleaning[on][word] = state.stored[word]),
            Step::Complete => self.complete(state),
            Step::Invalidate(line) => state.forgetting[on].iter_mut().for_each(|arriving| *arriving |= line),
            Step::Synchronize => state.fetched[on] = [0; WORDS],
            Step::SynchronizeCpus if !state.waiting => {
                state.waiting = true;
                state.asked = ((1 << CPUS) - 1) & !(1 << on);
                return;
            }
            Step::SynchronizeCpus => state.waiting = false,
        }
        state.next += 1;
    }

    /// A DSB on the CPU where the patching task is.
    fn complete(&self, state: &mut State) {
        let on = usize::from(state.on);
        let clean = core::mem::take(&mut state.cleaning[on]);
        for (word, asked_for) in clean.into_iter().enumerate() {
            state.unified[word] = state.unified[word].max(asked_for);
        }
        let arriving = core::mem::take(&mut state.forgetting[on]);
        for (cpu, words) in arriving.into_iter().enumerate() {
            members(words).for_each(|word| state.cached[cpu][word] = 0);
        }
    }

    /// The state with all fills and fetches done that are done at once.
    fn settled(&self, mut state: State) -> State {
        if self.rules.fetching == Fetching::Eager {
            for cpu in 0..CPUS {
                for word in 0..self.script.words.len() {
                    if self.rules.caches.needs_invalidate() {
                        state.cached[cpu][word] |= 1 << state.unified[word];
                    }
                    state.fetched[cpu][word] |= self.fetchable(&state, cpu, word);
                }
            }
        }
        state
    }
}
