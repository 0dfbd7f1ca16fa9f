//! Several ops: who excludes whom, direct trampolines, and what there is not room for.

use super::{BASE, callback, engine_on, init, ops, ready, stubs_left};
use crate::address::{TextAddr, TextRange};
use crate::callsite::{Layout, OutOfReach, State};
use crate::engine::{Engine, Image, RegisterError};
use crate::fakes::{COMPILED, Event, FakeKernel, FakeText, Fault};
use crate::filter::{Filter, Rule};
use crate::ops::{Ops, OpsFlags};
use crate::text::Undone;
use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

fn with_flags(flags: OpsFlags) -> &'static Ops {
    Box::leak(Box::new(Ops::new(callback).with_flags(flags)))
}

fn direct(trampoline: u64) -> &'static Ops {
    // SAFETY: nothing executes a fake's text.
    Box::leak(Box::new(unsafe { Ops::direct(TextAddr::new(trampoline)) }))
}

/// What is to be seen of an engine, but for what is in its room and not in use.
pub(super) fn all_of(kernel: &FakeKernel, engine: &Engine) -> (Vec<u32>, (usize, usize), usize) {
    (kernel.snapshot(), stubs_left(engine), engine.lock().members.iter().count())
}

#[test]
fn two_that_exclude_each_other_are_not_at_one_function_and_nothing_changes() {
    let (kernel, engine, functions) = ready(4);
    let trampoline = functions[0].get() + 0x10_0000;
    let exclusive = || [with_flags(OpsFlags::IPMODIFY), direct(trampoline)];
    let (f1, f2) = (Rule::name("f1"), Rule::name("f2"));
    for first in exclusive() {
        for second in exclusive() {
            engine.register(first, &Filter::new(&[f1])).unwrap();
            let before = all_of(kernel, &engine);
            let conflict = RegisterError::Conflict { function: functions[1], name: Some("f1") };
            assert_eq!(engine.register(second, &Filter::ALL), Err(conflict));
            assert_eq!(all_of(kernel, &engine), before);
            assert_eq!(engine.unregister(second), Err(RegisterError::NotRegistered));
            // At another function, and with ops that exclude nobody, it can be.
            engine.register(second, &Filter::new(&[f2])).unwrap();
            let before = all_of(kernel, &engine);
            assert_eq!(engine.set_filter(second, &Filter::new(&[f2, f1])), Err(conflict));
            assert_eq!(all_of(kernel, &engine), before);
            let ordinary = ops();
            assert_eq!(engine.register(ordinary, &Filter::ALL), Ok(4));
            for ops in [first, second, ordinary] {
                engine.unregister(ops).unwrap();
            }
        }
    }
    assert_eq!(stubs_left(&engine), (0, 0));
}

#[test]
fn callsites_with_the_same_ops_share_one_stub() {
    let (_, engine, _) = ready(40);
    let (first, second) = (ops(), ops());
    engine.register(first, &Filter::ALL).unwrap();
    engine.register(second, &Filter::new(&[Rule::parse("f1*").unwrap()])).unwrap();
    let mut targets = Vec::new();
    engine.for_each_callsite(|status| targets.push((status.name.unwrap().starts_with("f1"), status.state)));
    let of = |both: bool| {
        let mut of: Vec<_> = targets.iter().filter(|(with, _)| *with == both).map(|(_, state)| *state).collect();
        of.dedup();
        of
    };
    assert!(matches!((&of(true)[..], &of(false)[..]), ([Ok(State::Enabled(a))], [Ok(State::Enabled(b))]) if a != b));
    assert_eq!(stubs_left(&engine).0, 2);
}

#[test]
fn a_stub_is_made_for_a_set_that_callsites_have_and_not_for_one_in_between() {
    let (kernel, engine, _) = ready(4);
    let (first, second) = (ops(), ops());
    engine.register(first, &Filter::new(&[Rule::name("f0")])).unwrap();
    engine.register(second, &Filter::new(&[Rule::name("f0")])).unwrap();
    kernel.take_events();
    // `f0` has both before and after.
    engine.set_filter(first, &Filter::new(&[Rule::name("f0"), Rule::name("f1")])).unwrap();
    let batches =
        |kernel: &FakeKernel| kernel.take_events().iter().filter(|event| **event == Event::BeginBatch).count();
    assert_eq!((batches(kernel), stubs_left(&engine).0), (2, 2));
    engine.set_filter(first, &Filter::new(&[Rule::name("f0")])).unwrap();
    assert_eq!((batches(kernel), stubs_left(&engine).0), (1, 1));
}

