//! What the engine knows: its regions, who is registered, and which sets of ops callsites have.

use super::error::RegisterError;
use super::members::{KeptFilter, Member, Members};
use super::region::Region;
use super::sets::Sets;
use super::stub_text::StubText;
use crate::address::{TextAddr, TextRange};
use crate::ops::{Action, ExitHandler, HookId, MAX_OPS, Ops};
use crate::platform::Platform;
use crate::stub::{SliceVec, StubEnv};
use crate::text::{Cpu, TextPoke};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering;

/// What the engine knows.
pub(super) struct Registry {
    pub(super) platform: &'static dyn Platform,
    pub(super) machine: Cpu,
    /// What stubs are made with; none before init.
    pub(super) stub_env: Option<StubEnv>,
    /// # Invariants
    ///
    /// In the order of their addresses, and none overlaps another.
    pub(super) regions: SliceVec<Region>,
    /// Where a thread may be on its way to a callback: what [`StubText`] shows to those who don't
    /// have the lock.
    pub(super) stub_ranges: SliceVec<TextRange>,
    /// How many of them are handlers'.
    pub(super) handler_ranges: u8,
    /// Whether these, members and sets have memory; empty before.
    pub(super) has_memory: bool,
    pub(super) members: Members,
    pub(super) sets: Sets,
    pub(super) history: History,
    /// What failed, from where it did to where it is told.
    pub(super) failure: Option<RegisterError>,
    /// How many callsites were quarantined and not logged yet.
    pub(super) newly_quarantined: usize,
}

/// What was done since init: batches carried out, the instructions that they changed, and batches that failed.
#[derive(Clone, Copy)]
pub(super) struct History {
    pub(super) batches: u64,
    pub(super) changes: u64,
    pub(super) failures: u64,
}

/// Something failed; [`Registry::told`] has what. An error is large, and on the way up through the steps each would
/// have room for it on the stack, most of them for several.
#[derive(Debug)]
pub(super) struct Failed(());

impl Failed {
    /// [`Registry::failure`] has what.
    pub(super) const NOTED: Self = Self(());
}

impl Registry {
    /// Makes one without regions and members.
    pub(super) const fn new(platform: &'static dyn Platform, machine: Cpu) -> Self {
        Self {
            platform,
            machine,
            stub_env: None,
            regions: SliceVec::new(&mut []),
            stub_ranges: SliceVec::new(&mut []),
            handler_ranges: 0,
            has_memory: false,
            members: Members::new(&mut [], SliceVec::new(&mut [])),
            sets: Sets::without_memory(),
            history: History { batches: 0, changes: 0, failures: 0 },
            failure: None,
            newly_quarantined: 0,
        }
    }

    /// Notes what failed. It is made here, so that no caller has room for it.
    #[cold]
    #[inline(never)]
    pub(super) fn fail(&mut self, error: impl FnOnce() -> RegisterError) -> Failed {
        self.failure = Some(error());
        Failed::NOTED
    }

    /// What the engine's caller is told: with what failed.
    #[inline(never)]
    pub(super) fn told<T>(&mut self, done: Result<T, Failed>) -> Result<T, RegisterError> {
        done.map_err(|failed| self.take_failure(failed))
    }

    #[cold]
    #[inline(never)]
    fn take_failure(&mut self, _: Failed) -> RegisterError {
        self.failure.take().unwrap_or(RegisterError::NotInitialised)
    }

