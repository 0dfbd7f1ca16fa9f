//! The way of a probe that needs no exception: B to code that calls the handlers, carries the instruction out, and goes back.
//!
//! ```text
//!   text                     8010  sub  sp, sp, #272        a `JumpRegs`; with SIMD registers, those
//!   1004  b   8010  ----->   ....  stp  x0, x1, [sp] ...
//!   1008  cbz x2, ...        ....  the guard, BLR to the handler, the guard
//!                            ....  ldp  x0, x1, [sp] ...
//!                            80e4  add  sp, sp, #272
//!                            80e8  ldr  x0, [x1]            the instruction
//!                            80ec  b    1008
//! ```
//!
//! The only probe of an instruction has its handler called by the detour itself, as a stub calls a callback. Where there are
//! several, the point says so, and a function calls them one after the other.
//!
//! Linux has as much for other architectures and calls it an optimised probe; there it needs registers that are dead. Here all
//! are kept on the stack, so any instruction will do that does the same elsewhere and comes back.

use super::instruction::Way;
use super::point::{Instruction, Point};
use super::probe::Kprobe;
use super::regs::{AT_JUMP, HAS_SIMD, JumpRegs, KprobeRegs, frame_bytes};
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::insn::{
    Branch, BranchOffset, CondOffset, Direction, EncodeError, Hint, Insn, Literal, Memory, PairAccess, PairMode,
    PairSize, Reg, RegOrSp, SimdMemory, SysReg, System, VReg, Width, Zero, pair_offset,
};
use crate::ops::{Callback, Ops};
use crate::platform::ContextBase;
use crate::stub::entry::system_register;
use arrayvec::ArrayVec;
use core::mem::offset_of;

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
    /// The address of its point.
    pub(super) point: u64,
    /// What counts a miss of the point's probes.
    pub(super) miss: TextAddr,
    /// Where the running thread's context is.
    pub(super) base: ContextBase,
    /// Whether SIMD registers are kept.
    pub(super) has_simd: bool,
}

impl Parts {
    pub(super) fn of(point: &Point, base: ContextBase) -> Self {
        let point = core::ptr::from_ref(point).expose_provenance() as u64;
        let miss = TextAddr::new((miss as *const ()).addr() as u64);
        Self { point, miss, base, has_simd: HAS_SIMD }
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
    let &Parts { point, miss, base, has_simd } = parts;
    let mut maker = Maker { words: ArrayVec::new(), at: code };
    let (sp, frame) = (RegOrSp::SP, frame_bytes(has_simd) as i64);

    maker.add(Insn::sub_imm(sp, sp, frame as u32)?);
    maker.pairs(PairAccess::StoreX)?;
    maker.add(Insn::mrs(Reg::X1, SysReg::NZCV));
    maker.pair(PairAccess::StoreX, Reg::LR, Reg::X1, LR)?;
    let load_at = maker.leave();
    maker.pair(PairAccess::StoreX, Reg::FP, Reg::X0, RECORD)?;
    maker.add(Insn::add_imm(RegOrSp::FP, sp, RECORD as u32)?);
    if has_simd {
        maker.simd(Direction::Store)?;
    }

    // The guard is taken here, so that nobody is in Rust without it. X19 and X28 are what a function keeps.
    let load_point = maker.leave();
    let word = |offset: usize| i64::from(base.offset) + offset as i64;
    let (busy, in_probe) = (word(offset_of!(TraceContext, busy)), word(offset_of!(TraceContext, in_probe)));
    let context = RegOrSp::X19;
    maker.add(Insn::mrs(Reg::X19, system_register(base.register)));
    let not_ready = maker.leave();
    maker.add(Insn::ldr(Reg::X3, context, in_probe)?);
    let inside = maker.leave();
    maker.add(Insn::ldr(Reg::X28, context, busy)?);
    maker.add(Insn::str(Reg::X19, context, busy)?);
    maker.add(Insn::str(Reg::X19, context, in_probe)?);
    maker.add(Insn::ldr(Reg::X2, RegOrSp::X4, offset_of!(Point, called) as i64)?);
    maker.add(Insn::ldr(Reg::X16, RegOrSp::X2, offset_of!(Ops, callback) as i64)?);
    maker.add(Insn::mov(Reg::X1, Reg::LR));
    maker.add(Insn::add_imm(RegOrSp::X3, sp, AT_JUMP as u32)?);
    maker.add(Insn::blr(Reg::X16));
    maker.add(Insn::str(Reg::XZR, context, in_probe)?);
    maker.add(Insn::str(Reg::X28, context, busy)?);
    let on = maker.words.len();

    if has_simd {
        maker.simd(Direction::Load)?;
    }
    maker.pair(PairAccess::LoadX, Reg::LR, Reg::X1, LR)?;
    maker.add(Insn::msr(SysReg::NZCV, Reg::X1));
    maker.pairs(PairAccess::LoadX)?;
    maker.add(Insn::add_imm(sp, sp, frame as u32)?);
    let instruction = maker.words.len() * 4;
    maker.word(insn.word);
    maker.add(Insn::b(BranchOffset::between(maker.here(), insn.at.offset(4).get())?));

    // Without a context nobody is called; nor inside a probe's handler, whose guard is there already.
    let missed = maker.words.len();
    maker.branch_if(not_ready, Zero::Zero, Reg::X19, missed)?;
    maker.branch_if(inside, Zero::NonZero, Reg::X3, missed)?;
    maker.add(Insn::bl(BranchOffset::between(maker.here(), miss.get())?));
    maker.add(Insn::b(BranchOffset::new(4 * (on as i64 - maker.words.len() as i64))?));

    if !maker.here().is_multiple_of(8) {
        maker.word(0);
    }
    for (place, rt, value) in [(load_at, Reg::X0, insn.at.get()), (load_point, Reg::X4, point)] {
        let offset = maker.distance(place, maker.words.len())?;
        maker.fill(place, Insn::Memory(Memory::Literal { literal: Literal::LoadX, rt, offset }));
        maker.word(value as u32);
        maker.word((value >> 32) as u32);
    }
    Ok(Detour { words: maker.words, instruction })
}

/// Where X30 is, with the flags behind it; and the frame record.
const LR: i64 = offset_of!(JumpRegs, regs) as i64 + 30 * 8;
const RECORD: i64 = offset_of!(JumpRegs, record) as i64;
const _: () = assert!(offset_of!(JumpRegs, nzcv) as i64 == LR + 8 && offset_of!(JumpRegs, regs) == 0);

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

