//! Making a table from functions, by a tool on the host or by the loader of modules.

extern crate alloc;

use alloc::collections::TryReserveError;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::ops::Range;

use super::table::{Convention, ENTRY_LEN, HEADER_LEN, MAGIC, SUM_AT, VARIANT, VERSION, checksum};
use thiserror::Error;

/// A function to put into a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The demangled name, without the hash.
    pub name: String,
    /// The address of its first byte, as linked.
    pub addr: u64,
    /// Its length in bytes; 0 for a label, which has none.
    pub size: u64,
    /// What its callers may count on.
    pub convention: Convention,
}

/// Why a list of functions does not fit into a table.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SymbolsEncodeError {
    /// The function is 4 GiB or more away from the first one, or larger than 2 GiB.
    #[error("The function {name} at {addr:#x} is 4 GiB or more away from the first one, or larger than 2 GiB")]
    TooFar {
        /// The function's name.
        name: String,
        /// The function's address.
        addr: u64,
    },
    /// The functions or their names are too many to be counted in 32 bits.
    #[error("The functions and their names do not fit into 4 GiB")]
    TooMany,
    /// The heap has no memory for the table.
    #[error("The heap has no memory for the symbol table")]
    Heap,
}

impl From<TryReserveError> for SymbolsEncodeError {
    fn from(_: TryReserveError) -> Self {
        Self::Heap
    }
}

/// Makes a table of `functions`, to be linked at address `anchor` (0 where that isn't known).
///
/// The order of `functions` matters only among those with one address: of these the first is what a lookup by address
/// finds.
///
/// # Errors
/// Where the functions lie too far apart, or are too many; see [`SymbolsEncodeError`].
pub fn encode(functions: &[Function], anchor: u64) -> Result<Vec<u8>, SymbolsEncodeError> {
    let mut encoder = Encoder::new();
    for Function { name, addr, size, convention } in functions {
        encoder.push(format_args!("{name}"), *addr, *size, *convention)?;
    }
    encoder.finish(anchor)
}

/// A table in the making. What it allocates may fail.
pub(crate) struct Encoder {
    functions: Vec<FunctionEntry>,
    /// The names in the order in which they came.
    names: NameBuffer,
}

/// A function of the table.
struct FunctionEntry {
    addr: u64,
    size: u64,
    convention: Convention,
    name: Range<u32>,
}

/// Text that grows as long as there is room.
struct NameBuffer(String);

impl fmt::Write for NameBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.try_reserve(text.len()).map_err(|_| fmt::Error)?;
        self.0.push_str(text);
        Ok(())
    }
}

impl NameBuffer {
    fn of(&self, entry: &FunctionEntry) -> &str {
        &self.0[entry.name.start as usize..entry.name.end as usize]
    }
}

impl Encoder {
    pub(crate) const fn new() -> Self {
        Self { functions: Vec::new(), names: NameBuffer(String::new()) }
    }

    /// Adds a function.
    pub(crate) fn push(
        &mut self,
        name: fmt::Arguments<'_>,
        addr: u64,
        size: u64,
        convention: Convention,
    ) -> Result<(), SymbolsEncodeError> {
        let start = fit(self.names.0.len())?;
        fmt::write(&mut self.names, name).map_err(|_| SymbolsEncodeError::Heap)?;
        let name = start..fit(self.names.0.len())?;
        self.functions.try_reserve(1)?;
        self.functions.push(FunctionEntry { addr, size, convention, name });
        Ok(())
    }

