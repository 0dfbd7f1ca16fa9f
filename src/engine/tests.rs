//! The engine on simulated text: what it selects, what it writes, and that a failure leaves nothing behind.

extern crate std;

use super::{Engine, InitError, RegisterError};
use crate::address::{TextAddr, TextRange};
use crate::callsite::{Form, LandingPad, Layout, MOV_X9_LR, NOP, Prefix, Refusal, State, StateError};
use crate::fakes::{COMPILED, Event, FakeKernel, FakeText, Fault};
use crate::filter::{Filter, Rule};
use crate::ops::{Ops, OpsFlags};
use crate::regs::FtraceRegs;
use crate::table::{Encoding, TableError};
use crate::text::{PokeCause, Undone};
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

const BASE: u64 = 0xffff_8000_8000_0000;
const PADDED: Form = Form { landing_pad: LandingPad::BtiC, prefix: Prefix::None };
const PREFIXED: Form = Form { landing_pad: LandingPad::None, prefix: Prefix::Literal };
const PADDED_PREFIXED: Form = Form { landing_pad: LandingPad::BtiC, prefix: Prefix::Literal };
const FORMS: [Form; 4] = [COMPILED, PADDED, PREFIXED, PADDED_PREFIXED];

fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: &mut FtraceRegs) {}

fn ops() -> &'static Ops {
    Box::leak(Box::new(Ops::new(callback)))
}

/// An engine, not initialised, on this text.
fn engine_on(text: FakeText) -> (&'static FakeKernel, Engine) {
    let kernel = text.build();
    (kernel, Engine::with_machine(kernel, kernel))
}

/// An initialised engine on `count` functions `f0`, `f1`, ... of all forms, spread over several pages.
fn ready(count: usize) -> (&'static FakeKernel, Engine, Vec<TextAddr>) {
    let mut text = FakeText::new(BASE);
    let functions = (0..count)
        .map(|n| {
            text.skip_to(n * 512);
            text.function(&format!("f{n}"), FORMS[n % FORMS.len()])
        })
        .collect();
    let (kernel, engine) = engine_on(text);
    let report = init(kernel, &engine).unwrap();
    assert_eq!((report.census.accepted, report.census.refused), (count, 0));
    kernel.take_events();
    (kernel, engine, functions)
}

/// Functions of all forms in one text, as these tests have, are a mixed layout.
fn init(kernel: &FakeKernel, engine: &Engine) -> Result<super::InitReport, InitError> {
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image().with_layout(Layout::Mixed)) }
}

fn refusals(engine: &Engine) -> Vec<(u64, Refusal)> {
    let mut all = Vec::new();
    engine.for_each_refusal(|(at, refusal)| all.push((at.get(), refusal)));
    all
}

#[test]
fn init_writes_the_first_instruction_of_every_form_and_nothing_else() {
    let mut text = FakeText::new(BASE);
    let functions = FORMS.map(|form| text.function("f", form));
    let (kernel, engine) = engine_on(text);
    let before = kernel.snapshot();
    let census = init(kernel, &engine).unwrap().census;
    assert_eq!((census.accepted, census.with_landing_pad, census.with_literal), (4, 2, 2));

    let stubs = kernel.stubs();
    let changed: Vec<u64> = (before.iter().zip(kernel.snapshot()).enumerate())
        .filter(|(_, (old, new))| *old != new)
        .map(|(word, _)| BASE + word as u64 * 4)
        .collect();
    let pads = [0, 4, 0, 4];
    let mut expected: Vec<u64> = functions.iter().zip(pads).map(|(function, pad)| function.get() + pad).collect();
    expected.extend([stubs.caller.offset.get(), stubs.regs_caller.offset.get()]);
    assert_eq!(changed, expected);
    for at in &changed[..4] {
        assert_eq!(kernel.word(TextAddr::new(*at)), MOV_X9_LR);
    }
    // ADD X10, X10, #0x40: the platform's context offset.
    assert_eq!(kernel.word(stubs.caller.offset), 0x9101_014a);
}