#[test]
fn as_many_ops_as_there_are_numbers_and_no_more() {
    let (kernel, engine, _) = ready(2);
    let all: Vec<_> = (0..128).map(|_| ops()).collect();
    for ops in &all {
        engine.register(ops, &Filter::ALL).unwrap();
    }
    let before = all_of(kernel, &engine);
    assert_eq!(engine.register(ops(), &Filter::ALL), Err(RegisterError::TooManyOps { needed: 129 }));
    assert_eq!(all_of(kernel, &engine), before);
    engine.unregister(all[7]).unwrap();
    engine.register(ops(), &Filter::ALL).unwrap();
}

/// An engine on `count` functions, with so much room for stubs.
fn crowded(count: usize, room_bytes: usize) -> (&'static FakeKernel, Engine, Vec<TextAddr>) {
    let mut text = FakeText::new(BASE);
    let functions = (0..count).map(|number| text.function(&format!("f{number}"), COMPILED)).collect();
    text.stub_room(room_bytes);
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    (kernel, engine, functions)
}

#[test]
fn where_there_is_no_room_for_a_stub_nothing_changes() {
    let (kernel, engine, _) = crowded(2, 256);
    let (first, second) = (ops(), ops());
    engine.register(first, &Filter::new(&[Rule::name("f0")])).unwrap();
    let before = all_of(kernel, &engine);
    let full = RegisterError::NoRoom { room: kernel.stubs().room };
    assert_eq!(engine.register(second, &Filter::ALL), Err(full));
    assert_eq!(all_of(kernel, &engine), before);
    assert_eq!(engine.unregister(second), Err(RegisterError::NotRegistered));
    // Both functions may have the first one, since they share its stub.
    assert_eq!(engine.set_filter(first, &Filter::ALL), Ok(2));
    engine.unregister(first).unwrap();
    assert_eq!(engine.register(second, &Filter::ALL), Ok(2));
}

#[test]
fn as_many_sets_as_there_are_numbers_and_no_more() {
    // Each pair of 31 ops at one function: 465 sets. With 46 that have a function each, there are 511.
    let pairs: Vec<(usize, usize)> = (0..31).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
    let (kernel, engine, functions) = crowded(pairs.len() + 47, 256 << 10);
    for number in 0..31 {
        let with = pairs.iter().zip(&functions).filter(|((a, b), _)| *a == number || *b == number);
        let rules: Vec<_> = with.map(|(_, function)| Rule::address(*function)).collect();
        engine.register(ops(), &Filter::new(&rules)).unwrap();
    }
    let (one_more, alone) = functions[pairs.len()..].split_last().unwrap();
    for function in alone {
        engine.register(ops(), &Filter::new(&[Rule::address(*function)])).unwrap();
    }
    let before = all_of(kernel, &engine);
    assert_eq!(before.1.0, 511);
    let error = engine.register(ops(), &Filter::new(&[Rule::address(*one_more)]));
    assert_eq!(error, Err(RegisterError::TooManySets { needed: 513 }));
    assert_eq!(all_of(kernel, &engine), before);
}

#[test]
fn a_direct_trampoline_is_called_by_the_callsite_itself_and_can_be_changed() {
    let (kernel, engine, functions) = ready(4);
    let old = functions[0].offset(0x10_0000);
    let new = functions[0].offset(0x20_0000);
    let ops = direct(old.get());
    let called = || {
        let mut called = Vec::new();
        engine.for_each_callsite(|status| called.push(status.state));
        called
    };
    engine.register(ops, &Filter::ALL).unwrap();
    assert_eq!(called(), [Ok(State::Enabled(old)); 4]);
    // SAFETY: nothing executes a fake's text.
    let modify = |ops, trampoline| unsafe { engine.modify_direct(ops, trampoline) };
    assert_eq!(modify(ops, new), Ok(()));
    assert_eq!(called(), [Ok(State::Enabled(new)); 4]);
    let other = super::ops();
    assert_eq!(modify(other, old), Err(RegisterError::NotRegistered));
    engine.register(other, &Filter::ALL).unwrap();
    assert_eq!(modify(other, old), Err(RegisterError::NotDirect));
    let before = all_of(kernel, &engine);
    for fault in [Fault::Write(1), Fault::Alias(1), Fault::Batch, Fault::Round(0), Fault::Round(1)] {
        kernel.set_fault(Some(fault));
        assert!(matches!(modify(ops, old), Err(RegisterError::Text { .. })), "{fault:?}");
        kernel.repair();
        assert_eq!(all_of(kernel, &engine), before, "{fault:?}");
    }
}

