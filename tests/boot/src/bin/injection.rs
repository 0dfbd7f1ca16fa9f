//! Functions are made to fail: with what they return by their type, and when the parameters say.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use core::time::Duration;
use fentry::context::shadow::ShadowStack;
use fentry::engine::RegisterError;
use fentry::inject::{Callers, Failure, FailurePoints, Injectable, Injection, StackFilter, fail_nth};
use fentry::ops::{Exit, Probe};
use fentry::{Engine, Filter, FtraceRegs, Ops, Rule, TextAddr, TextRange};
use spin::Mutex;
use support::vectors::ExceptionFrame;
use support::{backtrace, engine, interrupts, percpu, println, smp};

support::boot_tests! {
    nothing_fails_at_first,
    a_call_fails_with_a_result_of_its_type,
    what_was_moved_into_a_call_that_fails_is_dropped,
    the_calls_fail_that_the_parameters_say,
    the_same_seed_makes_the_same_calls_fail,
    only_tasks_that_may_fail_do,
    each_failure_point_of_a_path_is_come_to,
    a_failure_is_told_of_in_linuxs_words,
    a_call_fails_by_its_callers,
    other_ops_at_the_function_see_its_calls,
    an_injection_is_one_functions_owner,
    as_many_calls_fail_on_four_cpus_as_may,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Large([u64; 8]);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Error {
    NoMemory { asked: usize },
    Io,
}

#[inline(never)]
fn number(x: u64) -> u64 {
    black_box(x) + 1
}

#[inline(never)]
fn truth(x: u64) -> bool {
    black_box(x) == x
}

#[inline(never)]
fn boxed(x: usize) -> Option<Box<usize>> {
    Some(Box::new(black_box(x)))
}

#[inline(never)]
fn result(x: usize) -> Result<u32, Error> {
    Ok(black_box(x) as u32)
}

#[inline(never)]
fn large(x: u64, also: &Large) -> Result<Large, Error> {
    let mut large = *also;
    large.0[0] += black_box(x);
    Ok(large)
}

#[inline(never)]
fn wide(x: u128) -> (u128, f64) {
    (black_box(x) + 1, 1.5)
}

#[inline(never)]
extern "C" fn errno(x: i32) -> i32 {
    black_box(x)
}

/// Counts how many there are.
struct Counted(i64);

static THERE_ARE: AtomicI64 = AtomicI64::new(0);

impl Counted {
    fn new(number: i64) -> Self {
        THERE_ARE.fetch_add(1, Ordering::Relaxed);
        Self(number)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        THERE_ARE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[inline(never)]
fn takes(counted: Counted, name: String) -> Result<Counted, String> {
    if name.is_empty() { Err(name) } else { Ok(black_box(counted)) }
}

fentry::injectable! {
    // SAFETY: the callers in this test take any result.
    unsafe fn number(x: u64) -> u64 { 7 * x }
    // SAFETY: as above.
    unsafe fn truth(x: u64) -> bool { false }
    // SAFETY: as above.
    unsafe fn boxed(x: usize) -> Option<Box<usize>> { None }
    // SAFETY: as above.
    unsafe fn result(x: usize) -> Result<u32, Error> { Err(Error::NoMemory { asked: x }) }
    // SAFETY: as above.
    unsafe fn large(x: u64, also: &Large) -> Result<Large, Error> { if x == 5 { Err(Error::Io) } else { Ok(Large([x; 8])) } }
    // SAFETY: as above.
    unsafe fn wide(x: u128) -> (u128, f64) { (x << 64, 2.5) }
    // SAFETY: as above.
    unsafe extern "C" fn errno(x: i32) -> i32 { -12 }
    // SAFETY: as above.
    unsafe fn takes(counted: Counted, name: String) -> Result<Counted, String> { Err(name) }
}

fn list() -> &'static [Injectable<'static>] {
    // SAFETY: linker.ld puts the two symbols around the section, in memory that nobody can write.
    unsafe { Injectable::linked() }
}

fn site(name: &str) -> &'static Injectable<'static> {
    list().iter().find(|site| site.name() == name).expect("it is in the list")
}

/// Attaches it while `run` runs.
fn attached<const SITES: usize, R>(injection: &'static Injection, names: [&str; SITES], run: impl FnOnce() -> R) -> R {
    let (engine, _) = engine();
    injection.attach(engine, names.map(site)).unwrap();
    let result = run();
    injection.detach(engine).unwrap();
    result
}

fn call(x: u64) -> u64 {
    black_box(number as fn(u64) -> u64)(x)
}

/// Which of so many calls fail.
fn failing(calls: u64) -> Vec<u64> {
    (1..=calls).filter(|x| call(*x) != x + 1).collect()
}

fn nothing_fails_at_first() {
    static INJECTION: Injection = Injection::new();
    assert_eq!(list().len(), 8);
    attached(&INJECTION, ["number"], || assert_eq!(failing(1000), []));
    INJECTION.set_probability(100);
    assert_eq!(failing(10), [], "it is detached");
    attached(&INJECTION, ["number"], || assert_eq!(failing(10).len(), 10));
    assert_eq!((failing(10), INJECTION.failures()), (Vec::new(), 10));
}

fn a_call_fails_with_a_result_of_its_type() {
    static INJECTION: Injection = Injection::new();
    let one = Large([1; 8]);
    let check = |fails: bool| {
        assert_eq!(black_box(truth as fn(u64) -> bool)(3), !fails);
        assert_eq!(black_box(boxed as fn(usize) -> Option<Box<usize>>)(3), (!fails).then(|| Box::new(3_usize)));
        let expected = if fails { Err(Error::NoMemory { asked: 9 }) } else { Ok(9) };
        assert_eq!(black_box(result as fn(usize) -> Result<u32, Error>)(9), expected);
        let large = black_box(large as fn(u64, &Large) -> Result<Large, Error>);
        let both = if fails { (Err(Error::Io), Ok(Large([4; 8]))) } else { (Ok(with_first(6)), Ok(with_first(5))) };
        assert_eq!((large(5, &one), large(4, &one)), both);
        let wide = black_box(wide as fn(u128) -> (u128, f64))(5);
        assert_eq!(wide, if fails { (5 << 64, 2.5) } else { (6, 1.5) });
        assert_eq!(black_box(errno as extern "C" fn(i32) -> i32)(3), if fails { -12 } else { 3 });
    };
    let all = ["truth", "boxed", "result", "large", "wide", "errno"];
    check(false);
    attached(&INJECTION, all, || {
        check(false);
        INJECTION.set_probability(100);
        check(true);
        INJECTION.set_probability(0);
        check(false);
    });
    check(false);
}

fn with_first(first: u64) -> Large {
    let mut large = Large([1; 8]);
    large.0[0] = first;
    large
}

fn what_was_moved_into_a_call_that_fails_is_dropped() {
    static INJECTION: Injection = Injection::new();
    INJECTION.set_probability(100);
    let take = |name: &str| {
        black_box(takes as fn(Counted, String) -> Result<Counted, String>)(Counted::new(5), String::from(name))
    };
    attached(&INJECTION, ["takes"], || {
        let failed: Result<Counted, String> = take("a name");
        assert_eq!((failed.err().as_deref(), THERE_ARE.load(Ordering::Relaxed)), (Some("a name"), 0));
    });
    let taken: Result<Counted, String> = take("a name");
    assert_eq!((taken.ok().map(|counted| counted.0), THERE_ARE.load(Ordering::Relaxed)), (Some(5), 0));
}

fn the_calls_fail_that_the_parameters_say() {
    static INJECTION: Injection = Injection::new();
    attached(&INJECTION, ["number"], || {
        INJECTION.set_probability(100);
        INJECTION.set_times(Some(3));
        assert_eq!(failing(1000), [1, 2, 3]);
        INJECTION.set_interval(100);
        INJECTION.set_times(Some(2));
        INJECTION.set_seed(0);
        assert_eq!(failing(1000), [100, 200]);
        INJECTION.set_times(None);
        INJECTION.set_space(50);
        INJECTION.set_seed(0);
        assert_eq!(failing(500), [150, 250, 350, 450]);
        INJECTION.set_interval(1);
        INJECTION.set_probability(10);
        let failed = failing(10_000).len();
        assert!((800..1200).contains(&failed), "{failed} of 10,000 at 10 %");
    });
}

fn the_same_seed_makes_the_same_calls_fail() {
    static INJECTION: Injection = Injection::new();
    attached(&INJECTION, ["number"], || {
        INJECTION.set_probability(20);
        let [first, again, other] = [17, 17, 18].map(|seed| {
            INJECTION.set_seed(seed);
            failing(1000)
        });
        assert_eq!(first, again);
        assert_ne!(first, other);
    });
}

/// Calls of the ticks' handlers, and how many of them failed.
static IN_INTERRUPTS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

fn call_in_interrupt(_: &ExceptionFrame) {
    IN_INTERRUPTS[0].fetch_add(1, Ordering::Relaxed);
    IN_INTERRUPTS[1].fetch_add(u64::from(call(1) != 2), Ordering::Relaxed);
}

fn with_ticks<R>(run: impl FnOnce() -> R) -> R {
    interrupts::on_tick(Some(call_in_interrupt));
    interrupts::start_ticks(Duration::from_micros(20));
    let result = run();
    interrupts::stop_ticks();
    interrupts::on_tick(None);
    result
}

fn only_tasks_that_may_fail_do() {
    static INJECTION: Injection = Injection::new();
    let context = &percpu::this().trace;
    attached(&INJECTION, ["number"], || {
        INJECTION.set_probability(100);
        INJECTION.set_task_filter(true);
        assert_eq!(failing(100), []);
        context.set_may_fail(true);
        let before = IN_INTERRUPTS[0].load(Ordering::Relaxed);
        let (mut calls, mut failed) = (0, 0);
        with_ticks(|| {
            while calls < 1000 || IN_INTERRUPTS[0].load(Ordering::Relaxed) < before + 20 {
                calls += 1;
                failed += u64::from(call(1) != 2);
            }
        });
        assert_eq!((failed, IN_INTERRUPTS[1].load(Ordering::Relaxed)), (calls, 0));
        context.set_may_fail(false);
        assert_eq!(failing(100), []);
    });
}

/// A path that takes three things, and gives back what it has where one of them is not to be had.
#[inline(never)]
fn path() -> Result<Vec<Counted>, Error> {
    let mut all = Vec::new();
    for number in 0..3 {
        let counted = Counted::new(number);
        let took = black_box(boxed as fn(usize) -> Option<Box<usize>>)(number as usize).ok_or(Error::Io)?;
        all.push(counted);
        drop(took);
    }
    black_box(result as fn(usize) -> Result<u32, Error>)(3)?;
    Ok(all)
}

fn each_failure_point_of_a_path_is_come_to() {
    static INJECTION: Injection = Injection::new();
    let mut results = Vec::new();
    let found = attached(&INJECTION, ["boxed", "result", "number"], || {
        with_ticks(|| {
            fail_nth(&percpu::this().trace, 100, |_| {
                results.push(path().map(|all| all.len()));
                assert_eq!(THERE_ARE.load(Ordering::Relaxed), 0, "nothing is left behind");
            })
        })
    });
    assert_eq!(found, FailurePoints { points: 4, is_whole: true });
    let no_memory = Err(Error::NoMemory { asked: 3 });
    assert_eq!(results, [Err(Error::Io), Err(Error::Io), Err(Error::Io), no_memory, Ok(3)]);
    assert_eq!((INJECTION.failures(), IN_INTERRUPTS[1].load(Ordering::Relaxed)), (4, 0));
    assert_eq!(path().map(|all| all.len()), Ok(3));
}

static TOLD: Mutex<Option<(String, TextAddr, bool)>> = Mutex::new(None);

fn tell(failure: &Failure<'_>) {
    *TOLD.lock() = Some((format!("{failure}"), failure.parent_ip, failure.is_nth));
}

fn a_failure_is_told_of_in_linuxs_words() {
    static INJECTION: Injection = Injection::new().with_name("fail_numbers").with_report(tell);
    INJECTION.set_probability(100);
    INJECTION.set_interval(2);
    INJECTION.set_times(Some(9));
    attached(&INJECTION, ["number"], || assert_eq!(failing(2), [2]));
    let (text, parent, is_nth) = TOLD.lock().take().unwrap();
    let words =
        "FAULT_INJECTION: forcing a failure. name fail_numbers, interval 2, probability 100, space 0, times 9, ";
    assert_eq!(text, format!("{words}number called from {parent}"));
    let caller = engine().0.symbols().unwrap().lookup_addr(parent.get()).unwrap().symbol.name;
    assert!(caller.contains("injection::") && !is_nth, "{caller}");
}

/// The callers by frame records: each function of this kernel has one.
struct ByRecords;

impl Callers for ByRecords {
    fn for_each_caller(&self, regs: &FtraceRegs<'_>, each: &mut dyn FnMut(TextAddr) -> ControlFlow<()>) -> bool {
        let parent = core::iter::once(regs.return_address());
        parent.chain(backtrace::callers(regs.frame_pointer())).try_for_each(each).is_continue()
    }
}

#[inline(never)]
fn through(x: u64) -> u64 {
    black_box(call(x)) ^ black_box(0)
}

#[inline(never)]
fn around(x: u64) -> u64 {
    black_box(through(x)) ^ black_box(0)
}

fn text_of(function: *const ()) -> TextRange {
    let symbol = engine().0.symbols().unwrap().lookup_addr(function.addr() as u64).unwrap().symbol;
    let start = TextAddr::new(symbol.addr);
    TextRange::new(start, start.offset(symbol.size as i64))
}

fn a_call_fails_by_its_callers() {
    static INJECTION: Injection = Injection::new();
    INJECTION.set_probability(100);
    let filter = |change: fn(StackFilter) -> StackFilter| {
        let filter: &'static StackFilter = Box::leak(Box::new(change(StackFilter::new(&ByRecords))));
        INJECTION.set_stack_filter(Some(filter));
        [call(3), through(3), around(3)].map(|result| result != 4)
    };
    attached(&INJECTION, ["number"], || {
        assert_eq!(filter(|filter| filter), [true; 3]);
        let through = |filter: StackFilter| filter.require(text_of(through as *const ()));
        assert_eq!(filter(through), [false, true, true]);
        assert_eq!(filter(|filter| filter.reject(text_of(around as *const ()))), [true, true, false]);
        let both = |filter: StackFilter| {
            filter.require(text_of(self::through as *const ())).reject(text_of(around as *const ()))
        };
        assert_eq!(filter(both), [false, true, false]);
        INJECTION.set_stack_filter(None);
        assert_eq!(failing(3).len(), 3);
    });
    assert_eq!(INJECTION.failures(), 3 + 2 + 2 + 1 + 3);
}

static RETURNED: AtomicU64 = AtomicU64::new(0);

struct Returns;

impl Probe for Returns {
    type Data = ();
    const ENTRY: bool = false;

    fn exit(call: &mut Exit<'_>, (): &()) {
        RETURNED.fetch_add(call.value(), Ordering::Relaxed);
    }
}

fn other_ops_at_the_function_see_its_calls() {
    static INJECTION: Injection = Injection::new();
    static OTHERS: [Ops; 2] = [Ops::counter(), Ops::returning::<Returns>()];
    static STACK: ShadowStack<8> = ShadowStack::new();
    let (engine, _) = engine();
    // SAFETY: 1. It is this CPU's alone, and lives for ever. 2. No return is hooked. 3., 4. This is the thread, in no callback.
    unsafe { percpu::this().trace.set_shadow_stack(&STACK) };
    let rules = [Rule::address(site("number").function())];
    INJECTION.set_probability(100);
    INJECTION.set_interval(3);
    attached(&INJECTION, ["number"], || {
        for ops in &OTHERS {
            engine.register(ops, &Filter::new(&rules)).unwrap();
        }
        assert_eq!(failing(6), [3, 6]);
        for ops in &OTHERS {
            engine.unregister(ops).unwrap();
        }
    });
    assert_eq!(engine.hits(&OTHERS[0]), 6);
    // Also of those that fail.
    assert_eq!(RETURNED.load(Ordering::Relaxed), 2 + 3 + 21 + 5 + 6 + 42);
}

fn an_injection_is_one_functions_owner() {
    static INJECTIONS: [Injection; 2] = [const { Injection::new() }; 2];
    let (engine, _) = engine();
    let attach = |number: usize| INJECTIONS[number].attach(engine, [site("number")]);
    assert_eq!(attach(0), Ok(()));
    assert_eq!(attach(0), Err(RegisterError::AlreadyRegistered));
    let function = site("number").function();
    assert_eq!(attach(1), Err(RegisterError::Conflict { function, name: Some("injection::number") }));
    INJECTIONS[1].set_probability(100);
    assert_eq!(failing(10), []);
    assert_eq!(INJECTIONS[0].detach(engine), Ok(()));
    assert_eq!((attach(1), failing(10).len()), (Ok(()), 10));
    assert_eq!(INJECTIONS[1].detach(engine), Ok(()));
    assert_eq!(INJECTIONS[1].detach(engine), Err(RegisterError::NotRegistered));
}

fn prepare() -> &'static Engine {
    let (engine, _) = engine();
    smp::start_all();
    engine
}

fn as_many_calls_fail_on_four_cpus_as_may() {
    const CALLS: u64 = if cfg!(debug_assertions) { 3_000 } else { 100_000 };
    static INJECTION: Injection = Injection::new();
    prepare();
    let calls = smp::online().count() as u64 * CALLS;
    let failed = |parameters: &dyn Fn()| {
        let failed = AtomicU64::new(0);
        attached(&INJECTION, ["number"], || {
            parameters();
            smp::on_all(|_| {
                failed.fetch_add(failing(CALLS).len() as u64, Ordering::Relaxed);
            });
            INJECTION.set_probability(0);
        });
        failed.load(Ordering::Relaxed)
    };
    let each_third = failed(&|| {
        INJECTION.set_probability(100);
        INJECTION.set_interval(3);
    });
    // Which calls go by is worked out for all CPUs together.
    assert!(calls / 4 < each_third && each_third <= calls / 3 + 4, "{each_third} of {calls}");
    let thousand = failed(&|| {
        INJECTION.set_probability(50);
        INJECTION.set_interval(1);
        INJECTION.set_times(Some(1000));
    });
    assert_eq!(thousand, 1000);
    println!("{calls} calls on {} CPUs: {each_third} of them failed, then {thousand}", smp::online().count());
    assert_eq!(INJECTION.failures(), each_third + thousand);
}
