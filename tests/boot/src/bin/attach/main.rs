//! Typed attachments: handlers at one function that get its arguments and its result as values.
#![no_std]
#![no_main]

extern crate alloc;

mod live;
mod random;
mod recorders;
mod typed;

use alloc::format;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::engine::RegisterError;
use fentry::ops::direct::Trampoline;
use fentry::trampoline::attach::{AttachError, AttachPoint, Fentry, Fexit, ModifyReturn};
use fentry::{Filter, FtraceRegs, Ops, Rule, TextAddr};
use live::{attachments_come_and_go_while_four_cpus_call, what_a_thread_returns_to_stays};
use random::random_signatures_are_called_as_plain_calls_are;
use support::engine;
use typed::arguments_and_results_are_those_of_the_call;

support::boot_tests! {
    handlers_are_called_in_their_order,
    an_answer_is_returned_instead_of_the_functions,
    a_handler_is_not_called_inside_a_handler,
    ops_are_called_before_and_see_no_attachment,
    what_can_not_be_attached_is_refused_with_its_reason,
    arguments_and_results_are_those_of_the_call,
    random_signatures_are_called_as_plain_calls_are,
    what_a_thread_returns_to_stays,
    attachments_come_and_go_while_four_cpus_call,
}

type Two = extern "C" fn(u64, u32) -> i32;

/// What was called, a decimal digit each, from left to right.
static CALLED: AtomicU64 = AtomicU64::new(0);

fn note(digit: u64) {
    CALLED.store(10 * CALLED.load(Ordering::Relaxed) + digit, Ordering::Relaxed);
}

fn called() -> u64 {
    CALLED.swap(0, Ordering::Relaxed)
}

/// Handlers and functions that note a digit, the arguments and what was answered.
macro_rules! noting {
    ($($kind:ident $name:ident $digit:literal)*) => { $(noting!(@$kind $name $digit);)* };
    (@function $name:ident $digit:literal) => {
        #[inline(never)]
        extern "C" fn $name(a: u64, b: u32) -> i32 {
            note($digit);
            black_box(a as i32 + b as i32)
        }
    };
    (@entry $name:ident $digit:literal) => {
        extern "C" fn $name(a: u64, b: u32) {
            assert_eq!(u64::from(b), a + 1);
            note($digit);
        }
    };
    (@modify $name:ident $digit:literal) => {
        extern "C" fn $name(a: u64, b: u32) -> i32 {
            assert_eq!(u64::from(b), a + 1);
            note($digit);
            if a == $digit { -$digit } else { 0 }
        }
    };
    (@exit $name:ident $digit:literal) => {
        extern "C" fn $name(a: u64, b: u32, result: &i32) {
            assert_eq!(u64::from(b), a + 1);
            assert_eq!(*result, RESULT.load(Ordering::Relaxed) as i32);
            note($digit);
        }
    };
}

static RESULT: AtomicU64 = AtomicU64::new(0);

noting! {
    function ordered 5
    entry first 1 entry second 2 modify third 3 modify fourth 4 exit sixth 6 exit seventh 7
}

static ORDERED: AttachPoint<Two> = AttachPoint::new(ordered);
static FIRST: Fentry<Two> = Fentry::<Two>::new(first);
static SECOND: Fentry<Two> = Fentry::<Two>::new(second);
// SAFETY: 1. Its callers take any number. 2. They rely on nothing else.
static THIRD: ModifyReturn<Two> = unsafe { ModifyReturn::<Two>::new(third) };
// SAFETY: 1. Its callers take any number. 2. They rely on nothing else.
static FOURTH: ModifyReturn<Two> = unsafe { ModifyReturn::<Two>::new(fourth) };
static SIXTH: Fexit<Two> = Fexit::<Two>::new(sixth);
static SEVENTH: Fexit<Two> = Fexit::<Two>::new(seventh);

/// Calls it with an argument; returns what was called, and checks the result.
fn call(function: Two, a: u64, result: i32) -> u64 {
    RESULT.store(result as u64, Ordering::Relaxed);
    assert_eq!(black_box(function)(a, a as u32 + 1), result);
    called()
}

fn ok<T>(done: Result<T, AttachError>) -> T {
    done.unwrap_or_else(|error| panic!("{error}"))
}

