//! A table's form, checked once and then read as if nothing could be wrong.

use core::fmt;

use super::header::{HEADER_LEN, Header, UnwindTableError};
use super::index::{BLOCK, Back, Block, ENTRY_LEN, FAR};
use super::row::{ROW_LEN, Row, Unknown, from_bytes, of_checked};
use crate::address::{TextAddr, TextRange};

/// The most entries of a list. So that a table is checked in a time that is proportional to its size, however many pieces share
/// a list.
pub(super) const MAX_ENTRIES: usize = 255;

/// An unwind table that was checked.
///
/// # Invariants
/// - The index has an element for each block of the text, and one for what is behind. They ascend from 0 to the number of
///   pieces, and each says where the piece before its first one starts.
/// - The pieces ascend from the text's start on, and lie within it.
/// - The places of lists have an element for each piece. Each list lies within the lists, its entries ascend within the piece,
///   and the row of each is there.
/// - Each row means something.
#[derive(Clone, Copy)]
pub struct UnwindTable<'a> {
    /// A [`Block`] for each block of text, and for what is behind.
    index: &'a [[u8; ENTRY_LEN]],
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
    /// The list at this place.
    #[inline(always)]
    fn at(lists: &'a [u8], wide: usize, place: usize) -> Option<Self> {
        let bytes = lists.get(place..)?;
        if place < wide {
            let entries = bytes.as_chunks().0;
            let [count, _] = *entries.first()?;
            return entries.get(..usize::from(count)).map(Self::Narrow);
        }
        let entries = bytes.as_chunks().0;
        let [low, high, _, _] = *entries.first()?;
        entries.get(..usize::from(u16::from_le_bytes([low, high]))).map(Self::Wide)
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
    #[inline(always)]
    fn row(&self, words: u32) -> Option<usize> {
        Some(match self {
            Self::Narrow(entries) => {
                let (_, [_, row]) = last(entries, |[at, _]| u32::from(*at) <= words)?;
                usize::from(*row)
            }
            Self::Wide(entries) => {
                let is_before = |[low, high, ..]: &[u8; 4]| u32::from(u16::from_le_bytes([*low, *high])) <= words;
                let (_, [.., row, row1]) = last(entries, is_before)?;
                usize::from(u16::from_le_bytes([*row, *row1]))
            }
        })
    }
}

