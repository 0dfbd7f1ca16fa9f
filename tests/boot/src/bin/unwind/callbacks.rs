//! The ways in which the workload is traced.

use crate::workload;
use core::arch::naked_asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::context::shadow::ShadowStack;
use fentry::inject::{Injectable, Injection};
use fentry::insn::{Flow, Insn};
use fentry::kprobe::{Handled, Kprobe, KprobeRegs, ServedBy};
use fentry::ops::direct::Trampoline;
use fentry::ops::{Entry, Exit, Probe};
use fentry::record::flight::FlightSlot;
use fentry::tracer::graph::Graph;
use fentry::tracer::kernel::RecordTo;
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::trampoline::attach::{AttachPoint, Fentry, Fexit, ModifyReturn};
use fentry::{Engine, FtraceRegs, Ops, OpsFlags, PtRegs, TextAddr, direct_trampoline};
use support::engine::KPROBES;
use support::{exceptions, percpu};

/// A way of tracing.
pub(crate) struct Situation {
    pub(crate) name: &'static str,
    pub(crate) ops: &'static [&'static Ops],
}

pub(crate) static SITUATIONS: [Situation; 16] = [
    Situation { name: "nothing is traced", ops: &[] },
    Situation { name: "a callback", ops: &[&CALLBACK] },
    Situation { name: "a callback that is recursion-safe", ops: &[&SAFE] },
    Situation { name: "a callback with all registers", ops: &[&FULL] },
    Situation { name: "two callbacks", ops: &[&CALLBACK, &OTHER] },
    Situation { name: "two callbacks, all registers", ops: &[&CALLBACK, &FULL, &SAFE] },
    Situation { name: "a counter for each CPU", ops: &[&COUNTER] },
    Situation { name: "a flight recorder", ops: &[&RECORDER] },
    Situation { name: "counters, recorder, callback", ops: &[&COUNTER, &RECORDER, &CALLBACK] },
    Situation { name: "a hooked return", ops: &[&RETURNS] },
    Situation { name: "entry and return", ops: &[&BOTH] },
    Situation { name: "two hooks at one function", ops: &[&RETURNS, &BOTH] },
    Situation { name: "graph tracer, callback, counter", ops: &[&GRAPH, &CALLBACK, &COUNTER] },
    Situation { name: "a direct trampoline", ops: &[&DIRECT] },
    Situation { name: "a direct trampoline in Rust", ops: &[&DIRECT_IN_RUST] },
    Situation { name: "direct trampoline behind callbacks", ops: &[&DIRECT_IN_RUST, &CALLBACK, &RETURNS] },
];

static CALLBACK: Ops = Ops::new(callback);
static OTHER: Ops = Ops::new(callback);
static SAFE: Ops = Ops::new(callback).with_flags(OpsFlags::RECURSION_SAFE);
static FULL: Ops = Ops::new(callback).with_flags(OpsFlags::SAVE_REGS);
static COUNTER: Ops = Ops::counter();
static RECORDER: Ops = Ops::recorder(3);
static RETURNS: Ops = Ops::returning::<Returns>();
static BOTH: Ops = Ops::returning::<Both>();
static GRAPH: Ops = Ops::returning::<Graph<Recorded>>();
static DIRECT: Ops = {
    // SAFETY: it keeps to the convention.
    let trampoline = unsafe { Trampoline::new(trampoline) };
    Ops::direct_call(trampoline)
};
static DIRECT_IN_RUST: Ops = Ops::direct_call(direct_trampoline!(trampoline_in_rust));

static CALLS: AtomicU64 = AtomicU64::new(0);

fn count() -> u64 {
    let calls = CALLS.load(Ordering::Relaxed);
    CALLS.store(calls + 1, Ordering::Relaxed);
    calls
}

#[inline(never)]
extern "C" fn callback(_: TextAddr, _: TextAddr, ops: &'static Ops, _: FtraceRegs<'_>) {
    // Inside a callback it isn't traced, and the stub turns back.
    if count().is_multiple_of(3) && !ops.flags().contains(OpsFlags::RECURSION_SAFE) {
        black_box(workload::leaf(1));
    }
}

struct Returns;

impl Probe for Returns {
    const ENTRY: bool = false;
    type Data = ();

