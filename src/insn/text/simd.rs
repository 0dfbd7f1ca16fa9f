//! Data processing on SIMD and floating-point registers as text.

use core::fmt;

use crate::insn::{
    Arrangement, FloatMove, FloatOne, FloatSize, FloatTwo, Lane, ModifiedImm, Permute, Reg, ShiftBy, Sign, Simd, UImm,
    VReg, VectorLogical, VectorShift, Width,
};

/// `v0.16b`.
struct Vector(VReg, &'static str);

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}", self.0.number(), self.1)
    }
}

/// `v0.b[3]`.
struct Element(VReg, Lane);

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}[{}]", self.0.number(), self.1.letter(), self.1.index())
    }
}

/// `d0`.
struct Scalar(VReg, FloatSize);

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.1 {
            FloatSize::H => 'h',
            FloatSize::S => 's',
            FloatSize::D => 'd',
        };
        write!(f, "{letter}{}", self.0.number())
    }
}

fn bytes(full: UImm<1>) -> &'static str {
    if full.get() == 1 { "16b" } else { "8b" }
}

/// The general register that goes with a lane.
fn general(reg: Reg, lane: Lane) -> impl fmt::Display {
    reg.name(if matches!(lane, Lane::D(_)) { Width::X } else { Width::W })
}

impl fmt::Display for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Logical { op: VectorLogical::Orr, full, rd, rn, rm } if rn == rm => {
                write!(f, "mov {}, {}", Vector(rd, bytes(full)), Vector(rn, bytes(full)))
            }
            Self::Logical { op, full, rd, rn, rm } => three(f, op.name(), bytes(full), rd, rn, rm),
            Self::Three { op, rd, rn, rm } => three(f, op.op().name(), op.arrangement().name(), rd, rn, rm),
            Self::Shift { by, rd, rn } => shift(f, by, rd, rn),
            Self::Immediate { imm, rd } => immediate(f, imm, rd),
            Self::Not { full, rd, rn } => {
                write!(f, "mvn {}, {}", Vector(rd, bytes(full)), Vector(rn, bytes(full)))
            }
            Self::DupGeneral { to, rd, rn } => {
                let arrangement = to.arrangement();
                let width = if arrangement.log2_element() == 3 { Width::X } else { Width::W };
                write!(f, "dup {}, {}", Vector(rd, arrangement.name()), rn.name(width))
            }
            Self::DupScalar { lane, rd, rn } => {
                write!(f, "mov {}{}, {}", lane.letter(), rd.number(), Element(rn, lane))
            }
            Self::Insert { lane, rd, rn } => {
                write!(f, "mov {}, {}", Element(rd, lane), general(rn, lane))
            }
            Self::Extract { lane, rd, rn } => {
                let mnemonic = if lane.log2_bytes() < 2 { "umov" } else { "mov" };
                write!(f, "{mnemonic} {}, {}", general(rd, lane), Element(rn, lane))
            }
            Self::Ext { from, rd, rn, rm } => {
                three(f, "ext", "16b", rd, rn, rm)?;
                write!(f, ", #{}", from.get())
            }
            Self::Permute { op, of, rd, rn, rm } => three(f, op.name(), of.arrangement().name(), rd, rn, rm),
            Self::ToGeneral { part, rd, rn } => {
                write!(f, "fmov {}, {}", part.general(rd), Part(part, rn))
            }
            Self::FromGeneral { part, rd, rn } => {
                write!(f, "fmov {}, {}", Part(part, rd), part.general(rn))
            }
            Self::FloatOne { op, size, rd, rn } => {
                write!(f, "{} {}, {}", op.name(), Scalar(rd, size), Scalar(rn, size))
            }
            Self::FloatTwo { op, size, rd, rn, rm } => {
                write!(f, "{} {}, {}, {}", op.name(), Scalar(rd, size), Scalar(rn, size), Scalar(rm, size))
            }
            Self::FloatCompare { size, rn, rm } => {
                write!(f, "fcmp {}, {}", Scalar(rn, size), Scalar(rm, size))
            }
            Self::FloatCompareZero { size, rn } => write!(f, "fcmp {}, #0.0", Scalar(rn, size)),
            Self::FloatSelect { size, rd, rn, rm, cond } => {
                let (to, one, other) = (Scalar(rd, size), Scalar(rn, size), Scalar(rm, size));
                write!(f, "fcsel {to}, {one}, {other}, {cond}")
            }
            Self::FromInteger { sign, width, size, rd, rn } => {
                let mnemonic = match sign {
                    Sign::Signed => "scvtf",
                    Sign::Unsigned => "ucvtf",
                };
                write!(f, "{mnemonic} {}, {}", Scalar(rd, size), rn.name(width))
            }
            Self::ToInteger { sign, width, size, rd, rn } => {
                let mnemonic = match sign {
                    Sign::Signed => "fcvtzs",
                    Sign::Unsigned => "fcvtzu",
                };
                write!(f, "{mnemonic} {}, {}", rd.name(width), Scalar(rn, size))
            }
        }
    }
}

