//! Quarantine of callsites whose text somebody else has written, and text that is given back.
//!
//! A quarantined callsite is left alone. It keeps its set, and with it the set's stub: whoever wrote a breakpoint over the
//! call of the stub may put the call back.

use super::Engine;
use super::error::RegisterError;
use super::plan::Plan;
use super::region::Region;
use super::registry::{Failed, Registry};
use super::sets::Sets;
use crate::address::TextRange;
use crate::callsite::State;
use crate::callsite::table::{CallsiteRecord, Planned, SetId};
use crate::ops::MAX_OPS;
use crate::text::Cpu;

impl Engine {
    /// Looks again at the callsites that are quarantined; returns how many are as the engine had left them, and in use again.
    ///
    /// A callsite whose text somebody else has written, or whose memory has become something else, is quarantined when the
    /// engine comes to change it: its text is left alone and it is skipped, so that it does not keep all the others from being
    /// changed. [`Status::is_quarantined`](super::Status::is_quarantined) shows it, and a warning is logged. If it called an
    /// ops, that ops can't be unregistered until the call is seen to be gone or restored, or the text was given back. One that
    /// calls nothing gets no ops until a filter is set again.
    pub fn look_again(&self) -> usize {
        let mut registry = self.lock();
        let Registry { regions, members, sets, machine, .. } = &mut *registry;
        let mut note_span = |sets: &Sets, set, text| {
            for number in (0..MAX_OPS).filter(|number| sets.has(set, *number)) {
                members.get_mut(number).into_iter().for_each(|member| member.spans.add(text));
            }
        };
        regions.iter_mut().map(|region| region.look_again(sets, *machine, &mut note_span)).sum()
    }

    /// Gives a part of the text back, as a kernel does with its init text when it has started: its callsites lose their ops
    /// and are forgotten, and from then on the engine neither reads nor writes there. Returns how many callsites those were.
    /// Refused entries are forgotten as well, also those just before the range whose decoding would read text in it. The room
    /// for a module's veneers must not be given back: its other callsites go through it. Text between two parts that are given
    /// back is no more looked at than they are, so that no new probe comes to it.
    ///
    /// Memory that holds a module's text later is added by [`Regions::add`](crate::module::regions::Regions::add), which the
    /// engine accepts if what was given back is at the end of the image's text.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]: the text must stay. With [`RegisterError::NotQuiescent`] the callsites have lost their ops already.
    pub fn forget(&self, range: TextRange) -> Result<usize, RegisterError> {
        let mut registry = self.lock();
        let done = registry.forget(range);
        registry.told(done)
    }
}

impl Registry {
    #[inline(never)]
    fn forget(&mut self, range: TextRange) -> Result<usize, Failed> {
        if self.stub_env.is_none() {
            return Err(self.fail(|| RegisterError::NotInitialised));
        }
        let is_probed = |region: &&Region| region.claims > 0 && !region.claimed.common(range).is_empty();
        if let Some(&Region { claims: instructions, .. }) = self.regions.iter().find(is_probed) {
            return Err(self.fail(|| RegisterError::Probed { instructions }));
        }
        let mut plan = Plan::new(self);
        plan.clear(range)?;
        plan.carry_out(None)?;
        let Self { regions, sets, .. } = &mut *self;
        regions.iter_mut().for_each(|region| region.clear(range, sets));
        self.quiesce_and_reclaim().map_err(|error| self.fail(|| RegisterError::NotQuiescent(error)))?;
        Ok(self.regions.iter_mut().map(|region| region.forget(range)).sum())
    }
}

impl Region {
    /// Whether a change is planned for a callsite whose text is not what the change starts from.
    pub(super) fn is_damaged(&self, record: CallsiteRecord, sets: &Sets, machine: Cpu) -> bool {
        let callsite = record.callsite(self.text.start);
        record.differs() && self.text_state(&callsite, machine) != Ok(self.state(sets, record))
    }

    /// Quarantines the callsites with planned changes whose text is not what these start from; returns their number.
    pub(super) fn quarantine(&mut self, sets: &Sets, machine: Cpu) -> usize {
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

    /// Looks again at the callsites that are quarantined; returns how many are as they should be, and in use again. Calls
    /// `calling` with the set and the place of each that calls what it did.
    fn look_again(&mut self, sets: &mut Sets, machine: Cpu, mut calling: impl FnMut(&Sets, SetId, TextRange)) -> usize {
        let mut count = 0;
        for index in 0..self.table.len() {
            let Some(record) = self.table.get(index).filter(|record| record.is_quarantined()) else { continue };
            let callsite = record.callsite(self.text.start);
            match self.text_state(&callsite, machine) {
                Ok(State::Disabled) => {
                    self.clear_set(index, record, sets);
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

    /// Notes that callsites of which a part is inside `range` call nothing, whatever their text says, as it may where they are
    /// quarantined: no CPU executes them any more.
    pub(super) fn clear(&mut self, range: TextRange, sets: &mut Sets) {
        for index in self.table.within(range) {
            if let Some(record) = self.table.get(index).filter(|record| record.now() != SetId::NONE) {
                self.clear_set(index, record, sets);
            }
        }
    }

    /// Notes that the callsite of this record has no set any more.
    fn clear_set(&mut self, index: usize, record: CallsiteRecord, sets: &mut Sets) {
        if record.now() != SetId::NONE {
            sets.count(record.now(), SetId::NONE, 1);
            if let Some(veneers) = &mut self.veneers {
                veneers.count(record.now(), SetId::NONE, 1);
            }
        }
        self.table.update(index, |record| *record = record.with_both(SetId::NONE));
    }

    /// How many callsites are quarantined.
    pub(super) fn quarantined(&self) -> usize {
        self.table.records(0..self.table.len()).filter(|record| record.is_quarantined()).count()
    }

    /// Forgets the part of the text inside `range`, where no callsite has a set; returns how many callsites that were.
    fn forget(&mut self, range: TextRange) -> usize {
        let count = self.table.forget(range);
        self.text = self.table.text();
        // (What was at the end is no part of the text any more.)
        self.forgotten = self.forgotten.hull(self.text.common(range));
        count
    }
}
