//! Accesses to memory and where they go: Arm ARM C1.3.3 (addressing modes) and C4.1, "Loads and Stores".
//!
//! Offsets are kept as the instruction has them: [`Address::Unsigned`] counts in units of the access's size, the signed
//! nine-bit ones in bytes. [`Address::offset`] makes the right one from a distance in bytes.

use super::imm::{bit, bits};
use super::{EncodeError, Reg, SImm, UImm, Width};

/// One access to memory by a general register: the size, the direction, and how a narrow load is widened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// STRB.
    StoreByte,
    /// LDRB.
    LoadByte,
    /// LDRSB to an X register.
    LoadSignedByteX,
    /// LDRSB to a W register.
    LoadSignedByteW,
    /// STRH.
    StoreHalf,
    /// LDRH.
    LoadHalf,
    /// LDRSH to an X register.
    LoadSignedHalfX,
    /// LDRSH to a W register.
    LoadSignedHalfW,
    /// STR of a W register.
    StoreW,
    /// LDR to a W register.
    LoadW,
    /// LDRSW.
    LoadSignedWord,
    /// STR of an X register.
    StoreX,
    /// LDR to an X register.
    LoadX,
}

impl Access {
    /// Bytes of memory, as a power of two: 0 to 3.
    pub const fn log2_bytes(self) -> u32 {
        self.size_opc() >> 2
    }

    /// Whether it is a load.
    pub const fn is_load(self) -> bool {
        !matches!(self, Self::StoreByte | Self::StoreHalf | Self::StoreW | Self::StoreX)
    }

    /// The register's width.
    pub const fn width(self) -> Width {
        match self {
            Self::StoreX | Self::LoadX | Self::LoadSignedWord | Self::LoadSignedByteX | Self::LoadSignedHalfX => {
                Width::X
            }
            _ => Width::W,
        }
    }

    /// `size << 2 | opc` of the encoding.
    pub(super) const fn size_opc(self) -> u32 {
        match self {
            Self::StoreByte => 0b0000,
            Self::LoadByte => 0b0001,
            Self::LoadSignedByteX => 0b0010,
            Self::LoadSignedByteW => 0b0011,
            Self::StoreHalf => 0b0100,
            Self::LoadHalf => 0b0101,
            Self::LoadSignedHalfX => 0b0110,
            Self::LoadSignedHalfW => 0b0111,
            Self::StoreW => 0b1000,
            Self::LoadW => 0b1001,
            Self::LoadSignedWord => 0b1010,
            Self::StoreX => 0b1100,
            Self::LoadX => 0b1101,
        }
    }

    pub(super) const fn of(word: u32) -> Option<Self> {
        Some(match bits(word, 30, 2) << 2 | bits(word, 22, 2) {
            0b0000 => Self::StoreByte,
            0b0001 => Self::LoadByte,
            0b0010 => Self::LoadSignedByteX,
            0b0011 => Self::LoadSignedByteW,
            0b0100 => Self::StoreHalf,
            0b0101 => Self::LoadHalf,
            0b0110 => Self::LoadSignedHalfX,
            0b0111 => Self::LoadSignedHalfW,
            0b1000 => Self::StoreW,
            0b1001 => Self::LoadW,
            0b1010 => Self::LoadSignedWord,
            0b1100 => Self::StoreX,
            0b1101 => Self::LoadX,
            _ => return None,
        })
    }

    pub(super) const fn field(self) -> u32 {
        let size_opc = self.size_opc();
        (size_opc >> 2) << 30 | (size_opc & 3) << 22
    }
}

/// How an index register is widened before it is added to the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexExtend {
    /// UXTW: the low 32 bits, unsigned.
    Uxtw,
    /// LSL: all 64 bits.
    Lsl,
    /// SXTW: the low 32 bits, signed.
    Sxtw,
    /// SXTX: all 64 bits.
    Sxtx,
}

/// Whether an index register counts bytes or elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexScale {
    /// Bytes.
    Bytes,
    /// Elements: shifted left by the access's size.
    Elements,
}

/// Where beside the base register an access goes (Arm ARM C1.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `[base, #n]`: forwards, in units of the access's size.
    Unsigned(UImm<12>),
    /// `[base, #n]`: in bytes (LDUR, STUR).
    Unscaled(SImm<9>),
    /// `[base, #n]!`: in bytes; the base register becomes the address.
    PreIndex(SImm<9>),
    /// `[base], #n`: the address is the base's old value; then it moves by so many bytes.
    PostIndex(SImm<9>),
    /// `[base, index]`.
    Register {
        /// The index.
        rm: Reg,
        /// How it is widened.
        extend: IndexExtend,
        /// What it counts.
        scale: IndexScale,
    },
}

