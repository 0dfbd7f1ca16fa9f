//! Tables that tools make are read as they were written; what is damaged is an error or another table, never a panic.

use super::{
    Cfa, FpHolds, Piece, ReturnAddress, Row, Unknown, UnwindEncodeError, UnwindTable, UnwindTableError, encode,
};
use crate::address::TextAddr;
use crate::insn::tests::Random;
use std::vec::Vec;
extern crate std;

const BASE: u64 = 0xffff_8000_1234_0000;
const HEADER: usize = super::header::HEADER_LEN;

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn row(&mut self, kinds: u64) -> Result<Row, Unknown> {
        let size = 16 * (1 + self.below(kinds) as u32);
        match self.below(8) {
            0 => Err(Unknown::NotReached),
            1 => Err(Unknown::NoReturnAddress),
            2 if size == 16 => Ok(Row::END),
            2 => Ok(row(Cfa::Sp(size), FpHolds::Other, None, ReturnAddress::Register(9))),
            3 => Ok(row(Cfa::Fp(size), FpHolds::Frame(size), Some(size), ReturnAddress::Saved(size - 8))),
            4 => Ok(row(Cfa::Sp(0), FpHolds::Callers, None, ReturnAddress::Lr)),
            _ => Ok(row(Cfa::Sp(size), FpHolds::Frame(size), Some(size), ReturnAddress::Saved(size - 8))),
        }
    }
}

const fn row(cfa: Cfa, fp: FpHolds, saved_fp: Option<u32>, return_address: ReturnAddress) -> Row {
    Row { cfa, fp, saved_fp, return_address, is_signed: false }
}

/// So many pieces, of up to so many words each.
fn pieces(random: &mut Random, count: u64, words: u64, kinds: u64) -> (Vec<Piece>, u64) {
    let mut at = BASE;
    let pieces = (0..count).map(|_| {
        let (start, words) = (at, 1 + random.below(words));
        at += 4 * words;
        let starts = (0..words).filter(|word| *word == 0 || random.below(3) == 0).collect::<Vec<_>>();
        Piece { start, rows: starts.into_iter().map(|word| (word as u32, random.row(kinds))).collect() }
    });
    (pieces.collect(), at)
}

#[test]
fn each_instruction_has_the_row_that_was_written() {
    let mut random = Random(0x9e37_79b9);
    // Narrow lists; places of four bytes; more rows than a byte numbers, and functions that are split.
    for (count, words, kinds) in [(1, 1, 4), (500, 20, 4), (if cfg!(miri) { 4 } else { 300 }, 3_000, 400)] {
        let (pieces, end) = pieces(&mut random, count, words, kinds);
        let bytes = encode(&pieces, end, 0).unwrap();
        let table = UnwindTable::parse(&bytes).unwrap();
        // Made for another address, or read at another one.
        let elsewhere = encode(&pieces, end, 0x9000).unwrap();
        let elsewhere = UnwindTable::parse_at(&elsewhere, 0x9000).unwrap();
        let moved = UnwindTable::parse_at(&bytes, 0x4000).unwrap();
        assert_eq!((table.text().start.get(), table.text().end.get()), (BASE, end));
        let ends = pieces.iter().skip(1).map(|piece| piece.start).chain([end]);
        for (piece, end) in pieces.iter().zip(ends) {
            for pc in (piece.start..end).step_by(4) {
                let word = ((pc - piece.start) / 4) as u32;
                let (_, expected) = piece.rows.iter().rfind(|(at, _)| *at <= word).unwrap();
                assert_eq!(table.row(TextAddr::new(pc)), *expected, "{pc:#x}");
                assert_eq!(elsewhere.row(TextAddr::new(pc)), *expected);
                assert_eq!(moved.row(TextAddr::new(pc + 0x4000)), *expected);
            }
        }
        for outside in [0, BASE - 4, end, u64::MAX - 3] {
            assert_eq!(table.row(TextAddr::new(outside)), Err(Unknown::NoText));
        }
    }
}

#[test]
fn a_piece_reaches_over_whole_blocks() {
    let rows: [Result<Row, Unknown>; 4] =
        [16, 32, 48, 64].map(|size| Ok(row(Cfa::Sp(size), FpHolds::Other, None, ReturnAddress::Lr)));
    let starts = [0, 40, 200_000, 200_100, 270_000];
    let piece = |index: usize, rows: &[(u32, usize)], all: [Result<Row, Unknown>; 4]| Piece {
        start: BASE + 4 * starts[index],
        rows: rows.iter().map(|(at, row)| (*at, all[*row])).collect(),
    };
    // The second one begins in the first block, and changes in the second and third.
    let pieces = [
        piece(0, &[(0, 0)], rows),
        piece(1, &[(0, 1), (65_600, 2), (140_000, 3)], rows),
        piece(2, &[(0, 0), (50, 1)], rows),
        piece(3, &[(0, 2)], rows),
    ];
    let bytes = encode(&pieces, BASE + 4 * starts[4], 0).unwrap();
    let table = UnwindTable::parse(&bytes).unwrap();
    let at = |word: u64| table.row(TextAddr::new(BASE + 4 * word));
    for (words, row) in [
        (0..40, 0),
        (40..65_640, 1),
        (65_640..140_040, 2),
        (140_040..200_000, 3),
        (200_000..200_050, 0),
        (200_050..200_100, 1),
        (200_100..270_000, 2),
    ] {
        assert!(words.step_by(if cfg!(miri) { 10_007 } else { 1 }).all(|word| at(word) == rows[row]), "{row}");
    }
}

