//! Instances: tracers beside the first ones, with rings, rules and switches of their own.

use super::files::BuiltIn;
use super::reason::{INSTANCE_BYTES, Reason};
use super::state::State;
use super::tracing::TracingParts;
use crate::engine::Engine;
use crate::tracer::ring::Ring;
use arrayvec::ArrayString;
use core::fmt;

/// The directory of all of them.
pub(super) const DIRECTORY: &str = "instances/";

/// What an instance is made of when a line asks for one: a [`Tracing`](super::Tracing) and rings that nothing else has. It has a
/// name from `mkdir instances/NAME` on, up to `rmdir`; about 11 KiB.
#[derive(Debug)]
pub struct Instance<const CPUS: usize> {
    name: Option<ArrayString<INSTANCE_BYTES>>,
    pub(super) state: State<CPUS>,
}

impl<const CPUS: usize> Instance<CPUS> {
    /// Makes one without a name, for [`Control::with_instances`](super::Control::with_instances).
    pub const fn new(engine: &'static Engine, tracing: TracingParts, rings: [&'static Ring; CPUS]) -> Self {
        let mut state = State::new(engine, tracing, rings);
        state.is_of_instance = true;
        Self { name: None, state }
    }

    /// Adds second rings, for its snapshots.
    #[must_use]
    pub const fn with_spare_rings(mut self, rings: [&'static Ring; CPUS]) -> Self {
        self.state.spares = Some(rings);
        self
    }

    /// Its name, if it has one.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Gives it a name.
    pub(super) fn make(&mut self, name: &str) -> Result<(), Reason> {
        self.name = Some(ArrayString::from(name).map_err(|_| Reason::InstanceName)?);
        Ok(())
    }

    /// Takes everything back that lines have changed of it, and its name.
    ///
    /// # Errors
    ///
    /// The engine's own; it stays then.
    pub(super) fn remove(&mut self) -> Result<(), Reason> {
        self.state.reset()?;
        self.name = None;
        Ok(())
    }
}

/// Whether a name is one: no directory, and nothing that a line would not take for a file's name.
pub(super) fn is_name(name: &str) -> bool {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !name.is_empty() && name.len() <= INSTANCE_BYTES && name.chars().all(is_in_name)
}

/// Calls `each` with the files that each instance has, and what they are for, in the order of the files' names.
pub(super) fn each<const CPUS: usize>(
    instance: &Instance<CPUS>,
    each: &mut dyn FnMut(fmt::Arguments<'_>, &str) -> fmt::Result,
) -> fmt::Result {
    let Some(name) = instance.name() else { return Ok(()) };
    BuiltIn::<CPUS>::each(BuiltIn::is_of_instances, &mut |file, help| {
        each(format_args!("{DIRECTORY}{name}/{file}"), help)
    })
}
