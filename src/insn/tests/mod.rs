//! What an ordinary test run checks; the proof against assemblers is `cargo xtask insn-proof`.

extern crate std;

mod constant;
mod effects;

use std::string::ToString;
use std::vec::Vec;
use std::{format, thread};

use super::{
    Address, ArithImm, BitPos, BitmaskImm, BranchOffset, Class, CondOffset, DataImm, EncodeError, HalfWord, Hint, Insn,
    MoveWide, PageOffset, PstateField, PstateWrite, Reg, RegOrSp, SysReg, TestOffset, UImm, Width, pair_offset,
};

/// Numbers that look random and are the same every time: a linear congruence, its low bits dropped.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        let mut half = || {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            self.0 >> 32
        };
        half() << 32 | half()
    }
}

#[test]
fn every_branch_offset_goes_both_ways() {
    const THREADS: i64 = 4;
    let (first, count) = (-(1i64 << 25), 1i64 << 26);
    thread::scope(|scope| {
        for part in 0..THREADS {
            scope.spawn(move || {
                for units in first + part * (count / THREADS)..first + (part + 1) * (count / THREADS) {
                    let offset = BranchOffset::new(units * 4).expect("in range");
                    let place = units as u32 & 0x03ff_ffff;
                    let (jump, call) = (Insn::b(offset), Insn::bl(offset));
                    if jump.encode() != 0x1400_0000 | place || call.encode() != 0x9400_0000 | place {
                        panic!("{offset:?} encodes wrongly");
                    }
                    if Insn::decode(jump.encode()) != jump || Insn::decode(call.encode()) != call {
                        panic!("{offset:?} decodes wrongly");
                    }
                }
            });
        }
    });
}

#[test]
fn a_branch_offset_that_does_not_fit_is_an_error_with_the_range() {
    let (min, max) = (-(1 << 27), (1 << 27) - 4);
    let field = "imm26";
    for value in [1 << 27, min - 4, i64::MAX, i64::MIN] {
        assert_eq!(BranchOffset::new(value), Err(EncodeError::OutOfRange { field, value, min, max }));
    }
    for value in [2, -1, max + 1] {
        assert_eq!(BranchOffset::new(value), Err(EncodeError::Misaligned { field, value, multiple_of: 4 }));
    }
    assert_eq!(BranchOffset::between(0x8000_0000, 0x8000_0000 + max as u64), Ok(BranchOffset::MAX));
    assert_eq!(BranchOffset::between(8, 0).map(|offset| offset.target(8)), Ok(0));
    // Around the end of the address space.
    assert_eq!(BranchOffset::between(u64::MAX - 3, 0).map(BranchOffset::bytes), Ok(4));
    assert!(CondOffset::new(1 << 20).is_err() && CondOffset::new(-(1 << 20)).is_ok());
    assert!(TestOffset::new(1 << 15).is_err() && TestOffset::new(-(1 << 15)).is_ok());
    assert!(PageOffset::new(1 << 32).is_err() && PageOffset::new(-(1 << 32)).is_ok());
    assert_eq!(PageOffset::between(0xfff, 0x1000).map(PageOffset::bytes), Ok(0x1000));
    let error = BranchOffset::new(1 << 27).map_err(|error| error.to_string());
    assert_eq!(error, Err("The value 134217728 does not fit imm26, which holds -134217728 to 134217724".into()));
}

#[test]
fn every_wide_move_goes_both_ways() {
    let places = [HalfWord::W0, HalfWord::W16, HalfWord::X0, HalfWord::X16, HalfWord::X32, HalfWord::X48];
    for at in places {
        for op in [MoveWide::Not, MoveWide::Zero, MoveWide::Keep] {
            for imm in 0..=0xffff {
                let imm = UImm::new(imm).expect("sixteen bits");
                let insn = Insn::DataImm(DataImm::MoveWide { op, rd: Reg::X7, imm, at });
                assert_eq!(Insn::decode(insn.encode()), insn);
            }
        }
    }
    assert!(HalfWord::new(Width::W, 32).is_err());
    assert!(HalfWord::new(Width::X, 8).is_err());
}

/// Every value that is a repeated, rotated run of ones, made without the model.
fn bitmask_values(width: Width) -> Vec<u64> {
    let mut values = Vec::new();
    for size in [2u32, 4, 8, 16, 32, 64] {
        if size > width.bits() {
            continue;
        }
        for length in 1..size {
            for rotation in 0..size {
                let bit = |place: u32| (place + rotation) % size < length;
                let value = (0..width.bits()).filter(|place| bit(*place)).fold(0, |value, place| value | 1u64 << place);
                values.push(value);
            }
        }
    }
    values
}

#[test]
fn every_bitmask_immediate_goes_both_ways() {
    for (width, count) in [(Width::W, 1302), (Width::X, 5334)] {
        let values = bitmask_values(width);
        assert_eq!(values.len(), count);
        for value in values {
            let imm = BitmaskImm::new(width, value).expect("a run of ones");
            assert_eq!(imm.value(), value);
            let (rd, rn) = (Reg::X1, Reg::X2);
            let insn = Insn::DataImm(DataImm::LogicalFlags { rd, rn, imm });
            assert_eq!(Insn::decode(insn.encode()), insn);
        }
    }
}

#[test]
fn what_is_no_bitmask_is_refused() {
    let known: std::collections::HashSet<u64> = bitmask_values(Width::X).into_iter().collect();
    for value in [0, u64::MAX, 5, 0b1011, 0x1234, 0x0000_ffff_0000_00ff] {
        assert!(BitmaskImm::new(Width::X, value).is_err(), "{value:#x}");
    }
    assert!(BitmaskImm::new(Width::W, 0x1_0000_0000).is_err());
    let mut random = Random(1);
    for _ in 0..100_000 {
        let value = random.next() & random.next() & random.next();
        assert_eq!(BitmaskImm::new(Width::X, value).is_ok(), known.contains(&value), "{value:#x}");
    }
}

