//! The engine on simulated text: what it selects, what it writes, and that a failure leaves nothing behind.

extern crate std;

mod batch;
mod counters;
mod errors;
mod exits;
mod failure;
mod init;
mod memory;
mod protocol;
mod quarantine;
mod random;
mod regions;
mod registration;
mod several;
mod spec;

use super::{Engine, InitError};
use crate::address::TextAddr;
use crate::callsite::{Form, LandingPad, Prefix};
use crate::context::regs::FtraceRegs;
use crate::fakes::{COMPILED, FakeKernel, FakeText};
use crate::module::regions::{RegionError, RegionToken, Regions as _};
use crate::ops::Ops;
use std::boxed::Box;
use std::format;
use std::vec::Vec;

const BASE: u64 = 0xffff_8000_8000_0000;
const PADDED: Form = Form { landing_pad: LandingPad::BtiC, prefix: Prefix::None };
const PREFIXED: Form = Form { landing_pad: LandingPad::None, prefix: Prefix::Literal };
const PADDED_PREFIXED: Form = Form { landing_pad: LandingPad::BtiC, prefix: Prefix::Literal };
const FORMS: [Form; 4] = [COMPILED, PADDED, PREFIXED, PADDED_PREFIXED];

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

fn ops() -> &'static Ops {
    Box::leak(Box::new(Ops::new(callback)))
}

/// An engine, not initialised, on this text.
fn engine_on(text: FakeText) -> (&'static FakeKernel, Engine) {
    let kernel = text.build();
    (kernel, Engine::with_machine(kernel, kernel))
}

/// The address of the first stub that is made in this kernel: where a BL to it goes, behind the landing pad.
fn first_stub(kernel: &FakeKernel) -> TextAddr {
    kernel.stubs().room.start.offset(4)
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
    assert_eq!((report.counts.accepted, report.counts.refused), (count, 0));
    kernel.take_events();
    (kernel, engine, functions)
}

/// Makes the kernel's functions ready; their symbols say where each begins, whatever its form.
fn init(kernel: &FakeKernel, engine: &Engine) -> Result<super::InitReport, InitError> {
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }
}

/// Loads the module of this number.
fn load(kernel: &FakeKernel, engine: &Engine, number: usize) -> Result<RegionToken, RegionError> {
    // SAFETY: nothing executes a fake's text, and its modules' texts are there for ever.
    unsafe { engine.add(kernel.module(number)) }
}

/// How many sets of ops the engine has, and how many bytes their stubs take.
fn stubs_left(engine: &Engine) -> (usize, usize) {
    let registry = engine.lock();
    (registry.sets.len(), registry.sets.room.used_bytes())
}