#[test]
fn enabling_writes_a_call_to_the_stub_and_disabling_a_nop() {
    let (kernel, engine, functions) = ready(4);
    let disabled = kernel.snapshot();
    let ops = ops();
    assert_eq!(engine.register(ops, &Filter::ALL), Ok(4));
    let mut calls = Vec::new();
    engine.for_each_callsite(|status| calls.push((status.name.unwrap_or_default().to_string(), status.state)));
    let target = Ok(State::Enabled(kernel.stubs().caller.entry));
    assert_eq!(calls, ["f0", "f1", "f2", "f3"].map(|name| (name.to_string(), target)));
    // BL from f0 + 4 to the stub, by the Arm ARM's C6.2.33: imm26 is the distance in words.
    let distance = kernel.stubs().caller.entry.get() - (functions[0].get() + 4);
    assert_eq!(kernel.word(functions[0].offset(4)), 0x9400_0000 | (distance / 4) as u32);
    assert_eq!(engine.unregister(ops), Ok(4));
    assert_eq!(kernel.snapshot(), disabled);
    assert_eq!((engine.survey().disabled, engine.survey().wrong), (4, 0));
}

#[test]
fn the_flags_choose_the_stub() {
    let (kernel, engine, functions) = ready(1);
    let ops: &'static Ops = Box::leak(Box::new(Ops::new(callback).with_flags(OpsFlags::SAVE_REGS)));
    engine.register(ops, &Filter::ALL).unwrap();
    let distance = kernel.stubs().regs_caller.entry.get() - (functions[0].get() + 4);
    assert_eq!(kernel.word(functions[0].offset(4)), 0x9400_0000 | (distance / 4) as u32);
}

#[test]
fn filters_select_by_name_glob_and_address() {
    let (kernel, engine, functions) = ready(12);
    let enabled = |rules: &[Rule<'_>]| {
        let ops = ops();
        let count = engine.register(ops, &Filter::new(rules))?;
        let mut names = Vec::new();
        engine.for_each_callsite(|status| {
            if matches!(status.state, Ok(State::Enabled(_))) {
                names.push(status.name.unwrap().to_string());
            }
        });
        assert_eq!(names.len(), count);
        engine.unregister(ops).unwrap();
        Ok(names)
    };
    let parse = |text| Rule::parse(text).unwrap();
    assert_eq!(enabled(&[parse("f1")]).unwrap(), ["f1"]);
    assert_eq!(enabled(&[parse("f1*")]).unwrap(), ["f1", "f10", "f11"]);
    assert_eq!(enabled(&[parse("f1*"), parse("!f10")]).unwrap(), ["f1", "f11"]);
    assert_eq!(enabled(&[parse("f[0-2]"), parse("f1")]).unwrap(), ["f0", "f1", "f2"]);
    assert_eq!(enabled(&[Rule::address(functions[5])]).unwrap(), ["f5"]);
    assert_eq!(enabled(&[Rule::address(functions[5].offset(8))]).unwrap(), ["f5"]);
    assert_eq!(enabled(&[parse("!f?"), parse("!f11")]).unwrap(), ["f10"]);
    assert_eq!(enabled(&[parse("f1"), parse("nosuch")]), Err(RegisterError::NothingSelected { rule: 1 }));
    assert_eq!(enabled(&[parse("nosuch*")]), Err(RegisterError::NothingSelected { rule: 0 }));
    assert_eq!(enabled(&[Rule::address(TextAddr::new(1))]), Err(RegisterError::NothingSelected { rule: 0 }));
    assert_eq!(enabled(&[parse("f1"), parse("!f*")]), Err(RegisterError::EmptySelection));
    assert_eq!(engine.survey().enabled, 0);
    assert_eq!(kernel.word(functions[0].offset(4)), NOP);
}

#[test]
fn what_is_registered_twice_or_not_at_all_is_refused() {
    let (_, engine, _) = ready(2);
    let (first, second) = (ops(), ops());
    assert_eq!(engine.unregister(first), Err(RegisterError::NotRegistered));
    engine.register(first, &Filter::ALL).unwrap();
    assert_eq!(engine.register(first, &Filter::ALL), Err(RegisterError::AlreadyRegistered));
    assert_eq!(engine.register(second, &Filter::ALL), Err(RegisterError::Busy));
    assert_eq!(engine.unregister(second), Err(RegisterError::NotRegistered));
    engine.unregister(first).unwrap();
    assert_eq!(engine.unregister(first), Err(RegisterError::NotRegistered));
    engine.register(second, &Filter::ALL).unwrap();
}

