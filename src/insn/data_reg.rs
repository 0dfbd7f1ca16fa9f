//! Arithmetic on registers: Arm ARM C4.1, "Data Processing -- Register". Each instruction is described in C6.2 under its
//! own name.

use super::{
    Accumulate, AddSub, ArithShift, BitPos, CompareWith, Cond, CrcPolynomial, CrcSize, Extend, ExtendShift, Flags,
    LogicalOp, OneSource, PointerAuth, Reg, RegOrSp, Select, SetfSize, Shift, Sign, TwoSource, UImm, Width,
};

/// Arithmetic on registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataReg {
    /// AND, BIC, ORR, ORN, EOR, EON, ANDS, BICS (shifted register); MOV, MVN and TST are among them.
    Logical {
        /// Which.
        op: LogicalOp,
        /// The result.
        rd: Reg,
        /// The register.
        rn: Reg,
        /// The register that is shifted.
        rm: Reg,
        /// How it is shifted.
        shift: Shift,
        /// How far, and the registers' width.
        amount: BitPos,
    },
    /// ADD, ADDS, SUB, SUBS (shifted register); CMN, CMP, NEG and NEGS are among them.
    AddSub {
        /// Which.
        op: AddSub,
        /// Whether the flags are set.
        flags: Flags,
        /// The result.
        rd: Reg,
        /// The register.
        rn: Reg,
        /// The register that is shifted.
        rm: Reg,
        /// How it is shifted.
        shift: ArithShift,
        /// How far, and the registers' width.
        amount: BitPos,
    },
    /// ADD, SUB (extended register).
    AddSubExtended {
        /// Which.
        op: AddSub,
        /// The registers' width.
        width: Width,
        /// The result.
        rd: RegOrSp,
        /// The register.
        rn: RegOrSp,
        /// The register that is widened.
        rm: Reg,
        /// How it is widened.
        extend: Extend,
        /// How far it is shifted left after that.
        amount: ExtendShift,
    },
    /// ADDS, SUBS (extended register); CMN and CMP when the result goes to the zero register.
    AddSubExtendedFlags {
        /// Which.
        op: AddSub,
        /// The registers' width.
        width: Width,
        /// The result.
        rd: Reg,
        /// The register.
        rn: RegOrSp,
        /// The register that is widened.
        rm: Reg,
        /// How it is widened.
        extend: Extend,
        /// How far it is shifted left after that.
        amount: ExtendShift,
    },
    /// ADC, ADCS, SBC, SBCS; NGC and NGCS when the first register is zero.
    AddSubCarry {
        /// Which.
        op: AddSub,
        /// Whether the flags are set.
        flags: Flags,
        /// The registers' width.
        width: Width,
        /// The result.
        rd: Reg,
        /// The first register.
        rn: Reg,
        /// The second register.
        rm: Reg,
    },
    /// RMIF: rotate, mask, insert flags.
    Rmif {
        /// The register.
        rn: Reg,
        /// How far it is rotated to the right.
        shift: UImm<6>,
        /// Which flags are set from the result.
        mask: UImm<4>,
    },
    /// SETF8, SETF16: the flags from a byte or half-word.
    Setf {
        /// Byte (false) or half-word.
        size: SetfSize,
        /// The register.
        rn: Reg,
    },
    /// CCMN, CCMP: compare if a condition holds.
    CondCompare {
        /// CCMN adds, CCMP subtracts.
        op: AddSub,
        /// The registers' width.
        width: Width,
        /// The register.
        rn: Reg,
        /// What with.
        with: CompareWith,
        /// The flags if the condition does not hold.
        nzcv: UImm<4>,
        /// The condition.
        cond: Cond,
    },
    /// CSEL, CSINC, CSINV, CSNEG; CSET, CSETM, CINC, CINV and CNEG are among them.
    CondSelect {
        /// What becomes of the second register.
        select: Select,
        /// The registers' width.
        width: Width,
        /// The result.
        rd: Reg,
        /// The register taken when the condition holds.
        rn: Reg,
        /// The register taken when it does not.
        rm: Reg,
        /// The condition.
        cond: Cond,
    },
    /// RBIT, REV16, REV, CLZ, CLS.
    OneSource {
        /// Which.
        op: OneSource,
        /// The registers' width.
        width: Width,
        /// The result.
        rd: Reg,
        /// The register.
        rn: Reg,
    },
    /// REV32: the bytes of each half of an X register backwards.
    Rev32 {
        /// The result.
        rd: Reg,
        /// The register.
        rn: Reg,
    },
    /// PACIA to AUTDB.
    PointerAuth {
        /// Which.
        op: PointerAuth,
        /// The pointer.
        rd: Reg,
        /// The modifier.
        rn: RegOrSp,
    },
    /// PACIZA to AUTDZB: with zero as the modifier.
    PointerAuthZero {
        /// Which.
        op: PointerAuth,
        /// The pointer.
        rd: Reg,
    },
    /// XPACI: an instruction address without its signature.
    Xpaci {
        /// The pointer.
        rd: Reg,
    },
    /// XPACD: a data address without its signature.
    Xpacd {
        /// The pointer.
        rd: Reg,
    },
    /// PACGA: the signature alone.
    Pacga {
        /// The result.
        rd: Reg,
        /// The value.
        rn: Reg,
        /// The modifier.
        rm: RegOrSp,
    },
    /// UDIV, SDIV, LSLV, LSRV, ASRV, RORV.
    TwoSource {
        /// Which.
        op: TwoSource,
        /// The registers' width.
        width: Width,
        /// The result.
        rd: Reg,
        /// The first register.
        rn: Reg,
        /// The second register.
        rm: Reg,
    },
    /// CRC32B to CRC32CX.
    Crc32 {
        /// The polynomial.
        polynomial: CrcPolynomial,
        /// What is taken in.
        size: CrcSize,
        /// The result.
        rd: Reg,
        /// The checksum so far.
        rn: Reg,
        /// The data.
        rm: Reg,
    },
    /// MADD, MSUB; MUL and MNEG when nothing is added to.
    MultiplyAdd {
        /// Which.
        op: Accumulate,
        /// The registers' width.
        width: Width,
        /// The result.
        rd: Reg,
        /// One factor.
        rn: Reg,
        /// The other.
        rm: Reg,
        /// What the product is added to or subtracted from.
        ra: Reg,
    },
    /// SMADDL, SMSUBL, UMADDL, UMSUBL: 32-bit factors, 64-bit product.
    MultiplyLong {
        /// Which.
        op: Accumulate,
        /// Whether the factors have a sign.
        sign: Sign,
        /// The result.
        rd: Reg,
        /// One factor.
        rn: Reg,
        /// The other.
        rm: Reg,
        /// What the product is added to or subtracted from.
        ra: Reg,
    },
    /// SMULH, UMULH: the upper half of a 128-bit product.
    MultiplyHigh {
        /// Whether the factors have a sign.
        sign: Sign,
        /// The result.
        rd: Reg,
        /// One factor.
        rn: Reg,
        /// The other.
        rm: Reg,
    },
}

