//! Short runs of instructions that belong together.

pub mod callsite;
mod constant;
pub mod plt;

pub use constant::{Constant, load_constant};
