//! The engine is never traced itself: neither its own functions nor what other crates compile from it. And neither is what the
//! kernel leaves out.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::engine::{InitReport, LeftOut, RegisterError};
use fentry::{Engine, Filter, FtraceRegs, Ops, Rule, TextAddr};
use support::engine::engine_on;

support::boot_tests! {
    no_function_of_the_engine_is_a_callsite,
    generics_of_the_engine_that_this_crate_instantiates_are_none_either,
    a_filter_can_not_name_them,
    a_callback_that_calls_traced_functions_does_not_loop,
    a_callback_may_itself_be_traceable,
    what_the_kernel_leaves_out_is_none_either,
}

unsafe extern "C" {
    static __left_out_start: u8;
    static __left_out_stop: u8;
}

// Between these two labels, a function that can be traced but for what is said of them.
core::arch::global_asm!(
    ".pushsection .text.left_out, \"ax\", %progbits",
    ".balign 8",
    ".global __left_out_start",
    "__left_out_start:",
    ".global left_out_by_range",
    ".type left_out_by_range, %function",
    "left_out_by_range:",
    "    nop",
    "    nop",
    "    ret",
    ".size left_out_by_range, . - left_out_by_range",
    ".global __left_out_stop",
    "__left_out_stop:",
    ".pushsection __patchable_function_entries, \"awo\", %progbits, .text.left_out",
    ".balign 8",
    "    .quad left_out_by_range",
    ".popsection",
    ".popsection",
);

unsafe extern "C" {
    safe fn left_out_by_range();
}

#[inline(never)]
fn left_out_by_name() {
    // Not as `helper` does: equal functions are merged, and then both are left out.
    INNER_CALLS.fetch_add(10, Ordering::Relaxed);
}

static LEFT_OUT: [LeftOut; 3] = [
    LeftOut::names("calls_untraced::left_out_*"),
    LeftOut::linked(&raw const __left_out_start, &raw const __left_out_stop),
    LeftOut::names("calls_untraced::renamed"),
];

fn engine() -> (&'static Engine, InitReport) {
    engine_on(|image| image.leave_out(&LEFT_OUT))
}

/// The names of all callsites' functions.
fn traceable() -> Vec<String> {
    let mut names = Vec::new();
    engine().0.for_each_callsite(|status| names.extend(status.name.map(String::from)));
    names
}

fn no_function_of_the_engine_is_a_callsite() -> Result<(), String> {
    let (engine, report) = engine();
    let names = traceable();
    assert_eq!(names.len(), report.counts.accepted);
    let own: Vec<_> =
        names.iter().filter(|name| name.contains("fentry::") || name.contains("compiler_builtins")).collect();
    if !own.is_empty() {
        return Err(format!("{own:#?}"));
    }
    // And they were there to be left out.
    let all = engine.symbols().unwrap();
    assert!(all.iter().filter(|symbol| symbol.name.contains("fentry::")).count() > 20);
    assert!(report.counts.excluded > 20);
    Ok(())
}

fn generics_of_the_engine_that_this_crate_instantiates_are_none_either() {
    traceable();
    // The call above has instantiated it here, for a closure of ours.
    let is_instance = |name: &str| name.contains("for_each_callsite::<") && name.contains("calls_untraced::traceable");
    let symbols = engine().0.symbols().unwrap();
    let instances = symbols.iter().filter(|symbol| is_instance(symbol.name)).count();
    assert!(instances > 0 || !cfg!(debug_assertions), "not instantiated, or inlined");
    assert!(!traceable().iter().any(|name| is_instance(name)));
}

fn a_filter_can_not_name_them() {
    static OPS: Ops = Ops::new(count);
    let rules = [Rule::glob("*fentry::*").unwrap()];
    assert_eq!(engine().0.register(&OPS, &Filter::new(&rules)), Err(RegisterError::NothingSelected { rule: 0 }));
}

static CALLS: AtomicU64 = AtomicU64::new(0);
static INNER_CALLS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

#[inline(never)]
fn helper() {
    INNER_CALLS.fetch_add(1, Ordering::Relaxed);
}

#[inline(never)]
fn traced() {
    helper();
}

fn a_callback_that_calls_traced_functions_does_not_loop() {
    extern "C" fn calls_traced_functions(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        helper();
    }
    static OPS: Ops = Ops::new(calls_traced_functions);
    let (engine, _) = engine();
    let rules = ["calls_untraced::helper", "calls_untraced::traced"].map(Rule::name);
    engine.register(&OPS, &Filter::new(&rules)).unwrap();
    let misses = support::percpu::this().trace.misses();
    traced();
    engine.unregister(&OPS).unwrap();
    // `traced` and the `helper` that it calls; the callback's own two calls of `helper` ran and were not traced.
    assert_eq!(CALLS.swap(0, Ordering::Relaxed), 2);
    assert_eq!(INNER_CALLS.swap(0, Ordering::Relaxed), 3);
    assert_eq!(support::percpu::this().trace.misses() - misses, 2);
    assert!(!support::percpu::this().trace.in_callback());
}

fn a_callback_may_itself_be_traceable() {
    static OPS: Ops = Ops::new(count);
    let (engine, _) = engine();
    // Everything, the callback and what it is made of included.
    engine.register(&OPS, &Filter::ALL).unwrap();
    traced();
    engine.unregister(&OPS).unwrap();
    assert!(CALLS.swap(0, Ordering::Relaxed) >= 2);
}

fn what_the_kernel_leaves_out_is_none_either() {
    static OPS: Ops = Ops::new(count);
    let (engine, report) = engine();
    assert_eq!(LEFT_OUT.each_ref().map(LeftOut::functions), [1, 1, 0]);
    assert_eq!((report.counts.left_out, report.unmatched), (2, 1));
    assert!(!traceable().iter().any(|name| name.contains("left_out_by")));
    for name in ["left_out_by_range", "calls_untraced::left_out_by_name"] {
        let rules = [Rule::name(name)];
        assert_eq!(engine.register(&OPS, &Filter::new(&rules)), Err(RegisterError::NothingSelected { rule: 0 }));
    }
    let copy = support::memory::copy_of_text;
    let first_words = |all: &[u32]| {
        let start = support::memory::text().start;
        let at = (left_out_by_range as *const ()).addr();
        all[(at - start) / 4..][..2].to_vec()
    };
    INNER_CALLS.store(0, Ordering::Relaxed);
    engine.register(&OPS, &Filter::ALL).unwrap();
    assert_eq!(first_words(&copy()), [fentry::callsite::NOP; 2]);
    left_out_by_range();
    left_out_by_name();
    engine.unregister(&OPS).unwrap();
    assert_eq!(INNER_CALLS.swap(0, Ordering::Relaxed), 10);
    CALLS.store(0, Ordering::Relaxed);
}
