//! Trampolines: instruction by instruction, and run.

mod answers;
mod code;
mod engines;
mod leaf;
mod machine;
mod places;
mod simulated;

extern crate std;

use super::class::{Class, Signature};
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::engine::Engine;
use crate::fakes::{COMPILED, FakeText};
use crate::platform::{BaseRegister, ContextBase};
use crate::stub::{Code, CodeMemory, Handler, HandlerKind, StubEnv, TrampolinePlan};
use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::vec::Vec;

/// Where trampolines are generated, what they call near there, and what a BL doesn't reach.
const ROOM: u64 = 0xffff_8000_8000_0000;
const NEAR: u64 = ROOM + 0x20_0000;
const FAR: u64 = 0xffff_0000_1234_0000;

static CALLS: AtomicU64 = AtomicU64::new(0);
static MISSES: AtomicU64 = AtomicU64::new(0);

/// An engine, and a function of its text.
fn engine() -> (&'static Engine, TextAddr) {
    let mut text = FakeText::new(ROOM);
    let function = text.function("function", COMPILED);
    let kernel = text.build();
    let engine: &'static Engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
    kernel.set_context(Box::leak(Box::new(TraceContext::new())));
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    (engine, function)
}

/// Where code of any length is made.
fn place() -> Code {
    Box::leak(Box::new(CodeMemory::<128>::UNINIT)).code()
}

fn env(atomics: bool) -> StubEnv {
    let context = ContextBase { register: BaseRegister::TpidrEl1, offset: 0x40 };
    StubEnv { stubs: FakeText::new(0x4030_0000).build().stubs(), context, cpu: None, atomics }
}

fn handler(kind: HandlerKind, function: u64, may_call: bool) -> Handler {
    Handler { kind, function: TextAddr::new(function), may_call }
}

/// The words of a trampoline.
fn words(code: &mut Code, signature: &Signature<'_>, handlers: &[Handler], body: u64, env: &StubEnv) -> Vec<u32> {
    let shape = signature.shape().unwrap();
    let plan = TrampolinePlan { shape: &shape, handlers, body: TextAddr::new(body), calls: &CALLS, misses: &MISSES };
    plan.code(code, TextAddr::new(ROOM), env).unwrap();
    assert!(code.fits(1 << 12), "{} words", code.words().len());
    code.words().to_vec()
}

/// Two numbers in registers, and one back.
const TWO: Signature<'static> = Signature { arguments: &[Class::BITS_64; 2], result: Class::BITS_64 };
