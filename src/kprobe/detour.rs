//! The way of a probe that needs no exception: B to code that calls the handlers, carries the instruction out, and goes back.
//!
//! ```text
//!   text                     8010  sub  sp, sp, #288        a PtRegs and a frame record; with SIMD registers, those
//!   1004  b   8010  ----->   ....  stp  x0, x1, [sp] ...
//!   1008  cbz x2, ...        ....  the guard, BL to the handlers' caller, the guard
//!                            ....  ldp  x0, x1, [sp] ...
//!                            80f0  add  sp, sp, #288
//!                            80f4  ldr  x0, [x1]            the instruction
//!                            80f8  b    1008
//! ```
//!
//! Linux has as much for other architectures and calls it an optimised probe; there it needs registers that are dead. Here all
//! are kept on the stack, so any instruction will do that does the same elsewhere and comes back.

use super::instruction::Way;
use super::point::{Instruction, Point};
use super::probe::Kprobe;
use super::regs::KprobeRegs;
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::context::regs::PtRegs;
use crate::insn::{
    BitPos, Branch, BranchOffset, CondOffset, DataReg, Direction, EncodeError, Hint, Insn, Literal, LogicalOp, Memory,
    PairAccess, PairMode, PairSize, Reg, RegOrSp, Shift, SimdMemory, SysReg, System, VReg, Width, Zero, pair_offset,
};
use crate::platform::ContextBase;
use crate::stub::entry::system_register;
use arrayvec::ArrayVec;
use core::mem::offset_of;

/// Whether compiled code uses the SIMD registers, of which the handlers keep only some.
const HAS_SIMD: bool = cfg!(target_feature = "neon");

/// The bytes of the registers, and of a frame record above them.
const REGS: i64 = size_of::<PtRegs>() as i64;
const FRAME: i64 = REGS + 16;
/// Those of q0 to q31 above that, with FPSR and FPCR.
const SIMD: i64 = 32 * 16 + 16;

/// The most words of a detour, with its literals: without SIMD registers, and what those take.
const WORDS: usize = 64;
const SIMD_WORDS: usize = 2 * (16 + 4);
/// The most bytes of a detour of this kernel.
pub(super) const BYTES: usize = 4 * (WORDS + if HAS_SIMD { SIMD_WORDS } else { 0 });

/// A detour: its words, and how many bytes its instruction is behind its beginning.
pub(super) struct Detour {
    pub(super) words: ArrayVec<u32, { WORDS + SIMD_WORDS }>,
    pub(super) instruction: usize,
}

/// What a detour is made with.
pub(super) struct Parts {
    /// The address that the handlers' caller gets.
    pub(super) point: u64,
    /// The handlers' caller.
    pub(super) handlers: TextAddr,
    /// Where the running thread's context is.
    pub(super) base: ContextBase,
    /// Whether SIMD registers are kept.
    pub(super) has_simd: bool,
}

impl Parts {
    pub(super) fn of(point: &Point, base: ContextBase) -> Self {
        let point = core::ptr::from_ref(point).expose_provenance() as u64;
        let handlers = TextAddr::new((call_handlers as *const ()).addr() as u64);
        Self { point, handlers, base, has_simd: HAS_SIMD }
    }
}

/// Whether an instruction may be carried out in a detour: B is no landing pad, which PACIASP and PACIBSP are.
pub(super) fn is_for_detour(insn: &Instruction) -> bool {
    let is_pad = matches!(Insn::decode(insn.word), Insn::System(System::Hint(Hint::PACIASP | Hint::PACIBSP)));
    insn.way == Way::OutOfLine && !is_pad
}

