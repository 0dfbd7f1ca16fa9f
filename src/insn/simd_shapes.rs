//! The operations on SIMD and floating-point registers, with the elements that they take: Arm ARM C4.1, "Data Processing --
//! Scalar Floating-Point and Advanced SIMD".

use super::imm::bits;
use super::{Arrangement, EncodeError, Lane, UImm};

/// The size of a floating-point number in a scalar instruction. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatSize {
    /// 32 bits.
    S = 0,
    /// 64 bits.
    D = 1,
    /// 16 bits.
    H = 3,
}

/// An operation on the bits of two vectors. The discriminant is U and size of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VectorLogical {
    /// AND.
    And,
    /// BIC.
    Bic,
    /// ORR; MOV when both are the same.
    Orr,
    /// ORN.
    Orn,
    /// EOR.
    Eor,
    /// BSL: the result's old bits select.
    Bsl,
    /// BIT: insert where the second vector has ones.
    Bit,
    /// BIF: insert where the second vector has zeros.
    Bif,
}

macro_rules! vector_operations {
    ($($name:ident = $u:literal $opcode:literal $text:literal $doubles:literal;)*) => {
        /// An operation on the elements of two vectors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum VectorOp {
            $(
                #[doc = concat!("`", $text, "`.")]
                $name,
            )*
        }

        impl VectorOp {
            /// The assembler's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Whether there is a form for double words.
            pub const fn takes_doubles(self) -> bool {
                match self {
                    $(Self::$name => $doubles,)*
                }
            }

            pub(super) const fn field(self) -> u32 {
                match self {
                    $(Self::$name => $u << 29 | $opcode << 11,)*
                }
            }

            pub(super) const fn of(u: u32, opcode: u32) -> Option<Self> {
                Some(match (u, opcode) {
                    $(($u, $opcode) => Self::$name,)*
                    _ => return None,
                })
            }
        }
    };
}

vector_operations! {
    Add = 0 0b10000 "add" true;
    Sub = 1 0b10000 "sub" true;
    Cmtst = 0 0b10001 "cmtst" true;
    Cmeq = 1 0b10001 "cmeq" true;
    Cmgt = 0 0b00110 "cmgt" true;
    Cmhi = 1 0b00110 "cmhi" true;
    Cmge = 0 0b00111 "cmge" true;
    Cmhs = 1 0b00111 "cmhs" true;
    Sshl = 0 0b01000 "sshl" true;
    Ushl = 1 0b01000 "ushl" true;
    Addp = 0 0b10111 "addp" true;
    Mul = 0 0b10011 "mul" false;
    Smax = 0 0b01100 "smax" false;
    Umax = 1 0b01100 "umax" false;
    Smin = 0 0b01101 "smin" false;
    Umin = 1 0b01101 "umin" false;
    Smaxp = 0 0b10100 "smaxp" false;
    Umaxp = 1 0b10100 "umaxp" false;
    Sminp = 0 0b10101 "sminp" false;
    Uminp = 1 0b10101 "uminp" false;
}

/// An operation on the elements of two vectors, and those elements.
///
/// # Invariants
/// There is such an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VectorThree {
    op: VectorOp,
    arrangement: Arrangement,
}

impl VectorThree {
    /// This operation on these elements.
    ///
    /// # Errors
    /// [`EncodeError::NotEncodable`] for single double words, and for double words where the operation has no such form.
    pub const fn new(op: VectorOp, arrangement: Arrangement) -> Result<Self, EncodeError> {
        let fits = match arrangement {
            Arrangement::D1 => false,
            Arrangement::D2 => op.takes_doubles(),
            _ => true,
        };
        let takes = "elements that the operation has a form for";
        if fits {
            Ok(Self { op, arrangement })
        } else {
            Err(EncodeError::NotEncodable { field: "size", value: 3, takes })
        }
    }

    /// The operation.
    pub const fn op(self) -> VectorOp {
        self.op
    }

