//! How large the same rows would be in other forms.

use std::fmt;

use fentry::context::unwind::{Piece, ReturnAddress, Row, Unknown};

/// Bytes that the same rows take in other forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Linux's ORC: six bytes a change and four for its address, and an index of four bytes for each 256 bytes of text.
    pub orc: u64,
    /// SFrame, version 3: 28 bytes, 16 and 5 a function, and what a change takes: its place, a byte, and its offsets.
    pub sframe: u64,
}

impl Sizes {
    pub(super) fn of(pieces: &[Piece], end: u64) -> Self {
        let ends = pieces.iter().skip(1).map(|piece| piece.start).chain([end]);
        let (mut orc, mut sframe) = (0, 28);
        let mut last = None;
        for (piece, end) in pieces.iter().zip(ends) {
            sframe += 16 + 5;
            // The width of all places and of all offsets of a function is that of the largest one.
            let place = match end - piece.start {
                ..0x100 => 1,
                0x100..0x1_0000 => 2,
                _ => 4,
            };
            let largest = piece.rows.iter().filter_map(|(_, row)| row.ok()).map(|row| largest(&row)).max();
            let width = match largest.unwrap_or(0) {
                ..0x80 => 1,
                0x80..0x8000 => 2,
                _ => 4,
            };
            for (_, row) in &piece.rows {
                let of_orc = row.map(|row| (row.cfa, row.saved_fp, row.is_signed)).map_err(|_| Unknown::NoText);
                if last.replace(of_orc) != Some(of_orc) {
                    orc += 6 + 4;
                }
                if let Ok(row) = row {
                    sframe += place + 1 + width * offsets(row);
                }
            }
        }
        let text = pieces.first().map_or(0, |first| end - first.start);
        Self { orc: orc + text.div_ceil(256) * 4, sframe }
    }
}

/// How many offsets SFrame has for a row: the CFA's, and where they are saved, the return address's and x29's.
fn offsets(row: &Row) -> u64 {
    let is_saved = matches!(row.return_address, ReturnAddress::Saved(_));
    1 + u64::from(is_saved) + u64::from(row.saved_fp.is_some())
}

fn largest(row: &Row) -> u32 {
    use fentry::context::unwind::Cfa::{Fp, Sp};
    let (Sp(cfa) | Fp(cfa)) = row.cfa;
    let saved = match row.return_address {
        ReturnAddress::Saved(below) => below,
        ReturnAddress::Lr | ReturnAddress::Register(_) => 0,
    };
    cfa.max(saved).max(row.saved_fp.unwrap_or(0))
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ORC {}, SFrame {}", self.orc, self.sframe)
    }
}
