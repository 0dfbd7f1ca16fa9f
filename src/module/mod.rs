//! Loadable modules: an ELF object placed, relocated, started, and its text handed to whoever traces.
//!
//! Feature `module`, which needs a heap. [`Modules`] is the list of what is loaded; a [`Kernel`] says where its
//! memory comes from ([`ModuleMemory`]) and who traces text ([`Regions`]); [`Exports`] ([`export!`](crate::export)) is what
//! the kernel exports. It builds on [`text`](crate::text) for caches, and on `callsite`, `symbols` and `insn`; the engine,
//! which traces, is above it.
//!
//! ```text
//!   parse ─> lay out sections ─> resolve symbols ─> count veneers, GOT ─> allocate ─> copy, relocate ─> look at callsites
//!         ─> caches, permissions, CPUs ─> regions added ─> init called ─> init segments freed
//! ```
//!
//! Until the last arrow any failure gives back all that was taken, in the opposite order. What can't be taken back is text
//! whose tracing can't be ended: then the module's memory is kept, and the error says so.
//!
//! # Supports
//! - ELF64, little-endian, AArch64, ET_REL: what `ld -r` makes of objects from rustc, GCC and Clang, in each code model and
//!   with `-fpic` (the [guide](crate::guide#where-modules-may-be) has what may be how far away);
//! - text, constants, data, zeros, COMMON symbols; `.init.*` sections, which are freed when init has returned;
//! - branches of any length through veneers, which change X16 only; a GOT; Cortex-A53 erratum 843419;
//! - symbols that the kernel or modules loaded before export; weak symbols that nobody defines;
//! - an unwind table of the module's functions ([`Module::unwind_table`]), if `cargo fentry verify --unwind-in-place` has put one
//!   into the object;
//! - a list of the module's functions that may be made to fail ([`Injectable::of_module`](crate::inject::Injectable::of_module)).
//!
//! # Does not support
//! Thread-local storage, constructors and destructors (`.init_array`, `.ctors` and the like), indirect functions,
//! relocations without addends or in a packed form (CREL, RELR), compressed sections, sections with flags that are not
//! known. Each is refused by name where an object has it: nothing is passed over. Versions or signatures of modules, and
//! loading what a module depends on, are the kernel's.
//!
//! # A module
//! The functions that the loader calls are global symbols of the module: [`INIT`], `extern "C" fn() -> i32`, where 0 is
//! success, and [`EXIT`], `extern "C" fn()`. Both may be missing.

mod erratum;
mod error;
mod export;
mod export_records;
mod injectable_records;
mod kernel;
mod kinds;
mod layout;
mod link;
mod loader;
mod mangled;
mod memory;
mod names;
mod object;
mod place;
pub(crate) mod regions;
mod reloc;
mod resolve;
mod section;
mod tables;
mod targets;
#[cfg(test)]
mod tests;
mod unwind;

pub use erratum::Erratum843419;
pub use error::{LoadError, SectionCause, StartError, UnloadError};
pub use export::{Export, Exports};
pub use kernel::{Kernel, call};
pub use kinds::RelocKind;
pub use loader::{EXIT, INIT, Module, ModuleId, Modules};
pub use memory::{Allocation, MemoryError, ModuleMemory, Permission, Placement, Request, Segment};
pub use regions::{NewRegion, NotRemoved, RegionCause, RegionError, RegionToken, Regions, Untraced};
pub use reloc::{RelocCause, RelocError};
