//! What branches do.

use super::{Effects, Flow, Modifier, Signature};
use crate::insn::{Branch, Link, Reg, RegOrSp};

impl Branch {
    /// What the branch does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::B { offset } => none.flow(Flow::Jump(offset.bytes())),
            Self::Bl { offset } => none.writes(Reg::LR).flow(Flow::Call(offset.bytes())),
            Self::BCond { cond, offset } if cond.is_always() => none.reads_flags().flow(Flow::Jump(offset.bytes())),
            Self::BCond { offset, .. } => none.reads_flags().flow(Flow::CondJump(offset.bytes())),
            Self::CompareBranch { rt, offset, .. } => none.reads(rt).flow(Flow::CondJump(offset.bytes())),
            Self::TestBranch { rt, offset, .. } => none.reads(rt).flow(Flow::CondJump(offset.bytes())),
            Self::Register { link, rn } => to_register(link, rn),
            Self::RegisterAuth { link, rn, modifier, .. } => match modifier {
                Some(modifier) => to_register(link, rn).reads_or_sp(modifier),
                None => to_register(link, rn),
            },
            Self::Ret { rn } => none.reads(rn).flow(Flow::Return(rn)),
            Self::RetAuth { key } => none
                .reads(Reg::LR)
                .reads_or_sp(RegOrSp::SP)
                .signature(Signature::Authenticated(key, Modifier::Value(RegOrSp::SP)))
                .flow(Flow::Return(Reg::LR)),
            Self::EretAuth { .. } => none.reads_or_sp(RegOrSp::SP).flow(Flow::ExceptionReturn),
            Self::Eret | Self::Drps => none.flow(Flow::ExceptionReturn),
        }
    }
}

const fn to_register(link: Link, rn: Reg) -> Effects {
    let read = Effects::NONE.reads(rn);
    match link {
        Link::Jump => read.flow(Flow::IndirectJump(rn)),
        Link::Call => read.writes(Reg::LR).flow(Flow::IndirectCall(rn)),
    }
}
