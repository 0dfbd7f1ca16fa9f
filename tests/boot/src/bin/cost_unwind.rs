//! What a walk costs: guest instructions for each frame, by the unwind table and by frame records alone, and for finding a row
//! among ten thousand functions. Counted by the emulator, so they repeat exactly.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::hint::black_box;
use fentry::TextAddr;
use fentry::context::unwind::{Cfa, FpHolds, Piece, ReturnAddress, Row, UnwindTable, encode};
use support::{count, println, unwind};

support::boot_tests! {
    a_row_is_found_among_ten_thousand_functions,
    a_frame_costs_few_instructions,
}

/// Functions of the table that is made up.
const FUNCTIONS: u64 = 10_000;
/// The most instructions for one row: what it takes today, byte by byte, since the target loads nothing that isn't aligned.
const MOST: u32 = 260;
/// The most for one frame by the table: two rows, that of the frame and that of its caller's call.
const MOST_BY_TABLE: u32 = 900;

const OUTSIDE: Row =
    Row { cfa: Cfa::Sp(0), fp: FpHolds::Callers, saved_fp: None, return_address: ReturnAddress::Lr, is_signed: false };

/// A function with a frame of so many bytes, and another way out in the middle.
fn rows(size: u32) -> Vec<(u32, Result<Row, fentry::context::unwind::Unknown>)> {
    let pushed =
        Row { cfa: Cfa::Sp(size), saved_fp: Some(size), return_address: ReturnAddress::Saved(size - 8), ..OUTSIDE };
    let inside = Row { fp: FpHolds::Frame(size), ..pushed };
    [(0, OUTSIDE), (3, pushed), (4, inside), (20, OUTSIDE), (21, inside), (39, OUTSIDE)]
        .map(|(at, row)| (at, Ok(row)))
        .into()
}

fn a_row_is_found_among_ten_thousand_functions() {
    const BASE: u64 = 0x4020_0000;
    const BYTES: u64 = 4 * 40;
    let piece = |number| Piece { start: BASE + BYTES * number, rows: rows(16 * (2 + number as u32 % 40)) };
    let pieces: Vec<Piece> = (0..FUNCTIONS).map(piece).collect();
    let bytes = encode(&pieces, BASE + BYTES * FUNCTIONS, 0).expect("a table");
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
    for number in 0..FUNCTIONS {
        // Each instruction in turn.
        let at = TextAddr::new(BASE + BYTES * number + 4 * (number % 40));
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
