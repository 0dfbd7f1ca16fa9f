//! Modules: regions that come and go while the kernel runs.
//!
//! Floor 4, feature `module`. The loader hands a module's text over before anything of it runs, so its callsites are made
//! ready, and the filter that is set now applied, at leisure; and takes it back when nothing of it runs any more.

use super::Engine;
use super::change::{Change, Refused};
use super::error::RegisterError;
use super::members::{MAX_OPS, Member};
use super::region::{Origin, Region};
use super::registry::{Registry, Tools};
use super::veneers::Veneers;
use crate::address::TextRange;
use crate::filter::Filter;
use crate::plt::reaches;
use crate::region::{NewRegion, NotRemoved, RegionError, RegionToken, Regions};
use crate::symbols::OwnedSymbols;
use crate::table::{Encoding, Slots, Table};
#[cfg(target_os = "none")]
use crate::text::Machine as _;
use alloc::string::String;
use arrayvec::ArrayVec;

/// The engine traces modules.
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
        let refuse = |reason| RegionError { text, reason };
        if registry.ground.is_none() {
            return Err(refuse("the engine has not been initialised"));
        }
        if registry.regions.is_full() {
            return Err(refuse("there is no room for one more region"));
        }
        if !text.start.is_aligned() || !new.veneers.start.is_aligned() {
            return Err(refuse("it does not begin at an instruction"));
        }
        let place = registry.regions.partition_point(|region| region.text.start < text.start);
        let overlaps = |region: &Region| region.text.start < text.end && text.start < region.text.end;
        if registry.regions.iter().any(overlaps) {
            return Err(refuse("it overlaps a region that is there already"));
        }
        let token = RegionToken::fresh();
        // SAFETY: our caller's promises are those that `build` wants.
        let region = unsafe { self.build(new, registry.sets.room.text(), &token) }.map_err(refuse)?;
        registry.regions.insert(place, region);
        match self.apply_filters_to(registry, place) {
            Ok(()) => Ok(token),
            Err(reason) => {
                let mut region = registry.regions.remove(place);
                region.give_up(&mut registry.sets);
                // SAFETY: as when they were made ready. Where the platform fails a second time, they stay so.
                let _ = unsafe { self.tools().poke().apply_quiet(&|| region.to_compiled()) };
                Err(refuse(reason))
            }
        }
    }

    fn remove(&self, token: RegionToken) -> Result<(), NotRemoved> {
        let mut registry = self.lock();
        match registry.remove_region(token.number(), self.tools()) {
            Ok(()) => Ok(()),
            Err(error) => Err(NotRemoved { token, error }),
        }
    }
}

impl Registry {
    /// Takes the callsites of a module's region back, and then the region.
    fn remove_region(&mut self, token: u64, tools: Tools) -> Result<(), RegionError> {
        let unknown = RegionError { text: TextRange::EMPTY, reason: "there is no such region" };
        let place = self.regions.iter().position(|region| region.is_of(token)).ok_or(unknown)?;
        let region = &mut self.regions[place];
        let text = region.text;
        let refuse = |reason| RegionError { text, reason };
        if region.plan_all(&mut Change::clearing(&mut self.sets, &self.members)).is_err() {
            debug_assert!(false, "nothing excludes nothing");
            self.withdraw();
            return Err(refuse("its callsites could not be disabled"));
        }
        self.carry_out(tools).map_err(|_| refuse("its callsites could not be disabled"))?;
        self.let_go_of_all(tools).map_err(|_| refuse("a CPU may still be inside a callback"))?;
        drop(self.regions.remove(place));
        Ok(())
    }
}

impl Engine {
    /// Builds the table of a region and makes its callsites ready.
    ///
    /// # Safety
    ///
    /// As for [`Regions::add`].
    unsafe fn build(&self, new: NewRegion<'_>, stubs: TextRange, token: &RegionToken) -> Result<Region, &'static str> {
        let NewRegion { module, text, entries, symbols, veneers } = new;
        let mut name = String::new();
        name.try_reserve_exact(module.len()).map_err(|_| "the heap has no memory for its name")?;
        name.push_str(module);
        let ends = |range: TextRange| [range.start, range.end.offset(-4)];
        let near = ends(text).into_iter().all(|from| ends(stubs).into_iter().all(|stub| reaches(from, stub)));
        let veneers = (!near).then(|| Veneers::new(veneers));
        let (slots, machine) = (Slots::Owned(entries.into_boxed_slice()), self.machine);
        let read = |at| {
            // SAFETY: the table asks for aligned addresses inside the text only, which is mapped: our caller's promise 1.
            unsafe { machine.load(at) }
        };
        let symbols = OwnedSymbols::parse(symbols).ok();
        let names = symbols.as_ref().map(|symbols| *symbols.get());
        let Ok((table, _)) = Table::build(text, TextRange::EMPTY, slots, Encoding::Absolute, None, names, read)
        else {
            return Err("its callsite section can't be used");
        };
        let origin = Origin::Module { number: token.number(), name: name.into_boxed_str(), symbols };
        let region = Region::of_module(text, table, veneers, origin);
        // SAFETY: callsites lie inside the text, which is mapped, is written by nobody else, and isn't executed yet: our
        // caller's promises 1 to 3.
        let ready = unsafe { self.tools().poke().apply_quiet(&|| region.to_ready()) };
        ready.map(|()| region).map_err(|_| "its text could not be written")
    }

    /// Applies the filters that are set to the region at `place`.
    fn apply_filters_to(&self, registry: &mut Registry, place: usize) -> Result<(), &'static str> {
        let Registry { regions, members, sets, .. } = registry;
        let text = regions[place].text;
        let told = |(_, member): &(usize, &Member)| member.takes_new_regions() && member.can_count(text);
        let planned = members.iter().filter(told).try_for_each(|(number, member)| {
            let mut change = Change::adding(sets, members, number);
            let planned = member.filter.with(|filter| regions[place].plan_filter(filter, &mut change));
            planned.transpose()?;
            if member.hook.is_some() {
                // A rule that names one is no reason to refuse a module.
                let mut change = Change::removing(sets, members, number);
                let _ = regions[place].plan_returning_twice(&Filter::ALL, &mut change);
            }
            Ok::<_, Refused>(())
        });
        if planned.is_err() {
            registry.withdraw();
            return Err("two filters that are set exclude each other there");
        }
        let numbers: ArrayVec<usize, MAX_OPS> = registry.members.iter().map(|(number, _)| number).collect();
        numbers.into_iter().for_each(|number| registry.note_spans_of(number, place));
        let done: Result<(), RegisterError> = registry.carry_out(self.tools());
        done.map_err(|_| "the filters that are set could not be applied")
    }
}
