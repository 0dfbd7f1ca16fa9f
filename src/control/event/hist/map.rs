//! A map in fixed memory that any context adds to, without a lock (Linux's kernel/trace/tracing_map.c).
//!
//! ```text
//!   cells     | 0 | hash, 2 | 0 | hash, 0 | hash, 1 | ...     twice as many as elements; 0 is free
//!   elements  | key, hits, sums | key, hits, sums | ...       given out in order
//! ```
//!
//! Whoever finds no element of its key takes a free cell by a compare-and-swap of its hash, then an element, writes the key there,
//! and puts the element's number into the cell. Until then others with the same hash, an interrupt on top of it among them, can't
//! know whether it has their key. They don't wait: they go on, and take an element of their own. So a key may have several,
//! which are one where the map is shown. What finds no element is counted, and nothing is ever counted twice.

use crate::control::event::limits::MAX_SUMS;
use crate::tracer::ring::Word;
use core::sync::atomic::{AtomicU64, Ordering};

/// The words of a key: a number is one, a string eight, a stack the others.
pub(super) const KEY_WORDS: usize = 16;

/// The key of an element, and what is counted of it.
#[derive(Debug)]
pub(super) struct Element<W = AtomicU64> {
    pub(super) key: [W; KEY_WORDS],
    pub(super) hits: W,
    pub(super) sums: [W; MAX_SUMS],
}

/// The memory of one histogram, for up to `N` keys: a power of two, 2^31 at most; 192 bytes for each. In a `static`.
#[derive(Debug)]
pub struct HistMemory<const N: usize> {
    cells: [[AtomicU64; 2]; N],
    elements: [Element; N],
}

impl<const N: usize> HistMemory<N> {
    /// Makes it.
    #[expect(clippy::new_without_default, reason = "it is for statics")]
    pub const fn new() -> Self {
        const { assert!(N.is_power_of_two() && N <= 1 << 31, "a histogram's size is a power of two") };
        Self { cells: [const { [const { AtomicU64::new(0) }; 2] }; N], elements: [const { Element::new() }; N] }
    }

