//! The safe face of fentry, used as another crate uses it and from code that cannot be unsafe: whatever it does, the machine
//! must come to no harm. `cargo xtask test` runs these under Miri too, with both of its models.
//!
//! | module | what it uses |
//! |---|---|
//! | `engine` | ops, filters, registration and its changes, what the engine shows |
//! | `counted` | counters, the flight recorder |
//! | `recorded` | rings, events, dumps and their reader, what tracers keep |
//! | `session` | a session from the words of a command line to its dump |
//! | `modules` | text that comes and goes, memory for modules |
//! | `context` | the words of a thread of execution |
//! | `refused` | what does not compile |
#![forbid(unsafe_code)]
#![cfg(test)]

mod context;
mod counted;
mod engine;
mod modules;
mod recorded;
mod refused;
mod session;

use fentry::engine::InitReport;
use fentry::fakes::{COMPILED, FakeKernel, FakeText};
use fentry::{Engine, FtraceRegs, Ops, TextAddr};

/// Where the text of these tests begins.
const BASE: u64 = 0xffff_8000_8000_0000;

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

/// A kernel with functions of these names, their addresses, and its engine.
fn kernel_of<const N: usize>(names: [&str; N]) -> (&'static FakeKernel, &'static Engine, [TextAddr; N]) {
    let mut text = FakeText::new(BASE);
    let functions = names.map(|name| text.function(name, COMPILED));
    let (kernel, engine, InitReport { counts, .. }) = safe_machine::engine_on(text);
    assert_eq!((counts.accepted, counts.refused), (N, 0));
    (kernel, engine, functions)
}
