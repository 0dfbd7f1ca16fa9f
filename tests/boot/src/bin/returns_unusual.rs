//! Hooked calls that end in odd ways, or not at all: nothing is left behind, nobody goes to the wrong place, and where
//! nobody can know where to go, the platform is told.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use core::arch::{asm, global_asm};
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use fentry::context::ContextLevel;
use fentry::context::shadow::ShadowStack;
use fentry::ops::{Entry, Exit, Probe};
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr, TraceContext};
use support::random::Random;
use support::vectors::ExceptionFrame;
use support::{exceptions, interrupts, percpu, platform, println};

support::boot_tests! {
    a_thousand_calls_that_are_left_take_no_room,
    without_bounds_they_take_all_of_it_and_a_return_frees_it,
    calls_on_another_stack_are_not_taken_for_left,
    a_tail_call_returns_for_both,
    an_exit_of_a_call_from_before_is_not_handled,
    an_ops_that_is_gone_is_not_read_by_a_return,
    a_stack_in_the_giving_is_no_room,
    a_context_whose_task_was_killed_inside_a_callback_can_be_used_again,
    an_entry_that_answers_leaves_no_frame,
    what_a_handler_leaves_behind_is_gone_when_it_ends,
    an_entry_that_declines_gives_its_own_frame_back,
    a_function_that_ends_its_interrupt_returns_inside_the_callback_below,
    a_return_without_a_context_is_told,
    a_return_in_another_context_names_the_function_and_both,
}

const CALLS: usize = 16;
static STACK: ShadowStack<CALLS> = ShadowStack::new();

fn trace() -> &'static TraceContext {
    &percpu::this().trace
}

/// Gives the boot CPU a new shadow stack.
fn begin_anew() {
    // SAFETY:
    // 1. The stack is static, and given to this context only.
    // 2. to 4. Called outside of hooked calls, callbacks and handlers, or where those were left for good.
    unsafe { trace().set_shadow_stack(&STACK) };
    percpu::this().tell_stack_bounds();
}

fn engine() -> &'static Engine {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    let (engine, _) = support::engine();
    if !GIVEN.swap(true, Ordering::Relaxed) {
        begin_anew();
    }
    engine
}

fn rule(function: *const ()) -> [Rule<'static>; 1] {
    [Rule::address(TextAddr::new(function.addr() as u64))]
}

fn register(ops: &'static Ops, function: *const ()) {
    assert_eq!(engine().register(ops, &Filter::new(&rule(function))), Ok(1));
}

static EXITS: AtomicU64 = AtomicU64::new(0);
static DEPTH: AtomicU64 = AtomicU64::new(0);

fn exits() -> u64 {
    EXITS.swap(0, Ordering::Relaxed)
}

/// Counts exits, and notes the last one's depth.
struct Count<const ENTRY: bool>;

impl<const ENTRY: bool> Probe for Count<ENTRY> {
    const ENTRY: bool = ENTRY;
    type Data = ();

    fn entry(_: &mut Entry<'_>) -> Option<()> {
        Some(())
    }

    fn exit(call: &mut Exit<'_>, (): &()) {
        EXITS.fetch_add(1, Ordering::Relaxed);
        DEPTH.store(call.depth() as u64, Ordering::Relaxed);
    }
}

static HOOK: Ops = Ops::returning::<Count<false>>();
static OTHER: Ops = Ops::returning::<Count<true>>();

#[inline(never)]
extern "C" fn plus_one(n: u64) -> u64 {
    black_box(n) + 1
}

#[inline(never)]
extern "C" fn nest(n: u64) -> u64 {
    if n == 0 { 0 } else { black_box(nest(n - 1)) + 1 }
}

// The smallest setjmp and longjmp, and a call on another stack.
global_asm!(
    ".pushsection .text.jumps, \"ax\", %progbits",
    ".global jumps_call",
    "jumps_call:", // x0 = the function, x1 = its argument, x2 = where SP is noted, x3 = the top of a stack, or 0
    "    hint #34",
    "    stp x29, x30, [sp, #-96]!",
    "    mov x29, sp",
    "    stp x19, x20, [sp, #16]",
    "    stp x21, x22, [sp, #32]",
    "    stp x23, x24, [sp, #48]",
    "    stp x25, x26, [sp, #64]",
    "    stp x27, x28, [sp, #80]",
    "    str x29, [x2]",
    "    cbz x3, 1f",
    "    mov sp, x3",
    "1:  mov x9, x0",
    "    mov x0, x1",
    "    blr x9",
    "    mov sp, x29",
    "2:  ldp x19, x20, [sp, #16]",
    "    ldp x21, x22, [sp, #32]",
    "    ldp x23, x24, [sp, #48]",
    "    ldp x25, x26, [sp, #64]",
    "    ldp x27, x28, [sp, #80]",
    "    ldp x29, x30, [sp], #96",
    "    ret",
    ".global jumps_back",
    "jumps_back:", // x0 = what `jumps_call` returns, x1 = the noted SP
    "    hint #34",
    "    mov x29, x1",
    "    mov sp, x1",
    "    b 2b",
    ".popsection",
);

