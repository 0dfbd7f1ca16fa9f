//! Modules: regions that come and go while the kernel runs.
//!
//! Feature `module`. The loader hands a module's text over before anything of it runs, so that its callsites can be made
//! ready, and filters applied to them, without a CPU in it; and takes it back when nothing of it runs any more.

use super::Engine;
use super::change::{Refused, SetChange};
use super::error::RegisterError;
use super::names::Origin;
use super::plan::Plan;
use super::region::Region;
use super::registry::Registry;
use super::veneers::Veneers;
use crate::address::TextRange;
use crate::callsite::table::{Encoding, Slots, Table};
use crate::callsite::veneer::reaches;
use crate::filter::Filter;
use crate::module::regions::{NewRegion, NotRemoved, RegionCause, RegionError, RegionToken, Regions};
use crate::symbols::OwnedSymbols;
use crate::text::TextWord;
use alloc::string::String;

/// Traces modules.
///
/// A filter that was registered before a module was loaded applies to it as well; that it selects nothing there is no error.
// SAFETY:
// 1. Callsites are written as those of the image are, each word checked before; a veneer is written into its room before a
//    callsite goes there.
// 2. A region whose `add` fails is taken out of the registry, and only what is in there is ever read or written.
// 3. So it is by `remove`, after its callsites were disabled and every CPU was quiescent.
// 4. A region is found by the number of its token, which no other one has.
unsafe impl Regions for Engine {
    unsafe fn add(&self, new: NewRegion<'_>) -> Result<RegionToken, RegionError> {
        let mut registry = self.lock();
        let registry = &mut *registry;
        let text = new.text;
        let refuse = |cause| RegionError { text, cause };
        if registry.stub_env.is_none() {
            return Err(refuse(RegionCause::NotInitialised));
        }
        let needed = registry.regions.len() + 1;
        if needed > registry.regions.capacity() {
            return Err(refuse(RegionCause::TooManyRegions { needed }));
        }
        if !text.start.is_aligned() || !new.veneers.start.is_aligned() {
            return Err(refuse(RegionCause::Misaligned));
        }
        let place = registry.regions.partition_point(|region| region.text.start < text.start);
        let overlaps = |region: &Region| region.text.start < text.end && text.start < region.text.end;
        if registry.regions.iter().any(overlaps) {
            return Err(refuse(RegionCause::Overlapping));
        }
        let token = RegionToken::fresh();
        // SAFETY: all are our caller's promises, and the same.
        let region = unsafe { registry.build_region(new, &token) }.map_err(refuse)?;
        let veneers = region.veneer_room();
        registry.add_stub_range(veneers, &self.stub_text);
        registry.regions.insert(place, region);
        match registry.apply_filters(place) {
            Ok(()) => Ok(token),
            Err(cause) => {
                registry.remove_stub_range(veneers, &self.stub_text);
                let Some(mut region) = registry.regions.remove(place) else { return Err(refuse(cause)) };
                region.clear(text, &mut registry.sets);
                // Where the platform fails a second time, they stay ready.
                // SAFETY: 1. our caller's third promise: nor is the text executed if this returns an error.
                let _ = unsafe { registry.poke().apply_quiet(&|| region.to_compiled()) };
                Err(refuse(cause))
            }
        }
    }

    fn remove(&self, token: RegionToken) -> Result<(), NotRemoved> {
        let mut registry = self.lock();
        match registry.remove_region(token.number()) {
            Ok(veneers) => {
                registry.remove_stub_range(veneers, &self.stub_text);
                Ok(())
            }
            Err(error) => Err(NotRemoved { token, error }),
        }
    }
}

impl Registry {
    /// Builds the table of a region and makes its callsites ready.
    ///
    /// # Safety
    ///
    /// As for [`Regions::add`].
    unsafe fn build_region(&self, new: NewRegion<'_>, token: &RegionToken) -> Result<Region, RegionCause> {
        let NewRegion { module, text, entries, symbols, veneers } = new;
        let mut name = String::new();
        name.try_reserve_exact(module.len()).map_err(|_| RegionCause::Heap)?;
        name.push_str(module);
        let ends = |range: TextRange| [range.start, range.end.offset(-4)];
        let stubs = ends(self.sets.room.text());
        let near = ends(text).into_iter().all(|from| stubs.into_iter().all(|stub| reaches(from, stub)));
        let veneers = if near { None } else { Some(Veneers::new(veneers).ok_or(RegionCause::Heap)?) };
        let (mut slots, machine) = (Slots::Owned(entries.into_boxed_slice()), self.machine);
        slots.sort(Encoding::Absolute).map_err(RegionCause::Table)?;
        let read = |at| {
            // SAFETY: 1. and 2. the table asks for aligned addresses inside the text only, which is mapped: our caller's
            // first promise.
            unsafe { TextWord::new(at) }.load(machine)
        };
        let symbols = (!symbols.is_empty()).then(|| OwnedSymbols::parse(symbols)).transpose();
        let symbols = symbols.map_err(RegionCause::Symbols)?;
        let names = symbols.as_ref().map(OwnedSymbols::get);
        let (table, _) = Table::build(text, TextRange::EMPTY, slots, Encoding::Absolute, None, names, read)
            .map_err(RegionCause::Table)?;
        let origin = Origin::Module { number: token.number(), name: name.into_boxed_str(), symbols };
        let region = Region::of_module(text, table, veneers, origin);
        // SAFETY: 1. the text isn't executed yet: our caller's third promise.
        let ready = unsafe { self.poke().apply_quiet(&|| region.to_ready()) };
        ready.map(|()| region).map_err(RegionCause::Text)
    }

