//! What somebody needs on the host who uses fentry in a kernel: `cargo fentry linker-script`, and `doctor`, `symbols`,
//! `trace` and `verify` on any kernel's image.
//!
//! The program is these modules and a command line. As a library they serve a kernel's own build tool, which can have the
//! same commands, as fentry's own has: each module has its arguments for clap and a function that does what they say.
//!
//! | | |
//! |---|---|
//! | [`doctor`] | says whether a kernel's functions can be traced and, if not, what to change |
//! | [`symbols`] | makes a kernel's symbol table |
//! | [`staticlib`] | builds the library for kernels in C |
//! | [`terminal`] | boots a kernel that is asked by lines of text, on this terminal |
//! | [`trace`] | boots a kernel that records its calls, and writes them for other people's readers |
//! | [`unwind`] | makes a kernel's unwind table |
//! | [`verify`] | follows every function without running it |
//! | [`pieces`] | prints the linker fragment and the guide |
//! | [`qemu`] | boots an image |
//! | [`console`] | reads a booted kernel's console, brings its exit status back |
//! | [`image`] | reads linked images |
//! | [`progress`] | shows how far a long step is |

pub mod console;
#[cfg(any(test, feature = "proof"))]
pub mod damage;
pub mod doctor;
pub mod image;
mod kept;
#[cfg(any(test, feature = "proof"))]
pub mod left_out;
mod names;
pub mod pieces;
pub mod progress;
pub mod qemu;
mod stack;
pub mod staticlib;
pub mod symbols;
pub mod terminal;
pub mod trace;
pub mod unwind;
pub mod verify;
