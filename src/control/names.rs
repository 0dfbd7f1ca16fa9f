//! The names of what is at an address.

use crate::engine::Engine;
use crate::symbols::Location;
use core::fmt::{self, Write};

/// Names of the kernel's functions and of its modules'.
#[derive(Clone, Copy)]
pub(super) struct Names<'a>(pub(super) &'a Engine);

/// How a place in a function is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `name`.
    Function,
    /// `name+0x4/0x40`.
    Place,
    /// `name`, or `name+0x4` behind its beginning.
    Short,
}

impl Form {
    fn write(self, found: Location<'_>, out: &mut dyn Write) -> fmt::Result {
        match self {
            Self::Function => out.write_str(found.symbol.name),
            Self::Place => write!(out, "{found}"),
            Self::Short if found.offset == 0 => out.write_str(found.symbol.name),
            Self::Short => write!(out, "{}+{:#x}", found.symbol.name, found.offset),
        }
    }
}

impl Names<'_> {
    /// Writes the name of the function that an address is in, with `[MODULE]` behind one of a module; the address itself where
    /// there is none.
    pub(super) fn write(self, addr: u64, out: &mut dyn Write) -> fmt::Result {
        self.write_as(Form::Function, addr, out)
    }

    /// The same with the offset in the function, and the function's length.
    pub(super) fn write_place(self, addr: u64, out: &mut dyn Write) -> fmt::Result {
        self.write_as(Form::Place, addr, out)
    }

    /// The same with the offset in the function where it is not 0, and `MODULE:` in front, as it can be written to
    /// `kprobe_events`.
    pub(super) fn write_short(self, addr: u64, out: &mut dyn Write) -> fmt::Result {
        self.write_as(Form::Short, addr, out)
    }

    fn write_as(self, form: Form, addr: u64, out: &mut dyn Write) -> fmt::Result {
        if let Some(found) = self.0.symbols().and_then(|symbols| symbols.lookup_addr(addr)) {
            return form.write(found, out);
        }
        if let Some(written) = self.write_of_module(form, addr, out) {
            return written;
        }
        write!(out, "{addr:#x}")
    }

    #[cfg(feature = "module")]
    fn write_of_module(self, form: Form, addr: u64, out: &mut dyn Write) -> Option<fmt::Result> {
        let mut written = None;
        self.0.for_each_module(|module| {
            let found = module.symbols.as_ref().and_then(|symbols| symbols.lookup_addr(addr));
            if let Some(found) = found.filter(|_| written.is_none()) {
                let module = module.name;
                written = Some(match form {
                    Form::Short => write!(out, "{module}:").and_then(|()| form.write(found, out)),
                    Form::Function | Form::Place => form.write(found, out).and_then(|()| write!(out, " [{module}]")),
                });
            }
        });
        written
    }

    #[cfg(not(feature = "module"))]
    #[expect(clippy::unused_self, reason = "there are no modules to look into")]
    fn write_of_module(self, _: Form, _: u64, _: &mut dyn Write) -> Option<fmt::Result> {
        None
    }
}
