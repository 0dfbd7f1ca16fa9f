//! What arithmetic on a register and a number does.

use super::{Change, Effects};
use crate::insn::{AddSub, ArithImm, BitfieldMove, DataImm, MoveWide, RegOrSp, Width};

impl DataImm {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::Adr { rd, .. } | Self::Adrp { rd, .. } => none.writes(rd),
            Self::AddSub { op, width, rd, rn, imm } => none.reads_or_sp(rn).changes(rd, change(op, width, rd, rn, imm)),
            Self::AddSubFlags { rd, rn, .. } => none.reads_or_sp(rn).writes(rd).writes_flags(),
            Self::Logical { rd, rn, .. } => none.reads(rn).changes(rd, Change::Unknown),
            Self::LogicalFlags { rd, rn, .. } => none.reads(rn).writes(rd).writes_flags(),
            Self::MoveWide { op: MoveWide::Keep, rd, .. } => none.reads(rd).writes(rd),
            Self::MoveWide { rd, .. } => none.writes(rd),
            Self::Bitfield { op: BitfieldMove::Keep, rd, rn, .. } => none.reads(rn).reads(rd).writes(rd),
            Self::Bitfield { rd, rn, .. } => none.reads(rn).writes(rd),
            Self::Extract { rd, rn, rm, .. } => none.reads(rn).reads(rm).writes(rd),
        }
    }
}

/// What becomes of `rd` by ADD or SUB.
const fn change(op: AddSub, width: Width, rd: RegOrSp, rn: RegOrSp, imm: ArithImm) -> Change {
    let value = imm.value() as i64;
    let bytes = match op {
        AddSub::Add => value,
        AddSub::Sub => -value,
    };
    match width {
        // The upper half is lost.
        Width::W => Change::Unknown,
        Width::X if rd.number() == rn.number() => Change::By(bytes),
        Width::X => Change::From(rn, bytes),
    }
}
