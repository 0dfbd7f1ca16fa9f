//! Callsites whose text somebody else has written, and text that is given back.

use super::{BASE, callback, engine_on, init, load, ops, ready, stubs_left};
use crate::address::{TextAddr, TextRange};
use crate::callsite::{BTI_C, MOV_X9_LR, NOP};
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, Event, FakeKernel, FakeText, Fault};
use crate::filter::{Filter, Rule};
use crate::module::regions::Regions as _;
use crate::ops::{Ops, OpsFlags};
use crate::text::{PokeCause, Undone};
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// A debugger's breakpoint.
const BRK: u32 = 0xd420_0000;

/// The second instruction of a function's callsite.
fn call_of(kernel: &FakeKernel, function: TextAddr) -> TextAddr {
    function.offset(if kernel.word(function) == BTI_C { 8 } else { 4 })
}

fn quarantined(engine: &Engine) -> Vec<String> {
    let mut names = Vec::new();
    engine.for_each_callsite(|status| names.extend(status.is_quarantined.then(|| status.name.unwrap().to_string())));
    names
}

#[test]
fn a_callsite_that_somebody_else_changed_is_no_obstacle_to_the_others() {
    let (kernel, engine, functions) = ready(8);
    let victim = call_of(kernel, functions[5]);
    kernel.overwrite(victim, BRK);
    let [first, second] = [ops(), ops()];
    assert_eq!(engine.register(first, &Filter::ALL), Ok(7));
    assert_eq!(quarantined(&engine), ["f5"]);
    assert_eq!(kernel.word(victim), BRK);
    let check = engine.check_text();
    assert_eq!((check.enabled, check.disabled, check.wrong, check.quarantined), (7, 0, 0, 1));
    assert_eq!((engine.statistics().quarantined, engine.look_again()), (1, 0));
    assert_eq!(engine.register(second, &Filter::new(&[Rule::glob("f*").unwrap()])), Ok(7));
    let by_name = [Rule::name("f5")];
    assert_eq!(engine.register(ops(), &Filter::new(&by_name)), Err(RegisterError::NothingSelected { rule: 0 }));
    // The breakpoint is gone.
    kernel.overwrite(victim, NOP);
    assert_eq!((engine.look_again(), engine.statistics().quarantined, engine.look_again()), (1, 0, 0));
    engine.for_each_callsite(|status| assert_eq!(status.is_touched, status.name != Some("f5")));
    assert_eq!(engine.set_filter(second, &Filter::ALL), Ok(8));
    assert_eq!([engine.unregister(first), engine.unregister(second)], [Ok(7), Ok(8)]);
    assert_eq!((engine.check_text().disabled, stubs_left(&engine)), (8, (0, 0)));
}

#[test]
fn a_module_that_goes_leaves_nothing_of_a_callsite_that_somebody_else_changed() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let mut module = FakeText::new(BASE + (1 << 30));
    let m = module.function("m", COMPILED);
    text.module(module);
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    let token = load(kernel, &engine, 0).unwrap();
    let ops = ops();
    engine.register(ops, &Filter::ALL).unwrap();
    kernel.overwrite(m.offset(4), BRK);
    engine.remove(token).unwrap();
    assert_eq!((engine.statistics().quarantined, engine.unregister(ops)), (0, Ok(1)));
    assert_eq!(stubs_left(&engine), (0, 0));
}

#[test]
fn one_that_was_asked_for_alone_is_reported_with_what_is_there() {
    let (kernel, engine, functions) = ready(8);
    let victim = call_of(kernel, functions[5]);
    kernel.overwrite(victim, BRK);
    let before = kernel.snapshot();
    for _ in 0..2 {
        let error = engine.register(ops(), &Filter::new(&[Rule::name("f5")])).unwrap_err();
        let RegisterError::Text { error, function } = error else { panic!("{error:?}") };
        assert_eq!(error.at, victim);
        assert_eq!(error.cause, PokeCause::Mismatch { expected: NOP, found: BRK });
        assert_eq!((error.undone, function), (Undone::Entirely, Some("f5")));
        assert_eq!(kernel.snapshot(), before);
        assert_eq!((engine.check_text().wrong, engine.statistics().quarantined), (1, 0));
        assert!(!kernel.take_live_events().iter().any(|event| matches!(event, Event::Store(at, _) if *at == victim)));
    }
    kernel.overwrite(victim, NOP);
    assert_eq!(engine.register(ops(), &Filter::ALL), Ok(8));
    let statistics = engine.statistics();
    assert_eq!((statistics.batches, statistics.changes, statistics.failures), (1, 8, 2));
    // A call of something else is as wrong as no callsite.
    kernel.overwrite(victim, 0x9400_0001);
    assert_eq!((engine.check_text().enabled, engine.check_text().wrong), (7, 1));
}

