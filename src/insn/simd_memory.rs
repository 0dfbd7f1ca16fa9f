//! Loads and stores of SIMD and floating-point registers: Arm ARM C4.1, "Loads and Stores". Each instruction is described
//! in C7.2 under its own name.

use super::imm::{bit, bits};
use super::{Address, CondOffset, Direction, EncodeError, PairMode, Reg, RegOrSp, SImm, UImm, VReg};

/// How much of a SIMD register an access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VSize {
    /// One byte.
    B,
    /// Two.
    H,
    /// Four.
    S,
    /// Eight.
    D,
    /// Sixteen, the whole register.
    Q,
}

impl VSize {
    /// Bytes, as a power of two: 0 to 4.
    pub const fn log2_bytes(self) -> u32 {
        self as u32
    }

    const fn field(self) -> u32 {
        match self {
            Self::Q => 1 << 23,
            _ => (self as u32) << 30,
        }
    }

    const fn of(word: u32) -> Option<Self> {
        Some(match (bits(word, 30, 2), bit(word, 23)) {
            (0, false) => Self::B,
            (1, false) => Self::H,
            (2, false) => Self::S,
            (3, false) => Self::D,
            (0, true) => Self::Q,
            _ => return None,
        })
    }
}

/// How much of a SIMD register a pair or a literal moves. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PairSize {
    /// Four bytes.
    S,
    /// Eight.
    D,
    /// Sixteen.
    Q,
}

impl PairSize {
    /// Bytes, as a power of two: 2 to 4.
    pub const fn log2_bytes(self) -> u32 {
        self as u32 + 2
    }

    const fn of(word: u32) -> Option<Self> {
        Some(match bits(word, 30, 2) {
            0 => Self::S,
            1 => Self::D,
            2 => Self::Q,
            _ => return None,
        })
    }
}

/// A vector's elements: how many, and how large. The discriminant is size and Q of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arrangement {
    /// Eight bytes.
    B8,
    /// Sixteen bytes.
    B16,
    /// Four half-words.
    H4,
    /// Eight half-words.
    H8,
    /// Two words.
    S2,
    /// Four words.
    S4,
    /// One double word.
    D1,
    /// Two double words.
    D2,
}

impl Arrangement {
    pub(super) const fn new(size: u32, q: u32) -> Self {
        match (size & 3) << 1 | q & 1 {
            0 => Self::B8,
            1 => Self::B16,
            2 => Self::H4,
            3 => Self::H8,
            4 => Self::S2,
            5 => Self::S4,
            6 => Self::D1,
            _ => Self::D2,
        }
    }

    /// Bytes of one element, as a power of two: 0 to 3.
    pub const fn log2_element(self) -> u32 {
        self as u32 >> 1
    }

    /// Bytes of the whole vector: 8 or 16.
    pub const fn bytes(self) -> u32 {
        8 << (self as u32 & 1)
    }

    pub(super) const fn q(self) -> u32 {
        self as u32 & 1
    }

    /// The assembler's suffix, `16b` for instance.
    pub const fn name(self) -> &'static str {
        match self {
            Self::B8 => "8b",
            Self::B16 => "16b",
            Self::H4 => "4h",
            Self::H8 => "8h",
            Self::S2 => "2s",
            Self::S4 => "4s",
            Self::D1 => "1d",
            Self::D2 => "2d",
        }
    }
}

/// One element of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A byte.
    B(UImm<4>),
    /// A half-word.
    H(UImm<3>),
    /// A word.
    S(UImm<2>),
    /// A double word.
    D(UImm<1>),
}

impl Lane {
    /// Bytes, as a power of two: 0 to 3.
    pub const fn log2_bytes(self) -> u32 {
        match self {
            Self::B(_) => 0,
            Self::H(_) => 1,
            Self::S(_) => 2,
            Self::D(_) => 3,
        }
    }

    /// Which of the vector's elements.
    pub const fn index(self) -> u32 {
        match self {
            Self::B(index) => index.get(),
            Self::H(index) => index.get(),
            Self::S(index) => index.get(),
            Self::D(index) => index.get(),
        }
    }
}

