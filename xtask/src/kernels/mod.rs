//! The repository's kernels: which there are, how each variant of them is built and linked, how they are booted, and what
//! to think of what they say.
//!
//! What is special about one kernel stands in its package's `Cargo.toml` ([`workspace::Settings`]), or in the command that
//! is about that kernel. Nothing here knows one by its name.

pub(crate) mod build;
pub(crate) mod c;
pub(crate) mod console;
#[cfg(test)]
mod integration;
pub(crate) mod linker;
pub(crate) mod modules;
pub(crate) mod toolchain;
pub(crate) mod variant;
pub(crate) mod workspace;
