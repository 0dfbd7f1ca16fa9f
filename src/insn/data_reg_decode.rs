//! Decoding of arithmetic on registers: the other direction of [`DataReg::encode`].

use super::data_reg::{XPACD, XPACI};
use super::imm::{bit, bits};
use super::{
    Accumulate, AddSub, ArithShift, BitPos, CompareWith, Cond, CrcPolynomial, CrcSize, DataReg, Extend, ExtendShift,
    Flags, LogicalOp, OneSource, PointerAuth, Reg, RegOrSp, Select, SetfSize, Shift, Sign, TwoSource, UImm, Width,
};

const fn rd(word: u32) -> Reg {
    Reg::at(word, 0)
}

const fn rn(word: u32) -> Reg {
    Reg::at(word, 5)
}

const fn rm(word: u32) -> Reg {
    Reg::at(word, 16)
}

const fn width(word: u32) -> Width {
    Width::from_bit(word >> 31)
}

impl DataReg {
    /// The instruction of this class that the word is, if it is one.
    pub const fn decode(word: u32) -> Option<Self> {
        // Bits 28 to 21 tell the group.
        match bits(word, 21, 8) {
            0b0101_0000..=0b0101_0111 => logical(word),
            0b0101_1000 | 0b0101_1010 | 0b0101_1100 => add_sub_shifted(word),
            0b0101_1001 => add_sub_extended(word),
            0b1101_0000 => carry_or_flags(word),
            0b1101_0010 => conditional_compare(word),
            0b1101_0100 => conditional_select(word),
            0b1101_0110 if bit(word, 30) => one_source(word),
            0b1101_0110 => two_source(word),
            0b1101_1000..=0b1101_1111 => three_source(word),
            _ => None,
        }
    }
}

const fn logical(word: u32) -> Option<DataReg> {
    let op = match bits(word, 29, 2) << 1 | bits(word, 21, 1) {
        0 => LogicalOp::And,
        1 => LogicalOp::Bic,
        2 => LogicalOp::Orr,
        3 => LogicalOp::Orn,
        4 => LogicalOp::Eor,
        5 => LogicalOp::Eon,
        6 => LogicalOp::Ands,
        _ => LogicalOp::Bics,
    };
    let shift = match bits(word, 22, 2) {
        0 => Shift::Lsl,
        1 => Shift::Lsr,
        2 => Shift::Asr,
        _ => Shift::Ror,
    };
    match BitPos::at(word, 10, width(word)) {
        Some(amount) => Some(DataReg::Logical { op, rd: rd(word), rn: rn(word), rm: rm(word), shift, amount }),
        None => None,
    }
}

const fn add_sub_shifted(word: u32) -> Option<DataReg> {
    let (op, flags) = (AddSub::of(word), Flags::of(word));
    let shift = match bits(word, 22, 2) {
        0 => ArithShift::Lsl,
        1 => ArithShift::Lsr,
        2 => ArithShift::Asr,
        _ => return None,
    };
    match BitPos::at(word, 10, width(word)) {
        Some(amount) => Some(DataReg::AddSub { op, flags, rd: rd(word), rn: rn(word), rm: rm(word), shift, amount }),
        None => None,
    }
}

const fn add_sub_extended(word: u32) -> Option<DataReg> {
    let (op, width, rn, rm) = (AddSub::of(word), width(word), RegOrSp::at(word, 5), rm(word));
    let extend = match bits(word, 13, 3) {
        0 => Extend::Uxtb,
        1 => Extend::Uxth,
        2 => Extend::Uxtw,
        3 => Extend::Uxtx,
        4 => Extend::Sxtb,
        5 => Extend::Sxth,
        6 => Extend::Sxtw,
        _ => Extend::Sxtx,
    };
    let Ok(amount) = ExtendShift::new(bits(word, 10, 3)) else {
        return None;
    };
    Some(match Flags::of(word) {
        Flags::Set => DataReg::AddSubExtendedFlags { op, width, rd: rd(word), rn, rm, extend, amount },
        Flags::Kept => DataReg::AddSubExtended { op, width, rd: RegOrSp::at(word, 0), rn, rm, extend, amount },
    })
}

const fn carry_or_flags(word: u32) -> Option<DataReg> {
    let (width, rd, rn, rm) = (width(word), rd(word), rn(word), rm(word));
    if bits(word, 10, 6) == 0 {
        let (op, flags) = (AddSub::of(word), Flags::of(word));
        return Some(DataReg::AddSubCarry { op, flags, width, rd, rn, rm });
    }
    if bits(word, 29, 3) == 0b101 && bits(word, 10, 5) == 1 && !bit(word, 4) {
        return Some(DataReg::Rmif { rn, shift: UImm::at(word, 15), mask: UImm::at(word, 0) });
    }
    match word & !(31 << 5) {
        0x3a00_080d => Some(DataReg::Setf { size: SetfSize::Byte, rn }),
        0x3a00_480d => Some(DataReg::Setf { size: SetfSize::Half, rn }),
        _ => None,
    }
}

