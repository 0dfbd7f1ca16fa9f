//! How a section gives its addresses, and why it can't become a table.

use crate::address::{TextAddr, TextRange};
use crate::callsite::Refusal;
use core::fmt;
use thiserror::Error;

/// How the section's entries give an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Each entry is the address (R_AARCH64_ABS64, or R_AARCH64_RELATIVE once the kernel has relocated itself).
    Absolute,
    /// Each entry is the distance from itself to the address (R_AARCH64_PREL64).
    Relative,
}

/// Why a section can't become a table at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TableError {
    /// The section's length is not a whole number of entries, or its start is not aligned to one.
    #[error("The callsite section at {start:#x} has {bytes} bytes, which is no whole number of entries")]
    Truncated {
        /// Where it starts.
        start: u64,
        /// Its length in bytes.
        bytes: usize,
    },
    /// The engine rewrites the section in place, and it is mapped read-only, or not at all.
    #[error(
        "The callsite section at {start:#x} can't be written at {at:#x}: the engine rewrites it in place, map it writable"
    )]
    NotWritable {
        /// Where it starts.
        start: u64,
        /// The first address that can't be written, as far as pages tell.
        at: u64,
    },
    /// Every entry is zero: the kernel is position-independent and has not relocated itself yet.
    #[error("The callsite section's {entries} entries are all zero: relocate the kernel before init")]
    NotRelocated {
        /// How many entries there are.
        entries: usize,
    },
    /// The section is empty: compiled without `-fpatchable-function-entry`, or dropped by the linker script.
    #[error("The callsite section is empty: compile with -fpatchable-function-entry and KEEP the section")]
    Empty,
    /// There are neither symbols nor a [`Layout`](crate::callsite::Layout), and this entry's instructions can mean more than
    /// one thing: two NOPs before a function, or the function's own.
    #[error(
        "The callsite section's entry {entry} can mean two NOPs before a function, or in it: give the image its \
         symbols, or say how it was compiled by Image::with_layout"
    )]
    LayoutUnknown {
        /// The first such entry.
        entry: TextAddr,
    },
    /// Every entry lies outside the text: the kernel is position-independent and has not relocated itself yet (some linkers, such
    /// as GNU ld, leave the addresses that it was linked at in the section), or the entries have another [`Encoding`] than was
    /// said.
    #[error(
        "None of the callsite section's {entries} entries lies inside the text {text}, such as {first}: relocate the kernel \
         before init, or say how its entries give addresses by Image::with_encoding"
    )]
    OutsideText {
        /// How many entries there are.
        entries: usize,
        /// The text.
        text: TextRange,
        /// The first entry, as an address.
        first: TextAddr,
    },
    /// No entry is a callsite that may be traced.
    #[error(
        "The callsite section has no entry that can be traced: {refused} refused, {excluded} excluded{}",
        fmt::from_fn(|f| first.map_or(Ok(()), |(entry, refusal)| write!(f, "; the first, {entry}: {refusal}")))
    )]
    NothingAccepted {
        /// How many entries are no callsites.
        refused: usize,
        /// How many are in text that is never traced.
        excluded: usize,
        /// The first of those that are no callsites.
        first: Option<(TextAddr, Refusal)>,
    },
}
