//! The caller can't tell: every register that carries a result is what the function left there, whatever the handlers at its
//! entry and at its exit did, and what a function keeps for its caller is kept. Nor can the function tell.
//!
//! A caller in assembly sets every register to a value of its own and calls a function in assembly that writes down what it
//! sees, and leaves a value of its own in every register that it may change. The caller then writes down what it gets.
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::context::shadow::ShadowStack;
use fentry::ops::{Entry, Exit, Probe};
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr};
use spin::Once;
use support::percpu;
use support::registers::trash;
use support::simd;

support::boot_tests! {
    without_a_hook_the_caller_gets_what_the_function_left,
    an_exit_handler_changes_nothing,
    an_entry_and_an_exit_handler_change_nothing,
    a_hook_that_lets_the_call_go_changes_nothing,
    a_hook_beside_a_callback_changes_nothing,
    a_hook_beside_one_that_saves_all_registers_changes_nothing,
    a_hook_that_saves_all_registers_has_them,
    two_hooks_change_nothing,
    a_hook_beside_a_direct_trampoline_changes_nothing,
    a_hook_without_room_changes_nothing,
    a_hooked_call_inside_a_handler_changes_nothing,
}

const ROOM: usize = 4;
static STACK: ShadowStack<ROOM> = ShadowStack::new();

fn engine() -> &'static Engine {
    static ENGINE: Once<&'static Engine> = Once::new();
    ENGINE.call_once(|| {
        let (engine, _) = support::engine();
        // SAFETY: this test runs on the boot CPU, and nothing is hooked yet.
        unsafe { percpu::this().trace.set_shadow_stack(&STACK) };
        engine
    })
}

/// The registers at one moment.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Registers {
    q: [u128; 16],
    x: [u64; 31],
    sp: u64,
}

impl Registers {
    const ZERO: Self = Self { q: [0; 16], x: [0; 31], sp: 0 };
}

/// What the function sees, and what the caller gets back.
#[repr(C)]
struct Seen {
    function: Registers,
    caller: Registers,
    /// SP at the call.
    sp: u64,
}

static mut SEEN: Seen = Seen { function: Registers::ZERO, caller: Registers::ZERO, sp: 0 };

/// The caller gives x`n` n times this and q`n` that in both halves; the function gives x`n` and q`n` n + 64 times this.
const STEP: u64 = 0x0101_0101_0101_0101;

unsafe extern "C" {
    fn return_registers_caller();
    fn return_registers_function();
    fn return_registers_trampoline();
}

