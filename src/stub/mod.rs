//! Code made at run time: for each set of ops that a callsite can have, the stub that does just what that set asks for.
//!
//! Floor 3. What a callsite calls follows from the ops on it alone, so callsites with the same ops share a stub, and a
//! callsite never pays for an ops of another one. [`Recipe::code`] makes the instructions. First come those of the set's
//! counters and recorders, which need no frame ([`frameless`]), and then
//!
//! | the rest of the set | the rest of the stub |
//! |---|---|
//! | nothing | a return to the function |
//! | one callback for [`FtraceRegs`](crate::FtraceRegs) | saves, calls that callback, restores: no list, no load of a pointer |
//! | one return hook | the same, and puts the return address on the shadow stack; without a handler at the entry it saves nothing |
//! | several of these, or all registers | a list of them, and a jump to [`entry`](crate::entry)'s assembly |
//! | a direct trampoline | a jump; where it is all of the set, for callsites whose BL doesn't reach the trampoline itself |
//!
//! A stub begins with BTI C for the veneers of regions out of BL's reach; a BL goes to the instruction behind it. All of
//! them find the guard as the assembly does, end as it does, and leave the same picture on the stack.

mod frameless;
mod one;
mod pieces;
mod returning;
mod room;
#[cfg(test)]
mod tests;

pub(crate) use frameless::Part;
pub(crate) use room::{Block, Room};

use crate::address::TextAddr;
use crate::callsite::BTI_C;
use crate::entry::Stubs;
use crate::insn::seq::plt;
use crate::insn::{
    AdrOffset, Branch, BranchOffset, Cond, CondOffset, DataImm, EncodeError, Insn, Literal, Memory, Reg, TestOffset,
    UImm, Width, Zero,
};
use crate::ops::{Action, Ops, OpsFlags};
use crate::platform::ContextBase;
use arrayvec::ArrayVec;

/// The most ops that a set can have.
pub(crate) const MAX_MEMBERS: usize = 128;

/// The most words of a stub: a member takes the most as a count.
const MAX_WORDS: usize =
    MAX_MEMBERS * frameless::COUNT_WORDS + frameless::RECORD_WORDS + returning::MAX_BYTES / 4 + TAIL_WORDS;

/// The most words besides the parts and a list's ops: BTI C, a jump, the alignment of literals twice, a list's other three.
const TAIL_WORDS: usize = 1 + 4 + 2 + 2 * 3;

/// The bytes between a stub's start and where a BL goes: BTI C.
pub(crate) const LANDING_PAD_BYTES: i64 = 4;

/// From here a function goes on as if its callsite were disabled.
const RETURN_TO_FUNCTION: [Insn; 3] =
    [Insn::mov(Reg::X10, Reg::X30), Insn::mov(Reg::X30, Reg::X9), Insn::Branch(Branch::Ret { rn: Reg::X10 })];

/// What is the same for all stubs of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground {
    pub(crate) stubs: Stubs,
    /// Where the thread's context is.
    pub(crate) context: ContextBase,
    /// Where the CPU's area is, if the platform has one.
    pub(crate) cpu: Option<ContextBase>,
    /// Whether the CPUs have atomic additions.
    pub(crate) atomics: bool,
}

/// What a stub shall do.
pub(crate) struct Recipe<'a> {
    /// What comes first.
    pub(crate) parts: &'a [Part],
    /// The callbacks, in the order in which they are called.
    pub(crate) callbacks: &'a [&'static Ops],
    /// Where it goes on instead of in the function.
    pub(crate) direct: Option<TextAddr>,
}

/// A stub's instructions and literals. Too large for a kernel's stack.
pub(crate) struct Code {
    at: TextAddr,
    words: ArrayVec<u32, MAX_WORDS>,
    /// Whether something was left out because there was no room for it.
    is_cut: bool,
    /// The parts' literals, which stand at the end, and where they are loaded.
    literals: ArrayVec<(Forward, u64), MAX_MEMBERS>,
}

/// The place of an instruction that is known only when what it leads to has a place.
#[derive(Clone, Copy)]
struct Forward(usize);

impl Recipe<'_> {
    /// How many bytes the stub takes at most.
    pub(crate) fn bytes(&self) -> usize {
        let is_live = |ops: &Ops| !ops.flags().contains(OpsFlags::SAVE_REGS);
        let rest = match (self.callbacks, self.direct) {
            ([only], None) if is_live(only) && matches!(only.action(), Action::Return) => returning::MAX_BYTES + 4,
            ([only], None) if is_live(only) => one::MAX_BYTES + 4,
            (callbacks, _) => (TAIL_WORDS + 2 * callbacks.len()) * 4,
        };
        rest + self.parts.iter().map(Part::words).sum::<usize>() * 4
    }

    /// Makes the stub for address `at`.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]: something is out of reach from there.
    pub(crate) fn code(&self, code: &mut Code, at: TextAddr, ground: &Ground) -> Result<(), EncodeError> {
        code.begin(at);
        code.word(BTI_C);
        self.parts.iter().try_for_each(|part| part.generate(code, ground.atomics))?;
        match (self.callbacks, self.direct) {
            ([], Some(trampoline)) => code.jump(trampoline)?,
            ([], None) => code.words_of(&RETURN_TO_FUNCTION.map(Insn::encode)),
            ([only], None) if only.flags().contains(OpsFlags::SAVE_REGS) => code.list(&[only], None, &ground.stubs)?,
            ([only], None) if matches!(only.action(), Action::Return) => returning::generate(code, only, ground)?,
            ([only], None) => one::generate(code, only, ground)?,
            (callbacks, direct) => code.list(callbacks, direct, &ground.stubs)?,
        }
        code.place_literals()
    }
}

