//! Callbacks that call traced functions, and interrupts in callbacks.

use crate::targets::{self, answer, call, register};
use crate::told::{push, told_by};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use fentry::{FtraceRegs, Ops, OpsFlags, TextAddr};
use support::vectors::ExceptionFrame;
use support::{engine, interrupts, percpu};

/// The target that callbacks call.
const INNER: usize = 1;

static DEPTH: AtomicU64 = AtomicU64::new(0);

/// Calls a traced function, unless it is called from there itself.
extern "C" fn calls(_: TextAddr, _: TextAddr, ops: &'static Ops, _: FtraceRegs<'_>) {
    push(ops.data() as u64);
    if DEPTH.fetch_add(1, Ordering::Relaxed) == 0 {
        assert_eq!(call(INNER, 3, 0), answer(INNER, 3));
    }
    DEPTH.fetch_sub(1, Ordering::Relaxed);
}

extern "C" fn calls_nothing(_: TextAddr, _: TextAddr, ops: &'static Ops, _: FtraceRegs<'_>) {
    push(ops.data() as u64);
}

static FIRST: Ops = Ops::new(calls).with_data(1);
static SECOND: Ops = Ops::new(calls_nothing).with_data(2);
static FULL: Ops = Ops::new(calls_nothing).with_data(3).with_flags(OpsFlags::SAVE_REGS);
static SAFE: Ops = Ops::new(calls).with_data(4).with_flags(OpsFlags::RECURSION_SAFE);
static OTHER_SAFE: Ops = Ops::new(calls_nothing).with_data(5).with_flags(OpsFlags::RECURSION_SAFE);

/// Registers these for target 0 and [`INNER`], calls target 0, and says who was told and how many each missed.
fn told_and_missed<const N: usize>(together: [&'static Ops; N]) -> (alloc::vec::Vec<u64>, [u64; N]) {
    let (engine, _) = engine();
    for ops in together {
        assert_eq!(register(engine, ops, &[0, INNER]), Ok(2));
    }
    let before = together.map(Ops::misses);
    let told = told_by(|| assert_eq!(call(0, 7, 0), answer(0, 7)));
    let after = together.map(Ops::misses);
    for ops in together {
        assert_eq!(engine.unregister(ops), Ok(2));
    }
    assert!(!percpu::this().trace.in_callback());
    (told, core::array::from_fn(|n| after[n] - before[n]))
}

pub(crate) fn a_callback_is_not_called_inside_itself() {
    for _ in 0..3 {
        assert_eq!(told_and_missed([&FIRST]), (alloc::vec![1], [1]));
    }
    assert_eq!(told_and_missed([&SECOND]), (alloc::vec![2], [0]), "it calls nothing");
}

pub(crate) fn every_ops_of_a_list_counts_its_own_misses() {
    assert_eq!(told_and_missed([&FIRST, &SECOND]), (alloc::vec![1, 2], [1, 1]));
    assert_eq!(told_and_missed([&SECOND, &FIRST, &FULL]), (alloc::vec![2, 1, 3], [1, 1, 1]));
    // Where one of the list is recursion-safe it alone is called inside.
    assert_eq!(told_and_missed([&SECOND, &FIRST, &OTHER_SAFE]), (alloc::vec![2, 1, 5, 5], [1, 1, 0]));
    assert_eq!(told_and_missed([&FULL, &OTHER_SAFE, &FIRST]), (alloc::vec![3, 5, 1, 5], [1, 0, 1]));
}

pub(crate) fn a_recursion_safe_callback_is() {
    assert_eq!(told_and_missed([&SAFE]), (alloc::vec![4, 4], [0]));
    assert_eq!(told_and_missed([&SAFE, &OTHER_SAFE]), (alloc::vec![4, 4, 5, 5], [0, 0]));
    assert_eq!(told_and_missed([&SAFE, &SECOND]), (alloc::vec![4, 4, 2], [0, 1]));
}

/// The target that the interrupt handler calls.
const FROM_HANDLER: usize = 2;

/// What an ops may call once in the next tick.
static ARMED: AtomicBool = AtomicBool::new(false);

fn tick(_: &ExceptionFrame) {
    if ARMED.swap(false, Ordering::Relaxed) {
        assert_eq!(call(FROM_HANDLER, 5, 0), answer(FROM_HANDLER, 5));
    }
}

/// In the thread waits for the handler; in the handler calls what is traced.
extern "C" fn waits(ip: TextAddr, _: TextAddr, ops: &'static Ops, _: FtraceRegs<'_>) {
    push(ops.data() as u64);
    let handler = targets::address(FROM_HANDLER);
    if ip >= handler && ip < handler.offset(16) {
        assert!(interrupts::are_masked());
        push(100);
        assert_eq!(call(INNER, 3, 0), answer(INNER, 3));
    } else {
        ARMED.store(true, Ordering::Relaxed);
        while ARMED.load(Ordering::Relaxed) {
            core::hint::spin_loop();
        }
        // The interrupt was on top of this callback, which is still the thread's.
        assert!(percpu::this().trace.in_callback());
    }
    push(200);
}

pub(crate) fn an_interrupt_in_a_callback_is_traced() {
    static WAITS: Ops = Ops::new(waits).with_data(1);
    static BESIDE: Ops = Ops::new(calls_nothing).with_data(2);
    let (engine, _) = engine();
    let all = [0, INNER, FROM_HANDLER];
    interrupts::on_tick(Some(tick));
    interrupts::start_ticks(Duration::from_micros(200));
    assert_eq!(register(engine, &WAITS, &all), Ok(3));
    // The thread's callback; in it the handler's; in that one, of its own level, none.
    let told = told_by(|| assert_eq!(call(0, 7, 0), answer(0, 7)));
    assert_eq!(told, [1, 1, 100, 200, 200]);
    assert_eq!(WAITS.misses(), 1);
    assert_eq!(register(engine, &BESIDE, &all), Ok(3));
    let told = told_by(|| assert_eq!(call(0, 7, 0), answer(0, 7)));
    assert_eq!(told, [1, 1, 100, 200, 2, 200, 2]);
    assert_eq!((WAITS.misses(), BESIDE.misses()), (2, 1));
    interrupts::stop_ticks();
    interrupts::on_tick(None);
    assert_eq!(engine.unregister(&WAITS), Ok(3));
    assert_eq!(engine.unregister(&BESIDE), Ok(3));
}
