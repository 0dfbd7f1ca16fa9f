use crate::insn::{
    Change, DataRegister, Flow, Insn, Key, MemoryUse, Modifier, Moved, Place, Reg, RegOrSp, Signature, Sum, VReg,
};
use std::vec;
use std::vec::Vec;

fn effects(word: u32) -> crate::insn::Effects {
    Insn::decode(word).effects()
}

#[test]
fn a_prologue_moves_sp_and_fp() {
    // stp x29, x30, [sp, #-32]!
    let push = effects(0xa9be_7bfd);
    assert_eq!((push.sp, push.fp), (Change::By(-32), Change::Kept));
    assert_eq!(push.memory, MemoryUse::Store(16));
    assert!(push.reads.contains(Reg::LR) && push.reads.contains_sp() && push.writes.contains_sp());
    // mov x29, sp
    let frame = effects(0x9100_03fd);
    assert_eq!((frame.sp, frame.fp), (Change::Kept, Change::From(RegOrSp::SP, 0)));
    // sub sp, sp, #0x40
    assert_eq!(effects(0xd101_03ff).sp, Change::By(-64));
    // mov sp, x29
    assert_eq!(effects(0x9100_03bf).sp, Change::From(RegOrSp::FP, 0));
    // ldp x29, x30, [sp], #32
    let pop = effects(0xa8c2_7bfd);
    assert_eq!((pop.sp, pop.fp), (Change::By(32), Change::Unknown));
    // and sp, x9, #0xfffffffffffffff0
    assert_eq!(effects(0x927c_ed3f).sp, Change::Unknown);
}

#[test]
fn control_goes_where_branches_say() {
    assert_eq!(effects(0x1400_0002).flow, Flow::Jump(8));
    assert_eq!(effects(0x97ff_ffff).flow, Flow::Call(-4));
    assert_eq!(effects(0x5400_0040).flow, Flow::CondJump(8));
    assert_eq!(effects(0xd65f_03c0).flow, Flow::Return(Reg::LR));
    assert_eq!(effects(0xd61f_0200).flow, Flow::IndirectJump(Reg::X16));
    assert_eq!(effects(0xd63f_0200).flow, Flow::IndirectCall(Reg::X16));
    assert_eq!(effects(0xd69f_03e0).flow, Flow::ExceptionReturn);
    assert_eq!(effects(0xd420_0000).flow, Flow::Exception);
    assert_eq!(effects(0x0001_0000).flow, Flow::Unknown);
    assert!(effects(0x97ff_ffff).writes.contains(Reg::LR));
    assert!(!effects(0xaa1f_03ff).writes.contains(Reg::XZR));
    assert_eq!(effects(0xaa1f_03ff).writes.bits(), 0);
}

#[test]
fn signing_lr_reads_sp_and_changes_lr() {
    let sign = Insn::hint(crate::insn::Hint::PACIASP).effects();
    assert!(sign.reads.contains_sp() && sign.reads.contains(Reg::LR) && sign.writes.contains(Reg::LR));
    assert_eq!(sign.writes.bits(), 1 << 30);
}

#[test]
fn an_unpredictable_access_is_told() {
    // ldp x0, x0, [x1]; ldr x1, [x1], #8; stxr w1, x2, [x1]
    for word in [0xa940_0020, 0xf840_8421, 0xc801_7c22] {
        assert!(Insn::decode(word).is_unpredictable(), "{}", Insn::decode(word));
    }
    // stp x0, x0, [x1]; ldr x1, [x1, #8]; str xzr, [sp], #8; stxr w1, x2, [x3]
    for word in [0xa900_0020, 0xf940_0421, 0xf800_87ff, 0xc801_7c62] {
        assert!(!Insn::decode(word).is_unpredictable(), "{}", Insn::decode(word));
    }
}