impl Address {
    /// The address `bytes` from the base for an access of 2 to the power of `log2_bytes` bytes: scaled where that can be
    /// encoded, else unscaled.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] or [`EncodeError::Misaligned`] when neither form holds it.
    pub const fn offset(bytes: i64, log2_bytes: u32) -> Result<Self, EncodeError> {
        let max = (UImm::<12>::MAX.get() as i64) << log2_bytes;
        let unit = 1i64 << log2_bytes;
        let (least, most) = (SImm::<9>::MIN.get() as i64, SImm::<9>::MAX.get() as i64);
        if bytes >= 0 && bytes <= max && bytes & (unit - 1) == 0 {
            Ok(Self::Unsigned(UImm::truncated((bytes >> log2_bytes) as u32)))
        } else if bytes >= least && bytes <= most {
            Ok(Self::Unscaled(SImm::at(bytes as u32, 0)))
        } else if bytes < least || bytes > max {
            Err(EncodeError::OutOfRange { field: "imm12", value: bytes, min: least, max })
        } else {
            Err(EncodeError::Misaligned { field: "imm12", value: bytes, multiple_of: 1 << log2_bytes })
        }
    }

    /// The fields below the size and direction: bits 24, 21 and 20 to 10.
    pub(super) const fn field(self) -> u32 {
        match self {
            Self::Unsigned(units) => 1 << 24 | units.get() << 10,
            Self::Unscaled(bytes) => bytes.field() << 12,
            Self::PostIndex(bytes) => bytes.field() << 12 | 0b01 << 10,
            Self::PreIndex(bytes) => bytes.field() << 12 | 0b11 << 10,
            Self::Register { rm, extend, scale } => {
                let option = match extend {
                    IndexExtend::Uxtw => 0b010,
                    IndexExtend::Lsl => 0b011,
                    IndexExtend::Sxtw => 0b110,
                    IndexExtend::Sxtx => 0b111,
                };
                1 << 21 | rm.field() << 16 | option << 13 | (scale as u32) << 12 | 0b10 << 10
            }
        }
    }

    pub(super) const fn of(word: u32) -> Option<Self> {
        if bit(word, 24) {
            return Some(Self::Unsigned(UImm::at(word, 10)));
        }
        let bytes = SImm::at(word, 12);
        Some(match (bit(word, 21), bits(word, 10, 2)) {
            (false, 0b00) => Self::Unscaled(bytes),
            (false, 0b01) => Self::PostIndex(bytes),
            (false, 0b11) => Self::PreIndex(bytes),
            (true, 0b10) => {
                let extend = match bits(word, 13, 3) {
                    0b010 => IndexExtend::Uxtw,
                    0b011 => IndexExtend::Lsl,
                    0b110 => IndexExtend::Sxtw,
                    0b111 => IndexExtend::Sxtx,
                    _ => return None,
                };
                let scale = if bit(word, 12) { IndexScale::Elements } else { IndexScale::Bytes };
                Self::Register { rm: Reg::at(word, 16), extend, scale }
            }
            _ => return None,
        })
    }
}

/// Whether an access loads or stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a register to memory.
    Store,
    /// From memory to a register.
    Load,
}

impl Direction {
    pub(super) const fn is_load(self) -> bool {
        matches!(self, Self::Load)
    }

    pub(super) const fn at(word: u32, lsb: u32) -> Self {
        if bit(word, lsb) { Self::Load } else { Self::Store }
    }
}

/// Where beside the base register a prefetch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrefetchAddress {
    /// `[base, #n]`: forwards, in units of eight bytes.
    Unsigned(UImm<12>),
    /// `[base, #n]`: in bytes (PRFUM).
    Unscaled(SImm<9>),
    /// `[base, index]`.
    Register {
        /// The index.
        rm: Reg,
        /// How it is widened.
        extend: IndexExtend,
        /// What it counts.
        scale: IndexScale,
    },
}

