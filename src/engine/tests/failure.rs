//! Whatever goes wrong, nothing stays changed, or the ops stays registered.

use super::{BASE, engine_on, ops, ready, stubs_left};
use crate::address::TextAddr;
use crate::callsite::{Layout, NOP, OutOfReach};
use crate::engine::{Image, RegisterError};
use crate::fakes::{COMPILED, Event, FakeText, Fault};
use crate::filter::Filter;
use crate::text::{PokeCause, Undone};
use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

/// An image whose callsites are farther from its stubs than BL reaches.
#[test]
fn a_stub_out_of_reach_is_an_error_and_nothing_is_written() {
    let mut far = FakeText::new(BASE + (256 << 20));
    far.function("far", COMPILED);
    let mut text = FakeText::new(BASE);
    text.module(far);
    let (kernel, engine) = engine_on(text);
    let far = kernel.module(0);
    let section = Box::leak(far.entries.into_boxed_slice());
    // SAFETY: the section was leaked for this image.
    let image = unsafe { Image::new(far.text, section.as_mut_ptr(), 8, kernel.stubs()) }.with_layout(Layout::Plain);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(image) }.unwrap();
    let before = kernel.snapshot();
    let error = engine.register(ops(), &Filter::ALL).unwrap_err();
    assert!(matches!(error, RegisterError::OutOfReach(OutOfReach { .. })), "{error:?}");
    assert!(error.to_string().contains("0x"), "{error}");
    assert_eq!(kernel.snapshot(), before);
}

#[test]
fn a_stub_that_reaches_nothing_is_an_error_and_nothing_is_written() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    text.module(FakeText::new(BASE + (256 << 20)));
    let (kernel, engine) = engine_on(text);
    let mut stubs = kernel.stubs();
    stubs.room = kernel.module(0).veneers;
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(Image { stubs, ..kernel.image() }) }.unwrap();
    let before = kernel.snapshot();
    let error = engine.register(ops(), &Filter::ALL).unwrap_err();
    assert!(matches!(error, RegisterError::Stub(_)), "{error:?}");
    assert_eq!(kernel.snapshot(), before);
}

#[test]
fn whichever_write_fails_nothing_stays_changed() {
    let (kernel, engine, _) = ready(40);
    let before = kernel.snapshot();
    let ops = ops();
    // The first of each is for the stub, and the second alias too. Five pages are written, twice. Miri takes thousands of
    // times as long.
    let (writes, aliases) = if cfg!(miri) { (40, 11) } else { (1, 1) };
    let (writes, aliases) = ((0..=40).step_by(writes), (0..12).step_by(aliases));
    let faults = writes.map(Fault::Write).chain(aliases.map(Fault::Alias)).chain((0..2).map(Fault::Round));
    for fault in faults.chain([Fault::Batch]) {
        kernel.set_fault(Some(fault));
        let error = engine.register(ops, &Filter::ALL).unwrap_err();
        let RegisterError::Text { error: poke, .. } = error else { panic!("{fault:?}: {error:?}") };
        assert_eq!(poke.undone, Undone::Entirely, "{fault:?}");
        kernel.set_fault(None);
        if let (Fault::Write(_), PokeCause::Mismatch { expected, .. }) = (fault, poke.cause) {
            kernel.overwrite(poke.at, expected); // The fault's own doing.
        }
        assert_eq!(kernel.snapshot(), before, "{fault:?}");
        assert_eq!(engine.check_text().disabled, 40, "{fault:?}");
        assert_eq!(engine.unregister(ops), Err(RegisterError::NotRegistered), "{fault:?}");
        assert_eq!(stubs_left(&engine), (0, 0), "{fault:?}");
    }
    assert_eq!(engine.register(ops, &Filter::ALL), Ok(40));
}