#[test]
fn what_is_permanent_stays() {
    let (_, engine, _) = ready(4);
    let ops = with_flags(OpsFlags::PERMANENT);
    engine.register(ops, &Filter::ALL).unwrap();
    assert_eq!(engine.unregister(ops), Err(RegisterError::Permanent));
    assert_eq!(engine.check_text().enabled, 4);
}

#[test]
fn a_filter_that_can_not_be_set_leaves_the_old_one_in_force() {
    let (kernel, engine, _) = ready(16);
    let ops = ops();
    engine.register(ops, &Filter::new(&[Rule::parse("f1*").unwrap()])).unwrap();
    let before = all_of(kernel, &engine);
    let nothing = [Rule::name("nosuch")];
    assert_eq!(engine.set_filter(ops, &Filter::new(&nothing)), Err(RegisterError::NothingSelected { rule: 0 }));
    let none = [Rule::name("f2").negated(), Rule::name("f2")];
    assert_eq!(engine.set_filter(ops, &Filter::new(&none)), Err(RegisterError::EmptySelection));
    assert_eq!(all_of(kernel, &engine), before);
    for fault in [Fault::Write(5), Fault::Alias(1), Fault::Batch, Fault::Round(0)] {
        kernel.set_fault(Some(fault));
        assert!(matches!(engine.set_filter(ops, &Filter::ALL), Err(RegisterError::Text { .. })), "{fault:?}");
        kernel.repair();
        assert_eq!(all_of(kernel, &engine), before, "{fault:?}");
    }
    let names: Vec<String> = (0..16).step_by(2).map(|number| format!("f{number}")).collect();
    let rules: Vec<_> = names.iter().map(|name| Rule::name(name)).collect();
    kernel.take_events();
    assert_eq!(engine.set_filter(ops, &Filter::new(&rules)), Ok(8));
    // f1, f11, f13 and f15 go; f10, f12 and f14 stay; five come. Each is stored twice.
    let stores = kernel.take_events().iter().filter(|event| matches!(event, Event::Store(..))).count();
    assert_eq!((stores, engine.check_text().enabled), (2 * 9, 8));
}
#[test]
fn a_direct_trampoline_that_changes_where_execution_goes_on_does_not_exclude_itself() {
    let (_, engine, functions) = ready(1);
    // SAFETY: nothing executes a fake's text.
    let ops = unsafe { Ops::direct(functions[0].offset(0x1000)) }.with_flags(OpsFlags::IPMODIFY);
    assert_eq!(engine.register(Box::leak(Box::new(ops)), &Filter::ALL), Ok(1));
}
#[test]
fn an_ops_that_was_refused_is_not_registered_even_while_a_cpu_is_busy() {
    let (kernel, engine, _) = ready(2);
    let (first, second, third) = (ops(), ops(), ops());
    engine.register(first, &Filter::ALL).unwrap();
    // The first one's stub is still to be waited for.
    kernel.set_fault(Some(Fault::Busy(1)));
    engine.register(second, &Filter::ALL).unwrap();
    kernel.set_fault(Some(Fault::Busy(1)));
    let nothing = engine.register(third, &Filter::new(&[Rule::name("nosuch")]));
    assert_eq!(nothing, Err(RegisterError::NothingSelected { rule: 0 }));
    assert_eq!(engine.unregister(third), Err(RegisterError::NotRegistered));
}
/// Functions at the end of BL's reach, from where the second stub can be called and the first can't.
#[test]
fn a_callsite_between_others_that_does_not_reach_its_stub_is_refused() {
    let mut text = FakeText::new(BASE);
    text.function("near", COMPILED);
    let room = BASE + 0x1000;
    let mut far = FakeText::new(room + (128 << 20));
    far.skip_to(0x90);
    let functions = ["a", "b", "c"].map(|name| far.function(name, COMPILED));
    text.module(far);
    let (kernel, engine) = engine_on(text);
    assert_eq!(kernel.stubs().room.start.get(), room);
    let entries = functions.iter().map(|function| function.get()).chain([BASE]).collect::<Vec<_>>();
    let section = Box::leak(entries.into_boxed_slice());
    let all = TextRange::new(TextAddr::new(BASE), functions[2].offset(12));
    // SAFETY: the section was leaked for this image.
    let image = unsafe { Image::new(all, section.as_mut_ptr(), 32, kernel.stubs()) }.with_layout(Layout::Plain);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(image) }.unwrap();

    let (low, high) = (ops(), ops());
    let addresses = |functions: &[TextAddr]| functions.iter().map(|at| Rule::address(*at)).collect::<Vec<_>>();
    engine.register(low, &Filter::new(&addresses(&[TextAddr::new(BASE)]))).unwrap();
    engine.register(high, &Filter::new(&addresses(&[functions[0], functions[2]]))).unwrap();
    let before = all_of(kernel, &engine);
    // The first and the last come to have both, and reach that stub; the one between has only the low one.
    let error = engine.set_filter(low, &Filter::new(&addresses(&functions))).unwrap_err();
    let call = functions[1].offset(4);
    assert!(matches!(error, RegisterError::OutOfReach(OutOfReach { callsite, .. }) if callsite == call), "{error:?}");
    assert_eq!(kernel.snapshot(), before.0);
    assert_eq!(engine.check_text().wrong, 0);
}
#[test]
fn a_trampoline_that_was_changed_in_part_is_taken_away_whole() {
    let (kernel, engine, functions) = ready(16);
    let ops = direct(functions[0].get() + 0x10_0000);
    engine.register(ops, &Filter::ALL).unwrap();
    // The stub is written, twice, and the first page; the second gets no alias, and then the first doesn't either.
    kernel.set_fault(Some(Fault::AliasesFrom(3)));
    // SAFETY: nothing executes a fake's text.
    let error = unsafe { engine.modify_direct(ops, functions[0].offset(0x20_0000)) }.unwrap_err();
    assert!(matches!(error, RegisterError::Text { error, .. } if error.undone == Undone::AllBut(8)), "{error:?}");
    kernel.set_fault(None);
    assert_eq!((engine.check_text().enabled, engine.check_text().wrong), (16, 0));
    assert_eq!(engine.unregister(ops), Ok(16));
    assert_eq!(engine.check_text().disabled, 16);
    assert_eq!(stubs_left(&engine), (0, 0));
    assert_eq!(engine.unregister(ops), Err(RegisterError::NotRegistered));
}

#[test]
fn every_callsite_tells_its_ops_and_the_engine_what_it_did() {
    let (_, engine, _) = ready(3);
    let (first, second) = (ops(), ops());
    engine.register(first, &Filter::ALL).unwrap();
    engine.register(second, &Filter::new(&[Rule::name("f1")])).unwrap();
    let mut seen = Vec::new();
    engine.for_each_callsite(|status| seen.push(status.ops().map(core::ptr::from_ref).collect::<Vec<_>>()));
    let [first_at, second_at] = [first, second].map(core::ptr::from_ref);
    assert_eq!(seen, [vec![first_at], vec![first_at, second_at], vec![first_at]]);
    let mut callsites = Vec::new();
    engine.for_each_ops(|status| callsites.push((core::ptr::from_ref(status.ops), status.callsites)));
    assert_eq!(callsites, [(first_at, 3), (second_at, 1)]);
    let statistics = engine.statistics();
    assert_eq!((statistics.regions, statistics.callsites, statistics.ops, statistics.sets), (1, 3, 2, 2));
    assert_eq!((statistics.batches, statistics.changes, statistics.failures), (2, 4, 0));
    assert!(statistics.stub_bytes > 0);
}