#[test]
fn before_init_nothing_can_be_registered_and_after_it_no_second_image() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let (kernel, engine) = engine_on(text);
    assert_eq!(engine.register(ops(), &Filter::ALL), Err(RegisterError::NotInitialised));
    init(kernel, &engine).unwrap();
    assert_eq!(init(kernel, &engine), Err(InitError::AlreadyDone));
}

#[test]
fn entries_that_are_no_callsites_are_refused_with_the_reason_and_never_written() {
    let mut text = FakeText::new(BASE);
    let good = text.function("good", COMPILED);
    let corrupt = text.words(&[NOP, 0x1234_5678, NOP, 0]);
    let in_use = text.words(&[MOV_X9_LR, NOP]);
    let unaligned = good.get() + 2;
    for entry in [corrupt.get(), in_use.get(), unaligned, 0x10, good.get()] {
        text.entry(entry);
    }
    let (kernel, engine) = engine_on(text);
    let beyond = BASE + kernel.snapshot().len() as u64 * 4;
    let census = init(kernel, &engine).unwrap().census;
    assert_eq!((census.accepted, census.refused), (1, 5));
    assert!(beyond > corrupt.get());
    assert_eq!(
        refusals(&engine),
        [
            (0x10, Refusal::OutsideText),
            (good.get(), Refusal::Duplicate),
            (unaligned, Refusal::Misaligned),
            (corrupt.get(), Refusal::NotPatchable { found: [NOP, 0x1234_5678] }),
            (in_use.get(), Refusal::InUse),
        ]
    );
    assert_eq!(kernel.word(corrupt), NOP);
    let ops = ops();
    assert_eq!(engine.register(ops, &Filter::ALL), Ok(1));
    assert_eq!(kernel.word(in_use.offset(4)), NOP);
}

#[test]
fn the_layout_is_read_off_the_entries_as_a_whole() {
    for (most, fewest, accepted, with_literal) in [
        (COMPILED, COMPILED, 6, 0),
        (COMPILED, PREFIXED, 6, 1),
        (PREFIXED, PREFIXED, 6, 6),
        (PADDED_PREFIXED, PADDED, 5, 5),
    ] {
        let mut text = FakeText::new(BASE);
        for n in 0..5 {
            text.function(&format!("f{n}"), most);
        }
        text.function("other", fewest);
        let (kernel, engine) = engine_on(text);
        // SAFETY: nothing executes a fake's text.
        let census = unsafe { engine.init(kernel.image()) }.unwrap().census;
        assert_eq!((census.accepted, census.with_literal), (accepted, with_literal), "{most}, {fewest}");
    }
}

#[test]
fn a_damaged_function_does_not_hide_behind_the_nops_before_it() {
    let mut text = FakeText::new(BASE);
    text.function("whole", PREFIXED);
    text.function("whole too", PREFIXED);
    let damaged = text.function("damaged", PREFIXED);
    let (kernel, engine) = engine_on(text);
    kernel.overwrite(damaged.offset(4), 0x123);
    // SAFETY: nothing executes a fake's text.
    let census = unsafe { engine.init(kernel.image()) }.unwrap().census;
    assert_eq!((census.accepted, census.refused), (2, 1));
    assert_eq!(refusals(&engine), [(damaged.get() - 8, Refusal::NotPatchable { found: [NOP, 0x123] })]);
    assert_eq!(kernel.word(damaged.offset(-8)), NOP);
}

#[test]
fn a_callsite_at_the_very_end_of_the_text_is_not_read_beyond_it() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let (kernel, engine) = engine_on(text);
    let last = kernel.stubs().regs_caller.offset.get() + 4;
    let section = Box::leak(vec![last, BASE].into_boxed_slice());
    // SAFETY: the section was leaked for this image.
    let image = unsafe {
        super::Image::new(
            TextRange::new(TextAddr::new(BASE), TextAddr::new(last + 4)),
            section.as_mut_ptr(),
            16,
            kernel.stubs(),
        )
    };
    // SAFETY: nothing executes a fake's text.
    let census = unsafe { engine.init(image) }.unwrap().census;
    assert_eq!((census.accepted, census.refused), (1, 1));
}

