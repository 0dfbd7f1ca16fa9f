//! Instructions in the making, with places that are filled in later, and literals behind them.

use super::entry::Stubs;
use super::slice_vec::SliceVec;
use crate::address::TextAddr;
use crate::callsite::veneer;
use crate::insn::{
    AdrOffset, Branch, BranchOffset, Cond, CondOffset, DataImm, EncodeError, Insn, Literal, Memory, Reg, TestOffset,
    UImm, Width, Zero,
};
use crate::ops::{Ops, OpsFlags};
use core::mem::MaybeUninit;

/// The most words of a count, with its literal.
pub(super) const COUNT_WORDS: usize = 9;
/// The most words of a stub without what its members take as counts; the parts' lengths are held to it where they are put
/// together.
pub(super) const REST_WORDS: usize = 149;

/// What the longest stub of so many members is made in. Too large for a kernel's stack.
pub(crate) struct CodeMemory<const OPS: usize> {
    words: Words<OPS>,
    literals: [MaybeUninit<(Placeholder, u64)>; OPS],
}

#[repr(C)]
struct Words<const OPS: usize> {
    counts: [[MaybeUninit<u32>; COUNT_WORDS]; OPS],
    rest: [MaybeUninit<u32>; REST_WORDS],
}

impl<const OPS: usize> CodeMemory<OPS> {
    pub(crate) const UNINIT: Self = Self {
        words: Words { counts: [[MaybeUninit::uninit(); COUNT_WORDS]; OPS], rest: [MaybeUninit::uninit(); REST_WORDS] },
        literals: [MaybeUninit::uninit(); OPS],
    };

    /// Makes code in it: nothing yet.
    pub(crate) const fn code(&'static mut self) -> Code {
        let words = (&raw mut self.words).cast::<MaybeUninit<u32>>();
        // SAFETY: `Words` is words and nothing else, one after the other, and they are borrowed as long as it is.
        let words = unsafe { core::slice::from_raw_parts_mut(words, size_of::<Words<OPS>>() / size_of::<u32>()) };
        Code::new(SliceVec::new(words), SliceVec::new(&mut self.literals))
    }
}

/// A stub's instructions and literals.
///
/// Its methods are not inlined: a generator is a long row of them, and would have the stack of all at once.
pub(crate) struct Code {
    at: TextAddr,
    words: SliceVec<u32>,
    /// Whether something was left out because there was no room for it.
    is_cut: bool,
    /// What could not be encoded first. Kept here, so that not each of the many steps has an error to return.
    failure: Option<EncodeError>,
    /// The parts' literals, which stand at the end, and where they are loaded.
    literals: SliceVec<(Placeholder, u64)>,
}

/// The place of an instruction that is known only when what it leads to has a place.
#[derive(Clone, Copy)]
pub(super) struct Placeholder(usize);

impl Code {
    const fn new(words: SliceVec<u32>, literals: SliceVec<(Placeholder, u64)>) -> Self {
        Self { at: TextAddr::new(0), words, is_cut: false, failure: None, literals }
    }

    /// Nothing, and no place for anything.
    pub(crate) const fn without_memory() -> Self {
        Self::new(SliceVec::new(&mut []), SliceVec::new(&mut []))
    }

    pub(super) fn begin(&mut self, at: TextAddr) {
        self.at = at;
        self.words.clear();
        self.is_cut = false;
        self.failure = None;
        self.literals.clear();
    }

    /// Ends it: places the literals.
    ///
    /// # Errors
    ///
    /// What could not be encoded first.
    pub(crate) fn end(&mut self) -> Result<(), EncodeError> {
        self.place_literals();
        self.failure.map_or(Ok(()), Err)
    }

    /// What a result has; an error is noted.
    #[inline]
    pub(super) fn noting<T>(&mut self, result: Result<T, EncodeError>) -> Option<T> {
        result.map_err(|error| self.fail(error)).ok()
    }

