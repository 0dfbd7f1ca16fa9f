//! A model of writers and a reader: the instructions that are really generated, run against the reader that is really used.
//!
//! Memory keeps every value that a word ever had, and each with what its writer had made sure
//! to be seen before it (its *view*). A reader may find any value that is not older than its own view says: so it runs,
//! at once, against every moment and every delay of the stores that the barriers leave open. What an acquire, a release
//! and a DMB do to views is theirs in the Arm ARM (B2.3.3, "Ordering relations"):
//!
//! ```text
//!   store            its view: what the writer's last DMB ISHST was behind
//!   STLR             its view: all that the writer has written or read
//!   exclusive pair   as a store, and with the view of what it has read
//!   load             may find what is not older than the reader's view
//!   load, acquire    the same, and the found value's view becomes part of the reader's
//! ```
//!
//! Writers are CPUs, or an interrupt on top of a writer, or a task that was moved: each stops after any instruction while
//! others go on. The ring has one slot, so that all of them want it.
//!
//! Left out: stores that reach memory in another order than that of the program, in the eyes of other writers (their order
//! is settled by the slot's sequence number, see the module's page); more than two changes from one writer to another.

extern crate std;

use crate::address::TextAddr;
use crate::fakes::FakeText;
use crate::insn::{Address, Atomic, AtomicOp, Branch, DataImm, DataReg, Insn, Memory, RegOrSp, System, Zero};
use crate::platform::{BaseRegister, ContextBase};
use crate::record::CpuArea;
use crate::record::flight::{BUSY, FlightRecord, NEVER, Shared, WORDS, read};
use crate::stub::{FramelessPart, StubEnv, StubPlan};
use core::cell::RefCell;
use core::sync::atomic::Ordering;
use std::collections::BTreeSet;
use std::vec::Vec;

/// The words of memory: the ring's next index, and the slot.
const NEXT: usize = 0;
const SEQ: usize = 1;
const PLACES: usize = 2 + WORDS;

/// Where the writers find them.
const BASE: u64 = 0x1_0000;
const SLOT: u64 = 0x2_0000;

/// For each word, the number of the value that is the oldest to be seen.
type View = [usize; PLACES];

fn joined(a: View, b: View) -> View {
    core::array::from_fn(|place| a[place].max(b[place]))
}

#[derive(Clone)]
struct Words {
    history: [Vec<(u64, View)>; PLACES],
}

impl Words {
    fn new() -> Self {
        let mut history = [const { Vec::new() }; PLACES];
        for (place, values) in history.iter_mut().enumerate() {
            values.push((if place == SEQ { NEVER } else { 0 }, [0; PLACES]));
        }
        Self { history }
    }

    fn last(&self, place: usize) -> (u64, View) {
        *self.history[place].last().unwrap()
    }

    fn push(&mut self, place: usize, value: u64, mut view: View) -> View {
        view[place] = self.history[place].len();
        self.history[place].push((value, view));
        view
    }
}

/// One run of the stub.
#[derive(Clone)]
struct Writer<'a> {
    code: &'a [u32],
    pc: usize,
    x: [u64; 32],
    /// All that it has written, with what came with that.
    wrote: View,
    /// All that it has read.
    saw: View,
    /// What a DMB ISHST has put before all that it writes.
    barrier: View,
    /// The word that it has read exclusively, and which of its values.
    exclusive: Option<(usize, usize)>,
}

impl<'a> Writer<'a> {
    fn new(code: &'a [u32], number: u64) -> Self {
        let mut x = [0; 32];
        for (place, value) in fields(number).into_iter().enumerate() {
            match place {
                0 => x[30] = value,
                1 => x[9] = value,
                2 => x[18] = value,
                argument => x[argument - 3] = value,
            }
        }
        let nothing = [0; PLACES];
        Self { code, pc: 0, x, wrote: nothing, saw: nothing, barrier: nothing, exclusive: None }
    }

    fn is_done(&self) -> bool {
        self.pc == self.code.len()
    }

