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
    use core::sync::atomic::{AtomicBool, Ordering};
    extern crate std;

    #[test]
    fn a_reader_sees_one_value_or_the_other_and_never_a_mixture() {
        static VALUE: Published<[u64; 4]> = Published::new([0; 4], [0; 4]);
        static READS: AtomicBool = AtomicBool::new(true);
        let reader = std::thread::spawn(|| {
            while READS.load(Ordering::Relaxed) {
                VALUE.with(|value| assert_eq!(*value, [value[0]; 4]));
            }
        });
        // SAFETY: 1. Only this thread does. 2. There was none before.
        unsafe { VALUE.replace([1; 4]) };
        READS.store(false, Ordering::Relaxed);
        reader.join().unwrap();
        // SAFETY: 1. Only this thread does. 2. The other one has ended.
        unsafe { VALUE.replace([2; 4]) };
        assert_eq!(VALUE.with(|value| *value), [2; 4]);
    }
}
