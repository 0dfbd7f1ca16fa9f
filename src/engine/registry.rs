//! What the engine knows: the regions, who is registered, which sets of ops there are; and how a wish becomes a plan for all
//! of them.

use super::change::{Refused, SetChange};
use super::error::{InitError, RegisterError};
use super::members::Members;
use super::region::{Region, ReturnsTwice};
use super::sets::{SetError, Sets, StubError};
use super::show::Statistics;
use super::spans::Spans;
use super::veneers::{VeneerError, Veneers};
use crate::address::{TextAddr, TextRange};
use crate::callsite::{LiveWord, WordChange};
use crate::filter::{Filter, Rule, Sign};
use crate::platform::{CpuTimeout, MAX_STUB_RANGES, Platform};
use crate::stub::StubEnv;
use crate::text::{Batch, Cpu, PokeCause, PokeError, TextPoke, Undone};
use arrayvec::ArrayVec;
use core::ops::ControlFlow;

/// The most regions that an engine holds: the kernel's image, and for each module its text and, while it starts, its init
/// text.
pub(super) const MAX_REGIONS: usize = if cfg!(feature = "module") { 128 } else { 1 };

// Each region's veneers, the room for stubs, and the linked stubs' two.
const _: () = assert!(MAX_STUB_RANGES == MAX_REGIONS + 3);

/// What the engine knows. Never moved: with room for many regions, ops and sets it is too large for a kernel's stack.
pub(super) struct Registry {
    /// Known once there is an image.
    pub(super) env: Option<StubEnv>,
    /// # Invariants
    ///
    /// In the order of their addresses, and none overlaps another.
    pub(super) regions: ArrayVec<Region, MAX_REGIONS>,
    pub(super) members: Members,
    pub(super) sets: Sets,
    /// What was done since init.
    pub(super) done: Statistics,
    /// How many callsites were quarantined since that was told.
    pub(super) news: usize,
}

/// What carries changes out.
#[derive(Clone, Copy)]
pub(super) struct Tools {
    pub(super) platform: &'static dyn Platform,
    pub(super) machine: Cpu,
}

impl Tools {
    pub(super) fn poke(self) -> TextPoke<'static> {
        TextPoke::new(self.platform, self.machine)
    }
}

/// Writes the stubs' two instructions each, and MOV X9, LR at every callsite of the image.
///
/// # Safety
///
/// Nothing runs the image's text meanwhile.
pub(super) unsafe fn make_ready(image: &Region, env: &StubEnv, poke: TextPoke<'_>) -> Result<(), InitError> {
    let StubEnv { stubs, context, .. } = env;
    let caller = stubs.caller.changes(*context).map_err(InitError::ContextOffset)?;
    let regs_caller = stubs.regs_caller.changes(*context).map_err(InitError::ContextOffset)?;
    let returning = stubs.returning.changes(*context).map_err(InitError::ContextOffset)?;
    let stubs = [caller, regs_caller, returning];
    // SAFETY: callsites lie inside the text and nothing runs it, as our caller promises; the stubs' labels are instructions
    // of ours, and no callsite calls them yet.
    unsafe { poke.apply_quiet(&Readying { stubs, image }) }.map_err(InitError::Text)
}

/// What init writes.
struct Readying<'a> {
    stubs: [[WordChange<u32>; 2]; 3],
    image: &'a Region,
}

impl Batch<u32> for Readying<'_> {
    #[inline]
    fn for_each_change<B>(&self, mut each: impl FnMut(WordChange<u32>) -> ControlFlow<B>) -> ControlFlow<B> {
        self.stubs.as_flattened().iter().copied().chain(self.image.to_ready()).try_for_each(&mut each)
    }
}

impl Registry {
    /// Nothing yet.
    pub(super) const EMPTY: Self = Self {
        env: None,
        regions: ArrayVec::new_const(),
        members: Members::EMPTY,
        sets: Sets::EMPTY,
        done: Statistics::NOTHING,
        news: 0,
    };

