//! What the engine knows: the regions, who is registered, and how a wish becomes a plan for all of them.
//!
//! Floor 4.

use super::error::{InitError, RegisterError};
use super::region::{Planned, Region};
use crate::address::TextAddr;
use crate::callsite::{Change, LiveWord};
use crate::entry::Stubs;
use crate::filter::{Filter, Rule, Sign};
use crate::ops::{Ops, OpsFlags};
use crate::platform::Platform;
use crate::table::Target;
use crate::text::{Batch, Cpu, PokeCause, TextPoke, Undone};
use arrayvec::ArrayVec;

/// The most regions that an engine holds: the kernel's image, and for each module its text and, while it starts, its init
/// text.
pub(super) const MAX_REGIONS: usize = if cfg!(feature = "module") { 128 } else { 1 };

/// What the engine knows. Never moved: with room for many regions it is too large for a kernel's stack.
pub(super) struct Registry {
    /// Known once there is an image.
    pub(super) stubs: Option<Stubs>,
    /// # Invariants
    ///
    /// In the order of their addresses, and none overlaps another.
    pub(super) regions: ArrayVec<Region, MAX_REGIONS>,
    pub(super) registered: Option<Registration>,
}

/// Who is registered, and for what.
pub(super) struct Registration {
    pub(super) ops: &'static Ops,
    /// For regions that are yet to come.
    #[cfg(feature = "module")]
    pub(super) filter: crate::filter::OwnedFilter,
}

impl Registration {
    pub(super) fn new(ops: &'static Ops, filter: &Filter<'_>) -> Self {
        #[cfg(not(feature = "module"))]
        let _ = filter;
        Self {
            ops,
            #[cfg(feature = "module")]
            filter: filter.to_owned(),
        }
    }

    pub(super) fn is_of(&self, ops: &Ops) -> bool {
        core::ptr::eq(self.ops, ops)
    }
}

/// The target of a callsite that this ops alone wants.
pub(super) fn target_of(ops: &Ops) -> Target {
    if ops.flags().contains(OpsFlags::SAVE_REGS) { Target::REGS_CALLER } else { Target::CALLER }
}

// SAFETY: the pointers inside are to callsite sections, which were given to the engine alone, and to statics.
unsafe impl Send for Registry {}

/// Writes the stubs' two instructions each, and MOV X9, LR at every callsite of the image.
///
/// # Safety
///
/// Nothing runs the image's text meanwhile.
pub(super) unsafe fn make_ready(
    image: &Region,
    stubs: &Stubs,
    platform: &dyn Platform,
    machine: Cpu,
) -> Result<(), InitError> {
    let base = platform.context_base();
    let caller = stubs.caller.changes(base).map_err(InitError::ContextOffset)?;
    let regs_caller = stubs.regs_caller.changes(base).map_err(InitError::ContextOffset)?;
    let changes = || caller.into_iter().chain(regs_caller).chain(image.to_ready());
    // SAFETY: callsites lie inside the text and nothing runs it, as our caller promises; the stubs' labels are instructions
    // of ours, and no callsite calls them yet.
    unsafe { TextPoke::new(platform, machine).apply_quiet(&changes) }.map_err(InitError::Text)
}

impl Registry {
    /// Nothing yet.
    pub(super) const EMPTY: Self = Self { stubs: None, regions: ArrayVec::new_const(), registered: None };

    /// Plans `target` for every callsite that the filter selects; how many changes that makes.
    pub(super) fn plan(&mut self, filter: &Filter<'_>, target: Target) -> Result<usize, RegisterError> {
        let planned = match self.select(filter, target) {
            Ok(0) => Err(RegisterError::EmptySelection),
            Ok(count) => self.check().map(|()| count),
            Err(error) => Err(error),
        };
        if planned.is_err() {
            self.regions.iter_mut().for_each(Region::withdraw);
        }
        planned
    }

    /// Plans nothing for every callsite.
    pub(super) fn plan_removal(&mut self) -> usize {
        self.regions.iter_mut().map(Region::plan_removal).sum()
    }

    fn select(&mut self, filter: &Filter<'_>, target: Target) -> Result<usize, RegisterError> {
        let positive = |rule: &Rule<'_>| rule.sign == Sign::Select;
        if filter.rules().is_empty() {
            return Ok(self.regions.iter_mut().map(|region| region.plan_all(target)).sum());
        }
        if !filter.rules().iter().any(positive) {
            return Ok(self.regions.iter_mut().map(|region| region.plan_selected(filter, target)).sum());
        }
        let mut changes = 0;
        for (number, rule) in filter.rules().iter().enumerate().filter(|(_, rule)| positive(rule)) {
            let mut matched = false;
            for region in &mut self.regions {
                let (matched_here, changes_here) = region.plan_rule(rule, filter, target);
                matched |= matched_here;
                changes += changes_here;
            }
            if !matched {
                return Err(RegisterError::NothingSelected { rule: number });
            }
        }
        Ok(changes)
    }

    fn check(&self) -> Result<(), RegisterError> {
        self.regions.iter().try_for_each(Region::check).map_err(RegisterError::Callsite)
    }

    /// Has the planned changes made, and commits or withdraws them.
    pub(super) fn carry_out(&mut self, poke: TextPoke<'_>, machine: Cpu) -> Result<(), RegisterError> {
        // SAFETY: callsites lie inside text that whoever gave it to the engine promises to be mapped.
        let Err(error) = (unsafe { poke.apply_live(&*self) }) else {
            self.regions.iter_mut().for_each(Region::commit);
            return Ok(());
        };
        for region in &mut self.regions {
            match error.undone {
                Undone::AllBut(_) => region.believe_the_text(machine),
                Undone::Entirely | Undone::Unconfirmed => region.withdraw(),
            }
        }
        // No one function is to blame for a CPU that doesn't answer.
        let function = if matches!(error.cause, PokeCause::Cpu(_)) { None } else { self.name(error.at) };
        Err(RegisterError::Text { error, function })
    }

    /// The region that holds this address: O(log n).
    pub(super) fn region_of(&self, addr: TextAddr) -> Option<&Region> {
        let after = self.regions.partition_point(|region| region.text.start <= addr);
        self.regions.get(after.checked_sub(1)?).filter(|region| region.text.contains(addr))
    }

    /// The name of a function of the kernel's own. (A module's names go when it goes.)
    fn name(&self, addr: TextAddr) -> Option<&'static str> {
        self.region_of(addr).filter(|region| region.is_permanent()).and_then(|region| region.name(addr))
    }
}

/// The planned changes of all regions.
impl Batch<LiveWord> for Registry {
    #[inline]
    fn changes(&self) -> impl Iterator<Item = Change<LiveWord>> {
        Planned::of(&self.regions).map(|(region, record)| region.change(record))
    }

    #[inline]
    fn addresses(&self) -> impl Iterator<Item = TextAddr> {
        Planned::of(&self.regions).map(|(region, record)| record.call_addr(region.text.start))
    }
}
