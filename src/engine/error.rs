//! Why the engine did not do what it was asked.

use crate::address::{TextAddr, TextRange};
use crate::callsite::OutOfReach;
use crate::callsite::table::TableError;
use crate::insn;
use crate::platform::CpuTimeout;
use crate::symbols::SymbolsError;
use crate::text::PokeError;
use core::fmt;

/// Why init failed. Text is as before; the same image can be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitError {
    /// There is an image already.
    AlreadyDone,
    /// The callsite section can't be used at all.
    Table(TableError),
    /// The symbol table that the kernel was linked with can't be used.
    Symbols(SymbolsError),
    /// The platform's context base has an offset that the stubs can't hold.
    ContextOffset(insn::EncodeError),
    /// The platform's CPU base has an offset at which the stubs can't reach all of a [`CpuArea`](crate::CpuArea).
    CpuAreaOffset(insn::EncodeError),
    /// Text could not be written.
    Text(PokeError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyDone => f.write_str("The engine has its image already"),
            Self::Table(error) => error.fmt(f),
            Self::Symbols(error) => error.fmt(f),
            Self::ContextOffset(error) => write!(f, "The trace context's offset does not fit the entry stubs: {error}"),
            Self::CpuAreaOffset(error) => write!(f, "The CPU area's offset does not fit the stubs: {error}"),
            Self::Text(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for InitError {}

/// Why a registration was not done, or not undone. Nothing has changed then, unless [`Undone`](crate::text::Undone) says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Init has not been done.
    NotInitialised,
    /// This ops is registered already.
    AlreadyRegistered,
    /// This ops is not registered.
    NotRegistered,
    /// As many ops are registered as an engine can hold.
    TooManyOps,
    /// The callsites would have more different sets of ops between them than an engine can hold.
    TooManySets,
    /// This ops was made to stay.
    Permanent,
    /// This ops calls no trampoline.
    NotDirect,
    /// A recorder needs [`cpu_base`](crate::Platform::cpu_base), which the platform doesn't have.
    NoCpuArea,
    /// The filter selects a callsite for which there is no counter among those of the ops.
    NoCounter {
        /// The function.
        function: TextAddr,
        /// Its name, if it is one of the kernel's own.
        name: Option<&'static str>,
    },
    /// The callsite has an ops already that excludes this one: of those that change where execution goes on, and of direct
    /// trampolines, a callsite can have one in all.
    Conflict {
        /// The function.
        function: TextAddr,
        /// Its name, if it is one of the kernel's own.
        name: Option<&'static str>,
    },
    /// There is no room for one more stub, or for one more veneer to a stub.
    NoRoom {
        /// The room that is full.
        room: TextRange,
    },
    /// A stub can't be made where there is room for it.
    Stub(insn::EncodeError),
    /// The filter's rule of this number selects no callsite: an unknown name, or a function that can't be traced.
    NothingSelected {
        /// The rule's place in the filter, from 0.
        rule: usize,
    },
    /// The filter's rule of this number takes no callsite away: an unknown name, or a function that can't be traced anyhow.
    NothingTakenAway {
        /// The rule's place in the filter, from 0.
        rule: usize,
    },
    /// The filter as a whole selects no callsite.
    EmptySelection,
    /// A rule asks for a function that returns twice to one call, and the ops hooks returns
    /// ([`Probe`](crate::ops::Probe) says why not).
    ReturnsTwice {
        /// The function.
        function: TextAddr,
        /// Its name.
        name: &'static str,
    },
    /// A stub would be longer than the engine has reckoned.
    StubTooLong {
        /// How many bytes it has room for.
        bytes: usize,
    },
    /// A callsite can't reach what it is to call.
    OutOfReach(OutOfReach),
    /// The callsites don't call the ops any more, but a CPU may still be inside its callback: unregister again to wait again.
    NotQuiescent(CpuTimeout),
    /// So many callsites of the ops are quarantined: their text was not what the engine had left there, so it was left alone,
    /// and whoever wrote there may put back a call of the ops. It is called by no others any more, and stays registered. Try
    /// again after [`Engine::look_again`](crate::Engine::look_again), or once their text was given back
    /// ([`Engine::forget`](crate::Engine::forget)).
    Quarantined {
        /// How many.
        callsites: usize,
    },
    /// Text could not be changed.
    Text {
        /// What happened.
        error: PokeError,
        /// The function that the callsite belongs to.
        function: Option<&'static str>,
    },
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialised => f.write_str("The engine has not been initialised"),
            Self::AlreadyRegistered => f.write_str("The ops is registered already"),
            Self::NotRegistered => f.write_str("The ops is not registered"),
            Self::TooManyOps => f.write_str("The engine has as many ops registered as it can hold"),
            Self::TooManySets => f.write_str("The callsites have as many different sets of ops as the engine can hold"),
            Self::NotDirect => f.write_str("The ops calls no direct trampoline"),
            Self::NoCpuArea => f.write_str("The platform has no CPU areas for a recorder"),
            Self::NoCounter { function, name } => {
                let name = name.unwrap_or_default();
                write!(f, "The function {name} at {function} is outside of what the ops has counters for")
            }
            Self::ReturnsTwice { function, name } => {
                write!(f, "The function {name} at {function} returns twice to one call: its return can't be hooked")
            }
            Self::StubTooLong { bytes } => {
                write!(f, "A stub would be longer than the {bytes} bytes that it has room for")
            }
            Self::Quarantined { callsites } => {
                write!(f, "The text of {callsites} callsites of the ops was written by somebody else, and left alone")
            }
            Self::Permanent => f.write_str("The ops is permanent"),
            Self::Conflict { function, name } => {
                let name = name.unwrap_or_default();
                write!(f, "The function {name} at {function} has an ops already that excludes this one")
            }
            Self::NoRoom { room } => write!(f, "The room for generated code at {room} is full"),
            Self::Stub(error) => write!(f, "A stub can't be made in the room for it: {error}"),
            Self::NothingSelected { rule } => write!(f, "The filter's rule {rule} selects no traceable function"),
            Self::NothingTakenAway { rule } => {
                write!(f, "The filter's rule {rule} takes no traceable function away")
            }
            Self::EmptySelection => f.write_str("The filter selects no traceable function"),
            Self::OutOfReach(error) => error.fmt(f),
            Self::NotQuiescent(CpuTimeout { cpu }) => {
                write!(f, "No callsite calls the ops any more, but CPU {cpu} may still be inside its callback")
            }
            Self::Text { error, function: Some(name) } => write!(f, "{error} (in {name})"),
            Self::Text { error, function: None } => error.fmt(f),
        }
    }
}

impl core::error::Error for RegisterError {}
