//! Random signatures and sets of handlers, run on the machine of `machine`, against a plain call.
//!
//! A plain call has its arguments where `places` says. What is called from the trampoline finds each argument's bits where they
//! are for such a call, whatever anybody called before has left in registers and in its own arguments on the stack; the caller
//! gets its result, and all that is not the callee's to change.

use super::machine::{Machine, STACK};
use super::places::{At, Parts, places};
use super::{CALLS, FAR, MISSES, NEAR, ROOM, env, handler, place, words};
use crate::insn::{Insn, PairSize};
use crate::stub::{Handler, HandlerKind};
use crate::trampoline::attach::class::{Class, Kind, Signature};
use std::vec::Vec;
extern crate std;

const SIGNATURES: u32 = if cfg!(miri) { 20 } else { 100_000 };

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32) % bound
    }

    fn is(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn class(&mut self) -> Class {
        match self.below(14) {
            0 => Class::BOOL,
            1 => Class::BITS_8,
            2 => Class::BITS_16,
            3 => Class::BITS_32,
            4..=6 => Class::BITS_64,
            7 => Class::BITS_128,
            8 => Class(Kind::Composite { words: 1, is_aligned: false }),
            9 => Class(Kind::Composite { words: 2, is_aligned: false }),
            10 => Class::F32,
            11 => Class::F64,
            12 => Class(Kind::Floats { count: 1 + self.below(4) as u8, size: PairSize::S }),
            _ => Class(Kind::Floats { count: 1 + self.below(4) as u8, size: PairSize::D }),
        }
    }
}

/// SP at the callsite; above it are the arguments.
const SP: u64 = STACK + 2048;
const RETURN: u64 = NEAR + 0x8000;
/// Where a large result is put.
const LARGE: u64 = STACK + 3072;
const CONTEXT: u64 = 0x1_0000;
const BUSY: u64 = CONTEXT + 0x40;

fn mask(bits: u32) -> u64 {
    if bits == 64 { u64::MAX } else { (1 << bits) - 1 }
}

fn value(machine: &Machine<'_>, at: At) -> u64 {
    match at {
        At::X(n) => machine.x[n],
        At::V(n) => machine.v[n],
        At::Stack(bytes) => machine.load(machine.x[31] + bytes as u64, 8),
    }
}

/// Changes all that a callee may: registers, and its arguments.
fn trash(machine: &mut Machine<'_>, random: &mut Random, argument_bytes: usize) {
    (0..18).for_each(|n| machine.x[n] = random.next());
    machine.v.iter_mut().for_each(|v| *v = random.next());
    let sp = machine.x[31];
    (0..argument_bytes as u64 / 8).for_each(|n| machine.store(sp + 8 * n, 8, random.next()));
    machine.pc = machine.x[30];
}

/// One call.
struct Call<'a> {
    signature: Signature<'a>,
    handlers: &'a [Handler],
    body: u64,
    places: (Vec<Parts>, usize, At),
    /// As it was at the callsite.
    before: Machine<'a>,
    /// Where a result's bits are: its registers.
    result: Vec<(At, u32)>,
}

