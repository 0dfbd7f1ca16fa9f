//! The nth call fails, for each n: every failure point of a piece of code, one after the other.

use crate::context::TraceContext;
use core::sync::atomic::Ordering;

/// How a piece of code was run by [`fail_nth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePoints {
    /// How many injectable calls it makes where none fails.
    pub points: u32,
    /// Whether it was run until none was left to fail, and not only as often as was asked for.
    pub is_whole: bool,
}

/// Runs a piece of code again and again: with its first injectable call failing, with its second one, and so on, until it
/// makes fewer; but `most` times at most. `run` gets the number of the call that fails, from 1 on.
///
/// An injectable call is one of a function to which an [`Injection`](super::Injection) is attached, whatever the parameters of
/// that say, by this task outside of interrupt handlers. `context` is that of the running task.
///
/// ```ignore
/// let points = fail_nth(context, 1000, |n| {
///     let opened = file_system.open("name");
///     assert!(opened.is_ok() || file_system.is_clean(), "call {n}");
/// });
/// ```
pub fn fail_nth(context: &TraceContext, most: u32, mut run: impl FnMut(u32)) -> FailurePoints {
    let nth = &context.injection.nth;
    let before = nth.load(Ordering::Relaxed);
    let mut found = FailurePoints { points: most, is_whole: false };
    for n in 1..=most {
        nth.store(n, Ordering::Relaxed);
        run(n);
        // What is left of the count was not come to.
        let left = nth.swap(0, Ordering::Relaxed);
        if left != 0 {
            found = FailurePoints { points: n - left, is_whole: true };
            break;
        }
    }
    nth.store(before, Ordering::Relaxed);
    found
}
