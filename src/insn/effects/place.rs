//! Which register goes to which place in memory or comes from there, which register becomes another one's value and a
//! number of bytes, and what becomes of a signed return address. With these, whoever follows a function can say where its
//! caller's registers are.

use crate::insn::{Key, Reg, RegOrSp, VReg};

/// Where the memory that an access touches begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Nowhere: no memory is touched.
    None,
    /// So many bytes from a base register's value before the instruction, pre-indexed accesses too.
    Beside(RegOrSp, i64),
    /// So many bytes from the instruction.
    Near(i64),
    /// Beside a base register, by as much as an index register says.
    Indexed(RegOrSp),
    /// The instruction alone does not tell.
    Unknown,
}

/// A register that an access stores or loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataRegister {
    /// A general register or the zero register.
    General(Reg),
    /// A SIMD and floating-point register.
    Vector(VReg),
}

/// One or two registers that an access stores to its [`Place`] or loads from there, side by side in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moved {
    /// The register at the place.
    pub first: DataRegister,
    /// The register behind it.
    pub second: Option<DataRegister>,
    /// How much memory each has, in bytes.
    pub bytes: u32,
}

/// A general register or SP that becomes the value that a register had before, and so many bytes: MOV of a whole register,
/// ADD and SUB of a number, and the base of a pre- or post-indexed access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sum {
    /// The register that gets the value.
    pub to: RegOrSp,
    /// The register whose value it gets; the same one where it moves.
    pub from: RegOrSp,
    /// What is added.
    pub bytes: i64,
}

/// What becomes of the signature in LR's upper bits (Arm ARM D8.10, "Pointer authentication"). What a load or a move of
/// another value does to LR is told by `Effects::writes` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signature {
    /// Nothing.
    Kept,
    /// LR is signed.
    Signed(Key, Modifier),
    /// LR's signature is checked and removed; RETAA and RETAB are among these.
    Authenticated(Key, Modifier),
    /// LR's signature is removed unchecked.
    Stripped,
}

/// What a return address is signed with, beside the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Modifier {
    /// Zero.
    Zero,
    /// This register's value.
    Value(RegOrSp),
}

impl Moved {
    pub(super) const fn one(first: DataRegister, bytes: u32) -> Self {
        Self { first, second: None, bytes }
    }

    pub(super) const fn two(first: DataRegister, second: DataRegister, bytes: u32) -> Self {
        Self { first, second: Some(second), bytes }
    }

    /// The registers, each with its distance from the access's [`Place`] in bytes.
    pub fn registers(self) -> impl Iterator<Item = (DataRegister, i64)> {
        [Some((self.first, 0)), self.second.map(|second| (second, i64::from(self.bytes)))].into_iter().flatten()
    }
}
