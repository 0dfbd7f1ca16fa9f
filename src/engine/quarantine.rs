//! Callsites that are left alone, since somebody else has written their text, and text that is given back.
//!
//! A callsite that is left alone keeps its set, and with it the set's stub: whoever wrote a breakpoint over the
//! call of the stub may put the call back.

use super::Engine;
use super::change::SetChange;
use super::error::RegisterError;
use super::region::Region;
use super::registry::{Registry, Tools};
use super::sets::Sets;
use crate::address::TextRange;
use crate::callsite::State;
use crate::callsite::table::{CallsiteRecord, Planned, SetId};
use crate::ops::Ops;
use crate::text::{Cpu, PokeError};
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

impl Engine {
    /// Looks at the callsites again that are quarantined; how many are as the engine had left them, and in use again.
    ///
    /// A callsite whose text somebody else has written, or whose memory has become something else, is quarantined when the
    /// engine comes to change it: it keeps the text that is there and is passed over, so that it is no obstacle to all the
    /// others. [`Status::is_quarantined`](super::Status::is_quarantined) tells of it, and a warning in the log. If it called
    /// an ops, that can't be unregistered until the call is seen to be gone, or there again, or the text was given back. One
    /// that calls nothing has no ops until a filter is set anew.
    pub fn look_again(&self) -> usize {
        let mut registry = self.lock();
        let Registry { regions, members, sets, .. } = &mut *registry;
        let mut back = 0;
        for region in regions {
            back += region.look_again(sets, self.machine, |sets, target, text| {
                for number in 0..crate::ops::MAX_OPS {
                    if sets.members(target) >> number & 1 == 1
                        && let Some(member) = members.get_mut(number)
                    {
                        member.spans.add(text);
                    }
                }
            });
        }
        back
    }

    /// Gives a part of the text back, as a kernel does with its init text when it has started: its callsites lose their ops
    /// and are forgotten, and from then on the engine neither reads nor writes there. Returns how many callsites those were.
    /// Entries that were refused are forgotten as well, also those from just before, for which text there would be read.
    /// Of a module's text, what other callsites of it go through must not be given back: the room for veneers.
    ///
    /// Memory that comes to hold a module's text later is given by [`Regions::add`](crate::module::regions::Regions::add); the engine
    /// takes it where what was given back is at the end of the image's text.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]: the text must stay. With [`RegisterError::NotQuiescent`] the callsites have lost their ops already.
    pub fn forget(&self, range: TextRange) -> Result<usize, RegisterError> {
        let mut registry = self.lock();
        let registry = &mut *registry;
        if let Err(error) = registry.plan_clearing(range) {
            registry.withdraw();
            return Err(error);
        }
        registry.carry_out(None, self.tools())?;
        let Registry { regions, sets, .. } = registry;
        regions.iter_mut().for_each(|region| region.release(range, sets));
        registry.quiesce_and_reclaim(self.tools()).map_err(RegisterError::NotQuiescent)?;
        Ok(registry.regions.iter_mut().map(|region| region.forget(range)).sum())
    }
}

/// The engine's lock. When it is given back, what was quarantined meanwhile is told: not before, since what writes the log may
/// ask the engine for a name.
pub(super) struct Held<'e>(ManuallyDrop<spin::MutexGuard<'e, Registry>>);

impl<'e> Held<'e> {
    pub(super) const fn new(guard: spin::MutexGuard<'e, Registry>) -> Self {
        Self(ManuallyDrop::new(guard))
    }
}

impl Deref for Held<'_> {
    type Target = Registry;

    #[inline]
    fn deref(&self) -> &Registry {
        &self.0
    }
}

impl DerefMut for Held<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Registry {
        &mut self.0
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let news = core::mem::take(&mut self.0.news);
        // SAFETY: dropped once, here, and not used any more.
        unsafe { ManuallyDrop::drop(&mut self.0) };
        if news > 0 {
            log::warn!("fentry: {news} callsites quarantined: somebody else has written their text");
        }
    }
}

impl Registry {
    /// Plans that no callsite of which a part is inside `range` has any ops.
    fn plan_clearing(&mut self, range: TextRange) -> Result<(), RegisterError> {
        if self.env.is_none() {
            return Err(RegisterError::NotInitialised);
        }
        let mut change = SetChange::clearing(&mut self.sets, &self.members);
        let planned = self.regions.iter_mut().try_for_each(|region| region.plan_within(range, &mut change));
        planned.map_err(|refused| self.refused(refused))
    }

    /// Sees that the text is what the planned changes start from. Callsites where it isn't are quarantined, and left out of
    /// the plan; unless the ops that is `wanted` somewhere would be nowhere then.
    pub(super) fn check(&mut self, wanted: Option<usize>, tools: Tools) -> Result<(), PokeError> {
        // Whoever writes there may do so again meanwhile.
        const ATTEMPTS: usize = 4;
        let mut left = ATTEMPTS;
        loop {
            // SAFETY: callsites lie inside text that whoever gave it to the engine promises to be mapped.
            let Err(error) = (unsafe { tools.poke().check_live(&*self) }) else { return Ok(()) };
            left -= 1;
            let is_nowhere = |number| self.plans_for(number) && !self.would_have(number, tools.machine);
            if left == 0 || wanted.is_some_and(is_nowhere) {
                return Err(error);
            }
            for region in &mut self.regions {
                self.news += region.quarantine(&self.sets, tools.machine);
            }
        }
    }

