//! Tables that come, are used, and go, on a host: whose callers check nothing.

use crate::Engine;
use crate::fakes::{COMPILED, FakeText};
use crate::trampoline::{Implementations, OpsError, State};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::string::ToString;
use std::vec;
use std::vec::Vec;
extern crate std;

crate::ops_struct! {
    /// How a queue decides.
    struct PolicyOps => Policy {
        /// What goes next.
        fn pick(waiting: u64, last: &u64) -> u64;
        /// One was sent.
        [optional] fn sent(number: u64);
    }
}

extern "C" fn oldest(_waiting: u64, last: &u64) -> u64 {
    last + 1
}

extern "C" fn newest(waiting: u64, last: &u64) -> u64 {
    last + waiting
}

static SENT: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(number: u64) {
    SENT.fetch_add(number, Ordering::Relaxed);
}

const FIFO: PolicyOps = PolicyOps { pick: Some(oldest), sent: None };
const LIFO: PolicyOps = PolicyOps { pick: Some(newest), sent: Some(count) };

fn engine() -> Engine {
    let mut text = FakeText::new(0xffff_8000_8000_0000);
    text.function("a", COMPILED);
    let kernel = text.build();
    Engine::with_machine(kernel, kernel)
}

fn states<const PLACES: usize>(of: &Implementations<PolicyOps, PLACES>) -> Vec<State> {
    let mut states = vec![];
    of.for_each(|state| states.push(state));
    states
}

#[test]
fn a_table_is_used_until_the_last_user_has_gone() {
    let (policy, engine) = (Implementations::<PolicyOps, 2>::new(), engine());
    assert!(policy.user().is_none() && policy.take_out().is_none());
    let prepared = policy.prepare(&engine, "fifo", &FIFO).unwrap();
    assert_eq!((states(&policy), prepared.name()), (vec![State::Prepared], "fifo"));
    assert!(policy.user().is_none());
    assert!(prepared.put_in_use().is_none());
    let first = policy.user().unwrap();
    assert_eq!((first.name(), first.pick(7, &3), first.sent(1)), ("fifo", 4, None));

    let old = policy.prepare(&engine, "lifo", &LIFO).unwrap().put_in_use().unwrap();
    let second = policy.user().unwrap();
    assert_eq!((second.name(), second.pick(7, &3), second.sent(5)), ("lifo", 10, Some(())));
    assert_eq!((first.pick(7, &3), SENT.load(Ordering::Relaxed)), (4, 5));
    let third = first.clone();
    assert_eq!((old.name(), old.users()), ("fifo", 2));
    assert_eq!(states(&policy), [State::BeingFreed { users: 2 }, State::InUse]);
    drop(first);
    let old = old.try_free().unwrap_err();
    assert_eq!(third.pick(7, &3), 4);
    drop(third);
    assert!(old.try_free().is_ok());
    assert_eq!(states(&policy), [State::InUse]);
}

#[test]
fn a_place_is_used_again_when_it_is_free() {
    let (policy, engine) = (Implementations::<PolicyOps, 2>::new(), engine());
    let full = OpsError::NoPlace { ops: "PolicyOps", places: 2 };
    policy.prepare(&engine, "fifo", &FIFO).unwrap().put_in_use();
    let user = policy.user().unwrap();
    drop(policy.prepare(&engine, "lifo", &LIFO).unwrap());
    drop(policy.prepare(&engine, "lifo", &LIFO).unwrap().put_in_use());
    assert_eq!(policy.prepare(&engine, "third", &FIFO).unwrap_err(), full);
    assert_eq!(policy.reclaim(), 1);
    drop(user);
    let third = policy.prepare(&engine, "third", &FIFO).unwrap();
    assert_eq!(states(&policy), [State::Prepared, State::InUse]);
    assert_eq!(third.put_in_use().unwrap().name(), "lifo");
    let last = policy.take_out().unwrap();
    assert_eq!((last.name(), last.users(), policy.user().is_none()), ("third", 0, true));
}

#[test]
fn a_member_that_must_be_there_is_asked_for_by_name() {
    let (policy, engine) = (Implementations::<PolicyOps>::new(), engine());
    let error = policy.prepare(&engine, "none", &PolicyOps { pick: None, ..LIFO }).unwrap_err();
    assert_eq!(error.to_string(), "PolicyOps.pick is NULL, and not optional");
    assert!(states(&policy).is_empty());
}

#[test]
fn each_user_has_one_table_while_they_are_replaced() {
    let (policy, engine) = (Implementations::<PolicyOps, 3>::new(), engine());
    policy.prepare(&engine, "fifo", &FIFO).unwrap().put_in_use();
    let (is_over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let user = policy.user().unwrap();
                    let (name, next) = (user.name(), user.pick(7, &3));
                    assert!(matches!((name, next), ("fifo", 4) | ("lifo", 10)), "{name}: {next}");
                    drop(user.clone());
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (rounds, wanted) = if cfg!(miri) { (20, 5) } else { (5_000, 1_000) };
        let mut round = 0;
        while round < rounds || calls.load(Ordering::Relaxed) < wanted {
            round += 1;
            let (name, table) = if round % 2 == 0 { ("lifo", LIFO) } else { ("fifo", FIFO) };
            let Ok(prepared) = policy.prepare(&engine, name, &table) else {
                std::thread::yield_now();
                continue;
            };
            let mut old = prepared.put_in_use();
            while let Some(Err(still)) = old.map(|old| old.try_free()) {
                old = Some(still);
                std::thread::yield_now();
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(states(&policy), [State::InUse]);
}
