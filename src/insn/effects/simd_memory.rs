//! What loads and stores of SIMD and floating-point registers do.

use super::memory::{address_effects, pair_effects};
use super::{Change, Effects, MemoryUse};
use crate::insn::{Direction, RegOrSp, SimdMemory, StructPost, VReg};

impl SimdMemory {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::Single { direction, size, rt, rn, address } => {
                moved(address_effects(none, rn, address), direction, rt, 1, 1 << size.log2_bytes())
            }
            Self::Literal { size, rt, .. } => moved(none, Direction::Load, rt, 1, 1 << size.log2_bytes()),
            Self::Pair { direction, size, mode, rt, rt2, rn, offset } => {
                let effects = pair_effects(none, rn, mode, offset, size.log2_bytes());
                let bytes = 2 << size.log2_bytes();
                moved(moved(effects, direction, rt, 1, bytes), direction, rt2, 1, bytes)
            }
            Self::PairNonTemporal { direction, size, rt, rt2, rn, .. } => {
                let bytes = 2 << size.log2_bytes();
                moved(moved(none.reads_or_sp(rn), direction, rt, 1, bytes), direction, rt2, 1, bytes)
            }
            Self::Structures { direction, layout, rt, rn, post } => {
                let count = layout.list().registers();
                let bytes = layout.arrangement().bytes() * count as u32;
                moved(after(none, rn, post, bytes), direction, rt, count, bytes)
            }
            Self::Lane { direction, more, lane, rt, rn, post } => {
                let count = more.get() as u8 + 1;
                let bytes = (count as u32) << lane.log2_bytes();
                let effects = after(none, rn, post, bytes);
                // A load keeps the other elements.
                moved(moved(effects, Direction::Store, rt, count, bytes), direction, rt, count, bytes)
            }
            Self::Replicate { more, arrangement, rt, rn, post } => {
                let count = more.get() as u8 + 1;
                let bytes = (count as u32) << arrangement.log2_element();
                moved(after(none, rn, post, bytes), Direction::Load, rt, count, bytes)
            }
        }
    }
}

/// `count` registers from `first` on, stored or loaded.
const fn moved(mut effects: Effects, direction: Direction, first: VReg, count: u8, bytes: u32) -> Effects {
    let mut place = 0;
    while place < count {
        let reg = first.next(place);
        effects = match direction {
            Direction::Load => effects.vector_writes(reg),
            Direction::Store => effects.vector_reads(reg),
        };
        place += 1;
    }
    effects.memory(match direction {
        Direction::Load => MemoryUse::Load(bytes),
        Direction::Store => MemoryUse::Store(bytes),
    })
}

/// The base of a structure access.
const fn after(effects: Effects, rn: RegOrSp, post: StructPost, bytes: u32) -> Effects {
    let effects = effects.reads_or_sp(rn);
    match post {
        StructPost::Stays => effects,
        StructPost::BySize => effects.changes(rn, Change::By(bytes as i64)),
        StructPost::By(rm) => effects.reads(rm.reg()).changes(rn, Change::Unknown),
    }
}