static NOTED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

type Function = extern "C" fn(u64) -> u64;

/// Calls the function, on the stack that ends at `top` unless that is 0; [`leave`] with the same `place` ends the call.
fn call(place: usize, function: Function, argument: u64, top: u64) -> u64 {
    unsafe extern "C" {
        fn jumps_call(function: Function, argument: u64, noted: *const AtomicU64, top: u64) -> u64;
    }
    // SAFETY: it keeps to the AAPCS64; the callers in this file own the other stack.
    unsafe { jumps_call(function, argument, &raw const NOTED[place], top) }
}

fn leave(place: usize, result: u64) -> ! {
    unsafe extern "C" {
        fn jumps_back(result: u64, sp: u64) -> !;
    }
    // SAFETY: inside the call that noted this SP, whose frame is still there.
    unsafe { jumps_back(result, NOTED[place].load(Ordering::Relaxed)) }
}

#[inline(never)]
extern "C" fn is_left(n: u64) -> u64 {
    if n > 0 {
        return black_box(is_left(n - 1)) + 1;
    }
    leave(0, 77)
}

fn a_thousand_calls_that_are_left_take_no_room() {
    for ops in [&HOOK, &OTHER] {
        register(ops, is_left as *const ());
        let before = trace().abandoned();
        for round in 0..1000 {
            // Deeper and less deep; nobody around them is hooked.
            assert_eq!(call(0, is_left, black_box(round % 3), 0), 77);
            assert!(trace().depth() as u64 <= round % 3 + 1, "{} in round {round}", trace().depth());
        }
        assert_eq!(trace().overflows(), 0);
        assert!(trace().abandoned() - before >= 1995);
        // What comes after them is inside none.
        register(if core::ptr::eq(ops, &raw const HOOK) { &OTHER } else { &HOOK }, plus_one as *const ());
        assert_eq!((plus_one(black_box(1)), exits(), DEPTH.load(Ordering::Relaxed), trace().depth()), (2, 1, 0, 0));
        engine().unregister(&HOOK).unwrap();
        engine().unregister(&OTHER).unwrap();
    }
}

#[inline(never)]
extern "C" fn around(n: u64) -> u64 {
    (0..n).for_each(|_| assert_eq!(call(0, is_left, black_box(0), 0), 77));
    black_box(n)
}

fn without_bounds_they_take_all_of_it_and_a_return_frees_it() {
    engine();
    // SAFETY: no stack at all.
    unsafe { trace().set_stack_bounds(0..0) };
    register(&HOOK, is_left as *const ());
    register(&OTHER, around as *const ());
    let before = (trace().overflows(), trace().abandoned());
    assert_eq!(around(CALLS as u64 + 4), CALLS as u64 + 4);
    assert_eq!((trace().overflows() - before.0, trace().abandoned() - before.1), (5, CALLS as u64 - 1));
    assert_eq!((exits(), trace().depth()), (1, 0));
    engine().unregister(&HOOK).unwrap();
    engine().unregister(&OTHER).unwrap();
    percpu::this().tell_stack_bounds();
}

/// Hooked calls on a stack above this one, from a hooked call.
#[inline(never)]
extern "C" fn goes_up(n: u64) -> u64 {
    black_box(call(0, nest, n, stack_above())) + 1
}

fn calls_on_another_stack_are_not_taken_for_left() {
    register(&HOOK, goes_up as *const ());
    register(&OTHER, nest as *const ());
    let before = trace().abandoned();
    assert_eq!(goes_up(black_box(5)), 6);
    assert_eq!((exits(), trace().abandoned() - before, trace().depth()), (7, 0, 0));
    engine().unregister(&HOOK).unwrap();
    engine().unregister(&OTHER).unwrap();
}

