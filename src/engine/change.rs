//! One change of which ops callsites have, while it is being planned.

use super::members::Members;
use super::sets::{Conflict, Membership, Sets};
use crate::address::TextAddr;
use crate::callsite::table::SetId;

/// How the sets of the callsites that are looked at change.
pub(super) struct SetChange<'a> {
    sets: &'a mut Sets,
    members: &'a Members,
    how: Membership,
}

/// A callsite can't have the set that it should: two of its members exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) function: TextAddr,
}

impl<'a> SetChange<'a> {
    /// Adds the ops of this number.
    pub(super) fn adding(sets: &'a mut Sets, members: &'a Members, number: usize) -> Self {
        Self::new(sets, members, Membership::With(number))
    }

    /// Removes the ops of this number.
    pub(super) fn removing(sets: &'a mut Sets, members: &'a Members, number: usize) -> Self {
        Self::new(sets, members, Membership::Without(number))
    }

    /// Replaces the ops of the first number by that of the second, where callsites have the first.
    pub(super) fn replacing(sets: &'a mut Sets, members: &'a Members, number: usize, successor: usize) -> Self {
        Self::new(sets, members, Membership::Replaced { number, successor })
    }

    /// Removes all ops.
    pub(super) fn clearing(sets: &'a mut Sets, members: &'a Members) -> Self {
        Self::new(sets, members, Membership::None)
    }

    fn new(sets: &'a mut Sets, members: &'a Members, how: Membership) -> Self {
        sets.begin_change();
        Self { sets, members, how }
    }

    /// Returns what a callsite's set becomes.
    #[inline]
    pub(super) fn next(&mut self, from: SetId) -> Result<SetId, Conflict> {
        self.sets.changed(from, self.how, self.members)
    }
}
