//! Injections against a naive model, and in an engine on a simulated machine.

use super::ahead::{self, Ahead};
use super::parameters::Parameters;
use super::{Callers, Failure, FailurePoints, Injectable, Injection, StackFilter, fail_nth};
use crate::address::{TextAddr, TextRange};
use crate::context::regs::{FtraceRegs, PtRegs, SavedRegs};
use crate::context::{ContextLevel, TraceContext};
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, FakeKernel, FakeRegs, FakeText, Fault};
use crate::module::Regions as _;
use crate::ops::{NEVER_DUE, Ops};
use core::ops::ControlFlow;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
extern crate std;
use spin::Mutex;
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

/// SplitMix64 and the order of Linux's `should_fail`, written down once more.
struct Model {
    random: u64,
    probability: u32,
    interval: u32,
    space: u64,
    times: i64,
    count: u32,
}

impl Model {
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn should_fail(&mut self) -> bool {
        if self.probability == 0 || self.times == 0 {
            return false;
        }
        if self.space > 0 {
            self.space -= 1;
            return false;
        }
        if self.interval > 1 {
            self.count += 1;
            if !self.count.is_multiple_of(self.interval) {
                return false;
            }
        }
        if self.probability < 100 && self.random() % 100 >= u64::from(self.probability) {
            return false;
        }
        if self.times > 0 {
            self.times -= 1;
        }
        true
    }
}

/// What a stub's test does with a call; whether it goes on to the callback.
fn test(due: &AtomicU64) -> bool {
    let value = due.load(Ordering::Relaxed);
    if value & NEVER_DUE != 0 {
        return false;
    }
    match value.checked_sub(2) {
        Some(less) => {
            due.store(less, Ordering::Relaxed);
            false
        }
        None => true,
    }
}

#[test]
fn the_calls_fail_that_the_parameters_say() {
    let mut random = Model { random: 1, probability: 0, interval: 0, space: 0, times: 0, count: 0 };
    let mut failed = 0_u64;
    let cases = if cfg!(miri) { 5 } else { 1000 };
    for case in 0..cases {
        let pick = |of: &[i64], random: &mut Model| of[random.random() as usize % of.len()];
        let probability = pick(&[0, 1, 5, 50, 99, 100, 100, 250], &mut random);
        let interval = pick(&[0, 1, 1, 2, 3, 10, 64, 65, 200], &mut random);
        let space = pick(&[0, 0, 1, 7, 63, 64, 65, 130], &mut random);
        let times = pick(&[-1, -1, 0, 1, 2, 10], &mut random);
        let (parameters, due, ahead) = (Parameters::new(), AtomicU64::new(NEVER_DUE), Ahead::new());
        parameters.set_seed(case);
        parameters.probability.store(probability as u32, Ordering::Relaxed);
        parameters.interval.store(interval as u32, Ordering::Relaxed);
        parameters.space.store(space as u64, Ordering::Relaxed);
        parameters.times.store(times, Ordering::Relaxed);
        ahead::reset(&due, &parameters);
        let mut model = Model {
            random: case,
            probability: probability as u32,
            interval: interval as u32,
            space: space as u64,
            times,
            count: 0,
        };
        for call in 0..200 {
            // With a stub of its own, or one of a list.
            let has_test = case % 2 == 0;
            let fails = (!has_test || test(&due))
                && !parameters.is_off()
                && ahead.may_fail(&due, &parameters)
                && parameters.take_time().is_some();
            if fails && parameters.is_off() {
                ahead::reset(&due, &parameters);
            }
            assert_eq!(fails, model.should_fail(), "case {case}, call {call}: {parameters:?}");
            failed += u64::from(fails);
        }
    }
    assert!(failed > cases, "{failed}");
}

#[test]
fn calls_go_by_without_being_looked_at() {
    let (parameters, due, ahead) = (Parameters::new(), AtomicU64::new(NEVER_DUE), Ahead::new());
    parameters.probability.store(100, Ordering::Relaxed);
    parameters.interval.store(60, Ordering::Relaxed);
    ahead::reset(&due, &parameters);
    let looked_at = (0..6000).filter(|_| test(&due)).filter(|_| ahead.may_fail(&due, &parameters)).count();
    assert_eq!(looked_at, 100);
    due.store(NEVER_DUE, Ordering::Relaxed);
    assert!((0..1000).all(|_| !test(&due)));
}

