//! What loads and stores of general registers do.

use super::{Change, Effects, MemoryUse};
use crate::insn::{Access, Address, Memory, PairMode, Reg, RegOrSp, SImm};

impl Memory {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::Single { access, rt, rn, address } => {
                let effects = address_effects(none, rn, address);
                moved_data(effects, access, rt)
            }
            Self::Unprivileged { access, rt, rn, .. } => moved_data(none.reads_or_sp(rn), access, rt),
            Self::Literal { literal, rt, .. } => none.writes(rt).memory(MemoryUse::Load(literal.bytes())),
            Self::Prefetch { rn, address, .. } => address_effects(none, rn, address.address()),
            Self::PrefetchLiteral { .. } => none,
            Self::Pair { access, mode, rt, rt2, rn, offset } => {
                let effects = pair_effects(none, rn, mode, offset, access.log2_bytes());
                let bytes = 2 << access.log2_bytes();
                if access.is_load() {
                    effects.writes(rt).writes(rt2).memory(MemoryUse::Load(bytes))
                } else {
                    effects.reads(rt).reads(rt2).memory(MemoryUse::Store(bytes))
                }
            }
            Self::PairNonTemporal { direction, width, rt, rt2, rn, .. } => {
                let (effects, bytes) = (none.reads_or_sp(rn), width.bits() / 4);
                if direction.is_load() {
                    effects.writes(rt).writes(rt2).memory(MemoryUse::Load(bytes))
                } else {
                    effects.reads(rt).reads(rt2).memory(MemoryUse::Store(bytes))
                }
            }
        }
    }
}

/// The register that is loaded or stored.
pub(super) const fn moved_data(effects: Effects, access: Access, rt: Reg) -> Effects {
    let bytes = 1 << access.log2_bytes();
    if access.is_load() {
        effects.writes(rt).memory(MemoryUse::Load(bytes))
    } else {
        effects.reads(rt).memory(MemoryUse::Store(bytes))
    }
}

/// The base and the index: read, and the base moved where the mode says so.
pub(super) const fn address_effects(effects: Effects, rn: RegOrSp, address: Address) -> Effects {
    let effects = effects.reads_or_sp(rn);
    match address {
        Address::Unsigned(_) | Address::Unscaled(_) => effects,
        Address::PreIndex(bytes) | Address::PostIndex(bytes) => effects.changes(rn, Change::By(bytes.get() as i64)),
        Address::Register { rm, .. } => effects.reads(rm),
    }
}

/// The base of a pair.
pub(super) const fn pair_effects(
    effects: Effects,
    rn: RegOrSp,
    mode: PairMode,
    offset: SImm<7>,
    log2_bytes: u32,
) -> Effects {
    let effects = effects.reads_or_sp(rn);
    match mode {
        PairMode::Offset => effects,
        PairMode::PreIndex | PairMode::PostIndex => {
            effects.changes(rn, Change::By((offset.get() as i64) << log2_bytes))
        }
    }
}
