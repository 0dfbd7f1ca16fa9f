//! What system instructions do.

use super::{Change, Effects, Flow, MemoryUse, Modifier, Place, Signature};
use crate::insn::{Hint, Key, PstateField, Reg, RegOrSp, SysReg, System};

impl System {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::Udf { .. } | Self::Exception { .. } => none.flow(Flow::Exception),
            Self::Hint(hint) => hint.effects(),
            Self::Barrier { .. } | Self::Sb => none,
            Self::Mrs { rt, reg: SysReg::NZCV } => none.writes(rt).reads_flags(),
            // A random number tells in the flags whether there was one.
            Self::Mrs { rt, reg: SysReg::RNDR | SysReg::RNDRRS } => none.writes(rt).writes_flags(),
            Self::Mrs { rt, .. } => none.writes(rt),
            Self::Msr { reg: SysReg::NZCV, rt } => none.reads(rt).writes_flags(),
            Self::Msr { reg: SysReg::SP_SEL, rt } => none.reads(rt).changes(RegOrSp::SP, Change::Unknown),
            Self::Msr { rt, .. } => none.reads(rt),
            Self::MsrImm(write) => match write.field() {
                PstateField::SpSel => none.changes(RegOrSp::SP, Change::Unknown),
                _ => none,
            },
            Self::Cfinv | Self::Xaflag | Self::Axflag => none.reads_flags().writes_flags(),
            Self::Sys { rt, .. } => none.reads(rt).memory(MemoryUse::Maintenance).at(Place::Unknown),
            Self::Sysl { rt, .. } => none.writes(rt),
        }
    }
}

impl Hint {
    /// What the hint does where the processor has its feature.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::PACIA1716 | Self::PACIB1716 | Self::AUTIA1716 | Self::AUTIB1716 => {
                none.reads(Reg::X16).reads(Reg::X17).writes(Reg::X17)
            }
            Self::PACIASP | Self::PACIBSP | Self::AUTIASP | Self::AUTIBSP => {
                none.reads(Reg::LR).reads_or_sp(RegOrSp::SP).writes(Reg::LR).signature(self.signature())
            }
            Self::XPACLRI | Self::PACIAZ | Self::PACIBZ | Self::AUTIAZ | Self::AUTIBZ => {
                none.reads(Reg::LR).writes(Reg::LR).signature(self.signature())
            }
            Self::CHKFEAT => none.reads(Reg::X16).writes(Reg::X16),
            _ => none,
        }
    }

    /// What becomes of LR's signature.
    const fn signature(self) -> Signature {
        let sp = Modifier::Value(RegOrSp::SP);
        match self {
            Self::PACIASP => Signature::Signed(Key::A, sp),
            Self::PACIBSP => Signature::Signed(Key::B, sp),
            Self::PACIAZ => Signature::Signed(Key::A, Modifier::Zero),
            Self::PACIBZ => Signature::Signed(Key::B, Modifier::Zero),
            Self::AUTIASP => Signature::Authenticated(Key::A, sp),
            Self::AUTIBSP => Signature::Authenticated(Key::B, sp),
            Self::AUTIAZ => Signature::Authenticated(Key::A, Modifier::Zero),
            Self::AUTIBZ => Signature::Authenticated(Key::B, Modifier::Zero),
            Self::XPACLRI => Signature::Stripped,
            _ => Signature::Kept,
        }
    }
}
