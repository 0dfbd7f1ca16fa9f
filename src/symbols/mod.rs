//! The kernel's own function names: which function an address lies in, and where a named function is.
//!
//! The table is read-only bytes that a tool makes from the linked image (`cargo xtask symbols`, or the linker front end
//! that `cargo xtask` builds kernels with) and that a second link adds to it, between the linker symbols
//! `__fentry_symbols_start` and `__fentry_symbols_stop`. This module reads such a table. It takes part in no patching
//! and allocates nothing. It stands on floor 0.
//!
//! # The table's form
//! All numbers are little-endian. `n` is the number of symbols.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the magic `fsym` |
//! | 4 | the version of this form, 1 |
//! | 8 | the base: the lowest symbol's address, as linked |
//! | 8 | the anchor: the table's own address, as linked, or 0 where it isn't known |
//! | 4 | `n` |
//! | 4 | `b`, the length of all names |
//! | 4 `n` | each symbol's address, as an offset from the base, ascending |
//! | 4 `n` | each symbol's size |
//! | 4 `n` | where each symbol's name starts in the names; it ends where the next one's starts |
//! | 4 `n` | the symbols' indices in the order of their names |
//! | `b` | the names, in the order of the addresses, with nothing between them |
//!
//! That is 16 bytes a symbol and its name. Names are kept whole, so that a lookup gives a `&str` that lives as long as
//! the table, and a filter can match it without a buffer.
//!
//! # Examples
//! ```
//! use fentry::symbols::{Function, Symbols, encode};
//!
//! let functions = [
//!     Function { name: "heap::alloc".into(), addr: 0x4008_0040, size: 0x80 },
//!     Function { name: "kmain".into(), addr: 0x4008_0000, size: 0x40 },
//! ];
//! let bytes = encode(&functions, 0).unwrap();
//! let symbols = Symbols::parse(&bytes).unwrap();
//!
//! assert_eq!(symbols.lookup_name("heap::alloc").next().unwrap().addr, 0x4008_0040);
//! assert_eq!(symbols.lookup_addr(0x4008_0010).unwrap().symbol.name, "kmain");
//! assert_eq!(symbols.display(0x4008_0048).to_string(), "heap::alloc+0x8/0x80");
//! ```

use core::fmt;
use core::iter::FusedIterator;

#[cfg(any(test, feature = "fakes", feature = "module"))]
mod encode;
#[cfg(feature = "module")]
pub(crate) use encode::Encoder;
#[cfg(any(test, feature = "fakes", feature = "module"))]
pub use encode::{EncodeError, Function, encode};

#[cfg(test)]
mod tests;

/// The first four bytes of a table.
const MAGIC: [u8; 4] = *b"fsym";
/// The form that this module reads and writes.
const VERSION: u32 = 1;
/// Where each field of the header stands, and where the first array starts.
const VERSION_AT: usize = 4;
const BASE_AT: usize = 8;
const ANCHOR_AT: usize = 16;
const COUNT_AT: usize = 24;
const NAMES_LEN_AT: usize = 28;
const HEADER_LEN: usize = 32;
/// The bytes that each symbol takes beside its name.
const ENTRY_LEN: usize = 16;

/// What is wrong with a symbol table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SymbolsError {
    /// The kernel was linked without a table.
    Absent,
    /// The table does not start with the magic.
    Magic {
        /// The bytes that stand there.
        found: [u8; 4],
    },
    /// The table has a form that this version of the crate does not know.
    Version {
        /// The version that the table says it has.
        found: u32,
    },
    /// The table's length is not the one that its header implies.
    Length {
        /// The length that the header implies, or the header's own.
        expected: u64,
        /// The length of the bytes that were given.
        found: u64,
    },
    /// The table's addresses do not ascend.
    AddressOrder {
        /// The index of the first symbol whose address is lower than the one before.
        index: u32,
    },
    /// The table has a symbol that reaches beyond the end of the address space.
    AddressRange {
        /// The index of that symbol.
        index: u32,
    },
    /// The table has a name that is not within the names, or not UTF-8.
    Name {
        /// The index of the symbol.
        index: u32,
    },
    /// The table's index of names is not in the order of the names.
    NameOrder {
        /// The first place in the index that is wrong.
        index: u32,
    },
}

impl fmt::Display for SymbolsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "The kernel was linked without a symbol table"),
            Self::Magic { found } => {
                write!(f, "The symbol table starts with {found:02x?} and not with {MAGIC:02x?}")
            }
            Self::Version { found } => {
                write!(f, "The symbol table has form {found}; this crate reads form {VERSION}")
            }
            Self::Length { expected, found } => {
                write!(f, "The symbol table is {found} bytes long and should be {expected}")
            }
            Self::AddressOrder { index } => {
                write!(f, "The symbol table's addresses do not ascend at symbol {index}")
            }
            Self::AddressRange { index } => {
                write!(f, "The symbol table's symbol {index} ends beyond the address space")
            }
            Self::Name { index } => {
                write!(f, "The symbol table's symbol {index} has no name in UTF-8 within the names")
            }
            Self::NameOrder { index } => {
                write!(f, "The symbol table's names are out of order at place {index}")
            }
        }
    }
}

