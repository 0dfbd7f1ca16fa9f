//! What is attached is one engine's, and its trampolines are as many as it has places for.

use super::engine;
use crate::trampoline::attach::{AttachError, AttachPoint, Fentry};
use std::boxed::Box;
extern crate std;

type Function = extern "C" fn(u64);

extern "C" fn handler(_: u64) {}

static HANDLER: Fentry<Function> = Fentry::<Function>::new(handler);
static OTHER: Fentry<Function> = Fentry::<Function>::new(handler);

#[test]
fn another_engine_frees_nothing() {
    let ((engine, function), (other, _)) = (engine(), engine());
    // SAFETY: 1. to 3. Nobody calls it.
    let point: &'static AttachPoint<Function> = Box::leak(Box::new(unsafe { AttachPoint::at(function) }));
    assert_eq!(point.detach(other, &HANDLER), Err(AttachError::NotAttached));
    assert_eq!(point.attach(engine, &HANDLER), Ok(()));
    let bytes = engine.statistics().stub_bytes;
    assert_eq!(point.attach(other, &HANDLER), Err(AttachError::OtherEngine));
    assert_eq!(point.replace(other, &HANDLER, &HANDLER), Err(AttachError::OtherEngine));
    assert_eq!(point.detach(other, &HANDLER), Err(AttachError::OtherEngine));
    assert_eq!(point.reclaim(other), Err(AttachError::OtherEngine));
    assert_eq!((engine.check_text().enabled, engine.statistics().stub_bytes), (1, bytes));
    assert_eq!(point.detach(engine, &HANDLER), Ok(()));
    assert_eq!((engine.check_text().enabled, engine.statistics().stub_bytes), (0, 0));
}

#[test]
fn a_change_takes_a_place_besides_the_one_in_use() {
    let (engine, function) = engine();
    // SAFETY: 1. to 3. Nobody calls it.
    let one: &'static AttachPoint<Function, 1> = Box::leak(Box::new(unsafe { AttachPoint::at(function) }));
    for [handler, other] in [[&HANDLER, &OTHER], [&OTHER, &HANDLER]] {
        assert_eq!(one.attach(engine, handler), Ok(()));
        let bytes = engine.statistics().stub_bytes;
        assert!(bytes > 0);
        assert_eq!(one.attach(engine, other), Err(AttachError::NoPlace { places: 1 }));
        assert_eq!(one.replace(engine, handler, other), Err(AttachError::NoPlace { places: 1 }));
        assert_eq!((engine.check_text().enabled, engine.statistics().stub_bytes), (1, bytes));
        assert_eq!(one.detach(engine, handler), Ok(()));
        assert_eq!((engine.check_text().enabled, engine.statistics().stub_bytes), (0, 0));
    }
    // SAFETY: as above.
    let two: &'static AttachPoint<Function, 2> = Box::leak(Box::new(unsafe { AttachPoint::at(function) }));
    assert_eq!(two.attach(engine, &HANDLER), Ok(()));
    let bytes = engine.statistics().stub_bytes;
    for [old, new] in [[&HANDLER, &OTHER], [&OTHER, &HANDLER], [&HANDLER, &OTHER]] {
        assert_eq!(two.replace(engine, old, new), Ok(()));
        assert_eq!((engine.check_text().enabled, engine.statistics().stub_bytes), (1, bytes));
    }
}
