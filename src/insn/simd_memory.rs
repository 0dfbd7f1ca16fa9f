//! Loads and stores of SIMD and floating-point registers: Arm ARM C4.1, "Loads and Stores". Each instruction is described
//! in C7.2 under its own name.

use super::imm::{bit, bits};
use super::{
    Address, Arrangement, CondOffset, Direction, Lane, PairMode, PairSize, RegOrSp, SImm, StructLayout, StructList,
    StructPost, UImm, VReg, VSize,
};

/// A load or store of SIMD and floating-point registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SimdMemory {
    /// LDR, STR, LDUR, STUR.
    Single {
        /// To memory or from it.
        direction: Direction,
        /// How much.
        size: VSize,
        /// The register that is loaded or stored.
        rt: VReg,
        /// The base.
        rn: RegOrSp,
        /// The offset.
        address: Address,
    },
    /// LDR (literal).
    Literal {
        /// How much.
        size: PairSize,
        /// The register that is loaded.
        rt: VReg,
        /// From where.
        offset: CondOffset,
    },
    /// LDP, STP.
    Pair {
        /// To memory or from it.
        direction: Direction,
        /// How much of each register.
        size: PairSize,
        /// Where the offset counts.
        mode: PairMode,
        /// The register at the lower address.
        rt: VReg,
        /// The register at the higher address.
        rt2: VReg,
        /// The base.
        rn: RegOrSp,
        /// In units of one register's bytes.
        offset: SImm<7>,
    },
    /// LDNP, STNP: with a hint that the data will not be used again soon.
    PairNonTemporal {
        /// To memory or from it.
        direction: Direction,
        /// How much of each register.
        size: PairSize,
        /// The register at the lower address.
        rt: VReg,
        /// The register at the higher address.
        rt2: VReg,
        /// The base.
        rn: RegOrSp,
        /// In units of one register's bytes.
        offset: SImm<7>,
    },
    /// LD1 to LD4, ST1 to ST4 of whole vectors.
    Structures {
        /// To memory or from it.
        direction: Direction,
        /// The registers and their elements.
        layout: StructLayout,
        /// The first register.
        rt: VReg,
        /// The base.
        rn: RegOrSp,
        /// What becomes of the base.
        post: StructPost,
    },
    /// LD1 to LD4, ST1 to ST4 of one element of each vector.
    Lane {
        /// To memory or from it.
        direction: Direction,
        /// The number of registers less one.
        more: UImm<2>,
        /// The element.
        lane: Lane,
        /// The first register.
        rt: VReg,
        /// The base.
        rn: RegOrSp,
        /// What becomes of the base.
        post: StructPost,
    },
    /// LD1R to LD4R: one element to all of each vector.
    Replicate {
        /// The number of registers less one.
        more: UImm<2>,
        /// The vectors' elements.
        arrangement: Arrangement,
        /// The first register.
        rt: VReg,
        /// The base.
        rn: RegOrSp,
        /// What becomes of the base.
        post: StructPost,
    },
}

impl SimdMemory {
    /// The instruction's word.
    pub const fn encode(self) -> u32 {
        match self {
            Self::Single { direction, size, rt, rn, address } => {
                0x3c00_0000 | size.field() | (direction as u32) << 22 | address.field() | at(rn, rt)
            }
            Self::Literal { size, rt, offset } => 0x1c00_0000 | (size as u32) << 30 | offset.field() << 5 | rt.field(),
            Self::Pair { direction, size, mode, rt, rt2, rn, offset } => {
                let kind = (size as u32) << 30 | (direction as u32) << 22 | mode.field();
                0x2c00_0000 | kind | offset.field() << 15 | rt2.field() << 10 | at(rn, rt)
            }
            Self::PairNonTemporal { direction, size, rt, rt2, rn, offset } => {
                let kind = (size as u32) << 30 | (direction as u32) << 22;
                0x2c00_0000 | kind | offset.field() << 15 | rt2.field() << 10 | at(rn, rt)
            }
            Self::Structures { direction, layout, rt, rn, post } => {
                let (list, arrangement) = (layout.list(), layout.arrangement());
                let vectors = arrangement.q() << 30 | (list as u32) << 12 | arrangement.log2_element() << 10;
                0x0c00_0000 | (direction as u32) << 22 | vectors | post.field() | at(rn, rt)
            }
            Self::Lane { direction, more, lane, rt, rn, post } => {
                let index = lane.index();
                // Q, S and size, with the lane's index from the top and its size below.
                let (opcode, place) = match lane {
                    Lane::B(_) => (0, index),
                    Lane::H(_) => (2, index << 1),
                    Lane::S(_) => (4, index << 2),
                    Lane::D(_) => (4, index << 3 | 1),
                };
                let place = (place >> 3) << 30 | (place & 7) << 10;
                0x0d00_0000
                    | (direction as u32) << 22
                    | registers(more)
                    | opcode << 13
                    | place
                    | post.field()
                    | at(rn, rt)
            }
            Self::Replicate { more, arrangement, rt, rn, post } => {
                let vectors = arrangement.q() << 30 | arrangement.log2_element() << 10;
                0x0d40_c000 | registers(more) | vectors | post.field() | at(rn, rt)
            }
        }
    }

