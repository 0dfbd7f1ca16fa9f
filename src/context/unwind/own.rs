//! Where the caller is while a stub runs: the engine's own code, of which no table tells.
//!
//! A callsite comes to an entry stub with two return addresses: x30, where the function goes on, and x9, where the function
//! will return. The stub moves both, and the caller's x29, to the stack and back (see [`regs`](crate::context::regs)), and
//! puts other values into the registers meanwhile. What a compiler's function does with one return address is a row; this is
//! not, and half of it is generated while the kernel runs. So the stub's words are followed here from its start to the
//! instruction in question, with just these values. They are few, and every branch goes forwards but for loops that change none
//! of them.
//!
//! What is lost on the way, or is different on two paths, is unknown, and the walk is not reliable from there on.

use crate::address::{TextAddr, TextRange};
use crate::callsite::BTI_C;
use crate::insn::{Branch, DataRegister, Effects, Flow, Insn, MemoryUse, Place, Reg, RegOrSp};
use arrayvec::ArrayVec;

/// How many branches forwards can be under way at once.
const MAX_PENDING: usize = 12;
/// How many places of the stack are told of.
const MAX_SLOTS: usize = 10;
/// The longest stub that is followed.
const MAX_WORDS: u64 = 4096;
/// What starts a stub of the room: 16 bytes, of which the first instruction is a landing pad.
const ALIGN: u64 = 16;

/// What a register or a place of the stack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing of interest.
    Other,
    /// SP at the callsite, and at the return, and so many bytes.
    Cfa(i32),
    /// The caller's x29.
    CallerFp,
    /// Where the function goes on; of a probe, what x30 held.
    Resume,
    /// Where the function returns.
    Return,
}

impl Held {
    fn plus(self, bytes: i64) -> Self {
        match (self, i32::try_from(bytes)) {
            (_, Ok(0)) => self,
            (Self::Cfa(at), Ok(bytes)) => at.checked_add(bytes).map_or(Self::Other, Self::Cfa),
            _ => Self::Other,
        }
    }
}

/// How a stub is come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contract {
    /// From a callsite: x9 is where the function returns, x30 where it goes on.
    Entry,
    /// By a function's return: where it really returns is on the shadow stack.
    Exit,
    /// From any instruction that has a [probe](crate::kprobe), to go on there, with x29 and x30 as they were.
    Probe(TextAddr),
}

/// What is where before an instruction of a stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StubState {
    pub(super) contract: Contract,
    /// x9, x10, x29, x30, SP.
    registers: [Held; 5],
    slots: [(i32, Held); MAX_SLOTS],
}

/// The registers that are told of.
const REGISTERS: [u8; 5] = [9, 10, 29, 30, 31];
const SP: usize = 4;
const FP: usize = 2;

impl StubState {
    fn at_start(contract: Contract) -> Self {
        let registers = match contract {
            Contract::Entry => [Held::Return, Held::Other, Held::CallerFp, Held::Resume, Held::Cfa(0)],
            Contract::Exit => [Held::Other, Held::Other, Held::CallerFp, Held::Other, Held::Cfa(0)],
            Contract::Probe(_) => [Held::Other, Held::Other, Held::CallerFp, Held::Resume, Held::Cfa(0)],
        };
        Self { contract, registers, slots: [(0, Held::Other); MAX_SLOTS] }
    }

    /// How many bytes SP is below the CFA.
    pub(super) fn depth(&self) -> Option<u64> {
        match self.registers[SP] {
            Held::Cfa(at) => u64::try_from(-i64::from(at)).ok(),
            _ => None,
        }
    }

    /// What x29 holds.
    pub(super) fn fp(&self) -> Held {
        self.registers[FP]
    }

    /// How many bytes below the CFA a value is on the stack.
    pub(super) fn slot(&self, held: Held) -> Option<u64> {
        // The highest, of which the function gets it back; below are copies, for the callback.
        let places = self.slots.iter().filter(|(at, slot)| *slot == held && *at < 0);
        u64::try_from(-i64::from(places.map(|(at, _)| *at).max()?)).ok()
    }

