//! System registers that MRS and MSR name (Arm ARM D24, C5.2).

/// A system register, by its place in the encoding space.
///
/// Any place can be made with [`SysReg::new`]; those with a constant here also print by name, the others as
/// `S<op0>_<op1>_C<n>_C<m>_<op2>`, which assemblers take for every register.
///
/// # Invariants
/// Bit 15 is set: op0 is 2 or 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SysReg(u16);

use super::imm::bits;
use super::{EncodeError, UImm};

const fn place(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

macro_rules! system_registers {
    ($($name:ident = $op0:literal $op1:literal $crn:literal $crm:literal $op2:literal $text:literal;)*) => {
        impl SysReg {
            $(
                #[doc = concat!("`", $text, "`.")]
                pub const $name: Self = Self(place($op0, $op1, $crn, $crm, $op2));
            )*

            /// The register's name, for those with a constant here.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

system_registers! {
    SP_EL0 = 3 0 4 1 0 "SP_EL0";
    TPIDR_EL0 = 3 3 13 0 2 "TPIDR_EL0";
    TPIDRRO_EL0 = 3 3 13 0 3 "TPIDRRO_EL0";
    TPIDR_EL1 = 3 0 13 0 4 "TPIDR_EL1";
    TPIDR_EL2 = 3 4 13 0 2 "TPIDR_EL2";
    MPIDR_EL1 = 3 0 0 0 5 "MPIDR_EL1";
    CURRENT_EL = 3 0 4 2 2 "CurrentEL";
    DAIF = 3 3 4 2 1 "DAIF";
    NZCV = 3 3 4 2 0 "NZCV";
    CTR_EL0 = 3 3 0 0 1 "CTR_EL0";
}

impl SysReg {
    /// The register at this place.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] when `op0` is not 2 or 3.
    pub const fn new(op0: u32, op1: UImm<3>, crn: UImm<4>, crm: UImm<4>, op2: UImm<3>) -> Result<Self, EncodeError> {
        if op0 != 2 && op0 != 3 {
            return Err(EncodeError::OutOfRange { field: "op0", value: op0 as i64, min: 2, max: 3 });
        }
        Ok(Self(place(op0 as u16, op1.get() as u16, crn.get() as u16, crm.get() as u16, op2.get() as u16)))
    }

    /// op0, op1, CRn, CRm and op2 of the encoding.
    pub const fn parts(self) -> [u32; 5] {
        let place = self.0 as u32;
        [bits(place, 14, 2), bits(place, 11, 3), bits(place, 7, 4), bits(place, 3, 4), bits(place, 0, 3)]
    }

    pub(super) const fn of(word: u32) -> Self {
        Self(bits(word, 5, 16) as u16 | 1 << 15)
    }

    /// The bits below op0's upper one, which MRS and MSR share with the rest of their encodings.
    pub(super) const fn field(self) -> u32 {
        ((self.0 & 0x7fff) as u32) << 5
    }
}
