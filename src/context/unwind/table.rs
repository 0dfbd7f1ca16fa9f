//! A table's form, checked once and then read as if nothing could be wrong.

use core::fmt;

use super::header::{BLOCK, HEADER_LEN, Header, UnwindTableError};
use super::row::{ROW_LEN, Row, Unknown, from_bytes, of_checked};
use crate::address::{TextAddr, TextRange};

/// The most entries of a list. So that a table is checked in a time that is proportional to its size, however many pieces share
/// a list.
pub(super) const MAX_ENTRIES: usize = 255;

/// An unwind table that was checked.
///
/// # Invariants
/// - The index has an element for each block of the text, and they ascend from 0 to the number of pieces at most.
/// - The pieces ascend from the text's start on, and lie within it.
/// - The places of lists have an element for each piece. Each list lies within the lists, its entries ascend within the piece,
///   and the row of each is there.
/// - Each row means something.
#[derive(Clone, Copy)]
pub struct UnwindTable<'a> {
    /// Of each block of text, the first piece that starts in it or behind.
    index: &'a [[u8; 4]],
    /// Where each piece starts, in words behind its block's start.
    starts: &'a [u8],
    places: Places<'a>,
    rows: &'a [[u8; ROW_LEN]],
    lists: &'a [u8],
    wide: usize,
    text_len: u32,
    /// Where the text begins, as the kernel runs now.
    base: u64,
}

/// Where the lists are.
#[derive(Clone, Copy)]
enum Places<'a> {
    Narrow(&'a [[u8; 2]]),
    Wide(&'a [[u8; 4]]),
}

impl Places<'_> {
    /// The place of a piece's list, in bytes.
    fn get(&self, piece: usize) -> Option<usize> {
        let units = match self {
            Self::Narrow(places) => u16::from_le_bytes(*places.get(piece)?).into(),
            Self::Wide(places) => u32::from_le_bytes(*places.get(piece)?),
        };
        (units as usize).checked_mul(2)
    }
}

