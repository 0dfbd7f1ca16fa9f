//! The arithmetic of relocations: what a place holds once the addresses are known.
//!
//! Numbers in, number out, no ELF and no memory. A kind of relocation is one row of [`TABLE`]:
//! what is computed, which field takes it, and which values the field may hold (AAELF64 5.7, "Relocation").
//!
//! | letter | what it is |
//! |---|---|
//! | S | the symbol's address |
//! | A | the addend |
//! | P | the place's own address |
//! | G | the address of the symbol's entry in the GOT |
//! | GOT | the address of the GOT |

use core::fmt;
use thiserror::Error;

/// What is computed before a field takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// S + A
    Absolute,
    /// S + A - P
    Relative,
    /// Page(S + A) - Page(P)
    Page,
    /// G, of S + A
    Got,
    /// G - P
    GotRelative,
    /// Page(G) - Page(P)
    GotPage,
    /// G - GOT
    GotOffset,
    /// G - Page(GOT)
    GotPageOffset,
}

/// Where the result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// So many bytes of data.
    Data(u32),
    /// imm26 of B and BL.
    Branch,
    /// imm19 of B.cond, CBZ and CBNZ.
    Conditional,
    /// imm14 of TBZ and TBNZ.
    Test,
    /// imm19 of a literal load.
    Literal,
    /// immhi:immlo of ADR.
    Adr,
    /// immhi:immlo of ADRP.
    Adrp,
    /// imm12 of ADD.
    Add,
    /// imm12 of a load or store of 2 to the power of so many bytes.
    Access(u32),
    /// imm12 of a load of eight bytes, all of it: the bits from 3 to 14.
    Load15,
    /// imm16 of MOVZ or MOVK: bits from this one on.
    Move(u32),
    /// imm16 of MOVZ, MOVN or MOVK: bits from this one on; MOVZ and MOVN are chosen by the sign.
    MoveSigned(u32),
}

/// Which values are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// All: the field takes some bits only.
    Any,
    /// Those of so many bits of two's complement.
    Signed(u32),
    /// Those of so many bits without a sign.
    Unsigned(u32),
    /// Both.
    Either(u32),
}

impl Range {
    /// The least and the greatest right value.
    const fn limits(self) -> (i64, i64) {
        match self {
            Self::Any => (i64::MIN, i64::MAX),
            Self::Signed(bits) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            Self::Unsigned(bits) => (0, (1 << bits) - 1),
            Self::Either(bits) => (-(1 << (bits - 1)), (1 << bits) - 1),
        }
    }
}

/// One row: a kind of relocation.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    number: u32,
    name: &'static str,
    operation: Operation,
    field: Field,
    range: Range,
}

const fn row(number: u32, name: &'static str, operation: Operation, field: Field, range: Range) -> Row {
    Row { number, name, operation, field, range }
}

use Field::{Access, Add, Adr, Adrp, Branch, Conditional, Data, Literal, Load15, Move, MoveSigned, Test};
use Operation::{Absolute, Got, GotOffset, GotPage, GotPageOffset, GotRelative, Page, Relative};
use Range::{Any, Either, Signed, Unsigned};