#[test]
fn an_interrupt_in_the_midst_of_working_out_asks_for_itself() {
    let (parameters, due, ahead) = (Parameters::new(), AtomicU64::new(NEVER_DUE), Ahead::new());
    parameters.probability.store(100, Ordering::Relaxed);
    ahead::reset(&due, &parameters);
    ahead.is_worked_at.store(true, Ordering::Relaxed);
    assert!((0..100).all(|_| test(&due) && ahead.may_fail(&due, &parameters)));
    assert_eq!(due.load(Ordering::Relaxed), 0);
}

#[test]
fn each_failure_point_is_come_to_once() {
    let context = TraceContext::new();
    let call = || context.injection.count_down() == Some(true);
    // Five calls, of which the last two are made only if the second one has not failed.
    let mut failed = Vec::new();
    let found = fail_nth(&context, 100, |n| {
        let first = call();
        let second = call();
        let third = call();
        let rest = if second { [false; 2] } else { [call(), call()] };
        let all = [first, second, third, rest[0], rest[1]];
        assert!(all.iter().filter(|failed| **failed).count() <= 1);
        failed.push((n, all.iter().position(|failed| *failed)));
    });
    assert_eq!(found, FailurePoints { points: 5, is_whole: true });
    assert_eq!(failed, [(1, Some(0)), (2, Some(1)), (3, Some(2)), (4, Some(3)), (5, Some(4)), (6, None)]);
    assert_eq!(fail_nth(&context, 3, |_| while !call() {}), FailurePoints { points: 3, is_whole: false });
    assert_eq!(context.injection.count_down(), None);
}

#[test]
fn an_ops_of_an_injection_fails_nothing_at_first() {
    extern "C" fn nothing(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}
    assert_eq!(Ops::injecting(nothing).due().load(Ordering::Relaxed), NEVER_DUE);
}

const SORT: u64 = 0xffff_8000_8000_0000;

/// What one call at the function's callsite does: where it goes on.
fn goes_on_at(injection: &'static Injection, context: &TraceContext, ip: u64) -> u64 {
    let all = PtRegs { regs: core::array::from_fn(|n| n as u64), sp: 0x9000, pc: ip + 8, pstate: 5 };
    let mut saved = SavedRegs::from_pt_regs(&all);
    saved.context = core::ptr::from_ref(context).expose_provenance() as u64;
    // SAFETY: 1. Nobody else uses it. 2. `ALL_SAVED` is not set: a context is aligned.
    let regs = unsafe { FtraceRegs::new(NonNull::from_mut(&mut saved)) };
    injection.call(TextAddr::new(ip + 4), regs);
    saved.function_record[1]
}