impl Call<'_> {
    /// Checks the arguments as who is called finds them; a handler with nothing above them.
    fn check_arguments(&self, machine: &Machine<'_>, for_handler: bool, what: &str) {
        for (number, (class, parts)) in self.signature.arguments.iter().zip(&self.places.0).enumerate() {
            for (at, bits) in parts {
                let (found, expected) = (value(machine, *at), value(&self.before, *at));
                let is_vector = matches!(at, At::V(_));
                let expected = if for_handler || is_vector { expected & mask(*bits) } else { expected };
                let found = if is_vector { found & mask(*bits) } else { found };
                assert_eq!(found, expected, "{what}: argument {number}, {class:?}, of {:?} at {at:?}", self.signature);
            }
        }
        assert!(machine.x[31].is_multiple_of(16), "{what}: SP {:#x}", machine.x[31]);
        (18..29).for_each(|n| assert_eq!(machine.x[n], self.before.x[n], "{what}: x{n}"));
    }

    /// The frame records that a walker finds: the function's, then the caller's.
    fn check_records(&self, machine: &Machine<'_>) {
        let fp = machine.x[29];
        let record = |at| [machine.load(at, 8), machine.load(at + 8, 8)];
        let [outer, resume] = record(fp);
        assert_eq!((resume, record(outer)), (self.before.x[30], [self.before.x[29], self.before.x[9]]));
        assert_eq!(outer, SP - 16);
    }

    /// Sets a result's registers, or memory, to anything; returns the bits.
    fn return_anything(&self, machine: &mut Machine<'_>, random: &mut Random, x8: u64) -> Vec<u64> {
        if self.signature.result.0 == Kind::Large {
            assert_eq!(x8, LARGE, "X8 at the function");
            machine.store(x8, 8, random.next());
        }
        self.result(machine)
    }

    fn result(&self, machine: &Machine<'_>) -> Vec<u64> {
        let mut bits: Vec<u64> = self.result.iter().map(|(at, bits)| value(machine, *at) & mask(*bits)).collect();
        if self.signature.result.0 == Kind::Large {
            bits.push(machine.load(LARGE, 8));
        }
        bits
    }

    /// What an exit handler finds where the pointer leads.
    fn pointed_to(&self, machine: &Machine<'_>) -> Vec<u64> {
        let mut at = value(machine, self.places.2);
        assert!(at.is_multiple_of(8) && at != 0);
        assert!(self.signature.result != Class::BOOL || machine.load(at, 8) <= 1, "a `bool` has one bit");
        let mut bits: Vec<u64> = Vec::new();
        for (place, width) in &self.result {
            let bytes = if matches!(place, At::V(_)) { u64::from(width / 8) } else { 8 };
            bits.push(machine.load(at, bytes) & mask(*width));
            at += bytes;
        }
        if self.signature.result.0 == Kind::Large {
            bits.push(machine.load(at, 8));
        }
        bits
    }

    /// Runs it, with handlers of which one answers for so many answers; returns the events.
    fn run(&self, random: &mut Random, answers_at: Option<usize>) {
        let mut machine = self.before.clone();
        let counters = [&CALLS, &MISSES].map(|counter| core::ptr::from_ref(counter).addr() as u64);
        let kinds = |kinds: &[HandlerKind]| -> Vec<usize> {
            let of = |number: &usize| kinds.contains(&self.handlers[*number].kind);
            (0..self.handlers.len()).filter(of).collect()
        };
        let guards = |numbers: &[usize]| numbers.iter().any(|number| self.handlers[*number].may_call);
        let (entries, modifies) = (kinds(&[HandlerKind::Entry]), kinds(&[HandlerKind::Modify]));
        let exits = kinds(&[HandlerKind::Exit]);
        let first: Vec<usize> = entries.iter().chain(&modifies).copied().collect();
        let (is_ready, is_busy) = (machine.base != 0, machine.words_elsewhere[&BUSY] != 0);
        let may_call_any = is_ready && !is_busy;
        // What should happen.
        let is_passed_over = guards(&first) && !may_call_any;
        let mut expected = first.clone();
        let answerer = answers_at.filter(|answer| *answer < modifies.len()).map(|answer| modifies[answer]);
        if let Some(answerer) = answerer {
            let end = expected.iter().position(|number| *number == answerer).unwrap();
            expected.truncate(end + 1);
        }
        let exits_called = if guards(&exits) && !may_call_any { Vec::new() } else { exits.clone() };
        let mut misses = u64::from(is_passed_over && is_ready);
        if !is_passed_over && !exits.is_empty() && exits_called.is_empty() && is_ready {
            misses += 1;
        }
        let is_function_run = answerer.is_none();
        let mut steps = expected.into_iter().chain(exits_called).peekable();
        let (mut has_run, mut result) = (false, None);
        loop {
            while machine.is_inside() {
                machine.step();
                assert!(machine.instructions < 2000, "it does not end");
            }
            let what = std::format!("at {:#x}", machine.pc);
            if machine.pc == self.body {
                assert!(!has_run && (is_passed_over || is_function_run), "the function runs");
                has_run = true;
                self.check_arguments(&machine, false, "the function");
                let is_jump = machine.x[30] == RETURN;
                assert_eq!(is_jump, is_passed_over || exits.is_empty(), "{:?}", self.handlers);
                let x8 = machine.x[8];
                if is_jump {
                    assert_eq!((machine.x[31], machine.x[29]), (SP, self.before.x[29]));
                    assert_eq!(machine.words_elsewhere[&counters[0]], 0);
                    assert!(self.signature.result.0 != Kind::Large || x8 == LARGE);
                    assert!(is_passed_over || steps.peek().is_none(), "handlers were left out");
                    break;
                }
                assert_eq!(machine.words_elsewhere[&counters[0]], 1, "it is counted");
                assert_eq!(machine.words_elsewhere[&BUSY] != 0, is_busy, "no guard around the function");
                self.check_records(&machine);
                trash(&mut machine, random, self.places.1);
                result = Some(self.return_anything(&mut machine, random, x8));
                continue;
            }
            if machine.pc == RETURN {
                assert_eq!(has_run, is_function_run);
                break;
            }
            let number = steps.next().unwrap_or_else(|| panic!("{what}: nothing more is expected"));
            let Handler { kind, function, may_call } = self.handlers[number];
            assert_eq!(machine.pc, function.get(), "handler {number} of {:?}", self.handlers);
            self.check_arguments(&machine, true, "a handler");
            self.check_records(&machine);
            assert!(!may_call || machine.words_elsewhere[&BUSY] != 0, "a handler without a guard");
            assert_eq!(machine.words_elsewhere[&counters[0]], 0, "nothing is under way");
            let mut bytes = self.places.1;
            if kind == HandlerKind::Exit {
                let expected = result.clone().unwrap_or_default();
                assert_eq!(self.pointed_to(&machine), expected, "the result for an exit of {:?}", self.signature);
                bytes += if matches!(self.places.2, At::Stack(_)) { 8 } else { 0 };
            }
            trash(&mut machine, random, bytes);
            if kind == HandlerKind::Modify {
                let bits = self.result[0].1;
                if Some(number) == answerer {
                    // One bit is enough, and what is above the result's is anything.
                    machine.x[0] = machine.x[0] & !mask(bits) | 1 << random.below(bits.into());
                    result = Some(self.result(&machine));
                } else {
                    machine.x[0] &= !mask(bits);
                }
            }
        }
        assert!(is_passed_over || steps.next().is_none(), "handlers were left out");
        assert_eq!(counters.map(|at| machine.words_elsewhere[&at]), [0, misses]);
        assert_eq!(machine.words_elsewhere[&BUSY] != 0, is_busy, "the guard is given back");
        assert_eq!((machine.x[31], machine.x[29]), (SP, self.before.x[29]));
        (18..29).for_each(|n| assert_eq!(machine.x[n], self.before.x[n], "x{n}"));
        if machine.pc == RETURN {
            assert_eq!(self.result(&machine), result.unwrap(), "the result of {:?}", self.signature);
        }
    }
}

