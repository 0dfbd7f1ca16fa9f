//! A CPU is ready once its base register leads to its context. Until then it runs traced functions all the same, with
//! interrupts masked as a CPU that starts has them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::{asm, naked_asm};
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::context::shadow::ShadowStack;
use fentry::ops::direct::Trampoline;
use fentry::ops::{Entry, Exit, Probe};
use fentry::record::flight::FlightSlot;
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr};
use support::interrupts::Masked;
use support::{engine, percpu};

#[inline(never)]
extern "C" fn traced(n: u64) -> u64 {
    black_box(n) + 100
}

/// How often anything was called.
static TOLD: AtomicU64 = AtomicU64::new(0);

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    TOLD.fetch_add(1, Ordering::Relaxed);
}

struct Hook<const ENTRY: bool>;

impl<const ENTRY: bool> Probe for Hook<ENTRY> {
    const ENTRY: bool = ENTRY;
    type Data = ();

    fn entry(_: &mut Entry<'_>) -> Option<()> {
        TOLD.fetch_add(1, Ordering::Relaxed);
        Some(())
    }

    fn exit(_: &mut Exit<'_>, (): &()) {
        TOLD.fetch_add(1, Ordering::Relaxed);
    }
}

/// Adds 1000 to the argument, and goes on in the function.
#[unsafe(naked)]
unsafe extern "C" fn adds() {
    naked_asm!("hint #34", "add x0, x0, #1000", "mov x10, x30", "mov x30, x9", "ret x10")
}

static ONE: Ops = Ops::new(callback);
static OTHER: Ops = Ops::new(callback);
static SAFE: Ops = Ops::new(callback).with_flags(OpsFlags::RECURSION_SAFE);
static FULL: Ops = Ops::new(callback).with_flags(OpsFlags::SAVE_REGS);
static EXIT: Ops = Ops::returning::<Hook<false>>();
static BOTH: Ops = Ops::returning::<Hook<true>>();
static COUNTER: Ops = Ops::counter();
static RECORDER: Ops = Ops::recorder(4);
static DIRECT: Ops = {
    // SAFETY: it keeps to the convention.
    let trampoline = unsafe { Trampoline::new(adds) };
    Ops::direct_call(trampoline)
};

/// Calls the function on a CPU that isn't ready.
fn call_not_ready(n: u64) -> u64 {
    let _masked = Masked::new();
    let result;
    // SAFETY: the function is called as the AAPCS64 has it; it needs no block of this CPU, and nothing else runs here until
    // the register is as it was.
    unsafe {
        asm!(
            "mrs x20, tpidr_el1",
            "msr tpidr_el1, xzr",
            "blr x21",
            "msr tpidr_el1, x20",
            out("x20") _,
            in("x21") traced as *const (),
            inlateout("x0") n => result,
            clobber_abi("C"),
        );
    }
    result
}

/// Everything that could have been told or counted.
fn seen(engine: &Engine, together: &[&'static Ops]) -> Vec<u64> {
    let this = percpu::this();
    let mut seen = alloc::vec![
        TOLD.load(Ordering::Relaxed),
        this.trace.misses(),
        this.trace.overflows(),
        this.trace.abandoned(),
        this.trace.depth() as u64,
        engine.hits(&COUNTER),
        this.area.recording().produced(),
    ];
    seen.extend(together.iter().map(|ops| ops.misses()));
    seen
}

pub(crate) fn a_cpu_that_is_not_ready_is_not_traced() {
    static SHADOW: ShadowStack<4> = ShadowStack::new();
    let (engine, _) = engine();
    // SAFETY: this CPU's thread is the only one here, and nothing is hooked yet.
    unsafe { percpu::this().trace.set_shadow_stack(&SHADOW) };
    let slots: Vec<FlightSlot> = (0..8).map(|_| FlightSlot::new()).collect();
    percpu::this().area.set_ring(Box::leak(slots.into_boxed_slice())).expect("there is no ring yet");

    let rules = [Rule::address(TextAddr::new((traced as *const ()).addr() as u64))];
    let kinds: [(&str, &[&'static Ops], u64); 14] = [
        ("one callback", &[&ONE], 0),
        ("one that is recursion-safe", &[&SAFE], 0),
        ("one that has all registers", &[&FULL], 0),
        ("a list", &[&ONE, &OTHER], 0),
        ("a list with one that is recursion-safe", &[&ONE, &SAFE], 0),
        ("a list that has all registers", &[&ONE, &FULL], 0),
        ("an exit handler", &[&EXIT], 0),
        ("an entry and an exit handler", &[&BOTH], 0),
        ("both in a list", &[&EXIT, &BOTH], 0),
        ("a counter", &[&COUNTER], 0),
        ("a recorder", &[&RECORDER], 0),
        ("a counter, a recorder, and a callback", &[&COUNTER, &RECORDER, &ONE], 0),
        ("a direct trampoline", &[&DIRECT], 1000),
        ("a direct trampoline beside a list", &[&DIRECT, &ONE, &FULL], 1000),
    ];
    for (what, together, added) in kinds {
        for ops in together {
            assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(1), "{what}");
        }
        let before = seen(engine, together);
        assert_eq!(call_not_ready(5), 105 + added, "{what}");
        assert_eq!(seen(engine, together), before, "{what}");
        // And once more on a CPU that is ready, to see that there was something to tell or to count.
        assert_eq!(black_box(traced as extern "C" fn(u64) -> u64)(5), 105 + added, "{what}");
        let only_direct = matches!(together, [only] if core::ptr::eq(*only, &raw const DIRECT));
        assert_eq!(seen(engine, together) == before, only_direct, "{what}");
        for ops in together {
            assert_eq!(engine.unregister(ops), Ok(1), "{what}");
        }
    }
}