#[test]
fn a_call_that_fails_goes_on_in_the_function_of_its_type() {
    static INJECTION: Injection = Injection::new().with_name("fail_sort").with_report(told);
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    fn told(failure: &Failure<'_>) {
        TOLD.lock().push(std::format!("{failure}"));
    }

    let mut text = FakeText::new(SORT);
    text.function("sort", COMPILED);
    text.function("draw", COMPILED);
    let kernel = text.build();
    let engine = Engine::with_machine(kernel, kernel);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    let (function, instead) = (core::ptr::without_provenance(SORT as usize), core::ptr::without_provenance(0x5000));
    // SAFETY: 1., 2. Nobody calls either.
    let site: &'static Injectable<'static> = Box::leak(Box::new(unsafe { Injectable::new("sort", function, instead) }));
    // SAFETY: as above.
    let other = unsafe { Injectable::new("other", core::ptr::without_provenance(0x10), instead) };
    let other: &'static Injectable<'static> = Box::leak(Box::new(other));

    assert!(INJECTION.attach(&engine, [other]).is_err(), "there is no such function");
    INJECTION.attach(&engine, [site]).unwrap();
    assert_eq!(INJECTION.attach(&engine, [site]), Err(RegisterError::AlreadyRegistered));
    assert_eq!(engine.check_text().enabled, 1);

    let context = TraceContext::new();
    let call = |ip| goes_on_at(&INJECTION, &context, ip);
    assert_eq!(call(SORT), SORT + 8, "nothing fails at first");
    INJECTION.set_probability(100);
    INJECTION.set_interval(2);
    INJECTION.set_times(Some(1));
    assert_eq!([call(SORT), call(SORT), call(SORT), call(SORT)], [SORT + 8, 0x5000, SORT + 8, SORT + 8]);
    // Each call of another function is looked at, and none is in the list.
    INJECTION.set_times(None);
    INJECTION.set_interval(1);
    assert_eq!(call(SORT + 16), SORT + 24);
    // By the task alone, which is not in an interrupt.
    INJECTION.set_probability(0);
    context.injection.nth.store(2, Ordering::Relaxed);
    // SAFETY: left below, by the same thread.
    let outer = unsafe { context.enter(ContextLevel::Irq) };
    assert_eq!(call(SORT), SORT + 8);
    // SAFETY: entered above.
    unsafe { context.leave(outer) };
    assert_eq!([call(SORT), call(SORT), call(SORT)], [SORT + 8, 0x5000, SORT + 8]);
    INJECTION.set_probability(100);
    INJECTION.set_task_filter(true);
    assert_eq!(call(SORT), SORT + 8);
    context.set_may_fail(true);
    assert_eq!([call(SORT), call(SORT)], [0x5000; 2]);

    INJECTION.detach(&engine).unwrap();
    assert_eq!((engine.check_text().enabled, INJECTION.failures(), TOLD.lock().len()), (0, 4, 4));
    let words = "FAULT_INJECTION: forcing a failure. name fail_sort, interval 2, probability 100, space 0, times 1, ";
    let told = &TOLD.lock()[0];
    assert!(told.strip_prefix(words).is_some_and(|rest| rest.starts_with("sort called from ")), "{told}");
}

