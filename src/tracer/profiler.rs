//! The function profiler: how often each function was called, and how long it took, with and without what it called.
//!
//! A probe that keeps a few numbers a function, in a hash table in memory that the kernel gives. It allocates
//! nothing and forgets nothing but, when the table is full, functions that come later; calls of those are counted.

use super::kernel::StoreIn;
use crate::address::TextAddr;
use crate::ops::{Exit, Probe};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

/// The probe: `Ops::returning::<Profiler<K>>()`, where `K` keeps the [`Profile`]. The time of a function's own is right
/// where this is the only ops that hooks returns.
#[derive(Debug)]
pub struct Profiler<K>(PhantomData<K>);

impl<K: StoreIn<Profile>> Probe for Profiler<K> {
    const ENTRY: bool = false;
    type Data = ();

    #[inline]
    fn exit(call: &mut Exit<'_>, (): &()) {
        let (ticks, inside) = call.settle();
        K::store().add(call.ip(), ticks, inside);
    }
}

/// What is known of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionProfile {
    /// Its callsite.
    pub ip: TextAddr,
    /// How often it returned.
    pub hits: u64,
    /// All its calls' ticks.
    pub total: u64,
    /// Those of them that were not inside hooked calls of its own.
    pub own: u64,
    /// The shortest call's ticks.
    pub min: u64,
    /// The longest call's ticks.
    pub max: u64,
}

impl FunctionProfile {
    /// No function: to fill places with.
    pub const NONE: Self = Self { ip: TextAddr::new(0), hits: 0, total: 0, own: 0, min: 0, max: 0 };

    /// Returns the average call's ticks.
    pub const fn average(&self) -> u64 {
        match self.total.checked_div(self.hits) {
            Some(average) => average,
            None => 0,
        }
    }
}

/// Room for one function.
#[derive(Debug)]
#[repr(align(64))]
pub struct ProfileSlot {
    ip: AtomicU64,
    hits: AtomicU64,
    total: AtomicU64,
    inside: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

impl ProfileSlot {
    /// Makes an empty slot.
    pub const fn new() -> Self {
        Self {
            ip: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            total: AtomicU64::new(0),
            inside: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }
    }

    #[inline]
    fn is_of(&self, ip: u64) -> bool {
        self.ip.load(Ordering::Relaxed) == ip
    }

    /// Makes it this function's, if it is nobody's.
    fn take(&self, ip: u64) -> bool {
        let taken = self.ip.compare_exchange(0, ip, Ordering::Relaxed, Ordering::Relaxed);
        taken.is_ok() || taken == Err(ip)
    }

    #[inline]
    fn add(&self, ticks: u64, inside: u64) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(ticks, Ordering::Relaxed);
        if inside != 0 {
            self.inside.fetch_add(inside, Ordering::Relaxed);
        }
        // Looked at first: they seldom change.
        if ticks < self.min.load(Ordering::Relaxed) {
            self.lower(ticks);
        }
        if ticks > self.max.load(Ordering::Relaxed) {
            self.raise(ticks);
        }
    }

    #[cold]
    fn lower(&self, ticks: u64) {
        self.min.fetch_min(ticks, Ordering::Relaxed);
    }

    #[cold]
    fn raise(&self, ticks: u64) {
        self.max.fetch_max(ticks, Ordering::Relaxed);
    }
}

/// 2^32 over the golden ratio spreads neighbours; functions are less than 4 GiB apart from those that matter.
#[inline]
const fn hash(ip: u64) -> usize {
    ((ip as u32).wrapping_mul(0x9e37_79b9) >> 12) as usize
}

impl Default for ProfileSlot {
    fn default() -> Self {
        Self::new()
    }
}

/// The numbers of all functions.
#[derive(Debug)]
pub struct Profile {
    /// # Invariants
    ///
    /// A power of two of them.
    slots: &'static [ProfileSlot],
    unplaced: AtomicU64,
}

/// How far from its own place a function may be.
const PROBES: usize = 16;

impl Profile {
    /// Makes a profile in this memory: room for about three quarters as many functions. Of a number that is no power of
    /// two, the rest is not used.
    pub const fn new(slots: &'static [ProfileSlot]) -> Self {
        let count = if slots.is_empty() { 0 } else { 1 << slots.len().ilog2() };
        // INVARIANT: rounded down.
        let (slots, _) = slots.split_at(count);
        Self { slots, unplaced: AtomicU64::new(0) }
    }

    /// Adds a call that took so many ticks, some of them inside hooked calls of its own.
    #[inline]
    pub fn add(&self, ip: TextAddr, ticks: u64, inside: u64) {
        match self.slot(ip.get()) {
            Some(slot) => slot.add(ticks, inside),
            None => self.add_elsewhere(ip.get(), ticks, inside),
        }
    }

