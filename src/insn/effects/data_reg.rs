//! What arithmetic on registers does.

use super::{Change, Effects, Modifier, Signature};
use crate::insn::{CompareWith, DataReg, Flags, Key, LogicalOp, PointerAuth, Reg, Shift, Width};

impl DataReg {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::Logical { op, rd, rn, rm, shift, amount } => {
                let both = none.reads(rn).reads(rm);
                match op {
                    LogicalOp::Ands | LogicalOp::Bics => both.writes(rd).writes_flags(),
                    LogicalOp::Orr
                        if rn.is_zero()
                            && amount.get() == 0
                            && matches!((shift, amount.width()), (Shift::Lsl, Width::X)) =>
                    {
                        moved(both, rd, rm)
                    }
                    _ => both.writes(rd),
                }
            }
            Self::AddSub { flags, rd, rn, rm, .. } => with_flags(none.reads(rn).reads(rm).writes(rd), flags),
            Self::AddSubExtended { rd, rn, rm, .. } => none.reads_or_sp(rn).reads(rm).changes(rd, Change::Unknown),
            Self::AddSubExtendedFlags { rd, rn, rm, .. } => none.reads_or_sp(rn).reads(rm).writes(rd).writes_flags(),
            Self::AddSubCarry { flags, rd, rn, rm, .. } => {
                with_flags(none.reads(rn).reads(rm).reads_flags().writes(rd), flags)
            }
            // The flags that the mask leaves out are kept.
            Self::Rmif { rn, .. } => none.reads(rn).reads_flags().writes_flags(),
            // C is kept.
            Self::Setf { rn, .. } => none.reads(rn).reads_flags().writes_flags(),
            Self::CondCompare { rn, with, .. } => {
                let compared = none.reads(rn).reads_flags().writes_flags();
                match with {
                    CompareWith::Reg(rm) => compared.reads(rm),
                    CompareWith::Imm(_) => compared,
                }
            }
            Self::CondSelect { rd, rn, rm, .. } => none.reads(rn).reads(rm).reads_flags().writes(rd),
            Self::OneSource { rd, rn, .. } | Self::Rev32 { rd, rn } => none.reads(rn).writes(rd),
            Self::PointerAuth { op, rd, rn } => {
                signed(none.reads(rd).reads_or_sp(rn).writes(rd), op, rd, Modifier::Value(rn))
            }
            Self::PointerAuthZero { op, rd } => signed(none.reads(rd).writes(rd), op, rd, Modifier::Zero),
            Self::Xpaci { rd: Reg::LR } => none.reads(Reg::LR).writes(Reg::LR).signature(Signature::Stripped),
            Self::Xpaci { rd } | Self::Xpacd { rd } => none.reads(rd).writes(rd),
            Self::Pacga { rd, rn, rm } => none.reads(rn).reads_or_sp(rm).writes(rd),
            Self::TwoSource { rd, rn, rm, .. }
            | Self::Crc32 { rd, rn, rm, .. }
            | Self::MultiplyHigh { rd, rn, rm, .. } => none.reads(rn).reads(rm).writes(rd),
            Self::MultiplyAdd { rd, rn, rm, ra, .. } | Self::MultiplyLong { rd, rn, rm, ra, .. } => {
                none.reads(rn).reads(rm).reads(ra).writes(rd)
            }
        }
    }
}

const fn with_flags(effects: Effects, flags: Flags) -> Effects {
    match flags {
        Flags::Set => effects.writes_flags(),
        Flags::Kept => effects,
    }
}

/// Signing and checking of instruction addresses in LR. What the keys for data do there, a return does not undo.
const fn signed(effects: Effects, op: PointerAuth, rd: Reg, modifier: Modifier) -> Effects {
    if !matches!(rd, Reg::LR) {
        return effects;
    }
    effects.signature(match op {
        PointerAuth::PacIa => Signature::Signed(Key::A, modifier),
        PointerAuth::PacIb => Signature::Signed(Key::B, modifier),
        PointerAuth::AutIa => Signature::Authenticated(Key::A, modifier),
        PointerAuth::AutIb => Signature::Authenticated(Key::B, modifier),
        PointerAuth::PacDa | PointerAuth::PacDb | PointerAuth::AutDa | PointerAuth::AutDb => Signature::Kept,
    })
}

/// A whole register moved into another.
const fn moved(effects: Effects, rd: Reg, rm: Reg) -> Effects {
    match (rd.or_sp(), rm.or_sp()) {
        (Some(to), Some(from)) if to.number() == from.number() => effects.changes(to, Change::By(0)),
        (Some(to), Some(from)) => effects.changes(to, Change::From(from, 0)),
        (Some(to), None) => effects.changes(to, Change::Unknown),
        (None, _) => effects,
    }
}
