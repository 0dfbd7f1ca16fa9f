//! Stubs with a register frame, as an assembler's text.

use super::place;
use crate::address::{TextAddr, TextRange};
use crate::context::TraceContext;
use crate::insn::{Branch, DataImm, Insn, Reg};
use crate::ops::{Callback, EntryHandler, Exit, MAX_OPS, Ops, OpsFlags, Probe};
use crate::platform::{BaseRegister, ContextBase};
use crate::stub::code::{COUNT_WORDS, REST_WORDS};
use crate::stub::entry::{LinkedStub, Stubs};
use crate::stub::{Code, StubEnv, StubPlan, hook as returning_stub};
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;

const ROOM: u64 = 0xffff_8000_8000_0000;

pub(super) const fn at(offset: u64) -> TextAddr {
    TextAddr::new(ROOM + offset)
}

fn stubs() -> Stubs {
    let stub = |entry: u64| LinkedStub { entry: at(entry), base: at(entry), offset: at(entry + 8) };
    let (text, room) = (TextRange::new(at(0x10_0000), at(0x11_0000)), TextRange::new(at(0), at(0x1_0000)));
    Stubs {
        caller: stub(0x10_0000),
        regs_caller: stub(0x10_1000),
        returning: stub(0x10_4000),
        miss: at(0x10_2000),
        skip: at(0x10_3000),
        text: [text, TextRange::EMPTY],
        room,
    }
}

pub(super) fn ops(callback: u64, flags: OpsFlags) -> &'static Ops {
    // SAFETY: not zero, and nobody calls it.
    let callback = unsafe { core::mem::transmute::<usize, Callback>(callback as usize) };
    Box::leak(Box::new(Ops::new(callback).with_flags(flags)))
}

const NEAR: u64 = ROOM + 0x20_0000;
pub(super) const FAR: u64 = 0xffff_0000_1234_5678;

const EL1: ContextBase = ContextBase { register: BaseRegister::TpidrEl1, offset: 0x40 };

pub(super) fn env(context: ContextBase) -> StubEnv {
    StubEnv { stubs: stubs(), context, cpu: None, atomics: false }
}