    fn run(&mut self, memory: &mut Words, steps: usize) {
        for _ in 0..steps {
            if !self.is_done() {
                self.step(memory);
            }
        }
    }

    fn get(&self, number: u8) -> u64 {
        if number == 31 { 0 } else { self.x[usize::from(number)] }
    }

    fn set(&mut self, number: u8, value: u64) {
        if number != 31 {
            self.x[usize::from(number)] = value;
        }
    }

    fn place(&self, rn: RegOrSp, offset: u64) -> usize {
        let address = self.get(rn.number()) + offset;
        if address == BASE + u64::from(CpuArea::RING) { NEXT } else { SEQ + (address - SLOT) as usize / 8 }
    }

    fn store(&mut self, memory: &mut Words, place: usize, value: u64, view: View) {
        let view = memory.push(place, value, view);
        self.wrote = joined(self.wrote, view);
    }

    /// Reads the last value, as an atomic access does.
    fn load_last(&mut self, memory: &Words, place: usize) -> (u64, View) {
        self.saw[place] = memory.history[place].len() - 1;
        memory.last(place)
    }

    fn step(&mut self, memory: &mut Words) {
        let insn = Insn::decode(self.code[self.pc]);
        let mut next = self.pc + 1;
        match insn {
            Insn::System(System::Mrs { rt, reg }) => {
                let clock = crate::insn::SysReg::CNTVCT_EL0 == reg;
                self.set(rt.number(), if clock { self.x[18] } else { BASE });
            }
            Insn::System(System::Barrier { .. }) => self.barrier = joined(self.barrier, self.wrote),
            Insn::System(System::Hint(_)) => {}
            Insn::Branch(Branch::CompareBranch { on, rt, offset, .. }) => {
                if (self.get(rt.number()) == 0) == (on == Zero::Zero) {
                    next = self.pc.wrapping_add_signed(offset.bytes() as isize / 4);
                }
            }
            Insn::DataImm(DataImm::AddSub { rd, rn, imm, .. }) => {
                self.set(rd.number(), self.get(rn.number()) + u64::from(imm.value()));
            }
            Insn::DataImm(DataImm::MoveWide { rd, imm, .. }) => self.set(rd.number(), imm.get().into()),
            Insn::DataReg(DataReg::Logical { rd, rn, rm, .. }) => {
                self.set(rd.number(), self.get(rn.number()) & self.get(rm.number()));
            }
            Insn::DataReg(DataReg::AddSub { rd, rn, rm, amount, .. }) => {
                self.set(rd.number(), self.get(rn.number()) + (self.get(rm.number()) << amount.get()));
            }
            // The ring's slots and mask.
            Insn::Memory(Memory::Pair { access, rt, rt2, rn, offset, .. }) if access.is_load() => {
                assert_eq!(self.get(rn.number()) + offset.get() as u64 * 8, BASE + u64::from(CpuArea::RING) + 8);
                self.set(rt.number(), SLOT);
                self.set(rt2.number(), 0);
            }
            Insn::Memory(Memory::Pair { rt, rt2, rn, offset, .. }) => {
                let place = self.place(rn, offset.get() as u64 * 8);
                for (place, rt) in [(place, rt), (place + 1, rt2)] {
                    self.store(memory, place, self.get(rt.number()), self.barrier);
                }
            }
            Insn::Memory(Memory::Single { rt, rn, address: Address::Unsigned(units), .. }) => {
                let place = self.place(rn, u64::from(units.get()) * 8);
                self.store(memory, place, self.get(rt.number()), self.barrier);
            }
            Insn::Atomic(Atomic::LoadExclusive { rt, rn, .. }) => {
                let place = self.place(rn, 0);
                let (value, _) = self.load_last(memory, place);
                self.exclusive = Some((place, self.saw[place]));
                self.set(rt.number(), value);
            }
            Insn::Atomic(Atomic::StoreExclusive { rs, rt, rn, .. }) => {
                let place = self.place(rn, 0);
                let (_, view) = memory.last(place);
                let succeeds = self.exclusive.take() == Some((place, memory.history[place].len() - 1));
                if succeeds {
                    self.store(memory, place, self.get(rt.number()), joined(self.barrier, view));
                }
                self.set(rs.number(), u64::from(!succeeds));
            }
            Insn::Atomic(Atomic::ReadModifyWrite { op, rs, rt, rn, .. }) => {
                let place = self.place(rn, 0);
                let (value, view) = self.load_last(memory, place);
                let operand = self.get(rs.number());
                let new = if op == AtomicOp::Add { value + operand } else { operand };
                self.store(memory, place, new, joined(self.barrier, view));
                self.set(rt.number(), value);
            }
            Insn::Atomic(Atomic::Ordered { rt, rn, .. }) => {
                let view = joined(self.wrote, self.saw);
                self.store(memory, self.place(rn, 0), self.get(rt.number()), view);
            }
            other => panic!("the model doesn't know `{other}`"),
        }
        self.pc = next;
    }
}

