//! What is not as it should be is refused with its address and the reason, and never written.
//!
//! The kernel damages its own callsite section and text before init, and text again after it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::hint::black_box;
use fentry::callsite::{NOP, Refusal, TableError};
use fentry::engine::{EngineMemory, InitError, LinkedStub, RegisterError, Stubs};
use fentry::text::{PokeCause, Undone};
use fentry::{Engine, Filter, FtraceRegs, Image, Ops, Platform, Rule, TextAddr, TextRange};
use support::memory::{self, Access};
use support::{PLATFORM, engine};

support::boot_tests! {
    a_section_that_is_mapped_read_only_is_an_error,
    damaged_entries_are_refused_by_address_and_reason,
    the_other_callsites_work,
    a_function_that_begins_with_nops_of_its_own_is_traced_as_any_and_other_sizes_are_left_alone,
    a_breakpoint_in_a_callsite_is_left_alone,
    what_is_not_there_is_an_error,
    text_that_is_given_back_may_become_anything,
    a_second_init_is_refused,
}

/// UDF #0x123: nothing that a compiler puts at an entry.
const DAMAGE: u32 = 0x0000_0123;

#[inline(never)]
extern "C" fn victim(value: u64) -> u64 {
    black_box(value) + 1
}

#[inline(never)]
extern "C" fn bystander(value: u64) -> u64 {
    black_box(value) + 2
}

// A function with the room that both kinds of entries name, of a calling convention in which x9 may be live.
core::arch::global_asm!(
    ".pushsection .text.vector_function, \"ax\", %progbits",
    ".balign 8",
    "    nop",
    "    nop",
    ".global vector_function",
    ".type vector_function, %function",
    ".variant_pcs vector_function",
    "vector_function:",
    "    nop",
    "    nop",
    "    ret",
    ".size vector_function, . - vector_function",
    ".popsection",
);

// A function that begins with two NOPs of its own, as one of static branches does; and one that was compiled with
// -fpatchable-function-entry=3,1, which has one NOP before it. Both give what they are given, and their number.
core::arch::global_asm!(
    ".macro with_entry name, before, after, number",
    ".pushsection .text.\\name, \"ax\", %progbits",
    ".balign 8",
    "    nop",
    "\\name\\()_entry:",
    ".rept \\before",
    "    nop",
    ".endr",
    ".global \\name",
    ".type \\name, %function",
    "\\name:",
    ".rept \\after",
    "    nop",
    ".endr",
    "    add x0, x0, #\\number",
    "    ret",
    ".size \\name, . - \\name",
    ".pushsection __patchable_function_entries, \"awo\", %progbits, .text.\\name",
    ".balign 8",
    "    .quad \\name\\()_entry",
    ".popsection",
    ".popsection",
    ".endm",
    "with_entry static_branches, 0, 4, 40",
    "with_entry one_before, 1, 2, 31",
);

unsafe extern "C" {
    fn vector_function();
    safe fn static_branches(value: u64) -> u64;
    safe fn one_before(value: u64) -> u64;
}

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, mut regs: FtraceRegs<'_>) {
    // SAFETY: the traced functions take any number.
    unsafe { regs.set_argument(0, 100) };
}

/// Writes a word of text behind the engine's back.
fn overwrite(at: TextAddr, word: u32) {
    let page = TextAddr::new(at.get() & !0xfff);
    let _masked = support::interrupts::Masked::new();
    let alias = PLATFORM.map_alias(page).unwrap();
    // SAFETY: the offset is inside the alias's 4096 bytes.
    let place = unsafe { alias.byte_add((at.get() & 0xfff) as usize) }.cast::<u32>();
    // SAFETY: the alias is writable.
    unsafe { place.write_volatile(word) };
    PLATFORM.unmap_alias(page, alias);
    // SAFETY: cache maintenance of mapped text.
    unsafe {
        core::arch::asm!("dc cvau, {at}", "dsb ish", "ic ivau, {at}", "dsb ish", "isb", at = in(reg) at.get());
    }
}

fn word(at: TextAddr) -> u32 {
    // SAFETY: text is mapped readable.
    unsafe { core::ptr::with_exposed_provenance::<u32>(at.get() as usize).read_volatile() }
}

