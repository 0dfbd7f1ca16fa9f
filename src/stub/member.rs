//! Generated functions that are called by a pointer: members of an ops struct (`trampoline` has what they are for).
//!
//! Unlike a stub, such a function is called as any other: X30 is where it returns, the arguments are where AAPCS64 puts them,
//! and its callers check what stands before it. It ends in a jump to another function of its type, for which everything is as
//! it was for this one; or it answers by itself; or it calls the other one, between two looks at the clock.
//!
//! ```text
//!     UDF #number               which member it is; data, never executed
//!     (filler)
//!     hash, NOP ...             what callers look at, and as many words as they expect before an entry
//!     BTI JC                    the entry, at a multiple of 16 bytes
//!     (condition)               X9, X11, X12 and the flags; where it doesn't hold, on to the jump at the end
//!     (count, record)           X10 to X16, by `counting`
//!     one of: B other           with X0 to X8, X18 to X30, SP and q0 to q7 as they came
//!             MOV X0, ..; RET
//!             PACIASP; STP X29, X30, [SP, #-32]!; MOV X29, SP; ..; BL other; ..; LDP; AUTIASP; RET
//!     B other                   where there is a condition
//! ```
//!
//! The frame, where there is one, is a frame record as AAPCS64 6.4.6 says, with LR signed as the compiler signs it: a hint,
//! which does nothing in a kernel without pointer authentication. Nothing is between the frame and arguments on the stack in the
//! other cases; with it they would be further away, so such members can't be timed.

use super::code::{COUNT_WORDS, Code, Placeholder};
use super::counting::{FramelessPart, RECORD_WORDS, again, load_exclusive, read_modify_write, store_exclusive};
use super::entry::StubEnv;
use super::frame::encoded;
use crate::address::TextAddr;
use crate::insn::{
    AddSub, AdrOffset, ArithShift, AtomicOp, BitPos, BitmaskImm, Cond, DataImm, DataReg, EncodeError, Flags, Hint,
    Insn, Logical, MoveWide, PairAccess, PairMode, Reg, RegOrSp, SysReg, Width,
};
use crate::record::times::CallTimes;
use core::sync::atomic::AtomicU64;

/// Entries, and so unwinding, are found by this: 16 bytes, of which the first instruction is this landing pad.
const ALIGN: u64 = 16;
/// The most words of a condition, of a jump, and of a call that is timed, with its literals.
const CONDITION_WORDS: usize = 7;
const JUMP_WORDS: usize = 5;
const TIME_WORDS: usize = 40;

/// BTI JC, which starts a generated member and nothing else that is generated.
pub(crate) const BTI_JC: u32 = Insn::hint(Hint::BTI_JC).encode();
const MOV_X29_SP: u32 = encoded(Insn::add_imm(RegOrSp::X29, RegOrSp::SP, 0));
const MRS_X9_CNTVCT: u32 = Insn::mrs(Reg::X9, SysReg::CNTVCT_EL0).encode();
const RET: u32 = Insn::Branch(crate::insn::Branch::Ret { rn: Reg::LR }).encode();

/// What stands before the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberHeader {
    /// Which member it is, for who finds the function.
    pub(crate) number: u16,
    /// The hash that callers look for, if they do.
    pub(crate) hash: Option<u32>,
    /// How many words callers expect between the hash and the entry.
    pub(crate) words_between: u32,
}

impl MemberHeader {
    /// How many bytes from the number to the entry.
    pub(crate) fn bytes(words_between: u32) -> u64 {
        (4 + 4 + 4 * u64::from(words_between)).next_multiple_of(ALIGN)
    }

    /// The word that has a number: UDF.
    const fn number_word(number: u16) -> u32 {
        number as u32
    }

    /// The number that a word has.
    pub(crate) fn number_of(word: u32) -> Option<u16> {
        u16::try_from(word).ok()
    }

    fn generate(&self, code: &mut Code) {
        let words = Self::bytes(self.words_between) / 4;
        code.word(Self::number_word(self.number));
        (2 + u64::from(self.words_between)..words).for_each(|_| code.word(0));
        code.word(self.hash.unwrap_or(0));
        (0..self.words_between).for_each(|_| code.insn(Insn::NOP));
    }
}

