//! Every instruction of a corpus of functions gets a probe, or is refused for a reason, and does what it did.
//!
//! How often each one is executed is known from a run of the same function with a step exception before each instruction, which
//! knows nothing of probes: so often its handlers must be called, and the function's result be the same.
//!
//! On the kernel's command line: `seed=N`.
#![no_std]
#![no_main]

extern crate alloc;

mod corpus;

use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use corpus::{ITEMS, Item};
use fentry::insn::{DataImm, Flow, Insn, Memory};
use fentry::kprobe::{Kprobe, KprobeError, KprobeRegs, NotClaimed, Refusal, ServedBy};
use fentry::{Engine, TextAddr};
use spin::Once;
use support::engine::KPROBES;
use support::exceptions::catch;
use support::harness::setting;
use support::random::Random;
use support::vectors::ExceptionFrame;
use support::{engine, interrupts, memory, percpu, println, smp, step};

support::boot_tests! {
    each_instruction_does_what_it_did_and_is_seen_as_often,
    so_do_random_sets_of_them,
    at_an_entry_no_exception_is_taken,
    a_handler_changes_registers_and_where_it_goes_on,
    a_probe_inside_a_handler_is_missed,
    a_fault_is_one_at_the_probed_instruction,
    probes_come_and_go_under_four_cpus,
}

static AFTER: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: TextAddr, _: TextAddr, _: &'static Kprobe, regs: KprobeRegs<'_>) {
    black_box(regs.sp());
}

extern "C" fn count_after(ip: TextAddr, _: TextAddr, _: &'static Kprobe, _: KprobeRegs<'_>) {
    black_box(ip);
    AFTER.fetch_add(1, Ordering::Relaxed);
}

/// Those that are put anywhere; every second one is called after the instruction as well.
static PROBES: [[Kprobe; 2]; 200] =
    [const { [Kprobe::new(count).with_hits(), Kprobe::new(count).with_after(count_after).with_hits()] }; 200];

/// How often each word of the text was executed, where a run is stepped.
static STEPS: Once<Vec<AtomicU32>> = Once::new();

fn note_step(frame: &ExceptionFrame) {
    let index = (frame.elr as usize).wrapping_sub(memory::text().start) / 4;
    if let Some(count) = STEPS.get().and_then(|steps| steps.get(index)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs an item with a step before each instruction; its result, and what was executed how often.
#[inline(never)]
fn stepped(run: fn() -> u64) -> (u64, Vec<(TextAddr, u32)>) {
    let text = memory::text();
    let steps = STEPS.call_once(|| (0..text.len() / 4).map(|_| AtomicU32::new(0)).collect());
    step::start(note_step);
    let result = run();
    step::stop();
    let place = |n: usize| TextAddr::new(text.start as u64 + n as u64 * 4);
    let counts = steps.iter().enumerate().map(|(n, count)| (place(n), count.swap(0, Ordering::Relaxed)));
    // This function's own are among them, and are executed beside the run.
    let own = stepped as fn(_) -> _ as usize as u64;
    let is_own = |at: TextAddr| at.get().wrapping_sub(own) < 0x400;
    (result, counts.filter(|(at, count)| *count != 0 && !is_own(*at)).collect())
}

/// How instructions were served, and why others were not.
#[derive(Default)]
struct Shares {
    /// Carried out elsewhere, by a jump.
    jumps: u64,
    /// Carried out elsewhere, by a BRK.
    elsewhere: u64,
    simulated: u64,
    callsites: u64,
    refused: Vec<(&'static str, u64)>,
}

impl Shares {
    fn refuse(&mut self, why: &'static str) {
        match self.refused.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None => self.refused.push((why, 1)),
        }
    }
}

fn reason(error: &KprobeError) -> &'static str {
    match error {
        KprobeError::NoAfter { .. } => "goes elsewhere by a signed address",
        KprobeError::Refused { cause, .. } => match cause {
            Refusal::LandingPad { .. } => "landing pad",
            Refusal::Exclusive | Refusal::BetweenExclusives { .. } => "exclusive access",
            Refusal::Exception => "makes an exception",
            Refusal::ExceptionReturn => "returns from an exception",
            Refusal::CpuState => "changes the CPU's state",
            Refusal::ExceptionPath => "on the way from an exception",
            _ => panic!("{error}"),
        },
        KprobeError::NotClaimed { cause: NotClaimed::EngineText, .. } => "the engine's own",
        KprobeError::NotClaimed { cause: NotClaimed::NoFunction, .. } => "in no function",
        _ => panic!("{error}"),
    }
}

fn register(probe: &'static Kprobe, at: TextAddr) -> Result<ServedBy, KprobeError> {
    // SAFETY: 1. and 2. Each is the address of an instruction that was executed, or that this file knows, on this kernel's stacks.
    unsafe { KPROBES.register(probe, at) }
}

fn prepare() -> &'static Engine {
    engine().0
}

