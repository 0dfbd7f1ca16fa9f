//! The callee can't tell: every register that the AAPCS64 makes live at a function's entry is what the caller put there,
//! whatever a callback did in between, and the caller gets back what it may rely on.
//!
//! A caller in assembly sets every register to a value of its own and calls a function in assembly that writes down what
//! it sees. Between the two stands a callsite, and behind that a callback that overwrites all that a function may.
#![no_std]
#![no_main]
#![feature(c_variadic)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::{global_asm, naked_asm};
use core::ffi::VaList;
use core::hint::black_box;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use fentry::context::unwind::Frames;
use fentry::engine::InitReport;
use fentry::ops::direct::Trampoline;
use fentry::record::flight::FlightSlot;
use fentry::record::hits::CallsiteHits;
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, PtRegs, Rule, TextAddr, direct_trampoline};
use support::registers::trash;
use support::simd;

support::boot_tests! {
    without_a_callback_the_callee_sees_its_registers,
    every_stub_keeps_every_live_register,
    counters_and_recorders_keep_every_live_register,
    all_registers_are_shown_where_an_ops_asks_for_them,
    only_the_live_registers_are_shown_where_no_ops_asks_for_all,
    arguments_on_the_stack_arrive,
    a_result_in_memory_arrives,
    variadic_arguments_arrive,
    floating_point_arguments_arrive,
    a_tail_call_is_traced_with_the_callers_caller,
    a_backtrace_in_a_callback_names_the_function_and_its_callers,
}

fn engine() -> (&'static Engine, InitReport) {
    support::engine()
}

/// What the callee sees, and what the caller gets back.
#[repr(C, align(16))]
struct Seen {
    q: [u128; 32],
    x: [u64; 31],
    sp: u64,
    caller_sp: u64,
    returned_sp: u64,
    returned_x: [u64; 31],
    padding: u64,
    returned_d: [u64; 8],
}

static mut SEEN: Seen = Seen {
    q: [0; 32],
    x: [0; 31],
    sp: 0,
    caller_sp: 0,
    returned_sp: 0,
    returned_x: [0; 31],
    padding: 0,
    returned_d: [0; 8],
};

/// x`n` holds n times this, q`n` that in both halves.
const STEP: u64 = 0x0101_0101_0101_0101;

unsafe extern "C" {
    fn registers_caller();
    fn registers_callee();
    fn registers_tail_from(value: u64) -> u64;
    fn registers_tail_to(value: u64) -> u64;
}

