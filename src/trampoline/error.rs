//! Why a table is not put into use.

use crate::address::{TextAddr, TextRange};
use crate::engine::{GenerateError, GenerateMembersError};
use crate::insn::EncodeError;
use crate::text::PokeError;
use thiserror::Error;

/// Why an implementation of an ops struct was refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpsError {
    /// A member that is not optional is NULL.
    #[error("{ops}.{member} is NULL, and not optional")]
    Missing {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
    },
    /// Callers look for a hash before the function, and there is no text that the engine knows.
    #[error("{ops}.{member} is at {function}, before which there is no text of the kernel or a module")]
    NotText {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
        /// The function.
        function: TextAddr,
    },
    /// Callers look for a hash before the function, and there is none: what stands there is an instruction that ends code, or
    /// fills up.
    #[error("{ops}.{member} at {function} has no hash: {found:#010x} stands where callers look for {expected:#010x}")]
    NoHash {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
        /// The function.
        function: TextAddr,
        /// The member's hash.
        expected: u32,
        /// The word that stands there.
        found: u32,
    },
    /// The function's hash is that of another type.
    #[error(
        "{ops}.{member} at {function} is of another type: its hash is {found:#010x}, callers look for {expected:#010x}"
    )]
    OtherType {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
        /// The function.
        function: TextAddr,
        /// The member's hash.
        expected: u32,
        /// The function's.
        found: u32,
    },
    /// The function's hash is right, and not where callers look for it: it was built with another number of words between the
    /// hash and the entry (`-fpatchable-function-entry`).
    #[error(
        "{ops}.{member} at {function} has {found} words between its hash and its entry, where callers expect {expected}"
    )]
    OtherDistance {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
        /// The function.
        function: TextAddr,
        /// How many words callers expect there.
        expected: u32,
        /// How many there are.
        found: u32,
    },
    /// The member's stub is not in text that the engine knows, so nobody knows what its hash must be. The same where the engine
    /// has not been initialised.
    #[error("{ops}.{member}: its stub at {stub} is not in text that the engine knows")]
    NoStub {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
        /// The stub.
        stub: TextAddr,
    },
    /// The members' callers are not in text that the engine knows, so nobody knows what they check. The same where the engine
    /// has not been initialised.
    #[error("{ops}: what its members' callers check is not known: {caller} is not in text that the engine knows")]
    NoCaller {
        /// The ops struct.
        ops: &'static str,
        /// Where they call.
        caller: TextAddr,
    },
    /// It has more members than can be looked at.
    #[error("{ops} has more than {most} members")]
    TooManyMembers {
        /// The ops struct.
        ops: &'static str,
        /// How many it may have.
        most: usize,
    },
    /// All places are taken: by tables that are prepared, in use, or still have users.
    #[error("{ops} has {places} places for implementations, and all are taken")]
    NoPlace {
        /// The ops struct.
        ops: &'static str,
        /// How many places there are.
        places: usize,
    },
    /// There is no member of a name for which a generated one was asked.
    #[error("{ops} has no member of one of the names that are to be generated")]
    NoSuchMember {
        /// The ops struct.
        ops: &'static str,
    },
    /// Two bodies are for one member.
    #[error("{ops}.{member} is to be generated twice")]
    Twice {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
    },
    /// A generated member is to go on in the function behind it, which is NULL.
    #[error("{ops}.{member} is NULL: there is nothing for a generated member to go on in")]
    NothingBehind {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
    },
    /// A generated member is to answer with another type of result than the member has.
    #[error("{ops}.{member} has another type of result than what a generated member is to answer with")]
    OtherResult {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
    },
    /// A generated member has a condition on an argument that may not be in a general register of its own.
    #[error("{ops}.{member} has no argument {argument} in a general register that could be asked for")]
    NoSuchArgument {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
        /// Which one, from 0.
        argument: usize,
    },
    /// A generated member is to be timed, and may have arguments on the stack.
    #[error("{ops}.{member} may have arguments on the stack: it can't be timed")]
    StackArguments {
        /// The ops struct.
        ops: &'static str,
        /// The member.
        member: &'static str,
    },
    /// The user of the table behind is one of another ops struct's implementations.
    #[error("The table of {ops} that is to be behind is not of these implementations")]
    NotOurs {
        /// The ops struct.
        ops: &'static str,
    },
    /// The engine has not been initialised.
    #[error("The engine has not been initialised")]
    NotInitialised,
    /// A generated member is to record, which needs [`cpu_base`](crate::Platform::cpu_base), and the platform doesn't have it.
    #[error("The platform has no CPU areas for what a generated member is to record")]
    NoCpuArea,
    /// There is no room for generated members.
    #[error("The room for generated code at {room} is full")]
    NoRoom {
        /// The room that is full.
        room: TextRange,
    },
    /// A generated member can't be made where there is room for it.
    #[error("A generated member can't be made in the room for it: {0}")]
    Reach(#[source] EncodeError),
    /// A generated member could not be written.
    #[error("{0}")]
    Text(#[source] PokeError),
    /// A generated member would be longer than the room that was taken for it.
    #[error("A generated member would be longer than the room for it")]
    TooLong,
}

impl From<GenerateMembersError> for OpsError {
    fn from(error: GenerateMembersError) -> Self {
        match error {
            GenerateMembersError::NoCpuArea => Self::NoCpuArea,
            GenerateMembersError::Generate(error) => match error {
                GenerateError::NotInitialised => Self::NotInitialised,
                GenerateError::NoRoom(room) => Self::NoRoom { room },
                GenerateError::Reach(error) => Self::Reach(error),
                GenerateError::Text(error) => Self::Text(error),
                GenerateError::TooLong => Self::TooLong,
            },
        }
    }
}
