//! What callers see of rounds, on one host thread.

extern crate std;

mod concurrent;

use super::{CpuRounds, Cpus, NoSuchCpu};
use crate::address::{TextAddr, TextRange};
use crate::context::TraceContext;
use crate::platform::{CpuTimeout, HoldError, MAX_STUB_RANGES};
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, Ordering};
use std::string::ToString;
use std::vec::Vec;

fn range(start: u64, end: u64) -> TextRange {
    TextRange::new(TextAddr::new(start), TextAddr::new(end))
}

/// CPUs of which each interrupt calls `handler`, and whose clock goes on by one at each reading.
struct Few<F> {
    this: usize,
    now: Cell<u64>,
    timeout: u64,
    handler: RefCell<F>,
}

impl<F: FnMut()> Few<F> {
    fn new(this: usize, handler: F) -> Self {
        Self { this, now: Cell::new(u64::MAX - 5), timeout: 1000, handler: RefCell::new(handler) }
    }
}

impl<F: FnMut()> Cpus for Few<F> {
    fn this_cpu(&self) -> usize {
        self.this
    }
    fn interrupt_others(&self) {
        (self.handler.borrow_mut())();
    }
    fn ticks(&self) -> u64 {
        self.now.replace(self.now.get().wrapping_add(1))
    }
    fn timeout_ticks(&self) -> u64 {
        self.timeout
    }
}

fn rounds(online: &[usize]) -> CpuRounds<4> {
    let rounds = CpuRounds::new();
    online.iter().for_each(|cpu| rounds.go_online(*cpu).unwrap());
    rounds
}

#[test]
fn one_cpu_asks_nobody() {
    for online in [&[][..], &[1]] {
        let rounds = rounds(online);
        let cpus = Few::new(1, || panic!("nobody is there"));
        assert_eq!(rounds.synchronize(&cpus), Ok(()));
        assert_eq!(rounds.quiesce(&cpus, &[]), Ok(()));
    }
}

#[test]
fn what_is_done_while_cpus_are_held_is_done_once_or_not_at_all() {
    for online in [&[][..], &[1]] {
        let (rounds, acts) = (rounds(online), Cell::new(0));
        let cpus = Few::new(1, || panic!("nobody is there"));
        assert_eq!(rounds.hold(&cpus, &mut || acts.set(acts.get() + 1)), Ok(()));
        assert_eq!(acts.get(), 1);
    }
    let rounds = rounds(&[0, 1]);
    let deaf = Few::new(0, || {});
    let timeout = Err(HoldError::Timeout(CpuTimeout { cpu: 1 }));
    assert_eq!(rounds.hold(&deaf, &mut || panic!("CPU 1 runs")), timeout);
    // It is not held by what is over.
    rounds.answer(1);
    assert_eq!(rounds.hold(&deaf, &mut || panic!("CPU 1 runs")), timeout, "its late answer is to the hold before");
    let (held, acted) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (rounds, held, acted) = (&rounds, &held, &acted);
        scope.spawn(move || {
            while !acted.load(Ordering::Relaxed) {
                rounds.answer(1);
                assert!(!held.load(Ordering::Acquire), "it goes on while it is held");
                std::thread::yield_now();
            }
        });
        let mut patient = Few::new(0, || {});
        patient.timeout = u64::MAX / 2;
        rounds
            .hold(&patient, &mut || {
                held.store(true, Ordering::Relaxed);
                (0..100).for_each(|_| std::thread::yield_now());
                held.store(false, Ordering::Release);
            })
            .unwrap();
        acted.store(true, Ordering::Relaxed);
    });
}

#[test]
fn each_cpu_that_is_online_must_answer() {
    let rounds = rounds(&[0, 1, 3]);
    let answering = Few::new(0, || [1, 3].into_iter().for_each(|cpu| rounds.answer(cpu)));
    assert_eq!(rounds.synchronize(&answering), Ok(()));
    let arriving = Few::new(0, || {
        [1, 3].into_iter().for_each(|cpu| rounds.answer(cpu));
        rounds.go_online(2).unwrap();
    });
    assert_eq!(rounds.synchronize(&arriving), Ok(()), "it starts with the round's number, without an interrupt");
    assert_eq!(rounds.synchronize(&answering), Err(CpuTimeout { cpu: 2 }), "and then is asked as the others are");
    rounds.go_offline(2);
    let half = Few::new(0, || rounds.answer(1));
    assert_eq!(rounds.synchronize(&half), Err(CpuTimeout { cpu: 3 }));
    rounds.answer(3);
    assert_eq!(rounds.synchronize(&half), Err(CpuTimeout { cpu: 3 }), "its late answer is to the round before");
    let leaving = Few::new(0, || {
        rounds.answer(1);
        rounds.go_offline(3);
    });
    assert_eq!(rounds.synchronize(&leaving), Ok(()));
    assert!(rounds.is_online(1) && !rounds.is_online(3) && !rounds.is_online(4));
}