fn handlers_are_called_in_their_order() {
    let (engine, _) = engine();
    let (bytes, text) = (engine.statistics().stub_bytes, support::memory::copy_of_text());
    assert_eq!(call(ordered, 20, 41), 5);
    ok(ORDERED.attach(engine, &SIXTH));
    assert_eq!(call(ordered, 20, 41), 56);
    ok(ORDERED.attach(engine, &FIRST));
    ok(ORDERED.attach(engine, &FOURTH));
    ok(ORDERED.attach(engine, &SECOND));
    ok(ORDERED.attach(engine, &SEVENTH));
    assert_eq!(call(ordered, 20, 41), 124_567);
    ok(ORDERED.replace(engine, &FOURTH, &THIRD));
    assert_eq!(call(ordered, 20, 41), 123_567);
    // Of another kind, at its place among those.
    ok(ORDERED.detach(engine, &SECOND));
    ok(ORDERED.attach(engine, &SECOND));
    ok(ORDERED.replace(engine, &FIRST, &FOURTH));
    assert_eq!(call(ordered, 20, 41), 243_567);
    for attachment in [&SIXTH, &SEVENTH] {
        ok(ORDERED.detach(engine, attachment));
    }
    assert_eq!(call(ordered, 20, 41), 2435);
    ok(ORDERED.detach(engine, &THIRD));
    ok(ORDERED.detach(engine, &FOURTH));
    assert_eq!(call(ordered, 20, 41), 25);
    ok(ORDERED.detach(engine, &SECOND));
    assert_eq!(call(ordered, 20, 41), 5);
    assert_eq!(ok(ORDERED.reclaim(engine)), 0);
    assert_eq!(engine.statistics().stub_bytes, bytes, "all trampolines are freed");
    assert!(support::memory::copy_of_text() == text, "text is not what it was");
}

fn an_answer_is_returned_instead_of_the_functions() {
    let (engine, _) = engine();
    ok(ORDERED.attach(engine, &THIRD));
    assert_eq!(call(ordered, 3, -3), 3);
    ok(ORDERED.attach(engine, &FOURTH));
    ok(ORDERED.attach(engine, &FIRST));
    assert_eq!([call(ordered, 3, -3), call(ordered, 4, -4), call(ordered, 8, 17)], [13, 134, 1345]);
    ok(ORDERED.attach(engine, &SIXTH));
    assert_eq!([call(ordered, 3, -3), call(ordered, 4, -4), call(ordered, 8, 17)], [136, 1346, 13_456]);
    ok(ORDERED.detach(engine, &FIRST));
    ok(ORDERED.detach(engine, &THIRD));
    ok(ORDERED.detach(engine, &FOURTH));
    ok(ORDERED.detach(engine, &SIXTH));
}

#[inline(never)]
extern "C" fn recursive(depth: u64) -> u64 {
    note(1);
    black_box(depth)
}

/// Each calls the function that it is attached to.
extern "C" fn enters(depth: u64) {
    note(2);
    assert_eq!(black_box(recursive as extern "C" fn(u64) -> u64)(depth + 1), depth + 1);
}

extern "C" fn leaves(depth: u64, result: &u64) {
    note(3);
    assert_eq!(black_box(recursive as extern "C" fn(u64) -> u64)(depth + 1), *result + 1);
}

fn a_handler_is_not_called_inside_a_handler() {
    type One = extern "C" fn(u64) -> u64;
    static POINT: AttachPoint<One> = AttachPoint::new(recursive);
    static ENTERS: Fentry<One> = Fentry::<One>::new(enters);
    static LEAVES: Fexit<One> = Fexit::<One>::new(leaves);
    let (engine, _) = engine();
    let function = black_box(recursive as One);
    ok(POINT.attach(engine, &ENTERS));
    assert_eq!((function(5), called(), POINT.misses()), (5, 211, 1));
    ok(POINT.attach(engine, &LEAVES));
    assert_eq!((function(5), called(), POINT.misses()), (5, 21_131, 3));
    ok(POINT.detach(engine, &ENTERS));
    // At the exit alone the function inside has a trampoline around it, which calls nothing.
    assert_eq!((function(5), called(), POINT.misses()), (5, 131, 4));
    ok(POINT.detach(engine, &LEAVES));
    assert_eq!((function(5), called(), POINT.misses()), (5, 1, 4));
    assert_eq!(ok(POINT.reclaim(engine)), 0);
}

fn at(function: Two) -> TextAddr {
    TextAddr::new((function as *const ()).addr() as u64)
}

