//! The names of what is at an address.

use crate::engine::Engine;
use core::fmt::{self, Write};

/// Names of the kernel's functions and of its modules'.
#[derive(Clone, Copy)]
pub(super) struct Names<'a>(pub(super) &'a Engine);

impl Names<'_> {
    /// Writes the name of the function that an address is in, with `[MODULE]` behind one of a module; the address itself where
    /// there is none.
    pub(super) fn write(self, addr: u64, out: &mut dyn Write) -> fmt::Result {
        if let Some(found) = self.0.symbols().and_then(|symbols| symbols.lookup_addr(addr)) {
            return out.write_str(found.symbol.name);
        }
        if let Some(written) = self.write_of_module(addr, out) {
            return written;
        }
        write!(out, "{addr:#x}")
    }

    #[cfg(feature = "module")]
    fn write_of_module(self, addr: u64, out: &mut dyn Write) -> Option<fmt::Result> {
        let mut written = None;
        self.0.for_each_module(|module| {
            let found = module.symbols.as_ref().and_then(|symbols| symbols.lookup_addr(addr));
            if let Some(found) = found.filter(|_| written.is_none()) {
                written = Some(write!(out, "{} [{}]", found.symbol.name, module.name));
            }
        });
        written
    }

    #[cfg(not(feature = "module"))]
    #[expect(clippy::unused_self, reason = "there are no modules to look into")]
    fn write_of_module(self, _: u64, _: &mut dyn Write) -> Option<fmt::Result> {
        None
    }
}
