//! Decoding of data processing on SIMD and floating-point registers: the other direction of [`Simd::encode`].

use super::imm::{bit, bits};
use super::simd_shapes::lane_of;
use super::{
    Arrangement, Cond, FloatMove, FloatOne, FloatSize, FloatTwo, Lane, ModifiedImm, Permute, Reg, ShiftBy, Sign, Simd,
    UImm, VReg, VectorLogical, VectorOp, VectorShift, VectorThree, Width,
};

const fn rd(word: u32) -> VReg {
    VReg::at(word, 0)
}

const fn rn(word: u32) -> VReg {
    VReg::at(word, 5)
}

const fn rm(word: u32) -> VReg {
    VReg::at(word, 16)
}

impl Simd {
    /// The instruction of this class that the word is, if it is one that is known here.
    pub const fn decode(word: u32) -> Option<Self> {
        match bits(word, 24, 8) {
            0x0e | 0x2e | 0x4e | 0x6e if bit(word, 21) && bit(word, 10) => vector_three(word),
            0x0e | 0x4e if !bit(word, 21) && bits(word, 10, 2) == 0b10 && !bit(word, 15) => permute(word),
            0x0e | 0x4e if bits(word, 21, 3) == 0 && bit(word, 10) && !bit(word, 15) => copy(word),
            0x2e | 0x6e if word & 0xbfff_fc00 == 0x2e20_5800 => {
                Some(Self::Not { full: UImm::at(word, 30), rd: rd(word), rn: rn(word) })
            }
            0x6e if word & 0xffe0_8400 == 0x6e00_0000 => {
                Some(Self::Ext { from: UImm::at(word, 11), rd: rd(word), rn: rn(word), rm: rm(word) })
            }
            0x0f | 0x2f | 0x4f | 0x6f if !bit(word, 23) && bit(word, 10) => immediate_or_shift(word),
            0x5e if word & 0xffe0_fc00 == 0x5e00_0400 => match lane_of(word) {
                Some(lane) => Some(Self::DupScalar { lane, rd: rd(word), rn: rn(word) }),
                None => None,
            },
            0x1e | 0x9e if bit(word, 21) => float(word),
            _ => None,
        }
    }
}

const fn shape(word: u32, op: VectorOp) -> Option<VectorThree> {
    match VectorThree::new(op, Arrangement::new(bits(word, 22, 2), bits(word, 30, 1))) {
        Ok(three) => Some(three),
        Err(_) => None,
    }
}

const fn vector_three(word: u32) -> Option<Simd> {
    let (rd, rn, rm, opcode) = (rd(word), rn(word), rm(word), bits(word, 11, 5));
    if opcode == 0b00011 {
        let op = match bits(word, 29, 1) << 2 | bits(word, 22, 2) {
            0 => VectorLogical::And,
            1 => VectorLogical::Bic,
            2 => VectorLogical::Orr,
            3 => VectorLogical::Orn,
            4 => VectorLogical::Eor,
            5 => VectorLogical::Bsl,
            6 => VectorLogical::Bit,
            _ => VectorLogical::Bif,
        };
        return Some(Simd::Logical { op, full: UImm::at(word, 30), rd, rn, rm });
    }
    let Some(op) = VectorOp::of(bits(word, 29, 1), opcode) else {
        return None;
    };
    match shape(word, op) {
        Some(op) => Some(Simd::Three { op, rd, rn, rm }),
        None => None,
    }
}

const fn permute(word: u32) -> Option<Simd> {
    let op = match bits(word, 12, 3) {
        1 => Permute::Uzp1,
        2 => Permute::Trn1,
        3 => Permute::Zip1,
        5 => Permute::Uzp2,
        6 => Permute::Trn2,
        7 => Permute::Zip2,
        _ => return None,
    };
    match shape(word, VectorOp::Add) {
        Some(of) => Some(Simd::Permute { op, of, rd: rd(word), rn: rn(word), rm: rm(word) }),
        None => None,
    }
}

const fn copy(word: u32) -> Option<Simd> {
    let Some(lane) = lane_of(word) else {
        return None;
    };
    let q = bits(word, 30, 1);
    match (bits(word, 11, 4), q, lane) {
        (0b0001, ..) => {
            // What would be the lane's number is ignored, and not claimed unless zero.
            let arrangement = Arrangement::new(lane.log2_bytes(), q);
            match VectorThree::new(VectorOp::Add, arrangement) {
                Ok(to) if lane.index() == 0 => Some(Simd::DupGeneral { to, rd: rd(word), rn: Reg::at(word, 5) }),
                _ => None,
            }
        }
        (0b0011, 1, _) => Some(Simd::Insert { lane, rd: rd(word), rn: Reg::at(word, 5) }),
        (0b0111, 1, Lane::D(_)) | (0b0111, 0, Lane::B(_) | Lane::H(_) | Lane::S(_)) => {
            Some(Simd::Extract { lane, rd: Reg::at(word, 0), rn: rn(word) })
        }
        _ => None,
    }
}

