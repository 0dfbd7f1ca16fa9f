//! A symbol table together with the memory that it is in.

use super::table::{Symbols, SymbolsError};
use alloc::boxed::Box;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

/// A table that was checked, and its bytes, which are freed with it.
///
/// References into memory that the same value frees must not be seen by the compiler where the value is moved: a function
/// that is given a reference may count on it until it returns, and dropping is such a function.
pub(crate) struct OwnedSymbols {
    /// # Invariants
    ///
    /// Initialised; of `bytes`, and lent for no longer than this is.
    symbols: MaybeUninit<Symbols<'static>>,
    /// # Invariants
    ///
    /// From a box that is this value's alone, and not written any more.
    bytes: NonNull<[u8]>,
}

// SAFETY: the bytes are this value's alone.
unsafe impl Send for OwnedSymbols {}

impl OwnedSymbols {
    /// Checks a table and keeps it.
    pub(crate) fn parse(bytes: Box<[u8]>) -> Result<Self, SymbolsError> {
        let bytes = NonNull::from(Box::leak(bytes));
        // INVARIANT: just leaked.
        let mut owned = Self { symbols: MaybeUninit::uninit(), bytes };
        // SAFETY: they are initialised, and nobody writes them. They stay until `owned` is dropped, and `get` lends
        // them for no longer than that.
        let bytes: &'static [u8] = unsafe { bytes.as_ref() };
        // INVARIANT: initialised from here on; where it isn't, nobody gets to see it.
        owned.symbols.write(Symbols::parse(bytes)?);
        Ok(owned)
    }

    /// The table.
    #[inline(always)]
    pub(crate) const fn get(&self) -> &Symbols<'_> {
        // SAFETY: the invariant.
        unsafe { self.symbols.assume_init_ref() }
    }
}

impl Drop for OwnedSymbols {
    fn drop(&mut self) {
        // SAFETY: the invariant, and what was lent of them is back.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::OwnedSymbols;
    use crate::symbols::{Convention, Function, SymbolsError, encode};
    use std::boxed::Box;
    use std::vec::Vec;

    fn table() -> Box<[u8]> {
        let functions: Vec<_> = ["draw", "sort"]
            .into_iter()
            .zip([0x1000, 0x1040])
            .map(|(name, addr)| Function { name: name.into(), addr, size: 0x40, convention: Convention::Base })
            .collect();
        encode(&functions, 0).unwrap().into_boxed_slice()
    }

    #[test]
    fn a_table_may_be_moved_and_dropped_and_is_checked() {
        let mut tables: Vec<_> = (0..8).map(|_| OwnedSymbols::parse(table()).unwrap()).collect();
        tables.swap(0, 7);
        for owned in tables {
            let moved = Box::new(owned);
            let mut cursor = moved.get().cursor();
            assert_eq!([0x1000, 0x1040].map(|addr| cursor.names_at(addr).next()), [Some("draw"), Some("sort")]);
            drop(*moved);
        }
        let mut damaged = table();
        damaged[0] = 0;
        assert!(matches!(OwnedSymbols::parse(damaged), Err(SymbolsError::Magic { .. })));
    }
}
