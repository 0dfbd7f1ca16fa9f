//! Probes on simulated text: what is written, and what the handler of the exception does to the registers.

extern crate std;

use super::{Handled, Kprobe, KprobeError, KprobeRegs, Kprobes, NotClaimed, Refusal, ServedBy};
use crate::address::{TextAddr, TextRange};
use crate::callsite::Layout;
use crate::context::TraceContext;
use crate::context::regs::{FtraceRegs, PtRegs};
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, Event, FakeKernel, FakeRegs, FakeText, Fault};
use crate::insn::Insn;
use crate::ops::Callback;
use crate::platform::{CpuTimeout, HoldError};
use crate::text::{PokeCause, PokeError, Undone};
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::sync::Mutex;
use std::vec::Vec;

const BASE: u64 = 0xffff_8000_8000_0000;
/// The first breakpoint, and the BRK behind its instruction.
const BRK: u32 = 0xd420_0000 | 0x6000 << 5;
const BRK_AFTER: u32 = 0xd420_0000 | 0x7000 << 5;

const ADD_X0_X0_1: u32 = 0x9100_0400;
const CBZ_X1_BACK: u32 = 0xb4ff_ffe1;
const ADR_X2_8: u32 = 0x1000_0042;
const LDR_X3_12: u32 = 0x5800_0063;
const RETAA: u32 = 0xd65f_0bff;
const LDXR_X4_X5: u32 = 0xc85f_7ca4;
const ADD_X4_X4_1: u32 = 0x9100_0484;
const STXR_W6_X4_X5: u32 = 0xc806_7ca4;
const BTI_J: u32 = 0xd503_249f;

/// The function's instructions, from its own first one on.
const WORDS: [u32; 12] = [
    ADD_X0_X0_1,
    CBZ_X1_BACK,
    ADR_X2_8,
    LDR_X3_12,
    RETAA,
    LDXR_X4_X5,
    ADD_X4_X4_1,
    STXR_W6_X4_X5,
    BTI_J,
    ADD_X0_X0_1,
    0xd65f_03c0,
    0xd69f_03e0,
];

struct Machine {
    kernel: &'static FakeKernel,
    probes: &'static Kprobes<4>,
    engine: &'static Engine,
    context: &'static TraceContext,
    /// A traced function, and one of [`WORDS`].
    traced: TextAddr,
    at: TextAddr,
}

fn machine() -> Machine {
    let mut text = FakeText::new(BASE);
    let traced = text.function("traced", COMPILED);
    let at = text.words(&WORDS);
    text.symbol("words", at, size_of_val(&WORDS) as u64);
    text.words(&[0; 4]);
    let kernel = text.build();
    let engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
    let context = Box::leak(Box::new(TraceContext::new()));
    kernel.set_context(context);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    kernel.take_events();
    Machine { kernel, probes: Box::leak(Box::new(Kprobes::new(engine))), engine, context, traced, at }
}

fn probe(before: super::Handler) -> &'static Kprobe {
    Box::leak(Box::new(Kprobe::new(before).with_hits()))
}

extern "C" fn nothing(_: TextAddr, _: TextAddr, _: &'static Kprobe, _: KprobeRegs<'_>) {}

fn regs(pc: TextAddr) -> PtRegs {
    PtRegs { regs: core::array::from_fn(|n| 0x100 + n as u64), sp: 0x9000, pc: pc.get(), pstate: 0x5 }
}

impl Machine {
    fn register(&self, probe: &'static Kprobe, at: TextAddr) -> Result<ServedBy, KprobeError> {
        // SAFETY: nothing executes a fake's text.
        unsafe { self.probes.register(probe, at) }
    }

    fn word(&self, n: i64) -> u32 {
        self.kernel.word(self.at.offset(n * 4))
    }

    /// Takes the exception of the breakpoint at the instruction of this number, and those that follow from it; the registers
    /// where execution goes on.
    fn hit(&self, n: i64) -> PtRegs {
        let mut regs = regs(self.at.offset(n * 4));
        self.hit_with(&mut regs);
        regs
    }

