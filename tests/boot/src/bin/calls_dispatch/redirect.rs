//! Ops that change where a function goes on: one a function, with others beside it.

use crate::targets::{self, address, answer, call, register, set_filter};
use crate::told::{note, told_by};
use fentry::engine::RegisterError;
use fentry::{FtraceRegs, Ops, OpsFlags, TextAddr, direct_trampoline};
use support::engine;

/// Where a function goes on that is redirected.
#[inline(never)]
extern "C" fn elsewhere(x: u64, _: u64) -> u64 {
    core::hint::black_box(x) + 10_000
}

extern "C" fn redirect(ip: TextAddr, parent_ip: TextAddr, ops: &'static Ops, mut regs: FtraceRegs<'_>) {
    note(ip, parent_ip, ops, regs.reborrow());
    // SAFETY: the ops has IPMODIFY, and the function the same signature.
    unsafe { regs.set_pc(TextAddr::new((elsewhere as *const ()).addr() as u64)) };
}

extern "C" fn answer_for(ip: TextAddr, parent_ip: TextAddr, ops: &'static Ops, mut regs: FtraceRegs<'_>) {
    note(ip, parent_ip, ops, regs.reborrow());
    // SAFETY: the ops has IPMODIFY, and the function returns a number.
    unsafe { regs.return_early(77) };
}

extern "C" fn nothing(_: FtraceRegs<'_>) {}

static REDIRECT: Ops = Ops::new(redirect).with_data(1).with_flags(OpsFlags::IPMODIFY);
static REDIRECT_FULL: Ops = Ops::new(redirect).with_data(1).with_flags(OpsFlags::IPMODIFY.union(OpsFlags::SAVE_REGS));
static ANSWER: Ops = Ops::new(answer_for).with_data(1).with_flags(OpsFlags::IPMODIFY);
static ANSWER_FULL: Ops = Ops::new(answer_for).with_data(1).with_flags(OpsFlags::IPMODIFY.union(OpsFlags::SAVE_REGS));
static DIRECT: Ops = Ops::direct_call(direct_trampoline!(nothing));
static OTHER_DIRECT: Ops = Ops::direct_call(direct_trampoline!(nothing));
static BEFORE: Ops = Ops::new(note).with_data(2);
static AFTER: Ops = Ops::new(note).with_data(3);
static FULL: Ops = Ops::new(note).with_data(4).with_flags(OpsFlags::SAVE_REGS);

pub(crate) fn two_that_change_where_a_function_goes_on_exclude_each_other() {
    let (engine, _) = engine();
    let pairs = [
        [&REDIRECT, &ANSWER],
        [&ANSWER_FULL, &REDIRECT],
        [&DIRECT, &REDIRECT],
        [&ANSWER, &DIRECT],
        [&DIRECT, &OTHER_DIRECT],
    ];
    for [first, second] in pairs {
        assert_eq!(register(engine, first, &[0, 1]), Ok(2));
        // Whatever else it selects, and whoever is there besides.
        assert_eq!(register(engine, &BEFORE, &[1, 2]), Ok(2));
        let enabled = targets::enabled(engine);
        match register(engine, second, &[3, 2, 1]) {
            Err(RegisterError::Conflict { function, name }) => {
                assert_eq!(function, address(1));
                assert!(name.is_some_and(|name| name.contains("target")), "{name:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(targets::enabled(engine), enabled, "nothing has changed");
        assert_eq!(call(3, 5, 0), answer(3, 5));
        // Elsewhere it may be.
        assert_eq!(register(engine, second, &[2, 3]), Ok(2));
        for ops in [first, second, &BEFORE] {
            assert_eq!(engine.unregister(ops), Ok(2));
        }
    }
    assert_eq!(targets::enabled(engine), 0);
}

pub(crate) fn a_refused_filter_leaves_the_old_one() {
    let (engine, _) = engine();
    assert_eq!(register(engine, &REDIRECT, &[0]), Ok(1));
    assert_eq!(register(engine, &ANSWER, &[1, 2]), Ok(2));
    assert!(matches!(set_filter(engine, &ANSWER, &[3, 0]), Err(RegisterError::Conflict { .. })));
    assert_eq!([0, 1, 2, 3].map(|n| call(n, 5, 0)), [10_005, 77, 77, answer(3, 5)]);
    assert_eq!(set_filter(engine, &ANSWER, &[3]), Ok(1));
    assert_eq!([0, 1, 2, 3].map(|n| call(n, 5, 0)), [10_005, answer(1, 5), answer(2, 5), 77]);
    assert_eq!(engine.unregister(&REDIRECT), Ok(1));
    assert_eq!(set_filter(engine, &ANSWER, &[3, 0]), Ok(2));
    assert_eq!([0, 3].map(|n| call(n, 5, 0)), [77, 77]);
    assert_eq!(engine.unregister(&ANSWER), Ok(2));
}

/// The target calls `changes` in every company; each is told in its order, and the answer is `expected`.
fn in_every_company(changes: [&'static Ops; 2], expected: u64) {
    let (engine, _) = engine();
    for changes in changes {
        let companies: [(&[&'static Ops], &[u64]); 5] = [
            (&[changes], &[1]),
            (&[&BEFORE, changes], &[2, 1]),
            (&[changes, &AFTER], &[1, 3]),
            (&[&BEFORE, changes, &AFTER], &[2, 1, 3]),
            (&[&FULL, changes, &AFTER], &[4, 1, 3]),
        ];
        for (together, order) in companies {
            for ops in together {
                assert_eq!(register(engine, ops, &[0]), Ok(1));
            }
            let told = told_by(|| assert_eq!(call(0, 5, 0), expected));
            assert_eq!(told, order);
            for ops in together {
                assert_eq!(engine.unregister(ops), Ok(1));
            }
            assert_eq!(call(0, 5, 0), answer(0, 5));
        }
    }
}

pub(crate) fn a_function_is_redirected_with_other_ops_beside() {
    in_every_company([&REDIRECT, &REDIRECT_FULL], 10_005);
}

pub(crate) fn a_function_is_answered_for_with_other_ops_beside() {
    in_every_company([&ANSWER, &ANSWER_FULL], 77);
}
