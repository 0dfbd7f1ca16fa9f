//! The arithmetic of relocations: what a place holds once the addresses are known.
//!
//! Numbers in, number out, no ELF and no memory.

use super::kinds::Field::{Access, Add, Adr, Adrp, Branch, Conditional, Data, Literal, Load15, Move, MoveSigned, Test};
use super::kinds::Operation::{Absolute, Got, GotOffset, GotPage, GotPageOffset, GotRelative, Page, Relative};
use super::kinds::RelocKind;
use core::fmt;
use thiserror::Error;

/// What a relocation is computed from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelocOperands {
    /// S + A.
    pub(crate) target: u64,
    /// P.
    pub(crate) place: u64,
    /// G; not looked at by kinds that have no GOT entry.
    pub(crate) got_entry: u64,
    /// GOT; looked at by the same kinds.
    pub(crate) got_start: u64,
}

impl RelocKind {
    /// Computes what the place, which holds `old`, shall hold.
    pub(crate) fn apply(self, operands: RelocOperands, old: u64) -> Result<u64, RelocError> {
        let value = self.value(operands);
        let failed = |cause| RelocError { kind: self, place: operands.place, cause };
        self.check(value, old).map_err(failed)?;
        let bits = |lsb: u32, len: u32| value >> lsb & ((1 << len) - 1);
        let put = |mask: u64, bits: u64| Ok(old & !mask | bits);
        match self.0.field {
            Data(8) => Ok(value),
            Data(bytes) => Ok(bits(0, 8 * bytes)),
            Branch => put(0x03ff_ffff, bits(2, 26)),
            Conditional | Literal => put(0x00ff_ffe0, bits(2, 19) << 5),
            Test => put(0x0007_ffe0, bits(2, 14) << 5),
            Adr => put(ADR_MASK, bits(0, 2) << 29 | bits(2, 19) << 5),
            Adrp => put(ADR_MASK, bits(12, 2) << 29 | bits(14, 19) << 5),
            Add => put(IMM12_MASK, bits(0, 12) << 10),
            Access(log2) => put(IMM12_MASK, bits(log2, 12 - log2) << 10),
            Load15 => put(IMM12_MASK, bits(3, 12) << 10),
            Move(lsb) => put(IMM16_MASK, bits(lsb, 16) << 5),
            MoveSigned(_) if old & MOVK_BITS == MOVK_BITS => put(IMM16_MASK, bits(self.lsb(), 16) << 5),
            MoveSigned(lsb) => {
                // The bit above the sixteen is the sign of all that is left; above bit 63 there is none.
                let negative = value.checked_shr(lsb + 16).is_some_and(|above| above & 1 != 0);
                let imm = bits(lsb, 16);
                let (opcode, imm) = if negative { (0, !imm & 0xffff) } else { (MOVZ_BIT, imm) };
                put(IMM16_MASK | MOVZ_BIT, opcode | imm << 5)
            }
        }
    }

    fn lsb(self) -> u32 {
        match self.0.field {
            Move(lsb) | MoveSigned(lsb) => lsb,
            _ => 0,
        }
    }

    fn value(self, operands: RelocOperands) -> u64 {
        let RelocOperands { target, place, got_entry, got_start } = operands;
        match self.0.operation {
            Absolute => target,
            Relative => target.wrapping_sub(place),
            Page => page(target).wrapping_sub(page(place)),
            Got => got_entry,
            GotRelative => got_entry.wrapping_sub(place),
            GotPage => page(got_entry).wrapping_sub(page(place)),
            GotOffset => got_entry.wrapping_sub(got_start),
            GotPageOffset => got_entry.wrapping_sub(page(got_start)),
        }
    }

    /// Whether the field takes the value, and the place is what has such a field.
    fn check(self, value: u64, old: u64) -> Result<(), RelocCause> {
        let (min, max) = self.0.range.limits();
        let signed = value.cast_signed();
        if signed < min || signed > max {
            return Err(RelocCause::Overflow { value: signed, min, max });
        }
        let multiple_of = match self.0.field {
            Branch | Conditional | Test | Literal => 4,
            Access(log2) => 1 << log2,
            Load15 => 8,
            _ => 1,
        };
        if !value.is_multiple_of(multiple_of) {
            return Err(RelocCause::Misaligned { value: signed, multiple_of });
        }
        let (mask, opcode) = match self.0.field {
            Data(_) => (0, 0),
            Branch => (0x7c00_0000, 0x1400_0000),
            // B.cond has an opcode of its own; CBZ and CBNZ differ in their top byte's lowest and highest bit.
            Conditional if old >> 24 == 0x54 => (0xff00_0010, 0x5400_0000),
            Conditional => (0x7e00_0000, 0x3400_0000),
            Test => (0x7e00_0000, 0x3600_0000),
            Literal => (0x3b00_0000, 0x1800_0000),
            Adr => (0x9f00_0000, 0x1000_0000),
            Adrp => (0x9f00_0000, 0x9000_0000),
            Add => (0x1f80_0000, 0x1100_0000),
            Access(_) | Load15 => (0x3b00_0000, 0x3900_0000),
            Move(_) | MoveSigned(_) => (0x1f80_0000, 0x1280_0000),
        };
        if old & mask != opcode { Err(RelocCause::OtherInstruction { word: old as u32 }) } else { Ok(()) }
    }
}

/// immlo and immhi of ADR and ADRP.
const ADR_MASK: u64 = 0x60ff_ffe0;
const IMM12_MASK: u64 = 0x003f_fc00;
const IMM16_MASK: u64 = 0x001f_ffe0;
/// The two bits of opc that tell MOVN (00), MOVZ (10) and MOVK (11).
const MOVK_BITS: u64 = 0x6000_0000;
const MOVZ_BIT: u64 = 0x4000_0000;

const fn page(address: u64) -> u64 {
    address & !0xfff
}

/// A relocation that can't be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("The relocation {kind} at {place:#x} {cause}")]
pub struct RelocError {
    /// Its kind.
    pub kind: RelocKind,
    /// The place's address.
    pub place: u64,
    /// What is wrong.
    #[source]
    pub cause: RelocCause,
}

/// Why a relocation can't be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RelocCause {
    /// The value is beyond what the place can hold.
    #[error("overflows: the value {} is not within {} to {}", Hex(*.value), Hex(*.min), Hex(*.max))]
    Overflow {
        /// The value.
        value: i64,
        /// The least that fits.
        min: i64,
        /// The greatest that fits.
        max: i64,
    },
    /// The place counts in units, and the value is no whole number of them.
    #[error("has the value {}, which is no multiple of {multiple_of}", Hex(*.value))]
    Misaligned {
        /// The value.
        value: i64,
        /// The unit.
        multiple_of: u64,
    },
    /// The place holds another instruction than this kind is for.
    #[error("is not for the instruction {word:#010x}")]
    OtherInstruction {
        /// The word at the place.
        word: u32,
    },
}

/// A number with its sign, in hexadecimal.
struct Hex(i64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}