/// Makes the detour of an instruction, to be at `code`.
///
/// # Errors
///
/// [`EncodeError`]: something is out of reach from there.
pub(super) fn detour(insn: &Instruction, code: TextAddr, parts: &Parts) -> Result<Detour, EncodeError> {
    let &Parts { point, handlers, base, has_simd } = parts;
    let mut maker = Maker { words: ArrayVec::new(), at: code };
    let (sp, frame) = (RegOrSp::SP, FRAME + if has_simd { SIMD } else { 0 });
    let [at_lr, at_pc, at_pstate] = [LR, offset_of!(PtRegs, pc) as i64, offset_of!(PtRegs, pstate) as i64];

    maker.add(Insn::sub_imm(sp, sp, frame as u32)?);
    maker.pairs(PairAccess::StoreX)?;
    maker.add(Insn::add_imm(RegOrSp::X0, sp, frame as u32)?);
    maker.pair(PairAccess::StoreX, Reg::LR, Reg::X0, at_lr)?;
    // PSTATE, as the stub for all registers takes it.
    maker.add(Insn::mrs(Reg::X1, SysReg::NZCV));
    for part in [SysReg::DAIF, SysReg::CURRENT_EL, SysReg::SP_SEL] {
        maker.add(Insn::mrs(Reg::X2, part));
        maker.add(or(Reg::X1, Reg::X2));
    }
    let load_at = maker.leave();
    maker.pair(PairAccess::StoreX, Reg::X0, Reg::X1, at_pc)?;
    maker.pair(PairAccess::StoreX, Reg::FP, Reg::X0, REGS)?;
    maker.add(Insn::add_imm(RegOrSp::FP, sp, REGS as u32)?);
    if has_simd {
        maker.simd(Direction::Store)?;
    }

    // The guard is taken here, so that nobody is in Rust without it. X19 and X20 are what a function keeps.
    let busy = i64::from(base.offset) + offset_of!(TraceContext, busy) as i64;
    maker.add(Insn::mrs(Reg::X19, system_register(base.register)));
    let not_ready = maker.leave();
    maker.add(Insn::ldr(Reg::X20, RegOrSp::X19, busy)?);
    maker.add(Insn::str(Reg::X19, RegOrSp::X19, busy)?);
    maker.add(Insn::add_imm(RegOrSp::X0, sp, 0)?);
    let load_point = maker.leave();
    maker.add(Insn::add_imm(RegOrSp::X2, RegOrSp::X19, base.offset.into())?);
    maker.add(Insn::bl(BranchOffset::between(maker.here(), handlers.get())?));
    maker.add(Insn::str(Reg::X20, RegOrSp::X19, busy)?);
    let offset = maker.distance(not_ready, maker.words.len())?;
    let zero = Branch::CompareBranch { on: Zero::Zero, width: Width::X, rt: Reg::X19, offset };
    maker.fill(not_ready, Insn::Branch(zero));

    if has_simd {
        maker.simd(Direction::Load)?;
    }
    maker.add(Insn::ldr(Reg::X1, sp, at_pstate)?);
    maker.add(Insn::msr(SysReg::NZCV, Reg::X1));
    maker.add(Insn::ldr(Reg::LR, sp, at_lr)?);
    maker.pairs(PairAccess::LoadX)?;
    maker.add(Insn::add_imm(sp, sp, frame as u32)?);
    let instruction = maker.words.len() * 4;
    maker.word(insn.word);
    maker.add(Insn::b(BranchOffset::between(maker.here(), insn.at.offset(4).get())?));

    if !maker.here().is_multiple_of(8) {
        maker.word(0);
    }
    for (place, rt, value) in [(load_at, Reg::X0, insn.at.get()), (load_point, Reg::X1, point)] {
        let offset = maker.distance(place, maker.words.len())?;
        maker.fill(place, Insn::Memory(Memory::Literal { literal: Literal::LoadX, rt, offset }));
        maker.word(value as u32);
        maker.word((value >> 32) as u32);
    }
    Ok(Detour { words: maker.words, instruction })
}

/// Where X30 is among the registers, with SP behind it.
const LR: i64 = offset_of!(PtRegs, regs) as i64 + 30 * 8;
const _: () =
    assert!(offset_of!(PtRegs, sp) as i64 == LR + 8 && offset_of!(PtRegs, pstate) == offset_of!(PtRegs, pc) + 8);

/// A detour in the making.
struct Maker {
    words: ArrayVec<u32, { WORDS + SIMD_WORDS }>,
    at: TextAddr,
}

impl Maker {
    fn here(&self) -> u64 {
        self.at.offset(self.words.len() as i64 * 4).get()
    }

    fn word(&mut self, word: u32) {
        let is_added = self.words.try_push(word).is_ok();
        debug_assert!(is_added, "there is room for the longest");
    }

    fn add(&mut self, insn: Insn) {
        self.word(insn.encode());
    }

    /// Leaves a place for an instruction.
    fn leave(&mut self) -> usize {
        self.word(0);
        self.words.len() - 1
    }

    fn fill(&mut self, place: usize, insn: Insn) {
        if let Some(word) = self.words.get_mut(place) {
            *word = insn.encode();
        }
    }

    fn distance(&self, from: usize, to: usize) -> Result<CondOffset, EncodeError> {
        CondOffset::new(4 * (to as i64 - from as i64))
    }

