//! What an ordinary test run checks; the proof against assemblers is `cargo xtask insn-proof`.

use super::{Branch, BranchOffset, Insn};

#[test]
fn every_branch_offset_goes_both_ways() {
    for units in -(1i64 << 25)..1 << 25 {
        let offset = BranchOffset::new(units * 4).expect("in range");
        for insn in [Insn::b(offset), Insn::bl(offset)] {
            assert_eq!(Insn::decode(insn.encode()), insn);
        }
    }
    assert!(BranchOffset::new(1 << 27).is_err());
    assert!(BranchOffset::new(-(1 << 27) - 4).is_err());
    assert!(BranchOffset::new(2).is_err());
    let call = Insn::bl(BranchOffset::between(0x1000, 0).expect("in range"));
    assert_eq!(call.encode(), 0x97ff_fc00);
    assert!(matches!(call, Insn::Branch(Branch::Bl { .. })));
}

#[test]
fn the_patcher_s_instructions_have_their_words() {
    use super::{Hint, Reg, SysReg};
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