/// The callsite section, before the engine has it.
fn section() -> &'static mut [u64] {
    unsafe extern "C" {
        static mut __fentry_callsites_start: u64;
        static __fentry_callsites_stop: u64;
    }
    let start = &raw mut __fentry_callsites_start;
    let entries = ((&raw const __fentry_callsites_stop).addr() - start.addr()) / size_of::<u64>();
    // SAFETY: the linker script puts the symbols around the section; init comes later.
    unsafe { core::slice::from_raw_parts_mut(start, entries) }
}

/// The first NOP of a function.
fn first_nop(function: extern "C" fn(u64) -> u64) -> TextAddr {
    let start = TextAddr::new((function as *const ()).addr() as u64);
    if word(start) == NOP { start } else { start.offset(4) }
}

/// A section of two pages, of which the second one is mapped read-only where the engine is told that it is.
fn a_section_that_is_mapped_read_only_is_an_error() {
    const PAGE: usize = 4096;
    const ELSEWHERE: usize = 0x30_0000_0000;
    #[repr(align(4096))]
    struct Pages(UnsafeCell<[u64; 2 * PAGE / 8]>);
    // SAFETY: one CPU.
    unsafe impl Sync for Pages {}
    static PAGES: Pages = Pages(UnsafeCell::new([0x5a5a; 2 * PAGE / 8]));
    // Of memory of its own: the usual one is for the other engine.
    static MEMORY: EngineMemory<1, 2> = EngineMemory::new();
    static OTHER: Engine = Engine::new_in(&PLATFORM, &MEMORY);
    let physical = PAGES.0.get().addr();
    let start = core::ptr::with_exposed_provenance_mut::<u64>(ELSEWHERE);
    let text = TextRange::new(TextAddr::new(memory::text().start as u64), TextAddr::new(memory::text().end as u64));
    let init = || {
        let stub = LinkedStub { entry: text.start, base: text.start, offset: text.start };
        let stubs = Stubs {
            caller: stub,
            regs_caller: stub,
            miss: text.start,
            skip: text.start,
            returning: stub,
            text: [TextRange::EMPTY; 2],
            room: TextRange::EMPTY,
        };
        // SAFETY: 1. Not writable, at first: that is what init is to find out, before it writes. 2. Text is mapped. 3. to 6.
        // There is no callsite among the entries, so no stub is used.
        let image = unsafe { Image::new(text, start, 2 * PAGE, stubs) };
        // SAFETY: it fails, so no text is written.
        unsafe { OTHER.init(image) }
    };
    let start = ELSEWHERE as u64;
    let map = |page, access| {
        let physical = physical + page * PAGE;
        memory::map_elsewhere(ELSEWHERE + page * PAGE, physical..physical + PAGE, access).unwrap();
    };
    let not_writable = |at| Err(InitError::Table(TableError::NotWritable { start, at }));
    assert_eq!(init(), not_writable(start), "it is not mapped at all");
    map(0, Access::Read);
    assert_eq!(init(), not_writable(start));
    map(0, Access::Write);
    map(1, Access::Read);
    assert_eq!(init(), not_writable(start + PAGE as u64));
    map(1, Access::Write);
    // It can be written now, and has no callsites in it.
    assert!(matches!(init(), Err(InitError::Table(TableError::OutsideText { .. }))));
}

