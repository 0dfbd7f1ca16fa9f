//! What exclusive, ordered and atomic accesses do.

use super::memory::{moved_data, one, two};
use super::{Effects, MemoryUse, Place};
use crate::insn::{Atomic, Direction, RegOrSp, Size, Width};

const fn bytes(size: Size) -> u32 {
    1 << size as u32
}

/// Each register's.
const fn width_bytes(width: Width) -> u32 {
    width.bits() / 8
}

const fn at(rn: RegOrSp) -> Place {
    Place::Beside(rn, 0)
}

impl Atomic {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::LoadExclusive { size, rt, rn, .. } | Self::LoadAcquirePc { size, rt, rn } => {
                one(Direction::Load, none.reads_or_sp(rn), at(rn), rt, bytes(size))
            }
            Self::StoreExclusive { size, rs, rt, rn, .. } => {
                one(Direction::Store, none.reads_or_sp(rn).writes(rs), at(rn), rt, bytes(size))
            }
            Self::LoadExclusivePair { width, rt, rt2, rn, .. } => {
                two(Direction::Load, none.reads_or_sp(rn), at(rn), [rt, rt2], width_bytes(width))
            }
            Self::StoreExclusivePair { width, rs, rt, rt2, rn, .. } => {
                let effects = none.reads_or_sp(rn).writes(rs);
                two(Direction::Store, effects, at(rn), [rt, rt2], width_bytes(width))
            }
            Self::Ordered { direction, size, rt, rn, .. } => {
                one(direction, none.reads_or_sp(rn), at(rn), rt, bytes(size))
            }
            Self::OrderedUnscaled { access, rt, rn, offset } => {
                moved_data(none.reads_or_sp(rn), Place::Beside(rn, offset.get() as i64), access, rt)
            }
            Self::CompareSwap { size, rs, rt, rn, .. } => {
                let memory = MemoryUse::Update(bytes(size));
                none.reads_or_sp(rn).reads(rs).reads(rt).writes(rs).memory(memory).at(at(rn))
            }
            Self::CompareSwapPair { width, rs, rt, rn, .. } => {
                let memory = MemoryUse::Update(2 * width_bytes(width));
                let read = none.reads_or_sp(rn).reads(rs.first()).reads(rs.second());
                let read = read.reads(rt.first()).reads(rt.second());
                read.writes(rs.first()).writes(rs.second()).memory(memory).at(at(rn))
            }
            Self::ReadModifyWrite { size, rs, rt, rn, .. } => {
                none.reads_or_sp(rn).reads(rs).writes(rt).memory(MemoryUse::Update(bytes(size))).at(at(rn))
            }
        }
    }
}
