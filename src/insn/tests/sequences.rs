extern crate std;

use super::Random;
use crate::insn::seq::callsite::{self, Form};
use crate::insn::seq::{load_constant, plt};
use crate::insn::{BitmaskImm, DataImm, Insn, MoveWide, Reg, Width};

/// What the instructions leave in `rd`.
fn run(insns: &[Insn], rd: Reg) -> u64 {
    let mut value = 0xdead_beef_dead_beef_u64;
    for insn in insns {
        let Insn::DataImm(data) = *insn else { panic!("{insn} does not load a constant") };
        value = match data {
            DataImm::MoveWide { op, rd: to, imm, at } => {
                assert_eq!(to, rd);
                let placed = u64::from(imm.get()) << at.shift();
                let moved = match op {
                    MoveWide::Zero => placed,
                    MoveWide::Not => !placed,
                    MoveWide::Keep => value & !(0xffff << at.shift()) | placed,
                };
                if at.width() == Width::W { moved & 0xffff_ffff } else { moved }
            }
            DataImm::Logical { rd: to, rn: Reg::XZR, imm, .. } => {
                assert_eq!(Some(to), rd.or_sp());
                imm.value()
            }
            _ => panic!("{insn} does not load a constant"),
        };
    }
    value
}

#[test]
fn a_constant_is_loaded_in_no_more_instructions_than_it_was_made_of() {
    let mut random = Random(3);
    let halves = [0, 0xffff, 0x5555, 0x00ff, 0x1234];
    for _ in 0..300 {
        let seed = random.next();
        // A start that one instruction makes, and up to three half-words put over it.
        let half = halves.into_iter().nth(seed as usize % halves.len()).unwrap_or_default();
        let start = match seed >> 8 & 3 {
            0 => half << (seed >> 16 & 48),
            1 => !(half << (seed >> 16 & 48)),
            2 => u64::MAX >> (1 + (seed >> 20) % 63),
            _ => 0x00f0_00f0_00f0_00f0 << (seed >> 20 & 3),
        };
        let mut value = start;
        let replaced = seed >> 32 & 3;
        for place in 0..replaced {
            let shift = place * 16;
            value = value & !(0xffff << shift) | (random.next() & 0xffff) << shift;
        }
        let constant = load_constant(Reg::X5, value);
        assert_eq!(run(constant.insns(), Reg::X5), value, "{value:#x}");
        assert!(constant.insns().len() as u64 <= replaced + 1, "{value:#x}: {constant:?}");
    }
}

#[test]
fn known_constants_take_their_fewest_instructions() {
    for (value, count) in [
        (0, 1),
        (u64::MAX, 1),
        (0xffff_0000, 1),
        (0xffff_1234, 1),
        (0xffff_ffff_1234_ffff, 1),
        (0x5555_5555_5555_5555, 1),
        (0x5555_5555_1234_5555, 2),
        (0x0000_1234_ffff_5678, 2),
        (0xffff_8000_1234_5678, 3),
        (0x1234_5678_9abc_def1, 4),
    ] {
        let constant = load_constant(Reg::X0, value);
        assert_eq!(run(constant.insns(), Reg::X0), value);
        assert_eq!(constant.insns().len(), count, "{value:#x}");
    }
    assert!(BitmaskImm::new(Width::X, 0x5555_5555_5555_5555).is_ok());
}

#[test]
fn a_callsite_has_three_forms() {
    let (nop, mov) = (Insn::NOP.encode(), Insn::MOV_X9_LR.encode());
    assert_eq!(Form::decode(nop, nop), Some(Form::Compiled));
    assert_eq!(Form::decode(mov, nop), Some(Form::Disabled));
    let enabled = callsite::enabled(0x1004, 0x2000).expect("near");
    let [first, second] = enabled.map(Insn::encode);
    assert_eq!(first, mov);
    match Form::decode(first, second) {
        Some(Form::Enabled { offset }) => assert_eq!(offset.target(0x1004), 0x2000),
        other => panic!("{other:?}"),
    }
    assert_eq!(Form::decode(nop, second), None);
    assert_eq!(Form::decode(mov, mov), None);
    assert_eq!(Form::decode(second, nop), None);
    assert!(callsite::enabled(0, 1 << 27).is_err());
}

#[test]
fn plt_entries_lead_where_they_were_told() {
    let mut random = Random(4);
    for _ in 0..10_000 {
        let at = random.next() & !3;
        let target = at.wrapping_add_signed((random.next() as i64) >> 32) & !3;
        let entry = plt::near(at, target).map(|entry| entry.map(Insn::encode));
        // A distance just below 4 GiB may be one page too many.
        if let Ok(words) = entry {
            assert_eq!(plt::near_target(at, words), Some(target));
        }
        let target = (random.next() as i64 >> 16) as u64;
        let words = plt::far(target).expect("an address").map(Insn::encode);
        assert_eq!(plt::far_target(words), Some(target));
    }
    assert!(plt::near(0, 1 << 33).is_err());
    assert!(plt::far(1 << 48).is_err());
    let nop = Insn::NOP.encode();
    assert_eq!(plt::near_target(0, [nop; 3]), None);
    assert_eq!(plt::far_target([nop; 4]), None);
    let text = plt::far(0xffff_8000_1234_5678).expect("an address").map(|insn| std::format!("{insn}"));
    assert_eq!(text, ["mov x16, #-43400", "movk x16, #4660, lsl #16", "movk x16, #32768, lsl #32", "br x16"]);
}

#[test]
fn the_last_two_words_of_a_page_are_no_place_for_adrp() {
    assert!(!plt::is_erratum_843419_place(0x1ff4));
    assert!(plt::is_erratum_843419_place(0x1ff8));
    assert!(plt::is_erratum_843419_place(0x1ffc));
    assert!(!plt::is_erratum_843419_place(0x2000));
}
