//! Arithmetic on registers as text.

use core::fmt;

use crate::insn::{
    Accumulate, AddSub, ArithShift, BitPos, CompareWith, Cond, CrcPolynomial, CrcSize, DataReg, Extend, Flags,
    LogicalOp, OneSource, PointerAuth, Reg, RegName, Select, SetfSize, Shift, Sign, TwoSource, Width,
};

/// `, lsr #3`; nothing for a shift to the left by nothing.
struct Shifted(Shift, u32);

impl fmt::Display for Shifted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Shift::Lsl if self.1 == 0 => return Ok(()),
            Shift::Lsl => "lsl",
            Shift::Lsr => "lsr",
            Shift::Asr => "asr",
            Shift::Ror => "ror",
        };
        write!(f, ", {name} #{}", self.1)
    }
}

impl ArithShift {
    fn shift(self) -> Shift {
        match self {
            Self::Lsl => Shift::Lsl,
            Self::Lsr => Shift::Lsr,
            Self::Asr => Shift::Asr,
        }
    }
}

impl Flags {
    fn suffix(self) -> &'static str {
        match self {
            Self::Kept => "",
            Self::Set => "s",
        }
    }
}

impl Extend {
    fn name(self) -> &'static str {
        match self {
            Self::Uxtb => "uxtb",
            Self::Uxth => "uxth",
            Self::Uxtw => "uxtw",
            Self::Uxtx => "uxtx",
            Self::Sxtb => "sxtb",
            Self::Sxth => "sxth",
            Self::Sxtw => "sxtw",
            Self::Sxtx => "sxtx",
        }
    }

    fn width(self) -> Width {
        match self {
            Self::Uxtx | Self::Sxtx => Width::X,
            _ => Width::W,
        }
    }
}

/// `, w1, uxtb #2`: a register, how it is widened and shifted.
struct Extended {
    rm: Reg,
    width: Width,
    extend: Extend,
    amount: u32,
    /// Whether SP is among the other registers, which makes the plain extension read as a shift.
    beside_sp: bool,
}

impl fmt::Display for Extended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = match self.width {
            Width::W => Width::W,
            Width::X => self.extend.width(),
        };
        write!(f, ", {}", self.rm.name(width))?;
        let plain = matches!((self.width, self.extend), (Width::W, Extend::Uxtw) | (Width::X, Extend::Uxtx));
        match (self.beside_sp && plain, self.amount) {
            (true, 0) => Ok(()),
            (true, amount) => write!(f, ", lsl #{amount}"),
            (false, 0) => write!(f, ", {}", self.extend.name()),
            (false, amount) => write!(f, ", {} #{amount}", self.extend.name()),
        }
    }
}

