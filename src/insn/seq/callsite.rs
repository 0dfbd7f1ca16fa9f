//! The two instructions at a traceable function's entry.
//!
//! | form | first | second |
//! |---|---|---|
//! | compiled | NOP | NOP |
//! | disabled | MOV X9, LR | NOP |
//! | enabled | MOV X9, LR | BL to a stub |
//!
//! Only the second changes while other processors may run through it, and both its values are of those that may be changed
//! so ([`Insn::is_concurrently_modifiable`]).

use crate::insn::{Branch, BranchOffset, EncodeError, Insn};

/// As the compiler leaves it.
pub const COMPILED: [Insn; 2] = [Insn::NOP, Insn::NOP];

/// With LR saved, and no call.
pub const DISABLED: [Insn; 2] = [Insn::MOV_X9_LR, Insn::NOP];

/// What a callsite's two instructions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// NOP, NOP.
    Compiled,
    /// MOV X9, LR; NOP.
    Disabled,
    /// MOV X9, LR; BL.
    Enabled {
        /// Where BL goes, from its own place.
        offset: BranchOffset,
    },
}

impl Form {
    /// The form that these two words are, if they are one.
    #[inline]
    pub const fn decode(first: u32, second: u32) -> Option<Self> {
        const NOP: u32 = Insn::NOP.encode();
        const MOV_X9_LR: u32 = Insn::MOV_X9_LR.encode();
        let (compiled, disabled) = (first == NOP, first == MOV_X9_LR);
        if second == NOP {
            if compiled {
                return Some(Self::Compiled);
            }
            return if disabled { Some(Self::Disabled) } else { None };
        }
        if !disabled {
            return None;
        }
        match Branch::decode(second) {
            Some(Branch::Bl { offset }) => Some(Self::Enabled { offset }),
            _ => None,
        }
    }

    /// The two instructions.
    pub const fn insns(self) -> [Insn; 2] {
        match self {
            Self::Compiled => COMPILED,
            Self::Disabled => DISABLED,
            Self::Enabled { offset } => [Insn::MOV_X9_LR, Insn::bl(offset)],
        }
    }
}

/// The enabled form, whose BL stands at address `patched` and calls `target`.
///
/// # Errors
/// [`EncodeError`] when BL does not reach that far, or `target` is not a multiple of 4 bytes away.
pub const fn enabled(patched: u64, target: u64) -> Result<[Insn; 2], EncodeError> {
    match BranchOffset::between(patched, target) {
        Ok(offset) => Ok(Form::Enabled { offset }.insns()),
        Err(error) => Err(error),
    }
}