    fn hit_with(&self, regs: &mut PtRegs) {
        let comment = self.kernel.word(TextAddr::new(regs.pc)) >> 5 & 0xffff;
        assert_eq!(self.probes.handle_brk(regs, comment as u16), Handled::Yes);
    }
}

#[test]
fn a_breakpoint_comes_while_cpus_are_held_and_goes() {
    let machine = machine();
    let probe = probe(nothing);
    assert_eq!(probe.served_by(), None);
    assert_eq!(machine.register(probe, machine.at), Ok(ServedBy::Breakpoint));
    assert_eq!((machine.word(0), probe.at(), probe.served_by()), (BRK, Some(machine.at), Some(ServedBy::Breakpoint)));
    let events = machine.kernel.take_events();
    let place = |event| events.iter().position(|seen| *seen == event).unwrap();
    let (held, stored) = (place(Event::HoldCpus), place(Event::Store(machine.at, BRK)));
    let page = TextAddr::new(BASE);
    assert!(place(Event::BeginBatch) < held && held < stored, "{events:?}");
    assert!(stored < place(Event::Invalidate(machine.at.offset(-(machine.at.get() as i64 & 63)))), "{events:?}");
    // The alias comes before anybody is held.
    assert_eq!(events[..held].iter().filter(|event| **event == Event::Map(page)).count(), 1, "{events:?}");
    let is_store = |event: &&Event| matches!(event, Event::Store(at, _) if *at == machine.at);
    assert_eq!(events.iter().filter(is_store).count(), 1, "no second store");
    assert_eq!(machine.register(probe, machine.at.offset(4)), Err(KprobeError::AlreadyRegistered));
    assert_eq!(machine.probes.unregister(probe), Ok(()));
    assert_eq!((machine.word(0), probe.at(), machine.probes.instructions().count()), (ADD_X0_X0_1, None, 0));
    let events = machine.kernel.take_events();
    let place = |event| events.iter().position(|seen| *seen == event).unwrap();
    assert!(place(Event::Store(machine.at, ADD_X0_X0_1)) < place(Event::Quiesce), "{events:?}");
    assert_eq!(machine.probes.unregister(probe), Err(KprobeError::NotRegistered));
}

#[test]
fn an_instruction_goes_on_elsewhere_and_comes_back() {
    static SEEN: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    extern "C" fn look(ip: TextAddr, _: TextAddr, _: &'static Kprobe, regs: KprobeRegs<'_>) {
        SEEN.lock().unwrap().push(ip.get());
        assert_eq!((regs.sp(), regs.x(3), regs.x(31)), (0x9000, Some(0x103), None));
    }
    let machine = machine();
    let probe = Box::leak(Box::new(Kprobe::new(look).with_after(look).with_hits()));
    machine.register(probe, machine.at).unwrap();
    let mut regs = machine.hit(0);
    let code = TextAddr::new(regs.pc);
    assert!(machine.kernel.stubs().room.contains(code));
    assert_eq!((machine.kernel.word(code), machine.kernel.word(code.offset(4))), (ADD_X0_X0_1, BRK_AFTER));
    // A fault there is one at the instruction, and an interrupt behind it one at the next.
    assert_eq!(machine.probes.original(code), machine.at);
    assert_eq!(machine.probes.original(code.offset(4)), machine.at.offset(4));
    assert_eq!(machine.probes.original(machine.traced), machine.traced);
    let mut faulting = regs;
    assert!(machine.probes.handle_fault(&mut faulting));
    assert_eq!(faulting.pc, machine.at.get());
    assert!(!machine.probes.handle_fault(&mut faulting));
    regs.pc += 4;
    machine.hit_with(&mut regs);
    assert_eq!(regs.pc, machine.at.offset(4).get());
    assert_eq!(*SEEN.lock().unwrap(), [machine.at.get(), machine.at.offset(4).get()]);
    assert_eq!((probe.hits(), probe.missed()), (1, 0));
}