impl fmt::Display for DataReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Logical { op, rd, rn, rm, shift, amount } => logical(f, op, rd, rn, rm, shift, amount),
            Self::AddSub { op, flags, rd, rn, rm, shift, amount } => {
                let width = amount.width();
                let (to, from, other) = (rd.name(width), rn.name(width), rm.name(width));
                let shifted = Shifted(shift.shift(), amount.get());
                match (op, flags) {
                    (_, Flags::Set) if rd.is_zero() => {
                        write!(f, "{} {from}, {other}{shifted}", op.compare_name())
                    }
                    (AddSub::Sub, _) if rn.is_zero() => {
                        write!(f, "neg{} {to}, {other}{shifted}", flags.suffix())
                    }
                    _ => write!(f, "{}{} {to}, {from}, {other}{shifted}", op.name(), flags.suffix()),
                }
            }
            Self::AddSubExtended { op, width, rd, rn, rm, extend, amount } => {
                let beside_sp = rd.is_sp() || rn.is_sp();
                let extended = Extended { rm, width, extend, amount: amount.get(), beside_sp };
                write!(f, "{} {}, {}{extended}", op.name(), rd.name(width), rn.name(width))
            }
            Self::AddSubExtendedFlags { op, width, rd, rn, rm, extend, amount } => {
                let extended = Extended { rm, width, extend, amount: amount.get(), beside_sp: rn.is_sp() };
                if rd.is_zero() {
                    return write!(f, "{} {}{extended}", op.compare_name(), rn.name(width));
                }
                write!(f, "{}s {}, {}{extended}", op.name(), rd.name(width), rn.name(width))
            }
            Self::AddSubCarry { op, flags, width, rd, rn, rm } => {
                let (to, from, other) = (rd.name(width), rn.name(width), rm.name(width));
                let suffix = flags.suffix();
                match op {
                    AddSub::Add => write!(f, "adc{suffix} {to}, {from}, {other}"),
                    AddSub::Sub if rn.is_zero() => write!(f, "ngc{suffix} {to}, {other}"),
                    AddSub::Sub => write!(f, "sbc{suffix} {to}, {from}, {other}"),
                }
            }
            Self::Rmif { rn, shift, mask } => {
                write!(f, "rmif {}, #{}, #{}", rn.name(Width::X), shift.get(), mask.get())
            }
            Self::Setf { size, rn } => {
                let bits = match size {
                    SetfSize::Byte => 8,
                    SetfSize::Half => 16,
                };
                write!(f, "setf{bits} {}", rn.name(Width::W))
            }
            Self::CondCompare { op, width, rn, with, nzcv, cond } => {
                let mnemonic = match op {
                    AddSub::Add => "ccmn",
                    AddSub::Sub => "ccmp",
                };
                write!(f, "{mnemonic} {}, ", rn.name(width))?;
                match with {
                    CompareWith::Reg(rm) => write!(f, "{}", rm.name(width))?,
                    CompareWith::Imm(imm) => write!(f, "#{}", imm.get())?,
                }
                write!(f, ", #{}, {cond}", nzcv.get())
            }
            Self::CondSelect { select, width, rd, rn, rm, cond } => cond_select(f, select, width, [rd, rn, rm], cond),
            Self::OneSource { op, width, rd, rn } => {
                write!(f, "{} {}, {}", op.name(), rd.name(width), rn.name(width))
            }
            Self::Rev32 { rd, rn } => {
                write!(f, "rev32 {}, {}", rd.name(Width::X), rn.name(Width::X))
            }
            Self::PointerAuth { op, rd, rn } => {
                let (verb, key) = op.name();
                write!(f, "{verb}{key} {}, {}", rd.name(Width::X), rn.name(Width::X))
            }
            Self::PointerAuthZero { op, rd } => {
                let (verb, key) = op.name();
                let (kind, letter) = key.split_at(1);
                write!(f, "{verb}{kind}z{letter} {}", rd.name(Width::X))
            }
            Self::Xpaci { rd } => write!(f, "xpaci {}", rd.name(Width::X)),
            Self::Xpacd { rd } => write!(f, "xpacd {}", rd.name(Width::X)),
            Self::Pacga { rd, rn, rm } => three(f, "pacga", x(rd), x(rn), rm.name(Width::X)),
            Self::TwoSource { op, width, rd, rn, rm } => {
                three(f, op.name(), rd.name(width), rn.name(width), rm.name(width))
            }
            Self::Crc32 { polynomial, size, rd, rn, rm } => {
                let polynomial = match polynomial {
                    CrcPolynomial::Crc32 => "crc32",
                    CrcPolynomial::Crc32c => "crc32c",
                };
                let (size, width) = match size {
                    CrcSize::Byte => ('b', Width::W),
                    CrcSize::Half => ('h', Width::W),
                    CrcSize::Word => ('w', Width::W),
                    CrcSize::Double => ('x', Width::X),
                };
                write!(f, "{polynomial}{size} {}, {}, {}", w(rd), w(rn), rm.name(width))
            }
            Self::MultiplyAdd { op, width, rd, rn, rm, ra } => {
                let names = match op {
                    Accumulate::Add => ["mul", "madd"],
                    Accumulate::Sub => ["mneg", "msub"],
                };
                multiply(f, names, [rd.name(width), rn.name(width), rm.name(width)], ra, width)
            }
            Self::MultiplyLong { op, sign, rd, rn, rm, ra } => {
                let names = match (op, sign) {
                    (Accumulate::Add, Sign::Signed) => ["smull", "smaddl"],
                    (Accumulate::Sub, Sign::Signed) => ["smnegl", "smsubl"],
                    (Accumulate::Add, Sign::Unsigned) => ["umull", "umaddl"],
                    (Accumulate::Sub, Sign::Unsigned) => ["umnegl", "umsubl"],
                };
                multiply(f, names, [x(rd), w(rn), w(rm)], ra, Width::X)
            }
            Self::MultiplyHigh { sign: Sign::Signed, rd, rn, rm } => three(f, "smulh", x(rd), x(rn), x(rm)),
            Self::MultiplyHigh { sign: Sign::Unsigned, rd, rn, rm } => three(f, "umulh", x(rd), x(rn), x(rm)),
        }
    }
}