    /// The load or store that this word is, if it is one of this kind.
    pub const fn decode(word: u32) -> Option<Self> {
        match bits(word, 24, 6) {
            0b111100 | 0b111101 => decode_single(word),
            0b011100 => match PairSize::of(word) {
                Some(size) => Some(Self::Literal { size, rt: VReg::at(word, 0), offset: CondOffset::at(word, 5) }),
                None => None,
            },
            0b101100 | 0b101101 => decode_pair(word),
            0b001100 if !bit(word, 31) && !bit(word, 21) => decode_structures(word),
            0b001101 if !bit(word, 31) => decode_lane(word),
            _ => None,
        }
    }
}

const fn at(rn: RegOrSp, rt: VReg) -> u32 {
    rn.field() << 5 | rt.field()
}

/// R and the lowest bit of the opcode: the number of registers less one, its bits swapped.
const fn registers(more: UImm<2>) -> u32 {
    (more.get() & 1) << 21 | (more.get() >> 1) << 13
}

const fn decode_single(word: u32) -> Option<SimdMemory> {
    let (direction, rt, rn) = (Direction::at(word, 22), VReg::at(word, 0), RegOrSp::at(word, 5));
    match (VSize::of(word), Address::of(word)) {
        (Some(size), Some(address)) => Some(SimdMemory::Single { direction, size, rt, rn, address }),
        _ => None,
    }
}

const fn decode_pair(word: u32) -> Option<SimdMemory> {
    let Some(size) = PairSize::of(word) else {
        return None;
    };
    let (direction, offset) = (Direction::at(word, 22), SImm::at(word, 15));
    let (rt, rt2, rn) = (VReg::at(word, 0), VReg::at(word, 10), RegOrSp::at(word, 5));
    Some(match PairMode::of(word) {
        Some(mode) => SimdMemory::Pair { direction, size, mode, rt, rt2, rn, offset },
        None => SimdMemory::PairNonTemporal { direction, size, rt, rt2, rn, offset },
    })
}

const fn decode_structures(word: u32) -> Option<SimdMemory> {
    let (direction, rt, rn) = (Direction::at(word, 22), VReg::at(word, 0), RegOrSp::at(word, 5));
    let arrangement = Arrangement::new(bits(word, 10, 2), bits(word, 30, 1));
    let (Some(list), Some(post)) = (StructList::of(word), StructPost::of(word)) else {
        return None;
    };
    match StructLayout::new(list, arrangement) {
        Ok(layout) => Some(SimdMemory::Structures { direction, layout, rt, rn, post }),
        Err(_) => None,
    }
}

const fn decode_lane(word: u32) -> Option<SimdMemory> {
    let (direction, rt, rn) = (Direction::at(word, 22), VReg::at(word, 0), RegOrSp::at(word, 5));
    let more = UImm::truncated(bits(word, 13, 1) << 1 | bits(word, 21, 1));
    let Some(post) = StructPost::of(word) else {
        return None;
    };
    let place = bits(word, 30, 1) << 3 | bits(word, 10, 3);
    let lane = match bits(word, 14, 2) {
        0 => Lane::B(UImm::truncated(place)),
        1 if place & 1 == 0 => Lane::H(UImm::truncated(place >> 1)),
        2 if place & 3 == 0 => Lane::S(UImm::truncated(place >> 2)),
        2 if place & 7 == 1 => Lane::D(UImm::truncated(place >> 3)),
        3 if direction.is_load() && !bit(word, 12) => {
            let arrangement = Arrangement::new(bits(word, 10, 2), bits(word, 30, 1));
            return Some(SimdMemory::Replicate { more, arrangement, rt, rn, post });
        }
        _ => return None,
    };
    Some(SimdMemory::Lane { direction, more, lane, rt, rn, post })
}