/// Ends in a jump to `plus_one`.
#[unsafe(naked)]
unsafe extern "C" fn tail_calls_plus_one(_: u64) -> u64 {
    core::arch::naked_asm!("hint #34", "add x0, x0, #10", "b {next}", next = sym tail_called)
}

#[inline(never)]
extern "C" fn tail_called(n: u64) -> u64 {
    black_box(n) + 1
}

#[inline(never)]
extern "C" fn jumps_on(n: u64) -> u64 {
    // A tail call in release builds, a call in others.
    tail_called(n + 10)
}

fn a_tail_call_returns_for_both() {
    for (hook, other) in [(&HOOK, &OTHER), (&OTHER, &HOOK)] {
        register(hook, jumps_on as *const ());
        register(other, tail_called as *const ());
        let before = trace().abandoned();
        // SAFETY: it keeps to the AAPCS64.
        assert_eq!((jumps_on(black_box(1)), unsafe { tail_calls_plus_one(black_box(1)) }), (12, 12));
        assert_eq!((exits(), trace().abandoned() - before, trace().depth()), (3, 0, 0));
        engine().unregister(hook).unwrap();
        engine().unregister(other).unwrap();
    }
}

#[inline(never)]
extern "C" fn under_way(n: u64) -> u64 {
    // Its own entry was hooked; now the ops goes, and comes again for another function.
    engine().unregister(&HOOK).unwrap();
    register(&HOOK, plus_one as *const ());
    black_box(n) + 1
}

fn an_exit_of_a_call_from_before_is_not_handled() {
    register(&HOOK, under_way as *const ());
    assert_eq!((under_way(black_box(1)), exits(), trace().depth()), (2, 0, 0));
    assert_eq!((plus_one(black_box(1)), exits()), (2, 1));
    engine().unregister(&HOOK).unwrap();
}

/// The address of an ops that goes away.
static GONE: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
extern "C" fn outlives_its_ops(n: u64) -> u64 {
    let ops = core::ptr::with_exposed_provenance_mut::<Ops>(GONE.load(Ordering::Relaxed) as usize);
    // SAFETY: it is an `Ops` that lives.
    assert_eq!(engine().unregister(unsafe { &*ops }), Ok(1));
    // SAFETY: unregistered, nobody uses it any more; the memory is somebody else's now.
    unsafe { ops.cast::<u8>().write_bytes(0x5a, size_of::<Ops>()) };
    black_box(n) + 1
}

fn an_ops_that_is_gone_is_not_read_by_a_return() {
    let ops: &'static mut Ops = Box::leak(Box::new(Ops::returning::<Count<true>>()));
    GONE.store((&raw mut *ops).expose_provenance() as u64, Ordering::Relaxed);
    register(ops, outlives_its_ops as *const ());
    assert_eq!((outlives_its_ops(black_box(1)), exits(), trace().depth()), (2, 0, 0));
}

#[repr(C)]
struct Small {
    stack: ShadowStack<2>,
    behind: [AtomicU64; 128],
}
static SMALL: Small = Small { stack: ShadowStack::new(), behind: [const { AtomicU64::new(0x1234) }; 128] };
static RANDOM: AtomicU64 = AtomicU64::new(7);

fn tick(_: &ExceptionFrame) {
    assert_eq!(nest(black_box(6)), 6);
    let mut random = Random::new(RANDOM.load(Ordering::Relaxed), percpu::this().ticks());
    interrupts::set_tick_period(Duration::from_nanos(16 * (1 + random.below(60))));
    RANDOM.store(random.next(), Ordering::Relaxed);
}

fn a_stack_in_the_giving_is_no_room() {
    register(&HOOK, nest as *const ());
    interrupts::on_tick(Some(tick));
    let intact = || SMALL.behind.iter().all(|word| word.load(Ordering::Relaxed) == 0x1234);
    // SAFETY: 1. Static, and this context's alone. 2. to 4. Nothing hooked of this thread returns; no callback, no handler.
    let give = || unsafe { trace().set_shadow_stack(&SMALL.stack) };
    give();
    interrupts::start_ticks(Duration::from_nanos(1000));
    let until = percpu::this().ticks() + 20_000;
    while percpu::this().ticks() < until && intact() {
        give();
    }
    interrupts::stop_ticks();
    interrupts::on_tick(None);
    assert!(intact(), "behind a shadow stack of two calls words were overwritten");
    assert!(exits() > 0, "some were hooked");
    begin_anew();
    engine().unregister(&HOOK).unwrap();
}

