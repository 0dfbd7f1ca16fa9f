//! The small kernel under the boot tests.
//!
//! Each boot test is a kernel of its own: this crate brings the machine up (QEMU's virt board: MMU and caches on,
//! text read-only, everything else never executable), runs the file's cases and leaves through semihosting with the
//! result as the exit status.
//!
//! ```text
//! support::boot_tests! {
//!     callee_sees_its_arguments,
//!     failed_batch_changes_nothing,
//! }
//! fn callee_sees_its_arguments() { ... }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`boot`] | from the first instruction to the first line of Rust, on each CPU |
//! | [`memory`] | page tables, the two alias strategies for text, a walker over the live tables |
//! | [`vectors`], [`exceptions`] | the exception vectors; faults that are reported and faults that a test expects |
//! | [`step`] | code that is executed one instruction at a time |
//! | [`interrupts`] | the GIC, ticks of the timer, masking |
//! | [`percpu`], [`smp`] | what belongs to one CPU; the other CPUs, jobs for them, synchronising them |
//! | [`platform`], [`mod@engine`] | what fentry asks of a kernel; the engine itself |
//! | [`harness`] | the cases of a boot test, their lines on the console, the exit status |
//! | [`smallest`] | functions for callsites that cost as little as can be |
//! | [`registers`] | what a function may do to registers, and assembly for those that there are |
//! | [`unwind`] | what fentry's unwinder asks of a kernel |
//! | [`peek`] | memory that may not be there, read without a fault |
//! | [`backtrace`], [`console`], [`heap`], [`lock`], [`count`], [`random`] | what their names say |
//!
//! It does not: run anything at EL0, switch tasks, power CPUs down, or run on any other board.
#![no_std]
#![cfg(target_os = "none")]

extern crate alloc;

#[macro_use]
pub mod console;
pub mod backtrace;
pub mod boot;
pub mod count;
pub mod engine;
pub mod exceptions;
pub mod harness;
pub mod heap;
pub mod interrupts;
pub mod lock;
pub mod memory;
pub mod peek;
pub mod percpu;
pub mod platform;
pub mod random;
pub mod registers;
pub mod smallest;
pub mod smp;
pub mod step;
pub mod unwind;
pub mod vectors;

pub use engine::engine;
pub use platform::PLATFORM;