    /// Applies the filters that are set to the region at `place`.
    fn apply_filters(&mut self, place: usize) -> Result<(), RegionCause> {
        let mut plan = Plan::new(self);
        plan.add_region(place)?;
        let done = plan.carry_out(None);
        Ok(self.told(done)?)
    }

    /// Takes the ops away from the callsites of a module's region, and then removes the region; returns the room of its
    /// veneers.
    fn remove_region(&mut self, token: u64) -> Result<TextRange, RegionError> {
        let unknown = RegionError { text: TextRange::EMPTY, cause: RegionCause::Unknown };
        let place = self.regions.iter().position(|region| region.is_of(token)).ok_or(unknown)?;
        let text = self.regions[place].text;
        let refuse = |cause| RegionError { text, cause };
        match self.regions[place].claims {
            0 => {}
            instructions => return Err(refuse(RegionCause::Probed { instructions })),
        }
        let mut plan = Plan::new(self);
        plan.clear_region(place).map_err(|refused| refuse(refused.into()))?;
        let done = plan.carry_out(None);
        self.told(done).map_err(|error| refuse(error.into()))?;
        // Nobody executes the text any more, whatever is written there.
        self.regions[place].clear(text, &mut self.sets);
        self.quiesce_and_reclaim().map_err(|error| refuse(RegionCause::NotQuiescent(error)))?;
        Ok(self.regions.remove(place).map_or(TextRange::EMPTY, |region| region.veneer_room()))
    }
}

impl Plan<'_> {
    /// Plans, for every callsite of the region at `place`, the ops whose filters select it.
    fn add_region(&mut self, place: usize) -> Result<(), Refused> {
        let Registry { regions, members, sets, .. } = &mut *self.registry;
        let region = &mut regions[place];
        let text = region.text;
        for (number, member) in members.iter().filter(|(_, member)| member.takes_region(text)) {
            let mut change = SetChange::adding(sets, members, number);
            member.filter.with(|filter| region.plan_filter(filter, &mut change)).transpose()?;
            if member.hook.is_some() {
                // A rule that names such a function is no reason to refuse a module.
                let mut change = SetChange::removing(sets, members, number);
                let _ = region.plan_returning_twice(&Filter::ALL, &mut change);
            }
        }
        let planned = region.planned_text();
        for member in members.iter_mut().filter(|member| member.takes_region(text)) {
            member.spans.add(planned);
        }
        Ok(())
    }

    /// Plans that no callsite of the region at `place` has any ops.
    fn clear_region(&mut self, place: usize) -> Result<(), Refused> {
        let Registry { regions, members, sets, .. } = &mut *self.registry;
        regions[place].plan_all(&mut SetChange::clearing(sets, members)).map(drop)
    }
}

impl From<Refused> for RegionCause {
    fn from(Refused { function }: Refused) -> Self {
        Self::Conflict { function }
    }
}

impl From<RegisterError> for RegionCause {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::NotInitialised => Self::NotInitialised,
            RegisterError::Conflict { function, .. } => Self::Conflict { function },
            RegisterError::TooManySets { needed } => Self::TooManySets { needed },
            RegisterError::NoRoom { room } => Self::NoRoom { room },
            RegisterError::Stub(error) => Self::Stub(error),
            RegisterError::OutOfReach(error) => Self::OutOfReach(error),
            RegisterError::NotQuiescent(error) => Self::NotQuiescent(error),
            RegisterError::Text { error, .. } => Self::Text(error),
            RegisterError::StubTooLong { bytes } => Self::StubTooLong { bytes },
            // Said of an ops and its filter, and no ops is registered here.
            RegisterError::AlreadyRegistered
            | RegisterError::NotRegistered
            | RegisterError::TooManyOps { .. }
            | RegisterError::Permanent
            | RegisterError::NotDirect
            | RegisterError::NoCpuArea
            | RegisterError::NoCounter { .. }
            | RegisterError::NoNames { .. }
            | RegisterError::NothingSelected { .. }
            | RegisterError::NothingTakenAway { .. }
            | RegisterError::Quarantined { .. }
            | RegisterError::EmptySelection
            | RegisterError::Probed { .. }
            | RegisterError::ReturnsTwice { .. } => Self::Other("the filters that are set could not be applied"),
        }
    }
}
