//! A kernel traces its own functions: one, some, all of them, and is afterwards as it was.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use fentry::{Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr};
use support::engine;

support::boot_tests! {
    every_callsite_is_decoded,
    a_callback_sees_the_call,
    an_argument_can_be_changed,
    a_function_can_be_answered_for,
    all_callsites_at_once_and_text_is_as_before,
}

#[inline(never)]
extern "C" fn add(a: u64, b: u64) -> u64 {
    black_box(a) + b
}

fn workload() -> usize {
    let mut numbers: Vec<u32> = (0..500_u32).map(|n| n.wrapping_mul(2_654_435_761) >> 7).collect();
    numbers.sort();
    let tree: BTreeMap<u32, usize> = numbers.iter().enumerate().map(|(at, n)| (*n, at)).collect();
    let mut text = String::new();
    for (n, at) in tree.iter().step_by(50) {
        write!(text, "{at}: {n:#x}, ").unwrap();
    }
    text.len()
}

fn every_callsite_is_decoded() -> Result<(), String> {
    let (engine, report) = engine();
    let mut refused = String::new();
    engine.for_each_refusal(|(at, why)| writeln!(refused, "{at}: {why}").unwrap());
    if !refused.is_empty() {
        return Err(refused);
    }
    assert!(report.counts.accepted > 200 && report.counts.excluded > 50, "{:?}", report.counts);
    assert!(report.symbols > report.counts.accepted);
    let check = engine.check_text();
    assert_eq!((check.disabled, check.wrong), (report.counts.accepted, 0));
    Ok(())
}

static SEEN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

extern "C" fn see(ip: TextAddr, parent_ip: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    let values = [ip.get(), parent_ip.get(), regs.argument(0).unwrap_or(0), regs.argument(1).unwrap_or(0)];
    for (seen, value) in SEEN.iter().zip(values) {
        seen.store(value, Ordering::Relaxed);
    }
}

#[inline(never)]
fn a_callback_sees_the_call() {
    static OPS: Ops = Ops::new(see);
    let (engine, _) = engine();
    let function = TextAddr::new((add as *const ()).addr() as u64);
    assert_eq!(engine.register(&OPS, &Filter::new(&[Rule::address(function)])), Ok(1));
    assert_eq!(black_box(add)(40, 2), 42);
    engine.unregister(&OPS).unwrap();
    assert_eq!(black_box(add)(1, 1), 2);

    let [ip, parent_ip, a, b] = [0, 1, 2, 3].map(|n: usize| SEEN[n].load(Ordering::Relaxed));
    assert_eq!((a, b), (40, 2));
    let symbols = engine.symbols().unwrap();
    let name = |addr| symbols.lookup_addr(addr).unwrap().symbol.name;
    assert_eq!(name(ip), "calls_first_light::add");
    assert_eq!(name(parent_ip), "calls_first_light::a_callback_sees_the_call");
}

fn an_argument_can_be_changed() {
    extern "C" fn change(_: TextAddr, _: TextAddr, _: &'static Ops, mut regs: FtraceRegs<'_>) {
        // SAFETY: `add` is right with any numbers.
        unsafe { regs.set_argument(1, 1000) };
    }
    static OPS: Ops = Ops::new(change);
    let (engine, _) = engine();
    engine.register(&OPS, &Filter::new(&[Rule::name("calls_first_light::add")])).unwrap();
    assert_eq!(black_box(add)(1, 2), 1001);
    engine.unregister(&OPS).unwrap();
    assert_eq!(black_box(add)(1, 2), 3);
}

fn a_function_can_be_answered_for() {
    extern "C" fn answer(_: TextAddr, _: TextAddr, _: &'static Ops, mut regs: FtraceRegs<'_>) {
        // SAFETY: the ops has IPMODIFY, and `add` returns a number.
        unsafe { regs.return_early(7) };
    }
    static OPS: Ops = Ops::new(answer).with_flags(OpsFlags::IPMODIFY);
    let (engine, _) = engine();
    engine.register(&OPS, &Filter::new(&[Rule::name("calls_first_light::add")])).unwrap();
    assert_eq!(black_box(add)(1, 2), 7);
    engine.unregister(&OPS).unwrap();
}

fn all_callsites_at_once_and_text_is_as_before() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn count(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
    static OPS: Ops = Ops::new(count);
    let (engine, report) = engine();
    let expected = workload();
    let before = text();
    for _ in 0..3 {
        assert_eq!(engine.register(&OPS, &Filter::ALL), Ok(report.counts.accepted));
        assert_eq!(workload(), expected);
        assert_eq!(engine.unregister(&OPS), Ok(report.counts.accepted));
        let calls = CALLS.swap(0, Ordering::Relaxed);
        assert!(calls > 500, "{calls} calls");
        assert!(text() == before);
    }
}

/// A copy of the kernel's text.
fn text() -> Vec<u32> {
    unsafe extern "C" {
        static __fentry_image_start: u32;
        static __fentry_image_stop: u32;
    }
    let (start, stop) = (&raw const __fentry_image_start, &raw const __fentry_image_stop);
    let words = (stop.addr() - start.addr()) / size_of::<u32>();
    // SAFETY: the linker script puts the symbols around text, which is mapped readable; nobody changes it now.
    unsafe { core::slice::from_raw_parts(start, words) }.to_vec()
}
