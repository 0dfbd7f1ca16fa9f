//! A module in whose data the kernel makes an ops, and whose exit function has the kernel unregister it: what a module with an
//! ops of its own does, without the crate in it.
#![no_std]
#![cfg(target_os = "none")]

#[path = "../../kernel.rs"]
mod kernel;

use core::cell::UnsafeCell;
use kernel::{KERNEL_NUMBER, export, kernel_note};

unsafe extern "C" {
    /// Does what the test wants done when a module exits.
    safe fn kernel_at_exit();
}

/// Room for an ops.
#[repr(C, align(16))]
struct Room(UnsafeCell<[u64; 64]>);

// SAFETY: the module only says where it is.
unsafe impl Sync for Room {}

static ROOM: Room = Room(UnsafeCell::new([0; 64]));

/// Where the room is.
#[unsafe(no_mangle)]
extern "C" fn guest_room() -> *mut u64 {
    ROOM.0.get().cast()
}
export!(guest_room);

/// Starts the module.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".init.text")]
extern "C" fn fentry_module_init() -> i32 {
    const LINE: &str = "guest: here";
    kernel_note(LINE.as_ptr(), LINE.len());
    if KERNEL_NUMBER == 0 { -1 } else { 0 }
}

/// Ends it.
#[unsafe(no_mangle)]
extern "C" fn fentry_module_exit() {
    kernel_at_exit();
}
