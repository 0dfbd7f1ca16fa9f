//! Callbacks that call traced functions twice: what the first call leaves behind decides what the second one meets.

use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};
use fentry::{Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr};
use spin::Mutex;
use support::{engine, percpu};

#[inline(never)]
extern "C" fn outer(n: u64) -> u64 {
    black_box(n) + 10
}

#[inline(never)]
extern "C" fn inner(n: u64) -> u64 {
    black_box(n) + 20
}

/// Who was called, by the ops' number.
static CALLED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static INSIDE: AtomicBool = AtomicBool::new(false);

extern "C" fn calls_twice(_: TextAddr, _: TextAddr, ops: &'static Ops, _: FtraceRegs<'_>) {
    CALLED.lock().push(ops.data());
    if !INSIDE.swap(true, Ordering::Relaxed) {
        for n in 0..2 {
            assert_eq!(black_box(inner as extern "C" fn(u64) -> u64)(n), n + 20);
            assert!(percpu::this().trace.in_callback(), "call {n} has taken the guard with it");
        }
        INSIDE.store(false, Ordering::Relaxed);
    }
}

extern "C" fn calls_nothing(_: TextAddr, _: TextAddr, ops: &'static Ops, _: FtraceRegs<'_>) {
    CALLED.lock().push(ops.data());
}

const SAFE_FLAGS: OpsFlags = OpsFlags::RECURSION_SAFE;
static SAFE: Ops = Ops::new(calls_twice).with_data(1).with_flags(SAFE_FLAGS);
static SAFE_AND_FULL: Ops = Ops::new(calls_twice).with_data(2).with_flags(SAFE_FLAGS.union(OpsFlags::SAVE_REGS));
static OTHER: Ops = Ops::new(calls_nothing).with_data(3);
static INNER_ONLY: Ops = Ops::new(calls_nothing).with_data(4);

/// Registers each ops for these functions and calls `outer`; who was called, and how many calls the last ops missed.
fn called(registered: &[(&'static Ops, &[*const ()])]) -> (Vec<usize>, u64) {
    let (engine, _) = engine();
    for (ops, functions) in registered {
        let rules: Vec<_> =
            functions.iter().map(|function| Rule::address(TextAddr::new(function.addr() as u64))).collect();
        assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(functions.len()));
    }
    let missed = || registered.last().map_or(0, |(ops, _)| ops.misses());
    let before = missed();
    assert_eq!(black_box(outer as extern "C" fn(u64) -> u64)(1), 11);
    let missed = missed() - before;
    for (ops, functions) in registered {
        assert_eq!(engine.unregister(ops), Ok(functions.len()));
    }
    assert!(!percpu::this().trace.in_callback());
    (core::mem::take(&mut *CALLED.lock()), missed)
}

pub(crate) fn a_callback_that_calls_twice_is_inside_itself_both_times() {
    let (outer, inner) = (outer as *const (), inner as *const ());
    let both = &[outer, inner][..];
    // In one list; the one that isn't recursion-safe is called for `outer` alone.
    assert_eq!(called(&[(&SAFE, both), (&OTHER, both)]), (alloc::vec![1, 1, 1, 3], 2));
    assert_eq!(called(&[(&SAFE_AND_FULL, both), (&OTHER, both)]), (alloc::vec![2, 2, 2, 3], 2));
    // Alone, in a stub of its own; and beside one that sees the inner function only.
    assert_eq!(called(&[(&SAFE, both)]), (alloc::vec![1, 1, 1], 0));
    assert_eq!(called(&[(&SAFE_AND_FULL, both)]), (alloc::vec![2, 2, 2], 0));
    assert_eq!(called(&[(&SAFE, both), (&INNER_ONLY, &[inner])]), (alloc::vec![1, 1, 1], 2));
}
