use crate::insn::{Change, Flow, Insn, MemoryUse, Reg, RegOrSp};

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
