//! What a traced call costs, and what it costs to change one: guest instructions, which repeat exactly.
//!
//! A call's cost is the difference to the same call with its callsite disabled; what is called is an empty function, and
//! so are the callbacks, whose own instructions are part of it: a landing pad and a RET. A change's cost is that of the whole call of the engine,
//! with a filter that names one function by its address, in a kernel with some thousand callsites.
//!
//! Each call has a bound of its own, two instructions above what it costs today. The numbers are of kernels without SIMD
//! registers, where a call has as much to keep as in a kernel that is compiled for general registers only; where there are
//! any, a stub that keeps them has eight instructions more, four to save them and four to restore them.
#![no_std]
#![no_main]
#![feature(patchable_function_entry)]

extern crate alloc;

use boot_tests::functions::FUNCTIONS;
use core::arch::{asm, naked_asm};
use core::hint::black_box;
use fentry::ops::direct::Trampoline;
use fentry::trampoline::Implementations;
use fentry::trampoline::attach::{Attach, AttachPoint, Fentry, Fexit, ModifyReturn};
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr, direct_trampoline};
use support::{count, engine, println, smallest};

support::boot_tests! {
    a_call_pays_for_its_own_ops_only,
    changing_one_callsite_does_not_look_at_the_others,
    a_call_by_a_table_costs_what_a_plain_one_does,
    a_call_pays_for_the_kind_of_its_attachments,
}

/// Calls that are counted.
const CALLS: u32 = 64;

