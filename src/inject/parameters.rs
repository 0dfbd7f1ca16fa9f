//! When a call fails: the parameters of one injection, and what they say of one call after the other.
//!
//! All of it is counted by atomics without a lock, since a call may come in an interrupt that has stopped another one here.

use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// For ever, of [`Parameters::times`].
const FOR_EVER: i64 = -1;
/// What the state of the random numbers goes on by (SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The parameters that say of one call after the other whether it may fail, as far as that is a matter of counting.
#[derive(Debug)]
pub(super) struct Parameters {
    /// In percent.
    pub(super) probability: AtomicU32,
    pub(super) interval: AtomicU32,
    /// How many calls go by first.
    pub(super) space: AtomicU64,
    /// How many may still fail, or [`FOR_EVER`].
    pub(super) times: AtomicI64,
    count: AtomicU32,
    random: AtomicU64,
}

impl Parameters {
    pub(super) const fn new() -> Self {
        Self {
            probability: AtomicU32::new(0),
            interval: AtomicU32::new(1),
            space: AtomicU64::new(0),
            times: AtomicI64::new(FOR_EVER),
            count: AtomicU32::new(0),
            random: AtomicU64::new(0),
        }
    }

    /// Begins anew with this seed: intervals are counted from here on.
    pub(super) fn set_seed(&self, seed: u64) {
        self.random.store(seed, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
    }

    /// Whether no call will fail.
    pub(super) fn is_off(&self) -> bool {
        self.probability.load(Ordering::Relaxed) == 0 || self.times.load(Ordering::Relaxed) == 0
    }

    /// Whether the next call may fail, by space, interval and chance.
    pub(super) fn step(&self) -> bool {
        let less = |space: u64| space.checked_sub(1);
        if self.space.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return false;
        }
        let interval = self.interval.load(Ordering::Relaxed);
        if interval > 1 {
            let count = self.count.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if !count.is_multiple_of(interval) {
                return false;
            }
        }
        let probability = self.probability.load(Ordering::Relaxed);
        // As Linux: where it is sure, no random number is used up.
        probability >= 100 || self.random() % 100 < u64::from(probability)
    }

    /// Takes one of those that may still fail; returns how many there were, if there was one.
    pub(super) fn take_time(&self) -> Option<i64> {
        let less = |times: i64| match times {
            FOR_EVER => Some(FOR_EVER),
            1.. => Some(times - 1),
            _ => None,
        };
        self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()
    }

    fn random(&self) -> u64 {
        let mut mixed = self.random.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