/// Callers that are there, and whether the walk came to its end.
struct Told(&'static [u64], bool);

impl Callers for Told {
    fn for_each_caller(&self, _: &FtraceRegs<'_>, each: &mut dyn FnMut(TextAddr) -> ControlFlow<()>) -> bool {
        let broke = self.0.iter().try_for_each(|caller| each(TextAddr::new(*caller))).is_break();
        !broke && self.1
    }
}

#[test]
fn a_call_whose_callers_are_not_sure_fails_only_by_those_that_are() {
    const ONE: TextRange = TextRange::new(TextAddr::new(0x100), TextAddr::new(0x120));
    const OTHER: TextRange = TextRange::new(TextAddr::new(0x200), TextAddr::new(0x220));
    static WHOLE: Told = Told(&[0x104, 0x300], true);
    static CUT: Told = Told(&[0x104, 0x300], false);
    let all = PtRegs { regs: [0; 31], sp: 0, pc: 0, pstate: 0 };
    let mut saved = FakeRegs::new(&all);
    let mut lets = |filter: StackFilter| filter.lets(&saved.view());
    for (callers, is_whole) in [(&WHOLE, true), (&CUT, false)] {
        let filter = StackFilter::new(callers);
        assert!(lets(filter) && lets(filter.require(ONE)) && !lets(filter.require(OTHER)) && !lets(filter.reject(ONE)));
        // It may have come through the other one.
        assert_eq!(lets(filter.reject(OTHER)), is_whole);
        assert_eq!(lets(filter.require(ONE).reject(OTHER)), is_whole);
    }
    // The call stands before the address where it goes on: right behind a range is inside, at its start is not.
    static EDGES: [Told; 2] = [Told(&[0x120], true), Told(&[0x100], true)];
    assert_eq!(EDGES.each_ref().map(|callers| lets(StackFilter::new(callers).require(ONE))), [true, false]);
}

/// The engine's kernel with a function `draw`, and a module that can come and go, with a function `send`.
fn kernel_and_module() -> (&'static FakeKernel, Engine, [TextAddr; 2]) {
    let (mut text, mut module) = (FakeText::new(SORT), FakeText::new(SORT + (1 << 24)));
    let functions = [text.function("draw", COMPILED), module.function("send", COMPILED)];
    text.module(module);
    let kernel = text.build();
    let engine = Engine::with_machine(kernel, kernel);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    (kernel, engine, functions)
}

/// An entry whose name goes with the `String`, as a module's goes with the module.
fn site_of<'a>(function: TextAddr, name: &'a str, _module: &'a ()) -> Injectable<'a> {
    let (name, name_bytes) = (name.as_ptr(), name.len());
    let code = |address: u64| core::ptr::without_provenance(address as usize);
    // INVARIANT: nobody calls either.
    let (function, instead) = (code(function.get()), code(0x5000));
    Injectable { function, instead, name, name_bytes, _functions: core::marker::PhantomData }
}

#[test]
fn what_is_attached_to_a_module_is_let_go_with_it() {
    static INJECTION: Injection = Injection::new().with_report(name_it);
    static NAMES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    fn name_it(failure: &Failure<'_>) {
        NAMES.lock().push(failure.function.name().into());
    }
    let (kernel, engine, [draw, send]) = kernel_and_module();
    // SAFETY: nothing executes a fake's text, and its modules' texts are there for ever.
    let load = || unsafe { engine.add(kernel.module(0)) }.unwrap();
    let context = TraceContext::new();
    let call = |function: TextAddr| goes_on_at(&INJECTION, &context, function.get());
    INJECTION.set_probability(100);

    let token = load();
    let name = String::from("module::send");
    // The module's stands before the kernel's in the list, and is looked at first.
    INJECTION.attach(&engine, [&site_of(send, &name, &()), &site_of(draw, "kernel::draw", &())]).unwrap();
    assert_eq!(([call(send), call(draw)], engine.check_text().enabled), ([0x5000; 2], 2));
    engine.remove(token).unwrap();
    drop(name);
    // Under Miri: nothing is looked at that has gone.
    assert_eq!((call(draw), engine.check_text().enabled), (0x5000, 1));

    // What comes to stand there is another function.
    let token = load();
    assert_eq!(engine.check_text().enabled, 1);
    let name = String::from("module::send, again");
    let again = site_of(send, &name, &());
    assert_eq!(INJECTION.attach(&engine, [&again]), Err(RegisterError::AlreadyRegistered));
    INJECTION.detach(&engine).unwrap();
    assert_eq!(INJECTION.detach(&engine), Err(RegisterError::NotRegistered));
    INJECTION.attach(&engine, [&again]).unwrap();
    // Only what it is attached to now.
    assert_eq!([call(send), call(draw)], [0x5000, draw.get() + 8]);
    engine.remove(token).unwrap();
    INJECTION.detach(&engine).unwrap();
    assert_eq!(NAMES.lock()[..], ["module::send", "kernel::draw", "kernel::draw", "module::send, again"]);
}

#[test]
fn an_injection_is_attached_to_one_engine_at_a_time() {
    static INJECTION: Injection = Injection::new();
    let [(_, first, [draw, _]), (_, second, _)] = [(); 2].map(|()| kernel_and_module());
    let site = site_of(draw, "kernel::draw", &());
    let nowhere = site_of(TextAddr::new(0x10), "nowhere", &());
    // In vain: it is free again.
    assert_eq!(INJECTION.attach(&first, [&nowhere]), Err(RegisterError::NothingSelected { rule: 0 }));
    INJECTION.attach(&first, [&site]).unwrap();
    assert_eq!(INJECTION.attach(&second, [&site]), Err(RegisterError::AlreadyRegistered));
    assert_eq!(INJECTION.detach(&second), Err(RegisterError::NotRegistered));
    assert_eq!(INJECTION.attach(&second, [&site]), Err(RegisterError::AlreadyRegistered));
    INJECTION.detach(&first).unwrap();
    INJECTION.attach(&second, [&site]).unwrap();
    INJECTION.detach(&second).unwrap();
}

#[test]
fn a_cpu_that_may_be_in_the_callback_keeps_it_attached() {
    static INJECTION: Injection = Injection::new();
    let (kernel, engine, [draw, _]) = kernel_and_module();
    let site = site_of(draw, "kernel::draw", &());
    INJECTION.attach(&engine, [&site]).unwrap();
    kernel.set_fault(Some(Fault::Busy(1)));
    assert!(matches!(INJECTION.detach(&engine), Err(RegisterError::NotQuiescent(_))));
    assert_eq!(INJECTION.attach(&engine, [&site]), Err(RegisterError::AlreadyRegistered));
    kernel.set_fault(None);
    INJECTION.detach(&engine).unwrap();
    INJECTION.attach(&engine, [&site]).unwrap();
    INJECTION.detach(&engine).unwrap();
}
