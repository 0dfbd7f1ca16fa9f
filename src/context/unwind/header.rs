//! A table's first bytes, and what can be wrong with a table.

use thiserror::Error;

use super::index::{BLOCK, ENTRY_LEN, MOST_PIECES};
use super::row::ROW_LEN;

/// The first four bytes of a table.
const MAGIC: [u8; 4] = *b"funw";
/// The form that this module reads and writes.
const VERSION: u32 = 2;
const VERSION_AT: usize = 4;
/// Where a table has its base, in eight bytes: how far the text is behind the table itself.
pub const BASE_AT: usize = 8;
const TEXT_LEN_AT: usize = 16;
const PIECES_AT: usize = 20;
const ROWS_AT: usize = 24;
const LISTS_LEN_AT: usize = 28;
const WIDE_AT: usize = 32;
const WIDTH_AT: usize = 36;
pub(super) const HEADER_LEN: usize = 40;
/// What is wrong with an unwind table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnwindTableError {
    /// The kernel was linked without a table.
    #[error("The kernel was linked without an unwind table")]
    Absent,
    /// The table does not start with the magic.
    #[error("The unwind table starts with {found:02x?} and not with {MAGIC:02x?}")]
    Magic {
        /// The bytes that stand there.
        found: [u8; 4],
    },
    /// The table has a form that this version of the crate does not know.
    #[error("The unwind table has form {found}; this crate reads form {VERSION}")]
    Version {
        /// The version that the table says it has.
        found: u32,
    },
    /// The table's length is not the one that its header implies.
    #[error("The unwind table is {found} bytes long and should be {expected}")]
    Length {
        /// The length that the header implies, or the header's own.
        expected: u64,
        /// The length of the bytes that were given.
        found: u64,
    },
    /// The header contradicts itself.
    #[error("The unwind table's header has {found} at byte {at}, which can't be")]
    Header {
        /// Where the number stands.
        at: usize,
        /// The number.
        found: u32,
    },
    /// The index of the pieces does not ascend, or names one that is not there.
    #[error("The unwind table's index of pieces is wrong at block {block}")]
    Index {
        /// The number of the first wrong block.
        block: u32,
    },
    /// The pieces of text do not ascend from the base, or one is outside the text.
    #[error("The unwind table's piece of text {index} starts or ends where it can't")]
    Piece {
        /// The number of the first such piece.
        index: u32,
    },
    /// A piece's list is not within the lists, has a row that is not there, or entries that do not ascend within the piece.
    #[error("The unwind table's list for the piece of text {index} is wrong")]
    List {
        /// The number of the first piece with such a list.
        index: u32,
    },
    /// The row means nothing.
    #[error("The unwind table's row {index} means nothing")]
    Row {
        /// The number of the first such row.
        index: u32,
    },
}

/// The numbers of a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// How far behind the table's own address the text begins, modulo 2^64.
    pub(super) base: u64,
    pub(super) text_len: u32,
    pub(super) pieces: u32,
    pub(super) rows: u32,
    pub(super) lists_len: u32,
    pub(super) wide: u32,
    pub(super) width: u32,
}

impl Header {
    #[cfg(any(test, feature = "fakes", feature = "module"))]
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[BASE_AT..][..8].copy_from_slice(&self.base.to_le_bytes());
        for (at, number) in [(VERSION_AT, VERSION)].into_iter().chain(self.numbers()) {
            bytes[at..][..4].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn numbers(&self) -> [(usize, u32); 6] {
        [
            (TEXT_LEN_AT, self.text_len),
            (PIECES_AT, self.pieces),
            (ROWS_AT, self.rows),
            (LISTS_LEN_AT, self.lists_len),
            (WIDE_AT, self.wide),
            (WIDTH_AT, self.width),
        ]
    }

    pub(super) fn of(bytes: &[u8]) -> Result<Self, UnwindTableError> {
        let short = UnwindTableError::Length { expected: HEADER_LEN as u64, found: bytes.len() as u64 };
        let (&header, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(short)?;
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
        if header[..4] != MAGIC {
            return Err(UnwindTableError::Magic { found: [header[0], header[1], header[2], header[3]] });
        }
        if number(VERSION_AT) != VERSION {
            return Err(UnwindTableError::Version { found: number(VERSION_AT) });
        }
        let header = Self {
            base: long(BASE_AT),
            text_len: number(TEXT_LEN_AT),
            pieces: number(PIECES_AT),
            rows: number(ROWS_AT),
            lists_len: number(LISTS_LEN_AT),
            wide: number(WIDE_AT),
            width: number(WIDTH_AT),
        };
        let can_be = |(at, found): (usize, u32)| match at {
            TEXT_LEN_AT => header.text_len.is_multiple_of(4) && (header.pieces == 0) == (header.text_len == 0),
            PIECES_AT => found < MOST_PIECES,
            ROWS_AT => found <= 1 << 16,
            WIDE_AT => found <= header.lists_len && found.is_multiple_of(2),
            WIDTH_AT => matches!(found, 2 | 4),
            _ => true,
        };
        match header.numbers().into_iter().find(|number| !can_be(*number)) {
            Some((at, found)) => Err(UnwindTableError::Header { at, found }),
            None => Ok(header),
        }
    }

    /// How many blocks the text has; the index of pieces has an entry more.
    pub(super) fn blocks(&self) -> u64 {
        u64::from(self.text_len).div_ceil(BLOCK)
    }

    /// How long the whole table is.
    pub(super) fn table_len(&self) -> u64 {
        let pieces = u64::from(self.pieces) * u64::from(1 + self.width);
        let rows = u64::from(self.rows) * ROW_LEN as u64;
        HEADER_LEN as u64 + ENTRY_LEN as u64 * (self.blocks() + 1) + pieces + rows + u64::from(self.lists_len)
    }
}
