//! Loads and stores of general registers: Arm ARM C4.1, "Loads and Stores". Each instruction is described in C6.2 under
//! its own name.

use super::imm::bits;
use super::{
    Access, Address, CondOffset, Direction, Literal, PairAccess, PairMode, PrefetchAddress, Reg, RegOrSp, SImm, UImm,
    Width,
};

/// A load or store of general registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    /// LDR, STR and kin, at a base register and an offset.
    Single {
        /// Size, direction and widening.
        access: Access,
        /// The register that is loaded or stored.
        rt: Reg,
        /// The base.
        rn: RegOrSp,
        /// The offset.
        address: Address,
    },
    /// LDTR, STTR and kin: with the rights of EL0.
    Unprivileged {
        /// Size, direction and widening.
        access: Access,
        /// The register that is loaded or stored.
        rt: Reg,
        /// The base.
        rn: RegOrSp,
        /// In bytes.
        offset: SImm<9>,
    },
    /// LDR, LDRSW (literal).
    Literal {
        /// Size and widening.
        literal: Literal,
        /// The register that is loaded.
        rt: Reg,
        /// From where.
        offset: CondOffset,
    },
    /// PRFM, PRFUM: a hint that memory will be used.
    Prefetch {
        /// For what use, into which cache.
        operation: UImm<5>,
        /// The base.
        rn: RegOrSp,
        /// The offset; never pre- or post-indexed.
        address: PrefetchAddress,
    },
    /// PRFM (literal).
    PrefetchLiteral {
        /// For what use, into which cache.
        operation: UImm<5>,
        /// From where.
        offset: CondOffset,
    },
    /// LDP, STP, LDPSW.
    Pair {
        /// Size, direction and widening.
        access: PairAccess,
        /// Where the offset counts.
        mode: PairMode,
        /// The register at the lower address.
        rt: Reg,
        /// The register at the higher address.
        rt2: Reg,
        /// The base.
        rn: RegOrSp,
        /// In units of one register's bytes.
        offset: SImm<7>,
    },
    /// LDNP, STNP: with a hint that the data will not be used again soon.
    PairNonTemporal {
        /// To memory or from it.
        direction: Direction,
        /// The registers' width.
        width: Width,
        /// The register at the lower address.
        rt: Reg,
        /// The register at the higher address.
        rt2: Reg,
        /// The base.
        rn: RegOrSp,
        /// In units of one register's bytes.
        offset: SImm<7>,
    },
}

impl Memory {
    /// The instruction's word.
    pub const fn encode(self) -> u32 {
        match self {
            Self::Single { access, rt, rn, address } => {
                0x3800_0000 | access.field() | address.field() | rn.field() << 5 | rt.field()
            }
            Self::Unprivileged { access, rt, rn, offset } => {
                0x3800_0800 | access.field() | offset.field() << 12 | rn.field() << 5 | rt.field()
            }
            Self::Literal { literal, rt, offset } => {
                0x1800_0000 | (literal as u32) << 30 | offset.field() << 5 | rt.field()
            }
            Self::Prefetch { operation, rn, address } => {
                0xf880_0000 | address.address().field() | rn.field() << 5 | operation.get()
            }
            Self::PrefetchLiteral { operation, offset } => 0xd800_0000 | offset.field() << 5 | operation.get(),
            Self::Pair { access, mode, rt, rt2, rn, offset } => {
                0x2800_0000 | access.field() | mode.field() | pair_field(rt, rt2, rn, offset)
            }
            Self::PairNonTemporal { direction, width, rt, rt2, rn, offset } => {
                let access = width.sf() << 31 | (direction as u32) << 22;
                0x2800_0000 | access | pair_field(rt, rt2, rn, offset)
            }
        }
    }

    /// The load or store that this word is, if it is one of this kind.
    pub const fn decode(word: u32) -> Option<Self> {
        let (rt, rn) = (Reg::at(word, 0), RegOrSp::at(word, 5));
        match bits(word, 24, 6) {
            0b011000 => Some(Self::decode_literal(word)),
            0b111001 => Self::decode_single(word),
            0b111000 if bits(word, 21, 1) == 0 && bits(word, 10, 2) == 0b10 => match Access::of(word) {
                Some(access) => Some(Self::Unprivileged { access, rt, rn, offset: SImm::at(word, 12) }),
                None => None,
            },
            0b111000 => Self::decode_single(word),
            0b101000 | 0b101001 => Self::decode_pair(word),
            _ => None,
        }
    }

    const fn decode_literal(word: u32) -> Self {
        let (rt, offset) = (Reg::at(word, 0), CondOffset::at(word, 5));
        let literal = match bits(word, 30, 2) {
            0 => Literal::LoadW,
            1 => Literal::LoadX,
            2 => Literal::LoadSignedWord,
            _ => {
                return Self::PrefetchLiteral { operation: UImm::at(word, 0), offset };
            }
        };
        Self::Literal { literal, rt, offset }
    }

    const fn decode_single(word: u32) -> Option<Self> {
        let (rt, rn) = (Reg::at(word, 0), RegOrSp::at(word, 5));
        match (Access::of(word), Address::of(word)) {
            (Some(access), Some(address)) => Some(Self::Single { access, rt, rn, address }),
            (None, _) if bits(word, 30, 2) == 3 && bits(word, 22, 2) == 2 => match PrefetchAddress::of(word) {
                Some(address) => Some(Self::Prefetch { operation: UImm::at(word, 0), rn, address }),
                None => None,
            },
            _ => None,
        }
    }

    const fn decode_pair(word: u32) -> Option<Self> {
        let Some(access) = PairAccess::of(word) else {
            return None;
        };
        let (rt, rt2, rn) = (Reg::at(word, 0), Reg::at(word, 10), RegOrSp::at(word, 5));
        let offset = SImm::at(word, 15);
        match (PairMode::of(word), access) {
            (Some(mode), _) => Some(Self::Pair { access, mode, rt, rt2, rn, offset }),
            (None, PairAccess::LoadSignedWord) => None,
            (None, _) => {
                let (direction, width) = (Direction::at(word, 22), access.width());
                Some(Self::PairNonTemporal { direction, width, rt, rt2, rn, offset })
            }
        }
    }
}

const fn pair_field(rt: Reg, rt2: Reg, rn: RegOrSp, offset: SImm<7>) -> u32 {
    offset.field() << 15 | rt2.field() << 10 | rn.field() << 5 | rt.field()
}
