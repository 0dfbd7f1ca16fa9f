//! PLT entries: where a BL lands that cannot reach its target.
//!
//! | form | instructions | reaches | depends on its own place |
//! |---|---|---|---|
//! | near | ADRP X16; ADD X16, X16; BR X16 | 4 GiB around | yes |
//! | far | MOVN or MOVZ X16; MOVK; MOVK; BR X16 | any 48-bit address, upper or lower half | no |
//!
//! Both use X16 alone, which the procedure call standard gives to veneers. An indirect branch through X16 lands on BTI C as
//! well as on BTI J.
//!
//! # Erratum 843419
//! A Cortex-A53 may compute a wrong address for a load that follows an ADRP in the last two words of a 4 KiB page. Whoever
//! places near entries for such a processor leaves out the places of which [`is_erratum_843419_place`] is true.

use crate::insn::{
    AddSub, ArithImm, Branch, DataImm, EncodeError, Insn, Link, MoveWide, PageOffset, Reg, RegOrSp, UImm, Width,
};

/// Whether an ADRP must not stand at this address, for the sake of Cortex-A53 erratum 843419.
pub const fn is_erratum_843419_place(address: u64) -> bool {
    address & 0xfff >= 0xff8
}

/// The near entry at address `at`, to `target`.
///
/// # Errors
/// [`EncodeError::OutOfRange`] when their pages are 4 GiB or more apart.
pub const fn near(at: u64, target: u64) -> Result<[Insn; 3], EncodeError> {
    let offset = match PageOffset::between(at, target) {
        Ok(offset) => offset,
        Err(error) => return Err(error),
    };
    let add = match Insn::add_imm(RegOrSp::X16, RegOrSp::X16, (target & 0xfff) as u32) {
        Ok(add) => add,
        Err(error) => return Err(error),
    };
    Ok([Insn::adrp(Reg::X16, offset), add, Insn::br(Reg::X16)])
}

/// Where the near entry at address `at` goes; `None` if these words are none.
pub const fn near_target(at: u64, words: [u32; 3]) -> Option<u64> {
    let [adrp, add, br] = words;
    let (Some(DataImm::Adrp { rd: Reg::X16, offset }), Some(DataImm::AddSub { op, width, rd, rn, imm })) =
        (DataImm::decode(adrp), DataImm::decode(add))
    else {
        return None;
    };
    let adds = matches!((op, width), (AddSub::Add, Width::X)) && !imm.is_shifted();
    match (rd, rn) {
        (RegOrSp::X16, RegOrSp::X16) if adds && is_branch(br) => Some(offset.target(at).wrapping_add(low_bits(imm))),
        _ => None,
    }
}

const fn low_bits(imm: ArithImm) -> u64 {
    imm.value() as u64
}

const fn is_branch(word: u32) -> bool {
    matches!(Branch::decode(word), Some(Branch::Register { link: Link::Jump, rn: Reg::X16 }))
}

/// The far entry to `target`, at any address.
///
/// # Errors
/// [`EncodeError::NotEncodable`] when the upper sixteen bits of `target` are neither all zeros nor all ones.
pub const fn far(target: u64) -> Result<[Insn; 4], EncodeError> {
    let low = target as u16;
    let first = match target >> 48 {
        0 => Insn::move_wide(MoveWide::Zero, Reg::X16, low, 0),
        0xffff => Insn::move_wide(MoveWide::Not, Reg::X16, !low, 0),
        _ => {
            let takes = "addresses whose upper sixteen bits are equal";
            return Err(EncodeError::NotEncodable { field: "target", value: target, takes });
        }
    };
    let second = Insn::move_wide(MoveWide::Keep, Reg::X16, (target >> 16) as u16, 16);
    let third = Insn::move_wide(MoveWide::Keep, Reg::X16, (target >> 32) as u16, 32);
    match (first, second, third) {
        (Ok(first), Ok(second), Ok(third)) => Ok([first, second, third, Insn::br(Reg::X16)]),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Err(error),
    }
}

/// Where a far entry goes; `None` if these words are none.
pub const fn far_target(words: [u32; 4]) -> Option<u64> {
    let [first, second, third, br] = words;
    let low = match move_of(first, 0) {
        Some((MoveWide::Zero, imm)) => imm,
        Some((MoveWide::Not, imm)) => !imm,
        _ => return None,
    };
    match (move_of(second, 16), move_of(third, 32)) {
        (Some((MoveWide::Keep, middle)), Some((MoveWide::Keep, high))) if is_branch(br) => {
            Some(low & !0xffff_ffff_0000 | middle << 16 | high << 32)
        }
        _ => None,
    }
}

/// What the word moves into X16 at this place, not shifted yet.
const fn move_of(word: u32, shift: u32) -> Option<(MoveWide, u64)> {
    match DataImm::decode(word) {
        Some(DataImm::MoveWide { op, rd: Reg::X16, imm, at }) => {
            let whole = matches!(at.width(), Width::X) && at.shift() == shift;
            if whole { Some((op, value(imm))) } else { None }
        }
        _ => None,
    }
}

const fn value(imm: UImm<16>) -> u64 {
    imm.get() as u64
}
