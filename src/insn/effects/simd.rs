//! What data processing on SIMD and floating-point registers does.

use super::Effects;
use crate::insn::{FloatMove, Simd, VectorLogical};

impl Simd {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::Logical { op: VectorLogical::Bsl | VectorLogical::Bit | VectorLogical::Bif, rd, rn, rm, .. } => {
                none.vector_reads(rd).vector_reads(rn).vector_reads(rm).vector_writes(rd)
            }
            Self::Logical { rd, rn, rm, .. }
            | Self::Three { rd, rn, rm, .. }
            | Self::Ext { rd, rn, rm, .. }
            | Self::Permute { rd, rn, rm, .. }
            | Self::FloatTwo { rd, rn, rm, .. } => none.vector_reads(rn).vector_reads(rm).vector_writes(rd),
            Self::Shift { rd, rn, .. }
            | Self::Not { rd, rn, .. }
            | Self::DupScalar { rd, rn, .. }
            | Self::FloatOne { rd, rn, .. } => none.vector_reads(rn).vector_writes(rd),
            Self::Immediate { imm, rd } if imm.keeps() => none.vector_reads(rd).vector_writes(rd),
            Self::Immediate { rd, .. } => none.vector_writes(rd),
            Self::FromGeneral { part: FloatMove::Upper, rd, rn } | Self::Insert { rd, rn, .. } => {
                none.reads(rn).vector_reads(rd).vector_writes(rd)
            }
            Self::DupGeneral { rd, rn, .. } | Self::FromGeneral { rd, rn, .. } | Self::FromInteger { rd, rn, .. } => {
                none.reads(rn).vector_writes(rd)
            }
            Self::Extract { rd, rn, .. } | Self::ToGeneral { rd, rn, .. } | Self::ToInteger { rd, rn, .. } => {
                none.vector_reads(rn).writes(rd)
            }
            Self::FloatCompare { rn, rm, .. } => none.vector_reads(rn).vector_reads(rm).writes_flags(),
            Self::FloatCompareZero { rn, .. } => none.vector_reads(rn).writes_flags(),
            Self::FloatSelect { rd, rn, rm, .. } => {
                none.vector_reads(rn).vector_reads(rm).reads_flags().vector_writes(rd)
            }
        }
    }
}
