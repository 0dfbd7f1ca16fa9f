//! Interrupts fall on every part of a traced call, and the call is right all the same.
//!
//! Instructions are counted here, and the count is the time: a tick comes between any two of them. (Without, the emulator
//! takes interrupts only where a piece of translated code ends, which is never between MOV and BL.) CPU 0 calls, and notes
//! at each tick what it interrupted; another CPU, if there is one, switches the callsite on and off meanwhile.
//!
//! On the kernel's command line: `seed=N`.
#![no_std]
#![no_main]

extern crate alloc;

use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use fentry::callsite::NOP;
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr};
use support::harness::setting;
use support::random::Random;
use support::vectors::ExceptionFrame;
use support::{count, engine, interrupts, percpu, println, smp};

support::boot_tests! {
    interrupts_fall_on_every_part_of_a_traced_call,
    a_cpu_between_the_two_instructions_goes_on_with_the_new_one,
}

/// How many interrupts of CPU 0 there are for each of [`PERIODS`]. An unoptimised kernel takes longer for each.
const TICKS: u64 = if cfg!(debug_assertions) { 1_000 } else { 6_000 };
/// The longest time between two ticks, in counts of the timer (16 instructions where each takes a nanosecond).
const PERIODS: [u64; 4] = [20, 50, 100, 333];

/// A place where an interrupt can come.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Place {
    LandingPad,
    Mov,
    /// Between the two instructions, the second one being a BL.
    BeforeBl,
    /// Between the two instructions, the second one being a NOP.
    BeforeNop,
    /// Code that was generated for a set of ops.
    Generated,
    /// The assembly that walks a list of ops.
    Assembly,
    Engine,
    Callback,
    Function,
    Caller,
    Elsewhere,
}

const PLACES: [&str; 11] = [
    "before BTI",
    "before MOV",
    "between MOV and BL",
    "between MOV and NOP",
    "in a generated stub",
    "in the assembly",
    "in the engine",
    "in the callback",
    "in the function",
    "in the caller",
    "elsewhere",
];

static HITS: [AtomicU64; PLACES.len()] = [const { AtomicU64::new(0) }; PLACES.len()];
/// How often each instruction of the assembly was interrupted.
static IN_ASSEMBLY: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];
/// How often each of the first instructions of the room for generated code was interrupted, where the only set of ops has
/// its stub.
static IN_ROOM: [AtomicU32; 128] = [const { AtomicU32::new(0) }; 128];
/// How many of these instructions belong to the largest stub, up to its end.
static GENERATED: AtomicUsize = AtomicUsize::new(0);

static FUNCTION: AtomicU64 = AtomicU64::new(0);
static CALL: AtomicU64 = AtomicU64::new(0);
static PERIOD: AtomicU64 = AtomicU64::new(1);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static CALLBACKS: AtomicU64 = AtomicU64::new(0);

static LIVE: Ops = Ops::new(callback);
static FULL: Ops = Ops::new(callback).with_flags(OpsFlags::SAVE_REGS);
/// The two together have a list, without all registers.
static OTHER: Ops = Ops::new(callback);
/// What is registered together: each has another stub.
static TOGETHER: [&[&Ops]; 3] = [&[&LIVE], &[&FULL], &[&LIVE, &OTHER]];

#[inline(never)]
extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    let calls = CALLBACKS.fetch_add(1, Ordering::Relaxed);
    if calls.is_multiple_of(4) {
        // Inside a callback it isn't traced, and the stub turns back.
        assert_eq!(traced(calls), answer(calls));
    }
}

#[inline(never)]
extern "C" fn traced(x: u64) -> u64 {
    let mut x = black_box(x);
    for turn in 0..4 {
        x = answer_once(x, turn);
    }
    x
}

#[inline(always)]
fn answer(x: u64) -> u64 {
    (0..4).fold(x, answer_once)
}

#[inline(always)]
fn answer_once(x: u64, turn: u64) -> u64 {
    x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7) ^ turn
}

/// Calls from CPU 0 until it had so many ticks.
#[inline(never)]
fn caller(until: u64) {
    let mut x = 1_u64;
    while percpu::this().ticks() < until {
        assert_eq!(black_box(traced as extern "C" fn(u64) -> u64)(x), answer(x));
        x += 1;
    }
}

fn assembly() -> Range<u64> {
    unsafe extern "C" {
        static fentry_stub_text_start: u32;
        static fentry_stub_text_stop: u32;
    }
    (&raw const fentry_stub_text_start).addr() as u64..(&raw const fentry_stub_text_stop).addr() as u64
}