#[test]
fn a_piece_is_found_from_each_block_however_long_it_is() {
    let size = |size| Ok(row(Cfa::Sp(size), FpHolds::Other, None, ReturnAddress::Lr));
    // From one block behind its own, to some more than three entries of the index say.
    let all = [255, 1, 2, 253, 254, 256, 508, 509, 510, 800];
    for blocks in all.into_iter().take(if cfg!(miri) { 1 } else { all.len() }) {
        let words = 256 * blocks + 3;
        let piece =
            |start, rows: &[u32]| Piece { start, rows: rows.iter().map(|at| (*at, size(16 * (at + 1)))).collect() };
        let pieces = [piece(BASE, &[0]), piece(BASE + 4 * 5, &[0, 1]), piece(BASE + 4 * words, &[0])];
        let bytes = encode(&pieces, BASE + 4 * (words + 1), 0).unwrap();
        let table = UnwindTable::parse(&bytes).unwrap();
        assert_eq!(table.row(TextAddr::new(BASE + 4 * 5)), size(16));
        assert!(
            (6..words)
                .step_by(if cfg!(miri) { 5_003 } else { 64 })
                .all(|word| table.row(TextAddr::new(BASE + 4 * word)) == size(32)),
            "{blocks}"
        );
        assert_eq!(table.row(TextAddr::new(BASE + 4 * words)), size(16));
        // What is said of each block is checked.
        for block in (0..blocks as usize + 2).step_by(if cfg!(miri) { 64 } else { 1 }) {
            let mut damaged = bytes.clone();
            damaged[HEADER + 4 * block + 3] ^= 1;
            let error = UnwindTableError::Index { block: block as u32 };
            assert_eq!(UnwindTable::parse(&damaged).unwrap_err(), error, "{blocks}");
        }
    }
}

#[test]
fn what_is_too_large_for_a_row_is_unknown() {
    let large = row(Cfa::Sp(8 * 65_536), FpHolds::Other, None, ReturnAddress::Lr);
    let odd = row(Cfa::Sp(20), FpHolds::Other, None, ReturnAddress::Lr);
    for too_much in [large, odd] {
        let pieces = [Piece { start: BASE, rows: [(0, Ok(too_much))].into() }];
        let bytes = encode(&pieces, BASE + 8, 0).unwrap();
        assert_eq!(UnwindTable::parse(&bytes).unwrap().row(TextAddr::new(BASE + 4)), Err(Unknown::TooLarge));
    }
}

#[test]
fn pieces_out_of_order_are_refused() {
    let piece = |start, words: &[u32]| {
        let rows = words.iter().map(|word| (*word, Err(Unknown::NotReached))).collect();
        Piece { start, rows }
    };
    let refused =
        |pieces: &[Piece], end, start| assert_eq!(encode(pieces, end, 0), Err(UnwindEncodeError::Order { start }));
    refused(&[piece(BASE, &[0]), piece(BASE, &[0])], BASE + 8, BASE);
    refused(&[piece(BASE, &[0, 2])], BASE + 8, BASE);
    refused(&[piece(BASE, &[0, 1, 1])], BASE + 8, BASE);
    refused(&[piece(BASE, &[1])], BASE + 8, BASE);
    refused(&[piece(BASE + 2, &[0])], BASE + 8, BASE + 2);
    assert_eq!(encode(&[piece(BASE, &[0])], BASE + (1 << 32), 0), Err(UnwindEncodeError::TooLarge));
    assert_eq!(UnwindTable::parse(&encode(&[], 0, 0).unwrap()).unwrap().row(TextAddr::new(0)), Err(Unknown::NoText));
}

/// A table of a few functions.
fn small() -> (Vec<u8>, u64) {
    let (pieces, end) = pieces(&mut Random(3), 12, 12, 3);
    (encode(&pieces, end, 0).unwrap(), end)
}

