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
//! - any number of ops up to 128 (1,024 with the feature `many-ops`), in [memory](engine::EngineMemory) for as many as you
//!   say, each with a filter by name, glob and address that can be changed while it is registered
//!   ([`filter`], [`symbols`]); a callsite pays for its own ops only;
//! - callbacks that see the arguments or every register, and may change arguments and where the call goes ([`context::regs`]);
//! - hooks at a function's return, with its result and the time that it took ([`ops::Probe`]);
//! - direct trampolines, with no stub between ([`ops::direct`]); counters and a flight recorder that need no register frame
//!   ([`record`]);
//! - tracers on top: function, call graph, profile, latency, deepest stack, with a ring for each CPU ([`tracer`]);
//! - the words of Linux's tracefs: what is traced is chosen and read in lines of text, without a heap ([`control`]);
//! - backtraces through the stubs and through hooked returns, by frame records, or by a table that is made of the linked image,
//!   with a verdict for each frame ([`context::unwind`]);
//! - probes at any instruction ([`kprobe`]);
//! - errors where you say ([`inject`]);
//! - tables of functions whose members are replaced while they are called, also in kernels with kCFI ([`trampoline`]);
//! - any number of CPUs: text is changed while they run it, and a batch that can't be carried out as a whole leaves text
//!   as it was ([`text`]); an ops is released once no CPU and no task can be inside its callback, also where kernel code is
//!   preempted ([`Platform::quiesce`]);
//! - loadable modules, placed anywhere in the address space (`module`, a feature that needs a heap);
//! - kernels in C: a static library and its header (`capi`, a feature);
//! - tests on a host: the engine runs on a simulated machine (`fakes`, a feature).
//!
//! # It does not support
//! - kernels that pass SVE registers between their functions, and guarded control stacks (FEAT_GCS);
//! - kernel images of more than 128 MiB of text;
//! - big-endian and 32-bit kernels.
//!
//! # Errors
//! An error's text is whole: it includes what its cause says, since a kernel often prints `{error}` alone.
//! [`source`](core::error::Error::source) gives the cause as a value.
//!
//! # The rooms
//! The folders of `src/` are the architecture. A room uses only the rooms below it (`cargo xtask check` holds the imports
//! to this list); a test stands in the room of what it tests and may use all.
//!
//! ```text
//! capi/       the same for kernels in C: what include/fentry.h declares
//! control/    the words of tracefs: a kernel is asked by lines of text
//! fakes/      a machine for tests: text, caches, CPUs, module memory
//! tracer/     what users record: function, graph, profile, latency, stack; rings, dumps
//! trampoline/ ops structs whose members can be replaced, as control-flow integrity asks for; typed handlers at a function
//! inject/     errors where the user says: what may fail, and when it does
//! kprobe/     probes at any instruction: breakpoints, and what goes on behind them
//! engine/     which callsite calls what, now: registration, sets, plans, regions
//! module/     the loader, and what it asks of memory and of whoever traces
//! stub/       all code that a callsite can reach: entry and return assembly, generated stubs, their room
//! text/       the only writer of instructions: checked pokes, caches, CPUs
//! ops/        what a user registers: callback, probe, direct trampoline, counter, recorder
//! platform/   what a kernel supplies, and rounds among its CPUs
//! record/     recorded without a call: a CPU's counters, hits, the flight recorder
//! context/    one running call: the recursion guard, registers, the shadow stack, unwinding, the clock
//! callsite/   what compiler and linker left: a callsite's forms, the table, veneers
//! filter/     which functions: names, globs, rules
//! symbols/    addresses and names
//! insn/       A64 instructions, and nothing of callsites
//! address     addresses and ranges of text
//! ```
#![no_std]

#[cfg(any(test, feature = "fakes"))]
extern crate std;

#[cfg(any(feature = "module", not(target_os = "none")))]
extern crate alloc;

mod address;
pub mod callsite;
#[cfg(feature = "capi")]
pub mod capi;
pub mod context;
pub mod control;
pub mod engine;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
pub mod filter;
pub mod guide;
pub mod inject;
#[cfg(feature = "insn")]
pub mod insn;
#[cfg(not(feature = "insn"))]
#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::enum_variant_names,
    reason = "all of it is public with the feature"
)]
mod insn;
pub mod kprobe;
#[cfg(feature = "module")]
pub mod module;
pub mod ops;
pub mod platform;
pub mod record;
mod stub;
pub mod symbols;
pub mod text;
pub mod tracer;
pub mod trampoline;

pub use address::{TextAddr, TextRange};
pub use context::TraceContext;
pub use context::regs::{FtraceRegs, PtRegs};
pub use engine::{Engine, Image};
pub use filter::{Filter, Rule};
pub use insn::EncodeError;
pub use ops::{Ops, OpsFlags};
pub use platform::Platform;
pub use record::CpuArea;
pub use symbols::Symbols;

/// The C header `include/fentry.h`, for tools that write it where a kernel is compiled (a feature).
#[cfg(feature = "fragment")]
pub const C_HEADER: &str = include_str!("../include/fentry.h");

/// The linker fragment `examples/fentry.ld`, for tools that show it or write it where a kernel is linked (a feature).
#[cfg(feature = "fragment")]
pub const LINKER_FRAGMENT: &str = include_str!("../examples/fentry.ld");

/// The source of the chapter [`guide`], for tools that show it (the same feature).
#[cfg(feature = "fragment")]
pub const GUIDE: &str = include_str!("guide.rs");
