//! Registration: an ops gets callsites, other callsites, another trampoline, or none any more.

use super::Engine;
use super::error::RegisterError;
use super::members::{Member, keep};
use super::plan::Plan;
use super::registry::{Registry, RegistryGuard};
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
    /// Takes up to 2 KiB of [stack](Engine#stack).
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; no callsite has changed then, unless it says so. Where some have, or where a CPU was not seen
    /// quiescent after callsites had been changed and put back, `ops` stays registered and must be unregistered.
    pub fn register(&self, ops: &'static Ops, filter: &Filter<'_>) -> Result<usize, RegisterError> {
        let (mut registry, number) = self.admit(ops, filter)?;
        let added = Added { registry: &mut registry, number };
        let mut plan = Plan::new(added.registry);
        let selected = plan.add(number, filter)?;
        let count = plan.give(number, selected)?;
        added.keep();
        // The stubs that these callsites had with other ops may be waited for another time as well.
        let _ = registry.reclaim_unused();
        Ok(count)
    }

    /// Makes `ops` a member without callsites. A function of its own, so that nothing of it is on the stack later.
    #[inline(never)]
    fn admit(&self, ops: &'static Ops, filter: &Filter<'_>) -> Result<(RegistryGuard<'_>, usize), RegisterError> {
        // Before the lock: with modules this allocates.
        let kept = keep(filter);
        let mut registry = self.lock();
        if registry.stub_env.is_none() {
            return Err(RegisterError::NotInitialised);
        }
        if registry.members.find(ops).is_some() {
            return Err(RegisterError::AlreadyRegistered);
        }
        let number = registry.add_member(ops, kept)?;
        Ok((registry, number))
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
        registry.members.find(ops).ok_or(RegisterError::NotRegistered)?;
        if ops.flags().contains(OpsFlags::PERMANENT) {
            return Err(RegisterError::Permanent);
        }
        let mut count = 0;
        // Where a trampoline was replaced in part only, there are two.
        while let Some(number) = registry.members.find(ops) {
            let mut plan = Plan::new(&mut registry);
            count += plan.remove(number)?;
            // Every CPU fetches something else afterwards. One that fetched the BL before may still be between it and the
            // callback's end.
            plan.carry_out(None)?;
            // Not before: as long as entries are seen, so are exits. From here on those lack theirs that are under way.
            registry.members.get_mut(number).into_iter().for_each(Member::leave);
            registry.quiesce_and_reclaim().map_err(RegisterError::NotQuiescent)?;
            let mut numbers = registry.members.superseded(ops).chain([number]);
            numbers.try_for_each(|number| registry.ensure_unused(number))?;
            drop(numbers);
            registry.remove_member(number);
        }
        Ok(count)
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
        let number = registry.members.find(ops).ok_or(RegisterError::NotRegistered)?;
        let mut plan = Plan::new(&mut registry);
        plan.remove(number)?;
        let selected = plan.add(number, filter)?;
        let count = plan.give(number, selected)?;
        if let Some(old) = registry.members.get_mut(number) {
            old.filter = kept;
        }
        registry.quiesce_and_reclaim().map_err(RegisterError::NotQuiescent).map(|()| count)
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
        let number = registry.members.find(ops).ok_or(RegisterError::NotRegistered)?;
        if !matches!(ops.action(), Action::Direct(_)) {
            return Err(RegisterError::NotDirect);
        }
        let successor = registry.members.add_successor(number, Action::Direct(trampoline))?;
        let added = Added { registry: &mut registry, number: successor };
        let mut plan = Plan::new(added.registry);
        plan.replace(number, successor)?;
        plan.carry_out(Some(successor))?;
        added.keep();
        registry.members.supersede(number, successor);
        registry.quiesce_and_reclaim().map_err(RegisterError::NotQuiescent)?;
        registry.ensure_unused(number)
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
