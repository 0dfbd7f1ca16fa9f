//! The kinds of relocations that the loader knows.
//!
//! A kind is one row of [`TABLE`]: what is computed, which field takes it, and which values the field may hold (AAELF64 5.7,
//! "Relocation").
//!
//! | letter | what it is |
//! |---|---|
//! | S | the symbol's address |
//! | A | the addend |
//! | P | the place's own address |
//! | G | the address of the symbol's entry in the GOT |
//! | GOT | the address of the GOT |

use core::fmt;

/// What is computed before a field takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
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
pub(super) enum Field {
    /// This many bytes of data.
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
    /// imm12 of a load or store, scaled by the access's size, of which this is the binary logarithm.
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
pub(super) enum Range {
    /// All; the field takes some of their bits.
    Any,
    /// Those that fit this many bits of two's complement.
    Signed(u32),
    /// Those that fit this many bits without a sign.
    Unsigned(u32),
    /// Those that fit this many bits in either way.
    Either(u32),
}

impl Range {
    /// The least and the greatest right value.
    pub(super) const fn limits(self) -> (i64, i64) {
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
pub(super) struct Row {
    number: u32,
    name: &'static str,
    pub(super) operation: Operation,
    pub(super) field: Field,
    pub(super) range: Range,
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
pub struct RelocKind(pub(super) &'static Row);

impl RelocKind {
    /// Finds the kind of this number, unless the loader doesn't know it.
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