    /// The slot at the function's own place, if it has that one.
    #[inline]
    fn slot(&self, ip: u64) -> Option<&ProfileSlot> {
        self.slots.get(hash(ip) & self.slots.len().wrapping_sub(1)).filter(|slot| slot.is_of(ip))
    }

    #[cold]
    #[inline(never)]
    fn add_elsewhere(&self, ip: u64, ticks: u64, inside: u64) {
        let mask = self.slots.len().wrapping_sub(1);
        let mut near = (0..PROBES).filter_map(|step| self.slots.get(hash(ip).wrapping_add(step) & mask));
        match near.find(|slot| slot.is_of(ip) || slot.take(ip)) {
            Some(slot) => slot.add(ticks, inside),
            None => {
                self.unplaced.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns the number of calls of functions for which there was no room.
    pub fn unplaced(&self) -> u64 {
        self.unplaced.load(Ordering::Relaxed)
    }

    /// Returns all functions that have returned, in no order.
    pub fn functions(&self) -> impl Iterator<Item = FunctionProfile> {
        let of = |slot: &ProfileSlot| {
            let [ip, hits, total, inside, min, max] =
                [&slot.ip, &slot.hits, &slot.total, &slot.inside, &slot.min, &slot.max]
                    .map(|number| number.load(Ordering::Relaxed));
            let own = total.saturating_sub(inside);
            (hits > 0).then_some(FunctionProfile { ip: TextAddr::new(ip), hits, total, own, min, max })
        };
        self.slots.iter().filter_map(of)
    }

    /// Puts the functions into `places` in the descending order of `key`, [`FunctionProfile::own`] for example, and returns
    /// those that have a place: the first ones, if there are more of them than places.
    pub fn sorted_into<'p>(
        &self,
        places: &'p mut [FunctionProfile],
        key: impl Fn(&FunctionProfile) -> u64,
    ) -> &'p [FunctionProfile] {
        let mut count = 0;
        for function in self.functions() {
            let place = places[..count].partition_point(|other| key(other) >= key(&function));
            if place == places.len() {
                continue;
            }
            count = (count + 1).min(places.len());
            places[place..count].rotate_right(1);
            places[place] = function;
        }
        &places[..count]
    }

    /// Forgets all calls. Those that end meanwhile may be counted in part.
    pub fn clear(&self) {
        for slot in self.slots {
            slot.hits.store(0, Ordering::Relaxed);
            slot.total.store(0, Ordering::Relaxed);
            slot.inside.store(0, Ordering::Relaxed);
            slot.min.store(u64::MAX, Ordering::Relaxed);
            slot.max.store(0, Ordering::Relaxed);
        }
        self.unplaced.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{FunctionProfile, Profile, ProfileSlot};
    use crate::address::TextAddr;
    use std::boxed::Box;
    use std::vec::Vec;
    extern crate std;

    fn profile(slots: usize) -> Profile {
        Profile::new(Box::leak((0..slots).map(|_| ProfileSlot::new()).collect()))
    }

    #[test]
    fn the_numbers_of_a_function_add_up() {
        let profile = profile(64);
        for (ticks, inside) in [(10, 6), (30, 0), (20, 15)] {
            profile.add(TextAddr::new(0x4000), ticks, inside);
        }
        let all: Vec<_> = profile.functions().collect();
        let ip = TextAddr::new(0x4000);
        assert_eq!(all, [FunctionProfile { ip, hits: 3, total: 60, own: 39, min: 10, max: 30 }]);
        assert_eq!(all[0].average(), 20);
        profile.clear();
        assert_eq!(profile.functions().count(), 0);
    }

    #[test]
    fn every_function_has_numbers_of_its_own_until_there_is_no_room() {
        // Miri takes thousands of times as long.
        let (slots, count) = if cfg!(miri) { (256, 150) } else { (4096, 3000) };
        let profile = profile(slots);
        for n in 0..count {
            for _ in 0..=n % 3 {
                profile.add(TextAddr::new(0xffff_8000_0000_0000 + n * 12), n, n);
            }
        }
        assert_eq!((profile.functions().count() as u64, profile.unplaced()), (count, 0));
        assert!(profile.functions().all(|function| function.total == function.max * function.hits));
        let full = self::profile(8);
        (1..=100).for_each(|n| full.add(TextAddr::new(n * 64), 1, 1));
        assert!(full.functions().count() == 8 && full.unplaced() == 92);
    }

    #[test]
    fn the_first_in_order_have_the_places() {
        let profile = profile(64);
        (1..=20).for_each(|n| profile.add(TextAddr::new(n * 64), n * 7 % 23, 0));
        let mut places = [FunctionProfile::NONE; 5];
        let first: Vec<u64> =
            profile.sorted_into(&mut places, |function| function.total).iter().map(|f| f.total).collect();
        assert_eq!(first, [22, 21, 20, 19, 18]);
        assert_eq!(profile.sorted_into(&mut [], |function| function.total), []);
    }
}
