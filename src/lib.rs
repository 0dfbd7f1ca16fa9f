//! A function-entry patching engine for arm64 kernels.
#![no_std]

pub mod insn;