static CALLED: AtomicU64 = AtomicU64::new(0);
static FAULTS: Ops = Ops::new(faults);

extern "C" fn faults(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    if CALLED.fetch_add(1, Ordering::Relaxed) == 0 {
        // SAFETY: a fault on purpose, whose handler ends this thread.
        unsafe { asm!("ldr xzr, [{}]", in(reg) 8_u64 << 40, options(nostack)) };
    }
}

fn a_context_whose_task_was_killed_inside_a_callback_can_be_used_again() {
    register(&FAULTS, plus_one as *const ());
    assert!(exceptions::catch(|| assert_eq!(plus_one(black_box(1)), 2)).is_err());
    assert!(trace().in_callback());
    // SAFETY: the thread that was inside has ended.
    unsafe { trace().reset() };
    assert_eq!((plus_one(black_box(1)), CALLED.load(Ordering::Relaxed), trace().in_callback()), (2, 2, false));
    engine().unregister(&FAULTS).unwrap();
}

struct Answers;

impl Probe for Answers {
    type Data = u64;

    fn entry(call: &mut Entry<'_>) -> Option<u64> {
        // SAFETY: the ops has IPMODIFY, and any number is a result of `plus_one`, which changes nothing else.
        unsafe { call.regs.return_early(7) };
        Some(1)
    }

    fn exit(_: &mut Exit<'_>, _: &u64) {
        EXITS.fetch_add(1, Ordering::Relaxed);
    }
}

static ANSWERS: Ops = Ops::returning::<Answers>().with_flags(OpsFlags::IPMODIFY);
static ALL_REGISTERS: Ops = Ops::new(nothing).with_flags(OpsFlags::SAVE_REGS);

