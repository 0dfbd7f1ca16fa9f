//! Registration: an ops gets callsites, other callsites, another trampoline, or none any more.

use super::Engine;
use super::error::RegisterError;
use super::members::{KeptFilter, Member, keep};
use super::plan::Plan;
use super::registry::{Failed, Registry};
use crate::address::TextAddr;
use crate::filter::Filter;
use crate::ops::{Action, HookId, Ops, OpsFlags};

impl Engine {
    /// Registers `ops` for every function that `filter` selects; returns their number.
    ///
    /// A rule for a module that is not loaded selects nothing yet, and applies when it is.
    ///
    /// Several ops at one function are called in the order of their registration.
    ///
    /// Takes less than 1 KiB of [stack](Engine#stack).
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; no callsite has changed then, unless it says so. Where some have, or where a CPU was not seen
    /// quiescent after callsites had been changed and put back, `ops` stays registered and must be unregistered.
    pub fn register(&self, ops: &'static Ops, filter: &Filter<'_>) -> Result<usize, RegisterError> {
        // Before the lock: with modules this allocates.
        let kept = keep(filter);
        let mut registry = self.lock();
        let done = registry.register(ops, filter, kept);
        registry.told(done)
    }

    /// Registers `ops`, also where it is registered still: what an unregistration could not wait for, or a registration not put
    /// back. Where it can't be, as little of it is left as can be.
    pub(crate) fn register_anew(&self, ops: &'static Ops, filter: &Filter<'_>) -> Result<usize, RegisterError> {
        let mut registered = self.register(ops, filter);
        if registered == Err(RegisterError::AlreadyRegistered) {
            self.unregister(ops)?;
            registered = self.register(ops, filter);
        }
        if registered.is_err() {
            // Callsites that were changed and could not be changed back may call it. The first failure is the one that is told.
            let _ = self.unregister(ops);
        }
        registered
    }

