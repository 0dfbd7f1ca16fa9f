//! What loads and stores of general registers do.

use super::{Change, DataRegister, Effects, MemoryUse, Moved, Place};
use crate::insn::{Access, Address, Direction, Memory, PairMode, Reg, RegOrSp, SImm};

impl Memory {
    /// What the instruction does.
    pub const fn effects(self) -> Effects {
        let none = Effects::NONE;
        match self {
            Self::Single { access, rt, rn, address } => {
                let place = address_place(rn, address, access.log2_bytes());
                moved_data(address_effects(none, rn, address), place, access, rt)
            }
            Self::Unprivileged { access, rt, rn, offset } => {
                moved_data(none.reads_or_sp(rn), Place::Beside(rn, offset.get() as i64), access, rt)
            }
            Self::Literal { literal, rt, offset } => {
                let loaded = one(Direction::Load, none, Place::Near(offset.bytes()), rt, literal.bytes());
                loaded.memory(MemoryUse::Load(literal.bytes()))
            }
            Self::Prefetch { rn, address, .. } => address_effects(none, rn, address.address()),
            Self::PrefetchLiteral { .. } => none,
            Self::Pair { access, mode, rt, rt2, rn, offset } => {
                let log2_bytes = access.log2_bytes();
                let direction = if access.is_load() { Direction::Load } else { Direction::Store };
                let effects = pair_effects(none, rn, mode, offset, log2_bytes);
                two(direction, effects, pair_place(rn, mode, offset, log2_bytes), [rt, rt2], 1 << log2_bytes)
            }
            Self::PairNonTemporal { direction, width, rt, rt2, rn, offset } => {
                let log2_bytes = width.bits() / 32 + 1;
                let place = pair_place(rn, PairMode::Offset, offset, log2_bytes);
                two(direction, none.reads_or_sp(rn), place, [rt, rt2], 1 << log2_bytes)
            }
        }
    }
}

/// The register that is loaded or stored.
pub(super) const fn moved_data(effects: Effects, place: Place, access: Access, rt: Reg) -> Effects {
    let direction = if access.is_load() { Direction::Load } else { Direction::Store };
    one(direction, effects, place, rt, 1 << access.log2_bytes())
}

/// One register that is loaded or stored.
pub(super) const fn one(direction: Direction, effects: Effects, place: Place, rt: Reg, bytes: u32) -> Effects {
    let effects = effects.at(place).moves(Moved::one(DataRegister::General(rt), bytes));
    match direction {
        Direction::Load => effects.writes(rt).memory(MemoryUse::Load(bytes)),
        Direction::Store => effects.reads(rt).memory(MemoryUse::Store(bytes)),
    }
}

/// Two registers of so many bytes each that are loaded or stored.
pub(super) const fn two(
    direction: Direction,
    effects: Effects,
    place: Place,
    [rt, rt2]: [Reg; 2],
    bytes: u32,
) -> Effects {
    let both = Moved::two(DataRegister::General(rt), DataRegister::General(rt2), bytes);
    let effects = effects.at(place).moves(both);
    match direction {
        Direction::Load => effects.writes(rt).writes(rt2).memory(MemoryUse::Load(2 * bytes)),
        Direction::Store => effects.reads(rt).reads(rt2).memory(MemoryUse::Store(2 * bytes)),
    }
}

/// Where an access of 2 to the power of `log2_bytes` bytes begins.
pub(super) const fn address_place(rn: RegOrSp, address: Address, log2_bytes: u32) -> Place {
    match address {
        Address::Unsigned(units) => Place::Beside(rn, (units.get() as i64) << log2_bytes),
        Address::Unscaled(bytes) | Address::PreIndex(bytes) => Place::Beside(rn, bytes.get() as i64),
        Address::PostIndex(_) => Place::Beside(rn, 0),
        Address::Register { .. } => Place::Indexed(rn),
    }
}

/// Where a pair of registers of 2 to the power of `log2_bytes` bytes begins.
pub(super) const fn pair_place(rn: RegOrSp, mode: PairMode, offset: SImm<7>, log2_bytes: u32) -> Place {
    match mode {
        PairMode::PostIndex => Place::Beside(rn, 0),
        PairMode::Offset | PairMode::PreIndex => Place::Beside(rn, (offset.get() as i64) << log2_bytes),
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
