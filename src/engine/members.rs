//! Who is registered.
//!
//! Each has a number below [`MAX_OPS`], so that a set of ops is a word of bits.

use super::error::RegisterError;
use super::spans::Spans;
use crate::filter::Filter;
use crate::ops::{Action, HookId, MAX_OPS, Ops, OpsFlags};
use crate::record::COUNTERS;
use arrayvec::ArrayVec;

/// A set of ops: a bit for each number.
pub(super) type Mask = u128;

/// One that is registered.
pub(super) struct Member {
    pub(super) ops: &'static Ops,
    /// What it does now; a direct trampoline can be changed.
    pub(super) action: Action,
    /// The counter that it has in each CPU's area.
    pub(super) counter: Option<u8>,
    /// What its frames are known by, if it hooks returns.
    pub(super) hook: Option<HookId>,
    /// The earlier are called first.
    serial: u64,
    /// Nobody's any more, but a CPU may still be inside a stub that was made for it.
    pub(super) retired: bool,
    /// Its callsites were taken away, and it gets no new ones; a CPU may still be inside its callback.
    pub(super) leaving: bool,
    /// Where its callsites are.
    pub(super) spans: Spans,
    /// For regions that are yet to come.
    #[cfg(feature = "module")]
    pub(super) filter: crate::filter::OwnedFilter,
}

impl Member {
    /// `ops` with this filter, not registered yet.
    pub(super) fn new(ops: &'static Ops, filter: &Filter<'_>) -> Self {
        #[cfg(not(feature = "module"))]
        let _ = filter;
        Self {
            ops,
            action: ops.action(),
            counter: None,
            hook: None,
            serial: 0,
            retired: false,
            leaving: false,
            spans: Spans::EMPTY,
            #[cfg(feature = "module")]
            filter: filter.to_owned(),
        }
    }

    /// Whether it is told of the callsites of a region that comes now.
    #[cfg(feature = "module")]
    pub(super) const fn takes_new_regions(&self) -> bool {
        !self.retired && !self.leaving
    }

    /// Its callsites are gone: exits of calls that are under way are not handled any more.
    pub(super) fn leave(&mut self) {
        self.spans.clear();
        self.leaving = true;
        self.hook.into_iter().for_each(HookId::suspend);
    }

    /// It is to have callsites again.
    pub(super) fn stay(&mut self) {
        self.leaving = false;
        self.hook.into_iter().for_each(HookId::resume);
    }

    /// Takes over another one's filter, for regions that are yet to come.
    pub(super) fn take_filter(&mut self, other: Self) {
        #[cfg(feature = "module")]
        {
            self.filter = other.filter;
        }
        #[cfg(not(feature = "module"))]
        drop(other);
    }
}

/// All that are registered.
pub(super) struct Members {
    members: [Option<Member>; MAX_OPS],
    /// No number from here on is taken.
    end: usize,
    next_serial: u64,
    /// Those of which a callsite can have one.
    ipmodify: Mask,
    direct: Mask,
}

impl Members {
    pub(super) const EMPTY: Self =
        Self { members: [const { None }; MAX_OPS], end: 0, next_serial: 0, ipmodify: 0, direct: 0 };

    /// The number of an ops that is registered.
    pub(super) fn find(&self, ops: &Ops) -> Option<usize> {
        let is_it = |member: &Option<Member>| {
            member.as_ref().is_some_and(|member| !member.retired && core::ptr::eq(member.ops, ops))
        };
        self.members[..self.end].iter().position(is_it)
    }

    /// Gives one a number.
    pub(super) fn add(&mut self, mut member: Member) -> Result<usize, RegisterError> {
        let free = self.members[..self.end].iter().position(Option::is_none).unwrap_or(self.end);
        let place = self.members.get_mut(free).ok_or(RegisterError::TooManyOps)?;
        member.serial = self.next_serial;
        self.next_serial += 1;
        let bit = 1 << free;
        if member.ops.flags().contains(OpsFlags::IPMODIFY) {
            self.ipmodify |= bit;
        }
        if matches!(member.action, Action::Direct(_)) {
            self.direct |= bit;
        }
        *place = Some(member);
        self.end = self.end.max(free + 1);
        Ok(free)
    }

    /// Takes one away.
    pub(super) fn remove(&mut self, number: usize) -> Option<Member> {
        let member = self.members.get_mut(number)?.take();
        self.ipmodify &= !(1 << number);
        self.direct &= !(1 << number);
        self.end = self.members[..self.end].iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        member
    }

    /// Gives the ops of this number a counter in each CPU's area, if there is one that is nobody's.
    pub(super) fn give_counter(&mut self, number: usize) {
        let taken = |counter| self.iter().any(|(_, member)| member.counter == Some(counter));
        let free = (0..COUNTERS as u8).find(|counter| !taken(*counter));
        if let Some(member) = self.get_mut(number) {
            member.counter = free;
        }
    }

    /// The one of this number.
    pub(super) fn get(&self, number: usize) -> Option<&Member> {
        self.members.get(number)?.as_ref()
    }

    /// The one of this number.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Member> {
        self.members.get_mut(number)?.as_mut()
    }

    /// All, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.members[..self.end].iter().enumerate().filter_map(|(number, member)| Some((number, member.as_ref()?)))
    }

    /// Those of a set, in the order in which they are called: that of their registration.
    pub(super) fn in_order(&self, set: Mask) -> ArrayVec<&Member, MAX_OPS> {
        let (mut ordered, mut left) = (ArrayVec::new(), set);
        while left != 0 {
            ordered.extend(self.get(left.trailing_zeros() as usize));
            left &= left - 1;
        }
        ordered.sort_unstable_by_key(|member| member.serial);
        ordered
    }

    /// Whether two of a set can't be at one callsite: two that change where execution goes on, or such a one and a direct
    /// trampoline, or two of those.
    pub(super) const fn exclude_each_other(&self, set: Mask) -> bool {
        (set & (self.ipmodify | self.direct)).count_ones() > 1
    }

    /// Gives an ops a second number, with another action but its place in the order: callsites are moved from the one to
    /// the other.
    pub(super) fn add_successor(&mut self, number: usize, action: Action) -> Result<usize, RegisterError> {
        let Member { ops, serial, leaving, .. } = *self.get(number).ok_or(RegisterError::NotRegistered)?;
        let successor = self.add(Member { action, ..Member::new(ops, &Filter::ALL) })?;
        if let Some(member) = self.get_mut(successor) {
            (member.serial, member.leaving) = (serial, leaving);
        }
        Ok(successor)
    }

    /// The successor is the ops from now on.
    pub(super) fn succeed(&mut self, number: usize, successor: usize) {
        #[cfg(feature = "module")]
        {
            let filter = self.get_mut(number).map(|old| core::mem::take(&mut old.filter));
            if let (Some(filter), Some(new)) = (filter, self.get_mut(successor)) {
                new.filter = filter;
            }
        }
        #[cfg(not(feature = "module"))]
        let _ = successor;
        if let Some(old) = self.get_mut(number) {
            old.retired = true;
        }
    }

    /// Takes away those that are nobody's any more, and that no set has.
    pub(super) fn reclaim(&mut self, some_has: impl Fn(usize) -> bool) {
        for number in 0..self.end {
            if self.get(number).is_some_and(|member| member.retired) && !some_has(number) {
                drop(self.remove(number));
            }
        }
    }
}
