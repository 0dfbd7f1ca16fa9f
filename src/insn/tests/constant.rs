extern crate std;

use super::Random;
use crate::insn::{BitmaskImm, DataImm, Insn, MoveWide, Reg, Width, load_constant};

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