#[test]
fn each_part_of_a_damaged_table_is_named() {
    let (bytes, end) = small();
    let damaged = |at: usize, byte: u8| {
        let mut damaged = bytes.clone();
        damaged[at] = byte;
        UnwindTable::parse(&damaged).unwrap_err()
    };
    let pieces = bytes[20] as usize;
    let (starts, rows, rows_at) = (HEADER + 8, bytes[24] as usize, HEADER + 8 + 3 * pieces);
    assert!(matches!(damaged(0, b'F'), UnwindTableError::Magic { .. }));
    assert_eq!(damaged(4, 9), UnwindTableError::Version { found: 9 });
    assert_eq!(damaged(36, 3), UnwindTableError::Header { at: 36, found: 3 });
    assert!(matches!(damaged(20, 3), UnwindTableError::Length { .. }));
    assert_eq!(damaged(HEADER, 1), UnwindTableError::Index { block: 0 });
    assert_eq!(damaged(HEADER + 3, 1), UnwindTableError::Index { block: 0 });
    assert_eq!(damaged(HEADER + 4, pieces as u8 - 1), UnwindTableError::Index { block: 1 });
    assert_eq!(damaged(HEADER + 4, pieces as u8 + 1), UnwindTableError::Piece { index: pieces as u32 });
    assert_eq!(damaged(HEADER + 7, 0), UnwindTableError::Index { block: 1 });
    assert_eq!(damaged(starts, 1), UnwindTableError::Piece { index: 0 });
    assert_eq!(damaged(starts + 1, 0), UnwindTableError::Piece { index: 1 });
    assert_eq!(damaged(starts + 5, 0xff), UnwindTableError::Piece { index: 5 });
    // Where the text ends, no piece starts.
    let last = UnwindTableError::Piece { index: pieces as u32 - 1 };
    assert_eq!(damaged(starts + pieces - 1, ((end - BASE) / 4) as u8), last);
    assert_eq!(damaged(starts + pieces + 1, 0xff), UnwindTableError::List { index: 0 });
    assert_eq!(damaged(rows_at + 10, 0x36), UnwindTableError::Row { index: 1 });
    assert_eq!(damaged(rows_at + 10 * rows + 1, rows as u8), UnwindTableError::List { index: 0 });
    assert!(matches!(UnwindTable::parse(&bytes[..bytes.len() - 2]), Err(UnwindTableError::Length { .. })));
    assert!(matches!(UnwindTable::parse(&bytes[..HEADER - 1]), Err(UnwindTableError::Length { .. })));
}

#[test]
fn a_list_that_would_take_long_to_check_is_refused() {
    let rows: [Result<Row, Unknown>; 2] =
        [16, 32].map(|size| Ok(row(Cfa::Sp(size), FpHolds::Other, None, ReturnAddress::Lr)));
    let rows = (0..255).map(|at| (300 * at, rows[at as usize % 2])).collect();
    let bytes = encode(&[Piece { start: BASE, rows }], BASE + 4 * 80_000, 0).unwrap();
    assert!(UnwindTable::parse(&bytes).is_ok());
    // One entry more than it has, which are all that a list may have.
    let wide = bytes.len() - 4 * 255;
    let mut longer = bytes.clone();
    longer[wide..wide + 2].copy_from_slice(&256_u16.to_le_bytes());
    longer.extend([0xff, 0xff, 0, 0]);
    longer[28..32].copy_from_slice(&(4 * 256_u32).to_le_bytes());
    assert_eq!(UnwindTable::parse(&longer).unwrap_err(), UnwindTableError::List { index: 0 });
}

#[test]
fn a_room_holds_a_table_or_nothing() {
    let (mut bytes, _) = small();
    assert_eq!(UnwindTable::in_room(&[0; 100], 0).unwrap_err(), UnwindTableError::Absent);
    assert_eq!(UnwindTable::in_room(&[], 0).unwrap_err(), UnwindTableError::Absent);
    bytes.extend([0; 24]);
    assert!(UnwindTable::in_room(&bytes, 0).is_ok());
    *bytes.last_mut().unwrap() = 1;
    assert!(matches!(UnwindTable::in_room(&bytes, 0), Err(UnwindTableError::Length { .. })));
}

#[test]
fn a_damaged_table_is_an_error_or_another_table() {
    let (bytes, end) = small();
    let look = |damaged: &[u8]| {
        let Ok(table) = UnwindTable::parse(damaged) else { return };
        for pc in (BASE - 8..end + 8).step_by(if cfg!(miri) { 28 } else { 4 }) {
            let _ = table.row(TextAddr::new(pc));
        }
    };
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        for bit in 0..8 {
            damaged[at] = bytes[at] ^ 1 << bit;
            look(&damaged);
        }
        assert!(UnwindTable::parse(&bytes[..at]).is_err());
    }
    let mut random = Random(77);
    for _ in 0..if cfg!(miri) { 20 } else { 20_000 } {
        let mut damaged = bytes.clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(bytes.len() as u64) as usize;
            damaged[at] = random.below(256) as u8;
        }
        look(&damaged);
    }
}
