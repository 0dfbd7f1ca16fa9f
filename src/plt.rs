//! Veneers: entries of a region's procedure linkage table.
//!
//! Floor 1. BL and B reach 128 MiB. A region that may lie farther from what it calls has room for veneers at the end of
//! its text; a call that doesn't reach goes to one of them. What the instructions are is [`insn::seq::plt`]'s; this module
//! says which form is taken where.
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
//! [`insn::seq::plt`]: crate::insn::seq::plt

use crate::address::TextAddr;
use crate::insn::seq::plt;
use crate::insn::{AdrOffset, BranchOffset, DataImm, EncodeError, Insn, PageOffset};

/// The size of an entry in bytes, and its alignment.
pub const ENTRY_BYTES: u64 = 16;
/// How many entries are set aside for stubs: one for each set of ops that callsites of the region have. (Linux has two, by
/// the indices `FTRACE_PLT_IDX` and `FTRACE_REGS_PLT_IDX`.)
pub const STUB_VENEERS: usize = 16;

/// Fills a veneer's unused words: undefined, so that nothing runs on into the next one.
const UDF: u32 = 0;

/// The instructions of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Veneer([u32; 4]);

impl Veneer {
    /// A jump from the entry at `at` to `target`: the near form where it reaches, else the far one.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotEncodable`] where neither reaches: the far form knows the lower and the upper half of a 48-bit
    /// address space.
    pub const fn jump(at: TextAddr, target: TextAddr) -> Result<Self, EncodeError> {
        if !plt::is_erratum_843419_place(at.get())
            && let Ok([adrp, add, br]) = plt::near(at.get(), target.get())
        {
            return Ok(Self([adrp.encode(), add.encode(), br.encode(), UDF]));
        }
        match plt::far(target.get()) {
            Ok([first, second, third, br]) => Ok(Self([first.encode(), second.encode(), third.encode(), br.encode()])),
            Err(error) => Err(error),
        }
    }

    /// Where the entry at `at` jumps to; `None` if this is no jump.
    pub const fn target(self, at: TextAddr) -> Option<TextAddr> {
        let Self([first, second, third, fourth]) = self;
        let target = match plt::near_target(at.get(), [first, second, third]) {
            Some(target) => Some(target),
            None => plt::far_target([first, second, third, fourth]),
        };
        match target {
            Some(target) => Some(TextAddr::new(target)),
            None => None,
        }
    }

    /// Takes an entry's words as they are.
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The entry's words.
    pub const fn words(self) -> [u32; 4] {
        self.0
    }
}

/// What stands in the place of an ADRP that Cortex-A53 erratum 843419 forbids there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdrpInstead {
    /// ADR, which computes the same page address and is not affected.
    Adr(u32),
    /// B to a veneer that has the ADRP and the way back.
    Veneer {
        /// The branch.
        branch: u32,
        /// The veneer.
        veneer: Veneer,
    },
}

impl AdrpInstead {
    /// What replaces `adrp`, the word at `at`, given a veneer's room at `room`; `None` if that word is no ADRP.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] where the veneer is out of reach of B, or the page out of reach of the veneer.
    pub fn of(adrp: u32, at: TextAddr, room: TextAddr) -> Option<Result<Self, EncodeError>> {
        let Some(DataImm::Adrp { rd, offset }) = DataImm::decode(adrp) else { return None };
        let page = offset.target(at.get());
        if let Ok(offset) = AdrOffset::between(at.get(), page) {
            return Some(Ok(Self::Adr(Insn::DataImm(DataImm::Adr { rd, offset }).encode())));
        }
        let instead = || {
            let there = BranchOffset::between(at.get(), room.get())?;
            let back = BranchOffset::between(room.offset(4).get(), at.offset(4).get())?;
            let adrp = Insn::adrp(rd, PageOffset::between(room.get(), page)?);
            let veneer = Veneer([adrp.encode(), Insn::b(back).encode(), UDF, UDF]);
            Ok(Self::Veneer { branch: Insn::b(there).encode(), veneer })
        };
        Some(instead())
    }
}

/// Whether a BL or B at `at` reaches `target`.
pub const fn reaches(at: TextAddr, target: TextAddr) -> bool {
    BranchOffset::between(at.get(), target.get()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{AdrpInstead, ENTRY_BYTES, Veneer, reaches};
    use crate::address::TextAddr;
    use crate::insn::{Insn, PageOffset, Reg};

    const fn at(addr: u64) -> TextAddr {
        TextAddr::new(addr)
    }

    #[test]
    fn a_veneer_jumps_to_its_target_by_the_form_that_reaches() {
        let here = at(0x1_4000_0000);
        let near = Veneer::jump(here, at(0x1_5000_0ff4)).unwrap();
        // adrp x16, +0x10000000; add x16, x16, #0xff4; br x16
        assert_eq!(near.words(), [0x9008_0010, 0x913f_d210, 0xd61f_0200, 0]);
        let far = Veneer::jump(here, at(0xffff_8000_1234_5678)).unwrap();
        // movn x16, #0xa987; movk x16, #0x1234, lsl #16; movk x16, #0x8000, lsl #32; br x16
        assert_eq!(far.words(), [0x9295_30f0, 0xf2a2_4690, 0xf2d0_0010, 0xd61f_0200]);
        for target in [0x1_4000_0000, 0x2_3fff_f000, 0x2_4000_0000, 0x4000_0000, 0x3fff_fffc, 0xffff_8000_0000_0000] {
            assert_eq!(Veneer::jump(here, at(target)).unwrap().target(here), Some(at(target)), "{target:#x}");
        }
        assert!(Veneer::jump(here, at(0x1234_0000_0000_0000)).is_err());
        assert_eq!(Veneer::from_words([0; 4]).target(here), None);
    }

    #[test]
    fn no_veneer_has_an_adrp_at_the_end_of_a_page() {
        assert!((0..4096).step_by(ENTRY_BYTES as usize).all(|offset| offset < 0xff8));
        let moved = Veneer::jump(at(0x1ff8), at(0x4000)).unwrap();
        assert_eq!(moved.words()[3], 0xd61f_0200, "the far form, which has no ADRP");
    }

    #[test]
    fn a_forbidden_adrp_becomes_adr_or_goes_through_a_veneer() {
        let place = at(0x4000_0ffc);
        let adrp = |to| Insn::adrp(Reg::X3, PageOffset::between(place.get(), to).unwrap()).encode();
        assert_eq!(
            AdrpInstead::of(adrp(0x4000_8000), place, at(0x4001_0000)),
            // adr x3, +0x7004
            Some(Ok(AdrpInstead::Adr(0x1003_8023)))
        );
        let Some(Ok(AdrpInstead::Veneer { branch, veneer })) =
            AdrpInstead::of(adrp(0x5000_0000), place, at(0x4001_0000))
        else {
            panic!("1 MiB is ADR's reach");
        };
        // b +0xf004; adrp x3, +0xfff0000; b -0xf004
        assert_eq!((branch, veneer.words()), (0x1400_3c01, [0x9007_ff83, 0x17ff_c3ff, 0, 0]));
        assert_eq!(AdrpInstead::of(0xd503_201f, place, at(0x4001_0000)), None);
    }

    #[test]
    fn a_callsite_goes_straight_to_the_stub_as_far_as_bl_reaches() {
        let call = at(0x4000_0000);
        for (stub, direct) in [(0x47ff_fffc, true), (0x4800_0000, false), (0x3800_0000, true), (0x37ff_fffc, false)] {
            assert_eq!(reaches(call, at(stub)), direct);
        }
    }
}
