//! Carrying a plan out: makes the stubs and veneers that it needs, checks the text, writes it, and notes what was done; and
//! waits until what it made unused can be reclaimed.

use super::error::RegisterError;
use super::members::Member;
use super::plan::Plan;
use super::region::Region;
use super::registry::{Failed, Registry};
use super::sets::StubError;
use super::veneers::Veneers;
use crate::callsite::table::CallsiteRecord;
use crate::callsite::{LiveWord, WordChange};
use crate::platform::CpuTimeout;
use crate::text::{Batch, PokeCause, PokeError, TextPoke, TextWord, Undone};
use core::ops::ControlFlow;

impl Plan<'_> {
    /// Carries out a plan that gives `selected` callsites the ops of this number; returns how many have it then.
    ///
    /// An ops that was leaving has its exits handled again before the first entry is. It goes on leaving if this fails,
    /// unless some callsites have it for good, which could not be put back.
    #[inline(always)]
    pub(super) fn give(mut self, number: usize, selected: usize) -> Result<usize, Failed> {
        let quarantined_before = self.registry.newly_quarantined;
        let was_leaving = self.registry.members.get_mut(number).is_some_and(Member::rejoin);
        let done = self.execute(Some(number));
        if done.is_err() && was_leaving {
            self.registry.leave_again(number);
        }
        done?;
        let fewer = self.registry.newly_quarantined > quarantined_before;
        Ok(if fewer { self.registry.callsites_calling(number) } else { selected })
    }

    /// Carries out the plan. `wanted` is the ops whose callsites are the purpose, if they are.
    #[inline]
    pub(super) fn carry_out(mut self, wanted: Option<usize>) -> Result<(), Failed> {
        self.execute(wanted)
    }

    // Its steps are functions of their own, so that what one has on the stack is not there under the next.
    #[inline]
    fn execute(&mut self, wanted: Option<usize>) -> Result<(), Failed> {
        self.registry.prepare()?;
        self.registry.check(wanted)?;
        // SAFETY: 1. just checked. 2. just prepared.
        unsafe { self.registry.write() }?;
        self.registry.note_written();
        self.is_carried_out = true;
        Ok(())
    }
}

impl Registry {
    /// Writes the text.
    ///
    /// # Safety
    ///
    /// 1. The text was just [checked](Self::check).
    /// 2. What the new words call was [prepared](Self::prepare).
    #[inline(never)]
    unsafe fn write(&mut self) -> Result<(), Failed> {
        let mut written = Ok(());
        // SAFETY: 1. our caller's first promise. 2. The second; stubs and veneers are reclaimed after quiescence only, and that
        // a direct trampoline is complete and stays is `Ops::direct`'s caller's promise.
        unsafe { self.poke().apply_live(&*self, &mut written) };
        match &written {
            Ok(()) => Ok(()),
            Err(error) => Err(self.write_failure(error)),
        }
    }

    /// The ops of this number could not be given callsites, and goes on leaving, unless some have it for good.
    #[cold]
    #[inline(never)]
    fn leave_again(&mut self, number: usize) {
        if !self.sets.some_callsite_has(number) {
            self.members.get_mut(number).into_iter().for_each(Member::leave);
        }
    }

    /// Notes what was written.
    #[inline(never)]
    fn note_written(&mut self) {
        let Self { regions, sets, history, .. } = self;
        history.batches += 1;
        for region in regions {
            history.changes += region.commit(sets);
        }
    }

    /// A batch was not carried out, or in part only.
    #[cold]
    #[inline(never)]
    fn write_failure(&mut self, error: &PokeError) -> Failed {
        if matches!(error.undone, Undone::AllBut(_)) {
            let Self { regions, sets, machine, .. } = &mut *self;
            regions.iter_mut().for_each(|region| region.resync_from_text(sets, *machine));
        }
        self.text_failure(error)
    }

    #[cold]
    #[inline(never)]
    fn text_failure(&mut self, error: &PokeError) -> Failed {
        let error = *error;
        self.history.failures += 1;
        // No one function is to blame for a CPU that doesn't answer.
        let function =
            if matches!(error.cause, PokeCause::Cpu(_) | PokeCause::Hold(_)) { None } else { self.name(error.at) };
        self.fail(|| RegisterError::Text { error, function })
    }

    #[cold]
    #[inline(never)]
    fn stub_failure(&mut self) -> Failed {
        let error = match self.sets.take_failure() {
            StubError::Room => RegisterError::NoRoom { room: self.sets.room.text() },
            StubError::Reach(error) => RegisterError::Stub(error),
            StubError::Text(error) => RegisterError::Text { error, function: None },
            StubError::TooLong { bytes } => RegisterError::StubTooLong { bytes },
        };
        self.fail(|| error)
    }

    /// Makes the stubs and veneers that the planned changes need, and checks that the callsites reach them.
    #[inline(never)]
    fn prepare(&mut self) -> Result<(), Failed> {
        if let Some(needed) = self.sets.needed() {
            return Err(self.fail(|| RegisterError::TooManySets { needed }));
        }
        let poke = self.poke();
        let Some(env) = self.stub_env.as_ref() else { return Err(self.fail(|| RegisterError::NotInitialised)) };
        let is_planned = |set| self.regions.iter().any(|region| region.plans(set));
        if !self.sets.make_stubs(&self.members, env, poke, is_planned) {
            return Err(self.stub_failure());
        }
        self.make_veneers(poke)?;
        self.check_reach()
    }

    #[inline(never)]
    fn make_veneers(&mut self, poke: TextPoke<'_>) -> Result<(), Failed> {
        let Self { regions, sets, failure, .. } = self;
        *failure = None;
        for region in regions {
            region.make_veneers(sets, poke, failure);
            if failure.is_some() {
                return Err(Failed::NOTED);
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn check_reach(&mut self) -> Result<(), Failed> {
        match self.regions.iter().try_for_each(|region| region.check_reach(&self.sets)) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(|| RegisterError::OutOfReach(error))),
        }
    }

    /// Checks that the text is what the planned changes start from. Callsites where it isn't are quarantined, and left out of
    /// the plan; unless the ops that is `wanted` somewhere would be nowhere then.
    #[inline(never)]
    fn check(&mut self, wanted: Option<usize>) -> Result<(), Failed> {
        // Whoever writes there may do so again meanwhile.
        const ATTEMPTS: usize = 4;
        let mut left = ATTEMPTS;
        loop {
            // SAFETY: 1. the word before is the callsite's first, and inside the region's text as well.
            let Err(error) = (unsafe { self.poke().check_live(&*self) }) else { return Ok(()) };
            left -= 1;
            let would_be_nowhere = |number| self.plans_for(number) && !self.would_have(number);
            if left == 0 || wanted.is_some_and(would_be_nowhere) {
                return Err(self.text_failure(&error));
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
    #[cold]
    #[inline(never)]
    fn callsites_calling(&self, number: usize) -> usize {
        let has = |record: &CallsiteRecord| !record.is_quarantined() && self.sets.has(record.now(), number);
        self.regions.iter().map(|region| region.table.records(0..region.table.len()).filter(has).count()).sum()
    }

    /// Reclaims the stubs and veneers that no callsite calls any more, if there are any, once no CPU is inside them.
    #[inline(never)]
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
    pub(super) fn quiesce(&self) -> Result<(), CpuTimeout> {
        self.platform.quiesce(&self.stub_ranges)
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