#[test]
fn the_engines_own_text_is_left_out_and_counted() {
    let mut text = FakeText::new(BASE);
    let own = text.function("own", COMPILED);
    text.function("theirs", COMPILED);
    let (kernel, engine) = engine_on(text);
    let image = kernel.image().with_excluded(TextRange::new(own, own.offset(12)));
    // SAFETY: nothing executes a fake's text.
    let census = unsafe { engine.init(image) }.unwrap().census;
    assert_eq!((census.accepted, census.excluded, census.refused), (1, 1, 0));
    assert_eq!(refusals(&engine), []);
    assert_eq!(kernel.word(own), NOP);
}

#[test]
fn sections_that_can_be_no_table_are_refused_whole() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let (kernel, engine) = engine_on(text);
    let all = TextRange::new(TextAddr::new(BASE), TextAddr::new(BASE + 64));
    let attempt = |entries: Vec<u64>, bytes: usize, shift: usize| {
        let section = Box::leak(entries.into_boxed_slice()).as_mut_ptr().wrapping_byte_add(shift);
        // SAFETY: the section was leaked for this image; where it is misaligned, it must not be accessed.
        let image = unsafe { super::Image::new(all, section, bytes, kernel.stubs()) };
        // SAFETY: nothing executes a fake's text.
        unsafe { engine.init(image) }
    };
    let truncated = |result| matches!(result, Err(InitError::Table(TableError::Truncated { .. })));
    assert!(truncated(attempt(vec![BASE, BASE], 15, 0)));
    assert!(truncated(attempt(vec![BASE, BASE], 8, 4)));
    assert_eq!(attempt(vec![], 0, 0), Err(InitError::Table(TableError::Empty)));
    assert_eq!(attempt(vec![0; 3], 24, 0), Err(InitError::Table(TableError::NotRelocated { entries: 3 })));
    init(kernel, &engine).unwrap();
}

#[test]
fn relative_entries_give_the_same_callsites() {
    let mut text = FakeText::new(BASE);
    let functions = FORMS.map(|form| text.function("f", form));
    let (kernel, engine) = engine_on(text);
    let entries = [0, 4, -8, -8].iter().zip(functions).map(|(shift, function)| function.offset(*shift).get());
    let section = Box::leak(entries.collect::<Vec<u64>>().into_boxed_slice());
    for entry in &mut *section {
        *entry = entry.wrapping_sub(core::ptr::from_ref(entry).addr() as u64);
    }
    let text = TextRange::new(functions[0], kernel.stubs().regs_caller.offset);
    // SAFETY: the section was leaked for this image.
    let image = unsafe { super::Image::new(text, section.as_mut_ptr(), 32, kernel.stubs()) };
    // SAFETY: nothing executes a fake's text.
    let census =
        unsafe { engine.init(image.with_encoding(Encoding::Relative).with_layout(Layout::Mixed)) }.unwrap().census;
    assert_eq!((census.accepted, census.with_literal), (4, 2));
    let mut found = Vec::new();
    engine.for_each_callsite(|status| found.push(status.callsite.function()));
    assert_eq!(found, functions);
}

#[test]
fn a_stub_out_of_reach_is_an_error_and_nothing_is_written() {
    let mut text = FakeText::new(BASE);
    let near = text.function("near", COMPILED);
    let (kernel, engine) = engine_on(text);
    // The same callsite in an image whose stubs are somewhere else: 256 MiB away.
    let mut far = FakeText::new(BASE + (256 << 20));
    far.function("unused", COMPILED);
    let far = far.build();
    let section = Box::leak(vec![near.get()].into_boxed_slice());
    let text = TextRange::new(near, near.offset(12));
    let mut stubs = kernel.stubs();
    stubs.caller.entry = far.stubs().caller.entry;
    // SAFETY: the section was leaked for this image.
    let image = unsafe { super::Image::new(text, section.as_mut_ptr(), 8, stubs) };
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(image) }.unwrap();
    let before = kernel.snapshot();
    let error = engine.register(ops(), &Filter::ALL).unwrap_err();
    assert!(matches!(error, RegisterError::Callsite(StateError::OutOfReach { .. })), "{error:?}");
    assert!(error.to_string().contains("0x"), "{error}");
    assert_eq!(kernel.snapshot(), before);
}