    /// The elements.
    pub const fn arrangement(self) -> Arrangement {
        self.arrangement
    }
}

/// How a vector is shifted by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VectorShift {
    /// SSHR: right, signed.
    Sshr,
    /// USHR: right, unsigned.
    Ushr,
    /// SHL: left.
    Shl,
    /// SSHLL: left, and widened, signed.
    Sshll,
    /// USHLL: left, and widened, unsigned.
    Ushll,
}

impl VectorShift {
    /// Whether it shifts to the right.
    pub const fn is_right(self) -> bool {
        matches!(self, Self::Sshr | Self::Ushr)
    }

    /// Whether the result's elements are twice as large.
    pub const fn widens(self) -> bool {
        matches!(self, Self::Sshll | Self::Ushll)
    }

    pub(super) const fn field(self) -> u32 {
        match self {
            Self::Sshr => 0,
            Self::Ushr => 1 << 29,
            Self::Shl => 0b01010 << 11,
            Self::Sshll => 0b10100 << 11,
            Self::Ushll => 1 << 29 | 0b10100 << 11,
        }
    }
}

/// How a vector of these elements is shifted, and how far.
///
/// # Invariants
/// To the right by 1 to the element's bits, to the left by less than them; double words are not widened, nor single.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShiftBy {
    shift: VectorShift,
    arrangement: Arrangement,
    amount: u8,
}

impl ShiftBy {
    /// This far.
    ///
    /// # Errors
    /// [`EncodeError`] when the distance or the elements do not fit.
    pub const fn new(shift: VectorShift, arrangement: Arrangement, amount: u32) -> Result<Self, EncodeError> {
        let bits = 8i64 << arrangement.log2_element();
        let (min, max) = if shift.is_right() { (1, bits) } else { (0, bits - 1) };
        let value = amount as i64;
        if value < min || value > max {
            return Err(EncodeError::OutOfRange { field: "immh:immb", value, min, max });
        }
        if matches!(arrangement, Arrangement::D1) || (bits == 64 && shift.widens()) {
            let takes = "elements that the operation has a form for";
            return Err(EncodeError::NotEncodable { field: "immh", value: 8, takes });
        }
        Ok(Self { shift, arrangement, amount: amount as u8 })
    }

    /// The operation.
    pub const fn shift(self) -> VectorShift {
        self.shift
    }

    /// The elements that are shifted.
    pub const fn arrangement(self) -> Arrangement {
        self.arrangement
    }

    /// How far.
    pub const fn amount(self) -> u32 {
        self.amount as u32
    }

    pub(super) const fn field(self) -> u32 {
        let bits = 8 << self.arrangement.log2_element();
        let places = if self.shift.is_right() { 2 * bits - self.amount() } else { bits + self.amount() };
        self.shift.field() | self.arrangement.q() << 30 | places << 16
    }
}

/// A number that is made from eight bits and put into a vector, whole or into the vector's bits (Arm ARM C7.2, MOVI, MVNI,
/// ORR and BIC (vector, immediate)).
///
/// # Invariants
/// `cmode` is not 15, which is FMOV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModifiedImm {
    q: UImm<1>,
    op: UImm<1>,
    cmode: UImm<4>,
    imm8: UImm<8>,
}

impl ModifiedImm {
    /// The number by its fields.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] when `cmode` is 15.
    pub const fn new(q: UImm<1>, op: UImm<1>, cmode: UImm<4>, imm8: UImm<8>) -> Result<Self, EncodeError> {
        if cmode.get() == 15 {
            return Err(EncodeError::OutOfRange { field: "cmode", value: 15, min: 0, max: 14 });
        }
        Ok(Self { q, op, cmode, imm8 })
    }

    /// Whether the whole vector is 16 bytes long.
    pub const fn is_full(self) -> bool {
        self.q.get() == 1
    }

