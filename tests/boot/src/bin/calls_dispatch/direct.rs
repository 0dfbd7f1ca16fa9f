//! Direct trampolines, alone and beside ops.

use crate::targets::{self, address, answer, call, register};
use crate::told::{note, push, told_by};
use core::arch::naked_asm;
use fentry::engine::RegisterError;
use fentry::ops::direct::Trampoline;
use fentry::{FtraceRegs, Ops, OpsFlags, direct_trampoline};
use support::engine;

/// The smallest one that does something: the function's first argument is 1000 more.
#[unsafe(naked)]
unsafe extern "C" fn adds_1000() {
    naked_asm!("hint #34", "add x0, x0, #1000", "mov x10, x30", "mov x30, x9", "ret x10")
}

/// Answers for the function.
#[unsafe(naked)]
unsafe extern "C" fn answers_55() {
    naked_asm!("hint #34", "mov x0, #55", "mov x30, x9", "ret x9")
}

extern "C" fn notes(mut regs: FtraceRegs<'_>) {
    push(9);
    // Behind the callsite: BTI C, MOV, BL at most.
    assert!(regs.pc() > address(0) && regs.pc() <= address(0).offset(12));
    let x = regs.argument(0).unwrap_or_default();
    // SAFETY: the target is right with any number.
    unsafe { regs.set_argument(0, x + 1) };
}

extern "C" fn answers_66(mut regs: FtraceRegs<'_>) {
    push(9);
    // SAFETY: the target returns a number. A direct trampoline may do what an ops with IPMODIFY may.
    unsafe { regs.return_early(66) };
}

static ADDS: Ops = {
    // SAFETY: it keeps to the convention.
    let trampoline = unsafe { Trampoline::new(adds_1000) };
    Ops::direct_call(trampoline)
};
static ANSWERS: Ops = {
    // SAFETY: it keeps to the convention.
    let trampoline = unsafe { Trampoline::new(answers_55) };
    Ops::direct_call(trampoline)
};
static NOTES: Ops = Ops::direct_call(direct_trampoline!(notes));
static ANSWERS_IN_RUST: Ops = Ops::direct_call(direct_trampoline!(answers_66));
static FIRST: Ops = Ops::new(note).with_data(1);
static SECOND: Ops = Ops::new(note).with_data(2);
static FULL: Ops = Ops::new(note).with_data(3).with_flags(OpsFlags::SAVE_REGS);
static SAFE: Ops = Ops::new(note).with_data(4).with_flags(OpsFlags::RECURSION_SAFE);

/// Registers these for target 0 while it is called; who was told, and the answer.
fn called_with(together: &[&'static Ops], x: u64) -> (alloc::vec::Vec<u64>, u64) {
    let (engine, _) = engine();
    for ops in together {
        assert_eq!(register(engine, ops, &[0]), Ok(1));
    }
    assert_eq!(targets::enabled(engine), 1);
    let mut found = 0;
    let told = told_by(|| found = call(0, x, 0));
    for ops in together.iter().rev() {
        assert_eq!(engine.unregister(ops), Ok(1));
    }
    assert_eq!(call(0, x, 0), answer(0, x));
    (told, found)
}

pub(crate) fn a_direct_trampoline_is_called_by_the_callsite_itself() {
    assert_eq!(called_with(&[&ADDS], 5), (alloc::vec![], 1005));
    assert_eq!(called_with(&[&NOTES], 5), (alloc::vec![9], 6));
    // The kernel's text is near, so there is no stub between.
    let (engine, _) = engine();
    assert_eq!(register(engine, &ADDS, &[0]), Ok(1));
    let mut calls = alloc::vec::Vec::new();
    engine.for_each_callsite(|status| {
        if let Ok(fentry::callsite::State::Enabled(target)) = status.state {
            calls.push(target.get());
        }
    });
    assert_eq!(calls, [(adds_1000 as *const ()).addr() as u64]);
    assert_eq!(engine.unregister(&ADDS), Ok(1));
}

pub(crate) fn a_direct_trampoline_is_called_after_the_callbacks() {
    for direct in [&NOTES, &ADDS] {
        let (last, more): (&[u64], u64) = if core::ptr::eq(direct, &raw const NOTES) { (&[9], 1) } else { (&[], 1000) };
        let with = |told: &[u64]| ([told, last].concat(), 5 + more);
        assert_eq!(called_with(&[direct, &FIRST], 5), with(&[1]));
        assert_eq!(called_with(&[&FIRST, direct], 5), with(&[1]));
        assert_eq!(called_with(&[&FIRST, direct, &SECOND], 5), with(&[1, 2]));
        assert_eq!(called_with(&[&FULL, direct], 5), with(&[3]));
        assert_eq!(called_with(&[direct, &SAFE], 5), with(&[4]));
        assert_eq!(called_with(&[direct, &SAFE, &FULL, &FIRST], 5), with(&[4, 3, 1]));
    }
}

pub(crate) fn a_direct_trampoline_may_answer_for_the_function() {
    assert_eq!(called_with(&[&ANSWERS], 5), (alloc::vec![], 55));
    assert_eq!(called_with(&[&ANSWERS_IN_RUST], 5), (alloc::vec![9], 66));
    assert_eq!(called_with(&[&FIRST, &ANSWERS], 5), (alloc::vec![1], 55));
    assert_eq!(called_with(&[&FULL, &ANSWERS_IN_RUST, &FIRST], 5), (alloc::vec![3, 1, 9], 66));
}

pub(crate) fn only_an_ops_for_a_trampoline_takes_another() {
    let (engine, _) = engine();
    // SAFETY: it keeps to the convention.
    let adds = unsafe { Trampoline::new(adds_1000) }.address();
    // SAFETY: as above.
    assert_eq!(unsafe { engine.modify_direct(&NOTES, adds) }, Err(RegisterError::NotRegistered));
    assert_eq!(register(engine, &FIRST, &[0]), Ok(1));
    // SAFETY: as above.
    assert_eq!(unsafe { engine.modify_direct(&FIRST, adds) }, Err(RegisterError::NotDirect));
    assert_eq!(register(engine, &NOTES, &[0, 1]), Ok(2));
    // SAFETY: as above.
    assert_eq!(unsafe { engine.modify_direct(&NOTES, adds) }, Ok(()));
    assert_eq!([call(0, 5, 0), call(1, 5, 0), call(2, 5, 0)], [1005, answer(1, 1005), answer(2, 5)]);
    // Another filter keeps the trampoline; another registration begins with the first.
    assert_eq!(targets::set_filter(engine, &NOTES, &[0, 2]), Ok(2));
    assert_eq!([call(0, 5, 0), call(1, 5, 0), call(2, 5, 0)], [1005, answer(1, 5), answer(2, 1005)]);
    assert_eq!(engine.unregister(&NOTES), Ok(2));
    assert_eq!(register(engine, &NOTES, &[0]), Ok(1));
    assert_eq!(told_by(|| assert_eq!(call(0, 5, 0), 6)), [1, 9]);
    assert_eq!(engine.unregister(&NOTES), Ok(1));
    assert_eq!(engine.unregister(&FIRST), Ok(1));
    assert_eq!(targets::enabled(engine), 0);
}
