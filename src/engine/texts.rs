//! What text there is, for whoever names addresses in it later, when modules have gone.

use super::Engine;
#[cfg(feature = "module")]
use super::region::Origin;
#[cfg(feature = "module")]
use crate::address::TextRange;
#[cfg(feature = "module")]
use crate::symbols::Symbols;

/// A module's text as it is now.
#[cfg(feature = "module")]
#[derive(Clone, Copy, Debug)]
pub struct ModuleStatus<'a> {
    /// The module's name.
    pub name: &'a str,
    /// Its text, or its init text.
    pub text: TextRange,
    /// The functions in it, unless the loader gave none.
    pub symbols: Option<Symbols<'a>>,
}

impl Engine {
    /// How far above its linked addresses the kernel runs, modulo 2^64: what its symbol table has found out, or else what the
    /// platform says ([`Platform::slide`](crate::Platform::slide)).
    pub fn slide(&self) -> u64 {
        match self.symbols().map_or(0, |symbols| symbols.slide()) {
            0 => self.platform.slide(),
            slide => slide,
        }
    }

    /// Shows every module's text, in the order of their addresses.
    #[cfg(feature = "module")]
    pub fn for_each_module(&self, mut show: impl FnMut(ModuleStatus<'_>)) {
        let registry = self.lock();
        for region in &registry.regions {
            if let Origin::Module { name, .. } = &region.origin {
                show(ModuleStatus { name, text: region.text, symbols: region.origin.symbols().copied() });
            }
        }
    }
}