    fn pair(&mut self, access: PairAccess, rt: Reg, rt2: Reg, at: i64) -> Result<(), EncodeError> {
        self.add(Insn::pair(access, rt, rt2, RegOrSp::SP, PairMode::Offset, at)?);
        Ok(())
    }

    /// X0 to X29, to the registers' place or from it.
    fn pairs(&mut self, access: PairAccess) -> Result<(), EncodeError> {
        for number in (0..30).step_by(2) {
            let (Some(rt), Some(rt2)) = (Reg::x(number), Reg::x(number + 1)) else { continue };
            self.pair(access, rt, rt2, i64::from(number) * 8)?;
        }
        Ok(())
    }

    /// Q0 to Q31, FPSR and FPCR. X2 and X3 are free.
    fn simd(&mut self, direction: Direction) -> Result<(), EncodeError> {
        for number in (0..32).step_by(2) {
            let (Some(rt), Some(rt2)) = (VReg::v(number), VReg::v(number + 1)) else { continue };
            let offset = pair_offset(FRAME + i64::from(number) * 16, 4)?;
            let (size, mode, rn) = (PairSize::Q, PairMode::Offset, RegOrSp::SP);
            self.add(Insn::SimdMemory(SimdMemory::Pair { direction, size, mode, rt, rt2, rn, offset }));
        }
        let (at, status) = (FRAME + 32 * 16, [(Reg::X2, SysReg::FPSR), (Reg::X3, SysReg::FPCR)]);
        for ((reg, special), at) in status.into_iter().zip([at, at + 8]) {
            match direction {
                Direction::Store => {
                    self.add(Insn::mrs(reg, special));
                    self.add(Insn::str(reg, RegOrSp::SP, at)?);
                }
                Direction::Load => {
                    self.add(Insn::ldr(reg, RegOrSp::SP, at)?);
                    self.add(Insn::msr(special, reg));
                }
            }
        }
        Ok(())
    }
}

/// ORR of two registers.
const fn or(rd: Reg, rm: Reg) -> Insn {
    let amount = BitPos::zero(Width::X);
    Insn::DataReg(DataReg::Logical { op: LogicalOp::Orr, rd, rn: rd, rm, shift: Shift::Lsl, amount })
}

/// What a detour calls: the handlers that are called before an instruction.
///
/// # Safety
///
/// 1. `regs` are the registers that the detour of `point` has stored, which nobody else uses until this returns.
/// 2. `context` is that of the running thread of execution, whose guard the detour has taken.
unsafe extern "C" fn call_handlers(regs: *mut PtRegs, point: *const Point, context: *const TraceContext) {
    // SAFETY: they are stored, and nobody else uses them: our caller's promise 1.
    let regs = unsafe { &mut *regs };
    // SAFETY: a point is there as long as its detour: promise 1.
    let point = unsafe { &*point };
    // SAFETY: it is there while its thread runs: promise 2.
    let context = unsafe { &*context };
    let enabled = || point.probes().filter(|probe| probe.is_enabled());
    match context.enter_probe() {
        Some(_inside) => {
            let mut view = KprobeRegs::of_all(regs);
            enabled().for_each(|probe| probe.call_before(&mut view));
        }
        None => enabled().for_each(Kprobe::miss),
    }
}

#[cfg(test)]
mod tests {
    use super::{Parts, SIMD_WORDS, WORDS, detour, is_for_detour};
    use crate::address::TextAddr;
    use crate::insn::Insn;
    use crate::kprobe::instruction::way;
    use crate::kprobe::point::Instruction;
    use crate::platform::{BaseRegister, ContextBase};
    use std::string::{String, ToString};
    use std::vec::Vec;
    extern crate std;

    const AT: TextAddr = TextAddr::new(0x1_0004);
    const CODE: TextAddr = TextAddr::new(0x2_0010);
    const LDR_X0_X1: u32 = 0xf940_0020;
    const PACIASP: u32 = 0xd503_233f;

    fn insn(word: u32) -> Instruction {
        Instruction { at: AT, word, way: way(AT, word).unwrap(), literal: 0 }
    }

    fn text(has_simd: bool, base: ContextBase) -> (Vec<String>, usize, Vec<u32>) {
        let parts = Parts { point: 0x1234_5678_9abc, handlers: TextAddr::new(0x3_0000), base, has_simd };
        let made = detour(&insn(LDR_X0_X1), CODE, &parts).unwrap();
        assert!(made.words.len() <= if has_simd { WORDS + SIMD_WORDS } else { WORDS });
        let text = made.words.iter().map(|word| Insn::decode(*word).to_string()).collect();
        (text, made.instruction / 4, made.words.to_vec())
    }

