//! In which order text is changed, and at what cost.

use super::{first_stub, ops, ready, stubs_left};
use crate::address::TextAddr;
use crate::engine::RegisterError;
use crate::fakes::{Event, Fault};
use crate::filter::Filter;
use crate::platform::CpuTimeout;
use std::vec::Vec;

#[test]
fn unregister_returns_only_when_nobody_is_inside_the_callback() {
    let (kernel, engine, _) = ready(4);
    let (first, second) = (ops(), ops());
    engine.register(first, &Filter::ALL).unwrap();
    kernel.take_events();
    kernel.set_fault(Some(Fault::Busy(2)));
    assert_eq!(engine.unregister(first), Err(RegisterError::NotQuiescent(CpuTimeout { cpu: 2 })));
    // The callsites are off, but a CPU may be on its way through the stub.
    assert_eq!(engine.check_text().disabled, 4);
    assert_ne!(stubs_left(&engine), (0, 0));
    assert_eq!(engine.unregister(first), Ok(0));
    let events = kernel.take_events();
    let told = events.iter().position(|event| *event == Event::SynchronizeCpus).unwrap();
    let waited = events.iter().position(|event| *event == Event::Quiesce).unwrap();
    assert!(told < waited, "{events:?}");
    assert_eq!(stubs_left(&engine), (0, 0));
    assert_eq!(engine.register(second, &Filter::ALL), Ok(4));
}

#[test]
fn a_stub_is_written_over_only_when_nobody_can_be_inside() {
    let (kernel, engine, _) = ready(4);
    let (first, second) = (ops(), ops());
    let stub = kernel.stubs().room.start;
    let written = |event: &Event| matches!(event, Event::Store(at, _) if *at == stub);
    engine.register(first, &Filter::ALL).unwrap();
    kernel.set_fault(Some(Fault::Busy(2)));
    engine.unregister(first).unwrap_err();
    kernel.take_events();
    // While nobody knows, the next stub goes elsewhere; then it may be the same place.
    engine.register(second, &Filter::ALL).unwrap();
    let events = kernel.take_events();
    let waited = events.iter().position(|event| *event == Event::Quiesce).unwrap();
    assert!(!events[..waited].iter().any(written), "{events:?}");
    engine.unregister(first).unwrap();
    engine.unregister(second).unwrap();
    engine.register(second, &Filter::ALL).unwrap();
    assert!(kernel.take_events().iter().any(written));
}

#[test]
fn a_batch_costs_three_barriers_and_one_round_of_interrupts_whatever_its_size() {
    // Miri takes thousands of times as long.
    let counts = [1, 10, if cfg!(miri) { 2 } else { 1000 }];
    for (count, stores_each) in counts.into_iter().flat_map(|count| [(count, 1), (count, 2)]) {
        let (kernel, engine, _) = ready(count);
        kernel.set_may_be_emulated(stores_each == 2);
        engine.register(ops(), &Filter::ALL).unwrap();
        let events = kernel.take_live_events();
        let number = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
        assert_eq!(number(|event| matches!(event, Event::Store(..))), stores_each * count);
        assert_eq!(number(|event| *event == Event::Complete), 2);
        assert_eq!(number(|event| *event == Event::Synchronize), 1);
        assert_eq!(number(|event| *event == Event::SynchronizeCpus), 1);
        // 512 bytes apart: eight functions a page, each in a line of its own.
        assert_eq!(number(|event| matches!(event, Event::Map(_))), stores_each * count.div_ceil(8));
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
    let events = kernel.take_events();
    let (stub, live) = events.split_at(events.iter().position(|event| *event == Event::EndBatch).unwrap() + 1);
    assert_eq!(
        live,
        [
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
            // For an emulator that has kept what it made of the old word.
            Event::Mask,
            Event::Map(page),
            Event::Store(call, word),
            Event::Unmap(page),
            Event::Restore,
            Event::EndBatch,
        ]
    );
    // The stub goes the same way, in a batch before.
    let room = kernel.stubs().room.start;
    assert_eq!(stub[..3], [Event::BeginBatch, Event::Mask, Event::Map(room)]);
    let rest = &stub[3..];
    let words = rest.iter().take_while(|event| matches!(event, Event::Store(..))).count();
    let written = (0..words as i64).map(|number| room.offset(number * 4));
    let written: Vec<Event> = written.map(|at| Event::Store(at, kernel.word(at))).collect();
    assert_eq!(rest[..words], written);
    let lines = || (0..words as i64 * 4).step_by(64).map(|offset| room.offset(offset));
    let expected = [Event::Unmap(room), Event::Restore].into_iter();
    let expected = expected.chain(lines().map(Event::Clean)).chain([Event::Complete]);
    let expected = expected.chain(lines().map(Event::Invalidate)).chain([Event::Complete, Event::Synchronize]);
    let again = [Event::SynchronizeCpus, Event::Mask, Event::Map(room)].into_iter().chain(written);
    let expected = expected.chain(again).chain([Event::Unmap(room), Event::Restore, Event::EndBatch]);
    assert!(rest[words..].iter().copied().eq(expected), "{stub:?}");
    assert_eq!(first_stub(kernel), room.offset(4));
}
