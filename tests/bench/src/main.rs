//! What `cargo xtask bench` boots: each situation once, counted in instructions, a line each.
//!
//! ```text
//! bench: <situation> <count> [<size>]
//! bench-code: <name> <instruction> ...
//! ```
//!
//! A situation is a key of `xtask/data/situations.toml`, which says what it is, and what Linux needs for it. The count
//! is of the whole; the size says for how many callsites, names or ops that was, where it depends on one. Another
//! situation is one more function here, and an entry there.
//!
//! Cases whose names begin with `growth` are booted with every size, the others with one.
//!
//! The engine of this kernel has the generated functions and nothing else, so a size is exactly the number of
//! callsites. As a boot test it asserts that what is counted really happens.
#![no_std]
#![no_main]

extern crate alloc;

mod calls;
mod counted;
mod events;
mod kernel;
mod patching;
mod walks;

support::boot_tests! {
    growth_of_init,
    growth_of_one_registration,
    growth_of_all_at_once,
    growth_of_filters_by_name,
    growth_of_lookups,
    memory,
    calls,
    walks,
    code,
}

use calls::{calls, code};
use patching::{
    growth_of_all_at_once, growth_of_filters_by_name, growth_of_init, growth_of_lookups, growth_of_one_registration,
    memory,
};
use walks::walks;
