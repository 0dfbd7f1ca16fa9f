//! One change of which ops callsites have, while it is being planned.

use super::members::{Mask, Members};
use super::sets::{Membership, SetError, Sets};
use crate::address::TextAddr;
use crate::callsite::table::SetId;

/// How the sets of the callsites that are looked at change.
pub(super) struct SetChange<'a> {
    sets: &'a mut Sets,
    members: &'a Members,
    how: Membership,
}

/// Why a callsite can't have the set that it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) function: TextAddr,
    pub(super) error: SetError,
}

impl<'a> SetChange<'a> {
    /// Adds the ops of this number.
    pub(super) fn adding(sets: &'a mut Sets, members: &'a Members, number: usize) -> Self {
        Self::new(sets, members, Membership { without: 0, with: bit(number), only_with: 0 })
    }

    /// Removes the ops of this number.
    pub(super) fn removing(sets: &'a mut Sets, members: &'a Members, number: usize) -> Self {
        Self::new(sets, members, Membership { without: bit(number), with: 0, only_with: 0 })
    }

    /// Replaces the ops of the first number by that of the second, where callsites have the first.
    pub(super) fn replacing(sets: &'a mut Sets, members: &'a Members, number: usize, successor: usize) -> Self {
        Self::new(sets, members, Membership { without: bit(number), with: bit(successor), only_with: bit(number) })
    }

    /// Removes all ops.
    pub(super) fn clearing(sets: &'a mut Sets, members: &'a Members) -> Self {
        Self::new(sets, members, Membership { without: Mask::MAX, with: 0, only_with: 0 })
    }

    fn new(sets: &'a mut Sets, members: &'a Members, how: Membership) -> Self {
        sets.begin_change();
        Self { sets, members, how }
    }

    /// Returns what a callsite's set becomes.
    #[inline]
    pub(super) fn next(&mut self, from: SetId) -> Result<SetId, SetError> {
        self.sets.changed(from, self.how, self.members)
    }
}

const fn bit(number: usize) -> Mask {
    1 << number
}