global_asm!(
    // A callsite as the compiler would make it.
    ".macro patchable name",
    "    .balign 8",
    "    .global \\name",
    "    .type \\name, %function",
    "\\name:",
    "    bti c",
    "\\name\\()_nops:",
    "    nop",
    "    nop",
    "    .pushsection __patchable_function_entries, \"awo\", %progbits, .text.registers",
    "    .balign 8",
    "    .quad \\name\\()_nops",
    "    .popsection",
    ".endm",

    ".pushsection .text.registers, \"ax\", %progbits",
    ".arch_extension bti",
    "    .balign 8",
    "    .global registers_caller",
    "    .type registers_caller, %function",
    "registers_caller:",
    "    stp   x29, x30, [sp, #-176]!",
    "    stp   x19, x20, [sp, #16]",
    "    stp   x21, x22, [sp, #32]",
    "    stp   x23, x24, [sp, #48]",
    "    stp   x25, x26, [sp, #64]",
    "    stp   x27, x28, [sp, #80]",
    simd!("stp   d8, d9, [sp, #96]
           stp   d10, d11, [sp, #112]
           stp   d12, d13, [sp, #128]
           stp   d14, d15, [sp, #144]"),
    "    str   x18, [sp, #160]",
    "    adrp  x16, {seen}",
    "    add   x16, x16, :lo12:{seen}",
    "    mov   x17, sp",
    "    str   x17, [x16, {caller_sp}]",
    "    ldr   x17, ={step}",
    "    mov   x0, xzr",
    ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "    mov   x16, #\\n",
    "    mul   x\\n, x16, x17",
    ".endr",
    ".irp n, 18,19,20,21,22,23,24,25,26,27,28,29",
    "    mov   x16, #\\n",
    "    mul   x\\n, x16, x17",
    ".endr",
    simd!(".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
           mov   x16, #\\n
           mul   x16, x16, x17
           dup   v\\n\\().2d, x16
           .endr"),
    "    mov   x16, #16",
    "    mul   x16, x16, x17",
    "    add   x17, x17, x16",                  // 17 times the step
    "    bl    registers_callee",
    "registers_return:",
    "    adrp  x16, {seen}",
    "    add   x16, x16, :lo12:{seen}",
    "    mov   x17, sp",
    "    str   x17, [x16, {returned_sp}]",
    "    add   x17, x16, {returned_x}",
    "    stp   x18, x19, [x17, #144]",
    "    stp   x20, x21, [x17, #160]",
    "    stp   x22, x23, [x17, #176]",
    "    stp   x24, x25, [x17, #192]",
    "    stp   x26, x27, [x17, #208]",
    "    stp   x28, x29, [x17, #224]",
    simd!(
        "add   x17, x16, {returned_d}
           stp   d8, d9, [x17]
           stp   d10, d11, [x17, #16]
           stp   d12, d13, [x17, #32]
           stp   d14, d15, [x17, #48]"
    ),
    "    ldr   x18, [sp, #160]",
    simd!("ldp   d8, d9, [sp, #96]
           ldp   d10, d11, [sp, #112]
           ldp   d12, d13, [sp, #128]
           ldp   d14, d15, [sp, #144]"),
    "    ldp   x19, x20, [sp, #16]",
    "    ldp   x21, x22, [sp, #32]",
    "    ldp   x23, x24, [sp, #48]",
    "    ldp   x25, x26, [sp, #64]",
    "    ldp   x27, x28, [sp, #80]",
    "    ldp   x29, x30, [sp], #176",
    "    ret",
    "    .size registers_caller, . - registers_caller",

    "    patchable registers_callee",
    "    adrp  x16, {seen}",
    "    add   x16, x16, :lo12:{seen}",
    simd!(".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
           str   q\\n, [x16, #16 * \\n]
           .endr"),
    "    add   x16, x16, {x}",
    "    stp   x0, x1, [x16]",
    "    stp   x2, x3, [x16, #16]",
    "    stp   x4, x5, [x16, #32]",
    "    stp   x6, x7, [x16, #48]",
    "    str   x8, [x16, #64]",
    "    stp   x18, x19, [x16, #144]",
    "    stp   x20, x21, [x16, #160]",
    "    stp   x22, x23, [x16, #176]",
    "    stp   x24, x25, [x16, #192]",
    "    stp   x26, x27, [x16, #208]",
    "    stp   x28, x29, [x16, #224]",
    "    mov   x17, sp",
    "    stp   x30, x17, [x16, #240]",
    "    ret",
    "    .size registers_callee, . - registers_callee",

    "    patchable registers_tail_from",
    "    add   x0, x0, #1",
    "    b     registers_tail_to",
    "    .size registers_tail_from, . - registers_tail_from",

    "    patchable registers_tail_to",
    "    lsl   x0, x0, #1",
    "    ret",
    "    .size registers_tail_to, . - registers_tail_to",
    "    .balign 8",
    "    .ltorg",
    ".popsection",
    ".purgem patchable",
    "// used with SIMD registers only: {returned_d}",
    seen = sym SEEN,
    step = const STEP,
    x = const offset_of!(Seen, x),
    caller_sp = const offset_of!(Seen, caller_sp),
    returned_sp = const offset_of!(Seen, returned_sp),
    returned_x = const offset_of!(Seen, returned_x),
    returned_d = const offset_of!(Seen, returned_d),
);

extern "C" fn trashing(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    trash();
}

fn address(function: *const ()) -> TextAddr {
    TextAddr::new(function.addr() as u64)
}

extern "C" fn trashing_direct(_: FtraceRegs<'_>) {
    trash();
}

/// What goes straight on to the function, and overwrites what it may on the way.
#[unsafe(naked)]
unsafe extern "C" fn straight_on() {
    naked_asm!(
        "hint #34", // BTI C
        ".irp n, 11,12,13,14,15,16,17",
        "movn x\\n, #0xdea",
        ".endr",
        "adds xzr, x11, x11",
        "mov x10, x30",
        "mov x30, x9",
        "ret x10",
    )
}

/// What is registered together for one function, so that its callsite calls this stub.
type Together = (&'static str, &'static [&'static Ops]);

static ONE: Ops = Ops::new(trashing);
static OTHER: Ops = Ops::new(trashing);
static SAFE: Ops = Ops::new(trashing).with_flags(OpsFlags::RECURSION_SAFE);
static FULL: Ops = Ops::new(trashing).with_flags(OpsFlags::SAVE_REGS);
static DIRECT: Ops = {
    // SAFETY: it keeps to the convention.
    let trampoline = unsafe { Trampoline::new(straight_on) };
    Ops::direct_call(trampoline)
};
static DIRECT_IN_RUST: Ops = Ops::direct_call(direct_trampoline!(trashing_direct));

static STUBS: [Together; 10] = [
    ("one callback", &[&ONE]),
    ("one that is recursion-safe", &[&SAFE]),
    ("two", &[&ONE, &OTHER]),
    ("two, one recursion-safe", &[&SAFE, &OTHER]),
    ("one with all registers", &[&FULL]),
    ("several, one with all registers", &[&ONE, &FULL, &SAFE]),
    ("a direct trampoline", &[&DIRECT]),
    ("a direct trampoline in Rust", &[&DIRECT_IN_RUST]),
    ("a direct trampoline beside an ops", &[&DIRECT_IN_RUST, &ONE]),
    ("a direct trampoline beside all registers", &[&FULL, &DIRECT]),
];

/// Registers these for the function at `address` while `run` runs.
fn traced<R>(together: &[&'static Ops], address: TextAddr, run: impl FnOnce() -> R) -> R {
    let (engine, _) = engine();
    for ops in together {
        assert_eq!(engine.register(ops, &Filter::new(&[Rule::address(address)])), Ok(1));
    }
    let result = run();
    for ops in together {
        assert_eq!(engine.unregister(ops), Ok(1));
    }
    result
}

fn call_with_known_registers() -> Seen {
    // SAFETY: one CPU; the assembly keeps to the AAPCS64.
    unsafe { registers_caller() };
    let seen = &raw const SEEN;
    // SAFETY: nobody else uses it.
    unsafe { seen.read() }
}

/// Compares what the callee saw and what the caller got back with what the caller had set.
fn assert_live_registers(seen: &Seen) {
    unsafe extern "C" {
        static registers_return: u8;
    }
    for n in (0..=8).chain(18..=29) {
        assert_eq!(seen.x[n], STEP.wrapping_mul(n as u64), "x{n} at the callee");
    }
    assert_eq!(seen.x[30], (&raw const registers_return).addr() as u64, "LR at the callee");
    assert_eq!(seen.sp, seen.caller_sp, "SP at the callee");
    for n in 18..=29 {
        assert_eq!(seen.returned_x[n], STEP.wrapping_mul(n as u64), "x{n} at the return");
    }
    assert_eq!(seen.returned_sp, seen.caller_sp, "SP at the return");
    if cfg!(target_feature = "neon") {
        for n in 0..8_u128 {
            let value = u128::from(STEP.wrapping_mul(n as u64));
            assert_eq!(seen.q[n as usize], value << 64 | value, "q{n} at the callee");
        }
        for n in 8..16 {
            assert_eq!(seen.q[n] as u64, STEP.wrapping_mul(n as u64), "d{n} at the callee");
            assert_eq!(seen.returned_d[n - 8], STEP.wrapping_mul(n as u64), "d{n} at the return");
        }
    }
}

fn without_a_callback_the_callee_sees_its_registers() {
    engine();
    assert_live_registers(&call_with_known_registers());
}

fn every_stub_keeps_every_live_register() {
    for (what, together) in STUBS {
        support::println!("    {what}");
        traced(
            together,
            address(registers_callee as *const ()),
            || assert_live_registers(&call_with_known_registers()),
        );
    }
}

fn counters_and_recorders_keep_every_live_register() {
    static SLOTS: [FlightSlot; 4] = [const { FlightSlot::new() }; 4];
    static HITS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
    static COUNTER: Ops = Ops::counter();
    static RECORDER: Ops = Ops::recorder(4);
    let (engine, _) = engine();
    let callee = address(registers_callee as *const ());
    let hits = Box::leak(Box::new(CallsiteHits::new(callee, &HITS)));
    let callsites: &'static Ops = Box::leak(Box::new(Ops::callsite_counter(hits)));
    let area = &support::percpu::this().area;
    // The recorder without a ring, and with one.
    for round in 1..=2 {
        for ops in [&COUNTER, &RECORDER, callsites] {
            traced(&[ops], callee, || assert_live_registers(&call_with_known_registers()));
        }
        // One behind the other.
        let run = || assert_live_registers(&call_with_known_registers());
        traced(&[&COUNTER, &RECORDER, callsites], callee, run);
        assert_eq!((engine.hits(&COUNTER), engine.function_hits(hits, callee)), (2 * round, Some(2 * round)));
        let records: Vec<_> = area.recording().map(|record| record.arguments).collect();
        assert_eq!(records, [[0, STEP, 2 * STEP, 3 * STEP]; 2][..if round == 1 { 0 } else { 2 }]);
        if round == 1 {
            area.set_ring(&SLOTS).unwrap();
        }
    }
}

static mut SHOWN: Option<PtRegs> = None;

extern "C" fn show(_: TextAddr, parent_ip: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    assert_eq!(regs.return_address(), parent_ip);
    // SAFETY: one CPU.
    unsafe { SHOWN = regs.pt_regs().copied() };
    trash();
}

fn all_registers_are_shown_where_an_ops_asks_for_them() {
    static OPS: Ops = Ops::new(show).with_flags(OpsFlags::SAVE_REGS);
    for together in [&[&OPS] as &[_], &[&ONE, &OPS], &[&OPS, &SAFE, &DIRECT]] {
        // SAFETY: one CPU.
        unsafe { SHOWN = None };
        let callee = address(registers_callee as *const ());
        let seen = traced(together, callee, call_with_known_registers);
        assert_all_registers(callee, &seen);
    }
}

fn assert_all_registers(callee: TextAddr, seen: &Seen) {
    assert_live_registers(seen);
    // SAFETY: one CPU.
    let shown = unsafe { SHOWN }.unwrap();
    // x17 is the way to the stub (AAPCS64 6.1.1 leaves it to veneers).
    for n in (0..9).chain(10..17).chain(18..30) {
        assert_eq!(shown.regs[n], STEP.wrapping_mul(n as u64), "x{n}");
    }
    assert_eq!((shown.regs[9], shown.regs[30]), (seen.x[30], seen.x[30]));
    assert_eq!(shown.sp, seen.caller_sp);
    // The function goes on behind BTI C, MOV, BL.
    assert_eq!(shown.pc, callee.get() + 12);
    // EL1 with SP_EL1: PSTATE.M is 0b0101.
    assert_eq!(shown.pstate & 0xf, 5);
}

fn only_the_live_registers_are_shown_where_no_ops_asks_for_all() {
    static OPS: Ops = Ops::new(show);
    for together in [&[&OPS] as &[_], &[&ONE, &OPS], &[&OPS, &DIRECT]] {
        shows_no_others(together);
    }
}

fn shows_no_others(together: &[&'static Ops]) {
    // SAFETY: one CPU.
    unsafe { SHOWN = Some(PtRegs { regs: [0; 31], sp: 0, pc: 0, pstate: 5 }) };
    traced(together, address(registers_callee as *const ()), call_with_known_registers);
    // SAFETY: one CPU.
    assert_eq!(unsafe { SHOWN }, None);
}

#[inline(never)]
extern "C" fn weigh(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64, j: u32, k: u64) -> u64 {
    let all = [a, b, c, d, e, f, g, h, i, u64::from(j), k];
    black_box(all).iter().enumerate().map(|(place, value)| (place as u64 + 1) * value).sum()
}

fn arguments_on_the_stack_arrive() {
    for (what, together) in STUBS {
        let sum = traced(together, address(weigh as *const ()), || {
            weigh(black_box(1), 2, 3, 4, 5, 6, 7, 8, black_box(9), 10, 11)
        });
        assert_eq!(sum, (1..=11).map(|n| n * n).sum(), "{what}");
    }
}

/// Larger than two registers: returned in memory at x8.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Large([u64; 5]);

#[inline(never)]
extern "C" fn large(seed: u64) -> Large {
    Large(core::array::from_fn(|n| seed + n as u64))
}

fn a_result_in_memory_arrives() {
    for (what, together) in STUBS {
        let result = traced(together, address(large as *const ()), || large(black_box(7)));
        assert_eq!(result, Large([7, 8, 9, 10, 11]), "{what}");
    }
}

#[inline(never)]
unsafe extern "C" fn sum_of(count: usize, mut values: ...) -> u64 {
    // SAFETY: the caller passes `count` values of this type.
    let next = |values: &mut VaList<'_>| unsafe { values.arg::<u64>() };
    (0..count).map(|_| next(&mut values)).sum()
}

fn variadic_arguments_arrive() {
    for (what, together) in STUBS {
        let sum = traced(together, address(sum_of as *const ()), || {
            // SAFETY: ten values of `u64`.
            unsafe { sum_of(black_box(10), 1_u64, 2_u64, 3_u64, 4_u64, 5_u64, 6_u64, 7_u64, 8_u64, 9_u64, 10_u64) }
        });
        assert_eq!(sum, 55, "{what}");
    }
}

#[inline(never)]
extern "C" fn mix(a: f64, b: f32, c: f64, d: u32) -> f64 {
    black_box(a) * 1000.0 + f64::from(b) * 100.0 + c * 10.0 + f64::from(d)
}

fn floating_point_arguments_arrive() {
    for (what, together) in STUBS {
        let mixed: f64 = traced(together, address(mix as *const ()), || mix(black_box(1.0), 2.0, 3.0, 4));
        assert_eq!(mixed.to_bits(), 1234.0_f64.to_bits(), "{what}");
    }
}

static PARENT: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
fn a_tail_call_is_traced_with_the_callers_caller() {
    extern "C" fn note(_: TextAddr, parent_ip: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
        PARENT.store(parent_ip.get(), Ordering::Relaxed);
        trash();
    }
    static OPS: Ops = Ops::new(note);
    let mut parents = Vec::new();
    for function in [registers_tail_from as *const (), registers_tail_to as *const ()] {
        // SAFETY: the assembly keeps to the AAPCS64.
        let result = traced(&[&OPS], address(function), || unsafe { registers_tail_from(20) });
        assert_eq!(result, 42);
        parents.push(name_of(TextAddr::new(PARENT.load(Ordering::Relaxed))));
    }
    assert!(parents[0].contains("a_tail_call_is_traced"), "{parents:?}");
    assert_eq!(parents[0], parents[1]);
}

static TRACE: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
static DEPTH: AtomicUsize = AtomicUsize::new(0);

#[inline(never)]
extern "C" fn inner(value: u64) -> u64 {
    black_box(value) + 1
}

#[inline(never)]
extern "C" fn outer(value: u64) -> u64 {
    black_box(inner(value)) * 2
}

#[inline(never)]
fn a_backtrace_in_a_callback_names_the_function_and_its_callers() {
    fn note() {
        let stack = support::percpu::stack_around(support::backtrace::frame_pointer()).unwrap();
        // SAFETY: the stacks of this kernel are mapped for ever.
        let frames = unsafe { Frames::here(stack) };
        DEPTH.store(frames.clone().count(), Ordering::Relaxed);
        for (place, address) in TRACE.iter().zip(frames) {
            place.store(address.get(), Ordering::Relaxed);
        }
    }
    extern "C" fn walk(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
        note();
    }
    extern "C" fn walk_direct(_: FtraceRegs<'_>) {
        note();
    }
    static LIVE: Ops = Ops::new(walk);
    static ALL: Ops = Ops::new(walk).with_flags(OpsFlags::SAVE_REGS);
    static FROM_DIRECT: Ops = Ops::direct_call(direct_trampoline!(walk_direct));
    for together in
        [&[&LIVE] as &[_], &[&ONE, &LIVE], &[&ALL], &[&LIVE, &DIRECT], &[&FROM_DIRECT], &[&FROM_DIRECT, &ONE]]
    {
        traced(together, address(inner as *const ()), || outer(black_box(1)));
        let depth = DEPTH.load(Ordering::Relaxed).min(TRACE.len());
        let names: Vec<String> =
            TRACE[..depth].iter().map(|address| name_of(TextAddr::new(address.load(Ordering::Relaxed)))).collect();
        let at = names.iter().position(|name| name == "registers::inner");
        let at = at.unwrap_or_else(|| panic!("{names:#?}"));
        assert_eq!(names[at + 1], "registers::outer", "{names:#?}");
        assert!(names[at + 2..].iter().any(|name| name.contains("a_backtrace_in_a_callback")), "{names:#?}");
    }
}

fn name_of(address: TextAddr) -> String {
    let (engine, _) = engine();
    let symbols = engine.symbols().unwrap();
    symbols.lookup_addr(address.get() - 4).map_or_else(String::new, |found| found.symbol.name.into())
}
