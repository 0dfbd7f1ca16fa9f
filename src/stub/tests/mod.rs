//! What is generated, as an assembler would write it: here what needs no register frame, in `framed` the rest.

mod framed;
mod largest;
mod member;
mod recorder;

extern crate std;

use super::{Code, CodeMemory, FramelessPart, StubEnv, StubPlan};
use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;
use crate::context::{TaskInjection, TraceContext};
use crate::fakes::FakeText;
use crate::insn::Insn;
use crate::ops::{MAX_OPS, Ops, OpsFlags};
use crate::platform::{BaseRegister, ContextBase};
use crate::record::hits::CallsiteHits;
use core::fmt::Write;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

static HITS: AtomicU64 = AtomicU64::new(0);
static CALLSITES: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
static ON_CALLSITES: CallsiteHits = CallsiteHits::new(TextAddr::new(0x4020_0104), &CALLSITES);

const CPU: ContextBase = ContextBase { register: BaseRegister::TpidrEl1, offset: 0x80 };
const COUNT: FramelessPart = FramelessPart::CountOnCpu { base: CPU, counter: 2 };
const AT: u64 = 0x4020_0000;

/// Where a stub of any number of members is made.
fn place() -> Code {
    Box::leak(Box::new(CodeMemory::<MAX_OPS>::UNINIT)).code()
}

fn env(atomics: bool) -> StubEnv {
    let stubs = FakeText::new(0x4030_0000).build().stubs();
    let context = ContextBase { register: BaseRegister::SpEl0, offset: 0x10 };
    StubEnv { stubs, context, cpu: Some(CPU), atomics }
}

fn words(plan: &StubPlan<'_>, atomics: bool, at: u64) -> Vec<u32> {
    let mut code = place();
    plan.code(&mut code, TextAddr::new(at), &env(atomics));
    code.end().unwrap();
    assert!(code.words().len() * 4 <= plan.bytes(), "{} words", code.words().len());
    code.words().to_vec()
}

fn text(plan: &StubPlan<'_>, atomics: bool) -> String {
    let mut text = String::new();
    words(plan, atomics, AT).iter().for_each(|word| writeln!(text, "{}", Insn::decode(*word)).unwrap());
    text
}

fn only(part: FramelessPart, atomics: bool) -> String {
    text(&StubPlan { parts: &[part], callbacks: &[], direct: None }, atomics)
}

/// Without the indentation of the text below.
fn assert_text(found: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found, expected);
}

const TO_THE_FUNCTION: &str = "mov x10, x30\nmov x30, x9\nret x10\n";

#[test]
fn a_count_on_the_cpu_is_ten_instructions_or_eight() {
    let exclusive = "
        bti c
        mrs x10, TPIDR_EL1
        cbz x10, #24
        add x10, x10, #176
        ldxr x11, [x10]
        add x11, x11, #1
        stxr w12, x11, [x10]
        cbnz w12, #-12
    ";
    assert_text(&only(COUNT, false), &std::format!("{exclusive}{TO_THE_FUNCTION}"));
    let atomic = "
        bti c
        mrs x10, TPIDR_EL1
        cbz x10, #16
        add x10, x10, #176
        mov x11, #1
        stadd x11, [x10]
    ";
    assert_text(&only(COUNT, true), &std::format!("{atomic}{TO_THE_FUNCTION}"));
}

#[test]
fn a_count_in_one_place_is_loaded_from_a_literal() {
    let exclusive = "
        bti c
        ldr x10, #36
        ldxr x11, [x10]
        add x11, x11, #1
        stxr w12, x11, [x10]
        cbnz w12, #-12
    ";
    let words = words(&StubPlan { parts: &[FramelessPart::Count(&HITS)], callbacks: &[], direct: None }, false, AT);
    let instructions: String = words[..9].iter().map(|word| std::format!("{}\n", Insn::decode(*word))).collect();
    assert_text(&instructions, &std::format!("{exclusive}{TO_THE_FUNCTION}"));
    assert_eq!(literal(&words, 10), &raw const HITS as u64);
}

