//! Why a table is not put into use.

use crate::address::TextAddr;
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
    /// All places are taken: by tables that are prepared, in use, or still have users.
    #[error("{ops} has {places} places for implementations, and all are taken")]
    NoPlace {
        /// The ops struct.
        ops: &'static str,
        /// How many places there are.
        places: usize,
    },
}