    /// Makes the instruction that was left at `from` a branch to the word `to`, where a register is zero, or is not.
    fn branch_if(&mut self, from: usize, on: Zero, rt: Reg, to: usize) -> Result<(), EncodeError> {
        let offset = self.distance(from, to)?;
        self.fill(from, Insn::Branch(Branch::CompareBranch { on, width: Width::X, rt, offset }));
        Ok(())
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
        let simd = size_of::<JumpRegs>() as i64;
        for number in (0..32).step_by(2) {
            let (Some(rt), Some(rt2)) = (VReg::v(number), VReg::v(number + 1)) else { continue };
            let offset = pair_offset(simd + i64::from(number) * 16, 4)?;
            let (size, mode, rn) = (PairSize::Q, PairMode::Offset, RegOrSp::SP);
            self.add(Insn::SimdMemory(SimdMemory::Pair { direction, size, mode, rt, rt2, rn, offset }));
        }
        let (at, status) = (simd + 32 * 16, [(Reg::X2, SysReg::FPSR), (Reg::X3, SysReg::FPCR)]);
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

/// What a detour calls where its instruction has several probes.
pub(super) static SEVERAL: Ops = Ops::new({
    // SAFETY: only detours call it, which know no types, with the arguments that it takes: those of a callback, and its point.
    unsafe { core::mem::transmute::<Several, Callback>(call_several) }
});

type Several = unsafe extern "C" fn(TextAddr, TextAddr, &'static Ops, KprobeRegs<'_>, *const Point);

/// Calls the handlers of all probes at an instruction.
///
/// # Safety
///
/// 1. `point` is that of the detour, whose guard is taken.
unsafe extern "C" fn call_several(
    ip: TextAddr,
    lr: TextAddr,
    _: &'static Ops,
    mut regs: KprobeRegs<'_>,
    point: *const Point,
) {
    // SAFETY: a point is there as long as its detour: promise 1.
    let point = unsafe { &*point };
    point.probes().filter(|probe| probe.is_enabled()).for_each(|probe| probe.call_before(ip, lr, regs.reborrow()));
}

/// What a detour calls in place of handlers.
///
/// # Safety
///
/// 1. `point` is that of the detour, which has it in X4.
unsafe extern "C" fn miss(_: TextAddr, _: u64, _: u64, _: u64, point: *const Point) {
    // SAFETY: a point is there as long as its detour: promise 1.
    let point = unsafe { &*point };
    point.probes().filter(|probe| probe.is_enabled()).for_each(Kprobe::miss);
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
        let parts = Parts { point: 0x1234_5678_9abc, miss: TextAddr::new(0x3_0000), base, has_simd };
        let made = detour(&insn(LDR_X0_X1), CODE, &parts).unwrap();
        assert!(made.words.len() <= if has_simd { WORDS + SIMD_WORDS } else { WORDS });
        let text = made.words.iter().map(|word| Insn::decode(*word).to_string()).collect();
        (text, made.instruction / 4, made.words.to_vec())
    }

    #[test]
    fn a_detour_keeps_all_registers_and_comes_back() {
        let (text, instruction, words) = text(false, ContextBase { register: BaseRegister::SpEl0, offset: 16 });
        let pairs = |name: &str| -> Vec<String> {
            (0..15).map(|n| std::format!("{name} x{}, x{}, [sp, #{}]", 2 * n, 2 * n + 1, 16 * n)).collect()
        };
        let [mut stored, mut loaded] = [pairs("stp"), pairs("ldp")];
        (stored[0], loaded[0]) = ("stp x0, x1, [sp]".into(), "ldp x0, x1, [sp]".into());
        let parts: [&[&str]; 3] = [
            &["sub sp, sp, #272"],
            &[
                "mrs x1, NZCV",
                "stp x30, x1, [sp, #240]",
                "ldr x0, #160",
                "stp x29, x0, [sp, #256]",
                "add x29, sp, #256",
                "ldr x4, #156",
                "mrs x19, SP_EL0",
                "cbz x19, #132",
                "ldr x3, [x19, #80]",
                "cbnz x3, #124",
                "ldr x28, [x19, #16]",
                "str x19, [x19, #16]",
                "str x19, [x19, #80]",
                "ldr x2, [x4, #32]",
                "ldr x16, [x2]",
                "mov x1, x30",
                "add x3, sp, #1",
                "blr x16",
                "str xzr, [x19, #80]",
                "str x28, [x19, #16]",
                "ldp x30, x1, [sp, #240]",
                "msr NZCV, x1",
            ],
            &["add sp, sp, #272", "ldr x0, [x1]", "b #-65764", "bl #65296", "b #-84"],
        ];
        let [first, middle, last] = parts.map(|part| part.iter().map(ToString::to_string).collect::<Vec<_>>());
        let wanted = [first, stored, middle, loaded, last].concat();
        assert_eq!(text[..wanted.len()], wanted);
        assert_eq!(text[instruction], "ldr x0, [x1]");
        // The literals: where the instruction is, and the point.
        let word = |index: usize| u64::from(words[index]);
        let literal = |load: &str| {
            let at = text.iter().position(|line| line.starts_with(load)).unwrap();
            let distance: usize = text[at].rsplit('#').next().unwrap().parse().unwrap();
            word(at + distance / 4) | (word(at + distance / 4 + 1) << 32)
        };
        assert_eq!(["ldr x0, #", "ldr x4, #"].map(literal), [AT.get(), 0x1234_5678_9abc]);
    }

    #[test]
    fn where_simd_registers_are_used_all_of_them_are_kept() {
        let (text, instruction, _) = text(true, ContextBase { register: BaseRegister::TpidrEl1, offset: 4088 });
        let count = |start: &str| text[..instruction].iter().filter(|line| line.starts_with(start)).count();
        assert_eq!((count("stp q"), count("ldp q"), text[0].as_str()), (16, 16, "sub sp, sp, #800"));
        for line in ["mrs x2, FPSR", "mrs x3, FPCR", "msr FPSR, x2", "msr FPCR, x3", "ldr x28, [x19, #4088]"] {
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
        let parts = Parts { point: 0, miss: TextAddr::new(0x3_0000_0000), base, has_simd: false };
        assert!(detour(&insn(LDR_X0_X1), CODE, &parts).is_err());
    }
}