    /// Unregisters `ops`, if it is registered. A CPU may still be inside its callback: what could not be waited for is waited for
    /// when it is [registered anew](Self::register_anew).
    pub(crate) fn unregister_unwaited(&self, ops: &'static Ops) -> Result<(), RegisterError> {
        match self.unregister(ops) {
            Ok(_) | Err(RegisterError::NotRegistered | RegisterError::NotQuiescent(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Unregisters `ops`, and waits until no CPU is inside its callback; returns how many functions it had.
    ///
    /// Calls that are under way then, and whose returns `ops` has hooked, return unseen, also if it is registered again.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotQuiescent`] and [`RegisterError::Quarantined`], which can be tried again; with any other nothing has
    /// changed.
    pub fn unregister(&self, ops: &'static Ops) -> Result<usize, RegisterError> {
        let mut registry = self.lock();
        let done = registry.unregister(ops);
        registry.told(done)
    }

    /// Changes the functions for which `ops` is registered to those that `filter` selects; returns their number.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotQuiescent`]: the filter is in force, but a CPU may still be inside the callback on behalf of a
    /// function that it no longer selects. With any other nothing has changed.
    pub fn set_filter(&self, ops: &'static Ops, filter: &Filter<'_>) -> Result<usize, RegisterError> {
        // Before the lock: with modules this allocates.
        let kept = keep(filter);
        let mut registry = self.lock();
        let done = registry.set_filter(ops, filter, kept);
        registry.told(done)
    }

    /// Changes the trampoline that the callsites of `ops`, which was made by [`Ops::direct`], call, and waits until no CPU is
    /// on its way to the old one. One that is inside the old one may still be.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotDirect`] for another kind of ops. [`RegisterError::NotQuiescent`] and
    /// [`RegisterError::Quarantined`]: the new one is called, but a CPU may be on its way to the old one, or may come there
    /// yet. With any other nothing has changed.
    ///
    /// # Safety
    ///
    /// As for [`Ops::direct`].
    pub unsafe fn modify_direct(&self, ops: &'static Ops, trampoline: TextAddr) -> Result<(), RegisterError> {
        let mut registry = self.lock();
        let done = registry.modify_direct(ops, trampoline);
        registry.told(done)
    }
}

// The same without the lock, in steps that return no more than that they failed: so neither an error nor what a step needed is
// on the stack under the next one.
impl Registry {
    #[inline]
    fn register(&mut self, ops: &'static Ops, filter: &Filter<'_>, kept: KeptFilter) -> Result<usize, Failed> {
        let number = self.admit(ops, kept)?;
        let added = Added { registry: self, number };
        let mut plan = Plan::new(added.registry);
        let selected = plan.add(number, filter)?;
        let count = plan.give(number, selected)?;
        added.keep();
        // The stubs that these callsites had with other ops may be waited for another time as well.
        let _ = self.reclaim_unused();
        Ok(count)
    }

    /// Makes `ops` a member without callsites.
    #[inline(never)]
    fn admit(&mut self, ops: &'static Ops, kept: KeptFilter) -> Result<usize, Failed> {
        if self.stub_env.is_none() {
            return Err(self.fail(|| RegisterError::NotInitialised));
        }
        if self.members.find(ops).is_some() {
            return Err(self.fail(|| RegisterError::AlreadyRegistered));
        }
        self.add_member(ops, kept).map_err(|error| self.fail(|| error))
    }

    #[inline]
    fn unregister(&mut self, ops: &'static Ops) -> Result<usize, Failed> {
        let mut number = self.registered(ops)?;
        if ops.flags().contains(OpsFlags::PERMANENT) {
            return Err(self.fail(|| RegisterError::Permanent));
        }
        let mut count = 0;
        loop {
            let mut plan = Plan::new(self);
            count += plan.remove(number)?;
            // Every CPU fetches something else afterwards. One that fetched the BL before may still be between it and the
            // callback's end.
            plan.carry_out(None)?;
            // Not before: as long as entries are seen, so are exits. From here on those lack theirs that are under way.
            self.members.get_mut(number).into_iter().for_each(Member::leave);
            self.settle()?;
            self.check_left(ops, number)?;
            self.remove_member(number);
            // Where a trampoline was replaced in part only, there are two.
            number = match self.members.find(ops) {
                Some(another) => another,
                None => return Ok(count),
            };
        }
    }

    #[inline]
    fn set_filter(&mut self, ops: &'static Ops, filter: &Filter<'_>, kept: KeptFilter) -> Result<usize, Failed> {
        let number = self.registered(ops)?;
        let mut plan = Plan::new(self);
        plan.remove(number)?;
        let selected = plan.add(number, filter)?;
        let count = plan.give(number, selected)?;
        if let Some(old) = self.members.get_mut(number) {
            old.filter = kept;
        }
        self.settle().map(|()| count)
    }

    #[inline]
    fn modify_direct(&mut self, ops: &'static Ops, trampoline: TextAddr) -> Result<(), Failed> {
        let number = self.registered(ops)?;
        if !matches!(ops.action(), Action::Direct(_)) {
            return Err(self.fail(|| RegisterError::NotDirect));
        }
        let successor = self.add_successor(number, trampoline)?;
        let added = Added { registry: self, number: successor };
        let mut plan = Plan::new(added.registry);
        plan.replace(number, successor)?;
        plan.carry_out(Some(successor))?;
        added.keep();
        self.members.supersede(number, successor);
        self.settle()?;
        match self.callsites_left(number) {
            None => Ok(()),
            Some(callsites) => Err(self.fail(|| RegisterError::Quarantined { callsites })),
        }
    }

    /// Gives the ops of this number a second one, with another trampoline.
    #[inline(never)]
    fn add_successor(&mut self, number: usize, trampoline: TextAddr) -> Result<usize, Failed> {
        let successor = self.members.add_successor(number, Action::Direct(trampoline));
        successor.map_err(|error| self.fail(|| error))
    }

    /// The number of an ops that is registered.
    #[inline(never)]
    fn registered(&mut self, ops: &Ops) -> Result<usize, Failed> {
        match self.members.find(ops) {
            Some(number) => Ok(number),
            None => Err(self.fail(|| RegisterError::NotRegistered)),
        }
    }

    /// Checks that no callsite has this number of an ops, or one that it had before.
    #[inline(never)]
    fn check_left(&mut self, ops: &Ops, number: usize) -> Result<(), Failed> {
        let mut numbers = self.members.superseded(ops).chain([number]);
        match numbers.find_map(|number| self.callsites_left(number)) {
            None => Ok(()),
            Some(callsites) => {
                drop(numbers);
                Err(self.fail(|| RegisterError::Quarantined { callsites }))
            }
        }
    }

    /// Waits until no CPU is in what no callsite calls any more, and reclaims it.
    #[inline(never)]
    fn settle(&mut self) -> Result<(), Failed> {
        self.quiesce_and_reclaim().map_err(|error| self.fail(|| RegisterError::NotQuiescent(error)))
    }

    /// How many callsites still have the ops of this number, as those that are quarantined may, if any have.
    fn callsites_left(&self, number: usize) -> Option<usize> {
        Some(self.sets.callsites_with(number)).filter(|callsites| *callsites > 0)
    }
}

/// A member that was added, until callsites call it. Dropped before, its number is taken back.
///
/// Some callsites may have called it for a moment, or still do. Unless no CPU can be on the way to it any more, it stays
/// registered, so that it can be unregistered. If it goes, calls that were hooked meanwhile return unseen.
struct Added<'r> {
    registry: &'r mut Registry,
    number: usize,
}

impl Added<'_> {
    /// The member stays.
    fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        let Self { registry, number } = self;
        let hook = registry.members.get(*number).and_then(|member| member.hook);
        hook.into_iter().for_each(HookId::suspend);
        let has_callsites = registry.sets.some_callsite_has(*number);
        if !registry.sets.some_has(*number) || (!has_callsites && registry.reclaim_unused().is_ok()) {
            registry.remove_member(*number);
        } else if has_callsites {
            hook.into_iter().for_each(HookId::resume);
        } else {
            // No module that comes gets it.
            registry.members.get_mut(*number).into_iter().for_each(Member::leave);
        }
    }
}