    #[cold]
    #[inline(never)]
    fn fail(&mut self, error: EncodeError) {
        if self.failure.is_none() {
            self.failure = Some(error);
        }
    }

    /// Its words.
    pub(crate) fn words(&self) -> &[u32] {
        &self.words
    }

    /// Returns whether all of it is there, in no more than so many words. It should be: [`CodeMemory`] and
    /// [`StubPlan::bytes`] hold the longest stub.
    pub(crate) fn fits(&self, words: usize) -> bool {
        !self.is_cut && self.words.len() <= words
    }

    /// Notes that something has no place in it.
    pub(super) const fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Returns where the next word will be.
    pub(super) fn here(&self) -> TextAddr {
        self.at.offset(self.words.len() as i64 * 4)
    }

    pub(super) fn word(&mut self, word: u32) {
        if !self.words.push(word) {
            self.is_cut = true;
        }
    }

    #[inline(never)]
    pub(super) fn words_of(&mut self, words: &[u32]) {
        // One by one: a few words are not worth a `memcpy`.
        words.iter().for_each(|word| self.word(*word));
    }

    #[inline(never)]
    pub(super) fn insn(&mut self, insn: Insn) {
        self.word(insn.encode());
    }

    /// An instruction, if it can be encoded.
    #[inline(never)]
    pub(super) fn try_insn(&mut self, insn: Result<Insn, EncodeError>) {
        if let Some(insn) = self.noting(insn) {
            self.insn(insn);
        }
    }

    /// A word, if it could be encoded.
    #[inline(never)]
    pub(super) fn try_word(&mut self, word: Result<u32, EncodeError>) {
        if let Some(word) = self.noting(word) {
            self.word(word);
        }
    }

    #[inline(never)]
    pub(super) fn literal(&mut self, value: u64) {
        self.words_of(&[value as u32, (value >> 32) as u32]);
    }

    /// Fills up to where a literal can stand.
    pub(super) fn align(&mut self) {
        if !self.here().get().is_multiple_of(8) {
            self.word(0);
        }
    }

    /// Leaves a place for an instruction.
    pub(super) fn forward(&mut self) -> Placeholder {
        let place = Placeholder(self.words.len());
        self.word(0);
        place
    }

    pub(super) fn address(&self, place: &Placeholder) -> TextAddr {
        self.at.offset(place.0 as i64 * 4)
    }

    pub(super) fn set(&mut self, place: Placeholder, insn: Insn) {
        if let Some(word) = self.words.get_mut(place.0) {
            *word = insn.encode();
        }
    }

    /// From there to `at`. (Not inlined, so that what has no room for the offset has none for the error.)
    #[inline(never)]
    fn cond_offset(&mut self, from: Placeholder, at: TextAddr) -> Option<CondOffset> {
        let offset = CondOffset::between(self.address(&from).get(), at.get());
        self.noting(offset)
    }

    /// As [`cond_offset`](Self::cond_offset).
    #[inline(never)]
    fn adr_offset(&mut self, from: Placeholder, at: TextAddr) -> Option<AdrOffset> {
        let offset = AdrOffset::between(self.address(&from).get(), at.get());
        self.noting(offset)
    }

    /// CBZ or CBNZ from there to here.
    #[inline(never)]
    pub(super) fn branch_here(&mut self, from: Placeholder, on: Zero, width: Width, rt: Reg) {
        if let Some(offset) = self.cond_offset(from, self.here()) {
            self.set(from, Insn::Branch(Branch::CompareBranch { on, width, rt, offset }));
        }
    }

    /// TBZ or TBNZ from there to here.
    #[inline(never)]
    pub(super) fn test_branch_here(&mut self, from: Placeholder, on: Zero, rt: Reg, bit: u32) {
        let offset = TestOffset::between(self.address(&from).get(), self.here().get());
        let parts = (self.noting(offset), self.noting(UImm::new(bit)));
        if let (Some(offset), Some(bit)) = parts {
            self.set(from, Insn::Branch(Branch::TestBranch { on, rt, bit, offset }));
        }
    }

