//! Where an ops's callsites are, roughly, so that unregistering it from one function needs no look at all others.

use crate::address::TextRange;
use arrayvec::ArrayVec;

/// The most ranges that are kept apart.
const APART: usize = 8;

/// A few ranges of text.
///
/// # Invariants
///
/// Sorted, and none touches another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spans(ArrayVec<TextRange, APART>);

impl Spans {
    pub(super) const EMPTY: Self = Self(ArrayVec::new_const());

    pub(super) fn iter(&self) -> impl Iterator<Item = TextRange> {
        self.0.iter().copied()
    }

    /// Adds a range. Where there are too many, the two with the smallest gap between them become one.
    pub(super) fn add(&mut self, mut range: TextRange) {
        if range.is_empty() {
            return;
        }
        let touches = |other: &TextRange| other.start <= range.end && range.start <= other.end;
        let (mut start, mut end) = (range.start, range.end);
        for other in self.0.iter().filter(|other| touches(other)) {
            (start, end) = (start.min(other.start), end.max(other.end));
        }
        range = TextRange::new(start, end);
        self.0.retain(|other| other.end < range.start || range.end < other.start);
        if self.0.is_full() {
            self.close_smallest_gap();
            return self.add(range);
        }
        let place = self.0.partition_point(|other| other.start < range.start);
        // INVARIANT: what touched it has become part of it.
        self.0.insert(place, range);
    }

    fn close_smallest_gap(&mut self) {
        let gap = |pair: &[TextRange]| pair[1].start.get() - pair[0].end.get();
        let Some((left, _)) = self.0.windows(2).enumerate().min_by_key(|(_, pair)| gap(pair)) else { return };
        let right = self.0.remove(left + 1);
        self.0[left].end = right.end;
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::Spans;
    use crate::address::{TextAddr, TextRange};
    use std::vec::Vec;
    extern crate std;

    fn range(start: u64, end: u64) -> TextRange {
        TextRange::new(TextAddr::new(start), TextAddr::new(end))
    }

    fn all(spans: &Spans) -> Vec<(u64, u64)> {
        spans.iter().map(|range| (range.start.get(), range.end.get())).collect()
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut spans = Spans::EMPTY;
        for (start, end) in [(100, 104), (200, 204), (104, 108), (150, 210), (0, 4), (5, 5)] {
            spans.add(range(start, end));
        }
        assert_eq!(all(&spans), [(0, 4), (100, 108), (150, 210)]);
    }

    #[test]
    fn too_many_are_joined_where_the_least_is_between() {
        let mut spans = Spans::EMPTY;
        for start in [0, 1000, 2000, 2010, 3000, 4000, 5000, 6000] {
            spans.add(range(start, start + 4));
        }
        spans.add(range(9000, 9004));
        assert_eq!(spans.iter().count(), 8);
        assert!(all(&spans).contains(&(2000, 2014)));
        spans.add(range(0, 10_000));
        assert_eq!(all(&spans), [(0, 10_000)]);
    }
}