    fn exit(call: &mut Exit<'_>, (): &()) {
        black_box(call.value());
        count();
    }
}

struct Both;

impl Probe for Both {
    type Data = u64;

    fn entry(_: &mut Entry<'_>) -> Option<u64> {
        let calls = count();
        // Not all are hooked.
        (!calls.is_multiple_of(5)).then_some(calls)
    }

    fn exit(_: &mut Exit<'_>, calls: &u64) {
        black_box(*calls);
    }
}

fentry::injectable! {
    // SAFETY: it takes any result.
    unsafe fn workload::leaf(x: u64) -> u64 { x + 1 }
    // SAFETY: as above.
    unsafe fn workload::recursive(depth: u64) -> u64 { workload::leaf(depth) }
}

/// Each third call of a function fails while `run` runs.
pub(crate) fn with_failures(engine: &'static Engine, run: impl FnOnce()) {
    static INJECTION: Injection = Injection::new();
    // SAFETY: linker.ld puts the two symbols around the section, in memory that nobody can write.
    let [one, other] = (unsafe { Injectable::linked() }) else { panic!("two functions are in the list") };
    INJECTION.attach(engine, [one, other]).expect("nothing else is registered");
    INJECTION.set_probability(100);
    INJECTION.set_interval(3);
    run();
    INJECTION.detach(engine).expect("it is attached");
    assert!(INJECTION.failures() > 0);
}

type One = extern "C" fn(u64) -> u64;

/// A function of the workload that has one number as its argument and as its result.
const fn attach_point(function: fn(u64) -> u64) -> AttachPoint<One> {
    // SAFETY: a function's size is that of its address. (Which is not known yet.)
    let function = unsafe { core::mem::transmute::<fn(u64) -> u64, One>(function) };
    AttachPoint::new(function)
}

extern "C" fn attached_entry(x: u64) {
    black_box(x);
    if count().is_multiple_of(3) {
        black_box(workload::leaf(1));
    }
}

/// Calls nothing.
extern "C" fn attached_leaf(_: u64) {
    QUICK.store(1, Ordering::Relaxed);
}

static QUICK: AtomicU64 = AtomicU64::new(0);

extern "C" fn attached_modify(x: u64) -> u64 {
    // What isn't run is called all the same.
    if count().is_multiple_of(7) { x | 1 } else { 0 }
}

extern "C" fn attached_exit(_: u64, result: &u64) {
    if count().is_multiple_of(3) {
        black_box(workload::leaf(*result));
    }
}

/// Functions have handlers at their entries and exits while `run` runs.
pub(crate) fn with_attachments(engine: &'static Engine, run: impl FnOnce()) {
    static LEAF: AttachPoint<One> = attach_point(workload::leaf);
    static DOUBLED: AttachPoint<One> = attach_point(workload::doubled);
    static RECURSIVE: AttachPoint<One> = attach_point(workload::recursive);
    static TAIL_CALLS: AttachPoint<One> = attach_point(workload::tail_calls);
    static ENTRY: Fentry<One> = Fentry::<One>::new(attached_entry);
    static QUICK: Fentry<One> = Fentry::<One>::new(attached_leaf);
    // SAFETY: 1. Its callers take any number. 2. They rely on nothing else.
    static MODIFY: ModifyReturn<One> = unsafe { ModifyReturn::<One>::new(attached_modify) };
    static EXIT: Fexit<One> = Fexit::<One>::new(attached_exit);
    LEAF.attach(engine, &QUICK).expect("nothing else is registered");
    for point in [&LEAF, &RECURSIVE, &TAIL_CALLS] {
        point.attach(engine, &EXIT).expect("nothing else is registered");
    }
    for point in [&DOUBLED, &TAIL_CALLS] {
        point.attach(engine, &ENTRY).expect("nothing else is registered");
    }
    for point in [&DOUBLED, &RECURSIVE] {
        point.attach(engine, &MODIFY).expect("a number is returned");
    }
    run();
    LEAF.detach(engine, &QUICK).expect("it is attached");
    for point in [&LEAF, &RECURSIVE, &TAIL_CALLS] {
        point.detach(engine, &EXIT).expect("it is attached");
    }
    for point in [&DOUBLED, &TAIL_CALLS] {
        point.detach(engine, &ENTRY).expect("it is attached");
    }
    for point in [&DOUBLED, &RECURSIVE] {
        point.detach(engine, &MODIFY).expect("it is attached");
    }
    assert!(LEAF.misses() > 0);
}

