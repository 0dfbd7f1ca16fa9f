//! Return hooks: what functions return is seen, can be changed, and arrives.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use fentry::context::shadow::ShadowStack;
use fentry::ops::{Entry, Exit, Probe};
use fentry::{Engine, Filter, Ops, OpsFlags, Rule, TextAddr};
use spin::Mutex;
use support::{count, percpu, println};

support::boot_tests! {
    the_result_and_the_entrys_data_are_seen_at_the_exit,
    an_entry_can_let_a_call_go,
    a_result_can_be_changed,
    results_of_every_kind_arrive,
    several_hooks_at_one_function_nest,
    a_full_shadow_stack_is_counted_and_harmless,
    a_call_that_never_returns_does_not_harm_later_returns,
    nor_does_one_on_another_stack,
    a_context_whose_task_ended_inside_hooked_calls_can_be_used_again,
    a_call_that_a_callback_answers_is_not_hooked,
    a_call_that_is_under_way_when_its_ops_goes_returns_unseen,
    a_backtrace_goes_through_hooked_calls,
    a_walker_that_is_hooked_itself_sees_the_same,
    a_handler_that_calls_hooked_functions_is_not_called_inside_itself,
    a_hook_costs_few_instructions,
}

/// Room for this many hooked calls inside each other.
const CALLS: usize = 32;
static STACK: ShadowStack<CALLS> = ShadowStack::new();

fn engine() -> &'static Engine {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    let (engine, _) = support::engine();
    if !GIVEN.swap(true, Ordering::Relaxed) {
        // SAFETY: this test runs on the boot CPU, and nothing is hooked yet.
        unsafe { percpu::this().trace.set_shadow_stack(&STACK) };
    }
    engine
}

fn at(function: *const ()) -> TextAddr {
    TextAddr::new(function.addr() as u64)
}

/// Registers `ops` for these functions while `run` runs.
fn hooked<R>(ops: &'static Ops, functions: &[*const ()], run: impl FnOnce() -> R) -> R {
    let rules: Vec<Rule<'_>> = functions.iter().map(|function| Rule::address(at(*function))).collect();
    assert_eq!(engine().register(ops, &Filter::new(&rules)), Ok(functions.len()));
    let result = run();
    assert_eq!(engine().unregister(ops), Ok(functions.len()));
    assert_eq!(percpu::this().trace.depth(), 0);
    result
}

#[inline(never)]
extern "C" fn square(n: u64) -> u64 {
    black_box(n) * n
}

#[inline(never)]
extern "C" fn recurse(n: u64) -> u64 {
    if n == 0 { 0 } else { black_box(recurse(n - 1)) + square(n) }
}

/// What exits have seen: argument, result.
static SEEN: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

fn seen() -> Vec<(u64, u64)> {
    core::mem::take(&mut *SEEN.lock())
}

struct Arguments;

impl Probe for Arguments {
    type Data = (u64, u32);

    fn entry(call: &mut Entry<'_>) -> Option<Self::Data> {
        let argument = call.regs.argument(0)?;
        Some((argument, call.ip.get() as u32))
    }

    fn exit(call: &mut Exit<'_>, data: &Self::Data) {
        assert_eq!(data.1, call.ip().get() as u32);
        SEEN.lock().push((data.0, call.value()));
    }
}

static ARGUMENTS: Ops = Ops::returning::<Arguments>();

fn the_result_and_the_entrys_data_are_seen_at_the_exit() {
    let sum = hooked(&ARGUMENTS, &[square as *const (), recurse as *const ()], || recurse(black_box(3)));
    assert_eq!(sum, 14);
    assert_eq!(seen(), [(0, 0), (1, 1), (1, 1), (2, 4), (2, 5), (3, 9), (3, 14)]);
    assert_eq!(square(black_box(5)), 25);
    assert_eq!(seen(), []);
}

fn an_entry_can_let_a_call_go() {
    struct Odd;
    impl Probe for Odd {
        type Data = u64;
        fn entry(call: &mut Entry<'_>) -> Option<u64> {
            call.regs.argument(0).filter(|n| n % 2 == 1)
        }
        fn exit(call: &mut Exit<'_>, n: &u64) {
            SEEN.lock().push((*n, call.value()));
        }
    }
    static ODD: Ops = Ops::returning::<Odd>();
    let sum: u64 = hooked(&ODD, &[square as *const ()], || (0..6).map(|n| square(black_box(n))).sum());
    assert_eq!(sum, 55);
    assert_eq!(seen(), [(1, 1), (3, 9), (5, 25)]);
}