    /// The number of a general register that has a value.
    pub(super) fn register(&self, held: Held) -> Option<usize> {
        let index = self.registers[..SP].iter().position(|register| *register == held)?;
        REGISTERS.get(index).map(|number| usize::from(*number))
    }

    fn get(&self, number: u8) -> Held {
        let index = REGISTERS.iter().position(|register| *register == number);
        index.and_then(|index| self.registers.get(index)).map_or(Held::Other, |held| *held)
    }

    fn set(&mut self, number: u8, held: Held) {
        let index = REGISTERS.iter().position(|register| *register == number);
        if let Some(register) = index.and_then(|index| self.registers.get_mut(index)) {
            *register = held;
        }
        // What lies below SP is anybody's.
        if let Held::Cfa(sp) = self.registers[SP] {
            self.forget(|at| at < sp);
        }
    }

    fn forget(&mut self, is_over: impl Fn(i32) -> bool) {
        for slot in self.slots.iter_mut().filter(|slot| is_over(slot.0)) {
            *slot = (0, Held::Other);
        }
    }

    fn store(&mut self, at: i32, held: Held) {
        let free = self.slots.iter_mut().find(|slot| slot.1 == Held::Other);
        // One that finds no room is not told of, and so not trusted.
        if let (Some(slot), true) = (free, held != Held::Other) {
            *slot = (at, held);
        }
    }

    fn load(&self, at: i32) -> Held {
        self.slots.iter().find(|slot| slot.0 == at).map_or(Held::Other, |slot| slot.1)
    }

    /// What both say.
    fn join(self, other: &Self) -> Self {
        let mut joined = self;
        for (held, other) in joined.registers.iter_mut().zip(&other.registers) {
            if held != other {
                *held = Held::Other;
            }
        }
        for slot in joined.slots.iter_mut().filter(|slot| !other.slots.contains(slot)) {
            *slot = (0, Held::Other);
        }
        joined
    }

    /// Carries it over an instruction.
    fn step(&mut self, effects: &Effects) {
        let loaded = self.access(effects);
        let sum = effects.sum.map(|sum| (sum.to.number(), self.get(sum.from.number()).plus(sum.bytes)));
        let mut written = effects.writes.bits();
        while written != 0 {
            let number = written.trailing_zeros() as u8;
            written &= written - 1;
            let is_it = |(to, _): &(u8, Held)| *to == number;
            let held = sum.into_iter().chain(loaded.into_iter().flatten()).find(is_it);
            self.set(number, held.map_or(Held::Other, |(_, held)| held));
        }
        if matches!(effects.flow, Flow::Call(_) | Flow::IndirectCall(_)) {
            [9, 10, 30].into_iter().for_each(|number| self.set(number, Held::Other));
        }
    }

    /// Stores to the stack; what is loaded, and to where.
    fn access(&mut self, effects: &Effects) -> [Option<(u8, Held)>; 2] {
        let mut loaded = [None; 2];
        let (Place::Beside(base, bytes), Some(moved)) = (effects.place, effects.moved) else { return loaded };
        let registers = moved.registers().filter_map(|(reg, distance)| match reg {
            DataRegister::General(reg) => Some((reg, distance)),
            DataRegister::Vector(_) => None,
        });
        let number = |reg: Reg| reg.or_sp().map_or(REGISTERS.len() as u8, RegOrSp::number);
        let Held::Cfa(at) = self.get(base.number()).plus(bytes) else {
            // The shadow stack's top, from which the return stub takes where the function returns, to x9.
            let is_top = self.contract == Contract::Exit && base == RegOrSp::X11 && bytes < 0;
            if is_top && matches!(effects.memory, MemoryUse::Load(_)) {
                loaded[0] = Some((9, Held::Return));
            }
            return loaded;
        };
        match effects.memory {
            MemoryUse::Load(_) if moved.bytes == 8 => {
                for (place, (reg, distance)) in loaded.iter_mut().zip(registers) {
                    *place = Some((number(reg), self.load(at.saturating_add(distance as i32))));
                }
            }
            MemoryUse::Store(bytes) => {
                let end = at.saturating_add_unsigned(bytes);
                self.forget(|slot| at - 8 < slot && slot < end);
                for (reg, distance) in registers.filter(|_| moved.bytes == 8) {
                    self.store(at.saturating_add(distance as i32), self.get(number(reg)));
                }
            }
            _ => {}
        }
        loaded
    }
}