    /// The table; its length is its capacity.
    pub(crate) fn finish(self, anchor: u64) -> Result<Vec<u8>, SymbolsEncodeError> {
        let Self { mut functions, names } = self;
        // Names begin in the order in which they came, which keeps equal addresses in order; sorting in place needs no memory.
        functions.sort_unstable_by_key(|entry| (entry.addr, entry.name.start, entry.name.end));
        let base = functions.first().map_or(0, |entry| entry.addr);
        let mut by_name: Vec<u32> = Vec::new();
        by_name.try_reserve_exact(functions.len())?;
        by_name.extend(0..fit(functions.len())?);
        let name = |index: u32| names.of(&functions[index as usize]);
        by_name.sort_unstable_by(|&a, &b| compare(name(a), name(b)).then(a.cmp(&b)));

        let mut bytes = Vec::new();
        bytes.try_reserve_exact(HEADER_LEN + functions.len() * ENTRY_LEN + names.0.len())?;
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(base.to_le_bytes());
        bytes.extend(anchor.to_le_bytes());
        bytes.extend(fit(functions.len())?.to_le_bytes());
        bytes.extend(fit(names.0.len())?.to_le_bytes());
        bytes.extend([0; HEADER_LEN - SUM_AT]);
        for entry in &functions {
            let offset = u32::try_from(entry.addr - base).map_err(|_| too_far(entry, &names))?;
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        for entry in &functions {
            let size = u32::try_from(entry.size).ok().filter(|size| size & VARIANT == 0);
            let size = size.ok_or_else(|| too_far(entry, &names))?;
            let mark = if entry.convention == Convention::Variant { VARIANT } else { 0 };
            bytes.extend_from_slice(&(size | mark).to_le_bytes());
        }
        let mut start = 0_u32;
        for entry in &functions {
            bytes.extend_from_slice(&start.to_le_bytes());
            start += entry.name.end - entry.name.start;
        }
        for index in by_name {
            bytes.extend_from_slice(&index.to_le_bytes());
        }
        for entry in &functions {
            bytes.extend_from_slice(names.of(entry).as_bytes());
        }
        let sum = checksum(&bytes);
        bytes[SUM_AT..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
        Ok(bytes)
    }
}

/// The order of two names, as `str` has it. Functions of one module have long beginnings in common, and a bare-metal
/// `memcmp` goes byte by byte.
fn compare(a: &str, b: &str) -> Ordering {
    let ((a, a_rest), (b, b_rest)) = (a.as_bytes().as_chunks::<8>(), b.as_bytes().as_chunks::<8>());
    let mut words = a.iter().zip(b).map(|(a, b)| u64::from_be_bytes(*a).cmp(&u64::from_be_bytes(*b)));
    let rest = || match a.len().cmp(&b.len()) {
        Ordering::Equal => a_rest.cmp(b_rest),
        // One ends within the other's next eight bytes.
        Ordering::Less => a_rest.cmp(&b[a.len()]),
        Ordering::Greater => a[b.len()].as_slice().cmp(b_rest),
    };
    words.find(|order| order.is_ne()).unwrap_or_else(rest)
}

fn too_far(entry: &FunctionEntry, names: &NameBuffer) -> SymbolsEncodeError {
    let mut name = String::new();
    match name.try_reserve_exact(names.of(entry).len()) {
        Ok(()) => {
            name.push_str(names.of(entry));
            SymbolsEncodeError::TooFar { name, addr: entry.addr }
        }
        Err(_) => SymbolsEncodeError::Heap,
    }
}

fn fit(count: usize) -> Result<u32, SymbolsEncodeError> {
    u32::try_from(count).map_err(|_| SymbolsEncodeError::TooMany)
}

#[cfg(test)]
mod tests {
    use super::compare;
    extern crate alloc;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    #[test]
    fn names_are_compared_as_text_is() {
        let long = "core::slice::sort::unstable::quicksort";
        let mut names: Vec<String> = (0..long.len()).map(|length| long[..length].into()).collect();
        names.extend((0..20).flat_map(|at| ["!", "z", "\u{e9}"].map(|other| format!("{}{other}", &long[..at]))));
        // Miri takes thousands of times as long.
        let step = if cfg!(miri) { 9 } else { 1 };
        for a in &names {
            for b in names.iter().step_by(step) {
                assert_eq!(compare(a, b), a.cmp(b), "{a:?} and {b:?}");
            }
        }
    }
}
