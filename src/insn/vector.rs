//! SIMD registers, their elements, and lists of them, as instructions name them: Arm ARM C1.2.5 and C4.1, "Loads and
//! Stores".

use super::imm::{bit, bits};
use super::{EncodeError, Reg, UImm};

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

    pub(super) const fn field(self) -> u32 {
        match self {
            Self::Q => 1 << 23,
            _ => (self as u32) << 30,
        }
    }

    pub(super) const fn of(word: u32) -> Option<Self> {
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

    pub(super) const fn of(word: u32) -> Option<Self> {
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

    pub(super) const fn of(word: u32) -> Option<Self> {
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
    pub(super) const fn field(self) -> u32 {
        match self {
            Self::Stays => 0,
            Self::BySize => 1 << 23 | 31 << 16,
            Self::By(rm) => 1 << 23 | rm.0.field() << 16,
        }
    }

    /// `None` where a register is named but not used.
    pub(super) const fn of(word: u32) -> Option<Self> {
        if !bit(word, 23) {
            return if bits(word, 16, 5) == 0 { Some(Self::Stays) } else { None };
        }
        Some(match StepReg::new(Reg::at(word, 16)) {
            Some(rm) => Self::By(rm),
            None => Self::BySize,
        })
    }
}