    /// Plans the ops of this number for every callsite that the filter selects; how many changes that adds.
    pub(super) fn plan_adding(&mut self, number: usize, filter: &Filter<'_>) -> Result<usize, RegisterError> {
        let mut change = SetChange::adding(&mut self.sets, &self.members, number);
        let selected = select(&mut self.regions, filter, &mut change);
        let count = selected.map_err(|error| match error {
            SelectError::NothingSelected(rule) => RegisterError::NothingSelected { rule },
            SelectError::NothingTakenAway(rule) => RegisterError::NothingTakenAway { rule },
            SelectError::Refused(refused) => self.refused(refused),
        })?;
        let left_out = self.leave_out(number, filter, count)?;
        self.check_counters(number).map(|()| count - left_out)
    }

    /// Takes those functions out of the plan of so many changes whose returns can't be hooked, if the ops of this number
    /// hooks returns; how many planned changes that takes away.
    fn leave_out(&mut self, number: usize, filter: &Filter<'_>, count: usize) -> Result<usize, RegisterError> {
        if self.members.get(number).is_none_or(|member| member.hook.is_none()) {
            return Ok(0);
        }
        // A few planned functions are looked at one by one; of many, those are looked for that have such a name.
        const FEW: usize = 8;
        if count <= FEW && !self.regions.iter().any(Region::plans_returning_twice) {
            return Ok(0);
        }
        let mut change = SetChange::removing(&mut self.sets, &self.members, number);
        let mut left_out = 0;
        for region in &mut self.regions {
            left_out += region.plan_returning_twice(filter, &mut change)?;
        }
        Ok(left_out)
    }

    /// Plans that no callsite has the ops of this number; how many changes that adds.
    pub(super) fn plan_removing(&mut self, number: usize) -> Result<usize, RegisterError> {
        let Some(spans) = self.members.get(number).map(|member| &member.spans) else { return Ok(0) };
        let mut change = SetChange::removing(&mut self.sets, &self.members, number);
        let planned = plan_spans(&mut self.regions, spans, &mut change);
        planned.map_err(|refused| self.refused(refused))
    }

    /// Plans the successor for every callsite that has the ops of this number.
    pub(super) fn plan_replacing(&mut self, number: usize, successor: usize) -> Result<usize, RegisterError> {
        let Some(spans) = self.members.get(number).map(|member| &member.spans) else { return Ok(0) };
        let mut change = SetChange::replacing(&mut self.sets, &self.members, number, successor);
        let planned = plan_spans(&mut self.regions, spans, &mut change);
        planned.map_err(|refused| self.refused(refused))
    }

    /// Plans that just the callsites that the filter selects have the ops of this number, or none at all: how many lose it,
    /// and how many have it then.
    pub(super) fn replan(
        &mut self,
        number: usize,
        filter: Option<&Filter<'_>>,
    ) -> Result<(usize, usize), RegisterError> {
        let planned = self.plan_removing(number).and_then(|removed| match filter {
            None => Ok((removed, 0)),
            Some(filter) => match self.plan_adding(number, filter)? {
                0 if !filter.awaits_module() => Err(RegisterError::EmptySelection),
                added => Ok((removed, added)),
            },
        });
        if planned.is_err() {
            self.withdraw();
        }
        planned
    }

    /// Carries out a plan that gives callsites the ops of this number.
    pub(super) fn settle(&mut self, number: usize, tools: Tools) -> Result<(), RegisterError> {
        self.note_spans(number);
        self.carry_out(Some(number), tools)
    }

    /// Takes back the number of an ops that should have been given to callsites, unless some have it, or a CPU may be on
    /// its way to it.
    pub(super) fn forget(&mut self, number: usize, tools: Tools) {
        let is_nowhere = !self.sets.some_has(number);
        if is_nowhere || (!self.sets.some_callsite_has(number) && self.reclaim_unused(tools).is_ok()) {
            self.remove(number, tools);
        }
    }

    pub(super) fn refused(&self, Refused { function, error }: Refused) -> RegisterError {
        match error {
            SetError::Conflict => RegisterError::Conflict { function, name: self.name(function) },
            SetError::Full => RegisterError::TooManySets,
        }
    }