#[test]
fn without_a_handler_behind_it_an_instruction_takes_one_exception() {
    let machine = machine();
    machine.register(probe(nothing), machine.at.offset(36)).unwrap();
    let code = TextAddr::new(machine.hit(9).pc);
    assert_eq!(machine.kernel.word(code), ADD_X0_X0_1);
    let on = machine.kernel.word(code.offset(4));
    let Insn::Branch(crate::insn::Branch::B { offset }) = Insn::decode(on) else { panic!("{on:#x}") };
    assert_eq!(offset.target(code.offset(4).get()), machine.at.offset(40).get());
}

#[test]
fn what_depends_on_where_it_is_is_simulated() {
    let machine = machine();
    let at = |n: i64| machine.at.offset(n * 4).get();
    for n in [1, 2, 3, 10] {
        let probe = probe(nothing);
        machine.register(probe, machine.at.offset(n * 4)).unwrap();
        let after = machine.hit(n);
        match n {
            1 => {
                assert_eq!(after.pc, at(2), "x1 is not zero");
                let mut zero = regs(machine.at.offset(4));
                zero.regs[1] = 0;
                machine.hit_with(&mut zero);
                assert_eq!(zero.pc, at(0));
            }
            2 => assert_eq!((after.regs[2], after.pc), (at(4), at(3))),
            3 => {
                let words = u64::from(WORDS[6]) | u64::from(WORDS[7]) << 32;
                assert_eq!((after.regs[3], after.pc), (words, at(4)));
            }
            _ => assert_eq!(after.pc, 0x11e),
        }
        machine.probes.unregister(probe).unwrap();
    }
}

#[test]
fn nothing_is_called_behind_what_does_not_come_back() {
    let machine = machine();
    let at = machine.at.offset(16);
    let with_after = Box::leak(Box::new(Kprobe::new(nothing).with_after(nothing)));
    assert_eq!(machine.register(with_after, at), Err(KprobeError::NoAfter { at }));
    assert_eq!(machine.probes.instructions().count(), 0);
    machine.register(probe(nothing), at).unwrap();
    assert_eq!(machine.kernel.word(TextAddr::new(machine.hit(4).pc)), RETAA);
    assert_eq!(machine.register(with_after, at), Err(KprobeError::NoAfter { at }), "nor beside another probe");
}

#[test]
fn what_cannot_be_probed_is_refused_with_the_reason() {
    let machine = machine();
    let at = |n: i64| machine.at.offset(n * 4);
    let refused = |n, cause| (at(n), Err(KprobeError::Refused { at: at(n), cause }));
    let claimed = |at: TextAddr, cause| (at, Err(KprobeError::NotClaimed { at, cause }));
    machine.kernel.set_brk_range(Some(TextRange::new(at(9), at(10))));
    for (at, expected) in [
        refused(5, Refusal::Exclusive),
        refused(6, Refusal::BetweenExclusives { load: at(5) }),
        refused(7, Refusal::Exclusive),
        refused(8, Refusal::LandingPad { next: at(9) }),
        refused(9, Refusal::ExceptionPath),
        refused(11, Refusal::ExceptionReturn),
        claimed(at(12), NotClaimed::NoFunction),
        claimed(at(0).offset(2), NotClaimed::Misaligned),
        claimed(TextAddr::new(BASE - 4), NotClaimed::OutsideText),
        claimed(machine.kernel.stubs().room.start, NotClaimed::EngineText),
        claimed(machine.kernel.stubs().caller.entry, NotClaimed::EngineText),
    ] {
        assert_eq!(machine.register(probe(nothing), at), expected);
    }
    machine.kernel.set_brk_range(None);
    assert_eq!(machine.register(probe(nothing), at(0)), Err(KprobeError::NoBreakpoints { at: at(0) }));
    assert_eq!(machine.probes.instructions().count(), 0);
    assert_eq!(machine.engine.statistics().stub_bytes, 0);
}

