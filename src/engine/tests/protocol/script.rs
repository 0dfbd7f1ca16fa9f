//! What the patching CPU does: the recorded events, as far as the model knows them.

extern crate std;

use super::explorer::members;
use crate::address::TextAddr;
use crate::fakes::Event;
use crate::text::CacheType;
use std::vec::Vec;

/// The most words that a script may change.
pub(super) const WORDS: usize = 2;

/// One step of the patching CPU. A set of words has a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This word has its next version.
    Store(usize),
    /// DC CVAU of the line with these words.
    Clean(u8),
    /// DSB ISH.
    Complete,
    /// IC IVAU of the line with these words.
    Invalidate(u8),
    /// ISB.
    Synchronize,
    /// A round of IPIs, answered by all.
    SynchronizeCpus,
}

/// A word of text with all that is stored there, in this order; first what was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    at: TextAddr,
    pub(super) versions: Vec<u32>,
}

impl Word {
    /// The values of a set of versions.
    pub(super) fn values(&self, set: u8) -> impl Iterator<Item = u32> {
        members(set).map(|version| self.versions[version])
    }
}

/// What the patching CPU does, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) words: Vec<Word>,
    pub(super) steps: Vec<Step>,
}

impl Script {
    /// The script of these events; `before` is the word that was at an address before them. Maintenance of lines without
    /// a word that is stored to is left out.
    pub(super) fn new(events: &[Event], caches: CacheType, before: impl Fn(TextAddr) -> u32) -> Self {
        let mut words: Vec<Word> = Vec::new();
        for event in events {
            let &Event::Store(at, _) = event else { continue };
            assert!(at.is_aligned(), "a store to {at} is not one of a whole instruction");
            if !words.iter().any(|word| word.at == at) {
                words.push(Word { at, versions: Vec::from([before(at)]) });
            }
        }
        assert!((1..=WORDS).contains(&words.len()), "the explorer is made for one or two words");
        let line = |words: &[Word], at: TextAddr, bytes: u64| {
            let inside = |word: &Word| word.at.get() & !(bytes - 1) == at.get() & !(bytes - 1);
            words.iter().enumerate().fold(0, |set, (n, word)| set | u8::from(inside(word)) << n)
        };
        let mut steps = Vec::new();
        for event in events {
            let step = match *event {
                Event::Store(at, value) => {
                    let Some(number) = words.iter().position(|word| word.at == at) else { continue };
                    words[number].versions.push(value);
                    Step::Store(number)
                }
                Event::Clean(at) | Event::CleanAndInvalidate(at) => {
                    Step::Clean(line(&words, at, caches.data_line_bytes()))
                }
                Event::Invalidate(at) => Step::Invalidate(line(&words, at, caches.instruction_line_bytes())),
                Event::Complete => Step::Complete,
                Event::Synchronize => Step::Synchronize,
                Event::SynchronizeCpus => Step::SynchronizeCpus,
                // Of these the model knows nothing, and takes nothing from them.
                Event::BeginBatch
                | Event::EndBatch
                | Event::Map(_)
                | Event::Unmap(_)
                | Event::Quiesce
                | Event::Mask
                | Event::HoldCpus
                | Event::Restore => continue,
            };
            if !matches!(step, Step::Clean(0) | Step::Invalidate(0)) {
                steps.push(step);
            }
        }
        Self { words, steps }
    }

    /// The same with its two words the other way round.
    pub(super) fn with_words_swapped(mut self) -> Self {
        self.words.reverse();
        let swapped = |set: u8| set >> 1 | (set & 1) << 1;
        for step in &mut self.steps {
            match step {
                Step::Store(word) => *word = 1 - *word,
                Step::Clean(line) | Step::Invalidate(line) => *line = swapped(*line),
                Step::Complete | Step::Synchronize | Step::SynchronizeCpus => {}
            }
        }
        self
    }

    /// The same without one of the steps.
    pub(super) fn without(&self, step: usize) -> Self {
        let mut script = self.clone();
        script.steps.remove(step);
        script
    }

    /// The same steps in another order.
    pub(super) fn with_steps(&self, steps: Vec<Step>) -> Self {
        Self { steps, ..self.clone() }
    }

    /// What is at this word at the end.
    pub(super) fn last(&self, word: usize) -> u32 {
        self.words[word].versions[self.words[word].versions.len() - 1]
    }
}