/// Where the engine's own code is.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnText {
    /// The assembly, and where it begins to be what a callsite comes to, and what a return.
    pub(super) assembly: [TextRange; 2],
    pub(super) entries: [TextAddr; 2],
    pub(super) exit: TextAddr,
    /// The room for generated stubs.
    pub(super) room: TextRange,
}

impl OwnText {
    /// None.
    #[cfg(not(target_os = "none"))]
    pub(super) const NONE: Self = Self {
        assembly: [TextRange::EMPTY; 2],
        entries: [TextAddr::new(0); 2],
        exit: TextAddr::new(8),
        room: TextRange::EMPTY,
    };

    /// That of this kernel.
    #[cfg(target_os = "none")]
    pub(super) fn linked() -> Self {
        unsafe extern "C" {
            fn ftrace_caller();
            fn ftrace_regs_caller();
            static fentry_stub_text_start: u32;
            static fentry_stub_text_stop: u32;
            static fentry_return: u32;
            static fentry_return_stop: u32;
            static __fentry_stubs_start: u32;
            static __fentry_stubs_stop: u32;
        }
        let code = |stub: unsafe extern "C" fn()| TextAddr::new((stub as *const ()).addr() as u64);
        let word = |label: *const u32| TextAddr::new(label.addr() as u64);
        let range = |start, stop| TextRange::new(word(start), word(stop));
        Self {
            assembly: [
                range(&raw const fentry_stub_text_start, &raw const fentry_stub_text_stop),
                range(&raw const fentry_return, &raw const fentry_return_stop),
            ],
            entries: [code(ftrace_caller), code(ftrace_regs_caller)],
            exit: word(&raw const fentry_return),
            room: range(&raw const __fentry_stubs_start, &raw const __fentry_stubs_stop),
        }
    }

    /// That of this kernel.
    #[cfg(not(target_os = "none"))]
    pub(super) const fn linked() -> Self {
        Self::NONE
    }

    pub(super) fn contains(&self, at: TextAddr) -> bool {
        self.room.contains(at) || self.assembly.iter().any(|range| range.contains(at))
    }

    /// What is where before the instruction at `pc`, of text that `word` reads; `None` where that can't be told.
    pub(super) fn state(&self, pc: TextAddr, word: impl Fn(TextAddr) -> u32) -> Option<StubState> {
        if let Some(range) = self.assembly.iter().find(|range| range.contains(pc)) {
            let starts = |at| match at {
                at if self.entries.contains(&at) => Some(Contract::Entry),
                at if at == self.exit => Some(Contract::Exit),
                _ => None,
            };
            return follow(range.start, pc, starts, word);
        }
        // The stub's start: the landing pad at the beginning of a block.
        let mut start = TextAddr::new(pc.get() & !(ALIGN - 1));
        while self.room.contains(start) && pc.get() - start.get() < 4 * MAX_WORDS {
            if word(start) == BTI_C {
                return follow(start, pc, |at| (at == start).then_some(Contract::Entry), word);
            }
            if let Some(probed) = probed_at(start, &word) {
                return probe_state(start, probed, pc, word);
            }
            start = start.offset(-(ALIGN as i64));
        }
        None
    }