#[test]
fn an_ops_goes_from_callsites_that_somebody_else_changed_when_nobody_can_call_it_there() {
    for damaged in [&[2][..], &[2, 3], &[0, 7], &[0, 1, 2, 3, 4, 5, 6, 7]] {
        for back in [false, true] {
            let (kernel, engine, functions) = ready(8);
            let ops = ops();
            engine.register(ops, &Filter::ALL).unwrap();
            let calls: Vec<_> = damaged.iter().map(|number| call_of(kernel, functions[*number])).collect();
            let bls: Vec<u32> = calls.iter().map(|call| kernel.word(*call)).collect();
            calls.iter().for_each(|call| kernel.overwrite(*call, BRK));
            let left = Err(RegisterError::Quarantined { callsites: damaged.len() });
            assert_eq!([engine.unregister(ops), engine.unregister(ops)], [left; 2], "{damaged:?}");
            let check = engine.check_text();
            assert_eq!((check.disabled, check.wrong, check.quarantined), (8 - damaged.len(), 0, damaged.len()));
            // Its stub is there, should somebody put a call of it back.
            assert_eq!(stubs_left(&engine).0, 1);
            let other = super::ops();
            assert_eq!(engine.register(other, &Filter::ALL).unwrap_or(0), 8 - damaged.len(), "{damaged:?}");
            assert!(calls.iter().all(|call| kernel.word(*call) == BRK));
            match back {
                true => calls.iter().zip(&bls).for_each(|(call, bl)| kernel.overwrite(*call, *bl)),
                false => calls.iter().for_each(|call| kernel.overwrite(*call, NOP)),
            }
            assert_eq!(engine.look_again(), damaged.len());
            assert_eq!(engine.check_text().enabled, if back { 8 } else { 8 - damaged.len() }, "{damaged:?}");
            assert_eq!(engine.unregister(ops), Ok(if back { damaged.len() } else { 0 }), "{damaged:?}");
            assert_eq!(engine.unregister(other).unwrap_or(0), 8 - damaged.len());
            assert_eq!((engine.check_text().disabled, stubs_left(&engine)), (8, (0, 0)), "{damaged:?}");
        }
    }
}

#[test]
fn a_callsite_whose_first_instruction_is_another_s_is_left_alone() {
    for second_is_ours in [false, true] {
        let (kernel, engine, functions) = ready(4);
        let [ops, other] = [ops(), ops()];
        let call = call_of(kernel, functions[2]);
        if second_is_ours {
            engine.register(ops, &Filter::ALL).unwrap();
        }
        let word = kernel.word(call);
        kernel.overwrite(call.offset(-4), BRK);
        assert!(engine.register(other, &Filter::new(&[Rule::name("f2")])).is_err());
        assert_eq!(engine.register(other, &Filter::ALL), Ok(3));
        assert_eq!((kernel.word(call), quarantined(&engine)), (word, ["f2".to_string()].to_vec()));
        let gone = engine.unregister(ops);
        match second_is_ours {
            // It calls the ops as ever.
            true => assert_eq!(gone, Err(RegisterError::Quarantined { callsites: 1 })),
            false => assert_eq!(gone, Err(RegisterError::NotRegistered)),
        }
        kernel.overwrite(call.offset(-4), MOV_X9_LR);
        assert_eq!((engine.look_again(), engine.unregister(other)), (1, Ok(3)));
        assert_eq!(engine.unregister(ops).is_ok(), second_is_ours);
        assert_eq!((engine.check_text().disabled, stubs_left(&engine)), (4, (0, 0)));
    }
}

/// Whether it is an error depends on what the ops would have, and not on what changes.
#[test]
fn a_filter_is_refused_only_where_the_ops_would_have_nothing() {
    let (kernel, engine, functions) = ready(8);
    let [first, second] = [ops(), ops()];
    assert_eq!(engine.register(first, &Filter::new(&[Rule::name("f5").negated()])), Ok(7));
    kernel.overwrite(call_of(kernel, functions[5]), BRK);
    // All that changes is the one.
    assert_eq!(engine.set_filter(first, &Filter::ALL), Ok(7));
    assert_eq!(quarantined(&engine), ["f5"]);
    kernel.overwrite(call_of(kernel, functions[5]), NOP);
    assert_eq!((engine.look_again(), engine.set_filter(first, &Filter::ALL)), (1, Ok(8)));
    // It has another ops, and should have a second one.
    kernel.overwrite(call_of(kernel, functions[5]), BRK);
    let only = engine.register(second, &Filter::new(&[Rule::name("f5")]));
    assert!(matches!(only, Err(RegisterError::Text { .. })), "{only:?}");
    assert_eq!((engine.statistics().quarantined, engine.statistics().ops), (0, 1));
}

