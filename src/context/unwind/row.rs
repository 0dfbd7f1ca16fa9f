//! What is known of a frame before one instruction, and its ten bytes.

use core::fmt;

/// The bytes of a row.
pub(super) const ROW_LEN: usize = 10;
/// What distances are counted in.
const UNIT: u32 = 8;

const BY_FP: u8 = 1;
const FP_AT: u8 = 1;
const FP_MASK: u8 = 0b11;
const FP_IS_SAVED: u8 = 1 << 3;
const RA_AT: u8 = 4;
const RA_MASK: u8 = 0b11;
const IS_SIGNED: u8 = 1 << 6;
const IS_UNKNOWN: u8 = 1 << 7;

/// Where a frame's caller is, before one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// What SP is in the caller once the call is over.
    pub cfa: Cfa,
    /// What x29 holds.
    pub fp: FpHolds,
    /// How many bytes below the CFA the caller's x29 is saved.
    pub saved_fp: Option<u32>,
    /// Where the return address is.
    pub return_address: ReturnAddress,
    /// Whether the return address has a pointer authentication code there.
    pub is_signed: bool,
}

/// The canonical frame address: a register, and so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cfa {
    /// SP and so many bytes.
    Sp(u32),
    /// x29 and so many bytes, where a frame's size is not known before it runs.
    Fp(u32),
}

/// What x29 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FpHolds {
    /// What the caller had in it.
    Callers,
    /// The address so many bytes below the CFA: that of the frame record, once it is there.
    Frame(u32),
    /// Something else.
    Other,
    /// Zero, and nobody has called: a CPU's or a task's first code (AAPCS64 6.4.6). The rest of the row has no meaning.
    End,
}

/// Where a return address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnAddress {
    /// In x30.
    Lr,
    /// So many bytes below the CFA.
    Saved(u32),
    /// In another general register, of this number.
    Register(u8),
}

/// Why there is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unknown {
    /// The table is not about this place.
    NoText,
    /// It is data or padding, or no path from the function's entry leads there.
    NotReached,
    /// Paths meet here whose frames differ, or the stack pointer came from elsewhere.
    NoCfa,
    /// The return address is nowhere any more, or not on all paths at the same place.
    NoReturnAddress,
    /// The frame is larger than a row can say.
    TooLarge,
    /// An exception has led here, and nobody has called: what looks like a return address is what x30 happened to be.
    Exception,
}

impl Row {
    /// That of code that nobody has called.
    pub const END: Self =
        Self { cfa: Cfa::Sp(0), fp: FpHolds::End, saved_fp: None, return_address: ReturnAddress::Lr, is_signed: false };
}

#[cfg(any(test, feature = "fakes", feature = "module"))]
impl Row {
    /// Whether a table can hold it: distances of less than 512 KiB, in units of eight bytes.
    pub fn fits(self) -> bool {
        known_to_bytes(self).is_some()
    }
}

impl Unknown {
    const ALL: [Self; 6] =
        [Self::NoText, Self::NotReached, Self::NoCfa, Self::NoReturnAddress, Self::TooLarge, Self::Exception];
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoText => "the unwind table is not about this place",
            Self::NotReached => "no path leads to this instruction",
            Self::NoCfa => "the frame's size is not known here",
            Self::NoReturnAddress => "the return address is not known here",
            Self::TooLarge => "the frame is too large for the unwind table",
            Self::Exception => "this is an exception's handler, which nobody has called",
        })
    }
}

/// So many bytes as a row has them.
#[cfg(any(test, feature = "fakes", feature = "module"))]
fn units(bytes: u32) -> Option<[u8; 2]> {
    let units = bytes.is_multiple_of(UNIT).then_some(bytes / UNIT)?;
    u16::try_from(units).ok().map(u16::to_le_bytes)
}

const fn bytes(units: [u8; 2]) -> u32 {
    u16::from_le_bytes(units) as u32 * UNIT
}

/// The row as bytes; one that is too large to be told says so.
#[cfg(any(test, feature = "fakes", feature = "module"))]
pub(super) fn to_bytes(row: Result<Row, Unknown>) -> [u8; ROW_LEN] {
    let unknown = |reason: Unknown| {
        let mut row = [0; ROW_LEN];
        row[0] = IS_UNKNOWN;
        row[1] = Unknown::ALL.iter().position(|other| *other == reason).unwrap_or(0) as u8;
        row
    };
    row.and_then(|row| known_to_bytes(row).ok_or(Unknown::TooLarge)).unwrap_or_else(unknown)
}

