//! Why text was not written.

use crate::address::TextAddr;
use crate::platform::{AliasError, CpuTimeout, HoldError};
use core::fmt;

/// Why a batch of changes failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PokeError {
    /// The first instruction that could not be changed, or the first of the batch where it failed as a whole.
    pub at: TextAddr,
    /// What went wrong there.
    pub cause: PokeCause,
    /// Whether text is as it was before.
    pub undone: Undone,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PokeCause {
    /// The text holds another word than expected; it was left alone.
    Mismatch {
        /// The word that should be there.
        expected: u32,
        /// The word that is there.
        found: u32,
    },
    /// The platform gave no writable alias.
    Alias(AliasError),
    /// The platform's alias shows another word than the text, so it is of other memory. Nothing was written through it.
    WrongAlias {
        /// The word in the text.
        text: u32,
        /// The word at the alias.
        alias: u32,
    },
    /// A CPU did not synchronise in time.
    Cpu(CpuTimeout),
    /// The other CPUs were not held, without which the word can't be changed.
    Hold(HoldError),
}

/// How far a failed batch was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// Every word is as it was.
    Entirely,
    /// Every word is as it was, but not every CPU has confirmed that it will execute the old ones; or, on an emulator, not
    /// every word could be [stored again](crate::Platform::may_be_emulated).
    Unconfirmed,
    /// This many words could not be written back; all others are as they were.
    AllBut(usize),
}

impl fmt::Display for PokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.cause {
            PokeCause::Mismatch { expected, found } => {
                write!(f, "The text at {at} should hold {expected:#010x} and holds {found:#010x}")?;
            }
            PokeCause::Alias(error) => write!(f, "{error}")?,
            PokeCause::WrongAlias { text, alias } => {
                write!(f, "The alias of {at} is not of that text: it shows {alias:#010x}, the text {text:#010x}")?;
            }
            PokeCause::Cpu(error) => write!(f, "{error}")?,
            PokeCause::Hold(error) => write!(f, "{error}")?,
        }
        match self.undone {
            Undone::Entirely => f.write_str("; nothing stays changed"),
            Undone::Unconfirmed => {
                f.write_str("; text is as before, but a CPU may still execute what was there between")
            }
            Undone::AllBut(count) => write!(f, "; {count} instructions stay changed"),
        }
    }
}

impl core::error::Error for PokeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.cause {
            PokeCause::Alias(error) => Some(error),
            PokeCause::Cpu(error) => Some(error),
            PokeCause::Hold(error) => Some(error),
            PokeCause::Mismatch { .. } | PokeCause::WrongAlias { .. } => None,
        }
    }
}
