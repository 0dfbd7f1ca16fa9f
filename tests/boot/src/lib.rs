//! The boot tests: each program in `src/bin` is a kernel of its own, built and booted by `cargo xtask test`.
//!
//! | names | what they prove |
//! |---|---|
//! | `calls_*` | who is called, and who never: one callback and many, counters, direct calls, recursion, the engine itself |
//! | `registers*` | every register is, for the callee and for the caller, as if nothing had been called |
//! | `control` | a kernel is asked by lines of text, as Linux is through tracefs |
//! | `injection` | functions fail where, and as often as, they are told to |
//! | `kprobes` | every instruction can have a probe, or is refused for a reason, and does what it did |
//! | `returns*` | hooked returns: results, times, odd endings, load |
//! | `live_*` | text changes under running CPUs, interrupts and preemption |
//! | `unwind` | that walks by the unwind table tell the truth, at every instruction |
//! | `bad_input` | what is not as it should be is refused, and never written |
//! | `modules` | code that is loaded and unloaded |
//! | `cost_*` | what all of it costs, in instructions |
//! | `stack_depth` | how much stack the engine takes |
//!
//! This library has what several of them share. How each is booted stands in this package's `Cargo.toml`.
#![no_std]
#![cfg(target_os = "none")]

extern crate alloc;

pub mod functions;
pub mod misses;
