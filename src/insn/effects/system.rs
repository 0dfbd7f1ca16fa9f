//! What system instructions do.

use super::{Change, Effects, Flow, MemoryUse};
use crate::insn::{Hint, PstateField, Reg, RegOrSp, SysReg, System};

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
            Self::Sys { rt, .. } => none.reads(rt).memory(MemoryUse::Maintenance),
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
                none.reads(Reg::LR).reads_or_sp(RegOrSp::SP).writes(Reg::LR)
            }
            Self::XPACLRI | Self::PACIAZ | Self::PACIBZ | Self::AUTIAZ | Self::AUTIBZ => {
                none.reads(Reg::LR).writes(Reg::LR)
            }
            Self::CHKFEAT => none.reads(Reg::X16).writes(Reg::X16),
            _ => none,
        }
    }
}