impl core::error::Error for SymbolsError {}

/// A function: its name and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The demangled name, without the hash.
    pub name: &'a str,
    /// The address of its first byte.
    pub addr: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// A place in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// The function that the place is in.
    pub symbol: Symbol<'a>,
    /// How many bytes after the function's start the place is.
    pub offset: u64,
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}/{:#x}", self.symbol.name, self.offset, self.symbol.size)
    }
}

/// A symbol table that was checked.
///
/// # Invariants
/// - The four arrays and the names are within the bytes, and each array has `count` elements.
/// - Addresses ascend, and base + address offset + size + slide is computed without regard to overflow only by
///   wrapping, so that a slide may be negative.
/// - Each name lies within the names at character boundaries.
/// - The index of names is a permutation in the order of (name, symbol index).
#[derive(Clone, Copy)]
pub struct Symbols<'a> {
    offsets: &'a [u8],
    sizes: &'a [u8],
    name_starts: &'a [u8],
    by_name: &'a [u8],
    names: &'a str,
    base: u64,
    anchor: u64,
    slide: u64,
}

impl<'a> Symbols<'a> {
    /// Checks a table and takes it into use, at the addresses that it was linked for.
    ///
    /// # Errors
    /// Says what is wrong with the table; see [`SymbolsError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SymbolsError> {
        let wrong_length = |expected| SymbolsError::Length { expected, found: bytes.len() as u64 };
        let header = bytes.get(..HEADER_LEN).ok_or(wrong_length(HEADER_LEN as u64))?;
        if header[..4] != MAGIC {
            let found = [header[0], header[1], header[2], header[3]];
            return Err(SymbolsError::Magic { found });
        }
        let version = read_u32(header, VERSION_AT);
        if version != VERSION {
            return Err(SymbolsError::Version { found: version });
        }
        let count = u64::from(read_u32(header, COUNT_AT));
        let names_len = u64::from(read_u32(header, NAMES_LEN_AT));
        let expected = HEADER_LEN as u64 + count * ENTRY_LEN as u64 + names_len;
        if bytes.len() as u64 != expected {
            return Err(wrong_length(expected));
        }

        let array_len = 4 * count as usize;
        let (offsets, rest) = bytes[HEADER_LEN..].split_at(array_len);
        let (sizes, rest) = rest.split_at(array_len);
        let (name_starts, rest) = rest.split_at(array_len);
        let (by_name, names) = rest.split_at(array_len);
        let names = core::str::from_utf8(names).map_err(|error| {
            let bad = error.valid_up_to() as u64;
            let index = (0..count as usize).rev().find(|&i| u64::from(nth(name_starts, i)) <= bad);
            SymbolsError::Name { index: index.unwrap_or(0) as u32 }
        })?;

