//! Numbers inside instructions, checked when they are made.
//!
//! Each type holds only what its field can hold, so that an instruction built from these always has an encoding.

use core::fmt;

use super::{EncodeError, Width};

/// `len` bits of `word`, from bit `lsb` up.
pub(super) const fn bits(word: u32, lsb: u32, len: u32) -> u32 {
    (word >> lsb) & ((1 << len) - 1)
}

/// One bit of `word`.
pub(super) const fn bit(word: u32, lsb: u32) -> bool {
    bits(word, lsb, 1) == 1
}

/// The low `len` bits of `value`, with the highest of them as its sign.
const fn sign_extend(value: u32, len: u32) -> i32 {
    let unused = 32 - len;
    ((value << unused) as i32) >> unused
}

const fn field_name(len: u32) -> &'static str {
    match len {
        1 => "imm1",
        2 => "imm2",
        3 => "imm3",
        4 => "imm4",
        5 => "imm5",
        6 => "imm6",
        7 => "imm7",
        8 => "imm8",
        9 => "imm9",
        12 => "imm12",
        14 => "imm14",
        16 => "imm16",
        19 => "imm19",
        21 => "imm21",
        26 => "imm26",
        _ => "imm",
    }
}

/// An unsigned number of `LEN` bits.
///
/// # Invariants
/// The value is below 2 to the power of `LEN`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UImm<const LEN: u32>(u32);

impl<const LEN: u32> UImm<LEN> {
    /// The largest value.
    pub const MAX: Self = Self((1 << LEN) - 1);
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// The number, if it fits.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] from 2 to the power of `LEN` up.
    pub const fn new(value: u32) -> Result<Self, EncodeError> {
        if value > Self::MAX.0 {
            return Err(EncodeError::OutOfRange {
                field: field_name(LEN),
                value: value as i64,
                min: 0,
                max: Self::MAX.0 as i64,
            });
        }
        Ok(Self(value))
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The low `LEN` bits of `value`.
    pub const fn truncated(value: u32) -> Self {
        Self(bits(value, 0, LEN))
    }

    pub(super) const fn at(word: u32, lsb: u32) -> Self {
        Self::truncated(word >> lsb)
    }
}

impl<const LEN: u32> fmt::Debug for UImm<LEN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A signed number of `LEN` bits.
///
/// # Invariants
/// The value fits in `LEN` bits of two's complement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SImm<const LEN: u32>(i32);

impl<const LEN: u32> SImm<LEN> {
    /// The largest value.
    pub const MAX: Self = Self((1 << (LEN - 1)) - 1);
    /// The smallest value.
    pub const MIN: Self = Self(-(1 << (LEN - 1)));
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// The number, if it fits.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] when it needs more than `LEN` bits.
    pub const fn new(value: i32) -> Result<Self, EncodeError> {
        if value < Self::MIN.0 || value > Self::MAX.0 {
            return Err(EncodeError::OutOfRange {
                field: field_name(LEN),
                value: value as i64,
                min: Self::MIN.0 as i64,
                max: Self::MAX.0 as i64,
            });
        }
        Ok(Self(value))
    }

    /// The number.
    pub const fn get(self) -> i32 {
        self.0
    }

    pub(super) const fn at(word: u32, lsb: u32) -> Self {
        Self(sign_extend(bits(word, lsb, LEN), LEN))
    }

    /// The number's `LEN` bits, in place 0.
    pub(super) const fn field(self) -> u32 {
        bits(self.0 as u32, 0, LEN)
    }
}

impl<const LEN: u32> fmt::Debug for SImm<LEN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A distance from an instruction to what it refers to: `LEN` signed bits, counted in units of 2 to the power of `SCALE`
/// bytes.
///
/// # Invariants
/// The number of units fits in `LEN` bits of two's complement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PcOffset<const LEN: u32, const SCALE: u32>(i32);

/// How far B and BL reach: a multiple of 4 from -128 MiB to 128 MiB - 4.
pub type BranchOffset = PcOffset<26, 2>;
/// How far B.cond, CBZ, CBNZ and the literal loads reach: a multiple of 4 within 1 MiB.
pub type CondOffset = PcOffset<19, 2>;
/// How far TBZ and TBNZ reach: a multiple of 4 within 32 KiB.
pub type TestOffset = PcOffset<14, 2>;
/// How far ADR reaches: any byte within 1 MiB.
pub type AdrOffset = PcOffset<21, 0>;
/// How far ADRP reaches: a multiple of 4096 within 4 GiB, counted from the 4 KiB page that holds the instruction.
pub type PageOffset = PcOffset<21, 12>;

impl<const LEN: u32, const SCALE: u32> PcOffset<LEN, SCALE> {
    /// The farthest forwards.
    pub const MAX: Self = Self((1 << (LEN - 1)) - 1);
    /// The farthest backwards.
    pub const MIN: Self = Self(-(1 << (LEN - 1)));
    /// The instruction's own place.
    pub const ZERO: Self = Self(0);