extern "C" fn nothing(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

fn an_entry_that_answers_leaves_no_frame() {
    register(&ANSWERS, plus_one as *const ());
    let before = trace().overflows();
    // By a stub of its own, and by the list.
    for beside in [None, Some(&ALL_REGISTERS)] {
        beside.into_iter().for_each(|ops| register(ops, plus_one as *const ()));
        assert!((0..40).all(|_| plus_one(black_box(1)) == 7));
        assert_eq!((trace().depth(), trace().overflows() - before, exits()), (0, 0, 0));
    }
    engine().unregister(&ALL_REGISTERS).unwrap();
    engine().unregister(&ANSWERS).unwrap();
    assert_eq!(plus_one(black_box(1)), 2);
}

/// The top of a stack above the running one.
fn stack_above() -> u64 {
    let stack = alloc::vec![0_u128; 2048].leak().as_ptr_range();
    let here = 0_u64;
    assert!(stack.start.addr() > (&raw const here).addr(), "the other stack is above this one");
    stack.end.expose_provenance() as u64
}

/// As in an interrupt whose handler leaves hooked calls behind, on a stack of its own if `top` is not 0.
fn interrupt_that_leaves(top: u64) {
    // SAFETY: this context's own; `leave` is below, with nothing of this thread in between.
    let outer = unsafe { trace().enter(ContextLevel::Irq) };
    assert_eq!(call(0, is_left, black_box(2), top), 77);
    // SAFETY: `outer` is that of the only `enter` which is open.
    unsafe { trace().leave(outer) };
}

#[inline(never)]
extern "C" fn is_interrupted_by_it(n: u64) -> u64 {
    interrupt_that_leaves(0);
    black_box(n) + 1
}

fn what_a_handler_leaves_behind_is_gone_when_it_ends() {
    register(&HOOK, is_left as *const ());
    let before = trace().abandoned();
    assert_eq!(is_interrupted_by_it(black_box(1)), 2);
    assert_eq!((trace().depth(), trace().abandoned() - before), (0, 3));
    engine().unregister(&HOOK).unwrap();
}

static WHERE: AtomicU64 = AtomicU64::new(0);

/// Is interrupted in its entry, and lets the call go.
struct Declines;

impl Probe for Declines {
    type Data = u64;

    fn entry(_: &mut Entry<'_>) -> Option<u64> {
        interrupt_that_leaves(WHERE.load(Ordering::Relaxed));
        None
    }

    fn exit(_: &mut Exit<'_>, _: &u64) {
        EXITS.fetch_add(1, Ordering::Relaxed);
    }
}

fn an_entry_that_declines_gives_its_own_frame_back() {
    static DECLINES: Ops = Ops::returning::<Declines>();
    // What is left on a stack above may belong to a caller: it stays until something below returns.
    WHERE.store(stack_above(), Ordering::Relaxed);
    register(&HOOK, is_left as *const ());
    register(&DECLINES, plus_one as *const ());
    for beside in [None, Some(&ALL_REGISTERS)] {
        beside.into_iter().for_each(|ops| register(ops, plus_one as *const ()));
        for _ in 0..10 {
            assert_eq!((plus_one(black_box(1)), trace().depth()), (2, 0));
        }
    }
    assert_eq!(exits(), 0);
    for ops in [&ALL_REGISTERS, &DECLINES, &HOOK] {
        engine().unregister(ops).unwrap();
    }
}

static OUTER: spin::Mutex<Option<fentry::context::Interrupted>> = spin::Mutex::new(None);

/// As the last thing that an interrupt handler calls.
#[inline(never)]
extern "C" fn ends_the_interrupt(n: u64) -> u64 {
    let outer = OUTER.lock().take().expect("inside an interrupt");
    // SAFETY: that of the only `enter` which is open.
    unsafe { trace().leave(outer) };
    black_box(n) + 1
}

extern "C" fn is_interrupted(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    // SAFETY: this context's own; `ends_the_interrupt` leaves.
    *OUTER.lock() = Some(unsafe { trace().enter(ContextLevel::Irq) });
    assert_eq!(ends_the_interrupt(black_box(1)), 2);
    assert!(trace().in_callback());
    CALLED.fetch_add(1, Ordering::Relaxed);
}

fn a_function_that_ends_its_interrupt_returns_inside_the_callback_below() {
    static INTERRUPTED: Ops = Ops::new(is_interrupted);
    CALLED.store(0, Ordering::Relaxed);
    for hook in [&HOOK, &OTHER] {
        register(hook, ends_the_interrupt as *const ());
        register(&INTERRUPTED, plus_one as *const ());
        assert_eq!(plus_one(black_box(1)), 2);
        // Hooked at its own level; where it returns, its handler would run inside a callback.
        assert_eq!((exits(), trace().depth(), trace().in_callback()), (0, 0, false));
        engine().unregister(&INTERRUPTED).unwrap();
        engine().unregister(hook).unwrap();
    }
    assert_eq!(CALLED.load(Ordering::Relaxed), 2);
}

/// What is in the base register inside [`moves`].
static BASE: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
extern "C" fn moves(n: u64) -> u64 {
    // SAFETY: the register holds zero or another CPU's base until this has returned; nothing is traced or read by it.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) BASE.load(Ordering::Relaxed), options(nostack, preserves_flags)) };
    black_box(n) + 1
}

/// Returns from [`moves`] with this base register, which is not this CPU's; what the platform is told.
fn return_elsewhere(base: u64) -> fentry::platform::LostReturn {
    register(&HOOK, moves as *const ());
    BASE.store(base, Ordering::Relaxed);
    let lost = platform::expect_lost_return(|| assert_eq!(moves(black_box(1)), 2));
    begin_anew();
    engine().unregister(&HOOK).unwrap();
    println!("{lost}");
    lost
}

fn a_return_without_a_context_is_told() {
    engine();
    let here = core::ptr::from_ref(trace()).addr() as u64;
    let lost = return_elsewhere(0);
    let call = lost.call.expect("the call is in this context");
    assert_eq!((lost.context, call.context), (None, here));
}

fn a_return_in_another_context_names_the_function_and_both() {
    engine();
    let here = core::ptr::from_ref(trace()).addr() as u64;
    let other = percpu::of(percpu::MAX_CPUS - 1);
    let lost = return_elsewhere(core::ptr::from_ref(other).expose_provenance() as u64);
    let call = lost.call.expect("the call is in this context");
    assert_eq!((lost.context, call.context), (Some((&raw const other.trace).addr() as u64), here));
    let symbols = engine().symbols().expect("this kernel has symbols");
    let name = symbols.lookup_addr(call.function.get()).map(|found| found.symbol.name);
    assert!(name.is_some_and(|name| name.ends_with("moves")), "{name:?}");
    let caller = symbols.lookup_addr(call.return_address.get()).map(|found| found.symbol.name);
    assert!(caller.is_some(), "it is in a function of this kernel");
}
