//! Which callsite calls what: registration, planning, and the record of what was done.
//!
//! An [`Engine`] takes the kernel's [`Image`] once, at boot, and from then on turns an ops and a filter into the
//! smallest batch of changes that makes the text do what was asked, has [`text`](crate::text) carry it out as a whole, and
//! keeps its table true.
//!
//! ```text
//!   register(ops, filter):   select  ->  plan (what each must call)  ->  batch (what differs)  ->  text  ->  commit
//!                                                                            any failure: withdraw, text as before
//! ```

mod apply;
mod change;
mod error;
mod hits;
mod image;
mod init;
mod members;
#[cfg(feature = "module")]
mod modules;
mod names;
mod plan;
mod quarantine;
mod region;
mod register;
mod registry;
mod selection;
mod sets;
mod show;
mod spans;
#[cfg(test)]
mod tests;
mod veneers;

pub use error::{InitError, RegisterError};
pub use hits::FunctionHits;
pub use image::Image;
pub use init::InitReport;
#[cfg(feature = "module")]
pub use show::ModuleStatus;
pub use show::{OpsStatus, Statistics, Status, TextCheck};

use crate::platform::Platform;
use crate::symbols::Symbols;
#[cfg(not(target_os = "none"))]
use crate::text::Machine;
use core::fmt;
use registry::{Registry, RegistryGuard};

/// The engine: one for a kernel, in a `static`.
///
/// All methods may be called with interrupts on or off, from any CPU, but neither from a callback nor from an interrupt
/// handler, nor from a function that one of them is given: they wait for each other. [`symbols`](Self::symbols) never waits.
/// A caller that holds a lock which another CPU spins on with interrupts masked keeps that CPU from synchronising: the
/// batch is then undone when the platform's time is over.
pub struct Engine {
    platform: &'static dyn Platform,
    state: spin::Mutex<Registry>,
    /// Beside the lock, so that names can be had where it is held: from a panic, or while callsites are shown.
    symbols: spin::Once<Symbols<'static>>,
}

impl Engine {
    /// An engine on this kernel's own CPU.
    #[cfg(target_os = "none")]
    pub const fn new(platform: &'static dyn Platform) -> Self {
        let state = spin::Mutex::new(Registry::new(platform, crate::text::Hardware));
        Self { platform, state, symbols: spin::Once::new() }
    }

    /// An engine on any machine; on one of `fakes`, for example.
    #[cfg(not(target_os = "none"))]
    pub const fn with_machine(platform: &'static dyn Platform, machine: &'static dyn Machine) -> Self {
        Self { platform, state: spin::Mutex::new(Registry::new(platform, machine)), symbols: spin::Once::new() }
    }

    /// Returns the kernel's symbols, as init was given them.
    pub fn symbols(&self) -> Option<Symbols<'static>> {
        self.symbols.get().copied()
    }

    /// Returns how far above its linked addresses the kernel runs, modulo 2^64: as its symbol table has found out, or else as
    /// the platform says ([`Platform::slide`](crate::Platform::slide)).
    pub fn slide(&self) -> u64 {
        match self.symbols().map_or(0, |symbols| symbols.slide()) {
            0 => self.platform.slide(),
            slide => slide,
        }
    }

    fn lock(&self) -> RegistryGuard<'_> {
        loop {
            if let Some(guard) = self.state.try_lock() {
                return RegistryGuard::new(guard);
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
