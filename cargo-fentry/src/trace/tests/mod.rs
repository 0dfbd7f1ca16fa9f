//! What the tests of this room share, and those that are of no one file.

mod calls;
mod damage;
mod dump;
pub(super) mod fixture;

use fentry::TextAddr;
use fentry::symbols::{Convention, Function};

/// An address in the function of this number.
fn at(number: u64) -> TextAddr {
    TextAddr::new(0x1000 * number + 4)
}

/// The functions of the kernel that a test reads a dump of.
fn functions() -> Vec<Function> {
    let function =
        |n: u64| Function { name: format!("f{n}"), addr: 0x1000 * n, size: 0x800, convention: Convention::Base };
    (1..=9).map(function).collect()
}
