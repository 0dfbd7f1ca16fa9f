//! What a walk costs: guest instructions for each frame, by the unwind table and by frame records alone, and for finding a row
//! among ten thousand functions. Counted by the emulator, so they repeat exactly.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::hint::black_box;
use fentry::TextAddr;
use fentry::context::unwind::{Cfa, FpHolds, Piece, ReturnAddress, Row, Unknown, UnwindTable, encode};
use support::{count, println, unwind};

support::boot_tests! {
    a_row_is_found_among_ten_thousand_functions,
    a_frame_costs_few_instructions,
}

/// Functions of the table that is made up.
const FUNCTIONS: u64 = 10_000;
/// The most instructions for one row, byte by byte, since the target loads nothing that isn't aligned.
const MOST: u32 = 200;
/// The most for one frame by the table: two rows, that of the frame and that of its caller's call.
const MOST_BY_TABLE: u32 = 890;

const OUTSIDE: Row =
    Row { cfa: Cfa::Sp(0), fp: FpHolds::Callers, saved_fp: None, return_address: ReturnAddress::Lr, is_signed: false };

/// A function of so many words with a frame of so many bytes, and another way out in the middle.
fn rows(words: u32, size: u32) -> Vec<(u32, Result<Row, Unknown>)> {
    let pushed =
        Row { cfa: Cfa::Sp(size), saved_fp: Some(size), return_address: ReturnAddress::Saved(size - 8), ..OUTSIDE };
    let inside = Row { fp: FpHolds::Frame(size), ..pushed };
    let middle = words / 2;
    [(0, OUTSIDE), (3, pushed), (4, inside), (middle, OUTSIDE), (middle + 1, inside), (words - 1, OUTSIDE)]
        .map(|(at, row)| (at, Ok(row)))
        .into()
}

/// How many words a function has: most 40, some reach over blocks of the table's index, and one over more than an entry of it
/// says.
const fn words(number: u64) -> u64 {
    match number {
        5_039 => 100_000,
        _ if number.is_multiple_of(50) => 1_000,
        _ => 40,
    }
}

fn a_row_is_found_among_ten_thousand_functions() {
    const BASE: u64 = 0x4020_0000;
    let mut end = BASE;
    let pieces: Vec<Piece> = (0..FUNCTIONS)
        .map(|number| {
            let start = end;
            end += 4 * words(number);
            Piece { start, rows: rows(words(number) as u32, 16 * (2 + number as u32 % 40)) }
        })
        .collect();
    let bytes = encode(&pieces, end, 0).expect("a table");
    let table = UnwindTable::parse(&bytes).expect("a table");
    let Some(counter) = count::start() else {
        println!("(this machine counts no instructions)");
        return;
    };
    let nothing = {
        let before = counter.instructions();
        counter.instructions().wrapping_sub(before)
    };
    let (mut most, mut sum) = (0, 0);
    for (number, piece) in (0..).zip(&pieces) {
        // Each instruction in turn; of a long function, one out of each part of it.
        let at = TextAddr::new(piece.start + 4 * (number % 40 * (words(number) / 40)));
        let before = counter.instructions();
        let row = table.row(black_box(at));
        // Looked at where it is: a copy is not the lookup's.
        black_box(&row);
        let took = counter.instructions().wrapping_sub(before) - nothing;
        assert!(row.is_ok());
        most = took.max(most);
        sum += u64::from(took);
    }
    println!("a row: {most} instructions at most, {} on average; the table has {} bytes", sum / FUNCTIONS, bytes.len());
    assert!(most <= MOST, "{most} instructions");
}

fn a_frame_costs_few_instructions() {
    let Some([by_table, by_records]) = unwind::frame_costs() else {
        println!("(this machine counts no instructions)");
        return;
    };
    println!("a frame: {by_table} instructions by the table, {by_records} by records alone");
    assert!(by_table <= MOST_BY_TABLE, "{by_table} instructions");
}