    /// What is where before the instruction at `pc` of a direct trampoline, which its user has written; `None` where that can't be
    /// told. What it is made of is not known, so it is followed only where no branch goes back.
    pub(super) fn trampoline_state(
        trampoline: TextRange,
        pc: TextAddr,
        word: impl Fn(TextAddr) -> u32,
    ) -> Option<StubState> {
        // A table may tell of a long function in parts. Only its entry is a landing pad for calls.
        if trampoline.len() < 4 || word(trampoline.start) != BTI_C {
            return None;
        }
        let words = trampoline.len() / 4;
        let goes_back = |index: u64| {
            let flow = Insn::decode(word(trampoline.start.offset(4 * index as i64))).effects().flow;
            matches!(flow, Flow::Jump(bytes) | Flow::CondJump(bytes) if bytes <= 0)
        };
        if words > MAX_WORDS || (0..words).any(goes_back) {
            return None;
        }
        follow(trampoline.start, pc, |at| (at == trampoline.start).then_some(Contract::Entry), word)
    }
}

/// The probed instruction whose code begins here, if it does: the instruction and BRK, the instruction and B behind where it
/// was, and then a detour.
fn probed_at(start: TextAddr, word: impl Fn(TextAddr) -> u32) -> Option<TextAddr> {
    let [first, after, second, back] = [0, 4, 8, 12].map(|bytes| word(start.offset(bytes)));
    let Insn::Branch(Branch::B { offset }) = Insn::decode(back) else { return None };
    let is_after = after & PROBE_BRK_MASK == PROBE_BRK;
    (is_after && first == second).then(|| TextAddr::new(offset.target(start.offset(12).get())).offset(-4))
}

/// BRK with a comment of 0x7000 to 0x7fff.
const PROBE_BRK: u32 = 0xd420_0000 | 0x7000 << 5;
const PROBE_BRK_MASK: u32 = 0xffe0_001f | 0xf000 << 5;

/// What is where before the instruction at `pc` of a probe's code.
fn probe_state(start: TextAddr, probed: TextAddr, pc: TextAddr, word: impl Fn(TextAddr) -> u32) -> Option<StubState> {
    let behind = Contract::Probe(probed.offset(4));
    let detour = start.offset(16);
    if pc < detour {
        let is_behind = pc.get() & 4 != 0;
        return Some(StubState::at_start(if is_behind { behind } else { Contract::Probe(probed) }));
    }
    // The instruction has changed whatever it changes, when B is next.
    let goes_back = |at: TextAddr| match Insn::decode(word(at)) {
        Insn::Branch(Branch::B { offset }) => offset.target(at.get()) == probed.offset(4).get(),
        _ => false,
    };
    if goes_back(pc) {
        return Some(StubState::at_start(behind));
    }
    follow(detour, pc, |at| (at == detour).then_some(Contract::Probe(probed)), word)
}

/// Follows the words from `start` to `pc`.
fn follow(
    start: TextAddr,
    pc: TextAddr,
    starts: impl Fn(TextAddr) -> Option<Contract>,
    word: impl Fn(TextAddr) -> u32,
) -> Option<StubState> {
    if !pc.is_aligned() || pc.get().wrapping_sub(start.get()) >= 4 * MAX_WORDS {
        return None;
    }
    let mut pending: ArrayVec<(TextAddr, StubState), MAX_PENDING> = ArrayVec::new();
    let mut state: Option<StubState> = None;
    let mut at = start;
    loop {
        state = starts(at).map(StubState::at_start).or(state);
        pending.retain(|(target, from)| {
            let is_here = *target == at;
            if is_here {
                state = Some(state.map_or(*from, |state| state.join(from)));
            }
            !is_here
        });
        if at == pc {
            return state;
        }
        if let Some(here) = &mut state {
            let effects = Insn::decode(word(at)).effects();
            here.step(&effects);
            if let Flow::Jump(bytes) | Flow::CondJump(bytes) = effects.flow {
                let target = at.offset(bytes);
                match pending.iter_mut().find(|(known, _)| *known == target) {
                    Some((_, known)) => *known = known.join(here),
                    // One that is forgotten makes what it leads to unknown.
                    None if target > at => drop(pending.try_push((target, *here))),
                    None => {}
                }
            }
            let goes_on =
                matches!(effects.flow, Flow::Next | Flow::CondJump(_) | Flow::Call(_) | Flow::IndirectCall(_));
            if !goes_on {
                state = None;
            }
        }
        at = at.offset(4);
    }
}

#[cfg(test)]
mod tests;