#[inline(never)]
extern "C" fn callee() {
    // SAFETY: nothing at all. The function can't be left out then.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

#[inline(never)]
extern "C" fn other() {
    // SAFETY: nothing at all; not the same nothing as above, or the two were one function.
    unsafe { asm!("nop", options(nostack, preserves_flags)) };
}

/// Has a frame record, as this kernel is compiled.
#[patchable_function_entry(prefix_nops = 0, entry_nops = 0)]
extern "C" fn nothing_compiled(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

#[unsafe(naked)]
extern "C" fn direct_nothing(_: FtraceRegs<'_>) {
    naked_asm!("hint #34", "ret")
}

/// A hundred and a few.
static MANY: [Ops; 100] = [const { Ops::new(smallest::callback) }; 100];
static COMPILED: Ops = Ops::new(nothing_compiled);
static SAFE: Ops = Ops::new(smallest::callback).with_flags(OpsFlags::RECURSION_SAFE);
static FULL: Ops = Ops::new(smallest::callback).with_flags(OpsFlags::SAVE_REGS);
static DIRECT: Ops = {
    // SAFETY: it keeps to the convention.
    let trampoline = unsafe { Trampoline::new(smallest::trampoline) };
    Ops::direct_call(trampoline)
};
static DIRECT_IN_RUST: Ops = Ops::direct_call(direct_trampoline!(direct_nothing));

fn address(function: extern "C" fn()) -> [Rule<'static>; 1] {
    [Rule::address(TextAddr::new((function as *const ()).addr() as u64))]
}

/// The instructions of so many calls; `None` where this machine can't count.
#[inline(never)]
fn calls() -> Option<u32> {
    let function = black_box(callee as extern "C" fn());
    let count = count::start()?;
    for _ in 0..CALLS {
        function();
    }
    Some(count.instructions())
}

/// What a call costs beyond one with a disabled callsite while these are registered for the callee.
fn cost(engine: &Engine, together: &[&'static Ops]) -> Option<u32> {
    // What is only done the first time is done.
    calls();
    let disabled = calls()?;
    for ops in together {
        engine.register(ops, &Filter::new(&address(callee))).unwrap_or_else(|error| panic!("{error}"));
    }
    let enabled = calls()?;
    for ops in together {
        engine.unregister(ops).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!((enabled - disabled) % CALLS, 0, "each call costs the same");
    Some((enabled - disabled) / CALLS)
}

/// What keeping SIMD registers takes.
const SIMD: u32 = if cfg!(target_feature = "neon") { 8 } else { 0 };
/// What a call may cost beyond today's number.
const SLACK: u32 = 2;

fn a_call_pays_for_its_own_ops_only() {
    let (engine, _) = engine();
    let all: alloc::vec::Vec<&'static Ops> = MANY.iter().collect();
    if count::start().is_none() {
        println!("    (this machine counts no instructions)");
        return;
    }
    for ops in &MANY {
        engine.register(ops, &Filter::new(&address(other))).unwrap_or_else(|error| panic!("{error}"));
    }
    let elsewhere = cost(engine, &[]);
    let disabled = calls();
    for ops in &MANY {
        engine.unregister(ops).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(disabled, calls());
    let both = [&MANY[0], &MANY[1]];
    // What each costs today.
    let cases: [(&str, Option<u32>, u32); 12] = [
        ("none here, 100 elsewhere", elsewhere, 0),
        ("one ops", cost(engine, &both[..1]), 30 + SIMD),
        ("one ops, its callback with a frame record", cost(engine, &[&COMPILED]), 32 + SIMD),
        ("one ops that is recursion-safe", cost(engine, &[&SAFE]), 31 + SIMD),
        ("two", cost(engine, &both), 56 + SIMD),
        ("ten", cost(engine, &all[..10]), 128 + SIMD),
        ("a hundred", cost(engine, &all), 938 + SIMD),
        ("one that has all registers", cost(engine, &[&FULL]), 77 + SIMD),
        ("one that has all registers, and one other", cost(engine, &[&FULL, both[0]]), 86 + SIMD),
        ("a direct call", cost(engine, &[&DIRECT]), 4),
        ("a direct call in Rust", cost(engine, &[&DIRECT_IN_RUST]), 22 + SIMD),
        ("a direct call beside one ops", cost(engine, &[&DIRECT, both[0]]), 54 + SIMD),
    ];
    for (what, cost, today) in cases {
        println!("    {what:44} {:6} (today {today})", cost.unwrap_or_default());
    }
    for (what, cost, today) in cases {
        let cost = cost.expect("this machine counts instructions");
        // Nothing is nothing, and a call that costs much less than is known was not made.
        let bounds = if today == 0 { 0..=0 } else { today - SLACK..=today + SLACK };
        assert!(bounds.contains(&cost), "{what}: {cost} instructions, and not {today}");
    }
}

fn changing_one_callsite_does_not_look_at_the_others() {
    let (engine, init) = engine();
    let rules = address(callee);
    let filter = Filter::new(&rules);
    // So that they are linked.
    assert_eq!(black_box(&FUNCTIONS)[3][7](0), 307);
    println!("    {} callsites", init.counts.accepted);
    for around in [0, 1, 10, 99] {
        for ops in &MANY[..around] {
            engine.register(ops, &filter).unwrap_or_else(|error| panic!("{error}"));
        }
        let ops = &MANY[99];
        // What is only done the first time is done.
        engine.register(ops, &filter).unwrap_or_else(|error| panic!("{error}"));
        engine.unregister(ops).unwrap_or_else(|error| panic!("{error}"));
        let Some(count) = count::start() else { return };
        let start = count.instructions();
        engine.register(ops, &filter).unwrap_or_else(|error| panic!("{error}"));
        let between = count.instructions();
        engine.unregister(ops).unwrap_or_else(|error| panic!("{error}"));
        let end = count.instructions();
        for ops in &MANY[..around] {
            engine.unregister(ops).unwrap_or_else(|error| panic!("{error}"));
        }
        println!(
            "    beside {around:2} others: {:6} to register, {:6} to unregister (aim 2000)",
            between - start,
            end - between
        );
        if around <= 10 && !cfg!(debug_assertions) {
            // A look at every callsite would be more.
            let all = 8 * init.counts.accepted as u32;
            assert!(between - start < all && end - between < all, "it takes as long as looking at all callsites");
        }
    }
}

fentry::ops_struct! {
    /// A table that is called by.
    struct PolicyOps => Policy {
        fn pick(waiting: u64, last: u64) -> u64;
    }
}

extern "C" fn oldest(_waiting: u64, last: u64) -> u64 {
    last + 1
}

static PLAIN: PolicyOps = PolicyOps { pick: Some(oldest) };
static POLICY: Implementations<PolicyOps> = Implementations::new();

#[inline(never)]
fn plain(table: &PolicyOps, rounds: u64) -> u64 {
    let mut last = 0;
    for _ in 0..rounds {
        last = table.pick.map_or(0, |pick| pick(7, last));
    }
    last
}

#[inline(never)]
fn by_face(policy: &Policy, rounds: u64) -> u64 {
    let mut last = 0;
    for _ in 0..rounds {
        last = policy.pick(7, last);
    }
    last
}

fn a_call_by_a_table_costs_what_a_plain_one_does() {
    const ROUNDS: u64 = 1000;
    let prepared = POLICY.prepare(engine().0, "fifo", &PLAIN).unwrap_or_else(|error| panic!("{error}"));
    drop(prepared.put_in_use());
    let policy = POLICY.user().expect("in use");
    let Some(counter) = count::start() else {
        println!("(this machine counts no instructions)");
        return;
    };
    let cost = |run: &dyn Fn() -> u64| {
        let start = counter.instructions();
        assert_eq!(run(), ROUNDS);
        counter.instructions() - start
    };
    let plain = cost(&|| plain(black_box(&PLAIN), ROUNDS));
    let by_face = cost(&|| by_face(black_box(&policy), ROUNDS));
    let comes = cost(&|| (0..ROUNDS).fold(0, |last, _| POLICY.user().map_or(0, |policy| policy.pick(7, last))));
    println!("({plain} instructions for {ROUNDS} plain calls, {by_face} by the face, {comes} with a user for each)");
    // The function is loaded for each call, or once for all of them: as the compiler likes.
    assert!(by_face <= plain + 8, "{by_face} instructions instead of {plain}");
}

type Two = extern "C" fn(u64, u64) -> u64;

#[inline(never)]
extern "C" fn two(a: u64, b: u64) -> u64 {
    black_box(a ^ b)
}

static POINT: AttachPoint<Two> = AttachPoint::new(two);
static ENTRY: Fentry<Two> = Fentry::<Two>::new(smallest::entry);
static ENTRY_THAT_CALLS: Fentry<Two> = Fentry::<Two>::new(smallest::entry_that_calls);
// SAFETY: 1. Its callers take any number. 2. They rely on nothing else.
static MODIFY: ModifyReturn<Two> = unsafe { ModifyReturn::<Two>::new(smallest::modify) };
// SAFETY: 1. Its callers take any number. 2. They rely on nothing else.
static MODIFY_THAT_CALLS: ModifyReturn<Two> = unsafe { ModifyReturn::<Two>::new(smallest::modify_that_calls) };
static EXIT: Fexit<Two> = Fexit::<Two>::new(smallest::exit);
static EXIT_THAT_CALLS: Fexit<Two> = Fexit::<Two>::new(smallest::exit_that_calls);

/// The instructions of so many calls.
#[inline(never)]
fn calls_of_two() -> Option<u32> {
    let function = black_box(two as Two);
    let count = count::start()?;
    for turn in 0..CALLS {
        black_box(function(turn.into(), 3));
    }
    Some(count.instructions())
}

/// What a call costs beyond one with a disabled callsite while this is attached.
fn cost_of(attachment: &'static impl Attach<Two>) -> Option<u32> {
    let (engine, _) = engine();
    calls_of_two();
    let disabled = calls_of_two()?;
    POINT.attach(engine, attachment).unwrap_or_else(|error| panic!("{error}"));
    let enabled = calls_of_two()?;
    POINT.detach(engine, attachment).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((enabled - disabled) % CALLS, 0, "each call costs the same");
    Some((enabled - disabled) / CALLS)
}

/// What the CPU's atomic additions save, of two.
fn saved_by_atomics() -> u32 {
    let isar0: u64;
    // SAFETY: reading which instructions there are changes nothing.
    unsafe { asm!("mrs {}, id_aa64isar0_el1", out(reg) isar0, options(nomem, nostack, preserves_flags)) };
    if isar0 >> 20 & 0xf >= 2 { 4 } else { 0 }
}

fn a_call_pays_for_the_kind_of_its_attachments() {
    if count::start().is_none() {
        println!("    (this machine counts no instructions)");
        return;
    }
    // Each with one handler of two arguments, which has a landing pad and a RET; one that has to return 0, an instruction for that;
    // and one that may call something, one to pass over the call.
    let cases = [
        ("fentry", cost_of(&ENTRY), 12),
        ("fentry, its handler may call", cost_of(&ENTRY_THAT_CALLS), 19 + 1),
        ("modify-return", cost_of(&MODIFY), 13 + 1),
        ("modify-return, its handler may call", cost_of(&MODIFY_THAT_CALLS), 20 + 2),
        ("fexit", cost_of(&EXIT), 26 - saved_by_atomics()),
        ("fexit, its handler may call", cost_of(&EXIT_THAT_CALLS), 33 + 1 - saved_by_atomics()),
    ];
    for (what, cost, today) in cases {
        println!("    {what:44} {:6} (today {today})", cost.unwrap_or_default());
    }
    for (what, cost, today) in cases {
        assert_eq!(cost, Some(today), "{what}");
    }
}
