//! Ops structs: tables of functions that are checked, used by four CPUs, and replaced meanwhile.
#![no_std]
#![no_main]

extern crate alloc;

mod generated;

use alloc::format;
use alloc::string::String;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::Engine;
use fentry::trampoline::{Implementations, OpsError, OpsStruct, State};
use generated::{
    calls_are_recorded_with_the_member_and_its_caller, every_register_is_as_aapcs64_asks,
    generated_members_come_and_go_while_four_cpus_call, generated_members_do_what_their_bodies_say,
    the_caller_is_found_from_each_instruction,
};
use support::exceptions::{Syndrome, catch};
use support::platform::PLATFORM;
use support::{engine, println, smp};

support::boot_tests! {
    members_are_called_with_their_arguments,
    a_member_that_must_be_there_is_asked_for_by_name,
    what_callers_would_trap_at_is_refused_by_name,
    a_table_is_replaced_while_four_cpus_call_by_it,
    generated_members_do_what_their_bodies_say,
    calls_are_recorded_with_the_member_and_its_caller,
    every_register_is_as_aapcs64_asks,
    the_caller_is_found_from_each_instruction,
    generated_members_come_and_go_while_four_cpus_call,
}

/// What is handed on without registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Large([u64; 5]);

fentry::ops_struct! {
    /// How a queue decides, as congestion control does.
    pub struct PolicyOps => Policy {
        /// What goes next.
        fn pick(waiting: u64, last: u64) -> u64;
        /// As many arguments as go, the last ones by the stack.
        fn weigh(a: u64, b: u32, c: i16, d: u8, e: &u64, f: u64, g: u64, h: u64, i: u64, j: u32) -> u64;
        /// A result that is in memory.
        fn large(from: &Large, by: u64) -> Large;
        /// One was sent.
        [optional] fn sent(number: u32);
    }
}

static POLICY: Implementations<PolicyOps, 3> = Implementations::new();

extern "C" fn oldest(_waiting: u64, last: u64) -> u64 {
    last + 1
}

extern "C" fn newest(waiting: u64, last: u64) -> u64 {
    last + waiting
}

#[rustfmt::skip]
extern "C" fn weigh(a: u64, b: u32, c: i16, d: u8, e: &u64, f: u64, g: u64, h: u64, i: u64, j: u32) -> u64 {
    let all = [a, b.into(), c as u64, d.into(), *e, f, g, h, i, j.into()];
    all.into_iter().zip(1..).fold(0, |sum: u64, (number, weight)| sum.wrapping_add(number.wrapping_mul(weight)))
}

extern "C" fn large(from: &Large, by: u64) -> Large {
    Large(from.0.map(|number| number + by))
}

/// One that is never initialised.
static OTHER: Engine = Engine::new(&PLATFORM);

static SENT: AtomicU64 = AtomicU64::new(0);

extern "C" fn sent(number: u32) {
    SENT.fetch_add(number.into(), Ordering::Relaxed);
}

const FIFO: PolicyOps = PolicyOps { pick: Some(oldest), weigh: Some(weigh), large: Some(large), sent: None };
const LIFO: PolicyOps = PolicyOps { pick: Some(newest), sent: Some(sent), ..FIFO };

/// Puts a table in use, and waits until the one before has no users.
fn put(name: &'static str, table: &PolicyOps) {
    let prepared = loop {
        match POLICY.prepare(engine().0, name, table) {
            Ok(prepared) => break prepared,
            // Other CPUs may still have users of tables that were replaced before.
            Err(OpsError::NoPlace { .. }) => smp::pause(),
            Err(error) => panic!("{error}"),
        }
    };
    let mut old = prepared.put_in_use();
    while let Some(still) = old {
        old = still.try_free().err();
        smp::pause();
    }
}

fn members_are_called_with_their_arguments() {
    put("fifo", &FIFO);
    let policy = POLICY.user().expect("in use");
    assert_eq!((policy.name(), policy.pick(10, 3), policy.sent(1)), ("fifo", 4, None));
    let sum = policy.weigh(1, u32::MAX, -3, 0xff, &5, 6, 7, 8, u64::MAX, 0x8000_0000);
    assert_eq!(sum, weigh(1, u32::MAX, -3, 0xff, &5, 6, 7, 8, u64::MAX, 0x8000_0000));
    assert_eq!(policy.large(&Large([1, 2, 3, 4, 5]), 6), Large([7, 8, 9, 10, 11]));
    drop(policy);
    put("lifo", &LIFO);
    let policy = POLICY.user().expect("in use");
    assert_eq!((policy.name(), policy.pick(10, 3), policy.sent(5)), ("lifo", 13, Some(())));
    assert_eq!(SENT.load(Ordering::Relaxed), 5);
}

fn a_member_that_must_be_there_is_asked_for_by_name() {
    let table = PolicyOps { large: None, ..FIFO };
    let Err(error) = POLICY.prepare(engine().0, "none", &table) else { panic!("NULL was accepted") };
    assert_eq!(format!("{error}"), "PolicyOps.large is NULL, and not optional");
}