    #[test]
    fn a_detour_keeps_all_registers_and_comes_back() {
        let (text, instruction, words) = text(false, ContextBase { register: BaseRegister::SpEl0, offset: 16 });
        let wanted = [
            "sub sp, sp, #288",
            "stp x0, x1, [sp]",
            "stp x2, x3, [sp, #16]",
            "stp x4, x5, [sp, #32]",
            "stp x6, x7, [sp, #48]",
            "stp x8, x9, [sp, #64]",
            "stp x10, x11, [sp, #80]",
            "stp x12, x13, [sp, #96]",
            "stp x14, x15, [sp, #112]",
            "stp x16, x17, [sp, #128]",
            "stp x18, x19, [sp, #144]",
            "stp x20, x21, [sp, #160]",
            "stp x22, x23, [sp, #176]",
            "stp x24, x25, [sp, #192]",
            "stp x26, x27, [sp, #208]",
            "stp x28, x29, [sp, #224]",
            "add x0, sp, #288",
            "stp x30, x0, [sp, #240]",
            "mrs x1, NZCV",
            "mrs x2, DAIF",
            "orr x1, x1, x2",
            "mrs x2, CurrentEL",
            "orr x1, x1, x2",
            "mrs x2, SPSel",
            "orr x1, x1, x2",
            "ldr x0, #140",
            "stp x0, x1, [sp, #256]",
            "stp x29, x0, [sp, #272]",
            "add x29, sp, #272",
            "mrs x19, SP_EL0",
            "cbz x19, #32",
            "ldr x20, [x19, #16]",
            "str x19, [x19, #16]",
            "mov x0, sp",
            "ldr x1, #112",
            "add x2, x19, #16",
            "bl #65376",
            "str x20, [x19, #16]",
            "ldr x1, [sp, #264]",
            "msr NZCV, x1",
            "ldr x30, [sp, #240]",
            "ldp x0, x1, [sp]",
            "ldp x2, x3, [sp, #16]",
            "ldp x4, x5, [sp, #32]",
            "ldp x6, x7, [sp, #48]",
            "ldp x8, x9, [sp, #64]",
            "ldp x10, x11, [sp, #80]",
            "ldp x12, x13, [sp, #96]",
            "ldp x14, x15, [sp, #112]",
            "ldp x16, x17, [sp, #128]",
            "ldp x18, x19, [sp, #144]",
            "ldp x20, x21, [sp, #160]",
            "ldp x22, x23, [sp, #176]",
            "ldp x24, x25, [sp, #192]",
            "ldp x26, x27, [sp, #208]",
            "ldp x28, x29, [sp, #224]",
            "add sp, sp, #288",
            "ldr x0, [x1]",
            "b #-65776",
        ];
        assert_eq!(text[..wanted.len()], wanted);
        assert_eq!(text[instruction], "ldr x0, [x1]");
        // The literals: where the instruction is, and the point.
        let word = |index: usize| u64::from(words[index]);
        let literal = |load: usize, distance: usize| word(load + distance / 4) | (word(load + distance / 4 + 1) << 32);
        assert_eq!(literal(25, 140), AT.get());
        assert_eq!(literal(34, 112), 0x1234_5678_9abc);
    }

    #[test]
    fn where_simd_registers_are_used_all_of_them_are_kept() {
        let (text, instruction, _) = text(true, ContextBase { register: BaseRegister::TpidrEl1, offset: 4088 });
        let count = |start: &str| text[..instruction].iter().filter(|line| line.starts_with(start)).count();
        assert_eq!((count("stp q"), count("ldp q"), text[0].as_str()), (16, 16, "sub sp, sp, #816"));
        for line in ["mrs x2, FPSR", "mrs x3, FPCR", "msr FPSR, x2", "msr FPCR, x3", "ldr x20, [x19, #4088]"] {
            assert_eq!(count(line), 1, "{line}");
        }
    }

    #[test]
    fn what_is_a_landing_pad_or_goes_elsewhere_has_none() {
        assert!(is_for_detour(&insn(LDR_X0_X1)) && !is_for_detour(&insn(PACIASP)));
        let ret = Insn::RET.encode();
        assert!(!is_for_detour(&insn(ret)));
    }

    #[test]
    fn what_is_out_of_reach_has_none() {
        let base = ContextBase { register: BaseRegister::TpidrEl1, offset: 0 };
        let parts = Parts { point: 0, handlers: TextAddr::new(0x3_0000_0000), base, has_simd: false };
        assert!(detour(&insn(LDR_X0_X1), CODE, &parts).is_err());
    }
}
