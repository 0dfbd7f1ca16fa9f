//! Why the engine did not do what it was asked.
//!
//! Floor 4.

use crate::callsite::StateError;
use crate::insn;
use crate::platform::CpuTimeout;
use crate::table::TableError;
use crate::text::{PokeError, Undone};
use core::fmt;

/// Why init failed. Text is as before; the same image can be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitError {
    /// There is an image already.
    AlreadyDone,
    /// The callsite section can't be used at all.
    Table(TableError),
    /// The platform's context base has an offset that the stubs can't hold.
    ContextOffset(insn::EncodeError),
    /// Text could not be written.
    Text(PokeError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyDone => f.write_str("The engine has its image already"),
            Self::Table(error) => error.fmt(f),
            Self::ContextOffset(error) => write!(f, "The trace context's offset does not fit the entry stubs: {error}"),
            Self::Text(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for InitError {}

/// Why a registration was not done, or not undone. Nothing has changed then, unless [`Undone`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Init has not been done.
    NotInitialised,
    /// This ops is registered already.
    AlreadyRegistered,
    /// This ops is not registered.
    NotRegistered,
    /// Another ops is registered.
    Busy,
    /// The filter's rule of this number selects no callsite: an unknown name, or a function that can't be traced.
    NothingSelected {
        /// The rule's place in the filter, from 0.
        rule: usize,
    },
    /// The filter as a whole selects no callsite.
    EmptySelection,
    /// A callsite is not in the state that the change starts from, or can't reach what it shall call.
    Callsite(StateError),
    /// The callsites call nothing any more, but a CPU may still be inside the callback: unregister again to wait again. Until
    /// then no other ops can be registered.
    NotQuiescent(CpuTimeout),
    /// Text could not be changed.
    Text {
        /// What happened.
        error: PokeError,
        /// The function that the callsite belongs to.
        function: Option<&'static str>,
    },
}

impl RegisterError {
    /// Whether some callsites could not be put back.
    pub(crate) const fn leaves_changes(&self) -> bool {
        matches!(self, Self::Text { error: PokeError { undone: Undone::AllBut(_), .. }, .. })
    }
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialised => f.write_str("The engine has not been initialised"),
            Self::AlreadyRegistered => f.write_str("The ops is registered already"),
            Self::NotRegistered => f.write_str("The ops is not registered"),
            Self::Busy => f.write_str("The engine has another ops registered"),
            Self::NothingSelected { rule } => write!(f, "The filter's rule {rule} selects no traceable function"),
            Self::EmptySelection => f.write_str("The filter selects no traceable function"),
            Self::Callsite(error) => error.fmt(f),
            Self::NotQuiescent(CpuTimeout { cpu }) => {
                write!(f, "The callsites are disabled, but CPU {cpu} may still be inside the callback")
            }
            Self::Text { error, function: Some(name) } => write!(f, "{error} (in {name})"),
            Self::Text { error, function: None } => error.fmt(f),
        }
    }
}

impl core::error::Error for RegisterError {}