#[test]
fn random_words_encode_to_themselves() {
    let mut random = Random(2);
    for _ in 0..2_000_000 {
        let word = random.next() as u32;
        let insn = Insn::decode(word);
        assert_eq!(insn.encode(), word, "{insn}");
    }
}

#[test]
fn vectors_agree_with_llvm() {
    let mut known = 0;
    for line in include_str!("vectors.txt").lines().filter(|line| !line.starts_with('#')) {
        let (word, text) = line.split_once(' ').expect("a word and its text");
        let word = u32::from_str_radix(word, 16).expect("a word");
        let insn = Insn::decode(word);
        assert_eq!(insn.encode(), word);
        if text == "-" {
            assert!(matches!(insn, Insn::Unknown { .. }), "{word:08x}: {insn}");
        } else {
            assert_eq!(format!("{insn}"), text, "{word:08x}");
            known += 1;
        }
    }
    assert!(known > 500, "only {known} vectors");
}

#[test]
fn the_instructions_of_patching_have_their_words() {
    assert_eq!(Insn::NOP.encode(), 0xd503_201f);
    assert_eq!(Insn::MOV_X9_LR.encode(), 0xaa1e_03e9);
    assert_eq!(Insn::hint(Hint::BTI_C).encode(), 0xd503_245f);
    assert_eq!(Insn::hint(Hint::BTI_J).encode(), 0xd503_249f);
    assert_eq!(Insn::hint(Hint::BTI_JC).encode(), 0xd503_24df);
    assert_eq!(Insn::ISB.encode(), 0xd503_3fdf);
    assert_eq!(Insn::RET.encode(), 0xd65f_03c0);
    assert_eq!(Insn::mrs(Reg::X0, SysReg::TPIDR_EL1).encode(), 0xd538_d080);
    assert_eq!(Insn::brk(1).encode(), 0xd420_0020);
}

#[test]
fn only_eight_instructions_may_be_changed_while_they_run() {
    let zero = BranchOffset::ZERO;
    for insn in [Insn::NOP, Insn::ISB, Insn::brk(7), Insn::b(zero), Insn::bl(zero)] {
        assert!(insn.is_concurrently_modifiable(), "{insn}");
    }
    for word in [0xd400_0001, 0xd400_0002, 0xd400_0003] {
        assert!(Insn::decode(word).is_concurrently_modifiable());
    }
    for insn in [Insn::MOV_X9_LR, Insn::hint(Hint::BTI_C), Insn::hint(Hint::YIELD), Insn::RET, Insn::br(Reg::X0)] {
        assert!(!insn.is_concurrently_modifiable(), "{insn}");
    }
    // B.cond, HLT, UDF, DSB.
    for word in [0x5400_0000, 0xd440_0000, 0, 0xd503_3f9f] {
        assert!(!Insn::decode(word).is_concurrently_modifiable());
    }
}

#[test]
fn numbers_that_do_not_fit_their_field_are_errors() {
    assert!(UImm::<3>::new(8).is_err());
    assert!(super::SImm::<9>::new(256).is_err() && super::SImm::<9>::new(-256).is_ok());
    assert!(ArithImm::new(0x1001).is_err() && ArithImm::new(0x100_0000).is_err());
    assert_eq!(ArithImm::new(0xfff_000).map(ArithImm::value), Ok(0xfff_000));
    assert!(BitPos::new(Width::W, 32).is_err() && BitPos::new(Width::X, 63).is_ok());
    assert!(pair_offset(512, 3).is_err() && pair_offset(-512, 3).is_ok() && pair_offset(4, 3).is_err());
    assert!(PstateWrite::new(PstateField::Pan, 2).is_err());
    assert_eq!(Address::offset(8, 3), Ok(Address::Unsigned(UImm::truncated(1))));
    assert!(matches!(Address::offset(-8, 3), Ok(Address::Unscaled(_))));
    assert!(matches!(Address::offset(7, 3), Ok(Address::Unscaled(_))));
    assert!(matches!(Address::offset(257, 3), Err(EncodeError::Misaligned { .. })));
    assert!(matches!(Address::offset(-257, 3), Err(EncodeError::OutOfRange { .. })));
}

#[test]
fn sp_and_the_zero_register_are_not_confused() {
    assert_eq!(Reg::XZR.or_sp(), None);
    assert_eq!(RegOrSp::SP.reg(), None);
    assert_eq!(Reg::x(31), None);
    assert_eq!(RegOrSp::x(31), None);
    assert_eq!(Insn::decode(0x9100_03ff).to_string(), "mov sp, sp");
    assert_eq!(Insn::decode(0xaa1f_03e0).to_string(), "mov x0, xzr");
}

#[test]
fn what_is_unknown_says_its_class() {
    let class = |word| match Insn::decode(word) {
        Insn::Unknown { class, .. } => Some(class),
        _ => None,
    };
    assert_eq!(class(0x0001_0000), Some(Class::Reserved));
    assert_eq!(class(0x0420_0000), Some(Class::Scalable));
    assert_eq!(class(0x0ea1_2800), Some(Class::Simd));
    assert_eq!(class(0xd65f_03c1), Some(Class::BranchSystem));
    assert_eq!(Insn::decode(0x0001_0000).to_string(), ".inst 0x00010000");
}
