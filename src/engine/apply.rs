//! Carrying a plan out: makes the stubs and veneers that it needs, checks the text, writes it, and notes what was done; and
//! waits until what it made unused can be reclaimed.

use super::error::RegisterError;
use super::members::Member;
use super::plan::Plan;
use super::region::Region;
use super::registry::Registry;
use super::sets::StubError;
use super::veneers::{VeneerError, Veneers};
use crate::address::TextRange;
use crate::callsite::table::CallsiteRecord;
use crate::callsite::{LiveWord, WordChange};
use crate::platform::{CpuTimeout, MAX_STUB_RANGES};
use crate::text::{Batch, PokeCause, PokeError, TextWord, Undone};
use arrayvec::ArrayVec;
use core::ops::ControlFlow;

impl Plan<'_> {
    /// Carries out a plan that gives `selected` callsites the ops of this number; returns how many have it then.
    ///
    /// An ops that was leaving has its exits handled again before the first entry is. It goes on leaving if this fails,
    /// unless some callsites have it for good, which could not be put back.
    #[inline]
    pub(super) fn give(mut self, number: usize, selected: usize) -> Result<usize, RegisterError> {
        let quarantined_before = self.registry.newly_quarantined;
        let was_leaving = self.registry.members.get_mut(number).is_some_and(Member::rejoin);
        let done = self.execute(Some(number));
        let Registry { members, sets, newly_quarantined, .. } = &mut *self.registry;
        if done.is_err() && was_leaving && !sets.some_callsite_has(number) {
            members.get_mut(number).into_iter().for_each(Member::leave);
        }
        done?;
        Ok(if *newly_quarantined > quarantined_before { self.registry.callsites_calling(number) } else { selected })
    }

    /// Carries out the plan. `wanted` is the ops whose callsites are the purpose, if they are.
    #[inline]
    pub(super) fn carry_out(mut self, wanted: Option<usize>) -> Result<(), RegisterError> {
        self.execute(wanted)
    }

    // One function with all of its steps: between them, calls would cost more than most steps do.
    #[inline(never)]
    fn execute(&mut self, wanted: Option<usize>) -> Result<(), RegisterError> {
        let registry = &mut *self.registry;
        registry.prepare()?;
        if let Err(error) = registry.check(wanted) {
            registry.history.failures += 1;
            return Err(registry.text_error(error));
        }
        // SAFETY: 1. just checked. 2. `prepare` has made what the new words call, and stubs and veneers are reclaimed after
        // quiescence only; that a direct trampoline is complete and stays is `Ops::direct`'s caller's promise.
        let written = unsafe { registry.poke().apply_live(&*registry) };
        let Registry { regions, sets, history, machine, .. } = registry;
        let Err(error) = written else {
            history.batches += 1;
            for region in regions {
                history.changes += region.commit(sets);
            }
            self.is_carried_out = true;
            return Ok(());
        };
        history.failures += 1;
        if matches!(error.undone, Undone::AllBut(_)) {
            regions.iter_mut().for_each(|region| region.resync_from_text(sets, *machine));
        }
        Err(self.registry.text_error(error))
    }
}

impl Registry {
    fn text_error(&self, error: PokeError) -> RegisterError {
        // No one function is to blame for a CPU that doesn't answer.
        let function = if matches!(error.cause, PokeCause::Cpu(_)) { None } else { self.name(error.at) };
        RegisterError::Text { error, function }
    }

    /// Makes the stubs and veneers that the planned changes need, and checks that the callsites reach them.
    #[inline]
    fn prepare(&mut self) -> Result<(), RegisterError> {
        let poke = self.poke();
        let env = self.stub_env.as_ref().ok_or(RegisterError::NotInitialised)?;
        let is_planned = |set| self.regions.iter().any(|region| region.plans(set));
        self.sets.make_stubs(&self.members, env, poke, is_planned).map_err(|error| match error {
            StubError::Room => RegisterError::NoRoom { room: self.sets.room.text() },
            StubError::Reach(error) => RegisterError::Stub(error),
            StubError::Text(error) => RegisterError::Text { error, function: None },
            StubError::TooLong { bytes } => RegisterError::StubTooLong { bytes },
        })?;
        for region in &mut self.regions {
            region.make_veneers(&self.sets, poke).map_err(|error| match error {
                VeneerError::Full(room) => RegisterError::NoRoom { room },
                VeneerError::Reach(error) => RegisterError::Stub(error),
                VeneerError::Text(error) => RegisterError::Text { error, function: None },
            })?;
        }
        self.regions.iter().try_for_each(|region| region.check_reach(&self.sets)).map_err(RegisterError::OutOfReach)
    }

