//! The module loader against compilers, linkers and damaged files.

pub(crate) mod fuzz;
#[cfg(test)]
mod models;
#[cfg(test)]
mod proof;