impl DataReg {
    /// The instruction's word.
    pub const fn encode(self) -> u32 {
        match self {
            Self::Logical { op, rd, rn, rm, shift, amount } => {
                let op = op as u32;
                let op = (op >> 1) << 29 | (op & 1) << 21 | (shift as u32) << 22;
                0x0a00_0000 | amount.width().sf() << 31 | op | amount.get() << 10 | three(rd, rn, rm)
            }
            Self::AddSub { op, flags, rd, rn, rm, shift, amount } => {
                let op = op.field() | flags.field() | (shift as u32) << 22;
                0x0b00_0000 | amount.width().sf() << 31 | op | amount.get() << 10 | three(rd, rn, rm)
            }
            Self::AddSubExtended { op, width, rd, rn, rm, extend, amount } => {
                let extend = (extend as u32) << 13 | amount.get() << 10;
                let registers = rm.field() << 16 | rn.field() << 5 | rd.field();
                0x0b20_0000 | width.sf() << 31 | op.field() | extend | registers
            }
            Self::AddSubExtendedFlags { op, width, rd, rn, rm, extend, amount } => {
                let extend = (extend as u32) << 13 | amount.get() << 10;
                let registers = rm.field() << 16 | rn.field() << 5 | rd.field();
                0x2b20_0000 | width.sf() << 31 | op.field() | extend | registers
            }
            Self::AddSubCarry { op, flags, width, rd, rn, rm } => {
                0x1a00_0000 | width.sf() << 31 | op.field() | flags.field() | three(rd, rn, rm)
            }
            Self::Rmif { rn, shift, mask } => 0xba00_0400 | shift.get() << 15 | rn.field() << 5 | mask.get(),
            Self::Setf { size, rn } => 0x3a00_080d | (size as u32) << 14 | rn.field() << 5,
            Self::CondCompare { op, width, rn, with, nzcv, cond } => {
                let with = match with {
                    CompareWith::Reg(rm) => rm.field() << 16,
                    CompareWith::Imm(imm) => imm.get() << 16 | 1 << 11,
                };
                let rest = cond.field() << 12 | rn.field() << 5 | nzcv.get();
                0x3a40_0000 | width.sf() << 31 | op.field() | with | rest
            }
            Self::CondSelect { select, width, rd, rn, rm, cond } => {
                let select = select as u32;
                let select = (select >> 1) << 30 | (select & 1) << 10;
                0x1a80_0000 | width.sf() << 31 | select | cond.field() << 12 | three(rd, rn, rm)
            }
            Self::OneSource { op, width, rd, rn } => {
                let opcode = match op {
                    OneSource::Rbit => 0,
                    OneSource::Rev16 => 1,
                    OneSource::Rev => 2 + width.sf(),
                    OneSource::Clz => 4,
                    OneSource::Cls => 5,
                };
                0x5ac0_0000 | width.sf() << 31 | opcode << 10 | rn.field() << 5 | rd.field()
            }
            Self::Rev32 { rd, rn } => 0xdac0_0800 | rn.field() << 5 | rd.field(),
            Self::PointerAuth { op, rd, rn } => 0xdac1_0000 | (op as u32) << 10 | rn.field() << 5 | rd.field(),
            Self::PointerAuthZero { op, rd } => 0xdac1_23e0 | (op as u32) << 10 | rd.field(),
            Self::Xpaci { rd } => XPACI | rd.field(),
            Self::Xpacd { rd } => XPACD | rd.field(),
            Self::Pacga { rd, rn, rm } => 0x9ac0_3000 | rm.field() << 16 | rn.field() << 5 | rd.field(),
            Self::TwoSource { op, width, rd, rn, rm } => {
                0x1ac0_0000 | width.sf() << 31 | (op as u32) << 10 | three(rd, rn, rm)
            }
            Self::Crc32 { polynomial, size, rd, rn, rm } => {
                let sf = match size {
                    CrcSize::Double => 1 << 31,
                    _ => 0,
                };
                let op = (polynomial as u32) << 12 | (size as u32) << 10;
                0x1ac0_4000 | sf | op | three(rd, rn, rm)
            }
            Self::MultiplyAdd { op, width, rd, rn, rm, ra } => {
                0x1b00_0000 | width.sf() << 31 | (op as u32) << 15 | ra.field() << 10 | three(rd, rn, rm)
            }
            Self::MultiplyLong { op, sign, rd, rn, rm, ra } => {
                let op = (op as u32) << 15 | (sign as u32) << 23;
                0x9b20_0000 | op | ra.field() << 10 | three(rd, rn, rm)
            }
            Self::MultiplyHigh { sign, rd, rn, rm } => 0x9b40_7c00 | (sign as u32) << 23 | three(rd, rn, rm),
        }
    }
}

pub(super) const XPACI: u32 = 0xdac1_43e0;
pub(super) const XPACD: u32 = 0xdac1_47e0;

const fn three(rd: Reg, rn: Reg, rm: Reg) -> u32 {
    rm.field() << 16 | rn.field() << 5 | rd.field()
}