#[test]
fn what_is_changed_while_a_batch_is_written_is_an_error_and_found_the_next_time() {
    let (kernel, engine, _) = ready(16);
    kernel.set_fault(Some(Fault::Write(9)));
    let error = engine.register(ops(), &Filter::ALL).unwrap_err();
    assert!(matches!(error, RegisterError::Text { .. }), "{error:?}");
    kernel.set_fault(None);
    assert_eq!((engine.statistics().quarantined, engine.register(ops(), &Filter::ALL)), (0, Ok(15)));
    assert_eq!(engine.statistics().quarantined, 1);
}

#[test]
fn a_direct_trampoline_is_not_called_by_a_callsite_that_is_left_alone() {
    let (kernel, engine, functions) = ready(4);
    let trampoline = kernel.stubs().room.start.offset(0x1000);
    // SAFETY: nothing executes a fake's text.
    let direct: &Ops = Box::leak(Box::new(unsafe { Ops::direct(trampoline) }));
    let modify: &Ops = Box::leak(Box::new(Ops::new(callback).with_flags(OpsFlags::IPMODIFY)));
    engine.register(direct, &Filter::ALL).unwrap();
    kernel.overwrite(call_of(kernel, functions[1]), BRK);
    // SAFETY: as above.
    let modified = unsafe { engine.modify_direct(direct, trampoline.offset(64)) };
    // The old one may be called yet.
    assert_eq!(modified, Err(RegisterError::Quarantined { callsites: 1 }));
    assert_eq!((quarantined(&engine), engine.statistics().quarantined), (["f1".to_string()].to_vec(), 1));
    assert_eq!(engine.unregister(direct), Err(RegisterError::Quarantined { callsites: 1 }));
    kernel.overwrite(call_of(kernel, functions[1]), NOP);
    assert_eq!((engine.look_again(), engine.unregister(direct)), (1, Ok(0)));
    assert_eq!((engine.register(modify, &Filter::ALL), engine.unregister(modify)), (Ok(4), Ok(4)));
    assert_eq!(stubs_left(&engine), (0, 0));
}

#[test]
fn text_that_is_given_back_needs_no_look() {
    let (kernel, engine, functions) = ready(8);
    let ops = ops();
    engine.register(ops, &Filter::ALL).unwrap();
    kernel.overwrite(call_of(kernel, functions[3]), BRK);
    assert_eq!(engine.unregister(ops), Err(RegisterError::Quarantined { callsites: 1 }));
    let range = TextRange::new(functions[3], functions[3].offset(16));
    assert_eq!((engine.forget(range), engine.statistics().quarantined), (Ok(1), 0));
    assert_eq!((engine.unregister(ops), stubs_left(&engine)), (Ok(0), (0, 0)));
}

#[test]
fn text_that_is_given_back_is_neither_read_nor_written() {
    let mut text = FakeText::new(BASE);
    let names = |from: usize| (from..from + 8).map(|n| format!("f{n}"));
    for name in names(0) {
        text.function(&name, super::FORMS[name.len() % 4]);
    }
    text.skip_to(4096);
    let init_text = text.words(&[]);
    let ours: Vec<TextAddr> = names(8).enumerate().map(|(n, name)| text.function(&name, super::FORMS[n % 4])).collect();
    let broken = text.words(&[1, 2]);
    text.entry(broken.get());
    text.skip_to(8192);
    let end = text.words(&[]);
    for name in names(16) {
        text.function(&name, COMPILED);
    }
    let (kernel, engine) = engine_on(text);
    let counts = init(kernel, &engine).unwrap().counts;
    assert_eq!((counts.accepted, counts.refused), (24, 1));
    let [all, some] = [ops(), ops()];
    assert_eq!(engine.register(all, &Filter::ALL), Ok(24));
    assert_eq!(engine.register(some, &Filter::new(&[Rule::name("f8"), Rule::name("f0")])), Ok(2));

    kernel.set_fault(Some(Fault::Busy(0)));
    let range = TextRange::new(init_text, end);
    assert!(matches!(engine.forget(range), Err(RegisterError::NotQuiescent(_))));
    kernel.set_fault(None);
    assert_eq!(engine.forget(range), Ok(8));
    for function in &ours {
        assert_eq!(kernel.word(call_of(kernel, *function)), NOP);
    }
    // It is somebody else's now.
    (init_text.get()..end.get()).step_by(4).for_each(|at| kernel.overwrite(TextAddr::new(at), 0x1234));
    let mut refused = 0;
    engine.for_each_refusal(|_| refused += 1);
    assert_eq!(
        (refused, engine.statistics().callsites, engine.check_text().enabled, engine.check_text().wrong),
        (0, 16, 16, 0)
    );
    assert_eq!(engine.register(ops(), &Filter::ALL), Ok(16));
    let gone = [Rule::name("f8")];
    assert_eq!(engine.register(ops(), &Filter::new(&gone)), Err(RegisterError::NothingSelected { rule: 0 }));
    assert_eq!([engine.unregister(all), engine.unregister(some)], [Ok(16), Ok(1)]);
    assert_eq!(engine.statistics().quarantined, 0);
    assert!((init_text.get()..end.get()).step_by(4).all(|at| kernel.word(TextAddr::new(at)) == 0x1234));
    assert_eq!(engine.forget(range), Ok(0));
}