/// What a writer records: each field tells whose it is.
fn fields(number: u64) -> [u64; WORDS] {
    core::array::from_fn(|place| 1000 * (number + 1) + 8 * place as u64)
}

/// What may be found where several values may.
#[derive(Default)]
struct Choices {
    /// What was chosen, and out of how many.
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, options: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, options));
        }
        self.at += 1;
        self.taken[self.at - 1].0
    }

    /// Whether there is another way to choose, which is then the one that is taken.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, options)) = self.taken.pop() {
            if chosen + 1 < options {
                self.taken.push((chosen + 1, options));
                return true;
            }
        }
        false
    }
}

/// The word, of those that the reader loads, whose acquire is left out; 0 is the sequence number.
type Flaw = Option<usize>;

struct Reader<'a> {
    memory: &'a Words,
    flaw: Flaw,
    state: RefCell<(View, Choices)>,
}

impl Shared for Reader<'_> {
    fn load(&self, word: usize, order: Ordering) -> u64 {
        let place = SEQ + word;
        let (view, choices) = &mut *self.state.borrow_mut();
        let history = &self.memory.history[place];
        let number = view[place] + choices.choose(history.len() - view[place]);
        let (value, brought) = history[number];
        view[place] = number;
        match order {
            Ordering::Relaxed => {}
            Ordering::Acquire if self.flaw == Some(word) => {}
            Ordering::Acquire => *view = joined(*view, brought),
            other => panic!("no load has the order {other:?}"),
        }
        value
    }
}

/// Every record of this index that a reader can find.
fn found(memory: &Words, flaw: Flaw, index: u64, mut each: impl FnMut(Option<FlightRecord>)) {
    let reader = Reader { memory, flaw, state: RefCell::default() };
    loop {
        reader.state.borrow_mut().0 = [0; PLACES];
        each(read(&reader, index));
        if !reader.state.borrow_mut().1.advance() {
            return;
        }
    }
}

/// What came of all orders.
#[derive(Default)]
struct Outcome {
    /// Records of which a part is another one's.
    torn: usize,
    whole: usize,
    /// How many records were published, in each order.
    published: BTreeSet<usize>,
}

