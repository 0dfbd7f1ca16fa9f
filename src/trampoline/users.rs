//! The count of who uses a place, and the word that says which one is in use.
//!
//! A user must be counted before it looks at the table, or the table might go in between; and the count must not be in
//! what might go. So the word that says which place is in use has the count of those that have come by it. To replace it is
//! one swap, which tells how many are to be added to the count of the place that was replaced:
//!
//! ```text
//!              the word              count of place 0      count of place 1
//!              place 0, 0 users      held
//!   A enters   place 0, 1 user       held
//!   B enters   place 0, 2 users      held
//!   swap       place 1, 0 users      held                  held
//!   B leaves   place 1, 0 users      held - 1              held                 a moment in which it is less
//!   (swap)     place 1, 0 users      2 - 1                 held                 + 2 - held
//!   A leaves   place 1, 0 users      0: free               held
//! ```
//!
//! `held` is more than there can be users, so that a count is zero only once the swap was added up, and the last has gone.

use core::sync::atomic::{AtomicU64, Ordering};

/// What the count of a place has while it may come into use, or is.
const HELD: u64 = 1 << 48;
/// The most users of the place that is in use. Somebody who forgets that many is refused more.
const MOST: u64 = 1 << 31;
/// Where a place's number begins in the word; one more than the number, so that 0 is none.
const PLACE: u32 = 32;

/// A word that threads share: an [`AtomicU64`], or a model of one.
pub(super) trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn swap(&self, value: u64, order: Ordering) -> u64;
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    fn exchange(&self, from: u64, to: u64, order: Ordering) -> Result<u64, u64>;
}

impl Word for AtomicU64 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    #[inline(always)]
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }

    #[inline(always)]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_add(value, order)
    }

    #[inline(always)]
    fn exchange(&self, from: u64, to: u64, order: Ordering) -> Result<u64, u64> {
        self.compare_exchange_weak(from, to, order, Ordering::Relaxed)
    }
}

/// Which place is in use, and how many have come by this word and not gone.
#[derive(Debug)]
pub(super) struct Current<W = AtomicU64>(W);

impl Current {
    /// None.
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl<W: Word> Current<W> {
    /// None, in a word that is 0.
    #[cfg(test)]
    pub(super) const fn of(word: W) -> Self {
        Self(word)
    }

    fn place(word: u64) -> Option<usize> {
        (word >> PLACE).checked_sub(1).map(|place| place as usize)
    }

    const fn count(word: u64) -> u64 {
        word & ((1 << PLACE) - 1)
    }

    /// Counts a user of the place that is in use; returns which one that is.
    pub(super) fn enter(&self) -> Option<usize> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let place = Self::place(word)?;
            if Self::count(word) >= MOST {
                return None;
            }
            // Acquire: what was written into the place before it came into use.
            match self.0.exchange(word, word + 1, Ordering::Acquire) {
                Ok(_) => return Some(place),
                Err(now) => word = now,
            }
        }
    }

    /// A user of this place goes. It may have come by this word or not: of one place, all are the same.
    pub(super) fn leave(&self, place: usize, count: &Count<W>) {
        let mut word = self.0.load(Ordering::Relaxed);
        while Self::place(word) == Some(place) && Self::count(word) > 0 {
            // Release: the user is done with the place, and the swap that counts the others sees it.
            match self.0.exchange(word, word - 1, Ordering::Release) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        count.0.fetch_add(u64::MAX, Ordering::Release);
    }

    /// Puts a place in use, or none; returns the one that was, with its users that came by this word.
    pub(super) fn replace(&self, place: Option<usize>) -> Option<(usize, Came)> {
        let word = place.map_or(0, |place| (place as u64 + 1) << PLACE);
        let old = self.0.swap(word, Ordering::AcqRel);
        Self::place(old).map(|place| (place, Came(Self::count(old))))
    }
}

/// How many users had come by the word.
#[derive(Debug)]
pub(super) struct Came(u64);

/// The count of a place's users, but for those that the word has.
#[derive(Debug)]
pub(super) struct Count<W = AtomicU64>(W);

impl Count {
    /// Nobody's.
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl<W: Word> Count<W> {
    /// Nobody's, in any word.
    #[cfg(test)]
    pub(super) const fn of(word: W) -> Self {
        Self(word)
    }

    /// The place may come into use from now on.
    pub(super) fn hold(&self) {
        self.0.store(HELD, Ordering::Relaxed);
    }

    /// One more, as who is there already can have it.
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The place is not in use any more, nor will it be: only who came before is left.
    pub(super) fn retire(&self, came: &Came) {
        self.0.fetch_add(came.0.wrapping_sub(HELD), Ordering::AcqRel);
    }

    /// How many are left, once it is retired.
    pub(super) fn left(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