/// Whether an instruction branches, or takes an address from where it is.
fn depends_on_place(at: TextAddr) -> bool {
    // SAFETY: an instruction of this kernel's text, which is mapped readable.
    let word = unsafe { core::ptr::with_exposed_provenance::<u32>(at.get() as usize).read_volatile() };
    let insn = Insn::decode(word);
    let is_address = matches!(insn, Insn::DataImm(DataImm::Adr { .. } | DataImm::Adrp { .. }));
    let is_literal = matches!(insn, Insn::Memory(Memory::Literal { .. } | Memory::PrefetchLiteral { .. }));
    is_address || is_literal || insn.effects().flow != Flow::Next
}

/// Runs an item with a probe at an instruction that it executes so many times.
fn run_probed(
    item: &Item,
    result: u64,
    probe: &'static Kprobe,
    at: TextAddr,
    times: u32,
) -> Result<ServedBy, KprobeError> {
    let served = register(probe, at)?;
    let (hits, after) = (probe.hits(), AFTER.load(Ordering::Relaxed));
    let result_now = (item.run)();
    let (hits, after) = (probe.hits() - hits, AFTER.load(Ordering::Relaxed) - after);
    assert_eq!(KPROBES.unregister(probe), Ok(()));
    assert_eq!(result_now, result, "{} with a probe at {at}: {served:?}", item.name);
    assert_eq!(hits, u64::from(times), "{} with a probe at {at}: {served:?}", item.name);
    let is_after = core::ptr::eq(probe, &raw const PROBES[0][1]);
    assert_eq!(after, if is_after { hits } else { 0 }, "{} with a probe at {at}", item.name);
    Ok(served)
}

fn each_instruction_does_what_it_did_and_is_seen_as_often() {
    prepare();
    let [alone, with_after] = &PROBES[0];
    let mut shares = Shares::default();
    let mut seen = vec![false; memory::text().len() / 4];
    for item in ITEMS {
        let result = (item.run)();
        let (stepped, executed) = stepped(item.run);
        assert_eq!(result, stepped, "{}", item.name);
        let mut probed = 0;
        for &(at, times) in &executed {
            let word = (at.get() as usize - memory::text().start) / 4;
            if core::mem::replace(&mut seen[word], true) {
                continue;
            }
            match run_probed(item, result, alone, at, times) {
                Ok(ServedBy::Callsite) => shares.callsites += 1,
                Ok(ServedBy::Breakpoint) if depends_on_place(at) => shares.simulated += 1,
                Ok(ServedBy::Breakpoint) => shares.elsewhere += 1,
                Ok(ServedBy::Jump) => shares.jumps += 1,
                Err(error) => {
                    shares.refuse(reason(&error));
                    continue;
                }
            }
            match run_probed(item, result, with_after, at, times) {
                Ok(ServedBy::Callsite | ServedBy::Breakpoint) | Err(KprobeError::NoAfter { .. }) => {}
                served => panic!("{served:?}"),
            }
            probed += 1;
        }
        println!("  {:16} {:5} instructions, {probed} of them probed for the first time", item.name, executed.len());
    }
    let Shares { jumps, elsewhere, simulated, callsites, refused } = shares;
    println!(
        "{jumps} by jumps; by breakpoints {elsewhere} elsewhere, {simulated} simulated; {callsites} at callsites; refused:"
    );
    refused.iter().for_each(|(why, count)| println!("  {count:6} {why}"));
    assert_eq!(PROBES[0].each_ref().map(Kprobe::missed), [0, 0]);
    assert!(jumps > 3000 && simulated > 500);
}

/// All that an item executes, and can have a probe.
fn probed_set(random: &mut Random, executed: &[(TextAddr, u32)], most: usize) -> Vec<(&'static Kprobe, u64)> {
    let mut set = Vec::new();
    for pair in PROBES.iter().take(most) {
        let probe = &pair[random.below(2) as usize];
        let (at, times) = executed[random.below(executed.len() as u64) as usize];
        if register(probe, at).is_ok() {
            set.push((probe, u64::from(times)));
        }
    }
    set
}

