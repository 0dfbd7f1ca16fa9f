//! In place of the engine: functions of each kind that the fragment must gather.
#![feature(no_core)]
#![no_core]

extern crate compiler_builtins;
extern crate mini;

unsafe extern "C" {
    fn kernel_step(x: u32) -> u32;
    fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
}

#[unsafe(no_mangle)]
pub extern "C" fn fentry_init(to: *mut u8, from: *const u8) -> u32 {
    unsafe { memcpy(to, from, 64) };
    poke(7)
}

#[inline(never)]
pub fn poke(x: u32) -> u32 {
    unsafe { kernel_step(x) }
}

/// Compiled where it is instantiated.
#[inline(never)]
pub fn generic<T>(x: u32, _of: &T) -> u32 {
    poke(x)
}