impl Code {
    /// Nothing yet.
    pub(crate) const EMPTY: Self =
        Self { at: TextAddr::new(0), words: ArrayVec::new_const(), is_cut: false, literals: ArrayVec::new_const() };

    fn begin(&mut self, at: TextAddr) {
        self.at = at;
        self.words.clear();
        self.is_cut = false;
        self.literals.clear();
    }

    /// Its words.
    pub(crate) fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether all of it is there, in no more than so many words. It should be: `MAX_WORDS` and [`Recipe::bytes`] hold the
    /// longest stub.
    pub(crate) fn fits(&self, words: usize) -> bool {
        !self.is_cut && self.words.len() <= words
    }

    /// Where the next word will be.
    fn here(&self) -> TextAddr {
        self.at.offset(self.words.len() as i64 * 4)
    }

    fn word(&mut self, word: u32) {
        if self.words.try_push(word).is_err() {
            self.is_cut = true;
        }
    }

    fn words_of(&mut self, words: &[u32]) {
        if self.words.try_extend_from_slice(words).is_err() {
            self.is_cut = true;
        }
    }

    fn insn(&mut self, insn: Insn) {
        self.word(insn.encode());
    }

    fn literal(&mut self, value: u64) {
        self.words_of(&[value as u32, (value >> 32) as u32]);
    }

    /// Fills up to where a literal can stand.
    fn align(&mut self) {
        if !self.here().get().is_multiple_of(8) {
            self.word(0);
        }
    }

    /// Leaves a place for an instruction.
    fn forward(&mut self) -> Forward {
        let place = Forward(self.words.len());
        self.word(0);
        place
    }

    fn address(&self, place: &Forward) -> TextAddr {
        self.at.offset(place.0 as i64 * 4)
    }

    fn set(&mut self, place: Forward, insn: Insn) {
        if let Some(word) = self.words.get_mut(place.0) {
            *word = insn.encode();
        }
    }

    /// CBZ or CBNZ from there to here.
    fn branch_here(&mut self, from: Forward, on: Zero, width: Width, rt: Reg) -> Result<(), EncodeError> {
        let offset = CondOffset::between(self.address(&from).get(), self.here().get())?;
        self.set(from, Insn::Branch(Branch::CompareBranch { on, width, rt, offset }));
        Ok(())
    }

    /// TBZ or TBNZ from there to here.
    fn test_branch_here(&mut self, from: Forward, on: Zero, rt: Reg, bit: u32) -> Result<(), EncodeError> {
        let offset = TestOffset::between(self.address(&from).get(), self.here().get())?;
        self.set(from, Insn::Branch(Branch::TestBranch { on, rt, bit: UImm::new(bit)?, offset }));
        Ok(())
    }

    /// B.cond from there to here.
    fn branch_if_here(&mut self, from: Forward, cond: Cond) -> Result<(), EncodeError> {
        let offset = CondOffset::between(self.address(&from).get(), self.here().get())?;
        self.set(from, Insn::Branch(Branch::BCond { cond, offset }));
        Ok(())
    }

    /// LDR of the literal at `at`.
    fn load_from(&mut self, place: Forward, rt: Reg, at: TextAddr) -> Result<(), EncodeError> {
        let offset = CondOffset::between(self.address(&place).get(), at.get())?;
        self.set(place, Insn::Memory(Memory::Literal { literal: Literal::LoadX, rt, offset }));
        Ok(())
    }

    /// LDR X10 of a number that will stand at the end.
    fn load_x10(&mut self, value: u64) {
        let place = self.forward();
        self.is_cut |= self.literals.try_push((place, value)).is_err();
    }

    fn place_literals(&mut self) -> Result<(), EncodeError> {
        if !self.literals.is_empty() {
            self.align();
        }
        for number in 0..self.literals.len() {
            let (place, value) = self.literals[number];
            self.load_from(place, Reg::X10, self.here())?;
            self.literal(value);
        }
        Ok(())
    }

    /// B, or by way of X16 where B doesn't reach.
    fn jump(&mut self, target: TextAddr) -> Result<(), EncodeError> {
        if let Ok(offset) = BranchOffset::between(self.here().get(), target.get()) {
            self.insn(Insn::b(offset));
            return Ok(());
        }
        self.words_of(&plt::far(target.get())?.map(Insn::encode));
        Ok(())
    }

    /// A list, and the jump to who walks it.
    fn list(&mut self, callbacks: &[&'static Ops], direct: Option<TextAddr>, stubs: &Stubs) -> Result<(), EncodeError> {
        let all_registers = callbacks.iter().any(|ops| ops.flags().contains(OpsFlags::SAVE_REGS));
        let (list, walker) =
            if all_registers { (Reg::X17, stubs.regs_caller.entry) } else { (Reg::X11, stubs.caller.entry) };
        let load_list = self.forward();
        self.insn(Insn::b(BranchOffset::between(self.here().get(), walker.get())?));
        self.align();
        let offset = AdrOffset::between(self.address(&load_list).get(), self.here().get())?;
        self.set(load_list, Insn::DataImm(DataImm::Adr { rd: list, offset }));
        self.list_words(callbacks, direct);
        Ok(())
    }

    /// See [`entry`](crate::entry#the-list).
    fn list_words(&mut self, callbacks: &[&'static Ops], direct: Option<TextAddr>) {
        let safe = callbacks.iter().any(|ops| ops.flags().contains(OpsFlags::RECURSION_SAFE));
        self.literal(u64::from(safe));
        for ops in callbacks {
            self.literal(core::ptr::from_ref(*ops).expose_provenance() as u64);
        }
        self.literal(0);
        self.literal(direct.map_or(0, TextAddr::get));
    }
}
