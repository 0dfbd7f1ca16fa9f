//! What exclusive, ordered and atomic accesses do.

use super::memory::moved_data;
use super::{Effects, MemoryUse};
use crate::insn::{Atomic, Size, Width};

const fn bytes(size: Size) -> u32 {
    1 << size as u32
}

const fn pair_bytes(width: Width) -> u32 {
    width.bits() / 4
}

impl Atomic {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::LoadExclusive { size, rt, rn, .. } | Self::LoadAcquirePc { size, rt, rn } => {
                none.reads_or_sp(rn).writes(rt).memory(MemoryUse::Load(bytes(size)))
            }
            Self::StoreExclusive { size, rs, rt, rn, .. } => {
                none.reads_or_sp(rn).reads(rt).writes(rs).memory(MemoryUse::Store(bytes(size)))
            }
            Self::LoadExclusivePair { width, rt, rt2, rn, .. } => {
                let memory = MemoryUse::Load(pair_bytes(width));
                none.reads_or_sp(rn).writes(rt).writes(rt2).memory(memory)
            }
            Self::StoreExclusivePair { width, rs, rt, rt2, rn, .. } => {
                let memory = MemoryUse::Store(pair_bytes(width));
                none.reads_or_sp(rn).reads(rt).reads(rt2).writes(rs).memory(memory)
            }
            Self::Ordered { direction, size, rt, rn, .. } => {
                let effects = none.reads_or_sp(rn);
                if direction.is_load() {
                    effects.writes(rt).memory(MemoryUse::Load(bytes(size)))
                } else {
                    effects.reads(rt).memory(MemoryUse::Store(bytes(size)))
                }
            }
            Self::OrderedUnscaled { access, rt, rn, .. } => moved_data(none.reads_or_sp(rn), access, rt),
            Self::CompareSwap { size, rs, rt, rn, .. } => {
                let memory = MemoryUse::Update(bytes(size));
                none.reads_or_sp(rn).reads(rs).reads(rt).writes(rs).memory(memory)
            }
            Self::CompareSwapPair { width, rs, rt, rn, .. } => {
                let memory = MemoryUse::Update(pair_bytes(width));
                let read = none.reads_or_sp(rn).reads(rs.first()).reads(rs.second());
                let read = read.reads(rt.first()).reads(rt.second());
                read.writes(rs.first()).writes(rs.second()).memory(memory)
            }
            Self::ReadModifyWrite { size, rs, rt, rn, .. } => {
                none.reads_or_sp(rn).reads(rs).writes(rt).memory(MemoryUse::Update(bytes(size)))
            }
        }
    }
}