fn so_do_random_sets_of_them() {
    prepare();
    let seed = setting("seed").unwrap_or(1);
    let mut random = Random::new(seed, 0);
    let mut total = 0;
    for item in ITEMS {
        let (result, executed) = stepped(item.run);
        for _ in 0..4 {
            let set = probed_set(&mut random, &executed, PROBES.len());
            // The heap's functions have probes as well.
            let mut hits = vec![0; set.len()];
            hits.iter_mut().zip(&set).for_each(|(hits, (probe, _))| *hits = probe.hits());
            let result_now = (item.run)();
            hits.iter_mut().zip(&set).for_each(|(hits, (probe, _))| *hits = probe.hits() - *hits);
            for ((probe, times), hits) in set.iter().zip(hits) {
                let at = probe.at();
                assert_eq!(KPROBES.unregister(probe), Ok(()));
                assert_eq!(hits, *times, "seed={seed}, {} with a probe at {at:?}", item.name);
            }
            assert_eq!(result_now, result, "seed={seed}, {}", item.name);
            total += set.len();
        }
    }
    assert_eq!(KPROBES.instructions().count(), 0);
    println!("{total} probes");
}

#[inline(never)]
extern "C" fn traced(x: u64) -> u64 {
    black_box(x) + 1
}

/// The address of a function's landing pad, if it has one, or first instruction.
fn entry_of(function: extern "C" fn(u64) -> u64) -> TextAddr {
    TextAddr::new(function as usize as u64)
}

fn at_an_entry_no_exception_is_taken() {
    static ARGUMENT: AtomicU64 = AtomicU64::new(0);
    static PROBE: Kprobe = Kprobe::new(look).with_after(count_after).with_hits();
    static ALL: Kprobe = Kprobe::new(look_at_all).with_all_registers().with_hits();
    extern "C" fn look(_: TextAddr, _: TextAddr, probe: &'static Kprobe, regs: KprobeRegs<'_>) {
        assert_eq!(probe.served_by(), Some(ServedBy::Callsite));
        // Where another one there has them saved, all have them.
        assert_eq!(regs.x(19).is_some(), ALL.at().is_some());
        ARGUMENT.store(regs.x(0).unwrap_or(0), Ordering::Relaxed);
    }
    extern "C" fn look_at_all(_: TextAddr, _: TextAddr, _: &'static Kprobe, regs: KprobeRegs<'_>) {
        assert_eq!(regs.x(0), regs.pt_regs().map(|all| all.regs[0]));
        assert!(regs.x(19).is_some());
    }
    prepare();
    assert_eq!(register(&PROBE, entry_of(traced)), Ok(ServedBy::Callsite));
    let after = AFTER.load(Ordering::Relaxed);
    assert_eq!((traced(41), ARGUMENT.load(Ordering::Relaxed)), (42, 41));
    assert_eq!((PROBE.hits(), AFTER.load(Ordering::Relaxed) - after), (1, 1));
    assert_eq!(KPROBES.register_entry(&ALL, entry_of(traced)), Ok(ServedBy::Callsite));
    assert_eq!(KPROBES.disable(&PROBE), Ok(()));
    assert_eq!((traced(1), PROBE.hits(), ALL.hits()), (2, 1, 1));
    assert_eq!(KPROBES.enable(&PROBE), Ok(()));
    assert_eq!((traced(1), PROBE.hits(), ALL.hits()), (2, 2, 2));
    assert_eq!((KPROBES.unregister(&PROBE), KPROBES.unregister(&ALL)), (Ok(()), Ok(())));
    assert_eq!((traced(1), PROBE.hits()), (2, 2));
}

core::arch::global_asm!(
    r#"
    .pushsection .text.probed, "ax"
    .global probed_answer
    .type   probed_answer, %function
probed_answer:
    hint    #34                         // BTI C
    add     x0, x0, #1
    add     x0, x0, #2
    add     x0, x0, #4
    ret
    .size   probed_answer, . - probed_answer

    .global probed_load
    .type   probed_load, %function
probed_load:
    hint    #34                         // BTI C
    ldr     x0, [x0]
    ret
    .size   probed_load, . - probed_load
    .popsection
    "#
);

unsafe extern "C" {
    safe fn probed_answer(x: u64) -> u64;
    fn probed_load(at: *const u64) -> u64;
}

fn instruction(function: *const (), number: i64) -> TextAddr {
    TextAddr::new(function.addr() as u64).offset(number * 4)
}

