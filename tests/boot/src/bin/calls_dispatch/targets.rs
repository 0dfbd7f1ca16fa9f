//! The functions that are called, and what each must answer.

use alloc::vec::Vec;
use core::hint::black_box;
use fentry::engine::RegisterError;
use fentry::{Engine, Filter, Ops, Rule, TextAddr};

/// How many there are.
pub(crate) const COUNT: usize = 8;

/// One of them. The second argument is the caller's own, for callbacks.
pub(crate) type Target = extern "C" fn(u64, u64) -> u64;

#[inline(never)]
extern "C" fn target<const N: u64>(x: u64, _: u64) -> u64 {
    black_box(x) + 100 * N
}

pub(crate) static TARGETS: [Target; COUNT] =
    [target::<0>, target::<1>, target::<2>, target::<3>, target::<4>, target::<5>, target::<6>, target::<7>];

/// What a target answers.
pub(crate) const fn answer(n: usize, x: u64) -> u64 {
    x + 100 * n as u64
}

/// Where it is.
pub(crate) fn address(n: usize) -> TextAddr {
    TextAddr::new((TARGETS[n] as *const ()).addr() as u64)
}

/// Calls it.
#[inline(never)]
pub(crate) fn call(n: usize, x: u64, y: u64) -> u64 {
    black_box(TARGETS[n])(x, y)
}

fn rules(chosen: &[usize]) -> Vec<Rule<'static>> {
    chosen.iter().map(|n| Rule::address(address(*n))).collect()
}

/// Registers an ops for these.
pub(crate) fn register(engine: &Engine, ops: &'static Ops, chosen: &[usize]) -> Result<usize, RegisterError> {
    engine.register(ops, &Filter::new(&rules(chosen)))
}

/// Sets the filter of an ops to these.
pub(crate) fn set_filter(engine: &Engine, ops: &'static Ops, chosen: &[usize]) -> Result<usize, RegisterError> {
    engine.set_filter(ops, &Filter::new(&rules(chosen)))
}

/// The number of callsites whose text is a call; asserts that text is what the engine believes.
pub(crate) fn enabled(engine: &Engine) -> usize {
    let check = engine.check_text();
    assert_eq!(check.wrong, 0);
    check.enabled
}