#[test]
fn text_with_a_probe_is_not_given_back_and_what_was_has_none() {
    let machine = machine();
    let at = |n: i64| machine.at.offset(n * 4);
    let [first, second] = [probe(nothing), probe(nothing)];
    machine.register(first, at(0)).unwrap();
    machine.register(second, at(2)).unwrap();
    let probed = machine.word(2);
    let (inside, behind) = (TextRange::new(at(1), at(3)), TextRange::new(at(3), at(5)));
    assert_eq!(machine.engine.forget(inside), Err(RegisterError::Probed { instructions: 2 }));
    assert!(machine.word(2) == probed && probed != CBZ_X1_BACK);
    assert_eq!(machine.engine.forget(behind), Ok(0));
    assert_eq!([machine.probes.unregister(first), machine.probes.unregister(second)], [Ok(()); 2]);
    assert_eq!(machine.engine.forget(inside), Ok(0));
    for n in 1..5 {
        let gone = KprobeError::NotClaimed { at: at(n), cause: NotClaimed::OutsideText };
        assert_eq!(machine.register(probe(nothing), at(n)), Err(gone));
    }
    assert_eq!(machine.register(first, at(0)), Ok(ServedBy::Breakpoint));
}

#[test]
fn without_symbols_exclusives_are_looked_for_between_two_callsites() {
    let mut text = FakeText::new(BASE);
    text.function("first", COMPILED);
    let at = text.words(&WORDS);
    let second = text.function("second", COMPILED);
    text.words(&WORDS);
    // So far away that there can be no table.
    text.symbol("far", TextAddr::new(BASE + (1 << 40)), 4);
    let kernel = text.build();
    assert!(kernel.symbols().is_none());
    let engine: &'static Engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image().with_layout(Layout::Plain)) }.unwrap();
    let probes: &'static Kprobes<4> = Box::leak(Box::new(Kprobes::new(engine)));
    let register = |n: i64| {
        // SAFETY: as above.
        unsafe { probes.register(probe(nothing), at.offset(n * 4)) }
    };
    let cause = Refusal::BetweenExclusives { load: at.offset(20) };
    assert_eq!(register(6), Err(KprobeError::Refused { at: at.offset(24), cause }));
    assert_eq!(register(0), Ok(ServedBy::Breakpoint));
    let function = |at| engine.examine(at, |text| text.function).unwrap();
    assert_eq!(function(at), TextRange::new(TextAddr::new(BASE), second));
}

#[test]
fn at_an_entry_the_callsite_serves() {
    let machine = machine();
    let probe = probe(nothing);
    machine.kernel.set_brk_range(None);
    for bytes in [0, 4] {
        let served = machine.register(probe, machine.traced.offset(bytes));
        assert_eq!((served, probe.at()), (Ok(ServedBy::Callsite), Some(machine.traced)));
        assert_eq!(machine.engine.check_text().enabled, 1);
        machine.probes.disable(probe).unwrap();
        assert_eq!(machine.engine.check_text().enabled, 0);
        machine.probes.enable(probe).unwrap();
        assert_eq!(machine.engine.check_text().enabled, 1);
        machine.probes.unregister(probe).unwrap();
        assert_eq!((machine.engine.check_text().enabled, probe.at()), (0, None));
    }
    let register_at = |probe, name| {
        // SAFETY: nothing executes a fake's text.
        unsafe { machine.probes.register_at(probe, name, 4) }
    };
    assert_eq!(register_at(probe, "traced"), Ok(ServedBy::Callsite));
    assert_eq!(register_at(self::probe(nothing), "nobody"), Err(KprobeError::NoSuchFunction));
    machine.probes.unregister(probe).unwrap();
    assert_eq!(machine.probes.register_entry(probe, machine.traced), Ok(ServedBy::Callsite));
    let refused = machine.probes.register_entry(self::probe(nothing), machine.at);
    assert!(matches!(refused, Err(KprobeError::Entry(_))), "{refused:?}");
}

