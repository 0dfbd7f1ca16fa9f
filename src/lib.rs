//! A function-entry patching engine for arm64 kernels.
#![no_std]

pub mod address;
pub mod insn;
pub mod platform;
pub mod recursion;
pub mod symbols;

pub use address::{TextAddr, TextRange};
pub use platform::Platform;
pub use recursion::TraceContext;