fn room() -> Range<u64> {
    unsafe extern "C" {
        static __fentry_stubs_start: u32;
        static __fentry_stubs_stop: u32;
    }
    (&raw const __fentry_stubs_start).addr() as u64..(&raw const __fentry_stubs_stop).addr() as u64
}

/// How many instructions there are at the start of the room up to the first RET X9, or none.
fn generated() -> usize {
    const RET_X9: u32 = 0xd65f_0120;
    let words = (room().start..).step_by(4).take(IN_ROOM.len());
    words.map(word_at).position(|word| word == RET_X9).map_or(0, |last| last + 1)
}

fn prepare() -> &'static Engine {
    let (engine, _) = engine();
    smp::start_all();
    let function = (traced as *const ()).addr() as u64;
    let mut call = 0;
    engine.for_each_callsite(|status| {
        if status.callsite.function().get() == function {
            call = status.callsite.call_addr().get();
        }
    });
    assert_ne!(call, 0);
    FUNCTION.store(function, Ordering::Relaxed);
    CALL.store(call, Ordering::Relaxed);
    engine
}

fn word_at(at: u64) -> u32 {
    // SAFETY: the address of an instruction that was interrupted.
    unsafe { core::ptr::with_exposed_provenance::<u32>(at as usize).read_volatile() }
}

fn place(pc: u64) -> Place {
    let call = CALL.load(Ordering::Relaxed);
    if assembly().contains(&pc) {
        let instruction = (pc - assembly().start) as usize / 4;
        IN_ASSEMBLY[instruction].fetch_add(1, Ordering::Relaxed);
        return Place::Assembly;
    }
    if room().contains(&pc) {
        let instruction = (pc - room().start) as usize / 4;
        if let Some(hits) = IN_ROOM.get(instruction) {
            hits.fetch_add(1, Ordering::Relaxed);
        }
        return Place::Generated;
    }
    if pc == call {
        return if word_at(pc) == NOP { Place::BeforeNop } else { Place::BeforeBl };
    }
    if pc == call - 4 {
        return Place::Mov;
    }
    if pc == FUNCTION.load(Ordering::Relaxed) {
        return Place::LandingPad;
    }
    let (engine, _) = engine();
    let name = engine.symbols().and_then(|symbols| symbols.lookup_addr(pc)).map_or("", |found| found.symbol.name);
    match name {
        "live_interrupted::callback" => Place::Callback,
        "live_interrupted::traced" => Place::Function,
        "live_interrupted::caller" => Place::Caller,
        engine if engine.starts_with("fentry::") => Place::Engine,
        _ => Place::Elsewhere,
    }
}

fn note(frame: &ExceptionFrame) {
    let mut random = Random::new(RANDOM.load(Ordering::Relaxed), percpu::this().ticks());
    if percpu::this().index() == 0 {
        HITS[place(frame.elr) as usize].fetch_add(1, Ordering::Relaxed);
    }
    let counts = 1 + random.below(PERIOD.load(Ordering::Relaxed));
    interrupts::set_tick_period(Duration::from_nanos(16 * counts));
    RANDOM.store(random.next(), Ordering::Relaxed);
}

fn interrupts_fall_on_every_part_of_a_traced_call() {
    let engine = prepare();
    let seed = setting("seed").unwrap_or(1);
    println!("seed={seed} on {} CPUs", smp::online().count());
    RANDOM.store(seed, Ordering::Relaxed);
    let rules = [Rule::address(TextAddr::new(FUNCTION.load(Ordering::Relaxed)))];
    let filter = Filter::new(&rules);
    let alone = smp::online().nth(1).is_none();

    interrupts::on_tick(Some(note));
    for period in PERIODS {
        for together in TOGETHER {
            let register = || {
                for ops in together {
                    engine.register(ops, &filter).expect("it isn't registered");
                }
                GENERATED.fetch_max(generated(), Ordering::Relaxed);
            };
            let unregister = || {
                for ops in together {
                    engine.unregister(ops).expect("it is registered");
                }
            };
            PERIOD.store(period, Ordering::Relaxed);
            let stop = AtomicBool::new(false);
            smp::on_cpus(smp::online().take(2), |cpu| {
                if cpu != 0 {
                    while !stop.load(Ordering::Acquire) {
                        register();
                        wait(200);
                        unregister();
                        wait(50);
                    }
                    return;
                }
                if alone {
                    register();
                }
                interrupts::start_ticks(Duration::from_nanos(16 * period));
                caller(percpu::this().ticks() + TICKS);
                interrupts::stop_ticks();
                stop.store(true, Ordering::Release);
                if alone {
                    unregister();
                }
            });
        }
    }
    interrupts::on_tick(None);
    show();
}