    /// Gives up what is planned.
    pub(super) fn withdraw(&mut self) {
        self.regions.iter_mut().for_each(Region::withdraw);
        self.sets.forget_unmade();
    }

    /// Has the planned changes made, and commits or withdraws them. `wanted` is the ops that gets callsites, if one does.
    pub(super) fn carry_out(&mut self, wanted: Option<usize>, tools: Tools) -> Result<(), RegisterError> {
        let prepared = self.prepare(tools);
        if let Err(error) = prepared {
            self.withdraw();
            return Err(error);
        }
        if let Err(error) = self.check(wanted, tools) {
            self.done.failures += 1;
            self.withdraw();
            return Err(self.text_error(error));
        }
        // SAFETY: callsites lie inside text that whoever gave it to the engine promises to be mapped.
        let Err(error) = (unsafe { tools.poke().apply_live(&*self) }) else {
            self.done.batches += 1;
            for region in &mut self.regions {
                self.done.changes += region.commit(&mut self.sets);
            }
            return Ok(());
        };
        self.done.failures += 1;
        for region in &mut self.regions {
            match error.undone {
                Undone::AllBut(_) => region.resync_from_text(&mut self.sets, tools.machine),
                Undone::Entirely | Undone::Unconfirmed => region.withdraw(),
            }
        }
        Err(self.text_error(error))
    }

    fn text_error(&self, error: PokeError) -> RegisterError {
        // No one function is to blame for a CPU that doesn't answer.
        let function = if matches!(error.cause, PokeCause::Cpu(_)) { None } else { self.name(error.at) };
        RegisterError::Text { error, function }
    }

    /// Makes what the planned changes need, and looks whether they can be made.
    fn prepare(&mut self, tools: Tools) -> Result<(), RegisterError> {
        let env = self.env.as_ref().ok_or(RegisterError::NotInitialised)?;
        let is_planned = |set| self.regions.iter().any(|region| region.plans(set));
        self.sets.make_stubs(&self.members, env, tools.poke(), is_planned).map_err(|error| match error {
            StubError::Room => RegisterError::NoRoom { room: self.sets.room.text() },
            StubError::Reach(error) => RegisterError::Stub(error),
            StubError::Text(error) => RegisterError::Text { error, function: None },
            StubError::TooLong { bytes } => RegisterError::StubTooLong { bytes },
        })?;
        for region in &mut self.regions {
            region.make_veneers(&self.sets, tools.poke()).map_err(|error| match error {
                VeneerError::Full(room) => RegisterError::NoRoom { room },
                VeneerError::Reach(error) => RegisterError::Stub(error),
                VeneerError::Text(error) => RegisterError::Text { error, function: None },
            })?;
        }
        self.regions.iter().try_for_each(|region| region.check(&self.sets)).map_err(RegisterError::OutOfReach)
    }

    /// Waits until nobody is inside a stub or a veneer that no callsite calls any more, and drops those.
    pub(super) fn reclaim_unused(&mut self, tools: Tools) -> Result<(), CpuTimeout> {
        let unused = |region: &Region| region.veneers.as_ref().is_some_and(Veneers::has_unused);
        if self.sets.has_unused() || self.regions.iter().any(unused) { self.quiesce_and_reclaim(tools) } else { Ok(()) }
    }

    /// The same, but waits in any case.
    pub(super) fn quiesce_and_reclaim(&mut self, tools: Tools) -> Result<(), CpuTimeout> {
        self.quiesce(tools)?;
        self.sets.collect();
        let Self { members, sets, .. } = self;
        members.reclaim(|number| sets.some_has(number));
        for region in &mut self.regions {
            if let Some(veneers) = &mut region.veneers {
                veneers.collect();
            }
        }
        Ok(())
    }

    /// Waits until nobody is inside a callback or a stub, or on the way.
    pub(super) fn quiesce(&self, tools: Tools) -> Result<(), CpuTimeout> {
        let mut stubs = ArrayVec::<TextRange, MAX_STUB_RANGES>::new();
        stubs.extend(self.env.iter().flat_map(|env| env.stubs.text));
        stubs.push(self.sets.room.text());
        stubs.extend(self.regions.iter().filter_map(|region| region.veneers.as_ref()).map(|veneers| veneers.room()));
        tools.platform.quiesce(&stubs)
    }

