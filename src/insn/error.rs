//! Why a value does not fit an instruction.

use thiserror::Error;

/// A value that an instruction cannot hold: which field, the value, and what the field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value lies outside the field's range.
    #[error("The value {value} does not fit {field}, which holds {min} to {max}")]
    OutOfRange {
        /// The field, by the Arm ARM's name for it (`imm26`, `imm12`, ...).
        field: &'static str,
        /// The value that was given.
        value: i64,
        /// The smallest value that the field holds.
        min: i64,
        /// The largest value that the field holds.
        max: i64,
    },
    /// The field counts in units, and the value is not a whole number of them.
    #[error("The value {value} does not fit {field}, which holds multiples of {multiple_of}")]
    Misaligned {
        /// The field, by the Arm ARM's name for it.
        field: &'static str,
        /// The value that was given.
        value: i64,
        /// The unit.
        multiple_of: u32,
    },
    /// The field holds some patterns only, and the value is none of them.
    #[error("The value {value:#x} does not fit {field}, which holds {takes}")]
    NotEncodable {
        /// The field, by the Arm ARM's name for it.
        field: &'static str,
        /// The value that was given.
        value: u64,
        /// The patterns that the field takes.
        takes: &'static str,
    },
}
