//! Hits per callsite: one counter for each, found from the callsite's address alone.
//!
//! All callsites share one stub. It needs no search: the counter's place follows from X30, as the counters stand
//! beside the text like a shadow, one for each 8 bytes. Two callsites are at least 8 bytes apart, so none share one.

use crate::address::{TextAddr, TextRange};
use crate::callsite::Callsite;
use core::fmt;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

/// The bytes of text that a counter is for.
const BYTES: u64 = 8;

/// Counters for the callsites of a piece of text; for [`Ops::callsite_counter`](crate::Ops::callsite_counter).
pub struct CallsiteHits {
    start: TextAddr,
    hits: &'static [AtomicU64],
}

impl CallsiteHits {
    /// Returns how many counters cover this text: one for each 8 bytes.
    pub const fn counters_for(text: TextRange) -> usize {
        if text.is_empty() { 0 } else { (text.end.get() / BYTES - text.start.get() / BYTES + 1) as usize }
    }

    /// Makes counters for the text from `start` on, as far as they reach.
    pub const fn new(start: TextAddr, hits: &'static [AtomicU64]) -> Self {
        Self { start, hits }
    }

    /// Returns where the text of the first counter begins.
    fn base(&self) -> u64 {
        // LLVM takes the address of a function to be as aligned as functions are asked to be. Behind a kCFI hash they are
        // not, and the rounding must not be left out.
        black_box(self.start.get()) / BYTES * BYTES
    }

    /// Returns how often the callsite was hit; `None` where it has no counter here.
    pub fn of(&self, callsite: &Callsite) -> Option<u64> {
        let index = self.index(callsite.call_addr())?;
        Some(self.hits.get(index)?.load(Ordering::Relaxed))
    }

    /// Sets all counters to 0. A hit that comes meanwhile may be lost.
    pub fn reset(&self) {
        self.hits.iter().for_each(|hits| hits.store(0, Ordering::Relaxed));
    }

    /// Returns whether the callsite whose second instruction is at `call_addr` has a counter.
    pub(crate) fn covers(&self, call_addr: TextAddr) -> bool {
        self.index(call_addr).is_some()
    }

    fn index(&self, call_addr: TextAddr) -> Option<usize> {
        // X30 is behind the BL.
        let from_start = call_addr.offset(4).get().checked_sub(self.base())?;
        let index = usize::try_from(from_start / BYTES).ok()?;
        (index < self.hits.len()).then_some(index)
    }

    /// What the stub adds X30, rounded down to [`BYTES`], to.
    pub(crate) fn bias(&self) -> u64 {
        // The stubs write here, by an address that is made of numbers.
        (self.hits.as_ptr().expose_provenance() as u64).wrapping_sub(self.base())
    }
}

impl fmt::Debug for CallsiteHits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, hits } = self;
        f.debug_struct("CallsiteHits").field("start", start).field("counters", &hits.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::CallsiteHits;
    use crate::address::{TextAddr, TextRange};
    use core::sync::atomic::AtomicU64;

    static HITS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

    #[test]
    fn the_counters_cover_the_text_that_they_were_sized_for() {
        for (start, end) in [(0x1000, 0x1018), (0x1004, 0x101c), (0x1004, 0x1018)] {
            let text = TextRange::new(TextAddr::new(start), TextAddr::new(end));
            let count = CallsiteHits::counters_for(text);
            let hits = CallsiteHits::new(text.start, &HITS[..count]);
            // From the first MOV's callsite to one whose BL is the text's last word.
            assert!((start + 4..end).step_by(4).all(|call| hits.covers(TextAddr::new(call))), "{text}");
            assert!(!hits.covers(TextAddr::new(end + 4)) && !hits.covers(TextAddr::new(start - 12)), "{text}");
        }
        assert_eq!(CallsiteHits::counters_for(TextRange::EMPTY), 0);
        assert!(!CallsiteHits::new(TextAddr::new(0), &[]).covers(TextAddr::new(0)));
    }
}
