//! The functions that the bench traces: empty ones, as many as the build was told.
//!
//! Each is what a compiler makes of an empty function for `-fpatchable-function-entry=2`, at a fixed distance from the
//! one before. No other code may stand here: this library's callsites are the only ones that the linker script keeps.
#![no_std]
#![cfg(target_os = "none")]

core::arch::global_asm!(include_str!(concat!(env!("OUT_DIR"), "/functions.s")), options(raw));

mod layout {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}

/// How many functions there are.
pub const COUNT: usize = layout::COUNT;

/// The distance in bytes from one to the next.
pub const SPACING: u64 = layout::SPACING;

unsafe extern "C" {
    /// The first one. Calling it does nothing.
    pub safe fn generated_functions();
}