/// Every kind that the loader knows, by ascending number.
#[rustfmt::skip]
static TABLE: [Row; 44] = [
    row(257, "R_AARCH64_ABS64",               Absolute,    Data(8),        Any),
    row(258, "R_AARCH64_ABS32",               Absolute,    Data(4),        Either(32)),
    row(259, "R_AARCH64_ABS16",               Absolute,    Data(2),        Either(16)),
    row(260, "R_AARCH64_PREL64",              Relative,    Data(8),        Any),
    row(261, "R_AARCH64_PREL32",              Relative,    Data(4),        Either(32)),
    row(262, "R_AARCH64_PREL16",              Relative,    Data(2),        Either(16)),
    row(263, "R_AARCH64_MOVW_UABS_G0",        Absolute,    Move(0),        Unsigned(16)),
    row(264, "R_AARCH64_MOVW_UABS_G0_NC",     Absolute,    Move(0),        Any),
    row(265, "R_AARCH64_MOVW_UABS_G1",        Absolute,    Move(16),       Unsigned(32)),
    row(266, "R_AARCH64_MOVW_UABS_G1_NC",     Absolute,    Move(16),       Any),
    row(267, "R_AARCH64_MOVW_UABS_G2",        Absolute,    Move(32),       Unsigned(48)),
    row(268, "R_AARCH64_MOVW_UABS_G2_NC",     Absolute,    Move(32),       Any),
    row(269, "R_AARCH64_MOVW_UABS_G3",        Absolute,    Move(48),       Any),
    row(270, "R_AARCH64_MOVW_SABS_G0",        Absolute,    MoveSigned(0),  Signed(17)),
    row(271, "R_AARCH64_MOVW_SABS_G1",        Absolute,    MoveSigned(16), Signed(33)),
    row(272, "R_AARCH64_MOVW_SABS_G2",        Absolute,    MoveSigned(32), Signed(49)),
    row(273, "R_AARCH64_LD_PREL_LO19",        Relative,    Literal,        Signed(21)),
    row(274, "R_AARCH64_ADR_PREL_LO21",       Relative,    Adr,            Signed(21)),
    row(275, "R_AARCH64_ADR_PREL_PG_HI21",    Page,        Adrp,           Signed(33)),
    row(276, "R_AARCH64_ADR_PREL_PG_HI21_NC", Page,        Adrp,           Any),
    row(277, "R_AARCH64_ADD_ABS_LO12_NC",     Absolute,    Add,            Any),
    row(278, "R_AARCH64_LDST8_ABS_LO12_NC",   Absolute,    Access(0),      Any),
    row(279, "R_AARCH64_TSTBR14",             Relative,    Test,           Signed(16)),
    row(280, "R_AARCH64_CONDBR19",            Relative,    Conditional,    Signed(21)),
    row(282, "R_AARCH64_JUMP26",              Relative,    Branch,         Signed(28)),
    row(283, "R_AARCH64_CALL26",              Relative,    Branch,         Signed(28)),
    row(284, "R_AARCH64_LDST16_ABS_LO12_NC",  Absolute,    Access(1),      Any),
    row(285, "R_AARCH64_LDST32_ABS_LO12_NC",  Absolute,    Access(2),      Any),
    row(286, "R_AARCH64_LDST64_ABS_LO12_NC",  Absolute,    Access(3),      Any),
    row(287, "R_AARCH64_MOVW_PREL_G0",        Relative,    MoveSigned(0),  Signed(17)),
    row(288, "R_AARCH64_MOVW_PREL_G0_NC",     Relative,    MoveSigned(0),  Any),
    row(289, "R_AARCH64_MOVW_PREL_G1",        Relative,    MoveSigned(16), Signed(33)),
    row(290, "R_AARCH64_MOVW_PREL_G1_NC",     Relative,    MoveSigned(16), Any),
    row(291, "R_AARCH64_MOVW_PREL_G2",        Relative,    MoveSigned(32), Signed(49)),
    row(292, "R_AARCH64_MOVW_PREL_G2_NC",     Relative,    MoveSigned(32), Any),
    row(293, "R_AARCH64_MOVW_PREL_G3",        Relative,    MoveSigned(48), Any),
    row(299, "R_AARCH64_LDST128_ABS_LO12_NC", Absolute,    Access(4),      Any),
    row(309, "R_AARCH64_GOT_LD_PREL19",       GotRelative, Literal,        Signed(21)),
    row(310, "R_AARCH64_LD64_GOTOFF_LO15",    GotOffset,   Load15,         Unsigned(15)),
    row(311, "R_AARCH64_ADR_GOT_PAGE",        GotPage,     Adrp,           Signed(33)),
    row(312, "R_AARCH64_LD64_GOT_LO12_NC",    Got,         Access(3),      Any),
    row(313, "R_AARCH64_LD64_GOTPAGE_LO15",   GotPageOffset, Load15,       Unsigned(15)),
    row(314, "R_AARCH64_PLT32",               Relative,    Data(4),        Signed(32)),
    row(315, "R_AARCH64_GOTPCREL32",          GotRelative, Data(4),        Signed(32)),
];

/// The lowest number in the table, and how many numbers there are from it to the highest.
const FIRST: u32 = TABLE[0].number;
const NUMBERS: usize = (TABLE[TABLE.len() - 1].number - FIRST) as usize + 1;
/// The row of each number; beyond the table for one that has none.
static ROWS: [u8; NUMBERS] = {
    let mut rows = [u8::MAX; NUMBERS];
    let mut index = 0;
    while index < TABLE.len() {
        rows[(TABLE[index].number - FIRST) as usize] = index as u8;
        index += 1;
    }
    rows
};

/// A kind of relocation that the loader knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RelocKind(&'static Row);

/// The letters of a relocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letters {
    /// S + A.
    pub(crate) target: u64,
    /// P.
    pub(crate) place: u64,
    /// G; not looked at by kinds that have no GOT entry.
    pub(crate) got: u64,
    /// GOT; looked at by the same kinds.
    pub(crate) table: u64,
}

impl RelocKind {
    /// The kind of this number, unless the loader doesn't know it.
    pub fn of(number: u32) -> Option<Self> {
        let index = *ROWS.get(number.checked_sub(FIRST)? as usize)?;
        TABLE.get(usize::from(index)).map(Self)
    }

    /// Its number in ELF files.
    pub fn number(self) -> u32 {
        self.0.number
    }

    /// Its name in AAELF64.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether the distance from the place matters.
    pub(crate) fn is_relative(self) -> bool {
        matches!(self.0.operation, Relative | Page)
    }

    /// Whether the place is a B or BL, which may go through a veneer.
    pub(crate) fn is_branch(self) -> bool {
        self.0.field == Branch
    }

    /// Whether the place is an ADRP.
    pub(crate) fn is_adrp(self) -> bool {
        self.0.field == Adrp
    }

    /// Whether the symbol's GOT entry is needed.
    pub(crate) fn needs_got(self) -> bool {
        matches!(self.0.operation, Got | GotRelative | GotPage | GotOffset | GotPageOffset)
    }

    /// How many bytes the place has.
    pub(crate) fn bytes(self) -> u32 {
        match self.0.field {
            Data(bytes) => bytes,
            _ => 4,
        }
    }

    /// What the place, which holds `old`, shall hold.
    pub(crate) fn apply(self, letters: Letters, old: u64) -> Result<u64, RelocError> {
        let value = self.value(letters);
        let failed = |cause| RelocError { kind: self, place: letters.place, cause };
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

    fn value(self, letters: Letters) -> u64 {
        let Letters { target, place, got, table } = letters;
        match self.0.operation {
            Absolute => target,
            Relative => target.wrapping_sub(place),
            Page => page(target).wrapping_sub(page(place)),
            Got => got,
            GotRelative => got.wrapping_sub(place),
            GotPage => page(got).wrapping_sub(page(place)),
            GotOffset => got.wrapping_sub(table),
            GotPageOffset => got.wrapping_sub(page(table)),
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

impl fmt::Debug for RelocKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for RelocKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.name)
    }
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