#[test]
fn a_callsite_that_is_given_back_in_part_is_given_back() {
    for (from, to, left) in [(0, 4, 2), (8, 12, 2), (4, 8, 2), (-4, 0, 3), (12, 16, 3), (11, 13, 2)] {
        let mut text = FakeText::new(BASE);
        text.function("before", COMPILED);
        text.words(&[0; 9]);
        let function = text.function("f", super::PADDED);
        text.words(&[0; 8]);
        text.function("behind", COMPILED);
        let (kernel, engine) = engine_on(text);
        init(kernel, &engine).unwrap();
        let range = TextRange::new(function.offset(from), function.offset(to));
        assert_eq!(engine.forget(range), Ok(3 - left), "{from}..{to}");
        assert_eq!(engine.register(ops(), &Filter::ALL), Ok(left), "{from}..{to}");
    }
}

#[test]
fn a_module_may_come_to_stand_in_the_end_of_the_image_that_was_given_back() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    text.skip_to(4096);
    let init_text = text.function("init", COMPILED);
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    let mut other = FakeText::new(BASE);
    let mut module = FakeText::new(init_text.get());
    module.function("m", COMPILED);
    other.module(module);
    let other = other.build();
    // The other kernel's memory stands for what is there then.
    let overlaps = load(other, &engine, 0).unwrap_err();
    assert!(overlaps.to_string().contains("overlaps"), "{overlaps}");
    assert_eq!(engine.forget(TextRange::new(init_text, init_text.offset(8192))), Ok(1));
    assert_eq!((engine.statistics().callsites, engine.check_text().disabled), (1, 1));
    let overlaps = load(other, &engine, 0).map(drop).err().map(|error| error.to_string());
    assert!(overlaps.is_none_or(|error| !error.contains("overlaps")));
}

#[test]
fn what_one_text_gives_back_is_nothing_to_another() {
    let mut text = FakeText::new(BASE);
    let functions = ["a", "b", "c"].map(|name| text.function(name, COMPILED));
    let mut module = FakeText::new(BASE + (1 << 30));
    let of_module = ["m", "n", "o"].map(|name| module.function(name, COMPILED));
    text.module(module);
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    let token = load(kernel, &engine, 0).unwrap();
    for second in [functions[1], of_module[1]] {
        assert_eq!(engine.forget(TextRange::new(second, second.offset(8))), Ok(1));
    }
    let is_there = |[first, second, third]: [TextAddr; 3]| {
        let there = [first, second, second.offset(4), second.offset(8), third].map(|at| engine.text_word(at).is_some());
        assert_eq!(there, [true, false, false, true, true], "{second}");
    };
    is_there(functions);
    is_there(of_module);
    // What comes to stand where the module stood is all there.
    engine.remove(token).unwrap();
    load(kernel, &engine, 0).unwrap();
    assert!(of_module.iter().all(|function| engine.text_word(*function).is_some()));
}

#[test]
fn before_init_there_is_nothing_to_give_back_or_look_at() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let (_, engine) = engine_on(text);
    let all = TextRange::new(TextAddr::new(0), TextAddr::new(!3));
    assert_eq!((engine.forget(all), engine.look_again()), (Err(RegisterError::NotInitialised), 0));
}

#[test]
fn all_of_the_text_can_be_given_back() {
    let (kernel, engine, _) = ready(8);
    let ops = ops();
    engine.register(ops, &Filter::ALL).unwrap();
    let all = TextRange::new(TextAddr::new(0), TextAddr::new(!3));
    assert_eq!((engine.forget(all), engine.statistics().callsites), (Ok(8), 0));
    assert_eq!((engine.unregister(ops), stubs_left(&engine)), (Ok(0), (0, 0)));
    assert!(kernel.snapshot().contains(&MOV_X9_LR));
}
