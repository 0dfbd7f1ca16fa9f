//! Making a table, by a tool on the host.

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use thiserror::Error;

use super::header::Header;
use super::index::{BLOCK, Block, MOST_PIECES};
use super::row::{ROW_LEN, Row, Unknown, to_bytes};
use super::table::MAX_ENTRIES;
use super::unplaced::Unplaced;

/// A row, and from how many words behind the piece's start on it holds.
type RowFrom = (u32, Result<Row, Unknown>);

/// A piece of text: a function, a part of one, or a gap between two. It ends where the next one starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its first address, as linked.
    pub start: u64,
    /// What holds from how many words behind its start on, ascending from 0.
    pub rows: Vec<RowFrom>,
}

/// Why pieces do not make a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnwindEncodeError {
    /// The piece is not behind the one before, ends before it starts, or its rows do not ascend within it.
    #[error("The piece of text at {start:#x} is out of order")]
    Order {
        /// The piece's start.
        start: u64,
    },
    /// The text has 4 GiB or more, 2^24 pieces or more, or more different rows than can be counted in 16 bits.
    #[error("The text is too large for one unwind table")]
    TooLarge,
}

/// Makes a table of pieces that end at `end`, to be read at this address. [`UnwindTable::parse`](super::UnwindTable::parse)
/// reads one that was made for address 0.
///
/// # Errors
/// Where they are out of order or too large; see [`UnwindEncodeError`].
pub fn encode(pieces: &[Piece], end: u64, address: u64) -> Result<Vec<u8>, UnwindEncodeError> {
    let base = pieces.first().map_or(0, |piece| piece.start);
    let text_len = pieces.first().map_or(Ok(0), |_| u32::try_from(end.wrapping_sub(base)));
    let text_len = text_len.map_err(|_| UnwindEncodeError::TooLarge)?;
    let pieces = split(pieces, end)?;
    let encoded = Encoded::of(&pieces)?;
    let header = Header { base: base.wrapping_sub(address), text_len, ..encoded.header };
    let mut table = header.to_bytes().to_vec();
    for block in 0..=header.blocks() {
        let first = pieces.partition_point(|piece| piece.start - base < block * BLOCK);
        let last = first.checked_sub(1).and_then(|last| pieces.get(last)).map(|last| (last.start - base) / BLOCK);
        table.extend(Block::new(block, number(first)?, last).to_bytes());
    }
    table.extend(pieces.iter().map(|piece| ((piece.start - base) % BLOCK / 4) as u8));
    table.extend(encoded.rest);
    Ok(table)
}

/// A section of a relocatable object, somewhere: its pieces, and where it ends. It starts with the first piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextSection {
    /// In the order of their addresses.
    pub pieces: Vec<Piece>,
    /// The address behind the last one.
    pub end: u64,
}

/// Makes what a relocatable object has of its table, for [`Unplaced::parse`]: of its sections, in the order in which they will
/// be placed. Their addresses are zeros, which relocations must fill in.
///
/// # Errors
/// As for [`encode`].
pub fn encode_unplaced(sections: &[TextSection]) -> Result<Vec<u8>, UnwindEncodeError> {
    let split: Vec<Vec<Short>> =
        sections.iter().map(|section| split(&section.pieces, section.end)).collect::<Result<_, _>>()?;
    let pieces: Vec<&Short> = split.iter().flatten().collect();
    let Encoded { header, rest } = Encoded::of(pieces.iter().copied())?;
    let mut table = Unplaced::header(number(sections.len())?, &header).to_vec();
    for (section, pieces) in sections.iter().zip(&split) {
        let start = pieces.first().map_or(section.end, |piece| piece.start);
        table.extend(0_u64.to_le_bytes());
        table.extend(u32::try_from(section.end - start).map_err(|_| UnwindEncodeError::TooLarge)?.to_le_bytes());
        table.extend(number(pieces.len())?.to_le_bytes());
    }
    for pieces in &split {
        let start = pieces.first().map_or(0, |first| first.start);
        for piece in pieces {
            let words = u32::try_from((piece.start - start) / 4).map_err(|_| UnwindEncodeError::TooLarge)?;
            table.extend(words.to_le_bytes());
        }
    }
    table.extend(rest);
    Ok(table)
}

fn number(count: usize) -> Result<u32, UnwindEncodeError> {
    u32::try_from(count).map_err(|_| UnwindEncodeError::TooLarge)
}

/// What a table has of its pieces wherever they are.
struct Encoded {
    /// Without the text's base and length.
    header: Header,
    /// The lists' places, the rows, the lists.
    rest: Vec<u8>,
}

