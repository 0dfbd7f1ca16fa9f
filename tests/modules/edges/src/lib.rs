//! A module with ADRP in the last two words of a page, where Cortex-A53 erratum 843419 forbids it.
#![no_std]
#![cfg(target_os = "none")]

#[path = "../../kernel.rs"]
mod kernel;

use core::arch::global_asm;
use kernel::{KERNEL_NUMBER, export, kernel_note};

// The first refers to the kernel's data, which is farther away than ADR reaches, the second to a number beside it. HINT 34
// is BTI C, for who calls them by address.
global_asm!(
    ".pushsection .text.edges, \"ax\", %progbits",
    ".balign 4096",
    ".space 0xff4",
    ".globl edges_far",
    ".type edges_far, %function",
    "edges_far:",
    "hint #34",
    "adrp x0, KERNEL_NUMBER", // at 0xff8
    "ldr x0, [x0, :lo12:KERNEL_NUMBER]",
    "ret",
    ".size edges_far, . - edges_far",
    ".balign 4096",
    ".space 0xff8",
    ".globl edges_near",
    ".type edges_near, %function",
    "edges_near:",
    "hint #34",
    "adrp x0, 3f", // at 0xffc
    "ldr x0, [x0, :lo12:3f]",
    "ret",
    ".size edges_near, . - edges_near",
    ".balign 8",
    "3: .quad 0x843419",
    ".popsection",
);

unsafe extern "C" {
    safe fn edges_far() -> u64;
    safe fn edges_near() -> u64;
}
export!(edges_far);
export!(edges_near);

/// Starts the module.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".init.text")]
extern "C" fn fentry_module_init() -> i32 {
    const LINE: &str = "edges: here";
    kernel_note(LINE.as_ptr(), LINE.len());
    0
}

/// What the two functions should give: the kernel's number by way of the GOT, and a constant.
#[unsafe(no_mangle)]
extern "C" fn edges_hold() -> u64 {
    u64::from(edges_far() == KERNEL_NUMBER && edges_near() == 0x84_3419)
}
export!(edges_hold);
