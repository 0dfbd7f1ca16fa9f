//! How often a command or a trigger may still act.

use core::sync::atomic::{AtomicU64, Ordering};

/// How often something may still act.
#[derive(Debug)]
pub(super) struct Left(AtomicU64);

impl Left {
    /// Any number of times.
    const UNLIMITED: u64 = u64::MAX;

    /// It does not act.
    pub(super) const fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Has it act so often from now on, or always.
    pub(super) fn set(&self, times: Option<u64>) {
        self.0.store(times.unwrap_or(Self::UNLIMITED), Ordering::Relaxed);
    }

    /// How often it will act yet; `None` where it always does.
    pub(super) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|left| *left != Self::UNLIMITED)
    }

    /// Whether it will act no more.
    #[inline]
    pub(super) fn is_used_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Takes one of the times, if there is one.
    pub(super) fn take(&self) -> bool {
        let less = |left| if left == Self::UNLIMITED { Some(left) } else { u64::checked_sub(left, 1) };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}