/// Whether an error is what was expected.
type Expected = fn(&OpsError) -> bool;

type Pick = extern "C" fn(u64, u64) -> u64;

extern "C" fn of_another_type(waiting: u64, last: u32) -> u64 {
    waiting + u64::from(last)
}

core::arch::global_asm!(
    ".pushsection .text.ops_struct_assembly, \"ax\"",
    ".balign 8",
    "ret", // what stands before it
    "nop",
    "nop",
    "ret",
    ".global ops_struct_assembly",
    ".type ops_struct_assembly, %function",
    "ops_struct_assembly:",
    "hint #34", // BTI C
    "add x0, x0, x1",
    "ret",
    ".size ops_struct_assembly, . - ops_struct_assembly",
    ".popsection",
);

/// The function at an address, as one of the member's type.
fn at(address: usize) -> Pick {
    // SAFETY: it takes two numbers and returns one, as far as its registers tell.
    unsafe { core::mem::transmute::<*const (), Pick>(core::ptr::with_exposed_provenance(address)) }
}

/// What a compiled indirect call of it does: what it traps with, if it does.
fn trap(function: Pick) -> Option<String> {
    let ended = catch(|| {
        black_box(black_box(function)(1, 2));
    });
    ended.err().map(|fault| format!("{}", Syndrome(fault.esr)))
}

/// Whether this kernel's calls are checked.
fn is_checked() -> bool {
    trap(at(of_another_type as *const () as usize)).is_some()
}

fn what_callers_would_trap_at_is_refused_by_name() {
    unsafe extern "C" {
        fn ops_struct_assembly();
    }
    let is_checked = is_checked();
    println!("(calls are {}checked)", if is_checked { "" } else { "not " });
    let pick = oldest as *const () as usize;
    // Into the function, behind its first word: the hash is there, and further away.
    let wrong: [(&str, usize, Expected); 3] = [
        ("another type's", of_another_type as *const () as usize, |error| matches!(error, OpsError::OtherType { .. })),
        ("none", ops_struct_assembly as *const () as usize, |error| matches!(error, OpsError::NoHash { .. })),
        ("further away", pick + 4, |error| match *error {
            OpsError::OtherDistance { expected, found, .. } => found == expected + 1,
            _ => false,
        }),
    ];
    for (what, address, is_expected) in wrong {
        let table = PolicyOps { pick: Some(at(address)), ..FIFO };
        match POLICY.prepare(engine().0, what, &table) {
            Ok(_) => assert!(!is_checked, "{what}: accepted"),
            Err(error) => {
                assert!(is_checked && is_expected(&error), "{what}: {error}");
                let text = format!("{error}");
                assert!(text.contains("PolicyOps.pick"), "{text}");
                // By force: the check is live, and this is what it would have said.
                let trap = trap(at(address)).unwrap_or_default();
                assert!(trap.contains("kCFI"), "{what}: {trap:?}");
            }
        }
    }
    // Nobody can tell yet what is checked.
    let before_init = POLICY.prepare(&OTHER, "before init", &FIFO).map(drop);
    assert!(matches!(before_init, Err(OpsError::NoCaller { ops: "PolicyOps", .. })), "{before_init:?}");
    // Where no text is, nothing is read.
    let outside = PolicyOps { pick: Some(at(0x10)), ..FIFO };
    let result = POLICY.prepare(engine().0, "outside", &outside).map(drop);
    assert_eq!(matches!(result, Err(OpsError::NotText { .. })), is_checked, "{result:?}");
    assert_eq!(PolicyOps::MEMBERS.len(), 4);
    assert!(trap(oldest).is_none());
}

fn a_table_is_replaced_while_four_cpus_call_by_it() {
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    const ROUNDS: u64 = 300;

    put("fifo", &FIFO);
    smp::start_all();
    let cpus = smp::online().count();
    smp::on_all(|cpu| {
        if cpu == 0 {
            let mut round = 0;
            // The others come when they come.
            while round < ROUNDS || CALLS.load(Ordering::Relaxed) < 10 * ROUNDS {
                if round % 2 == 0 {
                    put("lifo", &LIFO);
                } else {
                    put("fifo", &FIFO);
                }
                round += 1;
            }
            IS_OVER.store(true, Ordering::Relaxed);
        }
        while !IS_OVER.load(Ordering::Relaxed) {
            let policy = POLICY.user().expect("one is always in use");
            let name = policy.name();
            for last in 0..8 {
                let next = policy.pick(100, last);
                assert_eq!(next, if name == "fifo" { last + 1 } else { last + 100 }, "{name}");
            }
            CALLS.fetch_add(8, Ordering::Relaxed);
        }
    });
    assert_eq!(cpus, 4);
    let calls = CALLS.load(Ordering::Relaxed);
    println!("({calls} calls while the table was replaced {ROUNDS} times and more)");
    let mut states = [None; 3];
    let mut number = 0;
    POLICY.for_each(|state| {
        states[number] = Some(state);
        number += 1;
    });
    assert_eq!(states, [Some(State::InUse), None, None]);
}
