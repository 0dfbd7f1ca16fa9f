//! Why something was not attached, or not detached.

use crate::address::{TextAddr, TextRange};
use crate::engine::{GenerateError, RegisterError};
use crate::insn::EncodeError;
use crate::platform::CpuTimeout;
use crate::stub::MAX_HANDLERS;
use crate::text::PokeError;
use thiserror::Error;

/// Why an attachment was not made or undone. Nothing has changed then, unless a variant says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The function has no callsite that the engine knows.
    #[error("The function at {function} has no callsite")]
    NoCallsite {
        /// The function.
        function: TextAddr,
    },
    /// It is attached already.
    #[error("The handler is attached already")]
    AlreadyAttached,
    /// Something of it was generated for another engine.
    #[error("The function's trampolines are another engine's")]
    OtherEngine,
    /// It is not attached.
    #[error("The handler is not attached")]
    NotAttached,
    /// There are as many handlers at the function as there can be.
    #[error("The function has {} handlers, and that is as many as there can be", MAX_HANDLERS)]
    TooManyHandlers,
    /// All places for trampolines are taken: by those in which calls of the function are under way.
    #[error("The function has {places} places for trampolines, and calls are under way in all")]
    NoPlace {
        /// How many there are.
        places: usize,
    },
    /// A handler of a function with this result can't answer for it.
    #[error("A handler can answer only for a function whose result is a number or a pointer")]
    NoAnswer,
    /// A function can have twelve arguments.
    #[error("The function has {arguments} arguments, or more of them on the stack than there can be")]
    TooManyArguments {
        /// How many it would have.
        arguments: usize,
    },
    /// What has no bytes is no argument, and what has more than 16 is one by a pointer to a copy that is the function's.
    #[error("The argument {argument} is of a class that is not passed")]
    NotAnArgument {
        /// Which one, from 0.
        argument: usize,
    },
    /// The callsite could not be changed as wanted. After [`RegisterError::NotQuiescent`] and [`RegisterError::Quarantined`] of
    /// a change, the change is in force; of the last detachment, the handler may still be called, and it can be tried again.
    #[error("{0}")]
    Register(#[source] RegisterError),
    /// There is no room for the trampoline.
    #[error("The room for generated code at {room} is full")]
    NoRoom {
        /// The room that is full.
        room: TextRange,
    },
    /// A trampoline can't be made where there is room for it.
    #[error("A trampoline can't be made in the room for it: {0}")]
    Reach(#[source] EncodeError),
    /// A trampoline could not be written.
    #[error("{0}")]
    Text(#[source] PokeError),
    /// The engine's memory is for shorter stubs than this trampoline.
    #[error("The trampoline is longer than what the engine has memory for")]
    TooLong,
    /// A thread was not seen quiescent: what could be freed is not. All else was done.
    #[error("{0}")]
    NotQuiescent(#[source] CpuTimeout),
}

impl From<GenerateError> for AttachError {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::NotInitialised => Self::Register(RegisterError::NotInitialised),
            GenerateError::NoRoom(room) => Self::NoRoom { room },
            GenerateError::Reach(error) => Self::Reach(error),
            GenerateError::Text(error) => Self::Text(error),
            GenerateError::TooLong => Self::TooLong,
        }
    }
}
