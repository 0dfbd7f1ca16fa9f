//! Why the engine did not do what it was asked.

use crate::address::{TextAddr, TextRange};
use crate::callsite::OutOfReach;
use crate::callsite::table::TableError;
use crate::filter::GlobError;
use crate::insn;
use crate::platform::CpuTimeout;
use crate::symbols::SymbolsError;
use crate::text::PokeError;
use core::fmt;
use thiserror::Error;

/// Why init failed. Text is as before; the same image can be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InitError {
    /// The engine is already initialised.
    #[error("The engine is already initialised")]
    AlreadyDone,
    /// Another engine has taken the [memory](crate::engine::EngineMemory) that this one was given.
    #[error("Another engine has the memory that this one was given")]
    MemoryInUse,
    /// The callsite section can't be used at all.
    #[error("{0}")]
    Table(#[source] TableError),
    /// The symbol table that the kernel was linked with can't be used.
    #[error("{0}")]
    Symbols(#[source] SymbolsError),
    /// The platform's context base has an offset that the stubs can't hold.
    #[error("The trace context's offset does not fit the entry stubs: {0}")]
    ContextOffset(#[source] insn::EncodeError),
    /// The platform's CPU base has an offset at which the stubs can't reach all of a [`CpuArea`](crate::CpuArea).
    #[error("The CPU area's offset does not fit the stubs: {0}")]
    CpuAreaOffset(#[source] insn::EncodeError),
    /// A pattern of [`Image::leave_out`](crate::Image::leave_out) is no glob.
    #[error("The pattern \"{pattern}\" of what is to be left out is malformed: {error}")]
    LeftOut {
        /// The pattern.
        pattern: &'static str,
        /// What is wrong with it.
        #[source]
        error: GlobError,
    },
    /// Text could not be written.
    #[error("{0}")]
    Text(#[source] PokeError),
}

/// Why a registration was not done, or not undone. Nothing has changed then, unless [`Undone`](crate::text::Undone) says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Init has not been done.
    #[error("The engine has not been initialised")]
    NotInitialised,
    /// This ops is already registered.
    #[error("The ops is already registered")]
    AlreadyRegistered,
    /// This ops is not registered.
    #[error("The ops is not registered")]
    NotRegistered,
    /// The engine has [memory](crate::engine::EngineMemory) for fewer ops.
    #[error("The engine has memory for fewer ops: it would have {needed}")]
    TooManyOps {
        /// How many there would be.
        needed: usize,
    },
    /// The engine has [memory](crate::engine::EngineMemory) for fewer different sets of ops than callsites would have between
    /// them.
    #[error("The engine has memory for fewer sets of ops than its callsites would have: {needed}, with the empty one")]
    TooManySets {
        /// How many there would be, with the empty one and those that the change passes through.
        needed: usize,
    },
    /// This ops was made to stay.
    #[error("The ops is permanent")]
    Permanent,
    /// This ops calls no trampoline.
    #[error("The ops calls no direct trampoline")]
    NotDirect,
    /// A recorder needs [`cpu_base`](crate::Platform::cpu_base), which the platform doesn't have.
    #[error("The platform has no CPU areas for a recorder")]
    NoCpuArea,
    /// The filter selects a callsite for which there is no counter among those of the ops.
    #[error("The function {} at {function} is outside of what the ops has counters for", .name.unwrap_or("without a name"))]
    NoCounter {
        /// The function.
        function: TextAddr,
        /// Its name, if it is one of the kernel's own.
        name: Option<&'static str>,
    },
    /// The callsite has an ops already that excludes this one: of those that change where execution goes on, and of direct
    /// trampolines, a callsite can have one in all.
    #[error("The function {} at {function} has an ops already that excludes this one", .name.unwrap_or("without a name"))]
    Conflict {
        /// The function.
        function: TextAddr,
        /// Its name, if it is one of the kernel's own.
        name: Option<&'static str>,
    },
    /// There is no room for one more stub, or for one more veneer to a stub.
    #[error("The room for generated code at {room} is full")]
    NoRoom {
        /// The room that is full.
        room: TextRange,
    },
    /// A stub can't be made where there is room for it.
    #[error("A stub can't be made in the room for it: {0}")]
    Stub(#[source] insn::EncodeError),
    /// The filter's rule of this number asks for a name, and no text that it concerns has a symbol table: neither the kernel,
    /// into which `cargo xtask symbols` puts one, nor a module.
    #[error("The filter's rule {rule} asks for a name, and there is no symbol table to look it up in")]
    NoNames {
        /// The rule's place in the filter, from 0.
        rule: usize,
    },
    /// The filter's rule of this number selects no callsite: an unknown name, or a function that can't be traced.
    #[error("The filter's rule {rule} selects no traceable function")]
    NothingSelected {
        /// The rule's place in the filter, from 0.
        rule: usize,
    },
    /// The filter's rule of this number takes no callsite away: an unknown name, or a function that can't be traced anyhow.
    #[error("The filter's rule {rule} takes no traceable function away")]
    NothingTakenAway {
        /// The rule's place in the filter, from 0.
        rule: usize,
    },
    /// The filter as a whole selects no callsite.
    #[error("The filter selects no traceable function")]
    EmptySelection,
    /// A rule asks for a function that returns twice to one call, and the ops hooks returns
    /// ([`Probe`](crate::ops::Probe) says why not).
    #[error("The function {name} at {function} returns twice to one call: its return can't be hooked")]
    ReturnsTwice {
        /// The function.
        function: TextAddr,
        /// Its name.
        name: &'static str,
    },
    /// A stub would be longer than the room that was taken for it.
    #[error("A stub would be longer than the {bytes} bytes that it has room for")]
    StubTooLong {
        /// How many bytes it has room for.
        bytes: usize,
    },
    /// A callsite can't reach what it is to call.
    #[error("{0}")]
    OutOfReach(#[source] OutOfReach),
    /// The callsites don't call the ops any more, but a CPU may still be inside its callback: unregister again to wait again.
    #[error("No callsite calls the ops any more, but CPU {} may still be inside its callback", .0.cpu)]
    NotQuiescent(#[source] CpuTimeout),
    /// This many callsites of the ops are quarantined: their text was not what the engine had left there, so it was left alone,
    /// and whoever wrote there may put back a call of the ops. It is called by no others any more, and stays registered. Try
    /// again after [`Engine::look_again`](crate::Engine::look_again), or once their text was given back
    /// ([`Engine::forget`](crate::Engine::forget)).
    #[error("The text of {callsites} callsites of the ops was written by somebody else, and left alone")]
    Quarantined {
        /// How many.
        callsites: usize,
    },
    /// There are probes in the text that is to be given back, or were on both sides of it since the region last had none: remove
    /// them first. Nothing was done.
    #[error(
        "The text is not given back: there are, or were, probes in it or around it; its region has them at {instructions} instructions"
    )]
    Probed {
        /// How many instructions of the region have probes.
        instructions: u32,
    },
    /// Text could not be changed.
    #[error("{error}{}", fmt::from_fn(|f| function.map_or(Ok(()), |name| write!(f, " (in {name})"))))]
    Text {
        /// What happened.
        #[source]
        error: PokeError,
        /// The function that the callsite belongs to.
        function: Option<&'static str>,
    },
}
