//! Which callsite calls what: registration, planning, and the record of what was done.
//!
//! An [`Engine`] takes the kernel's [`Image`] once, at boot, and from then on turns an ops and a filter into the
//! smallest batch of changes that makes the text do what was asked, has [`text`](crate::text) carry it out as a whole, and
//! keeps its table true.
//!
//! ```text
//!   register(ops, filter):   select  ->  plan (what each must call)  ->  batch (what differs)  ->  text  ->  commit
//!                                                                            any failure: withdraw, text as before
//! ```

mod change;
mod counters;
mod error;
mod image;
mod members;
#[cfg(feature = "module")]
mod modules;
mod quarantine;
mod region;
mod registry;
mod sets;
mod show;
mod spans;
#[cfg(test)]
mod tests;
mod texts;
mod veneers;

pub use counters::FunctionHits;
pub use error::{InitError, RegisterError};
pub use image::Image;
pub use show::{OpsStatus, Statistics, Status, TextCheck};
#[cfg(feature = "module")]
pub use texts::ModuleStatus;

use crate::address::TextAddr;
use crate::callsite::table::InitCounts;
use crate::filter::Filter;
use crate::ops::{Action, HookId, Ops, OpsFlags};
use crate::platform::Platform;
use crate::symbols::Symbols;
use crate::text::Cpu;
#[cfg(not(target_os = "none"))]
use crate::text::Machine;
use core::fmt;
use members::Member;
use quarantine::Held;
use region::Region;
use registry::{Registry, Tools, make_ready};

/// What init found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitReport {
    /// The entries of the section, by what became of them.
    pub counts: InitCounts,
    /// How many symbols the image has; 0 means that filters by name select nothing.
    pub symbols: usize,
}

/// The engine: one for a kernel, in a `static`.
///
/// All methods may be called with interrupts on or off, from any CPU, but neither from a callback nor from an interrupt
/// handler, nor from a function that one of them is given: they wait for each other. [`symbols`](Self::symbols) never waits.
/// A caller that holds a lock which another CPU spins on with interrupts masked keeps that CPU from synchronising: the
/// batch is then undone when the platform's time is over.
pub struct Engine {
    platform: &'static dyn Platform,
    machine: Cpu,
    state: spin::Mutex<Registry>,
    /// Beside the lock, so that names can be had where it is held: from a panic, or while callsites are shown.
    symbols: spin::Once<Symbols<'static>>,
}

impl Engine {
    /// An engine on this kernel's own CPU.
    #[cfg(target_os = "none")]
    pub const fn new(platform: &'static dyn Platform) -> Self {
        Self {
            platform,
            machine: crate::text::Hardware,
            state: spin::Mutex::new(Registry::EMPTY),
            symbols: spin::Once::new(),
        }
    }

    /// An engine on any machine; on one of `fakes`, for example.
    #[cfg(not(target_os = "none"))]
    pub const fn with_machine(platform: &'static dyn Platform, machine: &'static dyn Machine) -> Self {
        Self { platform, machine, state: spin::Mutex::new(Registry::EMPTY), symbols: spin::Once::new() }
    }

    /// Makes every callsite of the image ready, and the stubs to find the platform's trace contexts.
    ///
    /// # Errors
    ///
    /// [`InitError`]. Entries that are no callsites are no error: the report counts them, and
    /// [`for_each_refusal`](Self::for_each_refusal) names them.
    ///
    /// # Safety
    ///
    /// 1. Until this returns, no other CPU runs the image's text, and neither an interrupt handler does: MOV X9, LR is not
    ///    an instruction that may be written under a CPU that executes it.
    /// 2. A function with a callsite in the image may find x9 changed at its entry from now on, and x10 to x17, q16 to q31
    ///    and the flags while it is traced: nobody calls one by another convention than the AAPCS64's base standard, and
    ///    none takes a value in x18 that a callback may change ([`guide`](crate::guide) names those that do, and the way
    ///    out).
    /// 3. Once it has succeeded, the engine stays for as long as a CPU can execute the image's text.
    pub unsafe fn init(&self, image: Image) -> Result<InitReport, InitError> {
        let mut registry = self.lock();
        if registry.env.is_some() {
            return Err(InitError::AlreadyDone);
        }
        if let Some(error) = image.damage {
            return Err(InitError::Symbols(error));
        }
        let names = image.symbols;
        let env = counters::env(image.stubs, self.tools())?;
        let (region, counts) = Region::of_image(image, self.machine)?;
        // SAFETY: our caller promises that nothing runs the text.
        if let Err(error) = unsafe { make_ready(&region, &env, self.tools().poke()) } {
            region.table.dissolve();
            return Err(error);
        }
        crate::stub::exit::set_platform(self.platform);
        registry.regions.push(region);
        registry.sets.room.set(env.stubs.room);
        registry.env = Some(env);
        drop(registry);
        let symbols = names.map_or(0, |names| self.symbols.call_once(|| names).len());
        log::debug!("fentry: {} callsites, {} refused, {symbols} symbols", counts.accepted, counts.refused);
        Ok(InitReport { counts, symbols })
    }