fn w(reg: Reg) -> RegName {
    reg.name(Width::W)
}

fn x(reg: Reg) -> RegName {
    reg.name(Width::X)
}

fn three(f: &mut fmt::Formatter<'_>, mnemonic: &str, a: RegName, b: RegName, c: RegName) -> fmt::Result {
    write!(f, "{mnemonic} {a}, {b}, {c}")
}

/// The first name is for a product that is added to nothing.
fn multiply(
    f: &mut fmt::Formatter<'_>,
    [alone, with]: [&str; 2],
    [to, one, other]: [RegName; 3],
    ra: Reg,
    width: Width,
) -> fmt::Result {
    if ra.is_zero() {
        return write!(f, "{alone} {to}, {one}, {other}");
    }
    write!(f, "{with} {to}, {one}, {other}, {}", ra.name(width))
}

fn logical(
    f: &mut fmt::Formatter<'_>,
    op: LogicalOp,
    rd: Reg,
    rn: Reg,
    rm: Reg,
    shift: Shift,
    amount: BitPos,
) -> fmt::Result {
    let width = amount.width();
    let (to, from, other) = (rd.name(width), rn.name(width), rm.name(width));
    let shifted = Shifted(shift, amount.get());
    let unshifted = shift == Shift::Lsl && amount.get() == 0;
    let mnemonic = match op {
        LogicalOp::Orr if rn.is_zero() && unshifted => return write!(f, "mov {to}, {other}"),
        LogicalOp::Orn if rn.is_zero() => return write!(f, "mvn {to}, {other}{shifted}"),
        LogicalOp::Ands if rd.is_zero() => return write!(f, "tst {from}, {other}{shifted}"),
        LogicalOp::And => "and",
        LogicalOp::Bic => "bic",
        LogicalOp::Orr => "orr",
        LogicalOp::Orn => "orn",
        LogicalOp::Eor => "eor",
        LogicalOp::Eon => "eon",
        LogicalOp::Ands => "ands",
        LogicalOp::Bics => "bics",
    };
    write!(f, "{mnemonic} {to}, {from}, {other}{shifted}")
}

fn cond_select(
    f: &mut fmt::Formatter<'_>,
    select: Select,
    width: Width,
    [rd, rn, rm]: [Reg; 3],
    cond: Cond,
) -> fmt::Result {
    let (to, from, other) = (rd.name(width), rn.name(width), rm.name(width));
    if rn == rm && !cond.is_always() {
        let cond = cond.inverted();
        match select {
            Select::Increment if rn.is_zero() => return write!(f, "cset {to}, {cond}"),
            Select::Invert if rn.is_zero() => return write!(f, "csetm {to}, {cond}"),
            Select::Increment => return write!(f, "cinc {to}, {from}, {cond}"),
            Select::Invert => return write!(f, "cinv {to}, {from}, {cond}"),
            Select::Negate => return write!(f, "cneg {to}, {from}, {cond}"),
            Select::Same => {}
        }
    }
    let mnemonic = match select {
        Select::Same => "csel",
        Select::Increment => "csinc",
        Select::Invert => "csinv",
        Select::Negate => "csneg",
    };
    write!(f, "{mnemonic} {to}, {from}, {other}, {cond}")
}

impl OneSource {
    fn name(self) -> &'static str {
        match self {
            Self::Rbit => "rbit",
            Self::Rev16 => "rev16",
            Self::Rev => "rev",
            Self::Clz => "clz",
            Self::Cls => "cls",
        }
    }
}

impl TwoSource {
    fn name(self) -> &'static str {
        match self {
            Self::Udiv => "udiv",
            Self::Sdiv => "sdiv",
            Self::Lslv => "lsl",
            Self::Lsrv => "lsr",
            Self::Asrv => "asr",
            Self::Rorv => "ror",
        }
    }
}

impl PointerAuth {
    /// The verb, and the kind of address with the key's letter.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::PacIa => ("pac", "ia"),
            Self::PacIb => ("pac", "ib"),
            Self::PacDa => ("pac", "da"),
            Self::PacDb => ("pac", "db"),
            Self::AutIa => ("aut", "ia"),
            Self::AutIb => ("aut", "ib"),
            Self::AutDa => ("aut", "da"),
            Self::AutDb => ("aut", "db"),
        }
    }
}
