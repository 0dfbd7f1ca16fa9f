//! Why a probe was not registered, removed, or turned on or off.

use super::instruction::Refusal;
use crate::address::TextAddr;
use crate::engine::{NotClaimed, RegisterError};
use crate::platform::CpuTimeout;
use crate::text::PokeError;
use thiserror::Error;

/// Why a probe was not registered, removed, or turned on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KprobeError {
    /// The probe is registered already, or was removed but may still be running.
    #[error("The probe is registered already")]
    AlreadyRegistered,
    /// The probe is not registered with these probes.
    #[error("The probe is not registered")]
    NotRegistered,
    /// There is no function of this name.
    #[error("There is no function of this name")]
    NoSuchFunction,
    /// The instruction can't be claimed.
    #[error("There can be no probe at {at}: {cause}")]
    NotClaimed {
        /// The instruction.
        at: TextAddr,
        /// Why.
        #[source]
        cause: NotClaimed,
    },
    /// The instruction can't have a probe.
    #[error("There can be no probe at {at}: {cause}")]
    Refused {
        /// The instruction.
        at: TextAddr,
        /// Why.
        #[source]
        cause: Refusal,
    },
    /// The platform brings no BRK exceptions to the probes, so there are some at functions' entries only.
    #[error("There can be no probe at {at}, which is no function's entry: the platform brings no BRK exceptions to it")]
    NoBreakpoints {
        /// The instruction.
        at: TextAddr,
    },
    /// Execution doesn't come back from the instruction, so nothing can be called after it.
    #[error("Nothing can be called after the instruction at {at}, which goes elsewhere by a signed address")]
    NoAfter {
        /// The instruction.
        at: TextAddr,
    },
    /// As many instructions have probes as there is memory for.
    #[error("There is memory for probes at {points} instructions only")]
    TooManyPoints {
        /// How many.
        points: usize,
    },
    /// Text was not written.
    #[error("{0}")]
    Text(#[source] PokeError),
    /// A CPU was not seen quiescent. A probe that was being removed is called no more, and is to be removed again.
    #[error("The probe is called no more, but may still be running: {0}")]
    NotQuiescent(#[source] CpuTimeout),
    /// The function's callsite, which serves the probe, was not changed.
    #[error("{0}")]
    Entry(#[source] RegisterError),
}
