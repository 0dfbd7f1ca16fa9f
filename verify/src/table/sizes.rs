//! How large the same rows would be in other forms.

use std::fmt;

use fentry::context::unwind::{Cfa, Piece, ReturnAddress, Row, Unknown};

/// Bytes that the same rows take in other forms. Where those can't tell all of a row, they take less than they would have to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Linux's ORC: six bytes a change and four for its address (`struct orc_entry`, `.orc_unwind_ip`), and four for each 256
    /// bytes of text and one more (`.orc_lookup`). As its maker does, a change that says what holds already is left out.
    pub orc: u64,
    /// SFrame, version 3: a header of 28 bytes, 16 and 5 for each function (its index entry and its attributes), and what a
    /// change takes: its place, whose width is that of the function's length; a byte of information; and its offsets, all of
    /// the width of the largest of them.
    pub sframe: u64,
}

/// What an ORC entry tells of a row.
type OfOrc = Result<(Cfa, Option<u32>, bool), Unknown>;
/// What an SFrame row entry tells of a row.
type OfSframe = (Cfa, ReturnAddress, Option<u32>, bool);

impl Sizes {
    pub(super) fn of(pieces: &[Piece], end: u64) -> Self {
        let ends = pieces.iter().skip(1).map(|piece| piece.start).chain([end]);
        let (mut orc, mut sframe) = (0, 28);
        let mut last_of_orc: Option<OfOrc> = None;
        for (piece, end) in pieces.iter().zip(ends) {
            let is_function = piece.rows.iter().any(|(_, row)| row.is_ok());
            sframe += if is_function { 16 + 5 } else { 0 };
            let place = match end - piece.start {
                ..0x100 => 1,
                0x100..0x1_0000 => 2,
                _ => 4,
            };
            let mut last_of_sframe: Option<OfSframe> = None;
            for (_, row) in &piece.rows {
                let of_orc = row.map(|row| (row.cfa, row.saved_fp, row.is_signed)).map_err(|_| Unknown::NoText);
                if last_of_orc.replace(of_orc) != Some(of_orc) {
                    orc += 6 + 4;
                }
                if let Ok(row) = row {
                    let of_sframe = (row.cfa, row.return_address, row.saved_fp, row.is_signed);
                    if last_of_sframe.replace(of_sframe) != Some(of_sframe) {
                        sframe += place + 1 + offsets(row);
                    }
                }
            }
        }
        let text = pieces.first().map_or(0, |first| end - first.start);
        Self { orc: orc + (text.div_ceil(256) + 1) * 4, sframe }
    }
}

/// The bytes of an SFrame row entry's offsets: the CFA's, and where they are saved, the return address's and x29's.
fn offsets(row: &Row) -> u64 {
    let (Cfa::Sp(cfa) | Cfa::Fp(cfa)) = row.cfa;
    let saved = match row.return_address {
        ReturnAddress::Saved(below) => Some(below),
        ReturnAddress::Lr | ReturnAddress::Register(_) => None,
    };
    let offsets =
        [Some(i64::from(cfa)), saved.map(|below| -i64::from(below)), row.saved_fp.map(|below| -i64::from(below))];
    let width = |offset: i64| match (i8::try_from(offset), i16::try_from(offset)) {
        (Ok(_), _) => 1,
        (_, Ok(_)) => 2,
        _ => 4,
    };
    let offsets = || offsets.into_iter().flatten();
    offsets().count() as u64 * offsets().map(width).max().unwrap_or(1)
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ORC {}, SFrame {}", self.orc, self.sframe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fentry::context::unwind::FpHolds;

    /// Of a function with a frame of so many bytes, by hand.
    fn of(frame: u32) -> Sizes {
        let outside = Row {
            cfa: Cfa::Sp(0),
            fp: FpHolds::Callers,
            saved_fp: None,
            return_address: ReturnAddress::Lr,
            is_signed: false,
        };
        let pushed = Row {
            cfa: Cfa::Sp(frame),
            saved_fp: Some(frame),
            return_address: ReturnAddress::Saved(frame - 8),
            ..outside
        };
        let inside = Row { fp: FpHolds::Frame(frame), ..pushed };
        let rows = [outside, pushed, inside, outside].into_iter().zip(0..).map(|(row, at)| (at, Ok(row))).collect();
        Sizes::of(&[Piece { start: 0x1000, rows }], 0x1010)
    }

    #[test]
    fn what_the_forms_take_is_what_their_definitions_say() {
        // Three changes each: that x29 is set says nothing new to either. Two entries of ORC's index.
        assert_eq!(of(128), Sizes { orc: 3 * 10 + 2 * 4, sframe: 28 + 21 + 2 * (2 + 1) + (2 + 2 * 3) });
        assert_eq!(of(112), Sizes { orc: 3 * 10 + 2 * 4, sframe: 28 + 21 + 2 * (2 + 1) + (2 + 3) });
    }
}
