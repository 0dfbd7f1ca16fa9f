//! A symbol table together with the memory that it is in.

use super::{Arrays, COUNT_AT, Symbols, SymbolsError, read_u32};
use alloc::boxed::Box;

/// A table that was checked, and its bytes.
///
/// # Invariants
///
/// [`Symbols::parse`] accepted the bytes, and nobody has changed them since.
pub(crate) struct OwnedSymbols(Box<[u8]>);

impl OwnedSymbols {
    /// Checks a table and keeps it.
    pub(crate) fn parse(bytes: Box<[u8]>) -> Result<Self, SymbolsError> {
        Symbols::parse(&bytes)?;
        // INVARIANT: just parsed.
        Ok(Self(bytes))
    }

    /// The table, without checking it again.
    pub(crate) fn get(&self) -> Symbols<'_> {
        let bytes = &*self.0;
        let arrays = Arrays::of(bytes, read_u32(bytes, COUNT_AT) as usize);
        // SAFETY: `Symbols::parse` found these same bytes to be UTF-8.
        let names = unsafe { core::str::from_utf8_unchecked(arrays.names) };
        arrays.with_names(names, bytes)
    }
}
