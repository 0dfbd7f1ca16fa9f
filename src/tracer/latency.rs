//! How long a function's calls take: a histogram, and a trigger for those that take too long.

use super::kernel::StoreIn;
use crate::ops::{Exit, Probe};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

/// A probe that puts each call into a histogram: `Ops::returning::<Latency<K>>()`, where `K` keeps the [`Histogram`].
#[derive(Debug)]
pub struct Latency<K>(PhantomData<K>);

impl<K: StoreIn<Histogram>> Probe for Latency<K> {
    const ENTRY: bool = false;
    type Data = ();

    #[inline]
    fn exit(call: &mut Exit<'_>, (): &()) {
        K::store().add(call.ticks());
    }
}

/// Counts by powers of two.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; 65],
}

/// One column of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The least number of ticks in it.
    pub from: u64,
    /// The most.
    pub to: u64,
    /// How many calls took so many.
    pub count: u64,
}

impl Histogram {
    /// Makes an empty histogram.
    pub const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; 65] }
    }

    /// Adds a number of ticks.
    #[inline]
    pub fn add(&self, ticks: u64) {
        // Bucket n holds the numbers of n significant bits.
        let bits = u64::BITS - ticks.leading_zeros();
        if let Some(count) = self.counts.get(bits as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the columns from the first that is not empty to the last.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        let holds = |count: &AtomicU64| count.load(Ordering::Relaxed) > 0;
        let first = self.counts.iter().position(holds).unwrap_or(0);
        let end = self.counts.iter().rposition(holds).map_or(0, |last| last + 1);
        (first..end).map(|bits| {
            let to = u64::MAX.checked_shr(u64::BITS - bits as u32).unwrap_or(0);
            let from = if bits == 0 { 0 } else { 1 << (bits - 1) };
            Bucket { from, to, count: self.counts[bits].load(Ordering::Relaxed) }
        })
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// What happens when a call took too long.
pub trait Slow: 'static {
    /// Returns the number of ticks from which on a call is slow.
    fn limit() -> u64;

    /// Handles a slow call, in its exit handler: with the result, and before the caller goes on.
    fn slow(call: &mut Exit<'_>, ticks: u64);
}

/// A probe that looks for calls that take long: `Ops::returning::<SlowerThan<S>>()`.
#[derive(Debug)]
pub struct SlowerThan<S>(PhantomData<S>);

impl<S: Slow> Probe for SlowerThan<S> {
    const ENTRY: bool = false;
    type Data = ();

    #[inline]
    fn exit(call: &mut Exit<'_>, (): &()) {
        let ticks = call.ticks();
        if ticks >= S::limit() {
            S::slow(call, ticks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Exit, Histogram, Latency, Slow, SlowerThan, StoreIn};
    use crate::context::shadow::HookedCall;
    use crate::ops::{Ops, leave, thread};
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::vec::Vec;
    extern crate std;

    #[test]
    fn each_number_is_in_the_column_of_its_power_of_two() {
        let histogram = Histogram::new();
        assert_eq!(histogram.buckets().count(), 0);
        [0, 1, 2, 3, 4, 7, 8, 9, 9].into_iter().for_each(|ticks| histogram.add(ticks));
        let buckets: Vec<_> = histogram.buckets().map(|Bucket { from, to, count }| (from, to, count)).collect();
        assert_eq!(buckets, [(0, 0, 1), (1, 1, 1), (2, 3, 2), (4, 7, 2), (8, 15, 3)]);
        let histogram = Histogram::new();
        histogram.add(u64::MAX);
        let last = histogram.buckets().next();
        assert_eq!(last, Some(Bucket { from: 1 << 63, to: u64::MAX, count: 1 }));
    }

    const CALL: HookedCall = HookedCall { return_address: 0x9000, function: 0x4008, sp: 0, hook: 0 };

    /// Time stands still on a host: every call takes no ticks.
    #[test]
    fn a_call_is_slow_from_the_limit_on() {
        struct From<const LIMIT: u64>;
        static SLOW: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
        impl<const LIMIT: u64> Slow for From<LIMIT> {
            fn limit() -> u64 {
                LIMIT
            }
            fn slow(call: &mut Exit<'_>, ticks: u64) {
                SLOW[LIMIT as usize].fetch_add(call.value() + ticks, Ordering::Relaxed);
            }
        }
        static OPS: [Ops; 2] = [Ops::returning::<SlowerThan<From<0>>>(), Ops::returning::<SlowerThan<From<1>>>()];
        let context = thread();
        for ops in &OPS {
            assert!(context.calls.push(CALL).is_some());
            leave(context, ops, [7; 8]);
        }
        assert_eq!(SLOW.each_ref().map(|slow| slow.load(Ordering::Relaxed)), [7, 0]);
    }

    #[test]
    fn each_call_is_in_the_histogram_once() {
        static TIMES: Histogram = Histogram::new();
        struct Times;
        impl StoreIn<Histogram> for Times {
            fn store() -> &'static Histogram {
                &TIMES
            }
        }
        static OPS: Ops = Ops::returning::<Latency<Times>>();
        let context = thread();
        for _ in 0..3 {
            assert!(context.calls.push(CALL).is_some());
            leave(context, &OPS, [0; 8]);
        }
        assert_eq!(TIMES.buckets().collect::<Vec<_>>(), [Bucket { from: 0, to: 0, count: 3 }]);
    }
}