    /// Whether a callsite shall get the ops of this number.
    fn plans_for(&self, number: usize) -> bool {
        let has = |target| self.sets.members(target) >> number & 1 == 1;
        self.regions.iter().any(|region| region.planned_callsites().any(|(next, _)| has(next)))
    }

    /// Whether a callsite whose text is as it should be would have the ops of this number when the plan was carried out.
    fn would_have(&self, number: usize, machine: Cpu) -> bool {
        let has =
            |record: &CallsiteRecord| !record.is_quarantined() && self.sets.members(record.next()) >> number & 1 == 1;
        self.regions.iter().any(|region| {
            let mut records = region.table.records(0..region.table.len()).filter(has);
            records.any(|record| !region.is_damaged(record, &self.sets, machine))
        })
    }

    /// How many callsites have the ops of this number and are not quarantined.
    pub(super) fn count_with(&self, number: usize) -> usize {
        let has =
            |record: &CallsiteRecord| !record.is_quarantined() && self.sets.members(record.now()) >> number & 1 == 1;
        self.regions.iter().map(|region| region.table.records(0..region.table.len()).filter(has).count()).sum()
    }

    /// Whether no callsite has the ops of this number any more, not even one that is quarantined.
    pub(super) fn none_has(&self, number: usize) -> Result<(), RegisterError> {
        match self.sets.callsites_with(number) {
            0 => Ok(()),
            callsites => Err(RegisterError::Quarantined { callsites }),
        }
    }

    /// The same for this number of the ops and those that it had before.
    pub(super) fn all_released(&self, number: usize, ops: &Ops) -> Result<(), RegisterError> {
        let before = self.members.iter().filter(|(_, member)| member.retired && core::ptr::eq(member.ops, ops));
        before.map(|(number, _)| number).chain([number]).try_for_each(|number| self.none_has(number))
    }
}

impl Region {
    /// Whether a change is planned for a callsite whose text is not what that starts from.
    fn is_damaged(&self, record: CallsiteRecord, sets: &Sets, machine: Cpu) -> bool {
        let callsite = record.callsite(self.text.start);
        record.differs() && self.text_state(&callsite, machine) != Ok(self.state(sets, record))
    }

    /// Leaves those callsites with planned changes alone from now on whose text is not what they start from; how many.
    fn quarantine(&mut self, sets: &Sets, machine: Cpu) -> usize {
        let mut count = 0;
        for index in self.planned.span.clone() {
            if self.table.get(index).is_some_and(|record| self.is_damaged(record, sets, machine)) {
                self.table.update(index, |record| *record = record.quarantined());
                count += 1;
            }
        }
        if count > 0 {
            // What is planned for the others is not the same for all neighbours any more.
            self.planned = Planned::within(self.planned.span.clone());
        }
        count
    }

    /// Looks at the callsites again that are left alone; how many are as they should be, and in use again. `calling` is told
    /// where one calls what it did.
    fn look_again(&mut self, sets: &mut Sets, machine: Cpu, mut calling: impl FnMut(&Sets, SetId, TextRange)) -> usize {
        let mut count = 0;
        for index in 0..self.table.len() {
            let Some(record) = self.table.get(index).filter(|record| record.is_quarantined()) else { continue };
            let callsite = record.callsite(self.text.start);
            match self.text_state(&callsite, machine) {
                Ok(State::Disabled) => {
                    self.let_go_of(index, record, sets);
                    self.table.update(index, |record| *record = record.in_use());
                }
                Ok(state) if state == self.state(sets, record) => {
                    self.table.update(index, |record| *record = record.in_use());
                    let call = callsite.call_addr();
                    calling(sets, record.now(), TextRange::new(call, call.offset(4)));
                }
                _ => continue,
            }
            count += 1;
        }
        count
    }

    /// Callsites inside `range` that are left alone call nothing: nobody executes them any more.
    pub(super) fn release(&mut self, range: TextRange, sets: &mut Sets) {
        for index in self.table.within(range) {
            if let Some(record) = self.table.get(index).filter(|record| record.is_quarantined()) {
                self.let_go_of(index, record, sets);
            }
        }
    }

    /// The callsite of this record has no set any more.
    fn let_go_of(&mut self, index: usize, record: CallsiteRecord, sets: &mut Sets) {
        if record.now() != SetId::NONE {
            sets.count(record.now(), SetId::NONE, 1);
            if let Some(veneers) = &mut self.veneers {
                veneers.count(record.now(), SetId::NONE, 1);
            }
        }
        self.table.update(index, |record| *record = record.with_both(SetId::NONE));
    }

    /// How many callsites are left alone.
    pub(super) fn quarantined(&self) -> usize {
        self.table.records(0..self.table.len()).filter(|record| record.is_quarantined()).count()
    }

    /// Forgets the part of the text inside `range`, where no callsite has a set; how many callsites that were.
    fn forget(&mut self, range: TextRange) -> usize {
        let count = self.table.forget(range);
        self.text = self.table.text();
        count
    }
}