/// Lets the other CPU go on for a while.
fn wait(turns: u32) {
    for _ in 0..turns {
        smp::wait();
    }
}

fn show() {
    let hits = |place: Place| HITS[place as usize].load(Ordering::Relaxed);
    for (name, hits) in PLACES.iter().zip(&HITS) {
        println!("  {name:20} {:7}", hits.load(Ordering::Relaxed));
    }
    let hit = |of: &[AtomicU32]| of.iter().filter(|hits| hits.load(Ordering::Relaxed) != 0).count();
    let assembly = (assembly().end - assembly().start) as usize / 4;
    let generated = GENERATED.load(Ordering::Relaxed);
    let (hit_there, hit_here) = (hit(&IN_ASSEMBLY[..assembly]), hit(&IN_ROOM[..generated]));
    println!("  of the assembly's {assembly} instructions {hit_there} were interrupted");
    println!("  of a stub's {generated} instructions {hit_here} were interrupted");
    if count::start().is_none() {
        println!("  (this machine counts no instructions: interrupts come where the emulator likes)");
        return;
    }
    for place in [Place::Mov, Place::BeforeBl, Place::Generated, Place::Assembly, Place::Callback, Place::Function] {
        assert_ne!(hits(place), 0, "no interrupt came {}", PLACES[place as usize]);
    }
    // Not all: some instructions pad, some are for a CPU that isn't ready to be traced or for a recursion-safe ops.
    assert!(
        hit_there * 3 > assembly * 2,
        "only {hit_there} of the assembly's {assembly} instructions were interrupted"
    );
    // All but the landing pad, and what the dice left out.
    assert!(generated > 20 && hit_here * 10 > generated * 8, "only {hit_here} of a stub's {generated} instructions");
}

/// A CPU is held in its interrupt handler, between MOV and the BL that it has not executed yet, until another CPU has
/// taken the BL away; then it must not execute it. And the same the other way round.
fn a_cpu_between_the_two_instructions_goes_on_with_the_new_one() {
    static HELD: AtomicU64 = AtomicU64::new(0);
    static AGAIN: AtomicU64 = AtomicU64::new(0);
    fn hold(frame: &ExceptionFrame) {
        let mut random = Random::new(RANDOM.load(Ordering::Relaxed), percpu::this().ticks());
        interrupts::set_tick_period(Duration::from_nanos(16 * (1 + random.below(60))));
        RANDOM.store(random.next(), Ordering::Relaxed);
        if frame.elr != CALL.load(Ordering::Relaxed) || percpu::this().index() != 0 {
            return;
        }
        let held = word_at(frame.elr);
        let mut left = 100_000_u32;
        while word_at(frame.elr) == held && left != 0 {
            smp::wait();
            left -= 1;
        }
        if left != 0 {
            if held == NOP { &AGAIN } else { &HELD }.fetch_add(1, Ordering::Relaxed);
        }
    }
    let engine = prepare();
    if smp::online().nth(1).is_none() || count::start().is_none() {
        println!("(it takes two CPUs, and counted instructions)");
        return;
    }
    let rules = [Rule::address(TextAddr::new(FUNCTION.load(Ordering::Relaxed)))];
    let filter = Filter::new(&rules);
    let wanted = if cfg!(debug_assertions) { 5 } else { 50 };
    let enough = || HELD.load(Ordering::Relaxed) >= wanted && AGAIN.load(Ordering::Relaxed) >= wanted;
    interrupts::on_tick(Some(hold));
    smp::on_cpus(smp::online().take(2), |cpu| {
        if cpu == 0 {
            interrupts::start_ticks(Duration::from_nanos(1000));
            while !enough() {
                caller(percpu::this().ticks() + 10);
            }
            interrupts::stop_ticks();
        } else {
            while !enough() {
                engine.register(&LIVE, &filter).expect("nothing else is registered");
                wait(500);
                engine.unregister(&LIVE).expect("it is registered");
                let before = CALLBACKS.load(Ordering::Relaxed);
                wait(500);
                assert_eq!(CALLBACKS.load(Ordering::Relaxed), before, "an old BL was executed");
            }
        }
    });
    interrupts::on_tick(None);
    println!(
        "held before a BL that went away {}, before a NOP that became one {}",
        HELD.load(Ordering::Relaxed),
        AGAIN.load(Ordering::Relaxed)
    );
    assert_eq!(engine.check_text().wrong, 0);
}