#[test]
fn a_cpu_is_looked_at_until_it_is_seen_outside() {
    let rounds = rounds(&[0, 1]);
    let context = TraceContext::new();
    let mut pcs = [0x100, 0x10c, 0x110].into_iter();
    let looks = Cell::new(0);
    let cpus = Few::new(0, || {
        looks.set(looks.get() + 1);
        rounds.look(1, &context, TextAddr::new(pcs.next().unwrap()));
    });
    assert_eq!(rounds.quiesce(&cpus, &[range(0x100, 0x110)]), Ok(()));
    assert_eq!(looks.get(), 3);
}

#[test]
fn inside_a_callback_no_cpu_is_quiescent_and_a_waiting_one_is() {
    let rounds = rounds(&[0, 1]);
    let context = TraceContext::new();
    let other = Few::new(1, || ());
    context.busy.store(1, Ordering::Relaxed);
    let cpus = Few::new(0, || {
        rounds.look(1, &context, TextAddr::new(0x1000));
        rounds.relax(&other, &context);
    });
    assert_eq!(rounds.quiesce(&cpus, &[]), Err(CpuTimeout { cpu: 1 }));
    context.busy.store(0, Ordering::Relaxed);
    let cpus = Few::new(0, || rounds.relax(&other, &context));
    assert_eq!(rounds.quiesce(&cpus, &[]), Ok(()));
}

#[test]
fn every_range_is_looked_at_also_where_there_are_too_many() {
    for count in [MAX_STUB_RANGES - 1, MAX_STUB_RANGES, MAX_STUB_RANGES + 5] {
        let stubs: Vec<_> = (1..=count as u64).map(|number| range(number * 0x100, number * 0x100 + 0x10)).collect();
        for stub in [0, count / 2, MAX_STUB_RANGES - 2, count - 1] {
            let rounds = rounds(&[0, 1]);
            let context = TraceContext::new();
            let cpus = Few::new(0, || rounds.look(1, &context, stubs[stub].start));
            assert_eq!(rounds.quiesce(&cpus, &stubs), Err(CpuTimeout { cpu: 1 }), "{stub} of {count}");
            // What was not seen is seen when it goes on, and the next round is about fewer.
            let cpus = Few::new(0, || rounds.look(1, &context, TextAddr::new(0x80)));
            assert_eq!(rounds.quiesce(&cpus, &stubs[..1]), Ok(()));
        }
    }
}

#[test]
fn a_round_in_a_round_waits_for_its_end() {
    let rounds = rounds(&[0, 1]);
    let context = TraceContext::new();
    let other = Few::new(1, || ());
    let cpus = Few::new(0, || {
        assert_eq!(rounds.synchronize(&Few::new(1, || rounds.answer(0))), Ok(()), "beside a round of quiescence");
        assert_eq!(rounds.quiesce(&other, &[]), Err(CpuTimeout { cpu: 1 }), "the other one is under way");
        rounds.look(1, &context, TextAddr::new(0));
    });
    assert_eq!(rounds.quiesce(&cpus, &[]), Ok(()), "who waits for a round is quiescent");
}

#[test]
fn a_cpu_without_a_place_is_refused() {
    let rounds = rounds(&[]);
    let error = rounds.go_online(4).unwrap_err();
    assert_eq!(error, NoSuchCpu { cpu: 4, cpus: 4 });
    assert_eq!(error.to_string(), "The CPU 4 can't come online: there are rounds for 4 CPUs, numbered from 0");
    rounds.answer(4);
    rounds.look(4, &TraceContext::new(), TextAddr::new(0));
    rounds.go_offline(4);
}