global_asm!(
    ".pushsection .text.return_registers, \"ax\", %progbits",
    ".arch_extension bti",
    // Writes down x0-x8, x18-x30, SP and q0-q15 at `place` of SEEN.
    ".macro write_down place",
    "    adrp  x16, {seen}",
    "    add   x16, x16, :lo12:{seen}",
    "    add   x16, x16, \\place",
    simd!(".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
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
    ".endm",

    "    .balign 8",
    "    .global return_registers_caller",
    "    .type return_registers_caller, %function",
    "return_registers_caller:",
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
    "    str   x17, [x16, {sp}]",
    "    ldr   x17, ={step}",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,18,19,20,21,22,23,24,25,26,27,28,29",
    "    mov   x16, #\\n",
    "    mul   x\\n, x16, x17",
    ".endr",
    simd!(".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
           mov   x16, #\\n
           mul   x16, x16, x17
           dup   v\\n\\().2d, x16
           .endr"),
    "    bl    return_registers_function",
    "    write_down {caller}",
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
    "    .size return_registers_caller, . - return_registers_caller",

    // A callsite as the compiler would make it.
    "    .balign 8",
    "    .global return_registers_function",
    "    .type return_registers_function, %function",
    "return_registers_function:",
    "    bti   c",
    "1:  nop",
    "    nop",
    "    .pushsection __patchable_function_entries, \"awo\", %progbits, .text.return_registers",
    "    .balign 8",
    "    .quad 1b",
    "    .popsection",
    "    write_down {function}",
    "    ldr   x17, ={step}",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "    mov   x16, #\\n + 64",
    "    mul   x\\n, x16, x17",
    ".endr",
    simd!(".irp n, 0,1,2,3,4,5,6,7
           mov   x16, #\\n + 64
           mul   x16, x16, x17
           dup   v\\n\\().2d, x16
           .endr"),
    "    ret",
    "    .size return_registers_function, . - return_registers_function",

    // Leaves nothing as it was that it may change.
    "    .balign 8",
    "    .global return_registers_trampoline",
    "    .type return_registers_trampoline, %function",
    "return_registers_trampoline:",
    "    bti   c",
    "    mov   x10, x30",
    "    mov   x30, x9",
    ".irp n, 9,11,12,13,14,15,16,17",
    "    movn  x\\n, #0xdea",
    ".endr",
    "    adds  xzr, x9, x9",
    "    ret   x10",
    "    .size return_registers_trampoline, . - return_registers_trampoline",
    "    .balign 8",
    "    .ltorg",
    ".purgem write_down",
    ".popsection",
    seen = sym SEEN,
    step = const STEP,
    sp = const offset_of!(Seen, sp),
    function = const offset_of!(Seen, function),
    caller = const offset_of!(Seen, caller),
    x = const offset_of!(Registers, x),
);

fn function() -> TextAddr {
    TextAddr::new((return_registers_function as *const ()).addr() as u64)
}

/// How many handlers ran.
static ENTRIES: AtomicU64 = AtomicU64::new(0);
static EXITS: AtomicU64 = AtomicU64::new(0);
static CALLBACKS: AtomicU64 = AtomicU64::new(0);

/// Overwrites all that a handler may.
struct Trash<const ENTRY: bool>;

impl Probe for Trash<true> {
    type Data = [u64; 2];

    fn entry(_: &mut Entry<'_>) -> Option<[u64; 2]> {
        ENTRIES.fetch_add(1, Ordering::Relaxed);
        trash();
        Some([STEP, !STEP])
    }

    fn exit(call: &mut Exit<'_>, data: &[u64; 2]) {
        assert_eq!(*data, [STEP, !STEP]);
        assert_eq!(call.values(), core::array::from_fn(|n| STEP.wrapping_mul(n as u64 + 64)));
        EXITS.fetch_add(1, Ordering::Relaxed);
        trash();
    }
}

impl Probe for Trash<false> {
    const ENTRY: bool = false;
    type Data = ();

    fn entry(_: &mut Entry<'_>) -> Option<()> {
        None
    }

    fn exit(_: &mut Exit<'_>, (): &()) {
        EXITS.fetch_add(1, Ordering::Relaxed);
        trash();
    }
}

static EXIT: Ops = Ops::returning::<Trash<false>>();
static BOTH: Ops = Ops::returning::<Trash<true>>();
static CALLBACK: Ops = Ops::new(trashing);

extern "C" fn trashing(_: TextAddr, _: TextAddr, ops: &'static Ops, regs: FtraceRegs<'_>) {
    CALLBACKS.fetch_add(1, Ordering::Relaxed);
    assert_eq!(regs.pt_regs().is_some(), ops.flags().contains(OpsFlags::SAVE_REGS));
    trash();
}

/// Calls the function with these ops on it, and looks at all registers; how many callbacks, entries and exits ran.
fn call_with(all: &[&'static Ops]) -> [u64; 3] {
    let counts = [&CALLBACKS, &ENTRIES, &EXITS];
    let before = counts.map(|count| count.load(Ordering::Relaxed));
    for ops in all {
        assert_eq!(engine().register(ops, &Filter::new(&[Rule::address(function())])), Ok(1));
    }
    call_and_look(all.is_empty());
    for ops in all {
        assert_eq!(engine().unregister(ops), Ok(1));
    }
    assert_eq!(percpu::this().trace.depth(), 0);
    core::array::from_fn(|n| counts[n].load(Ordering::Relaxed) - before[n])
}

fn call_and_look(unhooked: bool) {
    // SAFETY: one CPU; the assembly keeps to the AAPCS64.
    unsafe { return_registers_caller() };
    let seen = &raw const SEEN;
    // SAFETY: nobody else uses it.
    let Seen { function, caller, sp } = unsafe { seen.read() };
    for n in (0..=8).chain(18..=29) {
        assert_eq!(function.x[n], STEP.wrapping_mul(n as u64), "x{n} at the function");
    }
    for n in 0..=8 {
        assert_eq!(caller.x[n], STEP.wrapping_mul(n as u64 + 64), "x{n}, a result");
    }
    for n in 18..=29 {
        assert_eq!(caller.x[n], STEP.wrapping_mul(n as u64), "x{n} at the return");
    }
    assert_eq!((function.sp, caller.sp), (sp, sp), "SP");
    // RET leaves LR as it is: where the function returned.
    assert!(!unhooked || function.x[30] == caller.x[30], "LR");
    if cfg!(target_feature = "neon") {
        let doubled = |n: usize| u128::from(STEP.wrapping_mul(n as u64)) * ((1 << 64) + 1);
        for n in 0..8 {
            assert_eq!(function.q[n], doubled(n), "q{n} at the function");
            assert_eq!(caller.q[n], doubled(n + 64), "q{n}, a result");
        }
        for n in 8..16 {
            assert_eq!(function.q[n] as u64, STEP.wrapping_mul(n as u64), "d{n} at the function");
            assert_eq!(caller.q[n] as u64, STEP.wrapping_mul(n as u64), "d{n} at the return");
        }
    }
}

fn without_a_hook_the_caller_gets_what_the_function_left() {
    engine();
    assert_eq!(call_with(&[]), [0, 0, 0]);
}

fn an_exit_handler_changes_nothing() {
    assert_eq!(call_with(&[&EXIT]), [0, 0, 1]);
}

fn an_entry_and_an_exit_handler_change_nothing() {
    assert_eq!(call_with(&[&BOTH]), [0, 1, 1]);
}

fn a_hook_that_lets_the_call_go_changes_nothing() {
    struct LetGo;
    impl Probe for LetGo {
        type Data = ();
        fn entry(_: &mut Entry<'_>) -> Option<()> {
            ENTRIES.fetch_add(1, Ordering::Relaxed);
            trash();
            None
        }
        fn exit(_: &mut Exit<'_>, (): &()) {
            EXITS.fetch_add(1, Ordering::Relaxed);
        }
    }
    static LET_GO: Ops = Ops::returning::<LetGo>();
    assert_eq!(call_with(&[&LET_GO]), [0, 1, 0]);
    assert_eq!(call_with(&[&LET_GO, &BOTH, &CALLBACK]), [1, 2, 1]);
}

fn a_hook_beside_a_callback_changes_nothing() {
    assert_eq!(call_with(&[&CALLBACK, &BOTH]), [1, 1, 1]);
    assert_eq!(call_with(&[&EXIT, &CALLBACK]), [1, 0, 1]);
}

fn a_hook_beside_one_that_saves_all_registers_changes_nothing() {
    static ALL: Ops = Ops::new(trashing).with_flags(OpsFlags::SAVE_REGS);
    assert_eq!(call_with(&[&ALL, &BOTH]), [1, 1, 1]);
    assert_eq!(call_with(&[&EXIT, &ALL]), [1, 0, 1]);
}

fn a_hook_that_saves_all_registers_has_them() {
    struct All;
    impl Probe for All {
        type Data = u64;
        fn entry(call: &mut Entry<'_>) -> Option<u64> {
            let all = call.regs.pt_regs().expect("the ops asks for them");
            let x21 = all.regs[21];
            ENTRIES.fetch_add(1, Ordering::Relaxed);
            trash();
            Some(x21)
        }
        fn exit(_: &mut Exit<'_>, x21: &u64) {
            assert_eq!(*x21, STEP.wrapping_mul(21));
            EXITS.fetch_add(1, Ordering::Relaxed);
            trash();
        }
    }
    static ALL: Ops = Ops::returning::<All>().with_flags(OpsFlags::SAVE_REGS);
    assert_eq!(call_with(&[&ALL]), [0, 1, 1]);
}

fn two_hooks_change_nothing() {
    assert_eq!(call_with(&[&BOTH, &EXIT]), [0, 1, 2]);
    assert_eq!(call_with(&[&EXIT, &CALLBACK, &BOTH]), [1, 1, 2]);
}

fn a_hook_beside_a_direct_trampoline_changes_nothing() {
    static DIRECT: Once<Ops> = Once::new();
    let trampoline = TextAddr::new((return_registers_trampoline as *const ()).addr() as u64);
    // SAFETY: the assembly above keeps to the convention, and stays.
    let direct = DIRECT.call_once(|| unsafe { Ops::direct(trampoline) });
    assert_eq!(call_with(&[direct]), [0, 0, 0]);
    assert_eq!(call_with(&[direct, &EXIT]), [0, 0, 1]);
    assert_eq!(call_with(&[&BOTH, direct]), [0, 1, 1]);
    assert_eq!(call_with(&[&BOTH, direct, &CALLBACK, &EXIT]), [1, 1, 2]);
}

fn a_hook_without_room_changes_nothing() {
    let overflows = percpu::this().trace.overflows();
    static EXITS_OF: [Ops; ROOM + 1] = [const { Ops::returning::<Trash<false>>() }; ROOM + 1];
    let all: [&'static Ops; ROOM + 1] = core::array::from_fn(|n| &EXITS_OF[n]);
    assert_eq!(call_with(&all), [0, 0, ROOM as u64]);
    assert_eq!(percpu::this().trace.overflows() - overflows, 1);
    // The same with a stub of the ops's own: calls inside each other until there is no room.
    engine().register(&EXIT, &Filter::new(&[Rule::name("registers_returned::inside")])).expect("it is there");
    inside(ROOM);
    engine().unregister(&EXIT).expect("it is registered");
    assert_eq!(percpu::this().trace.overflows() - overflows, 1 + 1 + 2);
}

/// Calls itself so often, and at last the function, hooked with either kind of stub.
#[inline(never)]
fn inside(calls: usize) {
    if calls > 0 {
        inside(calls - 1);
        // No tail call.
        core::hint::black_box(calls);
        return;
    }
    let function: &[Rule<'_>] = &[Rule::address(function())];
    for ops in [&BOTH, &OTHER_EXIT] {
        engine().register(ops, &Filter::new(function)).expect("it is there");
        call_and_look(false);
        engine().unregister(ops).expect("it is registered");
    }
}

static OTHER_EXIT: Ops = Ops::returning::<Trash<false>>();

fn a_hooked_call_inside_a_handler_changes_nothing() {
    struct Calls;
    impl Probe for Calls {
        type Data = ();
        fn entry(_: &mut Entry<'_>) -> Option<()> {
            call_and_look(false);
            Some(())
        }
        fn exit(_: &mut Exit<'_>, (): &()) {
            call_and_look(false);
            EXITS.fetch_add(1, Ordering::Relaxed);
        }
    }
    static CALLS: Ops = Ops::returning::<Calls>();
    // The handlers' own calls overwrite what the function has seen, with the same; SP differs, and is compared there.
    engine().register(&CALLS, &Filter::new(&[Rule::address(function())])).expect("it is there");
    // SAFETY: one CPU; the assembly keeps to the AAPCS64.
    unsafe { return_registers_caller() };
    engine().unregister(&CALLS).expect("it is registered");
    assert_eq!(CALLS.misses(), 2);
}