fn a_handler_changes_registers_and_where_it_goes_on() {
    static CHANGES: Kprobe = Kprobe::new(change).with_after(change_after).with_hits();
    static SKIPS: Kprobe = Kprobe::new(skip).with_pc().with_hits();
    extern "C" fn change(_: TextAddr, _: TextAddr, _: &'static Kprobe, mut regs: KprobeRegs<'_>) {
        let x0 = regs.x(0).unwrap_or(0);
        // SAFETY: a number.
        assert!(unsafe { regs.set_x(0, x0 + 100) });
    }
    extern "C" fn change_after(_: TextAddr, _: TextAddr, _: &'static Kprobe, mut regs: KprobeRegs<'_>) {
        let x0 = regs.x(0).unwrap_or(0);
        // SAFETY: a number.
        assert!(unsafe { regs.set_x(0, x0 * 10) });
    }
    extern "C" fn skip(ip: TextAddr, _: TextAddr, _: &'static Kprobe, mut regs: KprobeRegs<'_>) {
        let next = ip.offset(4);
        // SAFETY: the instruction after an addition, which is left out.
        unsafe { regs.set_pc(next) };
    }
    prepare();
    let place = |number| instruction(probed_answer as *const (), number);
    assert_eq!(register(&CHANGES, place(2)), Ok(ServedBy::Breakpoint));
    assert_eq!(probed_answer(0), (1 + 100 + 2) * 10 + 4);
    assert_eq!(register(&SKIPS, place(3)), Ok(ServedBy::Breakpoint));
    assert_eq!(probed_answer(0), (1 + 100 + 2) * 10);
    assert_eq!((KPROBES.unregister(&CHANGES), KPROBES.unregister(&SKIPS)), (Ok(()), Ok(())));
    assert_eq!(probed_answer(0), 7);
    let pad = place(0);
    let cause = Refusal::LandingPad { next: place(1) };
    assert_eq!(register(&SKIPS, pad), Err(KprobeError::Refused { at: pad, cause }));
}

fn a_probe_inside_a_handler_is_missed() {
    static OUTER: Kprobe = Kprobe::new(nest).with_after(nest).with_hits();
    static OUTER_JUMP: Kprobe = Kprobe::new(nest).with_hits();
    static INNER: Kprobe = Kprobe::new(count).with_after(count_after).with_hits();
    extern "C" fn nest(_: TextAddr, _: TextAddr, _: &'static Kprobe, _: KprobeRegs<'_>) {
        assert_eq!(traced(probed_answer(1)), 9);
    }
    static TRACED: Kprobe = Kprobe::new(count).with_hits();
    prepare();
    let place = |number| instruction(probed_answer as *const (), number);
    assert_eq!(register(&OUTER, place(1)), Ok(ServedBy::Breakpoint));
    assert_eq!(register(&INNER, place(2)), Ok(ServedBy::Breakpoint));
    assert_eq!(register(&TRACED, entry_of(traced)), Ok(ServedBy::Callsite));
    let after = AFTER.load(Ordering::Relaxed);
    assert_eq!(probed_answer(0), 7);
    // In each of the two handlers all three are passed.
    assert_eq!((OUTER.hits(), OUTER.missed()), (1, 2));
    assert_eq!((INNER.hits(), INNER.missed()), (1, 2));
    assert_eq!((TRACED.hits(), TRACED.missed()), (0, 2));
    assert_eq!(AFTER.load(Ordering::Relaxed) - after, 1);
    assert!(!percpu::this().trace.in_callback());
    assert_eq!(KPROBES.unregister(&OUTER), Ok(()));
    assert_eq!(register(&OUTER_JUMP, place(1)), Ok(ServedBy::Jump));
    assert_eq!(probed_answer(0), 7);
    assert_eq!((OUTER_JUMP.hits(), OUTER_JUMP.missed()), (1, 1));
    assert_eq!((INNER.hits(), INNER.missed()), (2, 3));
    assert_eq!((TRACED.hits(), TRACED.missed()), (0, 3));
    assert!(!percpu::this().trace.in_callback());
    // One that asks for more makes it a breakpoint, for both.
    assert_eq!(register(&OUTER, place(1)), Ok(ServedBy::Breakpoint));
    assert_eq!(OUTER_JUMP.served_by(), Some(ServedBy::Breakpoint));
    assert_eq!(probed_answer(0), 7);
    assert_eq!((OUTER.hits(), OUTER_JUMP.hits()), (2, 2));
    assert_eq!(KPROBES.unregister(&OUTER), Ok(()));
    assert_eq!(OUTER_JUMP.served_by(), Some(ServedBy::Jump));
    for probe in [&OUTER_JUMP, &INNER, &TRACED] {
        assert_eq!(KPROBES.unregister(probe), Ok(()));
    }
}