    pub(super) fn poke(&self) -> TextPoke<'static> {
        TextPoke::new(self.platform, self.machine)
    }

    /// Gives an ops a number, and what it counts or hooks with.
    pub(super) fn add_member(&mut self, ops: &'static Ops, filter: KeptFilter) -> Result<usize, RegisterError> {
        let has_cpu_areas = self.stub_env.as_ref().is_some_and(|env| env.cpu.is_some());
        let action = ops.action();
        if matches!(action, Action::Record { .. }) && !has_cpu_areas {
            return Err(RegisterError::NoCpuArea);
        }
        let number = self.members.add(ops, filter)?;
        if matches!(action, Action::Count) && has_cpu_areas {
            self.members.give_counter(number);
        }
        if let Some(exit) = ops.exit_handler() {
            let hooked = take_hook(ops, exit);
            if let (Some(member), Ok(hook)) = (self.members.get_mut(number), hooked) {
                member.hook = Some(hook);
            }
            if let Err(error) = hooked {
                self.members.remove(number);
                return Err(error);
            }
        }
        Ok(number)
    }

    /// Takes the number away again. No CPU can be inside a stub that was made for this ops any more.
    #[inline(never)]
    pub(super) fn remove_member(&mut self, number: usize) {
        debug_assert!(!self.sets.some_has(number), "its stub holds the ops");
        let Some(&Member { ops, counter, hook, .. }) = self.members.get(number) else { return };
        self.members.remove(number);
        if let Some(hook) = hook {
            ops.hook.store(0, Ordering::Relaxed);
            hook.give_back();
        }
        let Some(counter) = counter else { return };
        let mut hits = 0_u64;
        self.platform.for_each_cpu_area(&mut |area| hits = hits.wrapping_add(area.take_hits(counter.into())));
        ops.hits.fetch_add(hits, Ordering::Relaxed);
    }

    /// Adds a range to where a thread may be on its way to a callback, before a callsite leads into it.
    pub(super) fn add_stub_range(&mut self, range: TextRange, shown: &StubText) {
        if !range.is_empty() {
            shown.add(range);
            let is_added = self.stub_ranges.push(range);
            debug_assert!(is_added, "there is a place for each region's veneers, and for the stubs");
        }
    }

    /// Removes a range that was added, in which no thread is any more.
    pub(super) fn remove_stub_range(&mut self, range: TextRange, shown: &StubText) {
        shown.remove(range);
        if let Some(place) = self.stub_ranges.iter().position(|other| *other == range) {
            self.stub_ranges.remove(place);
        }
    }

    /// The region that holds this address: O(log n).
    pub(super) fn region_of(&self, addr: TextAddr) -> Option<&Region> {
        let after = self.regions.partition_point(|region| region.text.start <= addr);
        self.regions.get(after.checked_sub(1)?).filter(|region| region.text.contains(addr))
    }

    /// The name of a function of the kernel's own. (A module's names go when it goes.)
    pub(super) fn name(&self, addr: TextAddr) -> Option<&'static str> {
        self.region_of(addr)?.origin.permanent_name(addr)
    }
}

/// Takes a hook for an ops: what its frames are known by.
fn take_hook(ops: &'static Ops, exit: ExitHandler) -> Result<HookId, RegisterError> {
    let hook = HookId::take(ops, exit).ok_or(RegisterError::TooManyOps { needed: MAX_OPS + 1 })?;
    // It has one where another engine has it.
    if ops.hook.compare_exchange(0, hook.get(), Ordering::Relaxed, Ordering::Relaxed).is_err() {
        hook.give_back();
        return Err(RegisterError::AlreadyRegistered);
    }
    Ok(hook)
}

/// The registry, locked. Dropped, it is unlocked, and then what was quarantined meanwhile is logged: not before, since
/// what writes the log may ask the engine for a name.
pub(super) struct RegistryGuard<'e> {
    // The fields are dropped in this order.
    registry: spin::MutexGuard<'e, Registry>,
    log: QuarantineLog,
}

/// How many callsites were quarantined. Logs it when it is dropped.
struct QuarantineLog(usize);

impl<'e> RegistryGuard<'e> {
    pub(super) const fn new(registry: spin::MutexGuard<'e, Registry>) -> Self {
        Self { registry, log: QuarantineLog(0) }
    }
}

impl Deref for RegistryGuard<'_> {
    type Target = Registry;

    #[inline]
    fn deref(&self) -> &Registry {
        &self.registry
    }
}

impl DerefMut for RegistryGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }
}

impl Drop for RegistryGuard<'_> {
    fn drop(&mut self) {
        self.log.0 = core::mem::take(&mut self.registry.newly_quarantined);
    }
}

impl Drop for QuarantineLog {
    fn drop(&mut self) {
        if self.0 > 0 {
            self.warn();
        }
    }
}

impl QuarantineLog {
    /// Apart, so that what it formats with is not on the stack of every operation.
    #[cold]
    #[inline(never)]
    fn warn(&self) {
        let Self(callsites) = self;
        log::warn!("fentry: {callsites} callsites quarantined: their text was written by somebody else");
    }
}