impl Outcome {
    fn look(&mut self, memory: &Words, writers: &[Writer<'_>], flaw: Flaw) {
        assert!(writers.iter().all(Writer::is_done));
        assert_eq!(memory.last(NEXT).0, writers.len() as u64, "each has claimed an index");
        assert!(memory.last(SEQ).0 != BUSY, "nobody is at the slot any more");
        let seqs = memory.history[SEQ].iter().filter(|(seq, _)| ![BUSY, NEVER].contains(seq));
        self.published.insert(seqs.count());
        for (number, writer) in (0..).zip(writers) {
            let index = writer.x[11];
            let expected = fields(number);
            found(memory, flaw, index, |record| {
                let Some(FlightRecord { ip, parent_ip, time, arguments: [a, b, c, d], .. }) = record else { return };
                let is_whole = [ip.offset(4).get(), parent_ip.get(), time, a, b, c, d] == expected;
                *if is_whole { &mut self.whole } else { &mut self.torn } += 1;
            });
        }
    }
}

/// Two writers, with up to two changes from one to the other.
fn two(code: &[u32], flaw: Flaw) -> Outcome {
    let mut outcome = Outcome::default();
    // LL/SC may go round again.
    let enough = 3 * code.len();
    for first in 0..=code.len() {
        for second in 0..=code.len() {
            let mut memory = Words::new();
            let mut writers = [Writer::new(code, 0), Writer::new(code, 1)];
            for (number, steps) in [(0, first), (1, second), (0, enough), (1, enough)] {
                writers[number].run(&mut memory, steps);
            }
            outcome.look(&memory, &writers, flaw);
        }
    }
    outcome
}

/// A writer that is interrupted by a second one, and that by a third one.
fn nested(code: &[u32]) -> Outcome {
    let mut outcome = Outcome::default();
    let enough = 3 * code.len();
    for first in 0..=code.len() {
        for second in 0..=code.len() {
            let mut memory = Words::new();
            let mut writers = [0, 1, 2].map(|number| Writer::new(code, number));
            for (number, steps) in [(0, first), (1, second), (2, enough), (1, enough), (0, enough)] {
                writers[number].run(&mut memory, steps);
            }
            outcome.look(&memory, &writers, None);
        }
    }
    outcome
}

/// The recorder's part of a stub.
fn code(atomics: bool) -> Vec<u32> {
    let base = ContextBase { register: BaseRegister::TpidrEl1, offset: 0 };
    let env = StubEnv { stubs: FakeText::new(0x1000).build().stubs(), context: base, cpu: Some(base), atomics };
    let plan = StubPlan { parts: &[FramelessPart::Record { base, arguments: 4 }], callbacks: &[], direct: None };
    let mut code = super::place();
    plan.code(&mut code, TextAddr::new(0x2000), &env);
    code.end().unwrap();
    // Without BTI C and the way back.
    let words = code.words();
    words[1..words.len() - 3].to_vec()
}

fn changed(code: &[u32], change: impl Fn(Insn) -> Option<Insn>) -> Vec<u32> {
    let new: Vec<u32> = code.iter().map(|word| change(Insn::decode(*word)).map_or(*word, Insn::encode)).collect();
    assert_ne!(new, code);
    new
}

#[test]
fn no_record_is_torn() {
    for atomics in [false, true] {
        let code = code(atomics);
        for outcome in [two(&code, None), nested(&code)] {
            assert_eq!(outcome.torn, 0);
            assert!(outcome.whole > 500, "{}", outcome.whole);
            // Now and then somebody gives up, but never all.
            assert!(outcome.published.len() > 1 && !outcome.published.contains(&0), "{:?}", outcome.published);
        }
    }
}

#[test]
fn without_any_one_of_the_orderings_records_are_torn() {
    for atomics in [false, true] {
        let code = code(atomics);
        for word in 0..=WORDS {
            assert!(two(&code, Some(word)).torn > 0, "the acquire of word {word}");
        }
        let without_dmb =
            changed(&code, |insn| matches!(insn, Insn::System(System::Barrier { .. })).then_some(Insn::NOP));
        assert!(two(&without_dmb, None).torn > 0, "DMB ISHST");
        let plain = changed(&code, |insn| match insn {
            Insn::Atomic(Atomic::Ordered { rt, rn, .. }) => Insn::str(rt, rn, 0).ok(),
            _ => None,
        });
        assert!(two(&plain, None).torn > 0, "STLR");
        let taking_anyway = changed(&code, |insn| match insn {
            Insn::Branch(Branch::CompareBranch { on: Zero::Zero, rt: crate::insn::Reg::X13, .. }) => Some(Insn::NOP),
            _ => None,
        });
        assert!(two(&taking_anyway, None).torn > 0, "a slot for one");
    }
}
