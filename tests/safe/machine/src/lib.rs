//! What takes `unsafe` before anything safe can be done: an engine that is initialised.

use fentry::Engine;
use fentry::engine::InitReport;
use fentry::fakes::{FakeKernel, FakeText};
use fentry::module::{RegionError, RegionToken, Regions as _};

/// An initialised engine on this text.
///
/// # Panics
///
/// Init fails.
pub fn engine_on(text: FakeText) -> (&'static FakeKernel, &'static Engine, InitReport) {
    let kernel = text.build();
    let engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
    // SAFETY: nothing executes a fake's text.
    let report = unsafe { engine.init(kernel.image()) }.unwrap_or_else(|error| panic!("{error}"));
    (kernel, engine, report)
}

/// Hands the kernel's first module over to the engine.
///
/// # Errors
///
/// The engine's own.
pub fn add_module(engine: &Engine, kernel: &FakeKernel) -> Result<RegionToken, RegionError> {
    // SAFETY: the fake's text stays for ever, and nothing executes it.
    unsafe { engine.add(kernel.module(0)) }
}