fn damaged_entries_are_refused_by_address_and_reason() {
    let good = first_nop(bystander);
    let damaged = first_nop(victim);
    overwrite(damaged.offset(4), DAMAGE);

    let section = section();
    let entry_of = |nop: TextAddr| {
        // `=4,2` kernels have the entry before the function, and perhaps a BTI.
        section.iter().copied().find(|entry| (nop.get() - 12..=nop.get()).contains(entry)).unwrap()
    };
    let (good_entry, damaged_entry) = (entry_of(good), entry_of(damaged));
    let vector = TextAddr::new((vector_function as *const ()).addr() as u64);
    let is_prefixed = good_entry < good.get() - 4;
    let vector_entry = if is_prefixed { vector.get() - 8 } else { vector.get() };
    let own = [static_branches as *const (), one_before as *const ()].map(|function| function.addr() as u64);
    let [branches_entry, one_before_entry] = [own[0], own[1] - 4];
    let kept = [good_entry, damaged_entry, branches_entry, one_before_entry];
    // Four entries of functions that nobody misses are replaced.
    let spare: Vec<usize> = (0..section.len()).filter(|at| !kept.contains(&section[*at])).collect();
    section[spare[0]] = good_entry;
    section[spare[1]] = 0x1000;
    section[spare[2]] = good_entry + 2;
    section[spare[3]] = vector_entry;

    let (engine, report) = engine();
    assert_eq!(report.counts.refused, 6);
    let mut refused = Vec::new();
    engine.for_each_refusal(|(at, refusal)| refused.push((at.get(), refusal)));
    let mut expected = [
        (0x1000, Refusal::OutsideText),
        (good_entry, Refusal::Duplicate),
        (good_entry + 2, Refusal::Misaligned),
        (damaged_entry, Refusal::NotPatchable { found: [NOP, DAMAGE] }),
        (vector_entry, Refusal::CallingConvention),
        (one_before_entry, Refusal::PrefixSize { nops: 1 }),
    ];
    expected.sort_by_key(|(at, _)| *at);
    assert_eq!(refused, expected);
    assert_eq!((word(damaged), word(damaged.offset(4))), (NOP, DAMAGE));
    assert_eq!((word(vector), word(vector.offset(4))), (NOP, NOP));
}

fn the_other_callsites_work() {
    static OPS: Ops = Ops::new(callback);
    let (engine, _) = engine();
    engine.register(&OPS, &Filter::new(&[Rule::name("bad_input::bystander")])).unwrap();
    assert_eq!(bystander(black_box(1)), 102);
    engine.unregister(&OPS).unwrap();
    assert_eq!(bystander(black_box(1)), 3);
    assert_eq!(
        engine.register(&OPS, &Filter::new(&[Rule::name("bad_input::victim")])),
        Err(RegisterError::NothingSelected { rule: 0 })
    );
}

fn a_function_that_begins_with_nops_of_its_own_is_traced_as_any_and_other_sizes_are_left_alone() {
    static COUNT: Ops = Ops::counter();
    static OPS: Ops = Ops::new(callback);
    let (engine, report) = engine();
    let words = |function: *const ()| {
        let at = TextAddr::new(function.addr() as u64);
        [-4, 0, 4, 8, 12].map(|offset| word(at.offset(offset)))
    };
    let [branches, other] = [static_branches as *const (), one_before as *const ()];
    let others = words(other);
    assert_eq!(others[..3], [NOP; 3]);
    let call = |expected| assert_eq!((static_branches(black_box(2)), one_before(black_box(2))), expected);
    call((42, 33));
    assert_eq!(engine.register(&COUNT, &Filter::ALL), Ok(report.counts.accepted));
    call((42, 33));
    engine.unregister(&COUNT).unwrap();
    engine.register(&OPS, &Filter::new(&[Rule::name("static_branches")])).unwrap();
    call((140, 33));
    assert_eq!(words(branches)[3..], [NOP; 2], "its own");
    assert_eq!(words(other), others);
    engine.unregister(&OPS).unwrap();
    call((42, 33));
    let rules = [Rule::name("one_before")];
    assert_eq!(engine.register(&OPS, &Filter::new(&rules)), Err(RegisterError::NothingSelected { rule: 0 }));
}

fn a_breakpoint_in_a_callsite_is_left_alone() {
    const BRK: u32 = 0xd420_0000;
    static OPS: Ops = Ops::new(callback);
    static COUNT: Ops = Ops::counter();
    let (engine, report) = engine();
    let all = report.counts.accepted;
    let call = first_nop_after_init(bystander).offset(4);
    overwrite(call, BRK);
    let error = engine.register(&OPS, &Filter::new(&[Rule::name("bad_input::bystander")])).unwrap_err();
    let RegisterError::Text { error: poke, function } = error else { panic!("{error}") };
    assert_eq!((poke.at, poke.cause), (call, PokeCause::Mismatch { expected: NOP, found: BRK }));
    assert_eq!((poke.undone, function), (Undone::Entirely, Some("bad_input::bystander")));
    let text = error.to_string();
    let words: [String; 3] = [call.to_string(), "0xd503201f".into(), "0xd4200000".into()];
    assert!(words.iter().all(|part| text.contains(part.as_str())), "{text}");
    assert_eq!(word(call), BRK);
    let check = engine.check_text();
    assert_eq!((check.wrong, check.enabled, check.disabled), (1, 0, all - 1));

    // All the others can be traced as if it were not there.
    assert_eq!(engine.register(&COUNT, &Filter::ALL), Ok(all - 1));
    let check = engine.check_text();
    assert_eq!((check.wrong, check.enabled, check.quarantined), (0, all - 1, 1));
    let mut names = Vec::new();
    engine.for_each_callsite(|status| names.extend(status.is_quarantined.then(|| status.name.map(String::from))));
    assert_eq!(names, [Some("bad_input::bystander".into())]);
    assert_eq!((engine.unregister(&COUNT), word(call), engine.look_again()), (Ok(all - 1), BRK, 0));
    overwrite(call, NOP);
    assert_eq!((engine.look_again(), engine.check_text().disabled), (1, all));
}

