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
//! extern "C" fn watch(ip: TextAddr, parent_ip: TextAddr, _ops: &'static Ops, regs: FtraceRegs<'_>) {
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
//! - any number of ops up to 128, each with a filter by name, glob and address that can be changed while it is registered
//!   ([`filter`], [`symbols`]); a callsite pays for its own ops only;
//! - callbacks that see the arguments or every register, and may change arguments and where the call goes ([`regs`]);
//! - hooks at a function's return, with its result and the time that it took ([`ops::Probe`]);
//! - direct trampolines, with no stub between ([`direct`]); counters and a flight recorder that need no register frame
//!   ([`hits`], [`flight`]);
//! - tracers on top: function, call graph, profile, latency, deepest stack, with a ring for each CPU ([`tracer`]);
//! - backtraces through the stubs and through hooked returns ([`unwind`]);
//! - any number of CPUs: text is changed while they run it, and a batch that can't be carried out as a whole leaves text
//!   as it was ([`text`]); an ops is let go when nobody can be inside its callback any more, also where kernel code is
//!   preempted ([`Platform::quiesce`]);
//! - loadable modules, placed anywhere in the address space (`module`, a feature that needs a heap);
//! - tests on a host: the engine runs on a simulated machine (`fakes`, a feature).
//!
//! # It does not support
//! - kernels that pass SVE registers between their functions, and guarded control stacks (FEAT_GCS);
//! - kernel images of more than 128 MiB of text;
//! - big-endian and 32-bit kernels.
//!
//! # How it is built
//! Each module uses only those on the floors below its own.
//!
//! | floor | modules |
//! |---|---|
//! | 5 | [`tracer`]: what is made of it; `module`: ELF objects loaded, relocated, and handed to the engine |
//! | 4 | [`engine`]: which callsite calls what, now |
//! | 3 | [`entry`], [`returns`]: the stubs in assembly; `stub`: the ones that are generated; `region`: text that comes and goes; `fakes`: a machine for tests |
//! | 2 | [`text`]: the only writer of instructions; [`ops`]: what shall happen; [`direct`]: trampolines in Rust; [`table`]: the sorted callsites; [`hits`]: a counter for each callsite |
//! | 1 | [`callsite`]: one callsite and its states; [`filter`]; [`plt`]: veneers; [`recursion`]: the guard; [`shadow`]: where hooked calls return; [`unwind`]: frame records |
//! | 0 | [`insn`]: A64 instructions; [`regs`]; [`symbols`]: addresses and names; [`platform`]: what a kernel supplies; [`cpu_area`]: a CPU's counters; [`flight`]: its ring; [`clock`]; [`address`] |
#![no_std]

#[cfg(any(test, feature = "fakes"))]
extern crate std;

#[cfg(feature = "module")]
extern crate alloc;

pub mod address;
pub mod callsite;
pub mod clock;
pub mod cpu_area;
pub mod direct;
pub mod engine;
pub mod entry;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
pub mod filter;
pub mod flight;
pub mod guide;
pub mod hits;
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
pub mod returns;
pub mod shadow;
mod stub;
pub mod symbols;
pub mod table;
pub mod text;
pub mod tracer;
pub mod unwind;

pub use address::{TextAddr, TextRange};
pub use cpu_area::CpuArea;
pub use engine::{Engine, Image};
pub use filter::{Filter, Rule};
pub use ops::{Ops, OpsFlags};
pub use platform::Platform;
pub use recursion::TraceContext;
pub use regs::{FtraceRegs, PtRegs};
pub use symbols::Symbols;
