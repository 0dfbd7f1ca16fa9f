//! A function-entry patching engine for arm64 kernels: what Linux's arm64 ftrace is to Linux, for every other kernel.
//!
//! A kernel is compiled so that each of its functions starts with two NOPs. While it runs, `fentry` turns the NOPs of the
//! functions that you ask for into a call, one aligned store each, and back. So a running kernel can say who calls a
//! function, with what arguments and how often, change an argument, or put another function in its place, and what is not
//! traced costs two instructions that do nothing.
//!
//! ```no_run
//! use fentry::{Engine, Filter, FtraceRegs, Ops, Rule, TextAddr};
//!
//! static WATCH: Ops = Ops::new(watch);
//!
//! fn watch(ip: TextAddr, parent_ip: TextAddr, _ops: &'static Ops, regs: &mut FtraceRegs) {
//!     log::info!("{ip} <- {parent_ip} {:x?}", regs.arguments());
//! }
//!
//! # fn trace(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
//! engine.register(&WATCH, &Filter::new(&[Rule::parse("my_kernel::disk::*")?, Rule::parse("!*::poll")?]))?;
//! // ... the kernel runs, and each call of those functions runs `watch` first ...
//! engine.unregister(&WATCH)?;
//! # Ok(())
//! # }
//! ```
//!
//! [`guide`] is the way from a kernel to its first trace.
//!
//! # It supports
//! - kernels at EL1 or EL2 compiled by rustc, Clang or GCC with `-fpatchable-function-entry=2` or `=4,2`, with or without
//!   BTI, pointer authentication and kCFI, hard-float or softfloat ([`callsite`] has the forms);
//! - filters by name, glob and address ([`filter`]), with the kernel's own names ([`symbols`]);
//! - callbacks that see the arguments or every register, and may change arguments and where the call goes ([`regs`]);
//! - backtraces through the stubs ([`unwind`]);
//! - any number of CPUs: text is changed while they run it, and a batch that can't be carried out as a whole leaves text
//!   as it was ([`text`]); an ops is let go when nobody can be inside its callback any more, also where kernel code is
//!   preempted ([`Platform::quiesce`]);
//! - loadable modules, placed anywhere in the address space (`module`, a feature that needs a heap);
//! - tests on a host: the engine runs on a simulated machine (`fakes`, a feature).
//!
//! # It does not support
//! - more than one ops at a time, and hooks at a function's return: they are to come;
//! - kernels that pass SVE registers between their functions, and guarded control stacks (FEAT_GCS);
//! - big-endian and 32-bit kernels.
//!
//! # How it is built
//! Each module uses only those on the floors below its own.
//!
//! | floor | modules |
//! |---|---|
//! | 5 | `module`: ELF objects loaded, relocated, and handed to the engine; [`tracer`]: records, and the way out for them |
//! | 4 | [`engine`]: which callsite calls what, now |
//! | 3 | [`entry`]: the stubs that callsites call; `region`: text that comes and goes; `fakes`: a machine for tests |
//! | 2 | [`text`]: the only writer of instructions; [`ops`]: a callback and its flags; [`table`]: the sorted callsites |
//! | 1 | [`callsite`]: one callsite and its states; [`filter`]; [`plt`]: veneers; [`recursion`]: the guard; [`unwind`]: frame records |
//! | 0 | [`insn`]: A64 instructions; [`regs`]; [`symbols`]: addresses and names; [`platform`]: what a kernel supplies; [`address`] |
#![no_std]

#[cfg(any(test, feature = "fakes"))]
extern crate std;

#[cfg(feature = "module")]
extern crate alloc;

pub mod address;
pub mod callsite;
pub mod engine;
pub mod entry;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
pub mod filter;
pub mod guide;
pub mod insn;
#[cfg(feature = "module")]
pub mod module;
pub mod ops;
pub mod platform;
pub mod plt;
pub mod recursion;
#[cfg(feature = "module")]
pub mod region;
pub mod regs;
pub mod symbols;
pub mod table;
pub mod text;
pub mod tracer;
pub mod unwind;

pub use address::{TextAddr, TextRange};
pub use engine::{Engine, Image};
pub use filter::{Filter, Rule};
pub use ops::{Ops, OpsFlags};
pub use platform::Platform;
pub use recursion::TraceContext;
pub use regs::{FtraceRegs, PtRegs};
pub use symbols::Symbols;
