//! What is attached is one engine's.

use super::engine;
use crate::trampoline::attach::{AttachError, AttachPoint, Fentry};
use std::boxed::Box;
extern crate std;

type Function = extern "C" fn(u64);

extern "C" fn handler(_: u64) {}

static HANDLER: Fentry<Function> = Fentry::<Function>::new(handler);

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