/// The registers of a structure access and how memory is dealt out to them. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StructList {
    /// LD4, ST4: four registers, every fourth element each.
    Four = 0b0000,
    /// LD1, ST1 of four registers, one after the other.
    OneOfFour = 0b0010,
    /// LD3, ST3: three registers, every third element each.
    Three = 0b0100,
    /// LD1, ST1 of three registers.
    OneOfThree = 0b0110,
    /// LD1, ST1 of one register.
    OneOfOne = 0b0111,
    /// LD2, ST2: two registers, every second element each.
    Two = 0b1000,
    /// LD1, ST1 of two registers.
    OneOfTwo = 0b1010,
}

impl StructList {
    /// The number of registers.
    pub const fn registers(self) -> u8 {
        match self {
            Self::Four | Self::OneOfFour => 4,
            Self::Three | Self::OneOfThree => 3,
            Self::Two | Self::OneOfTwo => 2,
            Self::OneOfOne => 1,
        }
    }

    /// The number in the mnemonic: 1 for LD1.
    pub const fn interleave(self) -> u8 {
        match self {
            Self::Four => 4,
            Self::Three => 3,
            Self::Two => 2,
            _ => 1,
        }
    }

    const fn of(word: u32) -> Option<Self> {
        Some(match bits(word, 12, 4) {
            0b0000 => Self::Four,
            0b0010 => Self::OneOfFour,
            0b0100 => Self::Three,
            0b0110 => Self::OneOfThree,
            0b0111 => Self::OneOfOne,
            0b1000 => Self::Two,
            0b1010 => Self::OneOfTwo,
            _ => return None,
        })
    }
}

/// The registers of a structure access and their elements.
///
/// # Invariants
/// Vectors of one double word are not interleaved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StructLayout {
    list: StructList,
    arrangement: Arrangement,
}

impl StructLayout {
    /// These registers with these elements.
    ///
    /// # Errors
    /// [`EncodeError::NotEncodable`] for LD2 to LD4 of one double word each.
    pub const fn new(list: StructList, arrangement: Arrangement) -> Result<Self, EncodeError> {
        if matches!(arrangement, Arrangement::D1) && list.interleave() != 1 {
            let takes = "one double word only when nothing is interleaved";
            return Err(EncodeError::NotEncodable { field: "size", value: 3, takes });
        }
        Ok(Self { list, arrangement })
    }

    /// The registers.
    pub const fn list(self) -> StructList {
        self.list
    }

    /// Their elements.
    pub const fn arrangement(self) -> Arrangement {
        self.arrangement
    }
}

/// What becomes of the base register after a structure access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StructPost {
    /// It stays.
    Stays,
    /// It moves by the size of the access.
    BySize,
    /// It moves by a register.
    By(StepReg),
}

/// A register that a base register moves by: X0 to X30.
///
/// # Invariants
/// It is not the zero register, whose number means something else there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepReg(Reg);

impl StepReg {
    /// This register; `None` for the zero register.
    pub const fn new(reg: Reg) -> Option<Self> {
        if reg.is_zero() { None } else { Some(Self(reg)) }
    }

    /// The register.
    pub const fn reg(self) -> Reg {
        self.0
    }
}

impl StructPost {
    const fn field(self) -> u32 {
        match self {
            Self::Stays => 0,
            Self::BySize => 1 << 23 | 31 << 16,
            Self::By(rm) => 1 << 23 | rm.0.field() << 16,
        }
    }

    /// `None` where a register is named but not used.
    const fn of(word: u32) -> Option<Self> {
        if !bit(word, 23) {
            return if bits(word, 16, 5) == 0 { Some(Self::Stays) } else { None };
        }
        Some(match StepReg::new(Reg::at(word, 16)) {
            Some(rm) => Self::By(rm),
            None => Self::BySize,
        })
    }
}

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
                let StructLayout { list, arrangement } = layout;
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