    /// Where the planned changes are becomes part of where this ops's callsites are.
    pub(super) fn note_spans(&mut self, number: usize) {
        let Some(member) = self.members.get_mut(number) else { return };
        for region in &self.regions {
            member.spans.add(region.planned_text());
        }
    }

    /// The same for the region at `place` only.
    #[cfg(feature = "module")]
    pub(super) fn note_spans_of(&mut self, number: usize, place: usize) {
        if let (Some(member), Some(region)) = (self.members.get_mut(number), self.regions.get(place)) {
            member.spans.add(region.planned_text());
        }
    }

    /// The region that holds this address: O(log n).
    pub(super) fn region_of(&self, addr: TextAddr) -> Option<&Region> {
        let after = self.regions.partition_point(|region| region.text.start <= addr);
        self.regions.get(after.checked_sub(1)?).filter(|region| region.text.contains(addr))
    }

    /// The name of a function of the kernel's own. (A module's names go when it goes.)
    pub(super) fn name(&self, addr: TextAddr) -> Option<&'static str> {
        self.region_of(addr)?.permanent_name(addr)
    }
}

impl From<ReturnsTwice> for RegisterError {
    fn from(ReturnsTwice { function, name }: ReturnsTwice) -> Self {
        Self::ReturnsTwice { function, name }
    }
}

/// Why a filter's callsites were not all planned.
enum SelectError {
    NothingSelected(usize),
    NothingTakenAway(usize),
    Refused(Refused),
}

impl From<Refused> for SelectError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Plans a change for every callsite that the filter selects; how many planned changes that adds.
fn select(regions: &mut [Region], filter: &Filter<'_>, change: &mut SetChange<'_>) -> Result<usize, SelectError> {
    let positive = |rule: &Rule<'_>| rule.sign == Sign::Select;
    let mut changes = 0;
    if filter.rules().is_empty() {
        for region in regions {
            changes += region.plan_all(change)?;
        }
        return Ok(changes);
    }
    let unmet = |rule: &Rule<'_>| !rule.awaits_module() && !regions.iter().any(|region| region.has(rule));
    let mut negative = filter.rules().iter().enumerate().filter(|(_, rule)| !positive(rule));
    if let Some((number, _)) = negative.find(|(_, rule)| unmet(rule)) {
        return Err(SelectError::NothingTakenAway(number));
    }
    if !filter.rules().iter().any(positive) {
        for region in regions {
            changes += region.plan_selected(filter, change)?;
        }
        return Ok(changes);
    }
    for (number, rule) in filter.rules().iter().enumerate().filter(|(_, rule)| positive(rule)) {
        let mut matched = false;
        for region in &mut *regions {
            let (matched_here, changes_here) = region.plan_rule(rule, filter, change)?;
            matched |= matched_here;
            changes += changes_here;
        }
        if !matched && !rule.awaits_module() {
            return Err(SelectError::NothingSelected(number));
        }
    }
    Ok(changes)
}

/// Plans a change for every callsite in these spans; how many planned changes that adds.
fn plan_spans(regions: &mut [Region], spans: &Spans, change: &mut SetChange<'_>) -> Result<usize, Refused> {
    let mut changes = 0;
    for region in regions {
        let text = region.text;
        for span in spans.iter().filter(|span| span.start < text.end && text.start < span.end) {
            changes += region.plan_range(span, change)?;
        }
    }
    Ok(changes)
}

/// The planned changes of all regions.
impl Batch<LiveWord> for Registry {
    #[inline]
    fn for_each_change<B>(&self, mut each: impl FnMut(WordChange<LiveWord>) -> ControlFlow<B>) -> ControlFlow<B> {
        self.regions.iter().try_for_each(|region| region.for_each_change(&self.sets, &mut each))
    }

    #[inline]
    fn for_each_address<B>(&self, mut each: impl FnMut(TextAddr) -> ControlFlow<B>) -> ControlFlow<B> {
        self.regions.iter().try_for_each(|region| region.for_each_address(&mut each))
    }
}