    /// The distance in bytes, if it can be encoded.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] when it is too far, [`EncodeError::Misaligned`] when it is no multiple of the unit.
    pub const fn new(bytes: i64) -> Result<Self, EncodeError> {
        let field = field_name(LEN);
        let unit = 1i64 << SCALE;
        let (min, max) = (Self::MIN.bytes(), Self::MAX.bytes());
        if bytes < min || bytes > max + (unit - 1) {
            return Err(EncodeError::OutOfRange { field, value: bytes, min, max });
        }
        if bytes & (unit - 1) != 0 {
            return Err(EncodeError::Misaligned { field, value: bytes, multiple_of: 1 << SCALE });
        }
        Ok(Self((bytes >> SCALE) as i32))
    }

    /// The distance in bytes.
    pub const fn bytes(self) -> i64 {
        (self.0 as i64) << SCALE
    }

    pub(super) const fn from_units(units: u32) -> Self {
        Self(sign_extend(units, LEN))
    }

    pub(super) const fn at(word: u32, lsb: u32) -> Self {
        Self::from_units(bits(word, lsb, LEN))
    }

    /// The `LEN` bits of the number of units, in place 0.
    pub(super) const fn field(self) -> u32 {
        bits(self.0 as u32, 0, LEN)
    }
}

macro_rules! between_addresses {
    ($($type:ident),*) => { $(
        impl $type {
            /// The distance from the instruction at address `from` to the address `to`.
            ///
            /// # Errors
            /// As [`Self::new`].
            pub const fn between(from: u64, to: u64) -> Result<Self, EncodeError> {
                Self::new(to.wrapping_sub(from) as i64)
            }

            /// The address that is meant when the instruction stands at `from`.
            pub const fn target(self, from: u64) -> u64 {
                from.wrapping_add_signed(self.bytes())
            }
        }
    )* };
}

between_addresses!(BranchOffset, CondOffset, TestOffset, AdrOffset);

impl PageOffset {
    /// The distance from the page of an ADRP at address `from` to the page of address `to`.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] when the pages are 4 GiB or more apart.
    pub const fn between(from: u64, to: u64) -> Result<Self, EncodeError> {
        Self::new((to & !0xfff).wrapping_sub(from & !0xfff) as i64)
    }

    /// The page that an ADRP at address `from` computes.
    pub const fn target(self, from: u64) -> u64 {
        (from & !0xfff).wrapping_add_signed(self.bytes())
    }
}

impl<const LEN: u32, const SCALE: u32> fmt::Debug for PcOffset<LEN, SCALE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+}", self.bytes())
    }
}

/// The 12-bit immediate of ADD and SUB, which may be shifted left by 12 (Arm ARM C6.2, ADD (immediate)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArithImm {
    imm12: UImm<12>,
    shifted: bool,
}

impl ArithImm {
    /// The immediate for this value: below 4096, or a multiple of 4096 below 16 MiB.
    ///
    /// # Errors
    /// [`EncodeError::NotEncodable`] for any other.
    pub const fn new(value: u32) -> Result<Self, EncodeError> {
        if value < 0x1000 {
            Ok(Self { imm12: UImm(value), shifted: false })
        } else if value & 0xfff == 0 && value >> 24 == 0 {
            Ok(Self { imm12: UImm(value >> 12), shifted: true })
        } else {
            Err(EncodeError::NotEncodable {
                field: "imm12",
                value: value as u64,
                takes: "0 to 0xfff, and 0x1000 times that",
            })
        }
    }

    /// The value that is added or subtracted.
    pub const fn value(self) -> u32 {
        if self.shifted { self.imm12.0 << 12 } else { self.imm12.0 }
    }

    /// The twelve bits as they stand in the instruction.
    pub const fn imm12(self) -> UImm<12> {
        self.imm12
    }

    /// Whether the instruction shifts those bits left by 12.
    pub const fn is_shifted(self) -> bool {
        self.shifted
    }

    /// From bit 22 (shift) and bits 21 to 10 of an instruction.
    pub(super) const fn of(word: u32) -> Self {
        Self { imm12: UImm::at(word, 10), shifted: bit(word, 22) }
    }

    pub(super) const fn field(self) -> u32 {
        self.imm12.0 << 10 | (self.shifted as u32) << 22
    }
}

/// A bit's place in a register of a given width. The width belongs to it, so that an instruction on a W register cannot
/// be given place 40.
///
/// # Invariants
/// The place is below the width's number of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BitPos {
    width: Width,
    place: u8,
}

impl BitPos {
    /// Place `place` in a register of this width.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] from 32 or 64 up.
    pub const fn new(width: Width, place: u32) -> Result<Self, EncodeError> {
        if place >= width.bits() {
            let max = width.bits() as i64 - 1;
            return Err(EncodeError::OutOfRange { field: "imm6", value: place as i64, min: 0, max });
        }
        Ok(Self { width, place: place as u8 })
    }

    /// Place 0.
    pub const fn zero(width: Width) -> Self {
        Self { width, place: 0 }
    }

    /// The register's width.
    pub const fn width(self) -> Width {
        self.width
    }

    /// The place.
    pub const fn get(self) -> u32 {
        self.place as u32
    }

    pub(super) const fn at(word: u32, lsb: u32, width: Width) -> Option<Self> {
        match Self::new(width, bits(word, lsb, 6)) {
            Ok(place) => Some(place),
            Err(_) => None,
        }
    }
}
