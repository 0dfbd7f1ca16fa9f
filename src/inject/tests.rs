//! Injections against a naive model, and in an engine on a simulated machine.

use super::ahead::{self, Ahead};
use super::parameters::Parameters;
use super::{FailurePoints, fail_nth};
use crate::context::TraceContext;
use crate::ops::{NEVER_DUE, Ops};
use core::sync::atomic::{AtomicU64, Ordering};
extern crate std;
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
            if self.count % self.interval != 0 {
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
                && parameters.take_time();
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
    extern "C" fn nothing(_: crate::TextAddr, _: crate::TextAddr, _: &'static Ops, _: crate::FtraceRegs<'_>) {}
    assert_eq!(Ops::injecting(nothing).due().load(Ordering::Relaxed), NEVER_DUE);
}
