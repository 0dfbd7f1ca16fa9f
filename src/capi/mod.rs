//! The engine for kernels in C: the functions and structs of `include/fentry.h`, which is made of this room.
//!
//! A room of thin functions above all others. Each looks at every pointer, size, number and flag that it is given, so that
//! misuse is an error's number and no crash, and then does what the Rust function of the same purpose does. There is one engine,
//! which is the library's. What C keeps in memory of its own (ops, contexts, rings) are structs of a fixed size with the engine's
//! own types in them; a word in each says that there is one.
//!
//! A static library needs a panic handler, which this crate leaves to whoever makes one: `cargo fentry staticlib` adds one that
//! calls [`panicked`].
//!
//! | file | |
//! |---|---|
//! | [`error`] | numbers, names, texts |
//! | [`platform`] | what the kernel supplies |
//! | [`engine`](mod@engine) | init, and what concerns all callsites |
//! | [`ops`], [`filter`], [`regs`] | what happens at which functions, and what callbacks see |
//! | [`context`] | threads of execution, CPUs |
//! | [`recording`] | tracers, rings, the dump |
//! | [`symbols`] | names of addresses |
//! | `console` | what is printed, and panics |
#![expect(non_camel_case_types, reason = "the names are C's")]

mod console;
pub mod context;
pub mod engine;
pub mod error;
pub mod filter;
mod from_c;
#[cfg(not(target_os = "none"))]
mod host;
pub mod ops;
pub mod platform;
pub mod recording;
pub mod regs;
pub mod symbols;
#[cfg(test)]
mod tests;

pub use console::panicked;

use crate::engine::Engine;
use error::fentry_error;

/// The library's engine.
#[cfg(target_os = "none")]
static ENGINE: Engine = Engine::new(&platform::KERNEL);

/// The library's engine, whether it was initialised or not.
#[cfg(target_os = "none")]
fn raw_engine() -> Option<&'static Engine> {
    Some(&ENGINE)
}

#[cfg(not(target_os = "none"))]
use host::raw_engine;

/// The engine, for what needs an init before.
fn engine() -> Result<&'static Engine, fentry_error> {
    let is_initialised = platform::KERNEL.is_initialised();
    raw_engine().filter(|_| is_initialised).ok_or(fentry_error::NotInitialised)
}
