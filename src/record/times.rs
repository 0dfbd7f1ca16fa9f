//! How long calls took: what a generated function that times them adds to.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

/// Calls that were timed, by all CPUs: how many, how long, and the longest. In ticks of the system counter (CNTVCT_EL0).
///
/// Each number is right by itself. A call that ends while they are read may be in one and not yet in the next.
#[derive(Debug, Default)]
#[repr(C)]
pub struct CallTimes {
    calls: AtomicU64,
    ticks: AtomicU64,
    longest: AtomicU64,
}

// As the code that adds to it steps over it.
const _: () = assert!(offset_of!(CallTimes, ticks) == 8 && offset_of!(CallTimes, longest) == 16);

impl CallTimes {
    /// No calls yet.
    pub const fn new() -> Self {
        Self { calls: AtomicU64::new(0), ticks: AtomicU64::new(0), longest: AtomicU64::new(0) }
    }

    /// How many calls have ended.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How long all of them took.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// How long the longest one took.
    pub fn longest(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::CallTimes;

    #[test]
    fn each_number_is_the_one_that_was_added_to() {
        let times = CallTimes { calls: 3.into(), ticks: 70.into(), longest: 40.into() };
        assert_eq!((times.calls(), times.ticks(), times.longest()), (3, 70, 40));
    }
}