const fn conditional_compare(word: u32) -> Option<DataReg> {
    if bit(word, 4) || bit(word, 10) || !bit(word, 29) {
        return None;
    }
    let with = if bit(word, 11) { CompareWith::Imm(UImm::at(word, 16)) } else { CompareWith::Reg(rm(word)) };
    let (op, width, rn) = (AddSub::of(word), width(word), rn(word));
    let (nzcv, cond) = (UImm::at(word, 0), Cond::at(word, 12));
    Some(DataReg::CondCompare { op, width, rn, with, nzcv, cond })
}

const fn conditional_select(word: u32) -> Option<DataReg> {
    if bit(word, 29) || bit(word, 11) {
        return None;
    }
    let select = match bits(word, 30, 1) << 1 | bits(word, 10, 1) {
        0 => Select::Same,
        1 => Select::Increment,
        2 => Select::Invert,
        _ => Select::Negate,
    };
    let (width, rd, rn, rm, cond) = (width(word), rd(word), rn(word), rm(word), Cond::at(word, 12));
    Some(DataReg::CondSelect { select, width, rd, rn, rm, cond })
}

const fn one_source(word: u32) -> Option<DataReg> {
    if bit(word, 29) {
        return None;
    }
    let (width, rd, rn) = (width(word), rd(word), rn(word));
    let op = match (bits(word, 16, 5), bits(word, 10, 6), width) {
        (0, 0, _) => OneSource::Rbit,
        (0, 1, _) => OneSource::Rev16,
        (0, 2, Width::W) | (0, 3, Width::X) => OneSource::Rev,
        (0, 2, Width::X) => return Some(DataReg::Rev32 { rd, rn }),
        (0, 4, _) => OneSource::Clz,
        (0, 5, _) => OneSource::Cls,
        (1, _, Width::X) => return pointer_auth(word),
        _ => return None,
    };
    Some(DataReg::OneSource { op, width, rd, rn })
}

const fn pointer_auth(word: u32) -> Option<DataReg> {
    let rd = rd(word);
    let op = match bits(word, 10, 3) {
        0 => PointerAuth::PacIa,
        1 => PointerAuth::PacIb,
        2 => PointerAuth::PacDa,
        3 => PointerAuth::PacDb,
        4 => PointerAuth::AutIa,
        5 => PointerAuth::AutIb,
        6 => PointerAuth::AutDa,
        _ => PointerAuth::AutDb,
    };
    match (bits(word, 13, 3), word & !31) {
        (0, _) => Some(DataReg::PointerAuth { op, rd, rn: RegOrSp::at(word, 5) }),
        (1, _) if bits(word, 5, 5) == 31 => Some(DataReg::PointerAuthZero { op, rd }),
        (_, XPACI) => Some(DataReg::Xpaci { rd }),
        (_, XPACD) => Some(DataReg::Xpacd { rd }),
        _ => None,
    }
}

const fn two_source(word: u32) -> Option<DataReg> {
    if bit(word, 29) {
        return None;
    }
    let (width, rd, rn, rm) = (width(word), rd(word), rn(word), rm(word));
    let opcode = bits(word, 10, 6);
    let op = match (opcode, width) {
        (2, _) => TwoSource::Udiv,
        (3, _) => TwoSource::Sdiv,
        (8, _) => TwoSource::Lslv,
        (9, _) => TwoSource::Lsrv,
        (10, _) => TwoSource::Asrv,
        (11, _) => TwoSource::Rorv,
        (12, Width::X) => {
            return Some(DataReg::Pacga { rd, rn, rm: RegOrSp::at(word, 16) });
        }
        (16..=23, _) => {
            let polynomial = if bit(word, 12) { CrcPolynomial::Crc32c } else { CrcPolynomial::Crc32 };
            let size = match (opcode & 3, width) {
                (0, Width::W) => CrcSize::Byte,
                (1, Width::W) => CrcSize::Half,
                (2, Width::W) => CrcSize::Word,
                (3, Width::X) => CrcSize::Double,
                _ => return None,
            };
            return Some(DataReg::Crc32 { polynomial, size, rd, rn, rm });
        }
        _ => return None,
    };
    Some(DataReg::TwoSource { op, width, rd, rn, rm })
}

const fn three_source(word: u32) -> Option<DataReg> {
    if bits(word, 29, 2) != 0 {
        return None;
    }
    let (width, rd, rn, rm, ra) = (width(word), rd(word), rn(word), rm(word), Reg::at(word, 10));
    let op = if bit(word, 15) { Accumulate::Sub } else { Accumulate::Add };
    let sign = if bit(word, 23) { Sign::Unsigned } else { Sign::Signed };
    Some(match (bits(word, 21, 3), width) {
        (0b000, _) => DataReg::MultiplyAdd { op, width, rd, rn, rm, ra },
        (0b001 | 0b101, Width::X) => DataReg::MultiplyLong { op, sign, rd, rn, rm, ra },
        (0b010 | 0b110, Width::X) if bits(word, 10, 6) == 31 => DataReg::MultiplyHigh { sign, rd, rn, rm },
        _ => return None,
    })
}