impl Encoded {
    fn of<'a>(pieces: impl IntoIterator<Item = &'a Short> + Clone) -> Result<Self, UnwindEncodeError> {
        // The rows that are there most often have the numbers that fit into a byte.
        let mut counts: BTreeMap<[u8; ROW_LEN], usize> = BTreeMap::new();
        for (_, row) in pieces.clone().into_iter().flat_map(|piece| &piece.entries) {
            *counts.entry(*row).or_default() += 1;
        }
        let mut rows: Vec<[u8; ROW_LEN]> = counts.keys().copied().collect();
        rows.sort_by_key(|row| Reverse(counts.get(row).copied()));
        if rows.len() > 1 << 16 {
            return Err(UnwindEncodeError::TooLarge);
        }
        let numbers: BTreeMap<[u8; ROW_LEN], u16> =
            (0..=u16::MAX).zip(&rows).map(|(number, row)| (*row, number)).collect();

        let (mut narrow, mut wide) = (Lists::default(), Lists::default());
        let mut places = Vec::new();
        for piece in pieces {
            let numbered = piece.entries.iter().map(|(at, row)| (*at, numbers.get(row).copied().unwrap_or(0)));
            let entries: Vec<(u16, u16)> = numbered.collect();
            let is_narrow = entries.iter().all(|(at, row)| u8::try_from(*at).is_ok() && u8::try_from(*row).is_ok());
            let lists = if is_narrow { &mut narrow } else { &mut wide };
            places.push((is_narrow, lists.place(&entries, is_narrow)));
        }
        let wide_at = narrow.bytes.len();
        let lists_len = wide_at + wide.bytes.len();
        let width = if lists_len / 2 <= usize::from(u16::MAX) { 2 } else { 4 };
        let header = Header {
            base: 0,
            text_len: 0,
            pieces: number(places.len())
                .ok()
                .filter(|pieces| *pieces < MOST_PIECES)
                .ok_or(UnwindEncodeError::TooLarge)?,
            rows: number(rows.len())?,
            lists_len: number(lists_len)?,
            wide: number(wide_at)?,
            width,
        };
        let mut rest = Vec::new();
        for (is_narrow, place) in places {
            let place = number((if is_narrow { place } else { wide_at + place }) / 2)?;
            rest.extend(&place.to_le_bytes()[..width as usize]);
        }
        rest.extend(rows.iter().flatten());
        rest.extend(narrow.bytes);
        rest.extend(wide.bytes);
        Ok(Self { header, rest })
    }
}

/// A piece whose list is short enough.
struct Short {
    start: u64,
    entries: Vec<(u16, [u8; ROW_LEN])>,
}

/// Checks the order of pieces, and makes several of one whose list would be too long.
fn split(pieces: &[Piece], end: u64) -> Result<Vec<Short>, UnwindEncodeError> {
    let mut short: Vec<Short> = Vec::new();
    let ends = pieces.iter().skip(1).map(|piece| piece.start).chain([end]);
    for (piece, end) in pieces.iter().zip(ends) {
        let error = UnwindEncodeError::Order { start: piece.start };
        let words = end.checked_sub(piece.start).filter(|bytes| *bytes != 0).ok_or(error)?.div_ceil(4);
        let ascends = piece.rows.is_sorted_by(|(one, _), (other, _)| one < other);
        let is_within = piece.rows.last().is_some_and(|(last, _)| u64::from(*last) < words);
        if !ascends || !is_within || piece.rows[0].0 != 0 || !piece.start.is_multiple_of(4) {
            return Err(error);
        }
        let (near, far) = (parts(&piece.rows, u8::MAX.into()), parts(&piece.rows, u16::MAX.into()));
        // A wide list takes two bytes more for each entry, a part three for itself and two for its first entry.
        let parts = if 5 * (near.len() - far.len()) < 2 * piece.rows.len() { near } else { far };
        for part in parts {
            let first = part.first().map_or(0, |(at, _)| *at);
            let entries = part.iter().map(|(at, row)| ((at - first) as u16, to_bytes(*row))).collect();
            short.push(Short { start: piece.start + 4 * u64::from(first), entries });
        }
    }
    Ok(short)
}

/// Rows in parts that reach over so many words at most, and are short enough for a list.
fn parts(mut rows: &[RowFrom], reach: u32) -> Vec<&[RowFrom]> {
    let mut parts = Vec::new();
    while let Some((first, _)) = rows.first() {
        let near = rows.partition_point(|(at, _)| at - first <= reach);
        let (part, rest) = rows.split_at(near.min(MAX_ENTRIES));
        parts.push(part);
        rows = rest;
    }
    parts
}

/// Lists, each once.
#[derive(Default)]
struct Lists {
    bytes: Vec<u8>,
    known: BTreeMap<Vec<u8>, usize>,
}

impl Lists {
    /// The place of a list of these entries.
    fn place(&mut self, entries: &[(u16, u16)], is_narrow: bool) -> usize {
        let mut list = Vec::new();
        for (index, (at, row)) in entries.iter().enumerate() {
            // The first one is at 0, and tells how many there are instead.
            let at = if index == 0 { entries.len() as u16 } else { *at };
            for number in [at, *row] {
                list.extend(&number.to_le_bytes()[..if is_narrow { 1 } else { 2 }]);
            }
        }
        let Self { bytes, known } = self;
        *known.entry(list).or_insert_with_key(|list| {
            let place = bytes.len();
            bytes.extend(list);
            place
        })
    }
}