    /// The encoding's op: inverted, cleared or spread to whole bytes.
    pub const fn op(self) -> bool {
        self.op.get() == 1
    }

    /// The encoding's cmode.
    pub const fn cmode(self) -> u32 {
        self.cmode.get()
    }

    /// The eight bits.
    pub const fn imm8(self) -> u32 {
        self.imm8.get()
    }

    /// Whether bits of the vector are set or cleared (ORR, BIC), and the others kept.
    pub const fn keeps(self) -> bool {
        self.cmode() < 12 && self.cmode() & 1 == 1
    }

    /// Each of the eight bits as a byte of ones or zeros.
    pub const fn spread(self) -> u64 {
        let mut value = 0;
        let mut place = 0;
        while place < 8 {
            if self.imm8() >> place & 1 == 1 {
                value |= 0xff << (place * 8);
            }
            place += 1;
        }
        value
    }

    pub(super) const fn field(self) -> u32 {
        let imm8 = (self.imm8() >> 5) << 16 | (self.imm8() & 31) << 5;
        self.q.get() << 30 | self.op.get() << 29 | self.cmode() << 12 | imm8
    }
}

/// A lane's place in imm5.
pub(super) const fn lane_field(lane: Lane) -> u32 {
    let log2 = lane.log2_bytes();
    (lane.index() << (log2 + 1) | 1 << log2) << 16
}

/// A rearrangement of two vectors' elements. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permute {
    /// UZP1.
    Uzp1 = 1,
    /// TRN1.
    Trn1 = 2,
    /// ZIP1.
    Zip1 = 3,
    /// UZP2.
    Uzp2 = 5,
    /// TRN2.
    Trn2 = 6,
    /// ZIP2.
    Zip2 = 7,
}

/// Which part of a SIMD register a move to or from a general register takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatMove {
    /// H and W.
    HalfW,
    /// H and X.
    HalfX,
    /// S and W.
    Single,
    /// D and X.
    Double,
    /// The upper half of the register, and X.
    Upper,
}

impl FloatMove {
    pub(super) const fn field(self) -> u32 {
        match self {
            Self::HalfW => 0x1ee6_0000,
            Self::HalfX => 0x9ee6_0000,
            Self::Single => 0x1e26_0000,
            Self::Double => 0x9e66_0000,
            Self::Upper => 0x9eae_0000,
        }
    }

    pub(super) const fn of(base: u32) -> Option<Self> {
        Some(match base {
            0x1ee6_0000 => Self::HalfW,
            0x9ee6_0000 => Self::HalfX,
            0x1e26_0000 => Self::Single,
            0x9e66_0000 => Self::Double,
            0x9eae_0000 => Self::Upper,
            _ => return None,
        })
    }
}

/// Scalar floating-point arithmetic on one register. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatOne {
    /// FMOV.
    Fmov,
    /// FABS.
    Fabs,
    /// FNEG.
    Fneg,
    /// FSQRT.
    Fsqrt,
}

/// Scalar floating-point arithmetic on two registers. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatTwo {
    /// FMUL.
    Fmul,
    /// FDIV.
    Fdiv,
    /// FADD.
    Fadd,
    /// FSUB.
    Fsub,
    /// FMAX.
    Fmax,
    /// FMIN.
    Fmin,
    /// FMAXNM.
    Fmaxnm,
    /// FMINNM.
    Fminnm,
    /// FNMUL.
    Fnmul,
}

/// The lane that imm5 tells.
pub(super) const fn lane_of(word: u32) -> Option<Lane> {
    let imm5 = bits(word, 16, 5);
    Some(match imm5.trailing_zeros() {
        0 => Lane::B(UImm::truncated(imm5 >> 1)),
        1 => Lane::H(UImm::truncated(imm5 >> 2)),
        2 => Lane::S(UImm::truncated(imm5 >> 3)),
        3 => Lane::D(UImm::truncated(imm5 >> 4)),
        _ => return None,
    })
}