    /// Registers `ops` for every function that `filter` selects; returns their number.
    ///
    /// A rule for a module that is not loaded selects nothing yet, and applies when it is.
    ///
    /// Several ops at one function are called in the order of their registration.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; no callsite has changed then, unless it says so. Where some have, or where a CPU was not seen
    /// quiescent after callsites had been changed and put back, `ops` stays registered, without getting new callsites, and
    /// must be unregistered.
    pub fn register(&self, ops: &'static Ops, filter: &Filter<'_>) -> Result<usize, RegisterError> {
        // Before the lock: with modules this allocates.
        let member = Member::new(ops, filter);
        let mut registry = self.lock();
        if registry.env.is_none() {
            return Err(RegisterError::NotInitialised);
        }
        if registry.members.find(ops).is_some() {
            return Err(RegisterError::AlreadyRegistered);
        }
        let number = registry.add(member)?;
        let told = registry.news;
        let done = registry.plan_adding(number, filter).and_then(|count| match count {
            0 if !filter.awaits_module() => Err(RegisterError::EmptySelection),
            count => Ok(count),
        });
        let done = match done {
            Ok(count) => registry.settle(number, self.tools()).map(|()| count),
            Err(error) => {
                registry.withdraw();
                Err(error)
            }
        };
        let done = done.map(|count| if registry.news > told { registry.count_with(number) } else { count });
        if done.is_ok() {
            // What other ops had these callsites with may be waited for another time as well.
            let _ = registry.reclaim_unused(self.tools());
        } else {
            // Some callsites called it for a moment, or still do. Unless nobody can be on the way any more, it stays
            // registered, so that it can be unregistered. If it goes, calls that were hooked meanwhile return unseen.
            let hook = registry.members.get(number).and_then(|member| member.hook);
            hook.into_iter().for_each(HookId::suspend);
            registry.forget(number, self.tools());
            let has_callsites = registry.sets.some_callsite_has(number);
            match registry.members.get_mut(number) {
                Some(_) if has_callsites => hook.into_iter().for_each(HookId::resume),
                // Somebody may be on the way to it: no module that comes gets it.
                Some(member) => member.leave(),
                None => {}
            }
        }
        done
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
            count += registry.replan(number, None)?.0;
            // Every CPU fetches something else now. One that fetched the BL before may still be between it and the
            // callback's end.
            registry.carry_out(None, self.tools())?;
            // Not before: as long as entries are seen, so are exits. From here on those lack theirs that are under way.
            if let Some(member) = registry.members.get_mut(number) {
                member.leave();
            }
            registry.quiesce_and_reclaim(self.tools()).map_err(RegisterError::NotQuiescent)?;
            registry.all_released(number, ops)?;
            registry.remove(number, self.tools());
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
        let member = Member::new(ops, filter);
        let mut registry = self.lock();
        let number = registry.members.find(ops).ok_or(RegisterError::NotRegistered)?;
        let (_, mut selected) = registry.replan(number, Some(filter))?;
        let told = registry.news;
        // It may have been on its way out; then its exits are handled again, before the first entry is.
        let was_leaving = registry.members.get(number).is_some_and(|member| member.leaving);
        registry.members.get_mut(number).into_iter().for_each(Member::stay);
        let settled = registry.settle(number, self.tools());
        let has_callsites = registry.sets.some_callsite_has(number);
        if let Some(old) = registry.members.get_mut(number) {
            match settled {
                Ok(()) => old.take_filter(member),
                // Unless some callsites have it for good, which could not be put back.
                Err(_) if was_leaving && !has_callsites => old.leave(),
                Err(_) => {}
            }
        }
        settled?;
        if registry.news > told {
            selected = registry.count_with(number);
        }
        registry.quiesce_and_reclaim(self.tools()).map_err(RegisterError::NotQuiescent).map(|()| selected)
    }

    /// Has the callsites of `ops`, which was made by [`Ops::direct`], call another trampoline from now on, and waits until
    /// no CPU is on its way to the old one. One that is inside the old one may still be.
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
        let planned = registry.plan_replacing(number, successor);
        if let Err(error) = planned {
            registry.withdraw();
            drop(registry.members.remove(successor));
            return Err(error);
        }
        match registry.settle(successor, self.tools()) {
            Ok(()) => {
                registry.members.succeed(number, successor);
                registry.quiesce_and_reclaim(self.tools()).map_err(RegisterError::NotQuiescent)?;
                registry.none_has(number)
            }
            Err(error) => {
                registry.forget(successor, self.tools());
                // If some callsites call the new one, it is for those alone.
                if let Some(successor) = registry.members.get_mut(successor) {
                    successor.leaving = true;
                }
                Err(error)
            }
        }
    }

    /// The kernel's symbols, as init was given them.
    pub fn symbols(&self) -> Option<Symbols<'static>> {
        self.symbols.get().copied()
    }

    fn tools(&self) -> Tools {
        Tools { platform: self.platform, machine: self.machine }
    }

    fn lock(&self) -> Held<'_> {
        loop {
            if let Some(guard) = self.state.try_lock() {
                return Held::new(guard);
            }
            self.platform.relax();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
