//! A kernel's own Rust: the root of a static library for a kernel in C, or, with `kernel`, the whole kernel.
#![feature(no_core)]
#![no_core]
#![cfg_attr(kernel, no_main)]

extern crate compiler_builtins;
extern crate fentry;
extern crate mini;

#[unsafe(no_mangle)]
pub extern "C" fn kernel_step(x: u32) -> u32 {
    fentry::generic(x, &3_u32)
}

/// Nobody calls it.
#[unsafe(no_mangle)]
pub extern "C" fn gone_from_glue(x: u32) -> u32 {
    fentry::generic(x, &3_u8)
}

#[cfg(kernel)]
#[unsafe(no_mangle)]
pub extern "C" fn kernel_main(to: *mut u8, from: *const u8) -> u32 {
    fentry::fentry_init(to, from)
}
