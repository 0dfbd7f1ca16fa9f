//! How much stack the engine needs: kernels have small ones.
//!
//! The stack below an operation is painted, and afterwards the lowest word that isn't paint any more says how deep it went.
//! The platform's methods do as little as they can. Interrupts are masked meanwhile.
#![no_std]
#![no_main]

use boot_tests::functions::FUNCTIONS;
use core::arch::{asm, naked_asm};
use core::hint::black_box;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use fentry::ops::direct::Trampoline;
use fentry::ops::{Exit, Probe};
use fentry::platform::{AliasError, ContextBase, CpuTimeout};
use fentry::{Engine, Filter, FtraceRegs, Image, Ops, Platform, Rule, TextAddr, TextRange};
use support::memory::ALIAS_OFFSET;
use support::random::Random;
use support::{PLATFORM, interrupts, println};

support::boot_tests! {
    init_fits_a_small_stack,
    registering_and_unregistering_fit_a_small_stack,
    as_many_ops_as_there_can_be_need_no_more,
    looking_and_giving_back_fit_a_small_stack,
}

/// What an operation needs less than, as its documentation says.
const MOST: usize = 1024;
/// What init needs at most.
const MOST_OF_INIT: usize = 3072;

/// A platform that takes next to no stack of its own.
struct Lean;

static ENGINE: Engine = Engine::new(&Lean);
static FAILS: AtomicBool = AtomicBool::new(false);

// SAFETY: one CPU, and no tasks. The permanent alias of all text is mapped; TPIDR_EL1 and what it leads to are as they are for
// this kernel's usual platform.
unsafe impl Platform for Lean {
    fn context_base(&self) -> ContextBase {
        PLATFORM.context_base()
    }

    fn cpu_base(&self) -> Option<ContextBase> {
        PLATFORM.cpu_base()
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        let alias = core::ptr::with_exposed_provenance_mut(page.get() as usize + ALIAS_OFFSET);
        NonNull::new(alias).ok_or(AliasError { page, reason: "the alias is at address 0" })
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        if FAILS.load(Ordering::Relaxed) { Err(CpuTimeout { cpu: 1 }) } else { Ok(()) }
    }

    fn quiesce(&self, _: &[TextRange]) -> Result<(), CpuTimeout> {
        Ok(())
    }
}

/// Of the stack, so much is painted.
const PAINTED: usize = 16 * 1024;

/// Calls `f` with the stack below painted; returns the lowest address of it that does not hold paint afterwards.
///
/// # Safety
///
/// 1. At least [`PAINTED`] bytes of stack are left, and nothing but `f` uses them until this returns.
/// 2. `f` may be called with `data`.
#[unsafe(naked)]
unsafe extern "C" fn used_below(f: extern "C" fn(*mut ()), data: *mut ()) -> usize {
    naked_asm!(
        "hint #34", // BTI C
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "mov x9, x0",
        "mov x0, x1",
        "mov x10, #0x5aa5",
        "sub x11, sp, #{PAINTED}",
        "mov x12, sp",
        "1: str x10, [x11], #8",
        "cmp x11, x12",
        "b.lo 1b",
        "blr x9",
        "mov x10, #0x5aa5",
        "sub x11, sp, #{PAINTED}",
        "mov x12, sp",
        "2: ldr x9, [x11], #8",
        "cmp x9, x10",
        "b.ne 3f",
        "cmp x11, x12",
        "b.lo 2b",
        "add x11, x11, #8",
        "3: sub x11, x11, #8", // the lowest word that was written
        "mov x0, x11",
        "ldp x29, x30, [sp], #16",
        "ret",
        PAINTED = const PAINTED,
    )
}

/// Calls `f`; how many bytes of stack what it calls took, and what it returned. What `f` has itself is the place for the result,
/// and is its caller's in a kernel.
fn depth<R>(f: impl FnOnce() -> R) -> (usize, R) {
    struct Call<F, R> {
        f: ManuallyDrop<F>,
        result: Option<R>,
        sp: usize,
    }
    extern "C" fn call<F: FnOnce() -> R, R>(data: *mut ()) {
        // SAFETY: `data` is the structure below, which nothing else uses meanwhile.
        let call = unsafe { &mut *data.cast::<Call<F, R>>() };
        // SAFETY: it is taken here only, and this is called once.
        let f = unsafe { ManuallyDrop::take(&mut call.f) };
        // SAFETY: reads SP, which is the same in all of this function. (If `f` is not a part of it, it is measured as well.)
        unsafe { asm!("mov {sp}, sp", sp = out(reg) call.sp, options(nomem, nostack, preserves_flags)) };
        call.result = Some(f());
    }
    fn call_of<F: FnOnce() -> R, R>(_: &Call<F, R>) -> extern "C" fn(*mut ()) {
        call::<F, R>
    }
    let mut data = Call { f: ManuallyDrop::new(f), result: None, sp: 0 };
    let call = call_of(&data);
    let _masked = interrupts::Masked::new();
    // SAFETY: 1. a case begins with most of 256 KiB left, and no interrupt is taken. 2. `call` takes this structure.
    let lowest = unsafe { used_below(call, (&raw mut data).cast()) };
    (data.sp - lowest, data.result.expect("it was called"))
}

/// Calls `f`, says what it took, and holds it to [`MOST`]; returns what it returned.
fn held<R>(what: &str, f: impl FnOnce() -> R) -> R {
    held_to(MOST, what, f)
}

fn held_to<R>(most: usize, what: &str, f: impl FnOnce() -> R) -> R {
    let (bytes, result) = depth(f);
    println!("{bytes:6} bytes: {what}");
    assert!(bytes > 64, "nothing was measured");
    assert!(bytes < most, "{what} took {bytes} bytes of stack, more than {most}");
    result
}