/// On what it depends whether the function does anything but to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberCondition {
    /// The general register of the argument: 0 to 7.
    pub(crate) register: u8,
    /// How many of its bits are the argument: 8, 16, 32 or 64.
    pub(crate) bits: u8,
    /// On what comparison with the value: EQ, NE, LO or HS.
    pub(crate) cond: Cond,
    pub(crate) value: u64,
}

/// How it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MemberEnd {
    /// In the other function.
    Forward,
    /// With this in X0.
    Return(u64),
    /// After a call of the other function, of which it adds here how long that took.
    Time(&'static CallTimes),
}

/// A generated function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberPlan {
    pub(crate) header: MemberHeader,
    pub(crate) condition: Option<MemberCondition>,
    /// What it counts in.
    pub(crate) count: Option<&'static AtomicU64>,
    /// How many arguments it records, if it does.
    pub(crate) record: Option<u8>,
    pub(crate) end: MemberEnd,
    /// The other function.
    pub(crate) other: Option<TextAddr>,
}

impl MemberPlan {
    /// Returns the most bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let parts = [
            (self.condition.is_some(), CONDITION_WORDS + JUMP_WORDS),
            (self.count.is_some(), COUNT_WORDS),
            // And an ADR.
            (self.record.is_some(), RECORD_WORDS + 1),
            (matches!(self.end, MemberEnd::Time(_)), TIME_WORDS),
            // To the function behind, or of the result's four quarters and RET.
            (!matches!(self.end, MemberEnd::Time(_)), JUMP_WORDS),
        ];
        let words: usize = parts.into_iter().filter_map(|(is_there, words)| is_there.then_some(words)).sum();
        let bytes = MemberHeader::bytes(self.header.words_between) as usize + 4 * (1 + words);
        bytes.next_multiple_of(ALIGN as usize)
    }

    /// Returns where its entry is if it is placed at `at`.
    pub(crate) fn entry(&self, at: TextAddr) -> TextAddr {
        at.offset(MemberHeader::bytes(self.header.words_between) as i64)
    }

    /// Generates it for address `at`, a multiple of 16.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]: something is out of reach from there.
    pub(crate) fn code(&self, code: &mut Code, at: TextAddr, env: &StubEnv) -> Result<(), EncodeError> {
        code.begin(at);
        self.header.generate(code);
        let entry = code.here();
        code.word(BTI_JC);
        let unmet = self.condition.map(|condition| condition.generate(code));
        if let Some(count) = self.count {
            FramelessPart::Count(count).generate(code, env.atomics);
        }
        if let Some((arguments, base)) = self.record.zip(env.cpu) {
            // As from a callsite just behind the entry.
            let offset = AdrOffset::between(code.here().get(), entry.offset(4).get());
            code.try_insn(offset.map(|offset| Insn::DataImm(DataImm::Adr { rd: Reg::X16, offset })));
            FramelessPart::RecordMember { base, arguments }.generate(code, env.atomics);
        }
        let is_met = |code: &mut Code| {
            if let Some((from, cond)) = unmet {
                code.branch_if_here(from, cond);
            }
        };
        match (self.end, self.other) {
            (MemberEnd::Forward, Some(other)) => {
                is_met(code);
                code.jump(other);
            }
            (MemberEnd::Return(value), other) => {
                load(code, Reg::X0, value);
                code.word(RET);
                is_met(code);
                // Where the condition doesn't hold.
                unmet.and(other).into_iter().for_each(|other| code.jump(other));
            }
            (MemberEnd::Time(times), Some(other)) => {
                time(code, times, other, env.atomics);
                is_met(code);
                if unmet.is_some() {
                    code.jump(other);
                }
            }
            // Nobody asks for it: there is nothing to go on in.
            (_, None) => code.insn(Insn::brk(1)),
        }
        code.end()
    }
}

impl MemberCondition {
    /// Compares; the branch that is taken where the condition doesn't hold, and on what.
    fn generate(self, code: &mut Code) -> (Placeholder, Cond) {
        let argument = Reg::x(self.register).unwrap_or(Reg::X0);
        let mask = if self.bits < 64 { (1_u64 << self.bits) - 1 } else { u64::MAX };
        let argument = if mask == u64::MAX {
            argument
        } else {
            // What is above is anything (AAPCS64 6.8.2, "Parameter passing").
            let (op, rd) = (Logical::And, RegOrSp::X11);
            let imm = BitmaskImm::new(Width::X, mask);
            code.try_insn(imm.map(|imm| Insn::DataImm(DataImm::Logical { op, rd, rn: argument, imm })));
            Reg::X11
        };
        load(code, Reg::X12, self.value & mask);
        code.insn(subtract(Flags::Set, Reg::XZR, argument, Reg::X12));
        let unmet = match self.cond {
            Cond::Eq => Cond::Ne,
            Cond::Ne => Cond::Eq,
            Cond::Lo => Cond::Hs,
            _ => Cond::Lo,
        };
        (code.forward(), unmet)
    }
}

