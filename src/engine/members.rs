//! The members: ops that are registered.
//!
//! Each has a number below the most that there can be, so that a set of them is a [`Mask`].

use super::error::RegisterError;
use super::mask::Mask;
use super::spans::Spans;
#[cfg(feature = "module")]
use crate::address::TextRange;
use crate::filter::Filter;
use crate::ops::{Action, HookId, Ops, OpsFlags};
use crate::record::COUNTERS;
use crate::stub::SliceVec;

/// Where a member is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It has the callsites that its filter selects, and gets those of new regions.
    Active,
    /// It keeps what callsites it has left, and gets no new ones; a CPU may still be inside its callback.
    Leaving,
    /// Its successor is the ops now. It is kept until no CPU can be in its stubs.
    Superseded,
}

/// An ops that is registered.
pub(super) struct Member {
    pub(super) ops: &'static Ops,
    /// What it does now; a direct trampoline can be changed.
    pub(super) action: Action,
    /// The counter that it has in each CPU's area.
    pub(super) counter: Option<u8>,
    /// What its frames are known by, if it hooks returns.
    pub(super) hook: Option<HookId>,
    life: Life,
    /// Where its callsites are.
    pub(super) spans: Spans,
    /// For regions that are yet to come.
    pub(super) filter: KeptFilter,
}

/// What is kept of a filter, for regions that are yet to come.
#[cfg(feature = "module")]
pub(super) type KeptFilter = crate::filter::OwnedFilter;
/// Nothing, where there are none.
#[cfg(not(feature = "module"))]
#[derive(Default)]
pub(super) struct KeptFilter {}

/// What is kept of a filter. With modules this allocates: before the engine is locked.
#[cfg(feature = "module")]
#[inline(never)]
pub(super) fn keep(filter: &Filter<'_>) -> KeptFilter {
    filter.to_owned()
}
#[cfg(not(feature = "module"))]
pub(super) const fn keep(_: &Filter<'_>) -> KeptFilter {
    KeptFilter {}
}

impl Member {
    /// Whether it gets the callsites in a new region with this text: not without counters for all of them, where it needs
    /// some.
    #[cfg(feature = "module")]
    pub(super) fn takes_region(&self, text: TextRange) -> bool {
        let can_count = match self.action {
            Action::CountCallsites(hits) => hits.covers(text.start.offset(4)) && hits.covers(text.end.offset(-4)),
            _ => true,
        };
        self.life == Life::Active && can_count
    }

    /// Leaves, after its callsites were taken away: it gets no new ones, and exits of calls that are under way are not
    /// handled any more.
    pub(super) fn leave(&mut self) {
        self.spans.clear();
        self.life = Life::Leaving;
        self.hook.into_iter().for_each(HookId::suspend);
    }

    /// Becomes active again, with its exits handled, if it was leaving; returns whether it was.
    pub(super) fn rejoin(&mut self) -> bool {
        let was_leaving = self.life == Life::Leaving;
        if was_leaving {
            self.life = Life::Active;
            self.hook.into_iter().for_each(HookId::resume);
        }
        was_leaving
    }
}

/// All members.
pub(super) struct Members {
    members: &'static mut [Option<Member>],
    /// No number from here on is taken.
    end: usize,
    /// The numbers that are taken, in the order in which members at one callsite are called: that of their registration.
    order: SliceVec<u16>,
    /// Of both together, a callsite can have one member.
    ipmodify: Mask,
    direct: Mask,
}

impl Members {
    /// None yet. All of `members` are none, and `order` has as many places.
    pub(super) const fn new(members: &'static mut [Option<Member>], order: SliceVec<u16>) -> Self {
        Self { members, end: 0, order, ipmodify: Mask::EMPTY, direct: Mask::EMPTY }
    }

    /// Finds the number of an ops that is registered.
    pub(super) fn find(&self, ops: &Ops) -> Option<usize> {
        let is_it = |member: &Option<Member>| {
            member.as_ref().is_some_and(|member| member.life != Life::Superseded && core::ptr::eq(member.ops, ops))
        };
        self.members[..self.end].iter().position(is_it)
    }

    /// Gives an ops a number. The member is made where it stays: it is large for a kernel's stack.
    pub(super) fn add(&mut self, ops: &'static Ops, filter: KeptFilter) -> Result<usize, RegisterError> {
        self.add_with(ops, ops.action(), Life::Active, filter)
    }

