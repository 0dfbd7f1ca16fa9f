//! One tool for everything: see `cargo xtask --help`.
fn main() {}