#[inline(never)]
extern "C" fn named(value: u64) -> u64 {
    black_box(value)
}

extern "C" fn nothing(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

struct Returns;

impl Probe for Returns {
    type Data = ();
    const ENTRY: bool = false;

    fn exit(_: &mut Exit<'_>, (): &()) {}
}

unsafe extern "C" {
    fn trampoline();
    fn other_trampoline();
}
core::arch::global_asm!(
    ".pushsection .text.trampoline, \"ax\", %progbits",
    "trampoline: hint #34",
    "mov x10, x30",
    "mov x30, x9",
    "ret x10",
    "other_trampoline: hint #34",
    "mov x10, x30",
    "mov x30, x9",
    "ret x10",
    ".popsection",
);

/// The callsite section, before the engine has it.
fn section() -> &'static mut [u64] {
    unsafe extern "C" {
        static mut __fentry_callsites_start: u64;
        static __fentry_callsites_stop: u64;
    }
    let start = &raw mut __fentry_callsites_start;
    let entries = ((&raw const __fentry_callsites_stop).addr() - start.addr()) / size_of::<u64>();
    // SAFETY: the linker script puts the symbols around the section; init comes later.
    unsafe { core::slice::from_raw_parts_mut(start, entries) }
}

fn init_fits_a_small_stack() {
    // The linker's order is nearly that of the addresses. Sorting takes the most where there is none.
    let section = section();
    let mut random = Random::new(1, 0);
    for last in (1..section.len()).rev() {
        section.swap(last, random.below(last as u64 + 1) as usize);
    }
    // SAFETY: `linker.ld` puts the symbols around what their names say; this kernel is linked where it runs; no other engine has
    // the image.
    let image = unsafe { Image::linked() };
    // SAFETY: one CPU, and interrupts are masked.
    let report = held_to(MOST_OF_INIT, "init", || unsafe { ENGINE.init(image) }).unwrap();
    assert!(report.counts.accepted > 1000);
}

fn registering_and_unregistering_fit_a_small_stack() {
    static CALLBACK: Ops = Ops::new(nothing);
    static COUNTER: Ops = Ops::counter();
    static RECORDER: Ops = Ops::recorder(4);
    static RETURNS: Ops = Ops::returning::<Returns>();
    static DIRECT: Ops = {
        // SAFETY: the code goes on in the function with all of its registers as they were.
        let trampoline = unsafe { Trampoline::new(trampoline) };
        Ops::direct_call(trampoline)
    };
    let engine = &ENGINE;
    assert_eq!(named(1), 1);
    let first = TextAddr::new((FUNCTIONS[0][0] as *const ()).addr() as u64);
    let rules = [
        [Rule::glob("boot_tests::functions::*").expect("a glob")],
        [Rule::name("stack_depth::named")],
        [Rule::address(first)],
    ];
    for ops in [&CALLBACK, &COUNTER, &RECORDER, &RETURNS, &DIRECT] {
        held("register all", || engine.register(ops, &Filter::ALL)).unwrap();
        for rules in &rules {
            held("set_filter", || engine.set_filter(ops, &Filter::new(rules))).unwrap();
        }
        held("unregister", || engine.unregister(ops)).unwrap();
        for rules in &rules {
            held("register", || engine.register(ops, &Filter::new(rules))).unwrap();
            held("unregister", || engine.unregister(ops)).unwrap();
        }
    }
    engine.register(&DIRECT, &Filter::ALL).unwrap();
    let other = TextAddr::new((other_trampoline as *const ()).addr() as u64);
    // SAFETY: as the first one.
    held("modify_direct", || unsafe { engine.modify_direct(&DIRECT, other) }.map(|()| 0)).unwrap();
    held("unregister", || engine.unregister(&DIRECT)).unwrap();
    let unknown = [Rule::name("nobody")];
    held("an error", || engine.register(&CALLBACK, &Filter::new(&unknown))).unwrap_err();
    FAILS.store(true, Ordering::Relaxed);
    held("a batch that is undone", || engine.register(&CALLBACK, &Filter::ALL)).unwrap_err();
    FAILS.store(false, Ordering::Relaxed);
}

fn as_many_ops_as_there_can_be_need_no_more() {
    static MANY: [Ops; 126] = [const { Ops::new(nothing) }; 126];
    let engine = &ENGINE;
    let rules = [Rule::address(TextAddr::new((FUNCTIONS[0][0] as *const ()).addr() as u64))];
    let filter = Filter::new(&rules);
    for ops in &MANY[..125] {
        engine.register(ops, &filter).unwrap();
    }
    held("register the 126th at one function", || engine.register(&MANY[125], &filter)).unwrap();
    held("unregister the 126th", || engine.unregister(&MANY[125])).unwrap();
    for ops in &MANY[..125] {
        engine.unregister(ops).unwrap();
    }
}

fn looking_and_giving_back_fit_a_small_stack() {
    static CALLBACK: Ops = Ops::new(nothing);
    let engine = &ENGINE;
    engine.register(&CALLBACK, &Filter::ALL).unwrap();
    held("check_text", || engine.check_text());
    held("look_again", || engine.look_again());
    held("for_each_callsite", || engine.for_each_callsite(|_| {}));
    held("for_each_refusal", || engine.for_each_refusal(|_| {}));
    held("for_each_ops", || engine.for_each_ops(|_| {}));
    held("statistics", || engine.statistics());
    held("hits", || engine.hits(&CALLBACK));
    let start = TextAddr::new((FUNCTIONS[0][0] as *const ()).addr() as u64);
    held("forget", || engine.forget(TextRange::new(start, start.offset(16)))).unwrap();
    held("unregister", || engine.unregister(&CALLBACK)).unwrap();
}
