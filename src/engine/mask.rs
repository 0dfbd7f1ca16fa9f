//! Sets of members, as words of bits.

use crate::ops::MAX_OPS;

const BITS: usize = u64::BITS as usize;

/// A set of members: a bit for each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask([u64; MAX_OPS / BITS]);

const _: () = assert!(MAX_OPS.is_multiple_of(BITS));

impl Mask {
    /// No member.
    pub(super) const EMPTY: Self = Self([0; MAX_OPS / BITS]);

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// Whether the member of this number is in it.
    #[inline]
    pub(super) fn has(&self, number: usize) -> bool {
        self.0.get(number / BITS).is_some_and(|word| word >> (number % BITS) & 1 == 1)
    }

    /// The same with the member of this number.
    #[inline]
    pub(super) fn with(mut self, number: usize) -> Self {
        if let Some(word) = self.0.get_mut(number / BITS) {
            *word |= 1 << (number % BITS);
        }
        self
    }

    /// The same without the member of this number.
    #[inline]
    pub(super) fn without(mut self, number: usize) -> Self {
        if let Some(word) = self.0.get_mut(number / BITS) {
            *word &= !(1 << (number % BITS));
        }
        self
    }

    /// How many members are in it.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many of its members are in one of two others.
    pub(super) fn count_in(&self, one: &Self, other: &Self) -> usize {
        let words = self.0.iter().zip(one.0.iter().zip(&other.0));
        words.map(|(word, (one, other))| (word & (one | other)).count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Mask;
    use crate::ops::MAX_OPS;

    #[test]
    fn members_of_all_numbers_come_and_go() {
        let all = (0..MAX_OPS).fold(Mask::EMPTY, Mask::with);
        assert_eq!((all.len(), Mask::EMPTY.len()), (MAX_OPS, 0));
        for number in [0, 1, 63, 64, 127, MAX_OPS - 1] {
            let one = Mask::EMPTY.with(number);
            assert!(one.has(number) && !one.is_empty() && one.with(number) == one);
            assert_eq!((0..MAX_OPS).filter(|other| one.has(*other)).count(), 1);
            assert!(one.without(number).is_empty());
            let rest = all.without(number);
            assert_eq!((rest.has(number), rest.len(), rest.with(number) == all), (false, MAX_OPS - 1, true));
            assert_eq!((all.count_in(&one, &rest), rest.count_in(&one, &Mask::EMPTY)), (MAX_OPS, 0));
        }
        assert!(!all.has(MAX_OPS) && all.with(MAX_OPS) == all && all.without(MAX_OPS) == all);
    }
}