    /// Checks that the text is what the planned changes start from. Callsites where it isn't are quarantined, and left out of
    /// the plan; unless the ops that is `wanted` somewhere would be nowhere then.
    #[inline]
    fn check(&mut self, wanted: Option<usize>) -> Result<(), PokeError> {
        // Whoever writes there may do so again meanwhile.
        const ATTEMPTS: usize = 4;
        let mut left = ATTEMPTS;
        loop {
            // SAFETY: 1. the word before is the callsite's first, and inside the region's text as well.
            let Err(error) = (unsafe { self.poke().check_live(&*self) }) else { return Ok(()) };
            left -= 1;
            let would_be_nowhere = |number| self.plans_for(number) && !self.would_have(number);
            if left == 0 || wanted.is_some_and(would_be_nowhere) {
                return Err(error);
            }
            for region in &mut self.regions {
                self.newly_quarantined += region.quarantine(&self.sets, self.machine);
            }
        }
    }

    /// Whether a callsite is planned to get the ops of this number.
    fn plans_for(&self, number: usize) -> bool {
        let mut regions = self.regions.iter();
        regions.any(|region| region.planned_callsites().any(|(next, _)| self.sets.has(next, number)))
    }

    /// Whether a callsite whose text is as it should be would have the ops of this number once the plan is carried out.
    fn would_have(&self, number: usize) -> bool {
        let has = |record: &CallsiteRecord| !record.is_quarantined() && self.sets.has(record.next(), number);
        self.regions.iter().any(|region| {
            let mut records = region.table.records(0..region.table.len()).filter(has);
            records.any(|record| !region.is_damaged(record, &self.sets, self.machine))
        })
    }

    /// How many callsites have the ops of this number and are not quarantined.
    fn callsites_calling(&self, number: usize) -> usize {
        let has = |record: &CallsiteRecord| !record.is_quarantined() && self.sets.has(record.now(), number);
        self.regions.iter().map(|region| region.table.records(0..region.table.len()).filter(has).count()).sum()
    }

    /// Reclaims the stubs and veneers that no callsite calls any more, if there are any, once no CPU is inside them.
    pub(super) fn reclaim_unused(&mut self) -> Result<(), CpuTimeout> {
        let unused = |region: &Region| region.veneers.as_ref().is_some_and(Veneers::has_unused);
        if self.sets.has_unused() || self.regions.iter().any(unused) { self.quiesce_and_reclaim() } else { Ok(()) }
    }

    /// Waits until no CPU is inside a callback or a stub, and reclaims what no callsite calls any more.
    pub(super) fn quiesce_and_reclaim(&mut self) -> Result<(), CpuTimeout> {
        self.quiesce()?;
        self.sets.reclaim();
        let Self { members, sets, .. } = self;
        members.reclaim(|number| sets.some_has(number));
        for region in &mut self.regions {
            if let Some(veneers) = &mut region.veneers {
                veneers.reclaim();
            }
        }
        Ok(())
    }

    /// Waits until no CPU is inside a callback or a stub, or on the way there.
    fn quiesce(&self) -> Result<(), CpuTimeout> {
        let mut stubs = ArrayVec::<TextRange, MAX_STUB_RANGES>::new();
        stubs.extend(self.stub_env.iter().flat_map(|env| env.stubs.text));
        stubs.push(self.sets.room.text());
        stubs.extend(self.regions.iter().filter_map(|region| region.veneers.as_ref()).map(Veneers::room));
        self.platform.quiesce(&stubs)
    }
}

/// The planned changes of all regions.
impl Batch<LiveWord> for Registry {
    #[inline]
    fn for_each_change<B>(
        &self,
        mut each: impl FnMut(WordChange<LiveWord, TextWord>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.regions.iter().try_for_each(|region| region.for_each_change(&self.sets, &mut each))
    }

    #[inline]
    fn for_each_address<B>(&self, mut each: impl FnMut(TextWord) -> ControlFlow<B>) -> ControlFlow<B> {
        self.regions.iter().try_for_each(|region| region.for_each_address(&mut each))
    }
}