    fn add_with(
        &mut self,
        ops: &'static Ops,
        action: Action,
        life: Life,
        filter: KeptFilter,
    ) -> Result<usize, RegisterError> {
        let free = self.members[..self.end].iter().position(Option::is_none).unwrap_or(self.end);
        let needed = self.members.len() + 1;
        let place = self.members.get_mut(free).ok_or(RegisterError::TooManyOps { needed })?;
        if ops.flags().contains(OpsFlags::IPMODIFY) {
            self.ipmodify = self.ipmodify.with(free);
        }
        if matches!(action, Action::Direct(_)) {
            self.direct = self.direct.with(free);
        }
        *place = Some(Member { ops, action, counter: None, hook: None, life, spans: Spans::EMPTY, filter });
        let is_ordered = self.order.push(free as u16);
        debug_assert!(is_ordered, "there is a place for each member");
        self.end = self.end.max(free + 1);
        Ok(free)
    }

    /// Removes a member, if there is one of this number.
    #[inline]
    pub(super) fn remove(&mut self, number: usize) {
        let Some(place) = self.members.get_mut(number) else { return };
        *place = None;
        self.put_out_of_order(number);
        self.ipmodify = self.ipmodify.without(number);
        self.direct = self.direct.without(number);
        self.end = self.members[..self.end].iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    }

    #[inline(never)]
    fn put_out_of_order(&mut self, number: usize) {
        if let Some(place) = self.order.iter().position(|other| usize::from(*other) == number) {
            self.order.remove(place);
        }
    }

    /// Gives the ops of this number a counter in each CPU's area, if one is free.
    pub(super) fn give_counter(&mut self, number: usize) {
        let taken = |counter| self.iter().any(|(_, member)| member.counter == Some(counter));
        let free = (0..COUNTERS as u8).find(|counter| !taken(*counter));
        if let Some(member) = self.get_mut(number) {
            member.counter = free;
        }
    }

    /// The member of this number.
    pub(super) fn get(&self, number: usize) -> Option<&Member> {
        self.members.get(number)?.as_ref()
    }

    /// The member of this number, to change.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Member> {
        self.members.get_mut(number)?.as_mut()
    }

    /// All members, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.members[..self.end].iter().enumerate().filter_map(|(number, member)| Some((number, member.as_ref()?)))
    }

    /// All members, to change.
    #[cfg(feature = "module")]
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members[..self.end].iter_mut().flatten()
    }

    /// The members of a set, in the order in which they are called.
    pub(super) fn in_order(&self, set: Mask) -> impl Iterator<Item = &Member> {
        let numbers = self.order.iter().map(|number| usize::from(*number));
        numbers.filter(move |number| set.has(*number)).filter_map(|number| self.get(number))
    }

    /// Whether the set has two members that can't be at one callsite: of those that change where execution goes on, and of
    /// direct trampolines, a callsite can have one.
    pub(super) fn exclude_each_other(&self, set: &Mask) -> bool {
        set.count_in(&self.ipmodify, &self.direct) > 1
    }

    /// Gives an ops a second number, with another action but its place in the order: callsites are moved from the one to
    /// the other. It gets no callsites but those, unless it [supersedes](Self::supersede) the first.
    #[inline(never)]
    pub(super) fn add_successor(&mut self, number: usize, action: Action) -> Result<usize, RegisterError> {
        let ops = self.get(number).ok_or(RegisterError::NotRegistered)?.ops;
        let successor = self.add_with(ops, action, Life::Leaving, KeptFilter::default())?;
        // From the end to its place. (Not `rotate_right`, which takes a kibibyte of stack.)
        let mut place = self.order.len().saturating_sub(1);
        while place > 0 && usize::from(self.order[place - 1]) != number {
            self.order.swap(place - 1, place);
            place -= 1;
        }
        Ok(successor)
    }

    /// Makes the successor the ops from now on.
    pub(super) fn supersede(&mut self, number: usize, successor: usize) {
        let Some(old) = self.get_mut(number) else { return };
        let life = core::mem::replace(&mut old.life, Life::Superseded);
        let filter = core::mem::take(&mut old.filter);
        if let Some(new) = self.get_mut(successor) {
            (new.life, new.filter) = (life, filter);
        }
    }

    /// The numbers that the ops had before, and that some set still has.
    pub(super) fn superseded(&self, ops: &Ops) -> impl Iterator<Item = usize> {
        let superseded = |member: &Member| member.life == Life::Superseded && core::ptr::eq(member.ops, ops);
        self.iter().filter(move |(_, member)| superseded(member)).map(|(number, _)| number)
    }

    /// Removes the members that are superseded, and that no set has.
    pub(super) fn reclaim(&mut self, some_has: impl Fn(usize) -> bool) {
        for number in 0..self.end {
            if self.get(number).is_some_and(|member| member.life == Life::Superseded) && !some_has(number) {
                self.remove(number);
            }
        }
    }
}
