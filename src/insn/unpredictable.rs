//! Instructions that the architecture leaves unpredictable (Arm ARM K1.2, "CONSTRAINED UNPREDICTABLE behaviors", on loads
//! and stores): those that write one register twice, or write the base of their own address.

use super::{Address, Atomic, Insn, Memory, PairMode, Reg, RegOrSp, SimdMemory};

const fn same(one: Reg, other: Reg) -> bool {
    one.number() == other.number()
}

/// Whether the base and the register are the same; SP is never a register.
const fn is_base(rn: RegOrSp, rt: Reg) -> bool {
    !rn.is_sp() && rn.number() == rt.number()
}

impl Insn {
    /// Whether the instruction may do one of several things by the architecture's leave: load two values into one register,
    /// load or store the base register that it moves, or keep a store's status in a register that the store uses.
    ///
    /// [`Insn::effects`] is about what the instruction would do if it did everything in turn.
    pub const fn is_unpredictable(self) -> bool {
        match self {
            Self::Memory(memory) => memory.is_unpredictable(),
            Self::Atomic(atomic) => atomic.is_unpredictable(),
            Self::SimdMemory(
                SimdMemory::Pair { direction, rt, rt2, .. } | SimdMemory::PairNonTemporal { direction, rt, rt2, .. },
            ) => direction.is_load() && rt.number() == rt2.number(),
            _ => false,
        }
    }
}

impl Memory {
    const fn is_unpredictable(self) -> bool {
        match self {
            Self::Single { rt, rn, address: Address::PreIndex(_) | Address::PostIndex(_), .. } => is_base(rn, rt),
            Self::Pair { access, mode, rt, rt2, rn, .. } => {
                let moves = !matches!(mode, PairMode::Offset);
                access.is_load() && same(rt, rt2) || moves && (is_base(rn, rt) || is_base(rn, rt2))
            }
            Self::PairNonTemporal { direction, rt, rt2, .. } => direction.is_load() && same(rt, rt2),
            _ => false,
        }
    }
}

impl Atomic {
    const fn is_unpredictable(self) -> bool {
        match self {
            Self::LoadExclusivePair { rt, rt2, .. } => same(rt, rt2),
            Self::StoreExclusive { rs, rt, rn, .. } => same(rs, rt) || is_base(rn, rs),
            Self::StoreExclusivePair { rs, rt, rt2, rn, .. } => same(rs, rt) || same(rs, rt2) || is_base(rn, rs),
            _ => false,
        }
    }
}
