//! A function-entry patching engine for arm64 kernels.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(test, feature = "fakes"))]
extern crate std;

pub mod address;
pub mod callsite;
pub mod engine;
pub mod entry;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
pub mod filter;
pub mod insn;
pub mod ops;
pub mod platform;
pub mod recursion;
pub mod regs;
pub mod symbols;
pub mod table;
pub mod text;
pub mod unwind;

pub use address::{TextAddr, TextRange};
pub use engine::{Engine, Image};
pub use filter::{Filter, Rule};
pub use ops::{Ops, OpsFlags};
pub use platform::Platform;
pub use recursion::TraceContext;
pub use regs::{FtraceRegs, PtRegs};
pub use symbols::Symbols;
