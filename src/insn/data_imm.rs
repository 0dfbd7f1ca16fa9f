//! Arithmetic on a register and a number: Arm ARM C4.1, "Data Processing -- Immediate". Each instruction is described in
//! C6.2 under its own name.

use super::imm::{bit, bits};
use super::{AdrOffset, ArithImm, BitPos, BitmaskImm, EncodeError, PageOffset, Reg, RegOrSp, UImm, Width};

/// Add or subtract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddSub {
    /// ADD, ADDS.
    Add,
    /// SUB, SUBS.
    Sub,
}

impl AddSub {
    pub(super) const fn of(word: u32) -> Self {
        if bit(word, 30) { Self::Sub } else { Self::Add }
    }

    pub(super) const fn field(self) -> u32 {
        (self as u32) << 30
    }
}

/// A logical operation that leaves the flags alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Logical {
    /// AND.
    And,
    /// ORR.
    Orr,
    /// EOR.
    Eor,
}

/// What a move of 16 bits does with the rest of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MoveWide {
    /// MOVN: all is inverted, so that the rest becomes ones.
    Not,
    /// MOVZ: the rest becomes zeros.
    Zero,
    /// MOVK: the rest is kept.
    Keep,
}

/// The sixteen bits of a register that MOVZ, MOVN and MOVK write, and the register's width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HalfWord {
    /// Bits 0 to 15 of a W register.
    W0,
    /// Bits 16 to 31 of a W register.
    W16,
    /// Bits 0 to 15 of an X register.
    X0,
    /// Bits 16 to 31 of an X register.
    X16,
    /// Bits 32 to 47 of an X register.
    X32,
    /// Bits 48 to 63 of an X register.
    X48,
}

impl HalfWord {
    /// The register's width.
    pub const fn width(self) -> Width {
        match self {
            Self::W0 | Self::W16 => Width::W,
            Self::X0 | Self::X16 | Self::X32 | Self::X48 => Width::X,
        }
    }

    /// The lowest of the sixteen bits.
    pub const fn shift(self) -> u32 {
        match self {
            Self::W0 | Self::X0 => 0,
            Self::W16 | Self::X16 => 16,
            Self::X32 => 32,
            Self::X48 => 48,
        }
    }

    /// The half-word of a register of this width that starts at bit `shift`.
    ///
    /// # Errors
    /// [`EncodeError::NotEncodable`] when it is not 0 or 16, nor 32 or 48 of an X register.
    pub const fn new(width: Width, shift: u32) -> Result<Self, EncodeError> {
        Ok(match (width, shift) {
            (Width::W, 0) => Self::W0,
            (Width::W, 16) => Self::W16,
            (Width::X, 0) => Self::X0,
            (Width::X, 16) => Self::X16,
            (Width::X, 32) => Self::X32,
            (Width::X, 48) => Self::X48,
            _ => {
                let takes = "0 and 16, and for an X register 32 and 48";
                return Err(EncodeError::NotEncodable { field: "hw", value: shift as u64, takes });
            }
        })
    }
}

/// How a bitfield move fills the bits around the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BitfieldMove {
    /// SBFM: zeros below, copies of the field's highest bit above.
    Signed,
    /// BFM: they are kept.
    Keep,
    /// UBFM: zeros.
    Unsigned,
}

/// The two places of a bitfield move: the rotation (immr) and the field's highest bit (imms), in one width.
///
/// # Invariants
/// Both are below the width's number of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BitfieldPlaces {
    immr: BitPos,
    imms: BitPos,
}