#[test]
fn a_callsite_that_somebody_else_changed_is_reported_and_left_alone() {
    let (kernel, engine, functions) = ready(8);
    let victim = functions[5].offset(if FORMS[5 % 4].landing_pad == LandingPad::BtiC { 8 } else { 4 });
    kernel.overwrite(victim, 0xd420_0000); // BRK: a debugger's breakpoint
    let before = kernel.snapshot();
    let error = engine.register(ops(), &Filter::ALL).unwrap_err();
    let RegisterError::Text { error, function } = error else { panic!("{error:?}") };
    assert_eq!(error.at, victim);
    assert_eq!(error.cause, PokeCause::Mismatch { expected: NOP, found: 0xd420_0000 });
    assert_eq!((error.undone, function), (Undone::Entirely, Some("f5")));
    assert_eq!(kernel.snapshot(), before);
    assert_eq!(engine.survey().wrong, 1);
    assert!(!kernel.take_events().iter().any(|event| matches!(event, Event::Store(..))));
    // The others can still be traced.
    kernel.overwrite(victim, NOP);
    assert_eq!(engine.register(ops(), &Filter::ALL), Ok(8));
}

#[test]
fn whichever_write_fails_nothing_stays_changed() {
    let (kernel, engine, _) = ready(40);
    let before = kernel.snapshot();
    let ops = ops();
    let faults = (0..40).map(Fault::Write).chain((0..3).map(Fault::Alias)).chain([Fault::Batch, Fault::Cpu(3)]);
    for fault in faults {
        kernel.set_fault(Some(fault));
        let error = engine.register(ops, &Filter::ALL).unwrap_err();
        let RegisterError::Text { error: poke, .. } = error else { panic!("{fault:?}: {error:?}") };
        assert_eq!(poke.undone, Undone::Entirely, "{fault:?}");
        kernel.set_fault(None);
        if let (Fault::Write(_), PokeCause::Mismatch { expected, .. }) = (fault, poke.cause) {
            kernel.overwrite(poke.at, expected); // The fault's own doing.
        }
        assert_eq!(kernel.snapshot(), before, "{fault:?}");
        assert_eq!(engine.survey().disabled, 40, "{fault:?}");
        assert!(kernel.stubs().current.load(Ordering::Relaxed).is_null());
    }
    assert_eq!(engine.register(ops, &Filter::ALL), Ok(40));
}

#[test]
fn what_was_written_before_a_failure_is_made_visible_as_it_is_again() {
    let (kernel, engine, functions) = ready(40);
    kernel.set_fault(Some(Fault::Write(20)));
    engine.register(ops(), &Filter::ALL).unwrap_err();
    let events = kernel.take_events();
    let last_store = events.iter().rposition(|event| matches!(event, Event::Store(..))).unwrap();
    let line = Event::Invalidate(TextAddr::new(functions[0].get() & !63));
    let invalidated = events.iter().rposition(|event| *event == line).unwrap();
    let told = events.iter().rposition(|event| *event == Event::SynchronizeCpus).unwrap();
    assert!(last_store < invalidated && invalidated < told, "{events:?}");
}

#[test]
fn an_ops_whose_callsites_could_not_all_be_put_back_stays_registered() {
    let (kernel, engine, functions) = ready(16);
    let (first, second) = (ops(), ops());
    // The second page gets no alias, and on the way back the first one doesn't either.
    kernel.set_fault(Some(Fault::AliasesFrom(1)));
    let error = engine.register(first, &Filter::ALL).unwrap_err();
    assert!(error.leaves_changes(), "{error}");
    assert_eq!(engine.register(second, &Filter::ALL), Err(RegisterError::Busy));
    kernel.set_fault(None);
    assert_eq!(engine.survey().wrong, 0);
    let left = engine.survey().enabled;
    assert!(left > 0);
    assert_eq!(engine.unregister(first), Ok(left));
    assert_eq!(engine.survey().disabled, 16);
    assert_eq!(engine.register(second, &Filter::ALL), Ok(functions.len()));
}