#[test]
fn at_an_entry_all_handlers_are_called_unless_one_says_where_execution_goes_on() {
    static CALLED: Mutex<Vec<(&str, u64, u64)>> = Mutex::new(Vec::new());
    const ELSEWHERE: u64 = 0x4000;
    extern "C" fn before(ip: TextAddr, lr: TextAddr, _: &'static Kprobe, mut regs: KprobeRegs<'_>) {
        CALLED.lock().unwrap().push(("before", ip.get(), lr.get()));
        if lr.get() == ELSEWHERE {
            // SAFETY: nothing is executed with it.
            unsafe { regs.set_pc(lr) };
        }
    }
    extern "C" fn after(ip: TextAddr, lr: TextAddr, _: &'static Kprobe, _: KprobeRegs<'_>) {
        CALLED.lock().unwrap().push(("after", ip.get(), lr.get()));
    }
    let probe = Box::leak(Box::new(Kprobe::new(before).with_after(after).with_hits().with_pc()));
    // SAFETY: the two differ in the types of two addresses, and it was made of such a handler.
    let handler = unsafe { core::mem::transmute::<Callback, super::Handler>(probe.ops.callback) };
    let call = |lr: u64| {
        let mut regs = FakeRegs::new(&regs(TextAddr::new(BASE + 8)));
        // SAFETY: at an entry both are an address and nothing else.
        let regs = unsafe { core::mem::transmute::<FtraceRegs<'_>, KprobeRegs<'_>>(regs.view()) };
        handler(TextAddr::new(BASE), TextAddr::new(lr), probe, regs);
        core::mem::take(&mut *CALLED.lock().unwrap())
    };
    assert_eq!(call(0x3000), [("before", BASE, 0x3000), ("after", BASE, 0x3000)]);
    assert_eq!(call(ELSEWHERE), [("before", BASE, ELSEWHERE)]);
    assert_eq!(probe.hits(), 2);
}

static ORDER: Mutex<Vec<u64>> = Mutex::new(Vec::new());

#[test]
fn several_probes_are_called_in_their_order_and_come_and_go_alone() {
    extern "C" fn note(_: TextAddr, _: TextAddr, probe: &'static Kprobe, _: KprobeRegs<'_>) {
        ORDER.lock().unwrap().push(core::ptr::from_ref(probe).addr() as u64);
    }
    let machine = machine();
    let probes = [(); 3].map(|()| probe(note));
    for probe in probes {
        machine.register(probe, machine.at).unwrap();
    }
    let called = |expected: &[usize]| {
        machine.hit(0);
        let expected: Vec<u64> = expected.iter().map(|n| core::ptr::from_ref(probes[*n]).addr() as u64).collect();
        assert_eq!(core::mem::take(&mut *ORDER.lock().unwrap()), expected);
    };
    assert_eq!(machine.probes.probes_at(machine.at).count(), 3);
    called(&[0, 1, 2]);
    machine.probes.disable(probes[1]).unwrap();
    called(&[0, 2]);
    machine.probes.unregister(probes[0]).unwrap();
    called(&[2]);
    machine.probes.disable(probes[2]).unwrap();
    assert_eq!(machine.word(0), ADD_X0_X0_1, "nobody wants to be called");
    machine.probes.enable(probes[1]).unwrap();
    called(&[1]);
    machine.probes.unregister(probes[1]).unwrap();
    assert_eq!(machine.word(0), ADD_X0_X0_1);
    machine.probes.unregister(probes[2]).unwrap();
    assert_eq!((machine.probes.instructions().count(), machine.engine.statistics().stub_bytes), (0, 0));
}

