//! What states are proven with: what compilers say of their own frames, and programs to ask them about.

mod dwarf;
mod source;

pub use dwarf::{Compared, Explanation, ProofError, compare};
pub use source::{DIES, source};
