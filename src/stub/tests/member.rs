//! Generated members of ops structs: what each instruction may do, and what an unwinder makes of it.

use super::framed::{FAR, at};
use super::{CPU, assert_text, env, place};
use crate::address::TextAddr;
use crate::insn::{Cond, Flow, Insn, MemoryUse, Place, Reg, RegOrSp, Signature};
use crate::record::times::CallTimes;
use crate::stub::{BTI_JC, MemberCondition, MemberEnd, MemberHeader, MemberPlan};
use core::fmt::Write;
use core::sync::atomic::AtomicU64;
use std::string::String;
use std::vec::Vec;
extern crate std;

static CALLS: AtomicU64 = AtomicU64::new(0);
static TIMES: CallTimes = CallTimes::new();
const HASH: u32 = 0xd788_111f;
const ROOM: u64 = 0xffff_8000_8000_0100;

fn header(words_between: u32) -> MemberHeader {
    MemberHeader { number: 5, hash: Some(HASH), words_between }
}

fn forward() -> MemberPlan {
    let other = Some(at(0x8000));
    MemberPlan { header: header(0), condition: None, count: None, record: None, end: MemberEnd::Forward, other }
}

const CONDITION: MemberCondition = MemberCondition { register: 2, bits: 16, cond: Cond::Lo, value: 0x1_0007 };

/// All of it, header and literals.
fn words(plan: &MemberPlan, atomics: bool) -> Vec<u32> {
    let mut code = place();
    plan.code(&mut code, TextAddr::new(ROOM), &env(atomics)).unwrap();
    assert!(code.fits(plan.bytes() / 4), "{} words", code.words().len());
    code.words().to_vec()
}

/// From the entry on.
fn body(plan: &MemberPlan, atomics: bool) -> Vec<u32> {
    let start = (plan.entry(TextAddr::new(ROOM)).get() - ROOM) / 4;
    words(plan, atomics)[start as usize..].to_vec()
}

fn text(plan: &MemberPlan, atomics: bool, instructions: usize) -> String {
    let mut text = String::new();
    body(plan, atomics)[..instructions].iter().for_each(|word| writeln!(text, "{}", Insn::decode(*word)).unwrap());
    text
}

#[test]
fn callers_find_the_hash_where_they_look_and_the_entry_is_aligned() {
    const NOP: u32 = 0xd503_201f;
    for words_between in [0, 1, 2, 3, 7, 63] {
        let plan = MemberPlan { header: header(words_between), ..forward() };
        let entry = plan.entry(TextAddr::new(ROOM));
        let (words, index) = (words(&plan, false), ((entry.get() - ROOM) / 4) as usize);
        assert!(entry.get().is_multiple_of(16));
        assert_eq!(words[index], BTI_JC);
        assert_eq!(words[index - 1 - words_between as usize], HASH);
        assert!(words[index - words_between as usize..index].iter().all(|word| *word == NOP));
        assert_eq!((words[0], MemberHeader::number_of(words[0])), (5, Some(5)));
        assert_eq!(MemberHeader::bytes(words_between), 4 * index as u64);
    }
}

#[test]
fn a_member_that_goes_on_is_a_jump() {
    assert_text(&text(&forward(), false, 2), "bti jc\nb #32492");
    let far = MemberPlan { other: Some(TextAddr::new(FAR)), ..forward() };
    let jump = text(&far, false, body(&far, false).len());
    assert!(jump.ends_with("br x16\n"), "{jump}");
}

#[test]
fn what_is_done_for_some_calls_is_passed_over_by_the_others() {
    let plan = MemberPlan { condition: Some(CONDITION), count: Some(&CALLS), ..forward() };
    let expected = "
        bti jc
        and x11, x2, #0xffff
        mov x12, #7
        cmp x11, x12
        b.hs #16
        ldr x10, #20
        mov x11, #1
        stadd x11, [x10]
        b #32464
    ";
    assert_text(&text(&plan, true, 9), expected);
    let answer = MemberPlan { end: MemberEnd::Return(-22_i64 as u64), condition: Some(CONDITION), ..forward() };
    let expected = "
        bti jc
        and x11, x2, #0xffff
        mov x12, #7
        cmp x11, x12
        b.hs #24
        mov x0, #65514
        movk x0, #65535, lsl #16
        movk x0, #65535, lsl #32
        movk x0, #65535, lsl #48
        ret
        b #32456
    ";
    assert_text(&text(&answer, true, 11), expected);
}

