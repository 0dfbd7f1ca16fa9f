//! One change of who is called where, in the making.

use super::members::{Mask, Members};
use super::sets::{Membership, SetError, Sets};
use crate::address::TextAddr;
use crate::callsite::table::SetId;

/// What happens to the set of each callsite that is looked at.
pub(super) struct SetChange<'a> {
    sets: &'a mut Sets,
    members: &'a Members,
    how: Membership,
}

/// A callsite can't have the set that it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) function: TextAddr,
    pub(super) error: SetError,
}

impl<'a> SetChange<'a> {
    /// Callsites get the ops of this number.
    pub(super) fn adding(sets: &'a mut Sets, members: &'a Members, number: usize) -> Self {
        Self::new(sets, members, Membership { without: 0, with: bit(number), only_with: 0 })
    }

    /// Callsites lose the ops of this number.
    pub(super) fn removing(sets: &'a mut Sets, members: &'a Members, number: usize) -> Self {
        Self::new(sets, members, Membership { without: bit(number), with: 0, only_with: 0 })
    }

    /// Callsites that have the one of the first number get the one of the second instead.
    pub(super) fn replacing(sets: &'a mut Sets, members: &'a Members, number: usize, successor: usize) -> Self {
        Self::new(sets, members, Membership { without: bit(number), with: bit(successor), only_with: bit(number) })
    }

    /// Callsites lose all.
    pub(super) fn clearing(sets: &'a mut Sets, members: &'a Members) -> Self {
        Self::new(sets, members, Membership { without: Mask::MAX, with: 0, only_with: 0 })
    }

    fn new(sets: &'a mut Sets, members: &'a Members, how: Membership) -> Self {
        sets.begin_change();
        Self { sets, members, how }
    }

    /// What a callsite's set becomes.
    #[inline]
    pub(super) fn next(&mut self, from: SetId) -> Result<SetId, SetError> {
        self.sets.changed(from, self.how, self.members)
    }
}

const fn bit(number: usize) -> Mask {
    1 << number
}
