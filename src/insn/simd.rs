//! The part of Arm ARM C4.1, "Data Processing -- Scalar Floating-Point and Advanced SIMD", that compilers use for copying,
//! comparing and converting in code that is not numeric. Each instruction is described in C7.2 under its own name.

use super::simd_shapes::lane_field;
use super::{
    Cond, FloatMove, FloatOne, FloatSize, FloatTwo, Lane, ModifiedImm, Permute, Reg, ShiftBy, Sign, UImm, VReg,
    VectorLogical, VectorThree, Width,
};

/// Data processing on SIMD and floating-point registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "insn",
    expect(missing_docs, reason = "rd is always the result, rn and rm the operands, as everywhere")
)]
pub enum Simd {
    /// Two vectors, bit by bit.
    Logical { op: VectorLogical, full: UImm<1>, rd: VReg, rn: VReg, rm: VReg },
    /// Two vectors, element by element.
    Three { op: VectorThree, rd: VReg, rn: VReg, rm: VReg },
    /// A vector shifted by a number.
    Shift { by: ShiftBy, rd: VReg, rn: VReg },
    /// MOVI, MVNI, ORR, BIC with a number.
    Immediate { imm: ModifiedImm, rd: VReg },
    /// MVN: a vector's bits inverted.
    Not { full: UImm<1>, rd: VReg, rn: VReg },
    /// DUP (general): a general register to every element; never to a single double word.
    DupGeneral { to: VectorThree, rd: VReg, rn: Reg },
    /// DUP (element) to a scalar: one element alone.
    DupScalar { lane: Lane, rd: VReg, rn: VReg },
    /// INS (general): a general register into one element.
    Insert { lane: Lane, rd: VReg, rn: Reg },
    /// UMOV: one element into a general register, unsigned.
    Extract { lane: Lane, rd: Reg, rn: VReg },
    /// EXT: bytes out of two vectors, 16 from the given place on.
    Ext { from: UImm<4>, rd: VReg, rn: VReg, rm: VReg },
    /// UZP, TRN, ZIP: two vectors' elements rearranged.
    Permute { op: Permute, of: VectorThree, rd: VReg, rn: VReg, rm: VReg },
    /// FMOV to a general register.
    ToGeneral { part: FloatMove, rd: Reg, rn: VReg },
    /// FMOV from a general register.
    FromGeneral { part: FloatMove, rd: VReg, rn: Reg },
    /// FMOV, FABS, FNEG, FSQRT.
    FloatOne { op: FloatOne, size: FloatSize, rd: VReg, rn: VReg },
    /// FADD and kin.
    FloatTwo { op: FloatTwo, size: FloatSize, rd: VReg, rn: VReg, rm: VReg },
    /// FCMP.
    FloatCompare { size: FloatSize, rn: VReg, rm: VReg },
    /// FCMP with zero.
    FloatCompareZero { size: FloatSize, rn: VReg },
    /// FCSEL.
    FloatSelect { size: FloatSize, rd: VReg, rn: VReg, rm: VReg, cond: Cond },
    /// SCVTF, UCVTF: a general register's number.
    FromInteger { sign: Sign, width: Width, size: FloatSize, rd: VReg, rn: Reg },
    /// FCVTZS, FCVTZU: a number for a general register, rounded towards zero.
    ToInteger { sign: Sign, width: Width, size: FloatSize, rd: Reg, rn: VReg },
}

impl Simd {
    /// The instruction's word.
    pub const fn encode(self) -> u32 {
        match self {
            Self::Logical { op, full, rd, rn, rm } => {
                let op = op as u32;
                0x0e20_1c00 | full.get() << 30 | (op >> 2) << 29 | (op & 3) << 22 | three(rd, rn, rm)
            }
            Self::Three { op, rd, rn, rm } => 0x0e20_0400 | op.op().field() | shape(op) | three(rd, rn, rm),
            Self::Shift { by, rd, rn } => 0x0f00_0400 | by.field() | two(rd, rn),
            Self::Immediate { imm, rd } => 0x0f00_0400 | imm.field() | rd.field(),
            Self::Not { full, rd, rn } => 0x2e20_5800 | full.get() << 30 | two(rd, rn),
            Self::DupGeneral { to, rd, rn } => {
                let size = 1 << (16 + to.arrangement().log2_element());
                0x0e00_0c00 | to.arrangement().q() << 30 | size | rn.field() << 5 | rd.field()
            }
            Self::DupScalar { lane, rd, rn } => 0x5e00_0400 | lane_field(lane) | two(rd, rn),
            Self::Insert { lane, rd, rn } => 0x4e00_1c00 | lane_field(lane) | rn.field() << 5 | rd.field(),
            Self::Extract { lane, rd, rn } => {
                let q = if matches!(lane, Lane::D(_)) { 1 << 30 } else { 0 };
                0x0e00_3c00 | q | lane_field(lane) | rn.field() << 5 | rd.field()
            }
            Self::Ext { from, rd, rn, rm } => 0x6e00_0000 | from.get() << 11 | three(rd, rn, rm),
            Self::Permute { op, of, rd, rn, rm } => 0x0e00_0800 | shape(of) | (op as u32) << 12 | three(rd, rn, rm),
            Self::ToGeneral { part, rd, rn } => part.field() | rn.field() << 5 | rd.field(),
            Self::FromGeneral { part, rd, rn } => part.field() | 1 << 16 | rn.field() << 5 | rd.field(),
            Self::FloatOne { op, size, rd, rn } => 0x1e20_4000 | (size as u32) << 22 | (op as u32) << 15 | two(rd, rn),
            Self::FloatTwo { op, size, rd, rn, rm } => {
                0x1e20_0800 | (size as u32) << 22 | (op as u32) << 12 | three(rd, rn, rm)
            }
            Self::FloatCompare { size, rn, rm } => {
                0x1e20_2000 | (size as u32) << 22 | rm.field() << 16 | rn.field() << 5
            }
            Self::FloatCompareZero { size, rn } => 0x1e20_2008 | (size as u32) << 22 | rn.field() << 5,
            Self::FloatSelect { size, rd, rn, rm, cond } => {
                0x1e20_0c00 | (size as u32) << 22 | cond.field() << 12 | three(rd, rn, rm)
            }
            Self::FromInteger { sign, width, size, rd, rn } => {
                let kind = width.sf() << 31 | (size as u32) << 22 | (sign as u32) << 16;
                0x1e22_0000 | kind | rn.field() << 5 | rd.field()
            }
            Self::ToInteger { sign, width, size, rd, rn } => {
                let kind = width.sf() << 31 | (size as u32) << 22 | (sign as u32) << 16;
                0x1e38_0000 | kind | rn.field() << 5 | rd.field()
            }
        }
    }
}

const fn shape(of: VectorThree) -> u32 {
    of.arrangement().q() << 30 | of.arrangement().log2_element() << 22
}

const fn two(rd: VReg, rn: VReg) -> u32 {
    rn.field() << 5 | rd.field()
}

const fn three(rd: VReg, rn: VReg, rm: VReg) -> u32 {
    rm.field() << 16 | two(rd, rn)
}