#[test]
fn random_signatures_are_called_as_plain_calls_are() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut code = place();
    let envs = [env(false), env(true)];
    for _ in 0..SIGNATURES {
        let arguments: Vec<Class> = (0..random.below(13)).map(|_| random.class()).collect();
        let result = match random.below(6) {
            0 => Class::UNIT,
            1 => Class(Kind::Large),
            _ => random.class(),
        };
        let signature = Signature { arguments: &arguments, result };
        let mut kinds = Vec::from([HandlerKind::Entry, HandlerKind::Exit]);
        if signature.can_be_answered() {
            kinds.push(HandlerKind::Modify);
        }
        let handlers: Vec<Handler> = (0..1 + random.below(3))
            .map(|number| {
                let base = if random.is(8) { FAR } else { NEAR };
                let kind = kinds[random.below(kinds.len() as u64) as usize];
                handler(kind, base + 0x100 * number, random.is(2))
            })
            .collect();
        let body = if random.is(8) { FAR } else { NEAR } + 0x1_000c;
        let words = words(&mut code, &signature, &handlers, body, &envs[random.below(2) as usize]);
        let insns: Vec<Insn> = words.iter().map(|word| Insn::decode(*word)).collect();
        let mut before = Machine::new(&insns, &words, ROOM);
        before.x.iter_mut().for_each(|x| *x = random.next());
        before.v.iter_mut().for_each(|v| *v = random.next());
        (before.x[9], before.x[30], before.x[31]) = (RETURN, body, SP);
        before.x[8] = LARGE;
        (0..64).for_each(|n| before.store(SP + 8 * n, 8, random.next()));
        before.base = if random.is(16) { 0 } else { CONTEXT };
        before.words_elsewhere.insert(BUSY, u64::from(random.is(8)));
        for counter in [&CALLS, &MISSES] {
            before.words_elsewhere.insert(core::ptr::from_ref(counter).addr() as u64, 0);
        }
        if random.is(2) {
            // Where a BL goes.
            before.pc += 4;
        }
        let result = match result.0 {
            Kind::Unit | Kind::Large => Vec::new(),
            // As an argument of its class would be.
            _ => places(&[result]).0.remove(0),
        };
        let places = places(&arguments);
        let call = Call { signature, handlers: &handlers, body, places, before, result };
        let answers_at = random.is(2).then(|| random.below(3) as usize);
        call.run(&mut random, answers_at);
    }
}