/// The last entry for which this holds, and its number. For the first one it does, whatever it has; they are in order.
// Not core's own search, which is called where it is wanted more than once, and looks at the first one too.
#[inline(always)]
fn last<T>(mut entries: &[T], holds: impl Fn(&T) -> bool) -> Option<(usize, &T)> {
    let mut index = 0;
    while entries.len() > 1 {
        let half = entries.len() / 2;
        let (low, high) = entries.split_at(half);
        if entries.get(half).is_some_and(&holds) {
            index += half;
            entries = high;
        } else {
            entries = entries.get(..high.len()).unwrap_or(low);
        }
    }
    entries.first().map(|entry| (index, entry))
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
        let (index, rest) = arrays.split_at_checked(ENTRY_LEN * (header.blocks() as usize + 1))?;
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
        // The last piece, and where it starts.
        let mut before = None;
        for (block, entry) in self.index.iter().enumerate() {
            let first = before.map_or(0, |(piece, _)| piece + 1);
            let last = before.map(|(_, start)| u64::from(start) / BLOCK);
            if Block::of(*entry) != Block::new(block as u64, first as u32, last) {
                return Err(UnwindTableError::Index { block: block as u32 });
            }
            let end = self.index.get(block + 1).map_or(first, |next| Block::of(*next).first as usize);
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
        if before.map_or(0, |(piece, _)| piece + 1) != self.starts.len() {
            return Err(UnwindTableError::Index { block: self.index.len().saturating_sub(1) as u32 });
        }
        match before {
            Some((piece, before)) => self.check_list(piece, self.text_len - before),
            None => Ok(()),
        }
    }

    /// Where a piece of this block starts, in bytes from the text's start.
    fn start_in(&self, block: usize, piece: usize) -> Option<u32> {
        let words = *self.starts.get(piece)?;
        u32::try_from(block as u64 * BLOCK + 4 * u64::from(words)).ok()
    }

    /// Checks the list of a piece of so many bytes.
    fn check_list(&self, piece: usize, bytes: u32) -> Result<(), UnwindTableError> {
        let is_right = |place: usize, list: List<'_>| {
            // A narrow list does not reach into the wide ones.
            let is_inside = matches!(list, List::Wide(_)) || place + 2 * list.len() <= self.wide;
            let mut before = None;
            let ascends = (0..list.len()).all(|entry| {
                let Some((at, row)) = list.entry(entry) else { return false };
                let ascends = before.replace(at).is_none_or(|before| before < at);
                ascends && at < bytes.div_ceil(4) && row < self.rows.len()
            });
            is_inside && ascends && (1..=MAX_ENTRIES).contains(&list.len())
        };
        let list = self.places.get(piece).and_then(|place| Some((place, List::at(self.lists, self.wide, place)?)));
        match list {
            Some((place, list)) if is_right(place, list) => Ok(()),
            _ => Err(UnwindTableError::List { index: piece as u32 }),
        }
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
        match self.find_inlined(pc) {
            Some(row) => of_checked(*row),
            None => Err(Unknown::NoText),
        }
    }

    /// Where in the text `pc` is, in bytes from its start.
    fn offset_of(&self, pc: TextAddr) -> Option<u32> {
        u32::try_from(pc.get().wrapping_sub(self.base)).ok().filter(|offset| *offset < self.text_len)
    }

    /// The piece of text that has this place, and how many words behind the piece's start that is.
    #[inline(always)]
    fn locate(&self, offset: u32) -> Option<(usize, u32)> {
        let (block, words) = ((offset / BLOCK as u32) as usize, offset % BLOCK as u32 / 4);
        let &[entry, [next, next1, ..]] = self.index.get(block..)?.first_chunk()?;
        let first = Block::of(entry).first;
        // No more pieces start in a block than it has words, so the lower bytes tell how many.
        let count = u16::from_le_bytes([next, next1]).wrapping_sub(first as u16);
        let first = first as usize;
        let starts = self.starts.get(first..first + usize::from(count))?;
        match starts.first() {
            Some(start) if u32::from(*start) <= words => {
                let (index, start) = last(starts, |start| u32::from(*start) <= words)?;
                Some((first + index, words.wrapping_sub(u32::from(*start))))
            }
            _ => self.reaching_in(block, words),
        }
    }

    /// The piece that reaches in from the blocks before this one, and so many words of the block more.
    #[inline(always)]
    fn reaching_in(&self, mut block: usize, mut words: u32) -> Option<(usize, u32)> {
        const WORDS: u32 = BLOCK as u32 / 4;
        let mut entry = Block::of(*self.index.get(block)?);
        let piece = (entry.first as usize).checked_sub(1)?;
        let start = u32::from(*self.starts.get(piece)?);
        loop {
            match entry.back {
                Back::Near(blocks) => {
                    return Some((piece, words.wrapping_add(WORDS * u32::from(blocks)).wrapping_sub(start)));
                }
                Back::Far => {
                    block = block.checked_sub(FAR.into())?;
                    words = words.wrapping_add(WORDS * u32::from(FAR));
                    entry = Block::of(*self.index.get(block)?);
                }
            }
        }
    }

    /// The function, the part of one, or the gap that has `pc`.
    pub(super) fn piece(&self, pc: TextAddr) -> Option<TextRange> {
        let offset = self.offset_of(pc)?;
        let (piece, words) = self.locate(offset)?;
        let start = (offset & !3).checked_sub(words.checked_mul(4)?)?;
        let end = self.block_of(piece + 1).and_then(|block| self.start_in(block, piece + 1)).unwrap_or(self.text_len);
        let at = |offset: u32| TextAddr::new(self.base).offset(offset.into());
        Some(TextRange::new(at(start), at(end)))
    }

    /// The bytes of the row for a place, which are one: not the row itself, which is larger, and is copied slowly where nothing is
    /// loaded that isn't aligned.
    pub(super) fn find(&self, pc: TextAddr) -> Option<&'a [u8; ROW_LEN]> {
        self.find_inlined(pc)
    }

    #[inline(always)]
    fn find_inlined(&self, pc: TextAddr) -> Option<&'a [u8; ROW_LEN]> {
        let (piece, words) = self.locate(self.offset_of(pc)?)?;
        let list = List::at(self.lists, self.wide, self.places.get(piece)?)?;
        self.rows.get(list.row(words)?)
    }

    /// The block that a piece starts in: the last one that has no more pieces before it.
    fn block_of(&self, piece: usize) -> Option<usize> {
        self.index.partition_point(|entry| Block::of(*entry).first as usize <= piece).checked_sub(1)
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