extern "C" fn by_ops(ip: TextAddr, parent_ip: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    assert!(at(ordered) < ip && ip < at(ordered).offset(16));
    let symbols = engine().0.symbols().expect("this kernel has symbols");
    let caller = symbols.lookup_addr(parent_ip.get()).expect("in a function");
    assert!(format!("{caller}").contains("attach"), "{caller}");
    assert_eq!(regs.argument(0).map(|a| a as u32 + 1), regs.argument(1).map(|b| b as u32));
    note(8);
}

fn ops_are_called_before_and_see_no_attachment() {
    static OPS: [Ops; 2] = [const { Ops::new(by_ops) }; 2];
    static COUNTER: Ops = Ops::counter();
    let (engine, _) = engine();
    let rules = [Rule::address(at(ordered))];
    let filter = Filter::new(&rules);
    ok(ORDERED.attach(engine, &FIRST));
    ok(ORDERED.attach(engine, &SIXTH));
    let all: [&'static Ops; 3] = [&OPS[0], &COUNTER, &OPS[1]];
    for (ops, expected) in all.into_iter().zip([8156, 8156, 88_156]) {
        assert_eq!(engine.register(ops, &filter), Ok(1));
        assert_eq!(call(ordered, 20, 41), expected);
    }
    // Whichever goes first.
    ok(ORDERED.replace(engine, &FIRST, &SECOND));
    assert_eq!(call(ordered, 20, 41), 88_256);
    assert_eq!(engine.unregister(&OPS[0]), Ok(1));
    ok(ORDERED.detach(engine, &SIXTH));
    assert_eq!(call(ordered, 20, 41), 825);
    ok(ORDERED.detach(engine, &SECOND));
    assert_eq!(call(ordered, 20, 41), 85);
    assert_eq!((engine.unregister(&OPS[1]), engine.unregister(&COUNTER)), (Ok(1), Ok(1)));
    assert_eq!((call(ordered, 20, 41), engine.hits(&COUNTER)), (5, 5));
}

/// The smallest there is.
#[unsafe(naked)]
unsafe extern "C" fn straight_on() {
    core::arch::naked_asm!("hint #34", "mov x10, x30", "mov x30, x9", "ret x10")
}

fn what_can_not_be_attached_is_refused_with_its_reason() {
    static DIRECT: Ops = {
        // SAFETY: it keeps to the convention.
        let trampoline = unsafe { Trampoline::new(straight_on) };
        Ops::direct_call(trampoline)
    };
    static NOT_PATCHABLE: AttachPoint<Nothing> = {
        // SAFETY: nothing comes to be attached to it.
        unsafe { AttachPoint::at(TextAddr::new(0x1000)) }
    };
    static NOTHING: Fentry<Nothing> = Fentry::<Nothing>::new(nothing);
    static MANY: [Fentry<Two>; 17] = [const { Fentry::<Two>::new(first) }; 17];
    type Nothing = extern "C" fn();
    extern "C" fn nothing() {}
    let (engine, _) = engine();
    let error = NOT_PATCHABLE.attach(engine, &NOTHING);
    assert_eq!(error, Err(AttachError::NoCallsite { function: TextAddr::new(0x1000) }));
    assert_eq!(ORDERED.detach(engine, &FIRST), Err(AttachError::NotAttached));
    let rules = [Rule::address(at(ordered))];
    assert_eq!(engine.register(&DIRECT, &Filter::new(&rules)), Ok(1));
    let conflict = ORDERED.attach(engine, &FIRST);
    assert!(matches!(conflict, Err(AttachError::Register(RegisterError::Conflict { .. }))), "{conflict:?}");
    assert_eq!(engine.unregister(&DIRECT), Ok(1));
    assert_eq!(call(ordered, 20, 41), 5);
    for attachment in &MANY[..16] {
        ok(ORDERED.attach(engine, attachment));
    }
    assert_eq!(ORDERED.attach(engine, &MANY[16]), Err(AttachError::TooManyHandlers));
    assert_eq!(ORDERED.attach(engine, &MANY[3]), Err(AttachError::AlreadyAttached));
    assert_eq!(call(ordered, 20, 41), 11_111_111_111_111_115);
    for attachment in &MANY[..16] {
        ok(ORDERED.detach(engine, attachment));
    }
    assert_eq!(call(ordered, 20, 41), 5);
}
