//! Which callsite calls what: registration, planning, and the record of what was done.
//!
//! Floor 4. An [`Engine`] takes the kernel's [`Image`] once, at boot, and from then on turns an ops and a filter into the
//! smallest batch of changes that makes the text do what was asked, has [`text`](crate::text) carry it out as a whole, and
//! keeps its table true.
//!
//! ```text
//!   register(ops, filter):   select  ->  plan (what each must call)  ->  batch (what differs)  ->  text  ->  commit
//!                                                                            any failure: withdraw, text as before
//! ```

mod error;
mod image;
#[cfg(feature = "module")]
mod modules;
mod region;
mod registry;
#[cfg(test)]
mod tests;

pub use error::{InitError, RegisterError};
pub use image::Image;

use crate::address::TextAddr;
use crate::callsite::{Callsite, Refusal, State};
use crate::filter::Filter;
use crate::ops::Ops;
use crate::platform::Platform;
use crate::symbols::Symbols;
use crate::table::Census;
use crate::text::Machine;
use crate::text::{Cpu, TextPoke};
use core::fmt;
use core::sync::atomic::Ordering;
use region::Region;
use registry::{Registration, Registry, make_ready, target_of};

/// What init found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitReport {
    /// The entries of the section, by what became of them.
    pub census: Census,
    /// How many symbols the image has; 0 means that filters by name select nothing.
    pub symbols: usize,
}

/// What a look at all callsites' text found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Callsites whose text is MOV X9, LR and NOP.
    pub disabled: usize,
    /// Callsites whose text is MOV X9, LR and BL.
    pub enabled: usize,
    /// Callsites whose text is not what the engine believes.
    pub wrong: usize,
}

/// One callsite as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// Where it is.
    pub callsite: Callsite,
    /// What its text says, or the two words that are no state of a callsite.
    pub state: Result<State, [u32; 2]>,
    /// Its function's name.
    pub name: Option<&'a str>,
}

/// The engine: one for a kernel, in a `static`.
///
/// All methods may be called with interrupts on or off, from any CPU, but neither from a callback nor from an interrupt
/// handler, nor from a function that one of them is given: they wait for each other. [`symbols`](Self::symbols) never waits.
/// A caller that holds a lock which another CPU spins on with interrupts masked keeps that CPU from synchronising: the
/// batch is then undone when the platform's time is over.
pub struct Engine {
    platform: &'static dyn Platform,
    machine: Cpu,
    state: spin::Mutex<Registry>,
    /// Beside the lock, so that names can be had where it is held: from a panic, or while callsites are shown.
    symbols: spin::Once<Symbols<'static>>,
}

impl Engine {
    /// An engine on this kernel's own CPU.
    #[cfg(target_os = "none")]
    pub const fn new(platform: &'static dyn Platform) -> Self {
        Self {
            platform,
            machine: crate::text::Hardware,
            state: spin::Mutex::new(Registry::EMPTY),
            symbols: spin::Once::new(),
        }
    }

    /// An engine on any machine; on one of `fakes`, for example.
    #[cfg(not(target_os = "none"))]
    pub const fn with_machine(platform: &'static dyn Platform, machine: &'static dyn Machine) -> Self {
        Self { platform, machine, state: spin::Mutex::new(Registry::EMPTY), symbols: spin::Once::new() }
    }

    /// Makes every callsite of the image ready, and the stubs to find the platform's trace contexts.
    ///
    /// # Errors
    ///
    /// [`InitError`]. Entries that are no callsites are no error: the report counts them, and
    /// [`for_each_refusal`](Self::for_each_refusal) names them.
    ///
    /// # Safety
    ///
    /// Until this returns, no other CPU runs the image's text, and neither an interrupt handler does: MOV X9, LR is not an
    /// instruction that may be written under a CPU that executes it.
    pub unsafe fn init(&self, image: Image) -> Result<InitReport, InitError> {
        let mut registry = self.lock();
        if registry.stubs.is_some() {
            return Err(InitError::AlreadyDone);
        }
        let (stubs, names) = (image.stubs, image.symbols);
        let (region, census) = Region::of_image(image, self.machine)?;
        // SAFETY: our caller promises that nothing runs the text.
        if let Err(error) = unsafe { make_ready(&region, &stubs, self.platform, self.machine) } {
            region.table.dissolve();
            return Err(error);
        }
        registry.regions.push(region);
        registry.stubs = Some(stubs);
        drop(registry);
        let symbols = names.map_or(0, |names| self.symbols.call_once(|| names).len());
        log::debug!("fentry: {} callsites, {} refused, {symbols} symbols", census.accepted, census.refused);
        Ok(InitReport { census, symbols })
    }

