//! Veneers: entries of a region's procedure linkage table.
//!
//! BL and B reach 128 MiB. A region that may lie farther from what it calls has room for veneers at the end of
//! its text; a call that doesn't reach goes to one of them.
//!
//! ```text
//!   index   0 ... 15                    16 ...
//!           to stubs, by the engine     one for each distinct target, by the loader
//!           [ADRP ADD BR 0]             [MOV MOVK MOVK BR] where ADRP's 4 GiB don't reach
//! ```
//!
//! All entries have one size, 16 bytes, and are aligned to it, so no entry's first word is one of the last two of a page:
//! no veneer is itself a case of Cortex-A53 erratum 843419. A veneer changes X16 only (AAPCS64 6.1.1 leaves X16 and X17
//! to it), and its BR X16 is accepted by BTI C (Arm ARM D8.4.9.1).
//!
//! | form | instructions | reaches | depends on its own place |
//! |---|---|---|---|
//! | near | ADRP X16; ADD X16, X16; BR X16 | 4 GiB around | yes |
//! | far | MOVN or MOVZ X16; MOVK; MOVK; BR X16 | any 48-bit address, upper or lower half | no |
//!
//! # Erratum 843419
//! A Cortex-A53 may compute a wrong address for a load that follows an ADRP in the last two words of a 4 KiB page: no near
//! veneer is placed where [`is_erratum_843419_place`] is true.

use crate::address::TextAddr;
use crate::insn::{BranchOffset, EncodeError, Insn, MoveWide, PageOffset, Reg, RegOrSp};

/// The size of an entry in bytes, and its alignment.
pub(crate) const ENTRY_BYTES: u64 = 16;
/// How many entries are set aside for stubs: one for each set of ops that callsites of the region have. (Linux has two, by
/// the indices `FTRACE_PLT_IDX` and `FTRACE_REGS_PLT_IDX`.)
#[cfg(any(test, feature = "module", feature = "fakes"))]
pub(crate) const STUB_VENEERS: usize = 16;

/// Fills a veneer's unused words: undefined, so that nothing runs on into the next one.
pub(crate) const UDF: u32 = 0;

/// The instructions of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Veneer([u32; 4]);

impl Veneer {
    /// A jump from the entry at `at` to `target`: the near form where it reaches, else the far one.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotEncodable`] where neither reaches: the far form knows the lower and the upper half of a 48-bit
    /// address space.
    pub(crate) const fn jump(at: TextAddr, target: TextAddr) -> Result<Self, EncodeError> {
        if !is_erratum_843419_place(at.get())
            && let Ok([adrp, add, br]) = near(at.get(), target.get())
        {
            return Ok(Self([adrp.encode(), add.encode(), br.encode(), UDF]));
        }
        match far(target.get()) {
            Ok([first, second, third, br]) => Ok(Self([first.encode(), second.encode(), third.encode(), br.encode()])),
            Err(error) => Err(error),
        }
    }

    /// A veneer of these instructions.
    #[cfg(any(test, feature = "module"))]
    pub(crate) const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The entry's words.
    pub(crate) const fn words(self) -> [u32; 4] {
        self.0
    }
}

/// Whether a BL or B at `at` reaches `target`.
pub(crate) const fn reaches(at: TextAddr, target: TextAddr) -> bool {
    BranchOffset::between(at.get(), target.get()).is_ok()
}

/// Whether an ADRP must not stand at this address, for the sake of Cortex-A53 erratum 843419.
pub(crate) const fn is_erratum_843419_place(address: u64) -> bool {
    address & 0xfff >= 0xff8
}

/// The near form of a veneer at address `at`, to `target`.
///
/// # Errors
///
/// [`EncodeError::OutOfRange`] when their pages are 4 GiB or more apart.
pub(crate) const fn near(at: u64, target: u64) -> Result<[Insn; 3], EncodeError> {
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

/// The far form of a veneer to `target`, at any address.
///
/// # Errors
///
/// [`EncodeError::NotEncodable`] when the upper sixteen bits of `target` are neither all zeros nor all ones.
pub(crate) const fn far(target: u64) -> Result<[Insn; 4], EncodeError> {
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

#[cfg(test)]
pub(crate) mod tests;
