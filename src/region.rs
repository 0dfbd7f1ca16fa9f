//! The seam to whoever traces: a module's text and callsites are handed over when it is complete, and taken back before
//! it is freed.
//!
//! Floor 3, feature `module`: below the engine, which takes regions, and the loader, which hands them over.

use crate::address::TextRange;
use crate::callsite::Layout;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// A module's text, or its init text, ready but for its callsites.
#[derive(Debug)]
pub struct NewRegion<'a> {
    /// The module's name.
    pub module: &'a str,
    /// The text: mapped readable and executable, not executed yet.
    pub text: TextRange,
    /// The entries of `__patchable_function_entries` for it, absolute and sorted. Each decodes as a callsite.
    pub entries: Vec<u64>,
    /// How the entries are to be read.
    pub layout: Layout,
    /// Its symbols, as [`Symbols::parse`](crate::Symbols::parse) reads them.
    pub symbols: Box<[u8]>,
    /// Room in it for veneers to stubs, in entries of [`ENTRY_BYTES`](crate::plt::ENTRY_BYTES).
    pub veneers: TextRange,
}

/// A region that was added, by the number that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionToken(pub u64);

/// Why a region was not added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionError {
    /// The text.
    pub text: TextRange,
    /// The reason.
    pub reason: &'static str,
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The text {} can't be added or removed: {}", self.text, self.reason)
    }
}

impl core::error::Error for RegionError {}

/// Who traces the text of modules.
pub trait Regions: Sync {
    /// Takes a region: makes its callsites ready and applies the filters that are set.
    ///
    /// # Errors
    ///
    /// The text is as it was then.
    fn add(&self, region: NewRegion<'_>) -> Result<RegionToken, RegionError>;

    /// Gives a region back: its callsites call nothing, and no CPU is in a stub or callback on their behalf.
    ///
    /// # Errors
    ///
    /// The region is still there then.
    fn remove(&self, region: RegionToken) -> Result<(), RegionError>;
}

/// No tracing of modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untraced;

impl Regions for Untraced {
    fn add(&self, _region: NewRegion<'_>) -> Result<RegionToken, RegionError> {
        Ok(RegionToken(0))
    }

    fn remove(&self, _region: RegionToken) -> Result<(), RegionError> {
        Ok(())
    }
}
