//! What one task's errors are injected by.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A task's own part of [error injection](crate::inject).
#[derive(Debug)]
pub(crate) struct TaskInjection {
    /// The number of injectable calls up to the one that fails; 0 for none. The stubs look for whether it is 0.
    pub(crate) nth: AtomicU32,
    may_fail: AtomicBool,
}

impl TaskInjection {
    pub(crate) const fn new() -> Self {
        Self { nth: AtomicU32::new(0), may_fail: AtomicBool::new(false) }
    }

    /// Whether injections that are for some tasks only are for this one.
    pub(crate) fn may_fail(&self) -> bool {
        self.may_fail.load(Ordering::Relaxed)
    }

    pub(crate) fn set_may_fail(&self, may_fail: bool) {
        self.may_fail.store(may_fail, Ordering::Relaxed);
    }

    /// Counts an injectable call; returns whether it is the one that fails, or `None` where calls are not counted. Plain
    /// loads and stores: only this task does it.
    pub(crate) fn count_down(&self) -> Option<bool> {
        let left = self.nth.load(Ordering::Relaxed).checked_sub(1)?;
        self.nth.store(left, Ordering::Relaxed);
        Some(left == 0)
    }
}