    /// Calls `ops`' callback at each entry of the functions that `filter` selects; returns how many those are.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; nothing has changed then, unless it says so: `ops` must be unregistered in that case.
    pub fn register(&self, ops: &'static Ops, filter: &Filter<'_>) -> Result<usize, RegisterError> {
        // Before the lock: with modules this allocates.
        let registration = Registration::new(ops, filter);
        let mut registry = self.lock();
        let stubs = registry.stubs.ok_or(RegisterError::NotInitialised)?;
        match &registry.registered {
            Some(other) if other.is_of(ops) => return Err(RegisterError::AlreadyRegistered),
            Some(_) => return Err(RegisterError::Busy),
            None => {}
        }
        let count = registry.plan(filter, target_of(ops))?;

        stubs.current.store(core::ptr::from_ref(ops).cast_mut(), Ordering::Release);
        // A CPU that fetches the new BL must load this ops: no fetch is ordered behind a store without a barrier.
        self.machine.complete();
        match registry.carry_out(self.poke(), self.machine) {
            Ok(()) => {
                registry.registered = Some(registration);
                Ok(count)
            }
            Err(error) => {
                // Some callsites called the stub for a moment, or still do, and the next ops is another one. Unless nobody
                // can be on the way any more, `ops` stays registered, so that it can be unregistered.
                let is_over = !error.leaves_changes() && self.platform.quiesce(&[stubs.text]).is_ok();
                if is_over {
                    stubs.current.store(core::ptr::null_mut(), Ordering::Release);
                } else {
                    registry.registered = Some(registration);
                }
                Err(error)
            }
        }
    }

    /// Stops calling `ops`' callback, and waits until nobody is inside it any more.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotQuiescent`], which can be tried again; with any other nothing has changed.
    pub fn unregister(&self, ops: &'static Ops) -> Result<usize, RegisterError> {
        let mut registry = self.lock();
        let stubs = registry.stubs.ok_or(RegisterError::NotInitialised)?;
        if !registry.registered.as_ref().is_some_and(|registered| registered.is_of(ops)) {
            return Err(RegisterError::NotRegistered);
        }
        let count = registry.plan_removal();
        registry.carry_out(self.poke(), self.machine)?;
        registry.regions.iter_mut().for_each(Region::rest);
        // Every CPU fetches NOPs now. One that fetched the BL before may still be between it and the callback's end.
        self.platform.quiesce(&[stubs.text]).map_err(RegisterError::NotQuiescent)?;
        stubs.current.store(core::ptr::null_mut(), Ordering::Release);
        registry.registered = None;
        Ok(count)
    }

    /// Compares every callsite's text with what the engine believes.
    pub fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        let registry = self.lock();
        for region in &registry.regions {
            for (record, callsite) in region.callsites(0..region.table.len()) {
                match region.text_state(&callsite, self.machine) {
                    Ok(state) if state != region.state(record.now()) => survey.wrong += 1,
                    Ok(State::Disabled) => survey.disabled += 1,
                    Ok(State::Enabled(_)) => survey.enabled += 1,
                    Ok(State::Compiled) | Err(_) => survey.wrong += 1,
                }
            }
        }
        survey
    }

    /// Shows every callsite, in the order of their addresses.
    pub fn for_each_callsite(&self, mut show: impl FnMut(Status<'_>)) {
        let registry = self.lock();
        for region in &registry.regions {
            for (_, callsite) in region.callsites(0..region.table.len()) {
                let state = region.text_state(&callsite, self.machine);
                show(Status { callsite, state, name: region.name(callsite.function()) });
            }
        }
    }

    /// Shows every entry of the sections that is no callsite, and why.
    pub fn for_each_refusal(&self, mut show: impl FnMut((TextAddr, Refusal))) {
        let registry = self.lock();
        for region in &registry.regions {
            region.table.refused(region.excluded, |at| region.read(self.machine, at)).for_each(&mut show);
        }
    }

    /// The kernel's symbols, as init was given them.
    pub fn symbols(&self) -> Option<Symbols<'static>> {
        self.symbols.get().copied()
    }

    fn poke(&self) -> TextPoke<'static> {
        TextPoke::new(self.platform, self.machine)
    }

    fn lock(&self) -> spin::MutexGuard<'_, Registry> {
        loop {
            if let Some(guard) = self.state.try_lock() {
                return guard;
            }
            self.platform.relax();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