impl BitfieldPlaces {
    /// A rotation to the right by `immr` and a field up to bit `imms`.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] when one is not below the width's number of bits.
    pub const fn new(width: Width, immr: u32, imms: u32) -> Result<Self, EncodeError> {
        match (BitPos::new(width, immr), BitPos::new(width, imms)) {
            (Ok(immr), Ok(imms)) => Ok(Self { immr, imms }),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// The register's width.
    pub const fn width(self) -> Width {
        self.immr.width()
    }

    /// The rotation.
    pub const fn immr(self) -> u32 {
        self.immr.get()
    }

    /// The field's highest bit.
    pub const fn imms(self) -> u32 {
        self.imms.get()
    }
}

/// Arithmetic on a register and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataImm {
    /// ADR: an address near this instruction.
    Adr {
        /// The result.
        rd: Reg,
        /// How far.
        offset: AdrOffset,
    },
    /// ADRP: the address of a page near this instruction's.
    Adrp {
        /// The result.
        rd: Reg,
        /// How far from this instruction's page.
        offset: PageOffset,
    },
    /// ADD, SUB (immediate).
    AddSub {
        /// Which.
        op: AddSub,
        /// Of both registers.
        width: Width,
        /// The result.
        rd: RegOrSp,
        /// The register.
        rn: RegOrSp,
        /// The number.
        imm: ArithImm,
    },
    /// ADDS, SUBS (immediate); CMN and CMP when the result goes to the zero register.
    AddSubFlags {
        /// Which.
        op: AddSub,
        /// Of both registers.
        width: Width,
        /// The result.
        rd: Reg,
        /// The register.
        rn: RegOrSp,
        /// The number.
        imm: ArithImm,
    },
    /// AND, ORR, EOR (immediate).
    Logical {
        /// Which.
        op: Logical,
        /// The result.
        rd: RegOrSp,
        /// The register.
        rn: Reg,
        /// The number, and the width of both registers.
        imm: BitmaskImm,
    },
    /// ANDS (immediate); TST when the result goes to the zero register.
    LogicalFlags {
        /// The result.
        rd: Reg,
        /// The register.
        rn: Reg,
        /// The number, and the width of both registers.
        imm: BitmaskImm,
    },
    /// MOVN, MOVZ, MOVK.
    MoveWide {
        /// What happens to the rest of the register.
        op: MoveWide,
        /// The result.
        rd: Reg,
        /// The sixteen bits.
        imm: UImm<16>,
        /// Their place.
        at: HalfWord,
    },
    /// SBFM, BFM, UBFM, and by them the shifts by a number, SXTB and kin.
    Bitfield {
        /// What happens to the rest of the register.
        op: BitfieldMove,
        /// The result.
        rd: Reg,
        /// The register.
        rn: Reg,
        /// From where to where, and the width of both registers.
        places: BitfieldPlaces,
    },
    /// EXTR: a register's width of bits out of two registers; ROR by a number when both are the same.
    Extract {
        /// The result.
        rd: Reg,
        /// The upper register.
        rn: Reg,
        /// The lower register.
        rm: Reg,
        /// The lowest bit of the lower register that is taken, and the width.
        lsb: BitPos,
    },
}

impl DataImm {
    /// The instruction's word.
    pub const fn encode(self) -> u32 {
        match self {
            Self::Adr { rd, offset } => 0x1000_0000 | adr_field(offset.field()) | rd.field(),
            Self::Adrp { rd, offset } => 0x9000_0000 | adr_field(offset.field()) | rd.field(),
            Self::AddSub { op, width, rd, rn, imm } => {
                0x1100_0000 | width.sf() << 31 | op.field() | imm.field() | rn.field() << 5 | rd.field()
            }
            Self::AddSubFlags { op, width, rd, rn, imm } => {
                0x3100_0000 | width.sf() << 31 | op.field() | imm.field() | rn.field() << 5 | rd.field()
            }
            Self::Logical { op, rd, rn, imm } => {
                let (sf, op) = (imm.width().sf() << 31, (op as u32) << 29);
                0x1200_0000 | sf | op | imm.field() | rn.field() << 5 | rd.field()
            }
            Self::LogicalFlags { rd, rn, imm } => {
                0x7200_0000 | imm.width().sf() << 31 | imm.field() | rn.field() << 5 | rd.field()
            }
            Self::MoveWide { op, rd, imm, at } => {
                let opc = match op {
                    MoveWide::Not => 0,
                    MoveWide::Zero => 2,
                    MoveWide::Keep => 3,
                };
                let place = at.width().sf() << 31 | (at.shift() / 16) << 21;
                0x1280_0000 | opc << 29 | place | imm.get() << 5 | rd.field()
            }
            Self::Bitfield { op, rd, rn, places } => {
                let sf = places.width().sf();
                let places = places.immr() << 16 | places.imms() << 10;
                0x1300_0000 | sf << 31 | (op as u32) << 29 | sf << 22 | places | rn.field() << 5 | rd.field()
            }
            Self::Extract { rd, rn, rm, lsb } => {
                let sf = lsb.width().sf();
                let place = rm.field() << 16 | lsb.get() << 10;
                0x1380_0000 | sf << 31 | sf << 22 | place | rn.field() << 5 | rd.field()
            }
        }
    }