#[test]
fn what_was_written_before_a_failure_is_made_visible_as_it_is_again() {
    let (kernel, engine, functions) = ready(40);
    kernel.set_fault(Some(Fault::Write(20)));
    engine.register(ops(), &Filter::ALL).unwrap_err();
    let events = kernel.take_live_events();
    let line = Event::Invalidate(TextAddr::new(functions[0].get() & !63));
    let invalidated = events.iter().rposition(|event| *event == line).unwrap();
    let told = events.iter().rposition(|event| *event == Event::SynchronizeCpus).unwrap();
    let stores = |events: &[Event]| {
        let stores = events.iter().filter(|event| matches!(event, Event::Store(..)));
        stores.copied().collect::<Vec<_>>()
    };
    assert!(invalidated < told, "{events:?}");
    assert_eq!(stores(&events[invalidated..told]), []);
    // Those that were written back are stored again, and no others.
    let (before, again) = (stores(&events[..told]), stores(&events[told..]));
    assert_eq!(before.len(), 2 * again.len());
    assert_eq!(before[again.len()..], again);
}

#[test]
fn a_batch_that_can_not_be_stored_again_is_undone_and_stored_again_as_it_was() {
    let (kernel, engine, functions) = ready(16);
    let before = kernel.snapshot();
    // The stub takes two aliases, the first store of the two pages two more.
    for fault in [Fault::Alias(4), Fault::Alias(5)] {
        kernel.take_events();
        kernel.set_fault(Some(fault));
        let error = engine.register(ops(), &Filter::ALL).unwrap_err();
        let RegisterError::Text { error, .. } = error else { panic!("{error:?}") };
        assert!(matches!(error.cause, PokeCause::Alias(_)) && error.undone == Undone::Entirely, "{error}");
        assert_eq!((kernel.snapshot() == before, engine.check_text().disabled), (true, 16));
        let events = kernel.take_live_events();
        let nops = events.iter().filter(|event| matches!(event, Event::Store(_, NOP))).count();
        assert_eq!(nops, 2 * functions.len(), "{fault:?}");
    }
}

#[test]
fn an_ops_whose_callsites_could_not_all_be_put_back_stays_registered() {
    let (kernel, engine, functions) = ready(16);
    let (first, second) = (ops(), ops());
    // The stub is written, twice, and the first page; the second page gets no alias, and on the way back the first one
    // doesn't either.
    kernel.set_fault(Some(Fault::AliasesFrom(3)));
    let error = engine.register(first, &Filter::ALL).unwrap_err();
    assert!(matches!(error, RegisterError::Text { error, .. } if error.undone == Undone::AllBut(8)), "{error}");
    kernel.set_fault(None);
    assert_eq!((engine.check_text().enabled, engine.check_text().wrong), (8, 0));
    assert_eq!(engine.register(first, &Filter::ALL), Err(RegisterError::AlreadyRegistered));
    assert_eq!(engine.register(second, &Filter::ALL), Ok(functions.len()));
    assert_eq!(engine.unregister(first), Ok(8));
    assert_eq!(engine.unregister(second), Ok(16));
    assert_eq!(engine.check_text().disabled, 16);
    assert_eq!(stubs_left(&engine), (0, 0));
}

#[test]
fn an_ops_that_could_not_be_brought_back_wholly_is_unregistered_wholly() {
    let (kernel, engine, _) = ready(16);
    let ops = ops();
    engine.register(ops, &Filter::ALL).unwrap();
    kernel.set_fault(Some(Fault::Busy(1)));
    assert!(matches!(engine.unregister(ops), Err(RegisterError::NotQuiescent(_))));
    // Some of its callsites get it again, the others don't, and those can't be put back.
    kernel.set_fault(Some(Fault::AliasesFrom(1)));
    assert!(matches!(engine.set_filter(ops, &Filter::ALL), Err(RegisterError::Text { .. })));
    kernel.set_fault(None);
    assert_ne!(engine.check_text().enabled, 0, "the fault is no such fault");
    assert_ne!(engine.unregister(ops), Ok(0));
    assert_eq!((engine.check_text().enabled, engine.check_text().wrong), (0, 0));
    assert_eq!(stubs_left(&engine), (0, 0));
}
