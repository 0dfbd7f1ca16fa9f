//! A value that lines replace while callbacks read it.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A value in two places, of which callbacks read the one that is current.
///
/// # Invariants
///
/// The place that is not current is written to by [`replace`](Self::replace) only.
#[derive(Debug)]
pub(super) struct Published<T> {
    places: [UnsafeCell<T>; 2],
    current: AtomicUsize,
}

// SAFETY: it is shared as references to `T`, and `replace` says when it may move one in from another thread.
unsafe impl<T: Send + Sync> Sync for Published<T> {}

impl<T> Published<T> {
    pub(super) const fn new(first: T, other: T) -> Self {
        Self { places: [UnsafeCell::new(first), UnsafeCell::new(other)], current: AtomicUsize::new(0) }
    }

    /// Calls `look` with the current value.
    #[inline]
    pub(super) fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let current = self.current.load(Ordering::Acquire) & 1;
        // SAFETY: this place is written to only after another one has become current, and then only when nobody is in here who
        // began before that, by the promise made to `replace`.
        look(unsafe { &*self.places[current].get() })
    }

    /// Puts another value in the current one's place.
    ///
    /// # Safety
    ///
    /// 1. Nobody else is in here.
    /// 2. Nobody is in [`with`](Self::with) who came there before the last `replace` was over.
    pub(super) unsafe fn replace(&self, value: T) {
        let other = (self.current.load(Ordering::Relaxed) + 1) & 1;
        // SAFETY: it is not current. By 1. nobody else writes to it, by 2. nobody reads it.
        unsafe { *self.places[other].get() = value };
        self.current.store(other, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::Published;
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
    extern crate std;

    /// What is current is never written to: the reader would see a mixture, and Miri a race.
    #[test]
    fn a_reader_sees_one_value_or_the_other_and_never_a_mixture() {
        static VALUE: Published<[u64; 64]> = Published::new([0; 64], [0; 64]);
        static LOOKS: AtomicU64 = AtomicU64::new(0);
        static READS: AtomicBool = AtomicBool::new(true);
        let reader = std::thread::spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while READS.load(Ordering::Relaxed) {
                seen.insert(VALUE.with(|value| {
                    let value = core::hint::black_box(value);
                    let first = value[0];
                    value.iter().for_each(|word| assert_eq!(*word, first));
                    first
                }));
                LOOKS.fetch_add(1, Ordering::Release);
                // A look that begins when this is not yet counted sees what was current then.
                fence(Ordering::SeqCst);
            }
            seen
        });
        let values = if cfg!(miri) { 4 } else { 2_000 };
        for number in 1..=values {
            // SAFETY: 1. Only this thread does. 2. Two looks ended since the last time, of which one began after it.
            unsafe { VALUE.replace([number; 64]) };
            fence(Ordering::SeqCst);
            let looks = LOOKS.load(Ordering::Acquire);
            while LOOKS.load(Ordering::Acquire) < looks + 2 && !reader.is_finished() {
                std::thread::yield_now();
            }
        }
        READS.store(false, Ordering::Relaxed);
        let seen = reader.join().unwrap();
        // Each was current for a whole look.
        assert!((1..=values).all(|number| seen.contains(&number)));
    }
}
