//! Arithmetic on a register and a number as text.

use core::fmt;

use super::Hex;
use crate::insn::{
    AddSub, ArithImm, BitfieldMove, BitfieldPlaces, DataImm, HalfWord, Logical, MoveWide, Reg, RegOrSp, Width,
};

impl AddSub {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
        }
    }

    /// The name of the form that throws the result away.
    pub(super) fn compare_name(self) -> &'static str {
        match self {
            Self::Add => "cmn",
            Self::Sub => "cmp",
        }
    }
}

/// `, #1, lsl #12`.
struct Arith(ArithImm);

impl fmt::Display for Arith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0.imm12().get())?;
        if self.0.is_shifted() { f.write_str(", lsl #12") } else { Ok(()) }
    }
}

impl fmt::Display for DataImm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Adr { rd, offset } => write!(f, "adr {}, #{}", rd.name(Width::X), offset.bytes()),
            Self::Adrp { rd, offset } => {
                write!(f, "adrp {}, #{}", rd.name(Width::X), offset.bytes())
            }
            Self::AddSub { op, width, rd, rn, imm } => {
                let (to, from) = (rd.name(width), rn.name(width));
                let nothing = imm.imm12().get() == 0 && !imm.is_shifted();
                if matches!(op, AddSub::Add) && nothing && (rd.is_sp() || rn.is_sp()) {
                    return write!(f, "mov {to}, {from}");
                }
                write!(f, "{} {to}, {from}, {}", op.name(), Arith(imm))
            }
            Self::AddSubFlags { op, width, rd: Reg::XZR, rn, imm } => {
                write!(f, "{} {}, {}", op.compare_name(), rn.name(width), Arith(imm))
            }
            Self::AddSubFlags { op, width, rd, rn, imm } => {
                write!(f, "{}s {}, {}, {}", op.name(), rd.name(width), rn.name(width), Arith(imm))
            }
            Self::Logical { op: Logical::Orr, rd, rn: Reg::XZR, imm } if !is_move_wide(imm.value(), imm.width()) => {
                move_value(f, rd, imm.value(), imm.width())
            }
            Self::Logical { op, rd, rn, imm } => {
                let mnemonic = match op {
                    Logical::And => "and",
                    Logical::Orr => "orr",
                    Logical::Eor => "eor",
                };
                let width = imm.width();
                write!(f, "{mnemonic} {}, {}, {}", rd.name(width), rn.name(width), Hex(imm.value()))
            }
            Self::LogicalFlags { rd: Reg::XZR, rn, imm } => {
                write!(f, "tst {}, {}", rn.name(imm.width()), Hex(imm.value()))
            }
            Self::LogicalFlags { rd, rn, imm } => {
                let width = imm.width();
                write!(f, "ands {}, {}, {}", rd.name(width), rn.name(width), Hex(imm.value()))
            }
            Self::MoveWide { op, rd, imm, at } => move_wide(f, op, rd, imm.get(), at),
            Self::Bitfield { op, rd, rn, places } => bitfield(f, op, rd, rn, places),
            Self::Extract { rd, rn, rm, lsb } => {
                let (width, place) = (lsb.width(), lsb.get());
                let (to, upper) = (rd.name(width), rn.name(width));
                if rn == rm {
                    return write!(f, "ror {to}, {upper}, #{place}");
                }
                write!(f, "extr {to}, {upper}, {}, #{place}", rm.name(width))
            }
        }
    }
}

fn mask(width: Width) -> u64 {
    match width {
        Width::W => u32::MAX.into(),
        Width::X => u64::MAX,
    }
}

/// Whether MOVZ makes this value.
fn is_move_zero(value: u64) -> bool {
    [0, 16, 32, 48].iter().any(|shift| value & !(0xffff << shift) == 0)
}

/// Whether MOVZ or MOVN makes this value.
fn is_move_wide(value: u64, width: Width) -> bool {
    is_move_zero(value) || is_move_zero(!value & mask(width))
}

