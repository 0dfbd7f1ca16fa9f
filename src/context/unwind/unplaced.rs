//! A module's table before the module has a place: whoever loads it makes the table of it.
//!
//! A relocatable object's text is in sections, and each comes to stand where the loader puts it. So what the object has is about
//! sections, whose addresses relocations tell. All else is as in a table, and is copied as it stands.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the magic `funm` |
//! | 4 | the version of this form, 1 |
//! | 4 | `m`, the number of sections |
//! | 4 | `n`, that of pieces of text, less than 2^24 |
//! | 4 | `s`, that of different rows |
//! | 4 | `r`, the length of the lists |
//! | 4 | where the wide lists begin among the lists |
//! | 4 | `w`, 2 or 4: the width of a list's place |
//! | 16 `m` | of each section, in the order of their addresses: its address, which one relocation fills in (R_AARCH64_ABS64), its length in bytes, and how many pieces it has, of 8, 4 and 4 bytes |
//! | 4 `n` | where each piece starts, in words from its section's start |
//! | `w n`, 10 `s`, `r` | the lists' places, the rows and the lists, as in a table |

extern crate alloc;

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use thiserror::Error;

use super::header::{Header, UnwindTableError};
use super::index::{BLOCK, Block, MOST_PIECES};
use super::row::ROW_LEN;
use super::table::UnwindTable;

/// The first four bytes.
const MAGIC: [u8; 4] = *b"funm";
const VERSION: u32 = 1;
const PIECES_AT: usize = 12;
const HEADER_LEN: usize = 32;
/// The bytes of a section's entry.
const SECTION_LEN: usize = 16;

/// Why an object's unwind table can't become one of the module where it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnplacedError {
    /// It is no unwind table of an object, or the table that it makes is wrong.
    #[error("{0}")]
    Table(#[from] UnwindTableError),
    /// A section is not behind the one before, or not where instructions can be.
    #[error("The unwind table's section {index} is at {address:#x}, which can't be")]
    Section {
        /// The number of the first such section.
        index: usize,
        /// Where it is.
        address: u64,
    },
    /// The heap has no memory for the table.
    #[error("The heap has no memory for the unwind table")]
    Heap,
}

impl From<TryReserveError> for UnplacedError {
    fn from(_: TryReserveError) -> Self {
        Self::Heap
    }
}

/// What a relocatable object has of its unwind table.
#[derive(Clone, Copy, Debug)]
pub struct Unplaced<'a> {
    sections: &'a [[u8; SECTION_LEN]],
    starts: &'a [[u8; 4]],
    /// The places of the lists, the rows and the lists.
    rest: &'a [u8],
    /// Of the table that it becomes; where that is, and how long its text is, is not known yet.
    header: Header,
}

impl<'a> Unplaced<'a> {
    /// The first bytes, of so many sections.
    pub(super) fn header(sections: u32, header: &Header) -> [u8; HEADER_LEN] {
        let &Header { pieces, rows, lists_len, wide, width, .. } = header;
        let mut bytes = [0; HEADER_LEN];
        let numbers = [u32::from_le_bytes(MAGIC), VERSION, sections, pieces, rows, lists_len, wide, width];
        for (place, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        bytes
    }

    /// Reads what an object has.
    ///
    /// # Errors
    /// It starts with something else, or is not as long as it says. The rest is looked at where the table is made.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UnwindTableError> {
        let short = UnwindTableError::Length { expected: HEADER_LEN as u64, found: bytes.len() as u64 };
        let (header, rest) = bytes.split_at_checked(HEADER_LEN).ok_or(short)?;
        let &[magic, ref numbers @ ..] = header.as_chunks::<4>().0 else { return Err(short) };
        let &[version, sections, pieces, rows, lists_len, wide, width] = numbers else { return Err(short) };
        let [version, sections, pieces, rows, lists_len, wide, width] =
            [version, sections, pieces, rows, lists_len, wide, width].map(u32::from_le_bytes);
        if magic != MAGIC {
            return Err(UnwindTableError::Magic { found: magic });
        }
        if version != VERSION {
            return Err(UnwindTableError::Version { found: version });
        }
        if pieces >= MOST_PIECES {
            return Err(UnwindTableError::Header { at: PIECES_AT, found: pieces });
        }
        if !matches!(width, 2 | 4) {
            return Err(UnwindTableError::Header { at: HEADER_LEN - 4, found: width });
        }
        let lens = [
            SECTION_LEN as u64 * u64::from(sections),
            4 * u64::from(pieces),
            u64::from(width) * u64::from(pieces) + ROW_LEN as u64 * u64::from(rows) + u64::from(lists_len),
        ];
        let (expected, found) = (HEADER_LEN as u64 + lens.iter().sum::<u64>(), bytes.len() as u64);
        // Each is no longer than the bytes are.
        let split = |len: u64, from: &'a [u8]| usize::try_from(len).ok().and_then(|len| from.split_at_checked(len));
        let parts = split(lens[0], rest).and_then(|(sections, rest)| Some((sections, split(lens[1], rest)?)));
        let (sections, (starts, rest)) =
            parts.filter(|_| expected == found).ok_or(UnwindTableError::Length { expected, found })?;
        let header = Header { base: 0, text_len: 0, pieces, rows, lists_len, wide, width };
        Ok(Self { sections: sections.as_chunks().0, starts: starts.as_chunks().0, rest, header })
    }

