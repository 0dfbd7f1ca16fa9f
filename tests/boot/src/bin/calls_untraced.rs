//! The engine is never traced itself: neither its own functions nor what other crates compile from it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::engine::RegisterError;
use fentry::{Filter, FtraceRegs, Ops, Rule, TextAddr};
use support::engine;

support::boot_tests! {
    no_function_of_the_engine_is_a_callsite,
    generics_of_the_engine_that_this_crate_instantiates_are_none_either,
    a_filter_can_not_name_them,
    a_callback_that_calls_traced_functions_does_not_loop,
    a_callback_may_itself_be_traceable,
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
