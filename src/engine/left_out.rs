//! What a kernel never wants traced, by range or by name: [`Image::leave_out`](super::Image::leave_out).

use super::error::InitError;
use crate::address::{TextAddr, TextRange};
use crate::callsite::table::Table;
use crate::filter::Rule;
use crate::symbols::Symbols;
use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Functions of the kernel that are never traced: early code, the exception path, whatever writes the base register.
///
/// In a `static`, which is given to [`Image::leave_out`](super::Image::leave_out):
///
/// ```
/// use fentry::engine::LeftOut;
///
/// static NEVER: [LeftOut; 2] = [LeftOut::names("my_kernel::exceptions::*"), LeftOut::names("switch_to")];
/// ```
#[derive(Debug)]
pub struct LeftOut {
    what: What,
    functions: AtomicUsize,
}

#[derive(Debug)]
enum What {
    Names(&'static str),
    Range(TextRange),
    /// Two symbols of a linker script.
    Linked(AtomicPtr<u8>, AtomicPtr<u8>),
}

impl LeftOut {
    /// Leaves out the functions of this name, or, with `*`, `?`, `[` or `\` in it, of the names that match this glob, as
    /// [`Rule::parse`](crate::Rule::parse) reads it (without `!` and `:mod:`). A name that has such characters is put in
    /// quotes.
    pub const fn names(pattern: &'static str) -> Self {
        Self::new(What::Names(pattern))
    }

    /// Leaves out the functions that begin inside this range.
    pub const fn range(range: TextRange) -> Self {
        Self::new(What::Range(range))
    }

    /// Leaves out the functions that begin between two symbols of the kernel's linker script: `&raw const __early_start` and
    /// the like.
    pub const fn linked(start: *const u8, stop: *const u8) -> Self {
        Self::new(What::Linked(AtomicPtr::new(start.cast_mut()), AtomicPtr::new(stop.cast_mut())))
    }

    const fn new(what: What) -> Self {
        Self { what, functions: AtomicUsize::new(0) }
    }

    /// Returns how many functions with a callsite init has found that are meant: 0 before. One that several mean counts for
    /// each.
    pub fn functions(&self) -> usize {
        self.functions.load(Ordering::Relaxed)
    }

    /// Marks what is meant in the table, and notes how many that is.
    pub(super) fn mark(&self, table: &mut Table, symbols: Option<&Symbols<'_>>) -> Result<(), InitError> {
        let count = match &self.what {
            What::Names(pattern) => {
                let rule = Rule::parse_pattern(pattern).map_err(|error| InitError::LeftOut { pattern, error })?;
                match symbols.map(Symbols::cursor) {
                    Some(mut names) => table.mark(|function| rule.matches(names.names_at(function.get()), function)),
                    None => 0,
                }
            }
            What::Range(range) => table.mark(|function| range.contains(function)),
            What::Linked(start, stop) => {
                let [start, stop] = [start, stop].map(|at| TextAddr::new(at.load(Ordering::Relaxed).addr() as u64));
                table.mark(|function| TextRange::new(start, stop).contains(function))
            }
        };
        self.functions.store(count, Ordering::Relaxed);
        Ok(())
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Names(pattern) => f.write_str(pattern),
            What::Range(range) => write!(f, "{range}"),
            What::Linked(start, stop) => {
                write!(f, "[{:p}, {:p})", start.load(Ordering::Relaxed), stop.load(Ordering::Relaxed))
            }
        }
    }
}