fn code(callbacks: &[&'static Ops], direct: Option<TextAddr>, base: ContextBase) -> Code {
    let plan = StubPlan { parts: &[], callbacks, direct };
    let mut code = place();
    plan.code(&mut code, at(0x100), &env(base));
    code.end().unwrap();
    assert!(code.words().len() * 4 <= plan.bytes());
    code
}

/// The instructions, and the literals behind them, with zeros up to where the first can stand.
fn text(code: &Code, instructions: usize) -> (Vec<String>, Vec<u64>) {
    let (instructions, literals) = code.words().split_at(instructions);
    let text: Vec<String> = instructions.iter().map(|word| Insn::decode(*word).to_string()).collect();
    assert!(!text.iter().any(|line| line.starts_with(".inst") || line.starts_with("udf")), "{text:?}");
    let (padding, literals) = literals.split_at(literals.len() % 2);
    assert!(padding.iter().all(|word| *word == 0));
    (text, literals.chunks(2).map(|half| u64::from(half[0]) | u64::from(half[1]) << 32).collect())
}

fn address(ops: &'static Ops) -> u64 {
    core::ptr::from_ref(ops).addr() as u64
}

/// What is between the guard and the arguments, and behind the callback.
const SAVE: [&str; 9] = [
    "stp x29, x9, [sp, #-96]!",
    "stp x0, x1, [sp, #16]",
    "stp x2, x3, [sp, #32]",
    "stp x4, x5, [sp, #48]",
    "stp x6, x7, [sp, #64]",
    "stp x8, x10, [sp, #80]",
    "mov x29, sp",
    "stp x29, x30, [sp, #-16]!",
    "mov x29, sp",
];
const RESTORE: [&str; 7] = [
    "ldp x6, x7, [sp, #80]",
    "ldp x4, x5, [sp, #64]",
    "ldp x2, x3, [sp, #48]",
    "ldp x0, x1, [sp, #32]",
    "ldp x29, x9, [sp], #16",
    "ldp x29, x30, [sp], #96",
    "ret x9",
];

#[test]
fn one_callback_is_called_by_a_bl_and_guarded() {
    let ops = ops(NEAR, OpsFlags::empty());
    let guard = ["bti c", "mrs x10, TPIDR_EL1", "cbz x10, #120", "ldr x11, [x10, #64]", "cbnz x11, #100"];
    let call = ["sub x0, x30, #4", "mov x1, x9", "mov x3, x29", "ldr x2, #72", "bl #2096820"];
    let busy = ["add x10, x10, #64", "adr x11, #16", "b #1056388"];
    let not_ready = ["adr x11, #8", "b #1060476"];
    let expected = [
        &guard[..],
        &["str x10, [x10, #64]"],
        &SAVE,
        &call,
        &["ldp x8, x10, [sp, #96]", "str xzr, [x10, #64]"],
        &RESTORE,
        &busy,
        &not_ready,
    ];
    let (text, literals) = text(&code(&[ops], None, EL1), 34);
    assert_eq!(text, expected.concat());
    assert_eq!(literals, [0, address(ops), 0, 0]);
}

#[test]
fn a_recursion_safe_callback_is_called_whatever_the_guard_was_and_leaves_it_so() {
    let ops = ops(NEAR, OpsFlags::RECURSION_SAFE);
    let guard = ["bti c", "mrs x10, TPIDR_EL1", "cbz x10, #112", "ldr x11, [x10, #64]", "str x10, [x10, #64]"];
    let call = ["sub x0, x30, #4", "mov x1, x9", "mov x3, x29", "ldr x2, #64", "bl #2096820"];
    let expected = [
        &guard[..],
        &SAVE,
        &["stp x11, xzr, [sp, #-16]!"],
        &call,
        &["ldp x11, x12, [sp], #16", "ldp x8, x10, [sp, #96]", "str x11, [x10, #64]"],
        &RESTORE,
        &["adr x11, #8", "b #1060484"],
    ];
    let (text, literals) = text(&code(&[ops], None, EL1), 32);
    assert_eq!(text, expected.concat());
    assert_eq!(literals, [1, address(ops), 0, 0]);
}

#[test]
fn a_callback_out_of_reach_is_called_by_a_blr_and_a_context_may_be_far_from_its_base() {
    let ops = ops(FAR, OpsFlags::empty());
    let base = ContextBase { register: BaseRegister::SpEl0, offset: 4088 };
    let guard = ["bti c", "mrs x10, SP_EL0", "cbz x10, #124", "ldr x11, [x10, #4088]", "cbnz x11, #104"];
    let call = ["sub x0, x30, #4", "mov x1, x9", "mov x3, x29", "ldr x2, #80", "ldr x16, #100", "blr x16"];
    let expected = [
        &guard[..],
        &["str x10, [x10, #4088]"],
        &SAVE,
        &call,
        &["ldp x8, x10, [sp, #96]", "str xzr, [x10, #4088]"],
        &RESTORE,
        &["add x10, x10, #4088", "adr x11, #20", "b #1056384"],
        &["adr x11, #12", "b #1060472"],
    ];
    let (text, literals) = text(&code(&[ops], None, base), 35);
    assert_eq!(text, expected.concat());
    assert_eq!(literals, [0, address(ops), 0, 0, FAR]);
}

#[test]
fn the_base_is_in_the_register_that_the_platform_says() {
    for (register, name) in [
        (BaseRegister::TpidrEl1, "TPIDR_EL1"),
        (BaseRegister::TpidrEl2, "TPIDR_EL2"),
        (BaseRegister::TpidrEl0, "TPIDR_EL0"),
        (BaseRegister::TpidrroEl0, "TPIDRRO_EL0"),
        (BaseRegister::SpEl0, "SP_EL0"),
    ] {
        let code = code(&[ops(NEAR, OpsFlags::empty())], None, ContextBase { register, offset: 0 });
        assert_eq!(Insn::decode(code.words()[1]).to_string(), std::format!("mrs x10, {name}"));
    }
}

#[test]
fn several_callbacks_are_a_list_and_a_jump_to_who_walks_it() {
    let (first, second) = (ops(NEAR, OpsFlags::empty()), ops(FAR, OpsFlags::RECURSION_SAFE));
    let trampoline = at(0x30_0000);
    let (live, literals) = text(&code(&[first, second], Some(trampoline), EL1), 3);
    assert_eq!(live, ["bti c", "adr x11, #12", "b #1048312"]);
    assert_eq!(literals, [1, address(first), address(second), 0, trampoline.get()]);
    // One that wants all registers has them saved for all; alone, it is a list as well.
    let all = ops(NEAR, OpsFlags::SAVE_REGS);
    let (alone, literals) = text(&code(&[all], None, EL1), 3);
    assert_eq!(alone, ["bti c", "adr x17, #12", "b #1052408"]);
    assert_eq!(literals, [0, address(all), 0, 0]);
    assert_eq!(text(&code(&[first, all], None, EL1), 3).0, alone);
    // One callback with a trampoline behind it too.
    let (beside, literals) = text(&code(&[first], Some(trampoline), EL1), 3);
    assert_eq!(beside, live);
    assert_eq!(literals, [0, address(first), 0, trampoline.get()]);
}

#[test]
fn a_trampoline_alone_is_a_jump() {
    let near = code(&[], Some(at(0x30_0000)), EL1);
    assert_eq!(text(&near, 2), (Vec::from(["bti c", "b #3145468"].map(String::from)), Vec::new()));
    let (far, _) = text(&code(&[], Some(TextAddr::new(FAR)), EL1), 5);
    assert_eq!(far, ["bti c", "mov x16, #-43400", "movk x16, #4660, lsl #16", "movk x16, #0, lsl #32", "br x16"]);
}

#[test]
fn a_stub_for_as_many_as_there_can_be_has_room() {
    let all: Vec<_> = (0..MAX_OPS).map(|_| ops(NEAR, OpsFlags::empty())).collect();
    let (_, literals) = text(&code(&all, Some(at(0x30_0000)), EL1), 3);
    assert_eq!(literals.len(), MAX_OPS + 3);
    assert!(literals[1..].iter().zip(&all).all(|(literal, ops)| *literal == address(ops)));
}

#[test]
fn what_is_out_of_reach_is_an_error() {
    let mut far = stubs();
    far.skip = TextAddr::new(FAR);
    let callbacks = [ops(NEAR, OpsFlags::empty())];
    let plan = StubPlan { parts: &[], callbacks: &callbacks, direct: None };
    let mut code = place();
    plan.code(&mut code, at(0x100), &StubEnv { stubs: far, ..env(EL1) });
    assert!(code.end().is_err());
}

struct Empty<const ENTRY: bool>;
impl<const ENTRY: bool> Probe for Empty<ENTRY> {
    const ENTRY: bool = ENTRY;
    type Data = ();
    fn exit(_: &mut Exit<'_>, (): &()) {}
}

/// An ops that hooks returns and is registered under this id, with its entry handler at `entry`.
pub(super) fn returning(entry: Option<u64>, flags: OpsFlags) -> &'static Ops {
    let mut ops = if entry.is_some() { Ops::returning::<Empty<true>>() } else { Ops::returning::<Empty<false>>() };
    if let Some(entry) = entry {
        // SAFETY: not zero, and nobody calls it.
        ops.entry = Some(unsafe { core::mem::transmute::<usize, EntryHandler>(entry as usize) });
    }
    ops.hook.store(HOOK, Ordering::Relaxed);
    Box::leak(Box::new(ops.with_flags(flags)))
}

pub(super) const HOOK: u64 = 0x0007_0120;
const RETURN_STUB: u64 = ROOM + 0x10_4000;

/// Takes the frame, if it is a new call and there is room.
const TAKE: [&str; 6] =
    ["ldp x14, x12, [x11, #-8]", "mov x13, sp", "cmp x13, x14", "ccmp x12, #0, #0, lo", "b.ne", "add x12, x11, #64"];

/// The lines, with the distances left out that depend on how long the parts are.
fn without_distances(lines: &[String]) -> Vec<String> {
    let cut = |line: &String| match line.split_once(" #") {
        Some((head, _)) if line.starts_with('b') => head.trim_end().to_string(),
        _ if line.starts_with("cb") || line.starts_with("adr") || line.starts_with("ldr x30, #") => {
            line.split(" #").next().unwrap_or(line).to_string()
        }
        _ if line.starts_with("ldr x15, #") => "ldr x15,".to_string(),
        _ => line.clone(),
    };
    lines.iter().map(cut).collect()
}

#[test]
fn a_hook_without_an_entry_saves_nothing_and_ends_behind_the_function() {
    let ops = returning(None, OpsFlags::empty());
    let code = code(&[ops], None, EL1);
    let expected = [
        &["bti c", "mrs x10, TPIDR_EL1", "cbz x10,", "ldp x12, x11, [x10, #64]", "cbnz x12,"][..],
        &TAKE,
        &["str x12, [x10, #72]", "mrs x14, CNTVCT_EL0", "stp x14, xzr, [x11, #16]", "ldr x15,"],
        &["stp x15, x13, [x11, #48]", "stp x9, x30, [x11]", "mov x10, x30", "ldr x30,", "ret x10"],
    ];
    assert_eq!(lines(&code)[..20], expected.concat());
    assert_eq!([20, 22].map(|place| literal(&code, place)), [HOOK, RETURN_STUB]);
    assert_is_list(&code, ops);
}

/// What the stub's words say, with the distances left out that depend on how long its parts are.
fn lines(code: &Code) -> Vec<String> {
    let text: Vec<String> = code.words().iter().map(|word| Insn::decode(*word).to_string()).collect();
    without_distances(&text)
}

fn literal(code: &Code, place: usize) -> u64 {
    u64::from(code.words()[place]) | u64::from(code.words()[place + 1]) << 32
}

fn has(lines: &[String], expected: &[&str]) -> bool {
    lines.windows(expected.len()).any(|window| window == expected)
}

/// The last words are the list of this ops, and three jumps lead to its ADR.
fn assert_is_list(code: &Code, ops: &'static Ops) {
    let words = code.words();
    let list = words.len() - 8;
    assert_eq!([0, 2, 4, 6].map(|n| literal(code, list + n)), [0, address(ops), 0, 0]);
    let mut targets = Vec::new();
    for (place, pair) in words.windows(2).enumerate() {
        let [Insn::DataImm(DataImm::Adr { rd: Reg::X11, offset }), Insn::Branch(Branch::B { offset: to })] =
            [pair[0], pair[1]].map(Insn::decode)
        else {
            continue;
        };
        let here = at(0x100 + place as u64 * 4).get();
        assert_eq!(offset.target(here), at(0x100 + list as u64 * 4).get());
        targets.push(to.target(here + 4));
    }
    let Stubs { miss, skip, caller, .. } = stubs();
    assert_eq!(targets, [miss.get(), skip.get(), caller.entry.get()]);
}

#[test]
fn a_hook_with_an_entry_calls_it_under_the_guard_with_the_frame() {
    let handler = returning(Some(NEAR), OpsFlags::empty());
    let stub = code(&[handler], None, EL1);
    let words = lines(&stub);
    let call = words.iter().position(|line| line == "bl").unwrap();
    let before = [
        &["bti c", "mrs x10, TPIDR_EL1", "cbz x10,", "ldp x12, x11, [x10, #64]", "cbnz x12,"][..],
        &TAKE,
        &["stp x10, x12, [x10, #64]", "ldr x15,", "stp xzr, xzr, [x11, #16]", "stp x15, x13, [x11, #48]"],
        &["stp x9, x30, [x11]"],
        &SAVE,
        &["mov x0, x11", "mov x1, x29"],
    ];
    assert_eq!(words[..call], before.concat());
    let behind = [
        &["ldp x8, x10, [sp, #96]", "str xzr, [x10, #64]", "tbnz w0, #0, #64"][..],
        &["mrs x14, CNTVCT_EL0", "str x14, [x0, #16]"],
        &RESTORE[..RESTORE.len() - 1],
        &["ldr x30,", "ret x9"],
    ];
    let behind = behind.concat();
    assert_eq!(words[call + 1..call + 1 + behind.len()], behind);
    assert_is_list(&stub, handler);
    // What may answer for the function is looked at; and what is declined or answered gives its frame back.
    let may_answer = returning(Some(NEAR), OpsFlags::IPMODIFY);
    let lines = lines(&code(&[may_answer], None, EL1));
    assert!(has(&lines, &["ldr x12, [sp, #8]", "ldr x13, [sp, #24]", "cmp x12, x13", "b.eq"]), "{lines:#?}");
    let given_back = ["and x11, x0, #0xfffffffffffffffe", "str xzr, [x11]", "str x11, [x10, #72]"];
    assert!(has(&lines, &given_back), "{lines:#?}");
}

/// LDP and STP reach 504 bytes.
#[test]
fn a_context_out_of_a_pair_s_reach_is_loaded_and_stored_word_by_word() {
    let base = ContextBase { register: BaseRegister::SpEl0, offset: 512 };
    let lines = lines(&code(&[returning(Some(NEAR), OpsFlags::IPMODIFY)], None, base));
    assert!(
        has(&lines, &["mrs x10, SP_EL0", "cbz x10,", "ldr x12, [x10, #512]", "ldr x11, [x10, #520]"]),
        "{lines:#?}"
    );
    assert!(has(&lines, &["str x12, [x10, #520]", "str x10, [x10, #512]", "ldr x15,"]), "{lines:#?}");
    assert!(has(&lines, &["ldp x8, x10, [sp, #96]", "str xzr, [x10, #512]"]), "{lines:#?}");
    assert!(has(&lines, &["str xzr, [x11]", "str x11, [x10, #520]"]), "{lines:#?}");
    let lines = self::lines(&code(&[returning(None, OpsFlags::empty())], None, base));
    assert!(has(&lines, &["add x12, x11, #64", "str x12, [x10, #520]", "mrs x14, CNTVCT_EL0"]), "{lines:#?}");
}

#[test]
fn a_full_stack_is_counted_by_an_exclusive_store() {
    let code = code(&[returning(None, OpsFlags::empty())], None, EL1);
    let lines = lines(&code);
    let overflows = offset_of!(TraceContext, calls.overflows);
    let expected = [
        "cmp x13, x14",
        "b.hs",
        "add x12, x12, #1",
        "cbnz x12,",
        "add x10, x10, #64",
        &std::format!("add x10, x10, #{overflows}"),
        "ldxr x11, [x10]",
        "add x11, x11, #1",
        "stxr w12, x11, [x10]",
        "cbnz w12,",
    ];
    assert!(has(&lines, &expected), "{lines:#?}");
}

#[test]
fn a_context_may_be_as_far_from_its_base_as_the_platform_can_say() {
    // Miri takes thousands of times as long; 504 is as far as a pair reaches.
    let step = if cfg!(miri) { 8 * 63 } else { 8 };
    for offset in (0..4096).step_by(step) {
        let base = ContextBase { register: BaseRegister::SpEl0, offset };
        for ops in [returning(None, OpsFlags::empty()), returning(Some(NEAR), OpsFlags::IPMODIFY)] {
            assert!(code(&[ops], None, base).fits(returning_stub::MAX_BYTES / 4 + 1), "{offset}");
        }
    }
}

#[test]
fn a_stub_that_is_cut_or_longer_than_its_room_does_not_fit() {
    let code = code(&[returning(None, OpsFlags::empty())], None, EL1);
    let words = code.words().len();
    assert!(code.fits(words) && !code.fits(words - 1));
    let mut cut = place();
    (0..=MAX_OPS * COUNT_WORDS + REST_WORDS).for_each(|_| cut.word(0));
    assert!(!cut.fits(usize::MAX));
}
