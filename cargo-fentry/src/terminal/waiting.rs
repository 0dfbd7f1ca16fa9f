//! How long a kernel is waited for: what the clock and ^C do until it has said all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

/// The last ^C that gives a kernel up which says nothing to those before.
const LAST_INTERRUPT: u32 = 3;

/// Whether somebody has typed ^C.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupts(Arc<AtomicBool>);

impl Interrupts {
    /// Has ^C be told, and no longer end this program; once.
    pub(super) fn catch() -> Result<Self> {
        let interrupts = Self::default();
        let told = interrupts.clone();
        ctrlc::set_handler(move || told.tell())?;
        Ok(interrupts)
    }

    pub(super) fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has, since it was asked last.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    pub(super) fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Who waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// A program: the kernel may say nothing until the limit, and ^C is for the program.
    Program,
    /// A program that ends what reads on for ever after so long. Until then the kernel may say nothing.
    Reader(Duration),
    /// A person, who knows for how long: ^C is for the kernel.
    Person,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Now {
    Listen,
    SendInterrupt,
    /// For this reason.
    GiveUp(String),
}

/// A time of waiting.
#[derive(Debug)]
pub(super) struct Waiting {
    who: Who,
    /// For how long a program waits while nothing is said.
    limit: Duration,
    /// Since when nothing was said, though something could be.
    silent_since: Instant,
    /// How often a person has typed ^C since the kernel said something.
    unanswered: u32,
}

impl Waiting {
    pub(super) fn new(who: Who, limit: Duration, now: Instant) -> Self {
        Self { who, limit, silent_since: now, unanswered: 0 }
    }

    /// The kernel has said something.
    pub(super) fn heard(&mut self, now: Instant) {
        // A reader's time goes on.
        if !matches!(self.who, Who::Reader(_)) {
            self.silent_since = now;
        }
        self.unanswered = 0;
    }

    /// What is to be done, where ^C has been typed or has not.
    pub(super) fn next(&mut self, now: Instant, is_interrupted: bool) -> Now {
        let waited = now.saturating_duration_since(self.silent_since);
        match self.who {
            Who::Person if is_interrupted => {
                self.unanswered += 1;
                match self.unanswered {
                    LAST_INTERRUPT => Now::GiveUp("the kernel says nothing to ^C".to_owned()),
                    _ => Now::SendInterrupt,
                }
            }
            Who::Person => Now::Listen,
            Who::Program | Who::Reader(_) if is_interrupted => Now::GiveUp("interrupted by ^C".to_owned()),
            Who::Reader(time) if waited >= time => {
                (self.who, self.silent_since) = (Who::Program, now);
                Now::SendInterrupt
            }
            Who::Program if waited > self.limit => {
                Now::GiveUp(format!("the kernel has said nothing for {} s", self.limit.as_secs()))
            }
            Who::Program | Who::Reader(_) => Now::Listen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// One who waits, and what is to be done after so many seconds, with or without ^C.
    fn waiting(who: Who) -> impl FnMut(u64, bool) -> Now {
        let start = Instant::now();
        let mut waiting = Waiting::new(who, LIMIT, start);
        move |seconds, is_interrupted| waiting.next(start + Duration::from_secs(seconds), is_interrupted)
    }

    #[test]
    fn a_person_waits_without_a_limit_and_sends_interrupts() {
        let mut next = waiting(Who::Person);
        assert_eq!(next(1, false), Now::Listen);
        assert_eq!(next(100_000, false), Now::Listen);
        assert_eq!(next(100_001, true), Now::SendInterrupt);
        assert_eq!(next(200_000, false), Now::Listen);
    }

    #[test]
    fn a_person_s_third_interrupt_gives_up_a_kernel_that_says_nothing() {
        let mut waiting = Waiting::new(Who::Person, LIMIT, Instant::now());
        let mut interrupt = || waiting.next(Instant::now(), true);
        assert_eq!([interrupt(), interrupt()], [Now::SendInterrupt, Now::SendInterrupt]);
        assert!(matches!(interrupt(), Now::GiveUp(_)));

        let mut waiting = Waiting::new(Who::Person, LIMIT, Instant::now());
        for _ in 0..10 {
            assert_eq!(waiting.next(Instant::now(), true), Now::SendInterrupt);
            waiting.heard(Instant::now());
        }
    }

    #[test]
    fn a_program_gives_up_after_the_limit_or_an_interrupt() {
        let mut next = waiting(Who::Program);
        assert_eq!(next(60, false), Now::Listen);
        assert_eq!(next(61, false), Now::GiveUp("the kernel has said nothing for 60 s".to_owned()));
        assert_eq!(waiting(Who::Program)(1, true), Now::GiveUp("interrupted by ^C".to_owned()));
        assert_eq!(waiting(Who::Reader(LIMIT))(1, true), Now::GiveUp("interrupted by ^C".to_owned()));
    }

    #[test]
    fn a_program_s_limit_begins_anew_with_what_is_said() {
        let start = Instant::now();
        let mut waiting = Waiting::new(Who::Program, LIMIT, start);
        waiting.heard(start + LIMIT);
        assert_eq!(waiting.next(start + 2 * LIMIT, false), Now::Listen);
    }

    #[test]
    fn what_reads_on_is_ended_once_and_only_then_must_answer() {
        let mut next = waiting(Who::Reader(Duration::from_secs(100)));
        assert_eq!(next(99, false), Now::Listen);
        assert_eq!(next(100, false), Now::SendInterrupt);
        assert_eq!(next(160, false), Now::Listen);
        assert!(matches!(next(161, false), Now::GiveUp(_)));
    }

    #[test]
    fn what_reads_on_is_ended_though_it_says_something_all_the_time() {
        let start = Instant::now();
        let mut waiting = Waiting::new(Who::Reader(LIMIT), LIMIT, start);
        waiting.heard(start + LIMIT / 2);
        assert_eq!(waiting.next(start + LIMIT, false), Now::SendInterrupt);
    }
}