        let symbols = Self {
            offsets,
            sizes,
            name_starts,
            by_name,
            names,
            base: read_u64(header, BASE_AT),
            anchor: read_u64(header, ANCHOR_AT),
            slide: 0,
        };
        // INVARIANT: the lengths were checked above; these two check the rest.
        symbols.check_symbols()?;
        symbols.check_name_order()?;
        Ok(symbols)
    }

    /// The table that the linker put into this kernel, at the addresses where the kernel runs now.
    ///
    /// A kernel that runs elsewhere than it was linked for needs to do nothing more: the distance is worked out from
    /// where the table itself is.
    ///
    /// # Errors
    /// [`SymbolsError::Absent`] where the kernel was linked without a table, and the others for a damaged one.
    ///
    /// # Safety
    /// - The linker script defines `__fentry_symbols_start` and `__fentry_symbols_stop` around the section
    ///   `.fentry.symbols`.
    /// - What lies between them is mapped, readable, and written by nobody while the kernel runs.
    #[cfg(any(target_os = "none", doc))]
    pub unsafe fn linked() -> Result<Symbols<'static>, SymbolsError> {
        // The linker script defines them, as our caller promises.
        unsafe extern "C" {
            static __fentry_symbols_start: [u8; 0];
            static __fentry_symbols_stop: [u8; 0];
        }
        let start = &raw const __fentry_symbols_start;
        let stop = &raw const __fentry_symbols_stop;
        let len = stop.addr().wrapping_sub(start.addr());
        if len == 0 {
            return Err(SymbolsError::Absent);
        }
        // SAFETY: Our caller promises that the bytes between the two symbols are readable and never written.
        let bytes = unsafe { core::slice::from_raw_parts(start.cast::<u8>(), len) };
        let symbols = Symbols::parse(bytes)?;
        let slide = match symbols.anchor {
            0 => 0,
            anchor => (start.addr() as u64).wrapping_sub(anchor),
        };
        Ok(symbols.relocated(slide))
    }

    /// The same table for a kernel that runs `slide` bytes above (wrapping: or below) the address it was linked for.
    #[must_use]
    pub fn relocated(self, slide: u64) -> Self {
        Self { slide, ..self }
    }

    /// How many symbols there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() / 4
    }

    /// Whether there is no symbol at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The address that the table itself was linked at, where it is known.
    #[must_use]
    pub fn anchor(&self) -> Option<u64> {
        (self.anchor != 0).then_some(self.anchor)
    }

    /// The function that `addr` is in.
    ///
    /// Where several symbols have one address, it is always the same one of them that is found: the one that the table
    /// has first.
    #[must_use]
    pub fn lookup_addr(&self, addr: u64) -> Option<Location<'a>> {
        let wanted = addr.wrapping_sub(self.slide).checked_sub(self.base)?;
        let after = partition_point(self.len(), |i| u64::from(nth(self.offsets, i)) <= wanted);
        let found = u64::from(nth(self.offsets, after.checked_sub(1)?));
        let first = partition_point(after, |i| u64::from(nth(self.offsets, i)) < found);
        let symbol = self.symbol(first);
        let offset = wanted - found;
        (offset < symbol.size).then_some(Location { symbol, offset })
    }

    /// All functions of exactly this name, in the order of their addresses.
    ///
    /// There may be several: a generic function that two crates instantiate keeps one name.
    pub fn lookup_name<'n>(&self, name: &'n str) -> impl Iterator<Item = Symbol<'a>> + use<'a, 'n> {
        let symbols = *self;
        let first = partition_point(self.len(), |i| symbols.name(symbols.ranked(i)) < name);
        (first..self.len())
            .map(move |i| symbols.symbol(symbols.ranked(i)))
            .take_while(move |symbol| symbol.name == name)
    }

    /// Every function, in the order of the addresses.
    pub fn iter(&self) -> Iter<'a> {
        Iter { symbols: *self, next: 0 }
    }

    /// `addr` as a person wants to read it: `name+0x10/0x40`, or the number where no function is there.
    pub fn display(&self, addr: u64) -> impl fmt::Display + use<'a> {
        let location = self.lookup_addr(addr);
        fmt::from_fn(move |f| match location {
            Some(location) => write!(f, "{location}"),
            None => write!(f, "{addr:#x}"),
        })
    }

    fn symbol(&self, index: usize) -> Symbol<'a> {
        Symbol {
            name: self.name(index),
            addr: self.base.wrapping_add(u64::from(nth(self.offsets, index))).wrapping_add(self.slide),
            size: u64::from(nth(self.sizes, index)),
        }
    }

    /// The name of a symbol. It is empty where the table is damaged, which [`Symbols::parse`] lets nobody see.
    fn name(&self, index: usize) -> &'a str {
        self.checked_name(index).unwrap_or_default()
    }

    fn checked_name(&self, index: usize) -> Option<&'a str> {
        let start = nth(self.name_starts, index) as usize;
        let end = if index + 1 < self.len() { nth(self.name_starts, index + 1) as usize } else { self.names.len() };
        self.names.get(start..end)
    }

    /// The index of the symbol whose name is at `rank` in the order of names.
    fn ranked(&self, rank: usize) -> usize {
        nth(self.by_name, rank) as usize
    }

    fn check_symbols(&self) -> Result<(), SymbolsError> {
        let mut before = 0;
        for i in 0..self.len() {
            let index = i as u32;
            let offset = nth(self.offsets, i);
            if offset < before {
                return Err(SymbolsError::AddressOrder { index });
            }
            before = offset;
            let last = u64::from(offset) + u64::from(nth(self.sizes, i));
            if self.base.checked_add(last).is_none() {
                return Err(SymbolsError::AddressRange { index });
            }
            if self.checked_name(i).is_none() {
                return Err(SymbolsError::Name { index });
            }
        }
        Ok(())
    }

    fn check_name_order(&self) -> Result<(), SymbolsError> {
        // Strictly ascending pairs are distinct, and n distinct indices below n are a permutation.
        let mut before = None;
        for rank in 0..self.len() {
            let index = self.ranked(rank);
            let key = (index < self.len()).then(|| (self.name(index), index));
            if key.is_none() || key <= before {
                return Err(SymbolsError::NameOrder { index: rank as u32 });
            }
            before = key;
        }
        Ok(())
    }
}

impl fmt::Debug for Symbols<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbols")
            .field("len", &self.len())
            .field("base", &format_args!("{:#x}", self.base))
            .field("slide", &format_args!("{:#x}", self.slide))
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &Symbols<'a> {
    type Item = Symbol<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The functions of a table in the order of their addresses; made by [`Symbols::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    symbols: Symbols<'a>,
    next: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Symbol<'a>;

    fn next(&mut self) -> Option<Symbol<'a>> {
        (self.next < self.symbols.len()).then(|| {
            self.next += 1;
            self.symbols.symbol(self.next - 1)
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.symbols.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

/// The first index below `count` for which `before` does not hold, or `count`. `before` holds for a front part only.
fn partition_point(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Element `index` of an array of little-endian numbers, which is long enough.
fn nth(array: &[u8], index: usize) -> u32 {
    read_u32(array, 4 * index)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(read_u32(bytes, at)) | u64::from(read_u32(bytes, at + 4)) << 32
}