/// MOV X9, LR of a function, once init has written it.
fn first_nop_after_init(function: extern "C" fn(u64) -> u64) -> TextAddr {
    let start = TextAddr::new((function as *const ()).addr() as u64);
    if word(start) == fentry::callsite::BTI_C { start.offset(4) } else { start }
}

fn what_is_not_there_is_an_error() {
    static OPS: Ops = Ops::new(callback);
    static OTHER: Ops = Ops::new(callback);
    let (engine, _) = engine();
    let unknown = [Rule::name("bad_input::nothing")];
    assert_eq!(engine.register(&OPS, &Filter::new(&unknown)), Err(RegisterError::NothingSelected { rule: 0 }));
    assert_eq!(engine.unregister(&OPS), Err(RegisterError::NotRegistered));
    let known = [Rule::name("bad_input::bystander")];
    let known = Filter::new(&known);
    engine.register(&OPS, &known).unwrap();
    assert_eq!(engine.register(&OPS, &known), Err(RegisterError::AlreadyRegistered));
    assert_eq!(engine.unregister(&OTHER), Err(RegisterError::NotRegistered));
    engine.unregister(&OPS).unwrap();
    assert_eq!(engine.unregister(&OPS), Err(RegisterError::NotRegistered));
}

fn text_that_is_given_back_may_become_anything() {
    static COUNT: Ops = Ops::counter();
    let (engine, report) = engine();
    let at = |function: *const ()| TextAddr::new(function.addr() as u64);
    let [branches, other] = [at(static_branches as *const ()), at(one_before as *const ())];
    let all = report.counts.accepted;
    assert_eq!(engine.register(&COUNT, &Filter::ALL), Ok(all));
    // The function and its entry; the other was refused, and its entry is forgotten too.
    let pieces = [(branches, 24, 1), (other.offset(-4), 20, 0)];
    for (start, bytes, callsites) in pieces {
        let range = TextRange::new(start, start.offset(bytes));
        assert_eq!((engine.forget(range), engine.forget(range)), (Ok(callsites), Ok(0)));
        (0..bytes).step_by(4).for_each(|offset| overwrite(start.offset(offset), DAMAGE));
    }
    engine.for_each_refusal(|(entry, refusal)| {
        assert!(entry != other.offset(-4) && !matches!(refusal, Refusal::PrefixSize { .. }), "{entry}: {refusal}");
    });
    let check = engine.check_text();
    assert_eq!((check.enabled, check.wrong, check.quarantined), (all - 1, 0, 0));
    assert_eq!((engine.unregister(&COUNT), engine.register(&COUNT, &Filter::ALL)), (Ok(all - 1), Ok(all - 1)));
    assert_eq!(engine.unregister(&COUNT), Ok(all - 1));
    let is_damage = |at: TextAddr| word(at) == DAMAGE;
    assert!(pieces.iter().all(|(at, bytes, _)| (0..*bytes).step_by(4).all(|offset| is_damage(at.offset(offset)))));
}

fn a_second_init_is_refused() {
    let (engine, _) = engine();
    // SAFETY: never used: the engine refuses before it looks at the image.
    let image = unsafe { Image::linked() };
    // SAFETY: one CPU, no interrupts.
    assert!(unsafe { engine.init(image) }.is_err());
    assert_eq!(engine.check_text().wrong, 0);
}