#[test]
fn a_prologue_tells_where_its_registers_go() {
    let general = |number| DataRegister::General(Reg::x(number).unwrap());
    let places = |word: u32| {
        let effects = effects(word);
        (effects.place, effects.moved.into_iter().flat_map(Moved::registers).collect::<Vec<_>>())
    };
    let sp = RegOrSp::SP;
    // stp x29, x30, [sp, #-32]!; its second register is eight bytes on.
    assert_eq!(places(0xa9be_7bfd), (Place::Beside(sp, -32), vec![(general(29), 0), (general(30), 8)]));
    assert_eq!(effects(0xa9be_7bfd).sum, Some(Sum { to: sp, from: sp, bytes: -32 }));
    // ldp x29, x30, [sp], #32: from SP as it was.
    assert_eq!(places(0xa8c2_7bfd), (Place::Beside(sp, 0), vec![(general(29), 0), (general(30), 8)]));
    // str x19, [sp, #16]; str x30, [sp, #-16]!
    assert_eq!(places(0xf900_0bf3), (Place::Beside(sp, 16), vec![(general(19), 0)]));
    assert_eq!(places(0xf81f_0ffe), (Place::Beside(sp, -16), vec![(general(30), 0)]));
    // stp d8, d9, [sp, #32]
    let vector = |number| DataRegister::Vector(VReg::v(number).unwrap());
    assert_eq!(places(0x6d02_27e8), (Place::Beside(sp, 32), vec![(vector(8), 0), (vector(9), 8)]));
    // ldr x0, [x1, x2]: the model does not know where.
    assert_eq!(places(0xf862_6820).0, Place::Indexed(RegOrSp::X1));
    // mov x9, x30
    let kept = Sum { to: RegOrSp::X9, from: RegOrSp::LR, bytes: 0 };
    assert_eq!(effects(Insn::MOV_X9_LR.encode()).sum, Some(kept));
    // add x8, sp, #1, lsl #12
    assert_eq!(effects(0x9140_07e8).sum, Some(Sum { to: RegOrSp::X8, from: sp, bytes: 4096 }));
    // mov w9, w30: half of it is lost.
    assert_eq!(effects(0x2a1e_03e9).sum, None);
}

#[test]
fn what_signs_lr_and_what_checks_it_are_told() {
    let sp = Modifier::Value(RegOrSp::SP);
    for (word, signature) in [
        (0xd503_233f, Signature::Signed(Key::A, sp)),             // paciasp
        (0xd503_237f, Signature::Signed(Key::B, sp)),             // pacibsp
        (0xd503_231f, Signature::Signed(Key::A, Modifier::Zero)), // paciaz
        (0xd503_23bf, Signature::Authenticated(Key::A, sp)),      // autiasp
        (0xd65f_0fff, Signature::Authenticated(Key::B, sp)),      // retab
        (0xd503_20ff, Signature::Stripped),                       // xpaclri
        (0xdac1_43fe, Signature::Stripped),                       // xpaci x30
        (0xdac1_013e, Signature::Signed(Key::A, Modifier::Value(RegOrSp::X9))), // pacia x30, x9
        (0xdac1_0120, Signature::Kept),                           // pacia x0, x9
        (0xdac1_093e, Signature::Kept),                           // pacda x30, x9
        (0xd503_211f, Signature::Kept),                           // pacia1716
    ] {
        assert_eq!(effects(word).signature, signature, "{}", Insn::decode(word));
    }
}

#[test]
fn an_unknown_vector_instruction_goes_on_and_keeps_memory_and_sp() {
    let is_unknown = |word| matches!(Insn::decode(word), Insn::Unknown { .. });
    // fmadd d29, d0, d1, d2
    let multiply = effects(0x1f41_081d);
    assert!(is_unknown(0x1f41_081d));
    assert_eq!((multiply.flow, multiply.memory, multiply.sp), (Flow::Next, MemoryUse::None, Change::Kept));
    assert_eq!((multiply.writes.bits(), multiply.vector_writes.bits(), multiply.fp), (0, 1 << 29, Change::Kept));
    // fcvtzs x29, d0, #1
    assert!(is_unknown(0x9e58_fc1d));
    assert_eq!((effects(0x9e58_fc1d).writes.bits(), effects(0x9e58_fc1d).fp), (1 << 29, Change::Unknown));
    // An unknown load may do anything: ldg x0, [x0]
    assert_eq!(effects(0xd960_0000).flow, Flow::Unknown);
}