    /// The instruction of this class that the word is, if it is one.
    pub const fn decode(word: u32) -> Option<Self> {
        let width = Width::from_bit(word >> 31);
        let (op, rd, rn) = (AddSub::of(word), Reg::at(word, 0), RegOrSp::at(word, 5));
        Some(match bits(word, 23, 6) {
            0b100000 | 0b100001 => {
                let units = bits(word, 5, 19) << 2 | bits(word, 29, 2);
                match width {
                    Width::W => Self::Adr { rd, offset: AdrOffset::from_units(units) },
                    Width::X => Self::Adrp { rd, offset: PageOffset::from_units(units) },
                }
            }
            0b100010 if bit(word, 29) => Self::AddSubFlags { op, width, rd, rn, imm: ArithImm::of(word) },
            0b100010 => Self::AddSub { op, width, rd: RegOrSp::at(word, 0), rn, imm: ArithImm::of(word) },
            0b100100 => return Self::decode_logical(word, width),
            0b100101 => return Self::decode_move(word, width),
            0b100110 => return Self::decode_bitfield(word, width),
            0b100111 if bits(word, 29, 2) == 0 && !bit(word, 21) && bit(word, 22) == bit(word, 31) => {
                match BitPos::at(word, 10, width) {
                    Some(lsb) => Self::Extract { rd, rn: Reg::at(word, 5), rm: Reg::at(word, 16), lsb },
                    None => return None,
                }
            }
            _ => return None,
        })
    }

    const fn decode_logical(word: u32, width: Width) -> Option<Self> {
        let Some(imm) = BitmaskImm::of(word, width) else {
            return None;
        };
        let (rd, rn) = (RegOrSp::at(word, 0), Reg::at(word, 5));
        Some(match bits(word, 29, 2) {
            0 => Self::Logical { op: Logical::And, rd, rn, imm },
            1 => Self::Logical { op: Logical::Orr, rd, rn, imm },
            2 => Self::Logical { op: Logical::Eor, rd, rn, imm },
            _ => Self::LogicalFlags { rd: Reg::at(word, 0), rn, imm },
        })
    }

    const fn decode_move(word: u32, width: Width) -> Option<Self> {
        let op = match bits(word, 29, 2) {
            0 => MoveWide::Not,
            2 => MoveWide::Zero,
            3 => MoveWide::Keep,
            _ => return None,
        };
        match HalfWord::new(width, bits(word, 21, 2) * 16) {
            Ok(at) => Some(Self::MoveWide { op, rd: Reg::at(word, 0), imm: UImm::at(word, 5), at }),
            Err(_) => None,
        }
    }

    const fn decode_bitfield(word: u32, width: Width) -> Option<Self> {
        let op = match bits(word, 29, 2) {
            0 => BitfieldMove::Signed,
            1 => BitfieldMove::Keep,
            2 => BitfieldMove::Unsigned,
            _ => return None,
        };
        match BitfieldPlaces::new(width, bits(word, 16, 6), bits(word, 10, 6)) {
            Ok(places) if bit(word, 22) == bit(word, 31) => {
                Some(Self::Bitfield { op, rd: Reg::at(word, 0), rn: Reg::at(word, 5), places })
            }
            _ => None,
        }
    }
}

/// ADR's and ADRP's 21 bits at their two places.
const fn adr_field(units: u32) -> u32 {
    (units & 3) << 29 | (units >> 2) << 5
}