    pub(super) const fn map(&'static self) -> Map<'static> {
        Map {
            cells: self.cells.as_flattened(),
            elements: &self.elements,
            taken: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Element {
    const fn new() -> Self {
        Self {
            key: [const { AtomicU64::new(0) }; KEY_WORDS],
            hits: AtomicU64::new(0),
            sums: [const { AtomicU64::new(0) }; MAX_SUMS],
        }
    }
}

/// What an element has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) key: [u64; KEY_WORDS],
    pub(super) hits: u64,
    pub(super) sums: [u64; MAX_SUMS],
}

/// A map.
///
/// # Invariants
///
/// A cell is 0, a hash in its upper half, or that and above 0 the number of an element, from 1 on. It goes from one to the next of
/// these only, but in [`clear`](Self::clear).
#[derive(Debug)]
pub(super) struct Map<'a, W = AtomicU64> {
    /// Twice as many as elements, a power of two.
    pub(super) cells: &'a [W],
    pub(super) elements: &'a [Element<W>],
    /// How many elements were given out, and asked for in vain.
    pub(super) taken: W,
    /// What found no element.
    pub(super) dropped: W,
}

impl<W: Word> Map<'_, W> {
    /// For how many keys there is room.
    pub(super) const fn len(&self) -> usize {
        self.elements.len()
    }

    /// Counts a hit of this key, with these values. All keys have as many words, up to [`clear`](Self::clear).
    #[inline]
    pub(super) fn add(&self, key: &[u64], values: [u64; MAX_SUMS]) {
        let Some(element) = self.element(hash(key), key) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        element.hits.fetch_add(1, Ordering::Relaxed);
        for (sum, value) in element.sums.iter().zip(values).filter(|(_, value)| *value != 0) {
            sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// The element of a key, which is there then; `None` if there is no room.
    fn element(&self, hash: u32, key: &[u64]) -> Option<&Element<W>> {
        let claimed = u64::from(hash) << 32;
        let last = self.cells.len() - 1;
        for step in 0..self.cells.len() {
            let cell = self.cells.get((hash as usize).wrapping_add(step) & last)?;
            let mut found = cell.load(Ordering::Acquire);
            if found == 0 {
                if self.taken.load(Ordering::Relaxed) >= self.elements.len() as u64 {
                    return None;
                }
                // INVARIANT: it was 0.
                if cell.replace(0, claimed, Ordering::Relaxed) {
                    return self.fill(cell, key);
                }
                found = cell.load(Ordering::Acquire);
            }
            if found & !u64::from(u32::MAX) != claimed {
                continue;
            }
            let element = (found as u32).checked_sub(1).and_then(|number| self.elements.get(number as usize));
            if let Some(element) = element
                && element.key.iter().zip(key).all(|(word, key)| word.load(Ordering::Relaxed) == *key)
            {
                return Some(element);
            }
        }
        None
    }

    /// Takes an element for a cell that was just taken. Where the last one has gone meanwhile, nobody ever has the cell.
    fn fill(&self, cell: &W, key: &[u64]) -> Option<&Element<W>> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let element = self.elements.get(usize::try_from(number).ok()?)?;
        let words = key.iter().copied().chain(core::iter::repeat(0));
        element.key.iter().zip(words).for_each(|(word, key)| word.store(key));
        // INVARIANT: it was a hash. Who sees the number sees the key.
        cell.fetch_or(number + 1, Ordering::Release);
        Some(element)
    }

    /// What was counted of each key.
    pub(super) fn entries(&self) -> impl Iterator<Item = Counted> {
        (0..self.cells.len()).filter_map(|place| self.entry(place))
    }

    /// What was counted of the key that has its first element in this cell: a key's elements are one behind the other from where
    /// its hash leads, with no free cell between.
    fn entry(&self, place: usize) -> Option<Counted> {
        let mut entry = self.counted(place)?;
        let (home, last) = (hash(&entry.key) as usize, self.cells.len() - 1);
        let mut is_first = true;
        for step in 0..self.cells.len() {
            let other = home.wrapping_add(step) & last;
            if self.cells.get(other)?.load(Ordering::Relaxed) == 0 {
                break;
            }
            let Some(same) = self.counted(other).filter(|same| same.key == entry.key) else { continue };
            match other == place {
                true if is_first => is_first = false,
                true => {}
                // That one has been told of, or will be, with this one.
                false if is_first => return None,
                false => {
                    entry.hits = entry.hits.wrapping_add(same.hits);
                    entry.sums.iter_mut().zip(same.sums).for_each(|(sum, same)| *sum = sum.wrapping_add(same));
                }
            }
        }
        Some(entry)
    }

    /// What was counted in the element of a cell.
    fn counted(&self, place: usize) -> Option<Counted> {
        let number = self.cells.get(place)?.load(Ordering::Acquire) as u32;
        let element = self.elements.get(number.checked_sub(1)? as usize)?;
        let load = |word: &W| word.load(Ordering::Relaxed);
        Some(Counted {
            key: element.key.each_ref().map(load),
            hits: load(&element.hits),
            sums: element.sums.each_ref().map(load),
        })
    }

    /// What found no element.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Forgets everything. Nobody may be adding meanwhile: what they add could be lost, or be counted as another key's.
    pub(super) fn clear(&self) {
        self.cells.iter().for_each(|cell| cell.store(0));
        for element in self.elements {
            element.hits.store(0);
            element.sums.iter().for_each(|sum| sum.store(0));
        }
        self.dropped.store(0);
        // Those who take the first element again see what was stored before: what lets them add again comes behind it.
        self.taken.store(0);
    }
}

/// Mixes a key's words (the finaliser of MurmurHash3, by Austin Appleby, in the public domain); never 0. Zeros at the
/// end are nothing to it, as an element has them behind its key.
fn hash(key: &[u64]) -> u32 {
    let words = key.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
    let mixed = key.iter().take(words).fold(0_u64, |hash, word| {
        let mut mixed = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^= mixed >> 33;
        mixed.wrapping_add(hash.rotate_left(23))
    });
    let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((mixed >> 32) as u32).max(1)
}