/// MOVZ, and MOVK for each further half-word that is not zero.
fn load(code: &mut Code, rd: Reg, value: u64) {
    code.try_insn(Insn::move_wide(MoveWide::Zero, rd, value as u16, 0));
    for shift in [16, 32, 48] {
        let half = (value >> shift) as u16;
        if half != 0 {
            code.try_insn(Insn::move_wide(MoveWide::Keep, rd, half, shift));
        }
    }
}

fn subtract(flags: Flags, rd: Reg, rn: Reg, rm: Reg) -> Insn {
    let (op, shift, amount) = (AddSub::Sub, ArithShift::Lsl, BitPos::zero(Width::X));
    Insn::DataReg(DataReg::AddSub { op, flags, rd, rn, rm, shift, amount })
}

/// Calls the other function, and adds how long that took. X0 to X7 and q0 to q7, which may have results, are left alone.
fn time(code: &mut Code, times: &'static CallTimes, other: TextAddr, atomics: bool) {
    let pair = |access, mode, bytes| Insn::pair(access, Reg::X29, Reg::LR, RegOrSp::SP, mode, bytes);
    code.insn(Insn::hint(Hint::PACIASP));
    code.try_insn(pair(PairAccess::StoreX, PairMode::PreIndex, -32));
    code.word(MOV_X29_SP);
    code.word(MRS_X9_CNTVCT);
    code.try_insn(Insn::str(Reg::X9, RegOrSp::SP, 16));
    let load_other = code.call(other);
    code.word(MRS_X9_CNTVCT);
    code.try_insn(Insn::ldr(Reg::X10, RegOrSp::SP, 16));
    code.insn(subtract(Flags::Kept, Reg::X9, Reg::X9, Reg::X10));
    let load_times = code.forward();
    code.increment(atomics);
    // x10 = the sum's place, and then the longest's; x9 = the time
    code.try_insn(Insn::add_imm(RegOrSp::X10, RegOrSp::X10, 8));
    if atomics {
        code.insn(read_modify_write(AtomicOp::Add, Reg::X9, Reg::XZR, RegOrSp::X10));
        code.try_insn(Insn::add_imm(RegOrSp::X10, RegOrSp::X10, 8));
        code.insn(read_modify_write(AtomicOp::UnsignedMax, Reg::X9, Reg::XZR, RegOrSp::X10));
    } else {
        let (op, flags) = (AddSub::Add, Flags::Kept);
        let (shift, amount) = (ArithShift::Lsl, BitPos::zero(Width::X));
        code.insn(load_exclusive(Reg::X11, RegOrSp::X10));
        code.insn(Insn::DataReg(DataReg::AddSub { op, flags, rd: Reg::X11, rn: Reg::X11, rm: Reg::X9, shift, amount }));
        code.insn(store_exclusive(Reg::X12, Reg::X11, RegOrSp::X10));
        code.try_insn(again(Reg::X12, -3));
        code.try_insn(Insn::add_imm(RegOrSp::X10, RegOrSp::X10, 8));
        code.insn(load_exclusive(Reg::X11, RegOrSp::X10));
        code.insn(subtract(Flags::Set, Reg::XZR, Reg::X11, Reg::X9));
        let is_longer = code.forward();
        code.insn(store_exclusive(Reg::X12, Reg::X9, RegOrSp::X10));
        code.try_insn(again(Reg::X12, -4));
        code.branch_if_here(is_longer, Cond::Hs);
    }
    code.try_insn(pair(PairAccess::LoadX, PairMode::PostIndex, 32));
    code.insn(Insn::hint(Hint::AUTIASP));
    code.word(RET);
    code.align();
    let at = code.here();
    code.load_from(load_times, Reg::X10, at);
    code.literal(core::ptr::from_ref(times).expose_provenance() as u64);
    if let Some(from) = load_other {
        let at = code.here();
        code.load_from(from, Reg::X16, at);
        code.literal(other.get());
    }
}