#[test]
fn inside_a_handler_probes_are_missed_and_their_instructions_carried_out() {
    static NESTED: Mutex<Option<(&Kprobes<4>, TextAddr)>> = Mutex::new(None);
    static ENDED: AtomicU64 = AtomicU64::new(0);
    extern "C" fn nest(_: TextAddr, _: TextAddr, _: &'static Kprobe, _: KprobeRegs<'_>) {
        let (probes, at) = NESTED.lock().unwrap().take().unwrap();
        let mut regs = regs(at);
        assert_eq!(probes.handle_brk(&mut regs, 0x6000), Handled::Yes);
        ENDED.store(regs.pc, Ordering::Relaxed);
    }
    let machine = machine();
    let probe = Box::leak(Box::new(Kprobe::new(nest).with_after(nothing).with_hits()));
    machine.register(probe, machine.at).unwrap();
    *NESTED.lock().unwrap() = Some((machine.probes, machine.at));
    assert!(!machine.context.in_callback());
    let outer = machine.hit(0).pc;
    assert_eq!((probe.hits(), probe.missed()), (1, 1));
    assert_eq!(ENDED.load(Ordering::Relaxed), outer + 8, "nothing is called behind it");
    assert!(!machine.context.in_callback());
}

#[test]
fn a_handler_may_say_where_execution_goes_on() {
    extern "C" fn go(_: TextAddr, _: TextAddr, _: &'static Kprobe, mut regs: KprobeRegs<'_>) {
        // SAFETY: nothing is executed with it.
        let set = [0, 31].map(|n| unsafe { regs.set_x(n, 7) });
        assert_eq!(set, [true, false]);
        // SAFETY: as above.
        unsafe { regs.set_pc(TextAddr::new(0x4000)) };
    }
    extern "C" fn never(_: TextAddr, _: TextAddr, _: &'static Kprobe, _: KprobeRegs<'_>) {
        panic!("the instruction is not carried out");
    }
    let machine = machine();
    machine.register(Box::leak(Box::new(Kprobe::new(go).with_after(never))), machine.at.offset(8)).unwrap();
    let after = machine.hit(2);
    assert_eq!((after.pc, after.regs[0], after.regs[2]), (0x4000, 7, 0x102));
}

#[test]
fn another_brk_is_not_handled() {
    let machine = machine();
    machine.register(probe(nothing), machine.at).unwrap();
    for (pc, comment) in [(machine.at, 1), (machine.at, 0x6001), (machine.at, 0x7000), (machine.traced, 0x6000)] {
        let mut regs = regs(pc);
        assert_eq!(machine.probes.handle_brk(&mut regs, comment), Handled::No);
        assert_eq!(regs, self::regs(pc));
    }
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let machine = machine();
    let probe = probe(nothing);
    for (fault, cause) in [
        (Fault::Hold(2), PokeCause::Hold(HoldError::Timeout(CpuTimeout { cpu: 2 }))),
        (Fault::Cpu(1), PokeCause::Cpu(CpuTimeout { cpu: 1 })),
    ] {
        machine.kernel.set_fault(Some(fault));
        let Err(KprobeError::Text(error)) = machine.register(probe, machine.at) else { panic!("{fault:?}") };
        assert_eq!((error.cause, machine.word(0)), (cause, ADD_X0_X0_1));
        assert_eq!((machine.probes.instructions().count(), machine.engine.statistics().stub_bytes), (0, 0));
    }
    machine.kernel.set_fault(None);
    machine.register(probe, machine.at).unwrap();
    machine.kernel.set_fault(Some(Fault::Hold(3)));
    let cause = PokeCause::Hold(HoldError::Timeout(CpuTimeout { cpu: 3 }));
    let error = PokeError { at: machine.at, cause, undone: Undone::Entirely };
    assert_eq!(machine.probes.unregister(probe), Err(KprobeError::Text(error)));
    machine.hit(0);
    assert_eq!(probe.hits(), 1, "it is still there");
    machine.kernel.set_fault(Some(Fault::Busy(1)));
    assert_eq!(machine.probes.unregister(probe), Err(KprobeError::NotQuiescent(CpuTimeout { cpu: 1 })));
    assert_eq!((machine.word(0), machine.probes.instructions().count()), (ADD_X0_X0_1, 1));
    assert_eq!(machine.register(probe, machine.at), Err(KprobeError::AlreadyRegistered), "it may still be running");
    // Another one that comes there and goes takes the point with it.
    let other = self::probe(nothing);
    machine.register(other, machine.at).unwrap();
    machine.probes.unregister(other).unwrap();
    assert_eq!(machine.probes.instructions().count(), 0);
    assert_eq!(machine.probes.unregister(probe), Ok(()));
    assert_eq!(machine.probes.unregister(probe), Err(KprobeError::NotRegistered));
    machine.register(probe, machine.at).unwrap();
}

