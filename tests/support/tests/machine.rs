//! The small kernel, tested by itself: what the boot tests of fentry take for granted.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
extern crate alloc;
#[cfg(target_os = "none")]
mod cases;
