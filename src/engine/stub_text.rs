//! Where stubs are, for whoever may not wait for the engine's lock: an interrupt handler that asks whether what it has
//! interrupted may be preempted.
//!
//! A place for each range, in memory that the engine has from init on; only the lock's holder writes there. A range that stays is shown by every reader, whatever comes
//! and goes beside it. One that comes has no callsite yet that leads there, and in one that goes no thread is any more: a
//! reader that meets either half-way may leave it out.

use crate::address::{TextAddr, TextRange};
use core::sync::atomic::{AtomicU64, Ordering, fence};

/// The ranges of text in which a thread may be on its way to a callback.
pub(super) struct StubText(spin::Once<&'static [Place]>);

/// One range; none where the end is 0.
pub(super) struct Place {
    start: AtomicU64,
    end: AtomicU64,
}

impl StubText {
    pub(super) const fn new() -> Self {
        Self(spin::Once::new())
    }

    /// Gives it its places, all empty.
    pub(super) fn set_places(&self, places: &'static [Place]) {
        self.0.call_once(|| places);
    }

    fn places(&self) -> &'static [Place] {
        self.0.get().copied().unwrap_or_default()
    }

    /// Adds a range, before a callsite leads into it. For the holder of the engine's lock.
    pub(super) fn add(&self, range: TextRange) {
        if range.is_empty() {
            return;
        }
        let free = self.places().iter().find(|place| place.end.load(Ordering::Relaxed) == 0);
        debug_assert!(free.is_some(), "there is a place for each region's veneers, and for the stubs");
        if let Some(place) = free {
            // A reader that still has the old end sees the end change, if it sees this start.
            fence(Ordering::Release);
            place.start.store(range.start.get(), Ordering::Relaxed);
            place.end.store(range.end.get(), Ordering::Release);
        }
    }

    /// Removes a range that was added. No thread is in it any more. For the holder of the engine's lock.
    pub(super) fn remove(&self, range: TextRange) {
        if let Some(place) = self.places().iter().find(|place| place.get() == Some(range)) {
            place.end.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = TextRange> {
        self.places().iter().filter_map(Place::get)
    }
}

impl Place {
    /// No range.
    pub(super) const fn new() -> Self {
        Self { start: AtomicU64::new(0), end: AtomicU64::new(0) }
    }

    fn get(&self) -> Option<TextRange> {
        let end = self.end.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let is_whole = end != 0 && self.end.load(Ordering::Relaxed) == end;
        is_whole.then(|| TextRange::new(TextAddr::new(start), TextAddr::new(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, StubText};
    use crate::address::{TextAddr, TextRange};
    use std::boxed::Box;
    use std::vec::Vec;
    extern crate std;

    fn range(start: u64) -> TextRange {
        TextRange::new(TextAddr::new(start), TextAddr::new(start + 0x10))
    }

    const PLACES: usize = 131;

    fn text() -> StubText {
        let text = StubText::new();
        assert_eq!(text.iter().count(), 0);
        text.set_places(Box::leak(Box::new([const { Place::new() }; PLACES])));
        text
    }

    #[test]
    fn ranges_come_and_go_and_leave_the_others() {
        let text = text();
        let all: Vec<_> = (1..=PLACES as u64).map(|number| range(number * 0x100)).collect();
        text.add(TextRange::EMPTY);
        all.iter().for_each(|range| text.add(*range));
        assert_eq!(text.iter().collect::<Vec<_>>(), all);
        text.remove(all[1]);
        text.remove(range(8));
        assert_eq!(text.iter().count(), PLACES - 1);
        assert!(text.iter().all(|range| range != all[1]));
        text.add(range(8));
        assert!(text.iter().any(|shown| shown == range(8)));
    }

    #[test]
    fn a_reader_never_sees_halves_of_two_ranges() {
        let text = text();
        let (stays, others) = (range(0x100), [range(0x1000), range(0x2000)]);
        text.add(stays);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (0..if cfg!(miri) { 20 } else { 200_000 }).for_each(|turn| {
                    text.add(others[turn % 2]);
                    text.remove(others[turn % 2]);
                });
            });
            while !writer.is_finished() {
                let shown: Vec<_> = text.iter().collect();
                assert!(shown.contains(&stays), "{shown:?}");
                assert!(shown.iter().all(|range| *range == stays || others.contains(range)), "{shown:?}");
            }
        });
    }
}