fn a_result_can_be_changed() {
    struct Double;
    impl Probe for Double {
        const ENTRY: bool = false;
        type Data = ();
        fn entry(_: &mut Entry<'_>) -> Option<()> {
            None
        }
        fn exit(call: &mut Exit<'_>, (): &()) {
            // SAFETY: any number is a result of `square`.
            unsafe { call.set_value(2 * call.value()) };
        }
    }
    static DOUBLE: Ops = Ops::returning::<Double>();
    assert_eq!(hooked(&DOUBLE, &[square as *const ()], || square(black_box(5))), 50);
    assert_eq!(square(black_box(5)), 25);
}

#[inline(never)]
extern "C" fn wide(n: u64) -> u128 {
    u128::from(black_box(n)) << 64 | 0x55
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Large([u64; 5]);

#[inline(never)]
extern "C" fn large(n: u64) -> Large {
    Large(core::array::from_fn(|place| black_box(n) + place as u64))
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Vector([f64; 4]);

#[inline(never)]
extern "C" fn vector(x: f64) -> Vector {
    Vector([black_box(x), x + 1.0, x + 2.0, x + 3.0])
}

#[inline(never)]
extern "C" fn half(x: f32) -> f32 {
    black_box(x) / 2.0
}

/// Changes every register that a function may.
struct Trash;

impl Probe for Trash {
    type Data = [u64; 2];
    fn entry(_: &mut Entry<'_>) -> Option<[u64; 2]> {
        support::registers::trash();
        Some([1, 2])
    }
    fn exit(_: &mut Exit<'_>, data: &[u64; 2]) {
        assert_eq!(*data, [1, 2]);
        support::registers::trash();
    }
}

static TRASH: Ops = Ops::returning::<Trash>();

fn results_of_every_kind_arrive() {
    let all = [wide as *const (), large as *const (), vector as *const (), half as *const (), square as *const ()];
    hooked(&TRASH, &all, || {
        assert_eq!(wide(black_box(9)), 9 << 64 | 0x55);
        assert_eq!(large(black_box(3)), Large([3, 4, 5, 6, 7]));
        assert_eq!(vector(black_box(1.5)), Vector([1.5, 2.5, 3.5, 4.5]));
        assert_eq!(half(black_box(5.0)).to_bits(), 2.5_f32.to_bits());
        assert_eq!(square(black_box(12)), 144);
    });
}

fn several_hooks_at_one_function_nest() {
    struct Note;
    impl Probe for Note {
        type Data = usize;
        fn entry(call: &mut Entry<'_>) -> Option<usize> {
            SEEN.lock().push((call.ops().data() as u64, 0));
            Some(call.ops().data())
        }
        fn exit(call: &mut Exit<'_>, number: &usize) {
            SEEN.lock().push((*number as u64, call.value()));
        }
    }
    static NOTES: [Ops; 3] = [
        Ops::returning::<Note>().with_data(1),
        Ops::returning::<Note>().with_data(2),
        Ops::returning::<Note>().with_data(3),
    ];
    static WATCH: Ops = Ops::new(watch);
    extern "C" fn watch(_: TextAddr, parent: TextAddr, _: &'static Ops, regs: fentry::FtraceRegs<'_>) {
        assert_eq!(parent, regs.return_address());
        SEEN.lock().push((9, 0));
    }
    let square_only: &[*const ()] = &[square as *const ()];
    let result = hooked(&NOTES[0], square_only, || {
        hooked(&NOTES[1], square_only, || {
            hooked(&WATCH, square_only, || hooked(&NOTES[2], square_only, || square(black_box(4))))
        })
    });
    assert_eq!(result, 16);
    // The callback first, which sees where the function really returns; exits from the inside out.
    assert_eq!(seen(), [(9, 0), (1, 0), (2, 0), (3, 0), (3, 16), (2, 16), (1, 16)]);
}

fn a_full_shadow_stack_is_counted_and_harmless() {
    let before = percpu::this().trace.overflows();
    let deep = CALLS as u64 + 10;
    let sum = hooked(&ARGUMENTS, &[recurse as *const ()], || recurse(black_box(deep)));
    assert_eq!(sum, (1..=deep).map(|n| n * n).sum());
    // The innermost `11` calls found no room.
    assert_eq!(percpu::this().trace.overflows() - before, 11);
    assert_eq!(seen().len(), CALLS);
}

/// Calls `inner` and leaves it, and all that it called, by a jump.
#[inline(never)]
extern "C" fn leaves(n: u64) -> u64 {
    jump::set_and_call(goes_away, n)
}

#[inline(never)]
extern "C" fn goes_away(n: u64) -> u64 {
    if n > 0 {
        return black_box(goes_away(n - 1)) + 1;
    }
    jump::back(77)
}

/// A setjmp of the smallest kind.
mod jump {
    use core::arch::{asm, global_asm};

    global_asm!(
        ".pushsection .text.jump, \"ax\", %progbits",
        ".global jump_set_and_call",
        "jump_set_and_call:", // x0 = the function, x1 = its argument
        "    hint #34",
        "    stp x29, x30, [sp, #-96]!",
        "    mov x29, sp",
        "    stp x19, x20, [sp, #16]",
        "    stp x21, x22, [sp, #32]",
        "    stp x23, x24, [sp, #48]",
        "    stp x25, x26, [sp, #64]",
        "    stp x27, x28, [sp, #80]",
        "    adrp x9, {place}",
        "    mov x10, sp",
        "    str x10, [x9, :lo12:{place}]",
        "    mov x9, x0",
        "    mov x0, x1",
        "    blr x9",
        ".global jump_landing",
        "jump_landing:",
        "    ldp x19, x20, [sp, #16]",
        "    ldp x21, x22, [sp, #32]",
        "    ldp x23, x24, [sp, #48]",
        "    ldp x25, x26, [sp, #64]",
        "    ldp x27, x28, [sp, #80]",
        "    ldp x29, x30, [sp], #96",
        "    ret",
        ".global jump_on_stack",
        "jump_on_stack:", // x0 = the function, x1 = its argument, x2 = the top of the stack
        "    hint #34",
        "    stp x29, x30, [sp, #-16]!",
        "    mov x29, sp",
        "    mov sp, x2",
        "    mov x9, x0",
        "    mov x0, x1",
        "    blr x9",
        "    mov sp, x29",
        "    ldp x29, x30, [sp], #16",
        "    ret",
        ".popsection",
        place = sym PLACE,
    );

    static mut PLACE: u64 = 0;

    unsafe extern "C" {
        fn jump_set_and_call(function: extern "C" fn(u64) -> u64, argument: u64) -> u64;
        fn jump_on_stack(function: extern "C" fn(u64) -> u64, argument: u64, top: u64) -> u64;
    }

    /// Calls the function on the stack that ends at `top`.
    pub(super) fn on_stack(top: u64, function: extern "C" fn(u64) -> u64, argument: u64) -> u64 {
        // SAFETY: the assembly keeps to the AAPCS64; the callers in this file own the stack.
        unsafe { jump_on_stack(function, argument, top) }
    }

    pub(super) fn set_and_call(function: extern "C" fn(u64) -> u64, argument: u64) -> u64 {
        // SAFETY: the assembly keeps to the AAPCS64.
        unsafe { jump_set_and_call(function, argument) }
    }

    pub(super) fn back(result: u64) -> ! {
        // SAFETY: inside `set_and_call`, whose frame holds all that its caller relies on.
        unsafe {
            asm!(
                "adrp x9, {place}",
                "ldr x9, [x9, :lo12:{place}]",
                "mov sp, x9",
                "mov x29, x9",
                "b jump_landing",
                place = sym PLACE,
                in("x0") result,
                options(noreturn),
            );
        }
    }
}

fn a_call_that_never_returns_does_not_harm_later_returns() {
    let before = percpu::this().trace.abandoned();
    let all = [leaves as *const (), goes_away as *const (), square as *const ()];
    let result = hooked(&ARGUMENTS, &all, || leaves(black_box(4)) + square(black_box(3)));
    assert_eq!(result, 77 + 9);
    assert_eq!(seen(), [(4, 77), (3, 9)]);
    assert_eq!(percpu::this().trace.abandoned() - before, 5);
}

/// Where the frames of calls on the other stack are found to be over, although it is above this one.
#[inline(never)]
extern "C" fn leaves_another_stack(n: u64) -> u64 {
    jump::set_and_call(goes_to_another_stack, n)
}

#[inline(never)]
extern "C" fn goes_to_another_stack(n: u64) -> u64 {
    let stack = alloc::vec![0_u64; 4096].leak().as_ptr_range();
    assert!(stack.start.addr() > core::ptr::from_ref(&n).addr(), "the other stack is above this one");
    black_box(jump::on_stack(stack.end.expose_provenance() as u64, goes_away, n))
}

fn nor_does_one_on_another_stack() {
    let before = percpu::this().trace.abandoned();
    let all = [leaves_another_stack as *const (), goes_to_another_stack as *const (), goes_away as *const ()];
    assert_eq!(hooked(&ARGUMENTS, &all, || leaves_another_stack(black_box(4))), 77);
    assert_eq!(seen(), [(4, 77)]);
    assert_eq!(percpu::this().trace.abandoned() - before, 6);
}

fn a_context_whose_task_ended_inside_hooked_calls_can_be_used_again() {
    let context = &percpu::this().trace;
    let before = context.abandoned();
    let all = [goes_away as *const (), square as *const ()];
    hooked(&ARGUMENTS, &all, || {
        assert_eq!(leaves(black_box(4)), 77);
        assert_eq!(context.depth(), 5);
        // SAFETY: the stack is this context's; no hooked call will return.
        unsafe { context.set_shadow_stack(&STACK) };
        assert_eq!((context.depth(), square(black_box(3))), (0, 9));
    });
    assert_eq!((seen(), context.abandoned()), (alloc::vec![(3, 9)], before));
}

fn a_call_that_a_callback_answers_is_not_hooked() {
    extern "C" fn answer(_: TextAddr, _: TextAddr, _: &'static Ops, mut regs: fentry::FtraceRegs<'_>) {
        // SAFETY: the ops asks for IPMODIFY; any number is a result of `square`.
        unsafe { regs.return_early(5) };
    }
    static ANSWER: Ops = Ops::new(answer).with_flags(OpsFlags::IPMODIFY);
    let square_only: &[*const ()] = &[square as *const ()];
    let abandoned = percpu::this().trace.abandoned();
    let five = hooked(&ARGUMENTS, square_only, || hooked(&ANSWER, square_only, || square(black_box(9))));
    assert_eq!(five, 5);
    assert_eq!((seen().len(), percpu::this().trace.abandoned()), (0, abandoned));
}

#[inline(never)]
extern "C" fn lets_go(n: u64) -> u64 {
    engine().unregister(&ARGUMENTS).expect("it is registered");
    black_box(n) + 1
}

fn a_call_that_is_under_way_when_its_ops_goes_returns_unseen() {
    engine().register(&ARGUMENTS, &Filter::new(&[Rule::address(at(lets_go as *const ()))])).unwrap();
    assert_eq!(lets_go(black_box(1)), 2);
    assert_eq!(seen(), []);
    assert_eq!(percpu::this().trace.depth(), 0);
}

static WALKED: Mutex<Vec<TextAddr>> = Mutex::new(Vec::new());

#[inline(never)]
extern "C" fn walks(n: u64) -> u64 {
    // What a panic here would print.
    WALKED.lock().extend(support::backtrace::callers(support::backtrace::frame_pointer()));
    black_box(n)
}

#[inline(never)]
extern "C" fn calls_walks(n: u64) -> u64 {
    black_box(walks(n)) + 1
}

fn a_backtrace_goes_through_hooked_calls() {
    calls_walks(black_box(1));
    let plain = core::mem::take(&mut *WALKED.lock());
    static OTHER: Ops = Ops::returning::<Arguments>();
    let both = [walks as *const (), calls_walks as *const ()];
    hooked(&ARGUMENTS, &both, || hooked(&OTHER, &both, || calls_walks(black_box(1))));
    let through = core::mem::take(&mut *WALKED.lock());
    // Where `walks` and `calls_walks` return is the same; from there on this test's own frames differ.
    assert!(plain.len() > 2);
    assert_eq!(through[0], plain[0]);
    let name = |at: TextAddr| {
        let found = engine().symbols().and_then(|symbols| symbols.lookup_addr(at.get() - 4));
        found.map(|found| found.symbol.name)
    };
    assert!(through.iter().all(|at| name(*at).is_some_and(|name| !name.contains("fentry_return"))), "{through:?}");
    let _ = seen();
}

type Walk<'a> = &'a mut dyn Iterator<Item = TextAddr>;

#[inline(never)]
fn steps(walk: Walk<'_>) -> Option<TextAddr> {
    black_box(walk.next())
}

#[inline(never)]
fn steps_further_in(walk: Walk<'_>) -> Option<TextAddr> {
    black_box(steps(walk))
}

/// Walks with other hooked calls inside at each step.
#[inline(never)]
extern "C" fn walks_by_steps(n: u64) -> u64 {
    let mut walk = support::backtrace::callers(support::backtrace::frame_pointer());
    let ways: [fn(Walk<'_>) -> Option<TextAddr>; 2] = [steps, steps_further_in];
    for way in black_box(ways).iter().cycle() {
        let Some(at) = way(&mut walk) else { break };
        WALKED.lock().push(at);
    }
    black_box(n)
}

/// Hooked calls around a walk.
#[inline(never)]
extern "C" fn calls_walks_by_steps(n: u64) -> u64 {
    if n == 0 { walks_by_steps(n) } else { black_box(calls_walks_by_steps(n - 1)) + 1 }
}

fn a_walker_that_is_hooked_itself_sees_the_same() {
    let walk = |hook: &[*const ()]| {
        hooked(&ARGUMENTS, hook, || calls_walks_by_steps(black_box(6)));
        core::mem::take(&mut *WALKED.lock())
    };
    let around = [walks_by_steps as *const (), calls_walks_by_steps as *const ()];
    let [plain_walker, hooked_walker] =
        [&around as &[_], &[around[0], around[1], steps as *const (), steps_further_in as *const ()]].map(walk);
    // Behind these the test itself is at two places.
    assert_eq!((plain_walker.len(), &plain_walker[..7]), (hooked_walker.len(), &hooked_walker[..7]));
    let _ = seen();
}

fn a_handler_that_calls_hooked_functions_is_not_called_inside_itself() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    struct Calls;
    impl Probe for Calls {
        type Data = u64;
        fn entry(_: &mut Entry<'_>) -> Option<u64> {
            Some(square(black_box(2)))
        }
        fn exit(_: &mut Exit<'_>, four: &u64) {
            assert_eq!(*four + square(black_box(1)), 5);
            RUNS.fetch_add(1, Ordering::Relaxed);
        }
    }
    static CALLING: Ops = Ops::returning::<Calls>();
    hooked(&CALLING, &[square as *const ()], || assert_eq!(square(black_box(7)), 49));
    assert_eq!(RUNS.load(Ordering::Relaxed), 1);
    assert_eq!(CALLING.misses(), 2);
}

/// As small as a traced function can be.
#[inline(never)]
extern "C" fn empty() {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) };
}

struct Empty<const ENTRY: bool>;

impl<const ENTRY: bool> Probe for Empty<ENTRY> {
    const ENTRY: bool = ENTRY;
    type Data = ();
    fn entry(_: &mut Entry<'_>) -> Option<()> {
        Some(())
    }
    fn exit(_: &mut Exit<'_>, (): &()) {}
}

static EXIT_ONLY: Ops = Ops::returning::<Empty<false>>();
static BOTH: Ops = Ops::returning::<Empty<true>>();

/// Instructions of a hundred calls.
fn of_calls() -> Option<u32> {
    let counter = count::start()?;
    let start = counter.instructions();
    for _ in 0..100 {
        empty();
    }
    Some(counter.instructions().wrapping_sub(start))
}

fn a_hook_costs_few_instructions() {
    engine();
    let Some(plain) = of_calls() else {
        println!("(this machine counts no instructions)");
        return;
    };
    let function: &[*const ()] = &[empty as *const ()];
    // Each call of a handler keeps the SIMD registers, where there are any.
    let simd = if cfg!(target_feature = "neon") { 8 } else { 0 };
    let kinds = [("an exit handler", &EXIT_ONLY, 62, 1), ("an entry and an exit handler", &BOTH, 90, 2)];
    for (what, ops, general, handlers) in kinds {
        let today = general + handlers * simd;
        let cost = hooked(ops, function, of_calls).map_or(0, |all| (all - plain) / 100);
        println!("{what}: {cost} instructions a call (today {today})");
        // An unoptimised kernel's handlers are longer; each takes three more where it signs its return address.
        let most = if cfg!(debug_assertions) { 10 * today } else { today + 2 + 3 * handlers };
        assert!((today - 2..=most).contains(&cost), "{what}: {cost} instructions, and not {today}");
    }
}