#[cfg(any(test, feature = "fakes", feature = "module"))]
fn known_to_bytes(row: Row) -> Option<[u8; ROW_LEN]> {
    let mut flags = if row.is_signed { IS_SIGNED } else { 0 };
    let cfa = match row.cfa {
        Cfa::Sp(bytes) => bytes,
        Cfa::Fp(bytes) => {
            flags |= BY_FP;
            bytes
        }
    };
    let (fp, fp_below) = match row.fp {
        FpHolds::Callers => (0, 0),
        FpHolds::Frame(below) => (1, below),
        FpHolds::Other => (2, 0),
        FpHolds::End => (3, 0),
    };
    flags |= fp << FP_AT;
    if row.saved_fp.is_some() {
        flags |= FP_IS_SAVED;
    }
    let (place, register, below) = match row.return_address {
        ReturnAddress::Lr => (0, 0, 0),
        ReturnAddress::Saved(below) => (1, 0, below),
        ReturnAddress::Register(number) => (2, number, 0),
    };
    flags |= place << RA_AT;
    let (cfa, fp_below, saved_fp, below) =
        (units(cfa)?, units(fp_below)?, units(row.saved_fp.unwrap_or(0))?, units(below)?);
    Some([flags, register, cfa[0], cfa[1], fp_below[0], fp_below[1], saved_fp[0], saved_fp[1], below[0], below[1]])
}

/// The row that bytes mean of which [`from_bytes`] has said that they mean one: in few instructions.
// Inlined, since what it returns is large: it is written once, to where the caller of the caller wants it.
#[inline(always)]
pub(super) fn of_checked(row: [u8; ROW_LEN]) -> Result<Row, Unknown> {
    let [flags, number, cfa, cfa1, fp, fp1, saved, saved1, below, below1] = row;
    if flags & IS_UNKNOWN != 0 {
        return Err(Unknown::ALL.get(usize::from(number)).copied().unwrap_or(Unknown::NoText));
    }
    let cfa = bytes([cfa, cfa1]);
    Ok(Row {
        cfa: if flags & BY_FP != 0 { Cfa::Fp(cfa) } else { Cfa::Sp(cfa) },
        fp: match flags >> FP_AT & FP_MASK {
            0 => FpHolds::Callers,
            1 => FpHolds::Frame(bytes([fp, fp1])),
            2 => FpHolds::Other,
            _ => FpHolds::End,
        },
        saved_fp: if flags & FP_IS_SAVED != 0 { Some(bytes([saved, saved1])) } else { None },
        return_address: match flags >> RA_AT & RA_MASK {
            0 => ReturnAddress::Lr,
            1 => ReturnAddress::Saved(bytes([below, below1])),
            _ => ReturnAddress::Register(number),
        },
        is_signed: flags & IS_SIGNED != 0,
    })
}

/// The row that bytes mean; `None` where they mean none.
pub(super) fn from_bytes(row: [u8; ROW_LEN]) -> Option<Result<Row, Unknown>> {
    let [flags, number, cfa, cfa1, fp, fp1, saved, saved1, below, below1] = row;
    if flags & IS_UNKNOWN != 0 {
        let is_alone = flags == IS_UNKNOWN && row[2..] == [0; ROW_LEN - 2];
        return Unknown::ALL.get(usize::from(number)).filter(|_| is_alone).map(|reason| Err(*reason));
    }
    let (cfa, below) = (bytes([cfa, cfa1]), bytes([below, below1]));
    let fp_below = bytes([fp, fp1]);
    let saved_below = bytes([saved, saved1]);
    let fp = match (flags >> FP_AT & FP_MASK, fp_below) {
        (0, 0) => FpHolds::Callers,
        (1, below) => FpHolds::Frame(below),
        (2, 0) => FpHolds::Other,
        (3, 0) => FpHolds::End,
        _ => return None,
    };
    let saved_fp = match (flags & FP_IS_SAVED != 0, saved_below) {
        (true, 8..) => Some(saved_below),
        (false, 0) => None,
        _ => return None,
    };
    let return_address = match (flags >> RA_AT & RA_MASK, number, below) {
        (0, 0, 0) => ReturnAddress::Lr,
        (1, 0, 8..) => ReturnAddress::Saved(below),
        (2, 0..=29, 0) => ReturnAddress::Register(number),
        _ => return None,
    };
    let by_fp = flags & BY_FP != 0;
    // By x29 only where that is an address of the frame.
    if by_fp && fp != FpHolds::Frame(cfa) {
        return None;
    }
    let cfa = if by_fp { Cfa::Fp(cfa) } else { Cfa::Sp(cfa) };
    Some(Ok(Row { cfa, fp, saved_fp, return_address, is_signed: flags & IS_SIGNED != 0 }))
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fp == FpHolds::End {
            return f.write_str("x29 = 0, nobody has called");
        }
        match self.cfa {
            Cfa::Sp(bytes) => write!(f, "CFA = sp + {bytes}")?,
            Cfa::Fp(bytes) => write!(f, "CFA = x29 + {bytes}")?,
        }
        match self.fp {
            FpHolds::Callers => f.write_str(", x29 the caller's")?,
            FpHolds::Frame(below) => write!(f, ", x29 = CFA - {below}")?,
            FpHolds::End | FpHolds::Other => {}
        }
        if let Some(below) = self.saved_fp {
            write!(f, ", the caller's x29 at CFA - {below}")?;
        }
        match self.return_address {
            ReturnAddress::Lr => f.write_str(", return address in x30")?,
            ReturnAddress::Saved(below) => write!(f, ", return address at CFA - {below}")?,
            ReturnAddress::Register(number) => write!(f, ", return address in x{number}")?,
        }
        if self.is_signed { f.write_str(", signed") } else { Ok(()) }
    }
}
