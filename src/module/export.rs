//! What the kernel and modules offer to modules: names with addresses.
//!
//! [`export!`](crate::export) puts a record into the section `.fentry.exports`; the linker
//! script keeps the kernel's between `__fentry_exports_start` and `__fentry_exports_stop`, and the loader finds a module's
//! in its object.

use super::error::{LoadError, owned};
use alloc::vec::Vec;
use core::fmt;

/// The section that holds the records.
pub(super) const SECTION: &str = ".fentry.exports";
/// The size of a record: three words of eight bytes.
pub(super) const RECORD_BYTES: u64 = 24;

/// One record. In C it is `struct { const char *name; unsigned long name_bytes; const void *address; }`.
#[repr(C)]
pub struct Export {
    name: *const u8,
    name_bytes: usize,
    address: *const (),
}

// SAFETY: a record is never written, and its pointers are to what lives as long as it does.
unsafe impl Sync for Export {}

impl Export {
    /// Makes a record; [`export!`](crate::export) puts it where it is found.
    pub const fn new(name: &'static str, address: *const ()) -> Self {
        Self { name: name.as_ptr(), name_bytes: name.len(), address }
    }

    fn name(&self) -> &'static str {
        // SAFETY: made from a `&'static str` of this length, or what `Exports::linked`'s caller promises to be like one.
        let bytes = unsafe { core::slice::from_raw_parts(self.name, self.name_bytes) };
        core::str::from_utf8(bytes).unwrap_or("")
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Export({} = {:?})", self.name(), self.address)
    }
}

/// Offers a function or a static to modules, under its own name or another.
///
/// ```
/// extern "C" fn tick() {}
/// static HERTZ: u64 = 100;
/// fentry::export!(tick);
/// fentry::export!(tick as "kernel_tick");
/// fentry::export!(static HERTZ);
/// ```
#[macro_export]
macro_rules! export {
    (static $variable:ident) => {
        $crate::export!(@ (&raw const $variable).cast::<()>(), stringify!($variable));
    };
    ($function:ident) => {
        $crate::export!(@ $function as *const (), stringify!($function));
    };
    ($function:path as $name:expr) => {
        $crate::export!(@ $function as *const (), $name);
    };
    (@ $address:expr, $name:expr) => {
        const _: () = {
            #[used]
            #[cfg_attr(target_os = "none", unsafe(link_section = ".fentry.exports"))]
            static EXPORT: $crate::module::Export = $crate::module::Export::new($name, $address);
        };
    };
}

/// The names that the kernel exports, with their addresses.
#[derive(Debug)]
pub struct Exports<'k> {
    /// By name.
    sorted: Vec<(&'k str, u64)>,
}

impl<'k> Exports<'k> {
    /// Takes names and addresses.
    ///
    /// That each address is what modules take it for is promised by whoever [loads](super::Modules::load) one.
    ///
    /// # Errors
    ///
    /// [`LoadError::DuplicateExport`] where a name comes twice, [`LoadError::Heap`].
    pub fn new(exports: impl IntoIterator<Item = (&'k str, u64)>) -> Result<Self, LoadError> {
        let mut sorted = Vec::new();
        for export in exports {
            sorted.try_reserve(1)?;
            sorted.push(export);
        }
        sorted.sort_unstable();
        match sorted.array_windows().find(|[(a, _), (b, _)]| a == b) {
            Some([(name, _), _]) => Err(LoadError::DuplicateExport { name: owned(name)?, owner: None }),
            None => Ok(Self { sorted }),
        }
    }

    /// Reads the exports that the linker script gathers.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Safety
    ///
    /// 1. The linker script defines `__fentry_exports_start` and `__fentry_exports_stop` around the section
    ///    `.fentry.exports`, aligned to 8 bytes, and nothing but records is in it.
    /// 2. It is mapped readable, and written by nobody. A position-independent kernel has relocated itself.
    /// 3. A record that [`export!`](crate::export) didn't make, such as one in C, has a name of that many bytes, which stays
    ///    as long as the kernel.
    #[cfg(any(target_os = "none", doc))]
    pub unsafe fn linked() -> Result<Self, LoadError> {
        unsafe extern "C" {
            static __fentry_exports_start: Export;
            static __fentry_exports_stop: Export;
        }
        let (start, stop) = (&raw const __fentry_exports_start, &raw const __fentry_exports_stop);
        let count = stop.addr().wrapping_sub(start.addr()) / size_of::<Export>();
        // SAFETY: our caller's first and second promise.
        let records = unsafe { core::slice::from_raw_parts(start, count) };
        Self::new(records.iter().map(|export| (export.name(), export.address.addr() as u64)))
    }

    /// Finds the address of a name.
    pub fn get(&self, name: &str) -> Option<u64> {
        let index = self.sorted.binary_search_by_key(&name, |(name, _)| name).ok()?;
        self.sorted.get(index).map(|(_, address)| *address)
    }

    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether nothing is exported.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}