#[test]
fn unregister_returns_only_when_nobody_is_inside_the_callback() {
    let (kernel, engine, _) = ready(4);
    let (first, second) = (ops(), ops());
    engine.register(first, &Filter::ALL).unwrap();
    kernel.take_events();
    kernel.set_fault(Some(Fault::Busy(2)));
    let busy = RegisterError::NotQuiescent(crate::platform::CpuTimeout { cpu: 2 });
    assert_eq!(engine.unregister(first), Err(busy));
    // The callsites are off, but the ops is what a CPU on its way will still find.
    assert_eq!(engine.survey().disabled, 4);
    assert_eq!(kernel.stubs().current.load(Ordering::Relaxed).cast_const(), core::ptr::from_ref(first));
    assert_eq!(engine.register(second, &Filter::ALL), Err(RegisterError::Busy));
    assert_eq!(engine.unregister(first), Ok(0));
    let events = kernel.take_events();
    let told = events.iter().position(|event| *event == Event::SynchronizeCpus).unwrap();
    let waited = events.iter().position(|event| *event == Event::Quiesce).unwrap();
    assert!(told < waited, "{events:?}");
    assert!(kernel.stubs().current.load(Ordering::Relaxed).is_null());
    assert_eq!(engine.register(second, &Filter::ALL), Ok(4));
}

#[test]
fn a_failed_init_leaves_text_as_it_was_and_can_be_tried_again() {
    for fault in [Fault::Write(9), Fault::Alias(1), Fault::Batch, Fault::Cpu(0)] {
        let mut text = FakeText::new(BASE);
        for (n, form) in FORMS.into_iter().cycle().take(16).enumerate() {
            text.skip_to(n * 512);
            text.function(&format!("f{n}"), form);
        }
        let (kernel, engine) = engine_on(text);
        let before = kernel.snapshot();
        kernel.set_fault(Some(fault));
        let error = init(kernel, &engine).unwrap_err();
        assert!(matches!(error, InitError::Text(_)), "{fault:?}: {error:?}");
        kernel.set_fault(None);
        if let InitError::Text(poke) = error
            && let PokeCause::Mismatch { expected, .. } = poke.cause
        {
            kernel.overwrite(poke.at, expected);
        }
        assert_eq!(kernel.snapshot(), before, "{fault:?}");
        assert_eq!(init(kernel, &engine).map(|report| report.census.accepted), Ok(16), "{fault:?}");
    }
}

#[test]
fn a_batch_costs_four_barriers_and_one_round_of_interrupts_whatever_its_size() {
    for count in [1, 10, 1000] {
        let (kernel, engine, _) = ready(count);
        engine.register(ops(), &Filter::ALL).unwrap();
        let events = kernel.take_events();
        let number = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
        assert_eq!(number(|event| matches!(event, Event::Store(..))), count);
        assert_eq!(number(|event| *event == Event::Complete), 3);
        assert_eq!(number(|event| *event == Event::Synchronize), 1);
        assert_eq!(number(|event| *event == Event::SynchronizeCpus), 1);
        // 512 bytes apart: eight functions a page, each in a line of its own.
        assert_eq!(number(|event| matches!(event, Event::Map(_))), count.div_ceil(8));
        assert_eq!(number(|event| matches!(event, Event::Clean(_))), count);
    }
}

#[test]
fn every_line_is_cleaned_completed_invalidated_completed_and_synchronised_in_this_order() {
    let (kernel, engine, functions) = ready(1);
    engine.register(ops(), &Filter::ALL).unwrap();
    let (call, page) = (functions[0].offset(4), functions[0]);
    let word = kernel.word(call);
    let line = TextAddr::new(call.get() & !63);
    assert_eq!(
        kernel.take_events(),
        [
            Event::Complete, // The ops, before any CPU can be on its way to it.
            Event::BeginBatch,
            Event::Mask,
            Event::Map(page),
            Event::Store(call, word),
            Event::Unmap(page),
            Event::Restore,
            Event::Clean(line),
            Event::Complete,
            Event::Invalidate(line),
            Event::Complete,
            Event::Synchronize,
            Event::SynchronizeCpus,
            Event::EndBatch,
        ]
    );
}
