//! Whose text a region is, and the names of the functions in it.

use crate::address::TextAddr;
#[cfg(feature = "module")]
use crate::symbols::OwnedSymbols;
use crate::symbols::{Cursor, Names, Symbols};
#[cfg(feature = "module")]
use alloc::boxed::Box;

/// Whose text a region is, and the names in it.
pub(super) enum Origin {
    /// The kernel's own text, which is there for ever.
    Kernel(Option<Symbols<'static>>),
    /// A module's text, which goes when the region does.
    #[cfg(feature = "module")]
    Module {
        /// The number of the region's token: text is freed and reused, so its address doesn't tell what is there.
        number: u64,
        name: Box<str>,
        symbols: Option<OwnedSymbols>,
    },
}

impl Origin {
    #[inline(always)]
    pub(super) fn symbols(&self) -> Option<&Symbols<'_>> {
        match self {
            Self::Kernel(symbols) => symbols.as_ref(),
            #[cfg(feature = "module")]
            Self::Module { symbols, .. } => symbols.as_ref().map(OwnedSymbols::get),
        }
    }

    /// Walks over the names of functions that are asked for one after the other.
    #[inline(always)]
    pub(super) fn names(&self) -> FunctionNames<'_> {
        FunctionNames(self.symbols().map(Symbols::cursor))
    }

    /// The module's name.
    pub(super) fn module(&self) -> Option<&str> {
        match self {
            Self::Kernel(_) => None,
            #[cfg(feature = "module")]
            Self::Module { name, .. } => Some(name),
        }
    }
    /// The name of the function at an address, if the name is there for ever: that of a function of the kernel's own.
    pub(super) fn permanent_name(&self, addr: TextAddr) -> Option<&'static str> {
        match self {
            Self::Kernel(symbols) => symbols.as_ref()?.lookup_addr(addr.get()).map(|found| found.symbol.name),
            #[cfg(feature = "module")]
            Self::Module { .. } => None,
        }
    }
}

/// A walk over the names of a region's functions: asked for in the order of their addresses, none is searched for.
pub(super) struct FunctionNames<'a>(Option<Cursor<'a>>);

impl<'a> FunctionNames<'a> {
    /// All names of a function.
    #[inline(always)]
    pub(super) fn of(&mut self, function: TextAddr) -> Aliases<'_, 'a> {
        Aliases(self.0.as_mut().map(|cursor| cursor.names_at(function.get())))
    }
}

/// The names of one function; none where there are no symbols.
#[derive(Clone)]
pub(super) struct Aliases<'c, 'a>(Option<Names<'c, 'a>>);

impl Aliases<'_, '_> {
    pub(super) const NONE: Self = Self(None);
}

impl<'a> Iterator for Aliases<'_, 'a> {
    type Item = &'a str;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a str> {
        self.0.as_mut()?.next()
    }
}