fn a_fault_is_one_at_the_probed_instruction() {
    static JUMP: Kprobe = Kprobe::new(count).with_hits();
    static BREAKPOINT: Kprobe = Kprobe::new(count).with_after(count_after).with_hits();
    prepare();
    let at = instruction(probed_load as *const (), 1);
    let value = 77_u64;
    for (probe, served) in [(&JUMP, ServedBy::Jump), (&BREAKPOINT, ServedBy::Breakpoint)] {
        assert_eq!(register(probe, at), Ok(served));
        // SAFETY: it is there.
        assert_eq!(unsafe { probed_load(&raw const value) }, 77);
        fault_at(at);
        assert_eq!((probe.hits(), percpu::this().trace.in_callback()), (2, false));
        assert_eq!(KPROBES.unregister(probe), Ok(()));
    }
}

fn fault_at(at: TextAddr) {
    let fault = catch(|| {
        // SAFETY: the fault is caught.
        black_box(unsafe { probed_load(core::ptr::without_provenance(0x7fff_ffff_f000)) });
    });
    let fault = fault.expect_err("nothing is mapped there");
    assert_eq!((fault.pc, fault.far), (at.get(), 0x7fff_ffff_f000));
}

static SEEDS: [AtomicU64; percpu::MAX_CPUS] = [const { AtomicU64::new(0) }; percpu::MAX_CPUS];
static FROM_HANDLERS: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(usize::MAX);
/// What the items that are run on several CPUs give.
static RESULTS: [AtomicU64; ITEMS.len()] = [const { AtomicU64::new(0) }; ITEMS.len()];

/// Items that take no lock, so that interrupt handlers may run them.
fn is_for_handlers(item: usize) -> bool {
    matches!(ITEMS[item].name, "assembly" | "jumps" | "hashing" | "calls")
}

fn check(item: usize) {
    if (ITEMS[item].run)() != RESULTS[item].load(Ordering::Relaxed) {
        WRONG.store(item, Ordering::Relaxed);
    }
}

fn tick(_: &ExceptionFrame) {
    let state = &SEEDS[percpu::this().index()];
    let number = state.fetch_add(1, Ordering::Relaxed) as usize;
    let item = number % ITEMS.len();
    if is_for_handlers(item) {
        check(item);
        FROM_HANDLERS.fetch_add(1, Ordering::Relaxed);
    }
}

fn probes_come_and_go_under_four_cpus() {
    const SETS: usize = ITEMS.len();
    prepare();
    let seed = setting("seed").unwrap_or(1);
    let executed: Vec<_> = ITEMS.iter().map(|item| stepped(item.run)).collect();
    executed.iter().zip(&RESULTS).for_each(|((result, _), place)| place.store(*result, Ordering::Relaxed));
    let cpus = smp::start_all();
    let (is_over, runs) = (AtomicBool::new(false), AtomicU64::new(0));
    let hits_before: u64 = PROBES.iter().flatten().map(Kprobe::hits).sum();
    interrupts::on_tick(Some(tick));
    smp::on_all(|cpu| {
        let mut random = Random::new(seed, cpu as u64);
        interrupts::start_ticks(Duration::from_micros(200));
        if cpu == 0 {
            for n in 0..SETS {
                let (_, executed) = &executed[n % ITEMS.len()];
                let set = probed_set(&mut random, executed, 20);
                for (probe, _) in &set {
                    if random.below(4) == 0 {
                        assert_eq!(KPROBES.disable(probe), Ok(()));
                        assert_eq!(KPROBES.enable(probe), Ok(()));
                    }
                }
                check(n % ITEMS.len());
                for (probe, _) in &set {
                    assert_eq!(KPROBES.unregister(probe), Ok(()));
                    let hits = probe.hits();
                    check(n % ITEMS.len());
                    assert_eq!(probe.hits(), hits, "it is called after it was removed");
                }
            }
            is_over.store(true, Ordering::Relaxed);
        } else {
            while !is_over.load(Ordering::Relaxed) && WRONG.load(Ordering::Relaxed) == usize::MAX {
                check(random.below(ITEMS.len() as u64) as usize);
                runs.fetch_add(1, Ordering::Relaxed);
            }
        }
        interrupts::stop_ticks();
    });
    interrupts::on_tick(None);
    let wrong = ITEMS.get(WRONG.load(Ordering::Relaxed)).map(|item| item.name);
    assert_eq!(wrong, None, "seed={seed}: a wrong result");
    assert_eq!(KPROBES.instructions().count(), 0);
    let hits = PROBES.iter().flatten().map(Kprobe::hits).sum::<u64>() - hits_before;
    let handlers = FROM_HANDLERS.load(Ordering::Relaxed);
    println!("{cpus} CPUs, {} runs, {handlers} of handlers, {hits} hits", runs.load(Ordering::Relaxed));
    assert!(hits > 0 && handlers > 0);
}
