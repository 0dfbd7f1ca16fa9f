//! What the tasks do, for ever: they square numbers.

use crate::tasks::Task;
use core::hint::black_box;
use core::sync::atomic::Ordering;

/// The largest number that is squared.
pub(crate) const LARGEST: u64 = 24;

/// A task.
pub(crate) extern "C" fn run() -> ! {
    let task = Task::current();
    for n in (1..=LARGEST).cycle() {
        task.begun.fetch_add(1, Ordering::Relaxed);
        let preempted = task.preempted.load(Ordering::Relaxed);
        assert_eq!(square(n), n * n, "the square of {n}, in task {}", task.number());
        task.done.fetch_add(1, Ordering::Relaxed);
        if task.preempted.load(Ordering::Relaxed) > preempted {
            task.split.fetch_add(1, Ordering::Relaxed);
        }
    }
    unreachable!("it goes on for ever")
}

/// The sum of the first n odd numbers.
#[inline(never)]
pub(crate) extern "C" fn square(n: u64) -> u64 {
    (1..=n).map(|k| odd(black_box(k))).sum()
}

#[inline(never)]
pub(crate) extern "C" fn odd(k: u64) -> u64 {
    2 * k - 1
}
