//! The operations on registers, and how their operands are shifted and widened: Arm ARM C4.1, "Data Processing --
//! Register".

use super::imm::bit;
use super::{EncodeError, Reg, UImm};

/// Whether an instruction sets the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flags {
    /// They stay as they are.
    Kept,
    /// They tell about the result.
    Set,
}

impl Flags {
    pub(super) const fn of(word: u32) -> Self {
        if bit(word, 29) { Self::Set } else { Self::Kept }
    }

    pub(super) const fn field(self) -> u32 {
        (self as u32) << 29
    }
}

/// How a register is shifted before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shift {
    /// Left.
    Lsl,
    /// Right, unsigned.
    Lsr,
    /// Right, signed.
    Asr,
    /// Rotated right; for logical instructions only.
    Ror,
}

/// How a register is shifted before it is added: [`Shift`] without the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArithShift {
    /// Left.
    Lsl,
    /// Right, unsigned.
    Lsr,
    /// Right, signed.
    Asr,
}

/// A logical operation on registers. The discriminant is opc and N of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogicalOp {
    /// AND.
    And,
    /// BIC: and not.
    Bic,
    /// ORR.
    Orr,
    /// ORN: or not.
    Orn,
    /// EOR.
    Eor,
    /// EON: exclusive or not.
    Eon,
    /// ANDS: and, setting the flags.
    Ands,
    /// BICS: and not, setting the flags.
    Bics,
}

/// How a register is widened before it is added. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extend {
    /// An unsigned byte.
    Uxtb,
    /// An unsigned half-word.
    Uxth,
    /// An unsigned word.
    Uxtw,
    /// 64 bits.
    Uxtx,
    /// A signed byte.
    Sxtb,
    /// A signed half-word.
    Sxth,
    /// A signed word.
    Sxtw,
    /// 64 bits, too.
    Sxtx,
}

/// How far an extended register is shifted left: 0 to 4.
///
/// # Invariants
/// At most 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtendShift(u8);

impl ExtendShift {
    /// This far.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] from 5 up.
    pub const fn new(amount: u32) -> Result<Self, EncodeError> {
        if amount > 4 {
            return Err(EncodeError::OutOfRange { field: "imm3", value: amount as i64, min: 0, max: 4 });
        }
        Ok(Self(amount as u8))
    }

    /// How far.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }
}

/// What a conditional compare compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareWith {
    /// A register.
    Reg(Reg),
    /// A number.
    Imm(UImm<5>),
}

/// What a conditional select takes when its condition fails. The discriminant is the encoding's op and lowest bit of op2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// CSEL: the other register.
    Same,
    /// CSINC: the other register, plus one.
    Increment,
    /// CSINV: the other register, inverted.
    Invert,
    /// CSNEG: the other register, negated.
    Negate,
}

/// An operation on one register. The discriminant is the encoding, but for [`OneSource::Rev`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OneSource {
    /// RBIT: the bits backwards.
    Rbit,
    /// REV16: the bytes of each half-word swapped.
    Rev16,
    /// REV: all bytes backwards.
    Rev,
    /// CLZ: the number of zeros at the top.
    Clz,
    /// CLS: the number of further copies of the sign at the top.
    Cls,
}

/// An operation on two registers. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TwoSource {
    /// UDIV.
    Udiv = 2,
    /// SDIV.
    Sdiv = 3,
    /// LSLV: shift left by a register.
    Lslv = 8,
    /// LSRV: shift right by a register, unsigned.
    Lsrv = 9,
    /// ASRV: shift right by a register, signed.
    Asrv = 10,
    /// RORV: rotate right by a register.
    Rorv = 11,
}

/// What a CRC instruction takes in. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrcSize {
    /// A byte.
    Byte,
    /// A half-word.
    Half,
    /// A word.
    Word,
    /// Eight bytes.
    Double,
}

/// The polynomial of a CRC instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrcPolynomial {
    /// CRC32B and kin: 0x04c11db7.
    Crc32,
    /// CRC32CB and kin: 0x1edc6f41.
    Crc32c,
}

/// Sign a pointer or check a signed one, with which key. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PointerAuth {
    /// PACIA: sign an instruction address, key A.
    PacIa,
    /// PACIB: sign an instruction address, key B.
    PacIb,
    /// PACDA: sign a data address, key A.
    PacDa,
    /// PACDB: sign a data address, key B.
    PacDb,
    /// AUTIA: check an instruction address, key A.
    AutIa,
    /// AUTIB: check an instruction address, key B.
    AutIb,
    /// AUTDA: check a data address, key A.
    AutDa,
    /// AUTDB: check a data address, key B.
    AutDb,
}

/// Whether a product is added or subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accumulate {
    /// MADD, SMADDL, UMADDL.
    Add,
    /// MSUB, SMSUBL, UMSUBL.
    Sub,
}

/// Whether numbers have a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sign {
    /// They have.
    Signed,
    /// They have not.
    Unsigned,
}

/// What SETF8 and SETF16 take their flags from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetfSize {
    /// SETF8: a byte.
    Byte,
    /// SETF16: a half-word.
    Half,
}