fn three(
    f: &mut fmt::Formatter<'_>,
    mnemonic: &str,
    suffix: &'static str,
    rd: VReg,
    rn: VReg,
    rm: VReg,
) -> fmt::Result {
    write!(f, "{mnemonic} {}, {}, {}", Vector(rd, suffix), Vector(rn, suffix), Vector(rm, suffix))
}

fn shift(f: &mut fmt::Formatter<'_>, by: ShiftBy, rd: VReg, rn: VReg) -> fmt::Result {
    let from = by.arrangement();
    let upper = by.shift().widens() && from.bytes() == 16;
    let mnemonic = match by.shift() {
        VectorShift::Sshr => "sshr",
        VectorShift::Ushr => "ushr",
        VectorShift::Shl => "shl",
        VectorShift::Sshll => "sshll",
        VectorShift::Ushll => "ushll",
    };
    let to = if by.shift().widens() { Arrangement::new(from.log2_element() + 1, 1) } else { from };
    let two = if upper { "2" } else { "" };
    write!(f, "{mnemonic}{two} {}, {}, #{}", Vector(rd, to.name()), Vector(rn, from.name()), by.amount())
}

fn immediate(f: &mut fmt::Formatter<'_>, imm: ModifiedImm, rd: VReg) -> fmt::Result {
    let (cmode, q) = (imm.cmode(), u32::from(imm.is_full()));
    if cmode == 14 && imm.op() {
        if imm.is_full() {
            write!(f, "movi {}, ", Vector(rd, "2d"))?;
        } else {
            write!(f, "movi d{}, ", rd.number())?;
        }
        // Sixteen places, of which a prefix takes two.
        return match imm.spread() {
            0 => f.write_str("#0000000000000000"),
            value => write!(f, "#{value:#016x}"),
        };
    }
    let mnemonic = match (imm.keeps(), imm.op()) {
        (true, false) => "orr",
        (true, true) => "bic",
        (false, false) => "movi",
        (false, true) => "mvni",
    };
    let (size, shift, kind) = match cmode {
        0..=7 => (2, 8 * (cmode >> 1), "lsl"),
        8..=11 => (1, 8 * (cmode >> 1 & 1), "lsl"),
        12..=13 => (2, 8 << (cmode & 1), "msl"),
        _ => (0, 0, "lsl"),
    };
    write!(f, "{mnemonic} {}, #{}", Vector(rd, Arrangement::new(size, q).name()), imm.imm8())?;
    if shift == 0 { Ok(()) } else { write!(f, ", {kind} #{shift}") }
}

impl VectorLogical {
    fn name(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Bic => "bic",
            Self::Orr => "orr",
            Self::Orn => "orn",
            Self::Eor => "eor",
            Self::Bsl => "bsl",
            Self::Bit => "bit",
            Self::Bif => "bif",
        }
    }
}

impl Permute {
    fn name(self) -> &'static str {
        match self {
            Self::Uzp1 => "uzp1",
            Self::Trn1 => "trn1",
            Self::Zip1 => "zip1",
            Self::Uzp2 => "uzp2",
            Self::Trn2 => "trn2",
            Self::Zip2 => "zip2",
        }
    }
}

impl FloatMove {
    fn general(self, reg: Reg) -> impl fmt::Display {
        reg.name(match self {
            Self::HalfW | Self::Single => Width::W,
            Self::HalfX | Self::Double | Self::Upper => Width::X,
        })
    }
}

/// The SIMD register of a move to or from a general one.
struct Part(FloatMove, VReg);

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FloatMove::HalfW | FloatMove::HalfX => Scalar(self.1, FloatSize::H).fmt(f),
            FloatMove::Single => Scalar(self.1, FloatSize::S).fmt(f),
            FloatMove::Double => Scalar(self.1, FloatSize::D).fmt(f),
            FloatMove::Upper => write!(f, "v{}.d[1]", self.1.number()),
        }
    }
}

impl FloatOne {
    fn name(self) -> &'static str {
        match self {
            Self::Fmov => "fmov",
            Self::Fabs => "fabs",
            Self::Fneg => "fneg",
            Self::Fsqrt => "fsqrt",
        }
    }
}

impl FloatTwo {
    fn name(self) -> &'static str {
        match self {
            Self::Fmul => "fmul",
            Self::Fdiv => "fdiv",
            Self::Fadd => "fadd",
            Self::Fsub => "fsub",
            Self::Fmax => "fmax",
            Self::Fmin => "fmin",
            Self::Fmaxnm => "fmaxnm",
            Self::Fminnm => "fminnm",
            Self::Fnmul => "fnmul",
        }
    }
}