/// `mov x0, #-2`: a whole register's value, as a signed number.
fn move_value(f: &mut fmt::Formatter<'_>, rd: RegOrSp, value: u64, width: Width) -> fmt::Result {
    write!(f, "mov {}, #{}", rd.name(width), signed(value, width))
}

fn signed(value: u64, width: Width) -> i64 {
    match width {
        Width::W => i64::from(value as u32 as i32),
        Width::X => value as i64,
    }
}

fn move_wide(f: &mut fmt::Formatter<'_>, op: MoveWide, rd: Reg, imm: u32, at: HalfWord) -> fmt::Result {
    let (width, shift) = (at.width(), at.shift());
    let placed = u64::from(imm) << shift;
    let inverted = !placed & mask(width);
    // An assembler's `mov` chooses the lowest place for a zero, and MOVZ before MOVN.
    let canonical = imm != 0 || shift == 0;
    let to = rd.name(width);
    let mnemonic = match op {
        MoveWide::Zero if canonical => return write!(f, "mov {to}, #{}", signed(placed, width)),
        MoveWide::Not if canonical && !is_move_zero(inverted) => {
            return write!(f, "mov {to}, #{}", signed(inverted, width));
        }
        MoveWide::Zero => "movz",
        MoveWide::Not => "movn",
        MoveWide::Keep => "movk",
    };
    write!(f, "{mnemonic} {to}, #{imm}")?;
    if shift == 0 { Ok(()) } else { write!(f, ", lsl #{shift}") }
}

fn bitfield(f: &mut fmt::Formatter<'_>, op: BitfieldMove, rd: Reg, rn: Reg, places: BitfieldPlaces) -> fmt::Result {
    let (width, immr, imms) = (places.width(), places.immr(), places.imms());
    let (to, from, narrow) = (rd.name(width), rn.name(width), rn.name(Width::W));
    let bits = width.bits();
    let inserts_at = (bits - immr) % bits;
    let extracts = imms.wrapping_sub(immr).wrapping_add(1);
    match (op, immr, imms) {
        (BitfieldMove::Keep, ..) if imms < immr => {
            write!(f, "bfi {to}, {from}, #{inserts_at}, #{}", imms + 1)
        }
        (BitfieldMove::Keep, ..) => write!(f, "bfxil {to}, {from}, #{immr}, #{extracts}"),
        (BitfieldMove::Signed, 0, 7) => write!(f, "sxtb {to}, {narrow}"),
        (BitfieldMove::Signed, 0, 15) => write!(f, "sxth {to}, {narrow}"),
        (BitfieldMove::Signed, 0, 31) if width == Width::X => write!(f, "sxtw {to}, {narrow}"),
        (BitfieldMove::Unsigned, 0, 7) if width == Width::W => write!(f, "uxtb {to}, {narrow}"),
        (BitfieldMove::Unsigned, 0, 15) if width == Width::W => write!(f, "uxth {to}, {narrow}"),
        (BitfieldMove::Unsigned, ..) if imms + 1 == immr => {
            write!(f, "lsl {to}, {from}, #{}", bits - 1 - imms)
        }
        (BitfieldMove::Unsigned, ..) if imms == bits - 1 => write!(f, "lsr {to}, {from}, #{immr}"),
        (BitfieldMove::Signed, ..) if imms == bits - 1 => write!(f, "asr {to}, {from}, #{immr}"),
        (BitfieldMove::Unsigned, ..) if imms < immr => {
            write!(f, "ubfiz {to}, {from}, #{inserts_at}, #{}", imms + 1)
        }
        (BitfieldMove::Signed, ..) if imms < immr => {
            write!(f, "sbfiz {to}, {from}, #{inserts_at}, #{}", imms + 1)
        }
        (BitfieldMove::Unsigned, ..) => write!(f, "ubfx {to}, {from}, #{immr}, #{extracts}"),
        (BitfieldMove::Signed, ..) => write!(f, "sbfx {to}, {from}, #{immr}, #{extracts}"),
    }
}