    /// B.cond from there to here.
    #[inline(never)]
    pub(super) fn branch_if_here(&mut self, from: Placeholder, cond: Cond) {
        if let Some(offset) = self.cond_offset(from, self.here()) {
            self.set(from, Insn::Branch(Branch::BCond { cond, offset }));
        }
    }

    /// B from there to here.
    pub(super) fn jump_here(&mut self, from: Placeholder) {
        let offset = BranchOffset::between(self.address(&from).get(), self.here().get());
        if let Some(offset) = self.noting(offset) {
            self.set(from, Insn::b(offset));
        }
    }

    /// LDR of the literal at `at`.
    #[inline(never)]
    pub(super) fn load_from(&mut self, place: Placeholder, rt: Reg, at: TextAddr) {
        if let Some(offset) = self.cond_offset(place, at) {
            self.set(place, Insn::Memory(Memory::Literal { literal: Literal::LoadX, rt, offset }));
        }
    }

    /// LDR X10 of a number that will stand at the end.
    pub(super) fn load_x10(&mut self, value: u64) {
        let place = self.forward();
        self.is_cut |= !self.literals.push((place, value));
    }

    fn place_literals(&mut self) {
        if !self.literals.is_empty() {
            self.align();
        }
        for number in 0..self.literals.len() {
            let Some((place, value)) = self.literals.get(number).copied() else { return };
            self.load_from(place, Reg::X10, self.here());
            self.literal(value);
        }
    }

    /// B, or by way of X16 where B doesn't reach.
    #[inline(never)]
    pub(super) fn jump(&mut self, target: TextAddr) {
        if let Ok(offset) = BranchOffset::between(self.here().get(), target.get()) {
            self.insn(Insn::b(offset));
        } else {
            self.jump_far(target);
        }
    }

    #[inline(never)]
    fn jump_far(&mut self, target: TextAddr) {
        if let Some(far) = self.noting(veneer::far(target.get())) {
            self.words_of(&far.map(Insn::encode));
        }
    }

    /// A list, and the jump to who walks it.
    #[inline(never)]
    pub(super) fn list(&mut self, callbacks: &[&'static Ops], direct: Option<TextAddr>, stubs: &Stubs) {
        let all_registers = callbacks.iter().any(|ops| ops.flags().contains(OpsFlags::SAVE_REGS));
        let (list, walker) =
            if all_registers { (Reg::X17, stubs.regs_caller.entry) } else { (Reg::X11, stubs.caller.entry) };
        let load_list = self.hand_list_to(walker);
        self.place_list(&[load_list], list, callbacks, direct);
    }

    /// B to the linked code that takes a list, with a place before it for the ADR of that.
    #[inline(never)]
    pub(super) fn hand_list_to(&mut self, linked: TextAddr) -> Placeholder {
        let load_list = self.forward();
        self.try_insn(BranchOffset::between(self.here().get(), linked.get()).map(Insn::b));
        load_list
    }

    /// Places the list whose address these load to `rd`; returns where it is.
    #[inline(never)]
    pub(super) fn place_list(
        &mut self,
        load_list: &[Placeholder],
        rd: Reg,
        callbacks: &[&'static Ops],
        direct: Option<TextAddr>,
    ) -> TextAddr {
        self.align();
        let list = self.here();
        for place in load_list {
            self.load_address(*place, rd, list);
        }
        self.list_words(callbacks, direct);
        list
    }

    /// ADR of `at`.
    #[inline(never)]
    fn load_address(&mut self, place: Placeholder, rd: Reg, at: TextAddr) {
        if let Some(offset) = self.adr_offset(place, at) {
            self.set(place, Insn::DataImm(DataImm::Adr { rd, offset }));
        }
    }

    /// See [`entry`](crate::stub::entry#the-list).
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
