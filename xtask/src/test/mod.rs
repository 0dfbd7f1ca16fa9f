//! What must hold, and the commands that show it: the whole suite, and its parts that can go on for longer.

mod asked;
mod c_kernels;
mod c_library;
pub(crate) mod host;
mod kept_memory;
pub(crate) mod loader;
pub(crate) mod miri;
pub(crate) mod mutants;
#[cfg(test)]
mod names;
pub(crate) mod packages;
pub(crate) mod stress;
pub(crate) mod suite;
pub(crate) mod unwind_proof;
pub(crate) mod verify;
