//! Reads arm64 kernels and modules without running them: what objtool's instruction layer is to x86 Linux, for A64.
//!
//! A validator asks questions of this crate: what is the instruction here, what function is it part of, where can control go
//! from it, and, when an interrupt comes just before it, where are the return address and the caller's registers? Everything
//! is worked out from the instructions. No debug information is believed; the tests compare with it.
//!
//! ```
//! use fentry_verify::{Cfi, Flow, Image, NoReturn, Program};
//!
//! # fn look(file: &[u8]) -> Result<(), fentry_verify::ImageError> {
//! let program = Program::new(Image::parse(file)?);
//! let flow = Flow::follow(&program, &NoReturn::default());
//! let cfi = Cfi::of(&flow);
//! for function in program.functions() {
//!     for insn in program.of_function(function) {
//!         if let Some(state) = cfi.state(insn) {
//!             println!("{}: {} ; {state}", program.place(insn), program.insn(insn));
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # It supports
//! - linked images and relocatable objects for 64-bit little-endian arm64, with a symbol table;
//! - code of GCC, Clang and rustc at any optimisation, and assembly that keeps the AAPCS64's frames;
//! - jump tables of bytes, half-words, words and addresses; functions in parts; functions that never return.
//!
//! # It does not support
//! - instructions that [`fentry::insn`] does not know: a path ends at one, and is told of;
//! - a table of jumps whose bound the code does not show: the function counts as not followed, and is told of.
//!
//! # The rooms
//! The folders of `src/` are the architecture. A room uses only the rooms below it.
//!
//! ```text
//! rules/      the validators: what must hold of every function that may be traced and unwound
//! table/      the unwind table that a kernel reads while it runs, made of the states
//! report/     what validators find, and what of it is waived
//! proof/      what compilers say of their frames, and programs to ask them about (feature `proof`)
//! cfi/        where the caller's registers are, at each instruction; how two such states differ
//! flow/       where control goes: jump tables, calls that do not come back, what could not be followed
//! value/      what registers and stack hold, as far as the instructions say
//! program/    sections, functions, symbols and instructions, and the way from one to the next
//! image/      the ELF file: what is in it, checked
//! ```

pub mod cfi;
pub mod flow;
pub mod image;
pub mod program;
#[cfg(any(test, feature = "proof"))]
pub mod proof;
pub mod report;
pub mod rules;
pub mod table;
pub mod value;

pub use cfi::Cfi;
pub use flow::{Flow, NoReturn};
pub use image::{Image, ImageError};
pub use program::{FunctionId, InsnId, Program, SectionId};
pub use report::{Finding, Report, Rule, Waivers};
