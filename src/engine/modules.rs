//! Modules: regions that come and go while the kernel runs.
//!
//! Floor 4, feature `module`. The loader hands a module's text over before anything of it runs, so its callsites are made
//! ready, and the filter that is set now applied, at leisure; and takes it back when nothing of it runs any more.

use super::Engine;
use super::change::Change;
use super::error::RegisterError;
use super::members::{MAX_OPS, Member};
use super::region::Region;
use super::registry::Registry;
use super::veneers::Veneers;
use crate::address::TextRange;
use crate::plt::reaches;
use crate::region::{NewRegion, RegionError, RegionToken, Regions};
use crate::symbols::Symbols;
use crate::table::{Encoding, Table};
#[cfg(target_os = "none")]
use crate::text::Machine as _;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use core::ptr::NonNull;

/// What a region keeps alive, to be given back when it goes.
pub(super) struct Owned {
    slots: NonNull<[u64]>,
    symbols: NonNull<[u8]>,
    module: Box<str>,
}

impl Owned {
    /// The module's name.
    pub(super) const fn module(&self) -> &str {
        &self.module
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::leak` in `add`, and whoever drops this has dropped what borrowed it.
        drop(unsafe { Box::from_raw(self.slots.as_ptr()) });
        // SAFETY: the same.
        drop(unsafe { Box::from_raw(self.symbols.as_ptr()) });
    }
}

/// The engine traces modules.
///
/// A filter that was registered before a module was loaded applies to it as well; that it selects nothing there is no error.
impl Regions for Engine {
    fn add(&self, new: NewRegion<'_>) -> Result<RegionToken, RegionError> {
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
        let place = registry.regions.partition_point(|region| region.text.start < text.start);
        let overlaps = |region: &Region| region.text.start < text.end && text.start < region.text.end;
        if registry.regions.iter().any(overlaps) {
            return Err(refuse("it overlaps a region that is there already"));
        }
        let region = self.build(new, registry.sets.room.text()).map_err(refuse)?;
        registry.regions.insert(place, region);
        match self.apply_filters_to(registry, place) {
            // The start of its text tells a region for as long as it is there.
            Ok(()) => Ok(RegionToken(text.start.get())),
            Err(reason) => {
                let mut region = registry.regions.remove(place);
                region.give_up(&mut registry.sets);
                // SAFETY: as when they were made ready. Where the platform fails a second time, they stay so.
                let _ = unsafe { self.tools().poke().apply_quiet(&|| region.to_compiled()) };
                Err(refuse(reason))
            }
        }
    }

    fn remove(&self, token: RegionToken) -> Result<(), RegionError> {
        let mut registry = self.lock();
        let registry = &mut *registry;
        let unknown = RegionError { text: TextRange::EMPTY, reason: "there is no such region" };
        let known = |region: &Region| region.text.start.get() == token.0 && !region.is_permanent();
        let place = registry.regions.iter().position(known).ok_or(unknown)?;
        let region = &mut registry.regions[place];
        let text = region.text;
        let refuse = |reason| RegionError { text, reason };
        let planned = region.plan_all(&mut Change::clearing(&mut registry.sets, &registry.members));
        debug_assert!(planned.is_ok(), "nothing excludes nothing");
        registry.carry_out(self.tools()).map_err(|_| refuse("its callsites could not be disabled"))?;
        let quiescent = registry.let_go_of_all(self.tools());
        quiescent.map_err(|_| refuse("a CPU may still be inside a callback"))?;
        drop(registry.regions.remove(place));
        Ok(())
    }
}

impl Engine {
    /// Builds the table of a region and makes its callsites ready.
    fn build(&self, new: NewRegion<'_>, stubs: TextRange) -> Result<Region, &'static str> {
        let NewRegion { module, text, entries, layout, symbols, veneers, .. } = new;
        let ends = |range: TextRange| [range.start, range.end.offset(-4)];
        let near = ends(text).into_iter().all(|from| ends(stubs).into_iter().all(|stub| reaches(from, stub)));
        let veneers = (!near).then(|| Veneers::new(veneers));
        let mut owned = Owned {
            slots: NonNull::from(Box::leak(entries.into_boxed_slice())),
            symbols: NonNull::from(Box::leak(symbols)),
            module: module.into(),
        };
        // SAFETY: leaked above, and given to this region's table alone, which is gone before `owned` is dropped.
        let slots = unsafe { owned.slots.as_mut() };
        // SAFETY: leaked above; the names are gone before `owned` is dropped.
        let names = Symbols::parse(unsafe { owned.symbols.as_ref() }).ok();
        let machine = self.machine;
        let read = |at| {
            // SAFETY: the table asks for aligned addresses inside the text only, which the loader has mapped.
            unsafe { machine.load(at) }
        };
        let Ok((table, _)) = Table::build(text, TextRange::EMPTY, slots, Encoding::Absolute, Some(layout), names, read)
        else {
            return Err("its callsite section can't be used");
        };
        let region = Region::of_module(text, table, names, veneers, owned);
        // SAFETY: callsites lie inside the text, which is mapped, and nothing runs it before the loader calls init.
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
            member.filter.with(|filter| regions[place].plan_filter(filter, &mut change).map(drop))
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
