//! Conditions on the flags (Arm ARM C1.2.4).

use core::fmt;

/// What the flags N, Z, C and V must say. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cond {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Unsigned higher or same (carry set).
    Hs,
    /// Unsigned lower (carry clear).
    Lo,
    /// Negative.
    Mi,
    /// Positive or zero.
    Pl,
    /// Overflow.
    Vs,
    /// No overflow.
    Vc,
    /// Unsigned higher.
    Hi,
    /// Unsigned lower or same.
    Ls,
    /// Signed greater or equal.
    Ge,
    /// Signed less.
    Lt,
    /// Signed greater.
    Gt,
    /// Signed less or equal.
    Le,
    /// Always.
    Al,
    /// Always, too: the other encoding of it.
    Nv,
}

impl Cond {
    pub(super) const fn at(word: u32, lsb: u32) -> Self {
        match (word >> lsb) & 15 {
            0 => Self::Eq,
            1 => Self::Ne,
            2 => Self::Hs,
            3 => Self::Lo,
            4 => Self::Mi,
            5 => Self::Pl,
            6 => Self::Vs,
            7 => Self::Vc,
            8 => Self::Hi,
            9 => Self::Ls,
            10 => Self::Ge,
            11 => Self::Lt,
            12 => Self::Gt,
            13 => Self::Le,
            14 => Self::Al,
            _ => Self::Nv,
        }
    }

    /// Its number in the encoding: bit 0 inverts the condition that the rest says (Arm ARM C1.2.4).
    pub const fn field(self) -> u32 {
        self as u32
    }

    /// The condition that holds when this one does not; AL and NV, which always hold, are swapped.
    pub const fn inverted(self) -> Self {
        Self::at(self as u32 ^ 1, 0)
    }

    /// Whether it holds whatever the flags are.
    pub const fn is_always(self) -> bool {
        matches!(self, Self::Al | Self::Nv)
    }
}

impl fmt::Display for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Hs => "hs",
            Self::Lo => "lo",
            Self::Mi => "mi",
            Self::Pl => "pl",
            Self::Vs => "vs",
            Self::Vc => "vc",
            Self::Hi => "hi",
            Self::Ls => "ls",
            Self::Ge => "ge",
            Self::Lt => "lt",
            Self::Gt => "gt",
            Self::Le => "le",
            Self::Al => "al",
            Self::Nv => "nv",
        })
    }
}
