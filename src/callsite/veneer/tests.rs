//! Veneers read back, and what they must be.

extern crate std;

use super::{ENTRY_BYTES, Veneer, far, is_erratum_843419_place, near, reaches};
use crate::address::TextAddr;
use crate::insn::tests::Random;
use crate::insn::{AddSub, ArithImm, Branch, DataImm, Insn, Link, MoveWide, Reg, RegOrSp, UImm, Width};

impl Veneer {
    /// Where the entry at `at` jumps to; `None` if this is no jump.
    pub(crate) const fn target(self, at: TextAddr) -> Option<TextAddr> {
        let Self([first, second, third, fourth]) = self;
        let target = match near_target(at.get(), [first, second, third]) {
            Some(target) => Some(target),
            None => far_target([first, second, third, fourth]),
        };
        match target {
            Some(target) => Some(TextAddr::new(target)),
            None => None,
        }
    }
}

/// Where the near veneer at address `at` goes; `None` if these words are none.
pub(crate) const fn near_target(at: u64, words: [u32; 3]) -> Option<u64> {
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

/// Where a far veneer goes; `None` if these words are none.
pub(crate) const fn far_target(words: [u32; 4]) -> Option<u64> {
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
fn a_callsite_goes_straight_to_the_stub_as_far_as_bl_reaches() {
    let call = at(0x4000_0000);
    for (stub, direct) in [(0x47ff_fffc, true), (0x4800_0000, false), (0x3800_0000, true), (0x37ff_fffc, false)] {
        assert_eq!(reaches(call, at(stub)), direct);
    }
}

#[test]
fn veneers_lead_where_they_were_told() {
    let mut random = Random(4);
    for _ in 0..10_000 {
        let at = random.next() & !3;
        let target = at.wrapping_add_signed((random.next() as i64) >> 32) & !3;
        let entry = near(at, target).map(|entry| entry.map(Insn::encode));
        // A distance just below 4 GiB may be one page too many.
        if let Ok(words) = entry {
            assert_eq!(near_target(at, words), Some(target));
        }
        let target = (random.next() as i64 >> 16) as u64;
        let words = far(target).expect("an address").map(Insn::encode);
        assert_eq!(far_target(words), Some(target));
    }
    assert!(near(0, 1 << 33).is_err());
    assert!(far(1 << 48).is_err());
    let nop = Insn::NOP.encode();
    assert_eq!(near_target(0, [nop; 3]), None);
    assert_eq!(far_target([nop; 4]), None);
    let text = far(0xffff_8000_1234_5678).expect("an address").map(|insn| std::format!("{insn}"));
    assert_eq!(text, ["mov x16, #-43400", "movk x16, #4660, lsl #16", "movk x16, #32768, lsl #32", "br x16"]);
}

#[test]
fn the_last_two_words_of_a_page_are_no_place_for_adrp() {
    assert!(!is_erratum_843419_place(0x1ff4));
    assert!(is_erratum_843419_place(0x1ff8));
    assert!(is_erratum_843419_place(0x1ffc));
    assert!(!is_erratum_843419_place(0x2000));
}
