//! What registers and stack hold, as far as the instructions say: the abstract machine that control flow and frames are
//! worked out with.
//!
//! A value is not a number but what is known of one: that it is the caller's x19, that it is 32 bytes below the canonical
//! frame address, that it was read from a table of jumps. [`Machine::step`] carries what is known over one instruction,
//! [`Machine::join`] keeps what two paths agree in. What is not known stays [`Value::Unknown`], and never becomes known by
//! joining, so that following loops ends.
//!
//! # What is assumed
//! A callee keeps what the AAPCS64 says (6.1.1, 6.1.2): SP, x19 to x29, and d8 to d15; and x18, if the caller has pushed its
//! return address there (`-fsanitize=shadow-call-stack`). A store by a pointer of which nothing
//! is known does not hit the places where the caller's registers were saved.

mod compared;
mod joining;
mod machine;
mod refining;
mod result;
mod slots;
mod step;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use fentry::insn::{Key, Reg, VReg, Width};

pub use machine::Machine;
pub use step::Context;
pub use table::{Shape, ShapeId, Shapes};

use crate::program::InsnId;

/// A register whose value a function keeps for its caller: x19 to x30 and the low halves of v8 to v15 (AAPCS64 6.1.1, 6.1.2).
/// x30 is among them for the return address.
///
/// # Invariants
/// Below [`CallerReg::COUNT`]: x19 to x30, then d8 to d15.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerReg(u8);

impl CallerReg {
    /// How many there are.
    pub const COUNT: usize = 20;
    /// The frame pointer.
    pub const FP: Self = Self(10);
    /// The return address.
    pub const LR: Self = Self(11);

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// A general register, if it is one of these.
    pub const fn general(reg: Reg) -> Option<Self> {
        match reg.number() {
            number @ 19..=30 => Some(Self(number - 19)),
            _ => None,
        }
    }

    /// A SIMD and floating-point register's low half, if it is one of these.
    pub const fn vector(reg: VReg) -> Option<Self> {
        match reg.number() {
            number @ 8..=15 => Some(Self(number - 8 + 12)),
            _ => None,
        }
    }

    /// The number among these, below [`Self::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The general register; `None` for one of d8 to d15.
    pub const fn as_general(self) -> Option<Reg> {
        if self.0 < 12 { Reg::x(self.0 + 19) } else { None }
    }

    /// The number as DWARF has it (AADWARF64 4.1): 19 to 30, 72 to 79.
    pub const fn dwarf(self) -> u16 {
        if self.0 < 12 { self.0 as u16 + 19 } else { self.0 as u16 - 12 + 72 }
    }

    /// Which of d8 to d15 it is, from 0.
    const fn vector_index(self) -> Option<u8> {
        self.0.checked_sub(12)
    }
}

impl fmt::Debug for CallerReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for CallerReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_general(), self.vector_index()) {
            (Some(reg), _) => fmt::Display::fmt(&reg.name(Width::X), f),
            (None, Some(index)) => write!(f, "d{}", index + 8),
            (None, None) => f.write_str("?"),
        }
    }
}

/// Where a value of which nothing else is known came from, so that two places can be known to hold the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    at: InsnId,
    /// The register's number; of a value that paths meet with, or that an instruction has written.
    register: u8,
    is_met: bool,
    part: Part,
}

/// How much of a value it is. Compilers take the lowest byte of an argument once for the comparison and once for the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Whole,
    /// The lowest byte, or two, widened with zeros.
    Byte,
    Half,
}

impl Origin {
    /// Whether both are of one value, or parts of it.
    fn is_of_same(self, other: Self) -> bool {
        (self.at, self.register, self.is_met) == (other.at, other.register, other.is_met)
    }

    /// The largest number that so much of a value can be.
    const fn max(self) -> Option<u64> {
        match self.part {
            Part::Whole => None,
            Part::Byte => Some(0xff),
            Part::Half => Some(0xffff),
        }
    }
}

/// What is known of a register's or a stack slot's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    #[default]
    Unknown,
    /// Nothing but where it came from, and whether its upper half is zero.
    Opaque(Origin, bool),
    /// This number.
    Const(u64),
    /// The canonical frame address, which SP has at the function's entry, and so many bytes.
    Frame(i64),
    /// The top of the shadow call stack, which x18 has at the function's entry where there is one, and so many bytes.
    ShadowTop(i64),
    /// The caller's value of a register; for the return address, the key that it is signed with.
    Caller(CallerReg, Option<Key>),
    /// Read from a table of jumps.
    Element(ShapeId),
    /// Where a table of jumps leads.
    Target(ShapeId),
}

impl Value {
    /// The value and so many bytes.
    fn plus(self, bytes: i64) -> Self {
        match self {
            _ if bytes == 0 => self,
            Self::Const(value) => Self::Const(value.wrapping_add_signed(bytes)),
            Self::Frame(at) => at.checked_add(bytes).map_or(Self::Unknown, Self::Frame),
            Self::ShadowTop(at) => at.checked_add(bytes).map_or(Self::Unknown, Self::ShadowTop),
            _ => Self::Unknown,
        }
    }

    /// Its low half, widened with zeros.
    fn low_half(self) -> Self {
        match self {
            Self::Const(value) => Self::Const(value & 0xffff_ffff),
            Self::Opaque(origin, _) => Self::Opaque(origin, true),
            _ => Self::Unknown,
        }
    }

    /// Its lowest byte, or two, widened with zeros.
    fn part(self, part: Part) -> Self {
        match self {
            Self::Opaque(origin, _) if origin.part == Part::Whole => Self::Opaque(Origin { part, ..origin }, true),
            _ => Self::Unknown,
        }
    }

    fn origin(self) -> Option<Origin> {
        match self {
            Self::Opaque(origin, _) => Some(origin),
            _ => None,
        }
    }
}
