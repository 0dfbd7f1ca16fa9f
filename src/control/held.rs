//! Recording is held until what a command asked for is done: between handlers on all CPUs, which ask, and the control
//! interface's thread, which answers.
//!
//! ```text
//!   asks:     gate |= HELD  (acquire)   who has set it goes on     asked = what       (release)
//!   answers:  asked         (acquire)   does it, asked = nothing   gate &= !HELD      (release)
//! ```
//!
//! The bit is the lock of `asked`: who sets it writes there, and nobody else asks before it is cleared. So what is held has
//! been asked for, or is about to be, and is answered.

use crate::tracer::ring::Word;
use core::sync::atomic::Ordering;

/// Nothing was asked for.
const NOTHING: u64 = 0;

/// Holds by this bit of the gate, and asks for what is not 0; whether nothing else had been asked for.
pub(super) fn ask<W: Word>(gate: &W, held: u64, asked: &W, what: u64) -> bool {
    let is_first = gate.fetch_or(held, Ordering::Acquire) & held == 0;
    // It has nothing now, as the last answer left it.
    is_first && asked.replace(NOTHING, what, Ordering::Release)
}

/// What was asked for.
pub(super) fn asked<W: Word>(asked: &W) -> Option<u64> {
    Some(asked.load(Ordering::Acquire)).filter(|what| *what != NOTHING)
}

/// What was asked for is done.
pub(super) fn answer<W: Word>(gate: &W, held: u64, asked: &W) {
    asked.store(NOTHING);
    gate.fetch_and(!held, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::{answer, ask, asked};
    use crate::tracer::ring::Word;
    use core::sync::atomic::Ordering;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64;
    use loom::thread;

    const HELD: u64 = 2;
    const OTHER: u64 = 1;

    impl Word for AtomicU64 {
        fn load(&self, order: Ordering) -> u64 {
            self.load(order)
        }
        fn store(&self, value: u64) {
            self.store(value, Ordering::Relaxed);
        }
        fn replace(&self, old: u64, new: u64, order: Ordering) -> bool {
            self.compare_exchange(old, new, order, Ordering::Relaxed).is_ok()
        }
        fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            self.fetch_add(value, order)
        }
        fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
            self.fetch_or(bits, order)
        }
        fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
            self.fetch_and(bits, order)
        }
    }

    /// Answers what was asked for, if anything was; what that is.
    fn attend(gate: &AtomicU64, what: &AtomicU64) -> Option<u64> {
        let found = asked(what)?;
        assert_eq!(gate.load(Ordering::Relaxed) & HELD, HELD, "it records while it is read");
        answer(gate, HELD, what);
        Some(found)
    }

    /// Two CPUs ask, and one answers, in every order: each that is told to be the first is answered, and nothing is held then.
    #[test]
    fn what_is_asked_for_is_answered_and_nothing_stays_held() {
        loom::model(|| {
            let words = Arc::new((AtomicU64::new(OTHER), AtomicU64::new(0)));
            let askers = [7, 9].map(|what| {
                let words = Arc::clone(&words);
                thread::spawn(move || ask(&words.0, HELD, &words.1, what).then_some(what))
            });
            let (gate, what) = &*words;
            let mut answered = [attend(gate, what), None, None];
            let wanted = askers.map(|asker| asker.join().unwrap());
            (answered[1], answered[2]) = (attend(gate, what), attend(gate, what));
            let sum = |all: &[Option<u64>]| all.iter().flatten().sum::<u64>();
            assert_eq!(sum(&answered), sum(&wanted));
            assert!(sum(&wanted) > 0);
            assert_eq!(gate.load(Ordering::Relaxed), OTHER);
        });
    }
}