const fn immediate_or_shift(word: u32) -> Option<Simd> {
    let immh = bits(word, 19, 4);
    if immh == 0 {
        if bit(word, 11) {
            return None;
        }
        let imm8 = UImm::truncated(bits(word, 16, 3) << 5 | bits(word, 5, 5));
        return match ModifiedImm::new(UImm::at(word, 30), UImm::at(word, 29), UImm::at(word, 12), imm8) {
            Ok(imm) => Some(Simd::Immediate { imm, rd: rd(word) }),
            Err(_) => None,
        };
    }
    let shift = match (bits(word, 29, 1), bits(word, 11, 5)) {
        (0, 0) => VectorShift::Sshr,
        (1, 0) => VectorShift::Ushr,
        (0, 0b01010) => VectorShift::Shl,
        (0, 0b10100) => VectorShift::Sshll,
        (1, 0b10100) => VectorShift::Ushll,
        _ => return None,
    };
    let log2 = immh.ilog2();
    let (places, bits_of) = (bits(word, 16, 7), 8u32 << log2);
    let amount = if shift.is_right() { 2 * bits_of - places } else { places - bits_of };
    match ShiftBy::new(shift, Arrangement::new(log2, bits(word, 30, 1)), amount) {
        Ok(by) => Some(Simd::Shift { by, rd: rd(word), rn: rn(word) }),
        Err(_) => None,
    }
}

const fn float(word: u32) -> Option<Simd> {
    let (rd, rn, rm) = (rd(word), rn(word), rm(word));
    if bits(word, 10, 6) == 0 {
        return convert(word);
    }
    let size = match bits(word, 22, 2) {
        0 => FloatSize::S,
        1 => FloatSize::D,
        3 => FloatSize::H,
        _ => return None,
    };
    if bit(word, 31) {
        return None;
    }
    match (bits(word, 10, 2), bits(word, 12, 4)) {
        (0b11, cond) => Some(Simd::FloatSelect { size, rd, rn, rm, cond: Cond::at(cond, 0) }),
        (0b10, opcode) => {
            let op = match opcode {
                0 => FloatTwo::Fmul,
                1 => FloatTwo::Fdiv,
                2 => FloatTwo::Fadd,
                3 => FloatTwo::Fsub,
                4 => FloatTwo::Fmax,
                5 => FloatTwo::Fmin,
                6 => FloatTwo::Fmaxnm,
                7 => FloatTwo::Fminnm,
                8 => FloatTwo::Fnmul,
                _ => return None,
            };
            Some(Simd::FloatTwo { op, size, rd, rn, rm })
        }
        (0b00, 0b0010) => match (bits(word, 0, 5), bits(word, 16, 5)) {
            (0, _) => Some(Simd::FloatCompare { size, rn, rm }),
            (8, 0) => Some(Simd::FloatCompareZero { size, rn }),
            _ => None,
        },
        (0b00, 0b0100 | 0b1100) => {
            let op = match bits(word, 15, 6) {
                0 => FloatOne::Fmov,
                1 => FloatOne::Fabs,
                2 => FloatOne::Fneg,
                3 => FloatOne::Fsqrt,
                _ => return None,
            };
            Some(Simd::FloatOne { op, size, rd, rn })
        }
        _ => None,
    }
}

/// Between floating-point and general registers.
const fn convert(word: u32) -> Option<Simd> {
    let (width, general) = (Width::from_bit(word >> 31), Reg::at(word, 5));
    if let Some(part) = FloatMove::of(word & 0xfffe_0000) {
        return Some(if bit(word, 16) {
            Simd::FromGeneral { part, rd: rd(word), rn: general }
        } else {
            Simd::ToGeneral { part, rd: Reg::at(word, 0), rn: rn(word) }
        });
    }
    let size = match bits(word, 22, 2) {
        0 => FloatSize::S,
        1 => FloatSize::D,
        3 => FloatSize::H,
        _ => return None,
    };
    let sign = if bit(word, 16) { Sign::Unsigned } else { Sign::Signed };
    match bits(word, 17, 4) {
        0b0001 => Some(Simd::FromInteger { sign, width, size, rd: rd(word), rn: general }),
        0b1100 => Some(Simd::ToInteger { sign, width, size, rd: Reg::at(word, 0), rn: rn(word) }),
        _ => None,
    }
}