    /// Where the address of a section is to be filled in, from the first section's on.
    pub fn address_places(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.sections.len() as u64).map(|index| HEADER_LEN as u64 + SECTION_LEN as u64 * index)
    }

    /// The number of the section whose address is to be filled in at this place.
    pub fn section_at(&self, place: u64) -> Option<usize> {
        let at = place.checked_sub(HEADER_LEN as u64).filter(|at| at.is_multiple_of(SECTION_LEN as u64))?;
        usize::try_from(at / SECTION_LEN as u64).ok().filter(|index| *index < self.sections.len())
    }

    /// How many sections it is about.
    pub const fn sections(&self) -> usize {
        self.sections.len()
    }

    /// Makes the table for [`UnwindTable::parse`] of sections that are at these addresses, and checks it.
    ///
    /// # Errors
    /// [`UnplacedError`].
    pub fn place(&self, addresses: impl IntoIterator<Item = u64>) -> Result<Vec<u8>, UnplacedError> {
        let sections = self.placed(addresses.into_iter())?;
        let (base, end) = (sections.first().map_or(0, |first| first.start), sections.last().map_or(0, |last| last.end));
        let too_far = UnplacedError::Section { index: sections.len().saturating_sub(1), address: end };
        let text_len = u32::try_from(end - base).map_err(|_| too_far)?;
        let offsets = || self.starts_in(&sections).map(|(section, word)| section.start - base + 4 * word);
        self.check(&sections)?;

        let header = Header { base, text_len, ..self.header };
        let mut table = Vec::new();
        table.try_reserve_exact(usize::try_from(header.table_len()).map_err(|_| UnplacedError::Heap)?)?;
        table.extend(header.to_bytes());
        let (mut blocks, mut last) = (0, None);
        for (piece, offset) in (0_u32..).zip(offsets()) {
            while blocks <= offset / BLOCK {
                table.extend(Block::new(blocks, piece, last).to_bytes());
                blocks += 1;
            }
            last = Some(offset / BLOCK);
        }
        (blocks..=header.blocks()).for_each(|block| table.extend(Block::new(block, header.pieces, last).to_bytes()));
        table.extend(offsets().map(|offset| (offset % BLOCK / 4) as u8));
        table.extend(self.rest);
        UnwindTable::parse(&table)?;
        Ok(table)
    }

    /// The sections, which must be one behind the other.
    fn placed(&self, mut addresses: impl Iterator<Item = u64>) -> Result<Vec<Section>, UnplacedError> {
        let mut sections: Vec<Section> = Vec::new();
        sections.try_reserve_exact(self.sections.len())?;
        for (index, &[.., l0, l1, l2, l3, p0, p1, p2, p3]) in self.sections.iter().enumerate() {
            let (len, pieces) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([p0, p1, p2, p3]));
            let address = addresses.next().unwrap_or(0);
            let before = sections.last().map_or(1, |before| before.end);
            let end = address.checked_add(len.into()).filter(|_| before <= address);
            let end = end.filter(|end| address.is_multiple_of(4) && end.is_multiple_of(4));
            let end = end.ok_or(UnplacedError::Section { index, address })?;
            sections.push(Section { start: address, end, pieces });
        }
        Ok(sections)
    }

    /// The section of each piece, and where in it the piece starts, in words.
    fn starts_in<'s>(&'s self, sections: &'s [Section]) -> impl Iterator<Item = (&'s Section, u64)> {
        let sections = sections.iter().flat_map(|section| core::iter::repeat_n(section, section.pieces as usize));
        sections.zip(self.starts).map(|(section, word)| (section, u32::from_le_bytes(*word).into()))
    }

    /// Checks that the sections have all pieces, and each piece is in its section and behind the one before.
    fn check(&self, sections: &[Section]) -> Result<(), UnwindTableError> {
        let pieces: u64 = sections.iter().map(|section| u64::from(section.pieces)).sum();
        if pieces != self.starts.len() as u64 {
            return Err(UnwindTableError::Piece { index: pieces.min(self.starts.len() as u64) as u32 });
        }
        let mut before = None;
        let wrong = self.starts_in(sections).position(|(section, word)| {
            let at = section.start.saturating_add(4 * word);
            section.end <= at || before.replace(at).is_some_and(|before| at <= before)
        });
        wrong.map_or(Ok(()), |index| Err(UnwindTableError::Piece { index: index as u32 }))
    }
}

/// A section that has its place.
#[derive(Clone, Copy, Debug)]
struct Section {
    start: u64,
    end: u64,
    pieces: u32,
}
