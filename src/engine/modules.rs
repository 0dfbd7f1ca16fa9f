//! Modules: regions that come and go while the kernel runs.
//!
//! Floor 4, feature `module`. The loader hands a module's text over before anything of it runs, so its callsites are made
//! ready, and the filter that is set now applied, at leisure; and takes it back when nothing of it runs any more.

use super::Engine;
use super::error::RegisterError;
use super::region::{Reached, Region};
use super::registry::{Registration, Registry, target_of};
use crate::address::TextRange;
use crate::callsite::StateError;
use crate::insn::BranchOffset;
use crate::region::{NewRegion, RegionError, RegionToken, Regions};
use crate::symbols::Symbols;
use crate::table::{Encoding, Table};
#[cfg(target_os = "none")]
use crate::text::Machine as _;
use alloc::boxed::Box;
use core::ptr::NonNull;

/// What a region keeps alive, to be given back when it goes.
pub(super) struct Owned {
    slots: NonNull<[u64]>,
    symbols: NonNull<[u8]>,
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
        let stubs = registry.stubs.ok_or(refuse("the engine has not been initialised"))?;
        if registry.regions.is_full() {
            return Err(refuse("there is no room for one more region"));
        }
        let place = registry.regions.partition_point(|region| region.text.start < text.start);
        let overlaps = |region: &Region| region.text.start < text.end && text.start < region.text.end;
        if registry.regions.iter().any(overlaps) {
            return Err(refuse("it overlaps a region that is there already"));
        }
        let region = self.build(new, Reached::from(&stubs)).map_err(refuse)?;
        registry.regions.insert(place, region);
        let registered = registry.registered.take();
        let planned = registered.as_ref().map_or(Ok(()), |registered| self.apply_to(registry, place, registered));
        registry.registered = registered;
        match planned {
            // The start of its text tells a region for as long as it is there.
            Ok(()) => Ok(RegionToken(text.start.get())),
            Err(reason) => {
                drop(registry.regions.remove(place));
                Err(refuse(reason))
            }
        }
    }

    fn remove(&self, token: RegionToken) -> Result<(), RegionError> {
        let mut registry = self.lock();
        let unknown = RegionError { text: TextRange::EMPTY, reason: "there is no such region" };
        let stubs = registry.stubs.ok_or(unknown)?;
        let known = |region: &Region| region.text.start.get() == token.0 && !region.is_permanent();
        let place = registry.regions.iter().position(known).ok_or(unknown)?;
        let region = &mut registry.regions[place];
        let refuse = |reason| RegionError { text: region.text, reason };
        let (busy, stays) =
            (refuse("a CPU may still be inside a callback"), refuse("its callsites could not be disabled"));
        region.plan_removal();
        registry.carry_out(self.poke(), self.machine).map_err(|_| stays)?;
        self.platform.quiesce(&[stubs.text]).map_err(|_| busy)?;
        drop(registry.regions.remove(place));
        Ok(())
    }
}

impl Engine {
    /// Builds the table of a region and makes its callsites ready.
    fn build(&self, new: NewRegion<'_>, direct: Reached) -> Result<Region, &'static str> {
        let NewRegion { text, entries, layout, symbols, slots: veneers, .. } = new;
        let reaches = |stub| {
            let ends = [text.start, text.end.offset(-4)];
            ends.iter().all(|end| BranchOffset::between(end.get(), stub).is_ok())
        };
        let reached = Reached {
            caller: if reaches(direct.caller.get()) { direct.caller } else { veneers.caller },
            regs_caller: if reaches(direct.regs_caller.get()) { direct.regs_caller } else { veneers.regs_caller },
        };
        let mut owned = Owned {
            slots: NonNull::from(Box::leak(entries.into_boxed_slice())),
            symbols: NonNull::from(Box::leak(symbols)),
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
        let Ok((table, _)) = Table::build(text, TextRange::EMPTY, slots, Encoding::Absolute, Some(layout), read) else {
            return Err("its callsite section can't be used");
        };
        let region = Region::of_module(text, table, names, reached, owned);
        // SAFETY: callsites lie inside the text, which is mapped, and nothing runs it before the loader calls init.
        let ready = unsafe { self.poke().apply_quiet(&|| region.to_ready()) };
        ready.map(|()| region).map_err(|_| "its text could not be written")
    }

    /// Applies the filter that is set to the region at `place`.
    fn apply_to(&self, registry: &mut Registry, place: usize, registered: &Registration) -> Result<(), &'static str> {
        let target = target_of(registered.ops);
        registered.filter.with(|filter| registry.regions[place].plan_filter(filter, target));
        let checked: Result<(), StateError> = registry.regions[place].check();
        if checked.is_err() {
            registry.regions[place].withdraw();
            return Err("its callsites don't reach the entry stubs");
        }
        let done: Result<(), RegisterError> = registry.carry_out(self.poke(), self.machine);
        done.map_err(|_| "the filter that is set could not be applied")
    }
}
