//! A table's form, checked once and then read as if nothing could be wrong.

use core::fmt;

use super::header::{HEADER_LEN, Header, UnwindTableError};
use super::row::{ROW_LEN, Row, Unknown, from_bytes};
use crate::address::{TextAddr, TextRange};

/// An unwind table that was checked.
///
/// # Invariants
/// - The pieces ascend from 0, are multiples of 4, and lie below `text_len`.
/// - The places of lists have an element for each piece. Each list lies within the lists, its entries ascend within the piece,
///   and the row of each is there.
/// - Each row means something.
#[derive(Clone, Copy)]
pub struct UnwindTable<'a> {
    starts: &'a [[u8; 4]],
    places: Places<'a>,
    rows: &'a [[u8; ROW_LEN]],
    lists: &'a [u8],
    wide: usize,
    text_len: u32,
    #[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "a host links no table"))]
    anchor: u64,
    /// As the kernel runs now.
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
        (count != 0).then_some(list)
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
    /// Checks a table and takes it into use, at the addresses that it was linked for.
    ///
    /// Takes a time that is proportional to the text that the table is about.
    ///
    /// # Errors
    /// Says what is wrong with the table; see [`UnwindTableError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UnwindTableError> {
        let header = Header::of(bytes)?;
        let (expected, found) = (header.table_len(), bytes.len() as u64);
        let arrays = bytes.get(HEADER_LEN..).filter(|_| found == expected);
        let table = arrays.and_then(|arrays| Self::split(header, arrays));
        let table = table.ok_or(UnwindTableError::Length { expected, found })?;
        // INVARIANT: the lengths are those of the header; this checks the rest.
        table.check()?;
        Ok(table)
    }

    /// Checks the table at the start of `room`, behind which there are only zeros.
    ///
    /// A linker script can leave room for a table that is filled in once all is linked.
    ///
    /// # Errors
    /// [`UnwindTableError::Absent`] where there are zeros only, or nothing, and else what [`parse`](Self::parse) says.
    pub fn in_room(room: &'a [u8]) -> Result<Self, UnwindTableError> {
        if room.iter().all(|byte| *byte == 0) {
            return Err(UnwindTableError::Absent);
        }
        let len = Header::of(room)?.table_len();
        match usize::try_from(len).ok().and_then(|len| room.split_at_checked(len)) {
            Some((table, rest)) if rest.iter().all(|byte| *byte == 0) => Self::parse(table),
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
        let table = UnwindTable::in_room(room)?;
        Ok(match table.anchor {
            0 => table,
            anchor => table.moved_by((start.addr() as u64).wrapping_sub(anchor)),
        })
    }

    /// The table for text that runs so many bytes above where it was linked.
    #[must_use]
    pub const fn moved_by(self, slide: u64) -> Self {
        Self { base: self.base.wrapping_add(slide), ..self }
    }

    fn split(header: Header, arrays: &'a [u8]) -> Option<Self> {
        let Header { base, anchor, text_len, pieces, rows, lists_len, wide, width } = header;
        let (starts, rest) = arrays.split_at_checked(4 * pieces as usize)?;
        let (places, rest) = rest.split_at_checked((width * pieces) as usize)?;
        let (rows, lists) = rest.split_at_checked(ROW_LEN * rows as usize)?;
        let places = match width {
            2 => Places::Narrow(places.as_chunks().0),
            _ => Places::Wide(places.as_chunks().0),
        };
        let (starts, rows) = (starts.as_chunks().0, rows.as_chunks().0);
        (lists.len() == lists_len as usize).then_some(Self {
            starts,
            places,
            rows,
            lists,
            wide: wide as usize,
            text_len,
            anchor,
            base,
        })
    }

    fn check(&self) -> Result<(), UnwindTableError> {
        if let Some(index) = self.rows.iter().position(|row| from_bytes(*row).is_none()) {
            return Err(UnwindTableError::Row { index: index as u32 });
        }
        let start = |index: usize| self.starts.get(index).map(|start| u32::from_le_bytes(*start));
        for index in 0..self.starts.len() {
            let (start, end) = (start(index).unwrap_or(0), start(index + 1).unwrap_or(self.text_len));
            let is_first = (index == 0) == (start == 0);
            if !is_first || end <= start || end > self.text_len || !start.is_multiple_of(4) {
                return Err(UnwindTableError::Piece { index: index as u32 });
            }
            if self.check_list(index, (end - start).div_ceil(4)).is_none() {
                return Err(UnwindTableError::List { index: index as u32 });
            }
        }
        Ok(())
    }

    /// Whether the list of a piece of so many words is right.
    fn check_list(&self, index: usize, words: u32) -> Option<()> {
        let list = List::at(self.lists, self.wide, self.places.get(index)?)?;
        // No more than that ascend within the piece, so that all of this takes no longer than the text is.
        if list.len() > words as usize {
            return None;
        }
        let mut before = None;
        for entry in 0..list.len() {
            let (at, row) = list.entry(entry)?;
            let ascends = before.is_none_or(|before| before < at);
            if !ascends || at >= words || row >= self.rows.len() {
                return None;
            }
            before = Some(at);
        }
        Some(())
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
        self.find(pc).unwrap_or(Err(Unknown::NoText))
    }

    /// The piece of text that has `pc`, and how far into the text that is.
    fn locate(&self, pc: TextAddr) -> Option<(usize, u32)> {
        let offset = u32::try_from(pc.get().wrapping_sub(self.base)).ok().filter(|offset| *offset < self.text_len)?;
        let after = self.starts.partition_point(|start| u32::from_le_bytes(*start) <= offset);
        Some((after.checked_sub(1)?, offset))
    }

    /// The function, the part of one, or the gap that has `pc`.
    pub(super) fn piece(&self, pc: TextAddr) -> Option<TextRange> {
        let (piece, _) = self.locate(pc)?;
        let start = u32::from_le_bytes(*self.starts.get(piece)?);
        let end = self.starts.get(piece + 1).map_or(self.text_len, |end| u32::from_le_bytes(*end));
        let at = |offset: u32| TextAddr::new(self.base).offset(offset.into());
        Some(TextRange::new(at(start), at(end)))
    }

    fn find(&self, pc: TextAddr) -> Option<Result<Row, Unknown>> {
        let (piece, offset) = self.locate(pc)?;
        let start = u32::from_le_bytes(*self.starts.get(piece)?);
        let list = List::at(self.lists, self.wide, self.places.get(piece)?)?;
        from_bytes(*self.rows.get(list.row((offset - start) / 4)?)?)
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
