//! Interrupts before each access, nested in each other: every possibility, by running the code again and again.
//!
//! An interrupt on the CPU that writes is a call in the middle of the writer, so no threads are needed: before each access
//! to a word the [`Explorer`] decides whether the next interrupt of the scenario comes now. All ways to decide are tried, in
//! the order of a depth-first search.

use super::{Journal, Made, WORDS, ring};
use crate::tracer::ring::{Counts, Mode, Ring, Word};
use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::VecDeque;
use std::vec::Vec;

/// What a context does to the ring.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Writes so many records of so many words.
    Write { records: usize, payload: usize },
    /// Begins a record and gives it up.
    GiveUp,
    /// Takes everything out.
    Consume,
    /// Looks at everything.
    Look,
}

impl Act {
    fn run(self, ring: &Ring<Watched, WORDS>, journal: &Journal) {
        match self {
            Self::Write { records, payload } => (0..records).for_each(|_| {
                journal.write(ring, payload);
            }),
            Self::GiveUp => journal.give_up(ring),
            Self::Consume => journal.consume(ring),
            Self::Look => {
                journal.look(ring);
            }
        }
    }
}

/// The decisions of one run, and the interrupts that are still to come in it.
#[derive(Default)]
struct Explorer {
    /// At each access: whether an interrupt comes.
    decisions: Vec<bool>,
    /// How many accesses there were in this run.
    accesses: usize,
    interrupts: VecDeque<Act>,
    ring: Option<(&'static Ring<Watched, WORDS>, &'static Journal)>,
}

std::thread_local! {
    static EXPLORER: RefCell<Explorer> = RefCell::default();
}

/// A word before each access to which an interrupt may come.
#[derive(Default)]
struct Watched(AtomicU64);

impl Watched {
    fn interruptible(&self) -> &AtomicU64 {
        let interrupt = EXPLORER.with_borrow_mut(|explorer| {
            let ring = explorer.ring?;
            // Where none is left there is nothing to decide.
            explorer.interrupts.front()?;
            let access = explorer.accesses;
            explorer.accesses += 1;
            if access == explorer.decisions.len() {
                explorer.decisions.push(false);
            }
            let act = if explorer.decisions[access] { explorer.interrupts.pop_front()? } else { return None };
            Some((act, ring))
        });
        if let Some((act, (ring, journal))) = interrupt {
            act.run(ring, journal);
        }
        &self.0
    }
}

impl Made for Watched {}

impl Word for Watched {
    fn load(&self, order: Ordering) -> u64 {
        self.interruptible().load(order)
    }
    fn store(&self, value: u64) {
        Word::store(self.interruptible(), value);
    }
    fn replace(&self, old: u64, new: u64, order: Ordering) -> bool {
        self.interruptible().replace(old, new, order)
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.interruptible().fetch_add(value, order)
    }
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.interruptible().fetch_or(bits, order)
    }
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.interruptible().fetch_and(bits, order)
    }
}

/// Runs `acts`, with these interrupts in this order at all places where they can come; how many runs that were.
fn explore(blocks: usize, mode: Mode, acts: &[Act], interrupts: &[Act], judge: impl Fn(Counts)) -> usize {
    let mut decisions = Vec::new();
    for runs in 1.. {
        let (ring, journal) = (ring(blocks, mode), &*std::boxed::Box::leak(std::boxed::Box::new(Journal::default())));
        let explorer = Explorer {
            decisions: core::mem::take(&mut decisions),
            interrupts: interrupts.iter().copied().collect(),
            ring: Some((ring, journal)),
            ..Explorer::default()
        };
        EXPLORER.set(explorer);
        acts.iter().for_each(|act| act.run(ring, journal));
        decisions = EXPLORER.take().decisions;
        judge(journal.settle(ring));
        // The last decision that can be taken the other way.
        while decisions.pop_if(|interrupted| *interrupted).is_some() {}
        let Some(last) = decisions.last_mut() else { return runs };
        *last = true;
    }
    unreachable!()
}

const ONE: Act = Act::Write { records: 1, payload: 1 };
const TWO: Act = Act::Write { records: 2, payload: 1 };
const LONG: Act = Act::Write { records: 1, payload: 4 };
/// More than four blocks hold.
const LAP: Act = Act::Write { records: 9, payload: 1 };

fn nothing_refused(counts: Counts) {
    assert_eq!(counts.refused, 0, "{counts:?}");
}

fn nothing_overwritten(counts: Counts) {
    assert_eq!(counts.overwritten, 0, "{counts:?}");
}

#[test]
fn writers_nest_three_deep() {
    let runs = explore(4, Mode::Overwrite, &[TWO, TWO], &[ONE, LONG, ONE], nothing_refused);
    assert!(runs > 10_000, "{runs}");
    explore(4, Mode::Overwrite, &[LAP, TWO], &[ONE, LONG], nothing_refused);
    explore(4, Mode::Stop, &[LAP, TWO], &[ONE, LONG], nothing_overwritten);
}

#[test]
fn a_nested_writer_wraps_over_a_half_written_record() {
    explore(4, Mode::Overwrite, &[TWO], &[LAP, LAP], nothing_refused);
    explore(4, Mode::Overwrite, &[LAP, ONE], &[LONG, LAP], nothing_refused);
    explore(4, Mode::Stop, &[TWO], &[LAP, LAP], nothing_overwritten);
    // Of two blocks one is held by the outer record and the other one is all there is.
    explore(2, Mode::Overwrite, &[TWO, TWO], &[LAP, LAP], |_| ());
    explore(2, Mode::Stop, &[TWO, TWO], &[LAP, LAP], nothing_overwritten);
}

#[test]
fn a_writer_that_is_late_takes_nothing_new_away() {
    // Three blocks of two records, and the open one.
    let newest_kept = |counts: Counts| assert!(counts.read >= 7, "{counts:?}");
    explore(4, Mode::Overwrite, &[LAP], &[LAP], newest_kept);
    explore(4, Mode::Overwrite, &[LAP], &[LAP, ONE], newest_kept);
    explore(4, Mode::Overwrite, &[LAP], &[TWO, LAP], newest_kept);
}

#[test]
fn a_reader_comes_between_any_two_steps_of_a_writer() {
    for mode in [Mode::Overwrite, Mode::Stop] {
        explore(4, mode, &[LAP], &[Act::Consume, LONG], |_| ());
        explore(4, mode, &[LAP, TWO], &[Act::Look, Act::Consume], |_| ());
        explore(2, mode, &[TWO, LONG], &[Act::Consume, TWO, Act::Consume], |_| ());
    }
}

#[test]
fn a_writer_comes_between_any_two_steps_of_a_reader() {
    for mode in [Mode::Overwrite, Mode::Stop] {
        explore(4, mode, &[LAP, Act::Consume, TWO, Act::Consume], &[LONG, LAP], |_| ());
        explore(4, mode, &[LAP, Act::Look, TWO], &[LAP], |_| ());
        explore(2, mode, &[TWO, Act::Consume, TWO], &[TWO, TWO], |_| ());
    }
}

#[test]
fn a_record_given_up_anywhere_is_counted_like_any_other() {
    for mode in [Mode::Overwrite, Mode::Stop] {
        explore(4, mode, &[TWO, Act::GiveUp, ONE], &[Act::GiveUp, LAP], |_| ());
    }
}