#[test]
fn a_timed_member_keeps_a_signed_frame_record() {
    let expected = "
        bti jc
        paciasp
        stp x29, x30, [sp, #-32]!
        mov x29, sp
        mrs x9, CNTVCT_EL0
        str x9, [sp, #16]
        bl #32472
        mrs x9, CNTVCT_EL0
        ldr x10, [sp, #16]
        sub x9, x9, x10
        ldr x10, #40
        mov x11, #1
        stadd x11, [x10]
        add x10, x10, #8
        stadd x9, [x10]
        add x10, x10, #8
        stumax x9, [x10]
        ldp x29, x30, [sp], #32
        autiasp
        ret
    ";
    assert_text(&text(&MemberPlan { end: MemberEnd::Time(&TIMES), ..forward() }, true, 20), expected);
    let exclusive = text(&MemberPlan { end: MemberEnd::Time(&TIMES), ..forward() }, false, 28);
    let expected = "
        ldr x10, #80
        ldxr x11, [x10]
        add x11, x11, #1
        stxr w12, x11, [x10]
        cbnz w12, #-12
        add x10, x10, #8
        ldxr x11, [x10]
        add x11, x11, x9
        stxr w12, x11, [x10]
        cbnz w12, #-12
        add x10, x10, #8
        ldxr x11, [x10]
        cmp x11, x9
        b.hs #12
        stxr w12, x9, [x10]
        cbnz w12, #-16
        ldp x29, x30, [sp], #32
        autiasp
    ";
    assert_text(&exclusive.lines().skip(10).map(|line| std::format!("{line}\n")).collect::<String>(), expected);
}

/// Every way in which a member can be put together.
fn plans() -> Vec<MemberPlan> {
    let mut plans = Vec::new();
    for condition in [None, Some(CONDITION), Some(MemberCondition { bits: 64, value: u64::MAX, ..CONDITION })] {
        for count in [None, Some(&CALLS)] {
            for record in [None, Some(0), Some(4)] {
                for end in [MemberEnd::Forward, MemberEnd::Return(1 << 40), MemberEnd::Time(&TIMES)] {
                    for other in [at(0x8000), TextAddr::new(FAR)] {
                        plans.push(MemberPlan { condition, count, record, end, other: Some(other), ..forward() });
                    }
                }
            }
        }
    }
    plans
}

/// AAPCS64 6.1.1: X9 to X15, and X16 and X17 that veneers use, are a callee's. X0 is where a result is.
const SCRATCH: u32 = 0b11_1111_1110_0000_0000;
const FRAME: u32 = 1 << 29 | 1 << 30 | 1 << 31;

#[test]
fn no_instruction_does_what_a_callee_may_not() {
    assert_eq!(CPU.offset, 0x80);
    for (plan, atomics) in plans().into_iter().flat_map(|plan| [(plan, false), (plan, true)]) {
        let words = body(&plan, atomics);
        // By each way through it: where it is, and SP, which is all that can differ.
        let mut pending = std::vec![(0_usize, 0_i64, false)];
        let mut seen = std::collections::BTreeSet::new();
        let (mut ends, mut calls) = (0, 0);
        while let Some((index, sp, is_signed)) = pending.pop() {
            if !seen.insert((index, sp, is_signed)) {
                continue;
            }
            let insn = Insn::decode(words[index]);
            let effects = insn.effects();
            let place = std::format!("{insn} at {index} of {plan:?}");
            let is_timed = matches!(plan.end, MemberEnd::Time(_));
            let mut may_write = SCRATCH;
            if is_timed {
                may_write |= FRAME;
            }
            if matches!(plan.end, MemberEnd::Return(_)) {
                may_write |= 1;
            }
            assert_eq!(effects.writes.bits() & !may_write, 0, "{place}");
            let sp = match (effects.place, effects.memory) {
                (Place::Beside(RegOrSp::SP, _), MemoryUse::Store(_)) if effects.writes.bits() >> 31 == 1 => sp - 32,
                (Place::Beside(RegOrSp::SP, _), MemoryUse::Load(_)) if effects.writes.bits() >> 31 == 1 => sp + 32,
                _ => sp,
            };
            assert!(matches!(sp, 0 | -32), "{place}");
            let is_signed = match effects.signature {
                Signature::Signed(..) => true,
                Signature::Authenticated(..) => false,
                _ => is_signed,
            };
            let next = index + 1;
            match effects.flow {
                Flow::Next => pending.push((next, sp, is_signed)),
                Flow::CondJump(bytes) => {
                    let target = index as i64 + bytes / 4;
                    pending.extend([(next, sp, is_signed), (target as usize, sp, is_signed)]);
                }
                // Out of it, to the function behind, with everything as it was.
                Flow::Jump(bytes) => {
                    assert_eq!((sp, is_signed), (0, false), "{place}");
                    let from = plan.entry(TextAddr::new(ROOM)).offset(4 * index as i64);
                    assert_eq!(Some(from.offset(bytes)), plan.other, "{place}");
                    ends += 1;
                }
                Flow::IndirectJump(Reg::X16) => {
                    assert_eq!((sp, is_signed), (0, false), "{place}");
                    ends += 1;
                }
                Flow::Return(Reg::LR) => {
                    assert_eq!((sp, is_signed), (0, false), "{place}");
                    ends += 1;
                }
                // With SP aligned, the frame record in place, and LR signed on the stack only.
                Flow::Call(_) | Flow::IndirectCall(Reg::X16) => {
                    assert_eq!((sp, is_timed), (-32, true), "{place}");
                    calls += 1;
                    pending.push((next, sp, is_signed));
                }
                flow => panic!("{flow:?}: {place}"),
            }
        }
        let expected = 1 + usize::from(plan.condition.is_some() && !matches!(plan.end, MemberEnd::Forward));
        assert_eq!((ends, calls), (expected, usize::from(matches!(plan.end, MemberEnd::Time(_)))), "{plan:?}");
    }
}
