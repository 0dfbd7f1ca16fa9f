//! Making a table, by a tool on the host.

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use thiserror::Error;

use super::header::Header;
use super::row::{ROW_LEN, Row, Unknown, to_bytes};

/// The most entries of a list, whose number is one byte in a narrow one.
const MAX_ENTRIES: usize = 255;

/// A piece of text: a function, a part of one, or a gap between two. It ends where the next one starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its first address, as linked.
    pub start: u64,
    /// What holds from how many words behind its start on, ascending from 0.
    pub rows: Vec<(u32, Result<Row, Unknown>)>,
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
    /// The text has 4 GiB or more, or more different rows than can be counted in 16 bits.
    #[error("The text is too large for one unwind table")]
    TooLarge,
}

/// Makes a table of pieces that end at `end`, to be linked at address `anchor` (0 where that isn't known).
///
/// # Errors
/// Where they are out of order or too large; see [`UnwindEncodeError`].
pub fn encode(pieces: &[Piece], end: u64, anchor: u64) -> Result<Vec<u8>, UnwindEncodeError> {
    let base = pieces.first().map_or(0, |piece| piece.start);
    let text_len = pieces.first().map_or(Ok(0), |_| u32::try_from(end.wrapping_sub(base)));
    let text_len = text_len.map_err(|_| UnwindEncodeError::TooLarge)?;
    let pieces = split(pieces, end)?;

    // The rows that are there most often have the numbers that fit into a byte.
    let mut counts: BTreeMap<[u8; ROW_LEN], usize> = BTreeMap::new();
    for row in pieces.iter().flat_map(|piece| &piece.entries) {
        *counts.entry(row.1).or_default() += 1;
    }
    let mut rows: Vec<[u8; ROW_LEN]> = counts.keys().copied().collect();
    rows.sort_by_key(|row| Reverse(counts.get(row).copied()));
    if rows.len() > 1 << 16 {
        return Err(UnwindEncodeError::TooLarge);
    }
    let numbers: BTreeMap<[u8; ROW_LEN], u16> = (0..=u16::MAX).zip(&rows).map(|(number, row)| (*row, number)).collect();
    let numbered: Vec<Vec<(u16, u16)>> = pieces
        .iter()
        .map(|piece| piece.entries.iter().map(|(at, row)| (*at, numbers.get(row).copied().unwrap_or(0))).collect())
        .collect();

    let (mut narrow, mut wide) = (Lists::default(), Lists::default());
    let mut places = Vec::new();
    for entries in &numbered {
        let is_narrow = entries.iter().all(|(at, row)| u8::try_from(*at).is_ok() && u8::try_from(*row).is_ok());
        let lists = if is_narrow { &mut narrow } else { &mut wide };
        places.push((is_narrow, lists.place(entries, is_narrow)));
    }
    let wide_at = narrow.bytes.len();
    let lists_len = wide_at + wide.bytes.len();
    let width = if lists_len / 2 <= usize::from(u16::MAX) { 2 } else { 4 };
    let number = |count: usize| u32::try_from(count).map_err(|_| UnwindEncodeError::TooLarge);
    let header = Header {
        base,
        anchor,
        text_len,
        pieces: number(pieces.len())?,
        rows: number(rows.len())?,
        lists_len: number(lists_len)?,
        wide: number(wide_at)?,
        width,
    };
    let mut table = header.to_bytes().to_vec();
    for piece in &pieces {
        table.extend(number((piece.start - base) as usize)?.to_le_bytes());
    }
    for (is_narrow, place) in places {
        let place = number((if is_narrow { place } else { wide_at + place }) / 2)?;
        table.extend(&place.to_le_bytes()[..width as usize]);
    }
    table.extend(rows.iter().flatten());
    table.extend(narrow.bytes);
    table.extend(wide.bytes);
    Ok(table)
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
        let mut first = None;
        for (at, row) in &piece.rows {
            let within = first.and_then(|first: u32| u16::try_from(at - first).ok());
            let has_room = short.last().is_some_and(|short| short.entries.len() < MAX_ENTRIES);
            match (within.filter(|_| has_room), short.last_mut()) {
                (Some(within), Some(short)) => short.entries.push((within, to_bytes(*row))),
                _ => {
                    first = Some(*at);
                    short
                        .push(Short { start: piece.start + 4 * u64::from(*at), entries: [(0, to_bytes(*row))].into() });
                }
            }
        }
    }
    Ok(short)
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