#[test]
fn a_probe_that_cannot_leave_an_entry_is_still_there() {
    let machine = machine();
    let probe = probe(nothing);
    machine.probes.register_entry(probe, machine.traced).unwrap();
    machine.kernel.set_fault(Some(Fault::Busy(1)));
    assert!(matches!(machine.probes.unregister(probe), Err(KprobeError::Entry(RegisterError::NotQuiescent(_)))));
    assert_eq!(probe.served_by(), Some(ServedBy::Callsite));
    assert_eq!(machine.probes.unregister(probe), Ok(()));
    machine.kernel.set_fault(Some(Fault::Cpu(1)));
    assert!(machine.probes.register_entry(probe, machine.traced).is_err());
    assert_eq!((probe.served_by(), machine.engine.check_text().enabled), (None, 0));
    machine.probes.register_entry(probe, machine.traced).unwrap();
}

#[test]
fn there_are_as_many_points_as_there_is_memory_for() {
    let machine = machine();
    let probes: Vec<_> = [0, 1, 2, 3].map(|n| (probe(nothing), machine.at.offset(n * 4))).into();
    for (probe, at) in &probes {
        machine.register(probe, *at).unwrap();
    }
    let more = probe(nothing);
    assert_eq!(machine.register(more, machine.at.offset(40)), Err(KprobeError::TooManyPoints { points: 4 }));
    machine.probes.unregister(probes[2].0).unwrap();
    machine.register(more, machine.at.offset(40)).unwrap();
    assert_eq!(machine.word(10), BRK + (2 << 5), "the point that was given back");
}

/// What the engine still has of it after a failure is taken back by the next attempt.
#[test]
fn a_probe_at_an_entry_can_be_switched_and_removed_after_any_failure() {
    let faults = || (0..8).map(Fault::AliasesFrom).chain([Fault::Busy(1), Fault::Cpu(1), Fault::Batch]);
    let (mut failures, mut left) = (0, 0);
    for (fault, is_disabled) in faults().flat_map(|fault| [(fault, false), (fault, true)]) {
        for goes_at_once in [false, true] {
            let machine = machine();
            let probe = probe(nothing);
            let switch = |on| if on { machine.probes.enable(probe) } else { machine.probes.disable(probe) };
            machine.probes.register_entry(probe, machine.traced).unwrap();
            if is_disabled {
                switch(false).unwrap();
            }
            machine.kernel.set_fault(Some(fault));
            let failed = switch(is_disabled).is_err();
            machine.kernel.set_fault(None);
            failures += usize::from(failed);
            left += usize::from(failed && is_disabled && machine.engine.statistics().ops == 1);
            if !goes_at_once {
                for is_enabled in [is_disabled, false, true, false] {
                    assert_eq!(switch(is_enabled), Ok(()), "{fault:?}");
                    assert_eq!(machine.engine.check_text().enabled, usize::from(is_enabled), "{fault:?}");
                }
            }
            assert_eq!(machine.probes.unregister(probe), Ok(()), "{fault:?}");
            assert_eq!((machine.engine.statistics().ops, machine.engine.check_text().enabled), (0, 0), "{fault:?}");
            assert_eq!(machine.probes.register_entry(probe, machine.traced), Ok(ServedBy::Callsite), "{fault:?}");
        }
    }
    assert!(failures > 0 && left > 0, "the faults are no such faults");
}