impl PrefetchAddress {
    pub(super) const fn of(word: u32) -> Option<Self> {
        Some(match Address::of(word) {
            Some(Address::Unsigned(units)) => Self::Unsigned(units),
            Some(Address::Unscaled(bytes)) => Self::Unscaled(bytes),
            // What would be operations 24 to 31 here are range prefetches.
            Some(Address::Register { rm, extend, scale }) if bits(word, 3, 2) != 0b11 => {
                Self::Register { rm, extend, scale }
            }
            _ => return None,
        })
    }

    /// The same as an access's address.
    pub const fn address(self) -> Address {
        match self {
            Self::Unsigned(units) => Address::Unsigned(units),
            Self::Unscaled(bytes) => Address::Unscaled(bytes),
            Self::Register { rm, extend, scale } => Address::Register { rm, extend, scale },
        }
    }
}

/// A load from a place near the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Literal {
    /// LDR (literal) to a W register.
    LoadW,
    /// LDR (literal) to an X register.
    LoadX,
    /// LDRSW (literal).
    LoadSignedWord,
}

impl Literal {
    /// Bytes of memory: 4 or 8.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::LoadX => 8,
            Self::LoadW | Self::LoadSignedWord => 4,
        }
    }
}

/// A pair of registers and 8 or 16 bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PairAccess {
    /// STP of W registers.
    StoreW,
    /// LDP to W registers.
    LoadW,
    /// LDPSW.
    LoadSignedWord,
    /// STP of X registers.
    StoreX,
    /// LDP to X registers.
    LoadX,
}

impl PairAccess {
    /// Bytes of memory for each register, as a power of two: 2 or 3.
    pub const fn log2_bytes(self) -> u32 {
        match self {
            Self::StoreX | Self::LoadX => 3,
            Self::StoreW | Self::LoadW | Self::LoadSignedWord => 2,
        }
    }

    /// Whether it is a load.
    pub const fn is_load(self) -> bool {
        matches!(self, Self::LoadW | Self::LoadX | Self::LoadSignedWord)
    }

    /// The registers' width.
    pub const fn width(self) -> Width {
        match self {
            Self::StoreW | Self::LoadW => Width::W,
            _ => Width::X,
        }
    }

    pub(super) const fn field(self) -> u32 {
        match self {
            Self::StoreW => 0,
            Self::LoadW => 1 << 22,
            Self::LoadSignedWord => 1 << 30 | 1 << 22,
            Self::StoreX => 2 << 30,
            Self::LoadX => 2 << 30 | 1 << 22,
        }
    }

    pub(super) const fn of(word: u32) -> Option<Self> {
        Some(match (bits(word, 30, 2), bit(word, 22)) {
            (0, false) => Self::StoreW,
            (0, true) => Self::LoadW,
            (1, true) => Self::LoadSignedWord,
            (2, false) => Self::StoreX,
            (2, true) => Self::LoadX,
            _ => return None,
        })
    }
}

/// Where beside the base register a pair goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PairMode {
    /// `[base], #n`: the address is the base's old value; then it moves.
    PostIndex,
    /// `[base, #n]`.
    Offset,
    /// `[base, #n]!`: the base register becomes the address.
    PreIndex,
}

impl PairMode {
    /// `None` for the non-temporal pairs.
    pub(super) const fn of(word: u32) -> Option<Self> {
        Some(match bits(word, 23, 2) {
            1 => Self::PostIndex,
            2 => Self::Offset,
            3 => Self::PreIndex,
            _ => return None,
        })
    }

    pub(super) const fn field(self) -> u32 {
        match self {
            Self::PostIndex => 1 << 23,
            Self::Offset => 2 << 23,
            Self::PreIndex => 3 << 23,
        }
    }
}

/// The signed seven-bit offset of a pair, for pairs of this size, from a distance in bytes.
///
/// # Errors
/// [`EncodeError::OutOfRange`] or [`EncodeError::Misaligned`].
pub const fn pair_offset(bytes: i64, log2_bytes: u32) -> Result<SImm<7>, EncodeError> {
    let unit = 1i64 << log2_bytes;
    let (min, max) = ((SImm::<7>::MIN.get() as i64) * unit, (SImm::<7>::MAX.get() as i64) * unit);
    if bytes < min || bytes > max {
        Err(EncodeError::OutOfRange { field: "imm7", value: bytes, min, max })
    } else if bytes & (unit - 1) != 0 {
        Err(EncodeError::Misaligned { field: "imm7", value: bytes, multiple_of: unit as u32 })
    } else {
        Ok(SImm::at((bytes >> log2_bytes) as u32, 0))
    }
}