/// Instructions of the functions have probes while `run` runs: with jumps, or with breakpoints beside which they are carried out.
/// (What a handler has simulated, the list of calls would not see.)
pub(crate) fn with_probes(engine: &'static Engine, by_jumps: bool, run: impl FnOnce()) {
    static JUMPS: [Kprobe; 40] = [const { Kprobe::new(probed).with_hits() }; 40];
    static BREAKPOINTS: [Kprobe; 40] = [const { Kprobe::new(probed).with_after(probed).with_hits() }; 40];
    let probes = if by_jumps { &JUMPS } else { &BREAKPOINTS };
    let symbols = engine.symbols().expect("this kernel is linked with its symbols");
    let functions = symbols.iter().filter(|symbol| symbol.name.starts_with("unwind::workload::"));
    let mut places = functions.flat_map(|symbol| (symbol.addr..symbol.addr + symbol.size).step_by(28));
    let stays = |at: u64| {
        // SAFETY: an instruction of this kernel's text.
        let word = unsafe { core::ptr::with_exposed_provenance::<u32>(at as usize).read_volatile() };
        Insn::decode(word).effects().flow == Flow::Next
    };
    let mut count = 0;
    for probe in probes {
        let served = places.by_ref().filter(|at| stays(*at)).find_map(|at| {
            // SAFETY: 1. An instruction of a function in Rust, which has no data among them. 2. It runs on this kernel's stacks.
            unsafe { KPROBES.register(probe, TextAddr::new(at)) }.ok()
        });
        count += usize::from(served == Some(if by_jumps { ServedBy::Jump } else { ServedBy::Breakpoint }));
    }
    assert!(count > 20, "{count} probes");
    exceptions::on_brk(handle_brk);
    run();
    let registered = probes.iter().filter(|probe| probe.at().is_some());
    registered.for_each(|probe| assert_eq!(KPROBES.unregister(probe), Ok(())));
    assert!(probes.iter().map(Kprobe::hits).sum::<u64>() > 0);
}

/// PSTATE.SS as it was saved says that one more instruction is executed before the next step exception, which was the BRK.
#[unsafe(link_section = ".text.exceptions")]
fn handle_brk(regs: &mut PtRegs, comment: u16) -> Handled {
    regs.pstate &= !(1 << 21);
    KPROBES.handle_brk(regs, comment)
}

extern "C" fn probed(_: TextAddr, _: TextAddr, _: &'static Kprobe, regs: KprobeRegs<'_>) {
    CALLS.fetch_add(black_box(regs.sp()) & 1, Ordering::Relaxed);
    black_box(workload::leaf(black_box(3)));
}

#[unsafe(naked)]
unsafe extern "C" fn trampoline() {
    naked_asm!(
        "hint #34",
        "stp x29, x9, [sp, #-32]!",
        "mov x29, sp",
        "stp x0, x30, [sp, #16]",
        "ldp x0, x30, [sp, #16]",
        "ldp x29, x9, [sp], #32",
        "mov x10, x30",
        "mov x30, x9",
        "ret x10",
    )
}

extern "C" fn trampoline_in_rust(regs: FtraceRegs<'_>) {
    black_box(regs.arguments());
    count();
}

const BLOCKS: usize = 4;
static MEMORY: [RingBlock; BLOCKS] = [const { RingBlock::new() }; BLOCKS];
static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
static SLOTS: [FlightSlot; 64] = [const { FlightSlot::new() }; 64];
static STACK: ShadowStack<256> = ShadowStack::new();

struct Recorded;

impl RecordTo for Recorded {
    fn ring() -> &'static Ring {
        &RING
    }

    fn task() -> u32 {
        1
    }
}

/// Gives this CPU what it records into.
pub(crate) fn prepare() {
    let this = percpu::this();
    this.area.set_ring(&SLOTS).expect("it has none");
    // SAFETY: this CPU's alone, and nothing is hooked.
    unsafe { this.trace.set_shadow_stack(&STACK) };
}