fn literal(words: &[u32], at: usize) -> u64 {
    u64::from(words[at]) | u64::from(words[at + 1]) << 32
}

#[test]
fn a_count_for_the_callsite_is_found_by_x30() {
    let expected = "
        bti c
        ldr x10, #44
        and x11, x30, #0xfffffffffffffff8
        add x10, x10, x11
        ldxr x11, [x10]
        add x11, x11, #1
        stxr w12, x11, [x10]
        cbnz w12, #-12
    ";
    let words = words(
        &StubPlan { parts: &[FramelessPart::CountCallsite(&ON_CALLSITES)], callbacks: &[], direct: None },
        false,
        AT,
    );
    let instructions: String = words[..11].iter().map(|word| std::format!("{}\n", Insn::decode(*word))).collect();
    assert_text(&instructions, &std::format!("{expected}{TO_THE_FUNCTION}"));
    // The callsite that begins at 0x4020_0118, with its BL there plus 4.
    let x30 = 0x4020_0120_u64;
    assert_eq!(literal(&words, 12).wrapping_add(x30 & !7), &raw const CALLSITES[4] as u64);
}

#[test]
fn a_record_is_twenty_five_instructions_or_twenty_two() {
    let exclusive = "
        bti c
        mrs x10, TPIDR_EL1
        cbz x10, #84
        add x10, x10, #128
        ldp x12, x13, [x10, #8]
        cbz x12, #72
        ldxr x11, [x10]
        add x14, x11, #1
        stxr w15, x14, [x10]
        cbnz w15, #-12
        and x13, x11, x13
        add x12, x12, x13, lsl #6
        ldxr x13, [x12]
        cbz x13, #40
        stxr w15, xzr, [x12]
        cbnz w15, #-12
        dmb ishst
        mrs x13, CNTVCT_EL0
        stp x30, x9, [x12, #8]
        stp x13, x0, [x12, #24]
        stp x1, x2, [x12, #40]
        str x3, [x12, #56]
        stlr x14, [x12]
    ";
    let record = FramelessPart::Record { base: CPU, arguments: 4 };
    assert_text(&only(record, false), &std::format!("{exclusive}{TO_THE_FUNCTION}"));
    let atomic = "
        bti c
        mrs x10, TPIDR_EL1
        cbz x10, #72
        add x10, x10, #128
        ldp x12, x13, [x10, #8]
        cbz x12, #60
        mov x14, #1
        ldadd x14, x11, [x10]
        add x14, x11, #1
        and x13, x11, x13
        add x12, x12, x13, lsl #6
        swp xzr, x13, [x12]
        cbz x13, #32
        dmb ishst
        mrs x13, CNTVCT_EL0
        stp x30, x9, [x12, #8]
        stp x13, x0, [x12, #24]
        stp x1, x2, [x12, #40]
        str x3, [x12, #56]
        stlr x14, [x12]
    ";
    assert_text(&only(record, true), &std::format!("{atomic}{TO_THE_FUNCTION}"));
    let fewer = only(FramelessPart::Record { base: CPU, arguments: 2 }, true);
    assert!(fewer.contains("stp x13, x0, [x12, #24]\nstp x1, xzr, [x12, #40]\nstr xzr, [x12, #56]\n"), "{fewer}");
}

/// Counts come first, whatever comes behind them, and nothing of what does is different but its place.
#[test]
fn behind_a_count_comes_what_the_rest_of_the_set_needs() {
    static LIVE: Ops = Ops::new(callback);
    static ALL: Ops = Ops::new(callback).with_flags(OpsFlags::SAVE_REGS);
    let near = TextAddr::new(0x4040_0000);
    let far = TextAddr::new(0xffff_8000_1234_5678);
    let rests: [(&[&'static Ops], Option<TextAddr>); 6] = [
        (&[&LIVE], None),
        (&[&ALL], None),
        (&[&LIVE, &LIVE], None),
        (&[&LIVE], Some(near)),
        (&[], Some(near)),
        (&[], Some(far)),
    ];
    for (callbacks, direct) in rests {
        // Miri takes thousands of times as long.
        for parts in if cfg!(miri) { 2..=2 } else { 1..=3 } {
            let parts = &[COUNT; 3][..parts];
            let with = words(&StubPlan { parts, callbacks, direct }, true, AT);
            // The same without, where it stands there.
            let shift = parts.len() * 5;
            let without = words(&StubPlan { parts: &[], callbacks, direct }, true, AT + shift as u64 * 4);
            assert_eq!(with[0], without[0]);
            assert_eq!(with[1 + shift..], without[1..], "{callbacks:?} {direct:?}");
        }
    }
}

#[test]
fn the_list_is_where_adr_says_it_is() {
    static LIVE: Ops = Ops::new(callback);
    for shared in 0..4 {
        let parts = &[FramelessPart::Count(&HITS); 4][..shared];
        let words = words(&StubPlan { parts, callbacks: &[&LIVE, &LIVE], direct: None }, true, AT);
        let adr = words.iter().position(|word| word & 0x9f00_001f == 0x1000_000b).unwrap();
        let Insn::DataImm(crate::insn::DataImm::Adr { offset, .. }) = Insn::decode(words[adr]) else { panic!() };
        let list = ((offset.target(AT + adr as u64 * 4) - AT) / 4) as usize;
        assert!(list.is_multiple_of(2));
        let ops = &raw const LIVE as u64;
        let found: Vec<u64> = (0..5).map(|n| literal(&words, list + 2 * n)).collect();
        assert_eq!(found, [0, ops, ops, 0, 0]);
        // The counts' literals behind it.
        assert!((0..shared).all(|n| literal(&words, list + 10 + 2 * n) == &raw const HITS as u64));
    }
}

#[test]
fn the_largest_set_has_a_stub() {
    let mut parts = Vec::from([FramelessPart::Count(&HITS); 126]);
    parts.push(FramelessPart::Record { base: CPU, arguments: 4 });
    static ONE: Ops = Ops::new(callback).with_flags(OpsFlags::RECURSION_SAFE);
    let words = words(&StubPlan { parts: &parts, callbacks: &[&ONE], direct: None }, false, AT);
    assert_eq!(literal(&words, words.len() - 2), &raw const HITS as u64);
}

#[test]
fn an_injections_call_goes_on_in_the_function_where_it_is_not_due() {
    static INJECTION: Ops = Ops::injecting(callback);
    let plan = StubPlan { parts: &[], callbacks: &[&INJECTION], direct: None };
    let expected = "
        bti c
        mrs x10, SP_EL0
        cbz x10, #44
        ldr w11, [x10, #NTH]
        cbnz w11, #48
        ldr x10, #LITERAL
        ldr x11, [x10]
        tbnz x11, #62, #24
        ldxr x11, [x10]
        sub x11, x11, #2
        tbnz x11, #63, #24
        stxr w12, x11, [x10]
        cbnz w12, #-16
    ";
    let nth = env(false).context.offset as usize + offset_of!(TraceContext, injection) + offset_of!(TaskInjection, nth);
    let words = words(&plan, true, AT);
    let text =
        |words: &[u32]| words.iter().fold(String::new(), |text, word| text + &Insn::decode(*word).to_string() + "\n");
    let literal_at = words.len() - 2;
    let expected = expected.replace("NTH", &nth.to_string());
    let expected = expected.replace("LITERAL", &(4 * (literal_at - 5)).to_string());
    assert_text(&text(&words[..16]), &std::format!("{expected}{TO_THE_FUNCTION}"));
    assert_eq!(literal(&words, literal_at), INJECTION.due().as_ptr() as u64);
    // What is due goes on as to any callback, which finds the context.
    assert_text(
        &text(&words[16..19]),
        "mrs x10, SP_EL0\ncbz x10, #LATER\nadd x10, x10, #16".replace("LATER", &skip(&words)).as_str(),
    );
}

/// Where the CBZ of the part behind an injection's test goes.
fn skip(words: &[u32]) -> String {
    let text = Insn::decode(words[17]).to_string();
    text.rsplit('#').next().unwrap_or_default().into()
}
