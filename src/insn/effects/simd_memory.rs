//! What loads and stores of SIMD and floating-point registers do.

use super::memory::{address_effects, address_place, pair_effects, pair_place};
use super::{Change, DataRegister, Effects, MemoryUse, Moved, Place};
use crate::insn::{Direction, PairMode, RegOrSp, SimdMemory, StructPost, VReg};

impl SimdMemory {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::Single { direction, size, rt, rn, address } => {
                let (log2_bytes, effects) = (size.log2_bytes(), address_effects(none, rn, address));
                one(effects, address_place(rn, address, log2_bytes), direction, rt, 1 << log2_bytes)
            }
            Self::Literal { size, rt, offset } => {
                one(none, Place::Near(offset.bytes()), Direction::Load, rt, 1 << size.log2_bytes())
            }
            Self::Pair { direction, size, mode, rt, rt2, rn, offset } => {
                let effects = pair_effects(none, rn, mode, offset, size.log2_bytes());
                let place = pair_place(rn, mode, offset, size.log2_bytes());
                two(effects, place, direction, [rt, rt2], 1 << size.log2_bytes())
            }
            Self::PairNonTemporal { direction, size, rt, rt2, rn, offset } => {
                let place = pair_place(rn, PairMode::Offset, offset, size.log2_bytes());
                two(none.reads_or_sp(rn), place, direction, [rt, rt2], 1 << size.log2_bytes())
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

/// One register, stored or loaded.
const fn one(effects: Effects, place: Place, direction: Direction, rt: VReg, bytes: u32) -> Effects {
    moved(effects, direction, rt, 1, bytes).at(place).moves(Moved::one(DataRegister::Vector(rt), bytes))
}

/// Two registers of so many bytes each, stored or loaded.
const fn two(effects: Effects, place: Place, direction: Direction, [rt, rt2]: [VReg; 2], bytes: u32) -> Effects {
    let both = Moved::two(DataRegister::Vector(rt), DataRegister::Vector(rt2), bytes);
    moved(moved(effects, direction, rt, 1, 2 * bytes), direction, rt2, 1, 2 * bytes).at(place).moves(both)
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
    let effects = effects.reads_or_sp(rn).at(Place::Beside(rn, 0));
    match post {
        StructPost::Stays => effects,
        StructPost::BySize => effects.changes(rn, Change::By(bytes as i64)),
        StructPost::By(rm) => effects.reads(rm.reg()).changes(rn, Change::Unknown),
    }
}
