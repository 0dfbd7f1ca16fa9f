//! Registers as instructions name them (Arm ARM B1.2.1 and C1.2.5).
//!
//! Register number 31 means the zero register in some fields and the stack pointer in others. Here those are two types:
//! [`Reg`] can be XZR and never SP, [`RegOrSp`] can be SP and never XZR. How much of a register an instruction uses is a
//! [`Width`], which is the instruction's and not the register's.

use core::fmt;

/// How much of a general register an instruction uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// The low 32 bits (`w0`); a write clears the upper half.
    W,
    /// All 64 bits (`x0`).
    X,
}

impl Width {
    /// 32 or 64.
    pub const fn bits(self) -> u32 {
        match self {
            Self::W => 32,
            Self::X => 64,
        }
    }

    /// The instruction's `sf` bit, in place 0.
    pub(super) const fn sf(self) -> u32 {
        match self {
            Self::W => 0,
            Self::X => 1,
        }
    }

    pub(super) const fn from_bit(bit: u32) -> Self {
        if bit & 1 == 0 { Self::W } else { Self::X }
    }
}

/// A general register, X0 to X30, or the zero register.
///
/// # Invariants
/// The number is 0 to 31; 31 is the zero register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(u8);

/// A general register, X0 to X30, or the stack pointer.
///
/// # Invariants
/// The number is 0 to 31; 31 is the stack pointer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegOrSp(u8);

/// A SIMD and floating-point register, V0 to V31.
///
/// # Invariants
/// The number is 0 to 31.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VReg(u8);

/// An even-numbered general register, the first of a pair of neighbours (CASP).
///
/// # Invariants
/// The number is even and at most 30.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EvenReg(u8);

macro_rules! general_registers {
    ($type:ident: $($name:ident = $number:literal),*) => {
        impl $type {
            $(
                #[doc = concat!("Register number ", stringify!($number), ".")]
                pub const $name: Self = Self($number);
            )*
        }
    };
}

macro_rules! x_registers {
    ($($type:ident),*) => { $(
        general_registers! { $type:
            X0 = 0, X1 = 1, X2 = 2, X3 = 3, X4 = 4, X5 = 5, X6 = 6, X7 = 7, X8 = 8, X9 = 9, X10 = 10, X11 = 11,
            X12 = 12, X13 = 13, X14 = 14, X15 = 15, X16 = 16, X17 = 17, X18 = 18, X19 = 19, X20 = 20, X21 = 21,
            X22 = 22, X23 = 23, X24 = 24, X25 = 25, X26 = 26, X27 = 27, X28 = 28, X29 = 29, X30 = 30
        }
        impl $type {
            /// The frame pointer, X29.
            pub const FP: Self = Self::X29;
            /// The link register, X30.
            pub const LR: Self = Self::X30;
        }
    )* };
}

x_registers!(Reg, RegOrSp);

impl Reg {
    /// The zero register: reads as zero, and a write to it is lost.
    pub const XZR: Self = Self(31);

    /// X`number`, for 0 to 30.
    pub const fn x(number: u8) -> Option<Self> {
        if number <= 30 { Some(Self(number)) } else { None }
    }

    /// The register's number in an instruction, 0 to 31, where 31 is the zero register.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether this is the zero register.
    pub const fn is_zero(self) -> bool {
        self.0 == 31
    }

    /// The same register where SP could stand; `None` for the zero register.
    pub const fn or_sp(self) -> Option<RegOrSp> {
        if self.is_zero() { None } else { Some(RegOrSp(self.0)) }
    }

    pub(super) const fn at(word: u32, lsb: u32) -> Self {
        Self(((word >> lsb) & 31) as u8)
    }

    pub(super) const fn field(self) -> u32 {
        self.0 as u32
    }

    /// The assembler's name for the register at this width.
    pub const fn name(self, width: Width) -> RegName {
        RegName { number: self.0, width, last: "zr" }
    }
}

impl RegOrSp {
    /// The current exception level's stack pointer.
    pub const SP: Self = Self(31);

    /// X`number`, for 0 to 30.
    pub const fn x(number: u8) -> Option<Self> {
        if number <= 30 { Some(Self(number)) } else { None }
    }

    /// The register's number in an instruction, 0 to 31, where 31 is the stack pointer.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether this is the stack pointer.
    pub const fn is_sp(self) -> bool {
        self.0 == 31
    }

    /// The same register where XZR could stand; `None` for the stack pointer.
    pub const fn reg(self) -> Option<Reg> {
        if self.is_sp() { None } else { Some(Reg(self.0)) }
    }

    pub(super) const fn at(word: u32, lsb: u32) -> Self {
        Self(((word >> lsb) & 31) as u8)
    }

    pub(super) const fn field(self) -> u32 {
        self.0 as u32
    }

    /// The assembler's name for the register at this width.
    pub const fn name(self, width: Width) -> RegName {
        RegName { number: self.0, width, last: "sp" }
    }
}

impl VReg {
    /// V`number`, for 0 to 31.
    pub const fn v(number: u8) -> Option<Self> {
        if number <= 31 { Some(Self(number)) } else { None }
    }

    /// The register's number, 0 to 31.
    pub const fn number(self) -> u8 {
        self.0
    }

    pub(super) const fn at(word: u32, lsb: u32) -> Self {
        Self(((word >> lsb) & 31) as u8)
    }

    pub(super) const fn field(self) -> u32 {
        self.0 as u32
    }

    /// The register `distance` numbers on; after V31 comes V0.
    pub const fn next(self, distance: u8) -> Self {
        Self(self.0.wrapping_add(distance) & 31)
    }
}

impl EvenReg {
    /// X`number`, for even numbers 0 to 30.
    pub const fn x(number: u8) -> Option<Self> {
        if number <= 30 && number.is_multiple_of(2) { Some(Self(number)) } else { None }
    }

    /// The pair's first register.
    pub const fn first(self) -> Reg {
        Reg(self.0)
    }

    /// The pair's second register; the zero register after X30.
    pub const fn second(self) -> Reg {
        Reg(self.0 | 1)
    }

    pub(super) const fn at(word: u32, lsb: u32) -> Option<Self> {
        Self::x(((word >> lsb) & 31) as u8)
    }

    pub(super) const fn field(self) -> u32 {
        self.0 as u32
    }
}

/// Prints a general register: `x0`, `w30`, `sp`, `wzr`.
#[derive(Clone, Copy, Debug)]
pub struct RegName {
    number: u8,
    width: Width,
    last: &'static str,
}

impl fmt::Display for RegName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.number, self.width, self.last) {
            (31, Width::X, "sp") => f.write_str("sp"),
            (31, Width::W, last) => write!(f, "w{last}"),
            (31, Width::X, last) => write!(f, "x{last}"),
            (number, Width::W, _) => write!(f, "w{number}"),
            (number, Width::X, _) => write!(f, "x{number}"),
        }
    }
}

impl fmt::Debug for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name(Width::X), f)
    }
}

impl fmt::Debug for RegOrSp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name(Width::X), f)
    }
}

impl fmt::Debug for VReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl fmt::Debug for EvenReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x{}", self.0)
    }
}