/// A piece's list.
#[derive(Clone, Copy)]
enum List<'a> {
    /// Words behind the start, but for the first entry, and rows.
    Narrow(&'a [[u8; 2]]),
    /// Words behind the start, but for the first entry, in two bytes, and rows.
    Wide(&'a [[u8; 4]]),
}

impl<'a> List<'a> {
    /// The list at this place, and how many entries it has.
    fn at(lists: &'a [u8], wide: usize, place: usize) -> Option<Self> {
        let (count, bytes) = match lists.get(place..)? {
            bytes @ [low, high, ..] if place >= wide => (usize::from(u16::from_le_bytes([*low, *high])), bytes),
            bytes @ [count, ..] => (usize::from(*count), bytes),
            [] => return None,
        };
        let list = if place >= wide {
            Self::Wide(bytes.as_chunks().0.get(..count)?)
        } else {
            // A narrow list does not reach into the wide ones.
            Self::Narrow(bytes.get(..wide - place)?.as_chunks().0.get(..count)?)
        };
        (1..=MAX_ENTRIES).contains(&count).then_some(list)
    }

    fn len(&self) -> usize {
        match self {
            Self::Narrow(entries) => entries.len(),
            Self::Wide(entries) => entries.len(),
        }
    }

    /// The words behind the piece's start, and the row, of one entry.
    fn entry(&self, index: usize) -> Option<(u32, usize)> {
        let (words, row) = match self {
            Self::Narrow(entries) => {
                let [words, row] = *entries.get(index)?;
                (u32::from(words), usize::from(row))
            }
            Self::Wide(entries) => {
                let [low, high, row, row1] = *entries.get(index)?;
                (u16::from_le_bytes([low, high]).into(), u16::from_le_bytes([row, row1]).into())
            }
        };
        Some((if index == 0 { 0 } else { words }, row))
    }

    /// The row that holds so many words behind the piece's start.
    fn row(&self, words: u32) -> Option<usize> {
        let after_first = match self {
            Self::Narrow(entries) => entries.get(1..)?.partition_point(|[at, _]| u32::from(*at) <= words),
            Self::Wide(entries) => entries
                .get(1..)?
                .partition_point(|[low, high, ..]| u32::from(u16::from_le_bytes([*low, *high])) <= words),
        };
        Some(self.entry(after_first)?.1)
    }
}

impl<'a> UnwindTable<'a> {
    /// Checks a table that was made to be read at address 0, and takes it into use.
    ///
    /// Takes a time that is proportional to the table's size.
    ///
    /// # Errors
    /// Says what is wrong with the table; see [`UnwindTableError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UnwindTableError> {
        Self::parse_at(bytes, 0)
    }

    /// Checks a table that was made to be read at `address`, or that runs there now with the text that it is about, and takes
    /// it into use.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse).
    pub fn parse_at(bytes: &'a [u8], address: u64) -> Result<Self, UnwindTableError> {
        let table = Self::split(bytes, address)?;
        // INVARIANT: the lengths are those of the header; this checks the rest.
        table.check()?;
        Ok(table)
    }

    /// Checks the table at the start of `room`, behind which there are only zeros, as [`parse_at`](Self::parse_at) does.
    ///
    /// A linker script can leave room for a table that is filled in once all is linked.
    ///
    /// # Errors
    /// [`UnwindTableError::Absent`] where there are zeros only, or nothing, and else what [`parse`](Self::parse) says.
    pub fn in_room(room: &'a [u8], address: u64) -> Result<Self, UnwindTableError> {
        if room.iter().all(|byte| *byte == 0) {
            return Err(UnwindTableError::Absent);
        }
        let len = Header::of(room)?.table_len();
        match usize::try_from(len).ok().and_then(|len| room.split_at_checked(len)) {
            Some((table, rest)) if rest.iter().all(|byte| *byte == 0) => Self::parse_at(table, address),
            _ => Err(UnwindTableError::Length { expected: len, found: room.len() as u64 }),
        }
    }

    /// Reads the table that the linker put into this kernel, for the addresses where the kernel runs now.
    ///
    /// # Safety
    ///
    /// 1. The linker script puts `__fentry_unwind_start` and `__fentry_unwind_stop` around the section `.fentry.unwind`, which
    ///    is mapped readable.
    /// 2. It does not change any more.
    ///
    /// # Errors
    /// [`UnwindTableError::Absent`] where it was linked without, and else what [`parse`](Self::parse) says.
    #[cfg(target_os = "none")]
    pub unsafe fn linked() -> Result<UnwindTable<'static>, UnwindTableError> {
        unsafe extern "C" {
            static __fentry_unwind_start: u8;
            static __fentry_unwind_stop: u8;
        }
        let (start, stop) = (&raw const __fentry_unwind_start, &raw const __fentry_unwind_stop);
        let len = stop.addr().saturating_sub(start.addr());
        // SAFETY: by our caller's promises, so many bytes that can be read and never change.
        let room = unsafe { core::slice::from_raw_parts(start, len) };
        UnwindTable::in_room(room, start.addr() as u64)
    }

    /// A table that `parse` has checked before; `None` where it can't have.
    #[cfg(feature = "module")]
    pub(crate) fn checked(bytes: &'a [u8]) -> Option<Self> {
        // INVARIANT: nothing of it has changed since: our caller's business.
        Self::split(bytes, 0).ok()
    }

    /// The arrays of a table, of the lengths that its header says.
    fn split(bytes: &'a [u8], address: u64) -> Result<Self, UnwindTableError> {
        let header = Header::of(bytes)?;
        let (expected, found) = (header.table_len(), bytes.len() as u64);
        let arrays = bytes.get(HEADER_LEN..).filter(|_| found == expected);
        let table = arrays.and_then(|arrays| Self::of_arrays(header, arrays, address));
        table.ok_or(UnwindTableError::Length { expected, found })
    }

    fn of_arrays(header: Header, arrays: &'a [u8], address: u64) -> Option<Self> {
        let Header { base, text_len, pieces, rows, lists_len, wide, width } = header;
        let (index, rest) = arrays.split_at_checked(4 * header.blocks() as usize)?;
        let (starts, rest) = rest.split_at_checked(pieces as usize)?;
        let (places, rest) = rest.split_at_checked(width as usize * pieces as usize)?;
        let (rows, lists) = rest.split_at_checked(ROW_LEN * rows as usize)?;
        let places = match width {
            2 => Places::Narrow(places.as_chunks().0),
            _ => Places::Wide(places.as_chunks().0),
        };
        (lists.len() == lists_len as usize).then_some(Self {
            index: index.as_chunks().0,
            starts,
            places,
            rows: rows.as_chunks().0,
            lists,
            wide: wide as usize,
            text_len,
            base: base.wrapping_add(address),
        })
    }

    fn check(&self) -> Result<(), UnwindTableError> {
        if let Some(index) = self.rows.iter().position(|row| from_bytes(*row).is_none()) {
            return Err(UnwindTableError::Row { index: index as u32 });
        }
        let mut before = None;
        let ends = (0..self.index.len()).map(|block| self.pieces_before(block + 1));
        for (block, end) in ends.enumerate() {
            let first = self.pieces_before(block);
            if end < first || end > self.starts.len() || (block == 0 && first != 0) {
                return Err(UnwindTableError::Index { block: block as u32 });
            }
            for piece in first..end {
                let error = Err(UnwindTableError::Piece { index: piece as u32 });
                let Some(start) = self.start_in(block, piece).filter(|start| *start < self.text_len) else {
                    return error;
                };
                match before {
                    None if start != 0 => return error,
                    Some((_, before)) if before >= start => return error,
                    Some((piece, before)) => self.check_list(piece, start - before)?,
                    None => {}
                }
                before = Some((piece, start));
            }
        }
        match before {
            Some((piece, before)) => self.check_list(piece, self.text_len - before),
            None => Ok(()),
        }
    }

    /// How many pieces start before a block of the text.
    fn pieces_before(&self, block: usize) -> usize {
        self.index.get(block).map_or(self.starts.len(), |first| u32::from_le_bytes(*first) as usize)
    }

    /// Where a piece of this block starts, in bytes from the text's start.
    fn start_in(&self, block: usize, piece: usize) -> Option<u32> {
        let words = *self.starts.get(piece)?;
        u32::try_from(block as u64 * BLOCK + 4 * u64::from(words)).ok()
    }

    /// Checks the list of a piece of so many bytes.
    fn check_list(&self, piece: usize, bytes: u32) -> Result<(), UnwindTableError> {
        let is_right = |list: List<'_>| {
            let mut before = None;
            (0..list.len()).all(|entry| {
                let Some((at, row)) = list.entry(entry) else { return false };
                let ascends = before.replace(at).is_none_or(|before| before < at);
                ascends && at < bytes.div_ceil(4) && row < self.rows.len()
            })
        };
        let list = self.places.get(piece).and_then(|place| List::at(self.lists, self.wide, place));
        list.filter(|list| is_right(*list)).map(drop).ok_or(UnwindTableError::List { index: piece as u32 })
    }

    /// The text that the table is about, where it runs now.
    pub const fn text(&self) -> TextRange {
        let start = TextAddr::new(self.base);
        TextRange::new(start, start.offset(self.text_len as i64))
    }

    /// What is known before the instruction at `pc`: where it was interrupted, or of a call, at the call itself, which is the
    /// word before the return address.
    ///
    /// # Errors
    /// Why nothing is known there.
    pub fn row(&self, pc: TextAddr) -> Result<Row, Unknown> {
        match self.find(pc) {
            Some(row) => of_checked(*row),
            None => Err(Unknown::NoText),
        }
    }

    /// The piece of text that has `pc`, where in the text it starts, and where `pc` is.
    #[inline(always)]
    fn locate(&self, pc: TextAddr) -> Option<(usize, u32, u32)> {
        let offset = u32::try_from(pc.get().wrapping_sub(self.base)).ok().filter(|offset| *offset < self.text_len)?;
        let (block, words) = ((u64::from(offset) / BLOCK) as usize, u64::from(offset) % BLOCK / 4);
        let first = self.pieces_before(block);
        let in_block = self.starts.get(first..self.pieces_before(block + 1))?;
        let after = first + in_block.partition_point(|start| u64::from(*start) <= words);
        let piece = after.checked_sub(1)?;
        // Or else it reaches in from before. Few functions reach over more than two blocks.
        let block = match block.checked_sub(1) {
            _ if after > first => block,
            Some(before) if self.pieces_before(before) <= piece => before,
            _ => self.block_of(piece)?,
        };
        Some((piece, self.start_in(block, piece)?, offset))
    }

    /// The function, the part of one, or the gap that has `pc`.
    pub(super) fn piece(&self, pc: TextAddr) -> Option<TextRange> {
        let (piece, start, _) = self.locate(pc)?;
        let end = self.block_of(piece + 1).and_then(|block| self.start_in(block, piece + 1)).unwrap_or(self.text_len);
        let at = |offset: u32| TextAddr::new(self.base).offset(offset.into());
        Some(TextRange::new(at(start), at(end)))
    }

    /// The bytes of the row for a place, which are one: not the row itself, which is larger, and is copied slowly where nothing is
    /// loaded that isn't aligned.
    pub(super) fn find(&self, pc: TextAddr) -> Option<&'a [u8; ROW_LEN]> {
        let (piece, start, offset) = self.locate(pc)?;
        let list = List::at(self.lists, self.wide, self.places.get(piece)?)?;
        self.rows.get(list.row((offset - start) / 4)?)
    }

    /// The block that a piece starts in: the last one that has no more pieces before it.
    fn block_of(&self, piece: usize) -> Option<usize> {
        self.index.partition_point(|first| u32::from_le_bytes(*first) as usize <= piece).checked_sub(1)
    }

    /// How many pieces of text it has: functions, their parts, and gaps.
    pub const fn pieces(&self) -> usize {
        self.starts.len()
    }

    /// How many different rows it has.
    pub const fn rows(&self) -> usize {
        self.rows.len()
    }
}

impl fmt::Debug for UnwindTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnwindTable of {} pieces and {} rows for {}", self.pieces(), self.rows(), self.text())
    }
}
