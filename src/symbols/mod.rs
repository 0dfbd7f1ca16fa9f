//! The kernel's own function names: which function an address lies in, and where a named function is.
//!
//! The table is read-only bytes that a tool makes from the linked image (`cargo xtask symbols`, or the linker front end
//! that `cargo xtask` builds kernels with) and that a second link adds to it, between the linker symbols
//! `__fentry_symbols_start` and `__fentry_symbols_stop`. This module reads such a table. It takes part in no patching
//! and allocates nothing.
//!
//! # The table's form
//! All numbers are little-endian. `n` is the number of symbols.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the magic `fsym` |
//! | 4 | the version of this form, 3 |
//! | 8 | the base: the lowest symbol's address, as linked |
//! | 8 | the anchor: the table's own address, as linked, or 0 where it isn't known |
//! | 4 | `n` |
//! | 4 | `b`, the length of all names |
//! | 8 | the checksum of all the rest; see below |
//! | 4 `n` | each symbol's address, as an offset from the base, ascending |
//! | 4 `n` | each symbol's size, in 31 bits; the highest bit is set where its [`Convention`] is a variant |
//! | 4 `n` | where each symbol's name starts in the names; it ends where the next one's starts |
//! | 4 `n` | the symbols' indices in the order of their names |
//! | `b` | the names, in the order of the addresses, with nothing between them |
//!
//! The checksum is that of the pieces of 8 bytes, the last one filled up with zeros: it starts as 0, and with each piece it
//! becomes (itself XOR the piece) times 0x9e37_79b9_7f4a_7c15, rotated left by 29 bits. Each step can be reversed, so
//! a change of one piece is always seen. It is what tells that the names are in order, without comparing them: a kernel
//! reads its table at each boot.
//!
//! That is 16 bytes a symbol and its name. Names are kept whole, so that a lookup gives a `&str` that lives as long as
//! the table, and a filter can match it without a buffer.
//!
//! # Examples
//! ```
//! use fentry::symbols::{Convention, Function, Symbols, encode};
//!
//! let convention = Convention::Base;
//! let functions = [
//!     Function { name: "heap::alloc".into(), addr: 0x4008_0040, size: 0x80, convention },
//!     Function { name: "kmain".into(), addr: 0x4008_0000, size: 0x40, convention },
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
use core::ops::Range;
use thiserror::Error;

mod cursor;
#[cfg(any(test, feature = "fakes", feature = "module"))]
mod encode;
#[cfg(feature = "module")]
mod owned;
#[cfg(feature = "module")]
pub(crate) use encode::Encoder;
#[cfg(any(test, feature = "fakes", feature = "module"))]
pub use encode::{EncodeError, Function, encode};
#[cfg(feature = "module")]
pub(crate) use owned::OwnedSymbols;

pub(crate) use cursor::{Cursor, NamesHere, Starts};

#[cfg(test)]
mod tests;

/// The first four bytes of a table.
const MAGIC: [u8; 4] = *b"fsym";
/// The form that this module reads and writes.
const VERSION: u32 = 3;
/// Where each field of the header stands, and where the first array starts.
const VERSION_AT: usize = 4;
const BASE_AT: usize = 8;
const ANCHOR_AT: usize = 16;
const COUNT_AT: usize = 24;
const NAMES_LEN_AT: usize = 28;
const SUM_AT: usize = 32;
const HEADER_LEN: usize = 40;
/// The bytes that each symbol takes beside its name.
const ENTRY_LEN: usize = 16;
/// The bit of a size that says that the symbol's convention is a variant.
const VARIANT: u32 = 1 << 31;

/// What is wrong with a symbol table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SymbolsError {
    /// The kernel was linked without a table.
    #[error("The kernel was linked without a symbol table")]
    Absent,
    /// The table does not start with the magic.
    #[error("The symbol table starts with {found:02x?} and not with {MAGIC:02x?}")]
    Magic {
        /// The bytes that stand there.
        found: [u8; 4],
    },
    /// The table has a form that this version of the crate does not know.
    #[error("The symbol table has form {found}; this crate reads form {VERSION}")]
    Version {
        /// The version that the table says it has.
        found: u32,
    },
    /// The table's length is not the one that its header implies.
    #[error("The symbol table is {found} bytes long and should be {expected}")]
    Length {
        /// The length that the header implies, or the header's own.
        expected: u64,
        /// The length of the bytes that were given.
        found: u64,
    },
    /// The table's addresses do not ascend.
    #[error("The symbol table's addresses do not ascend at symbol {index}")]
    AddressOrder {
        /// The index of the first symbol whose address is lower than the one before.
        index: u32,
    },
    /// The table has a symbol that reaches beyond the end of the address space.
    #[error("The symbol table's symbol {index} ends beyond the address space")]
    AddressRange {
        /// The index of that symbol.
        index: u32,
    },
    /// The table has a name that is not within the names, or not UTF-8.
    #[error("The symbol table's symbol {index} has no name in UTF-8 within the names")]
    Name {
        /// The index of the symbol.
        index: u32,
    },
    /// The table's index of names names a symbol that there is none of.
    #[error("The symbol table's index of names is wrong at place {index}")]
    NameIndex {
        /// The first place in the index that is wrong.
        index: u32,
    },
    /// The table is not what was written.
    #[error("The symbol table's checksum is {found:#018x} and should be {expected:#018x}")]
    Checksum {
        /// The sum that the table says it has.
        expected: u64,
        /// The sum that it has.
        found: u64,
    },
}

/// What a function's callers may count on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Convention {
    /// As far as its symbol says, no more than the base standard promises: x9 to x17 and q16 to q31 are the callee's.
    #[default]
    Base,
    /// The symbol is marked STO_AARCH64_VARIANT_PCS (AAELF64 5.5.1): some of these registers may be live at its entry, or
    /// across a call of it. `aarch64_vector_pcs` and functions with SVE arguments are so; Clang's `preserve_most` and
    /// rustc's `extern "rust-cold"` are not marked.
    Variant,
}

impl Convention {
    /// What a symbol's `st_other` says in an ELF file for AArch64.
    pub const fn of_st_other(st_other: u8) -> Self {
        const STO_AARCH64_VARIANT_PCS: u8 = 0x80;
        if st_other & STO_AARCH64_VARIANT_PCS == 0 { Self::Base } else { Self::Variant }
    }
}

/// A function: its name and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The demangled name, without the hash.
    pub name: &'a str,
    /// The address of its first byte.
    pub addr: u64,
    /// Its length in bytes; 0 for a label, which has none.
    pub size: u64,
    /// What its callers may count on.
    pub convention: Convention,
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
/// - Each of the four arrays has an element for each symbol.
/// - Addresses ascend, and base + address offset + size + slide is computed without regard to overflow only by
///   wrapping, so that a slide may be negative.
/// - Each name lies within the names at character boundaries.
/// - Each element of the index of names is a symbol's index. That they are in the order of (name, symbol index) is what
///   the checksum vouches for: were they not, names would not be found.
#[derive(Clone, Copy)]
pub struct Symbols<'a> {
    offsets: &'a [[u8; 4]],
    sizes: &'a [[u8; 4]],
    name_starts: &'a [[u8; 4]],
    by_name: &'a [[u8; 4]],
    names: &'a str,
    base: u64,
    anchor: u64,
    slide: u64,
    /// Whether any symbol's convention is a variant.
    has_variants: bool,
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

        let (arrays, names) = bytes[HEADER_LEN..].split_at(ENTRY_LEN * count as usize);
        let (elements, _) = arrays.as_chunks();
        let (offsets, rest) = elements.split_at(count as usize);
        let (sizes, rest) = rest.split_at(count as usize);
        let (name_starts, by_name) = rest.split_at(count as usize);
        let names = core::str::from_utf8(names).map_err(|error| {
            let bad = error.valid_up_to() as u64;
            let index = name_starts.iter().rposition(|start| u64::from(u32::from_le_bytes(*start)) <= bad);
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
            has_variants: sizes.iter().any(|size| u32::from_le_bytes(*size) & VARIANT != 0),
        };
        // INVARIANT: the lengths were checked above; these check the rest.
        symbols.check_symbols()?;
        symbols.check_name_index()?;
        match (read_u64(header, SUM_AT), checksum(bytes)) {
            (expected, found) if found == expected => Ok(symbols),
            (expected, found) => Err(SymbolsError::Checksum { expected, found }),
        }
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
    /// 1. The linker script defines `__fentry_symbols_start` and `__fentry_symbols_stop` around the section
    ///    `.fentry.symbols`.
    /// 2. What lies between them is mapped, readable, and written by nobody while the kernel runs.
    #[cfg(any(target_os = "none", doc))]
    pub unsafe fn linked() -> Result<Symbols<'static>, SymbolsError> {
        // The linker script defines them: our caller's first promise.
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
        // SAFETY: the bytes between the two symbols are readable and never written: our caller's second promise.
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

    /// How far above its linked addresses the kernel runs, as far as the table knows, modulo 2^64.
    pub fn slide(&self) -> u64 {
        self.slide
    }

    /// How many symbols there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
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
    /// has first of those that reach as far. Of functions inside of others the one that begins last is found, among the 64
    /// addresses before. What has no length, a label, is found at its own address only.
    #[must_use]
    pub fn lookup_addr(&self, addr: u64) -> Option<Location<'a>> {
        // Inside a function there may be labels, and other functions that end before.
        const BACK: usize = 64;
        let wanted = self.offset(addr)?;
        let mut group = self.group_of(wanted)?;
        for _ in 0..BACK {
            if let Some(found) = group.clone().find_map(|index| self.location(index, wanted)) {
                return Some(found);
            }
            let before = group.start.checked_sub(1)?;
            group = self.group_of(u64::from(nth(self.offsets, before)))?;
        }
        None
    }

    /// Every name of the function that begins at `addr`, in the order of the table.
    #[must_use]
    pub fn names_at(&self, addr: u64) -> Names<'a> {
        let begins = |group: &Range<usize>| Some(u64::from(nth(self.offsets, group.start))) == self.offset(addr);
        let range = self.offset(addr).and_then(|wanted| self.group_of(wanted)).filter(begins);
        range.map_or(Names::none(*self), |range| Names { symbols: *self, range })
    }

    /// The names for one address after the other.
    pub(crate) fn cursor(&self) -> Cursor<'a> {
        Cursor::new(*self)
    }

    /// Where functions begin, for asking about one address after the other.
    pub(crate) fn starts(&self) -> Starts<'a> {
        Starts::new(*self)
    }

    /// All functions of exactly this name, in the order of their addresses.
    ///
    /// There may be several: a generic function that two crates instantiate keeps one name.
    pub fn lookup_name<'n>(&self, name: &'n str) -> impl Iterator<Item = Symbol<'a>> + use<'a, 'n> {
        let symbols = *self;
        let first = self.by_name.partition_point(|index| symbols.name(u32::from_le_bytes(*index) as usize) < name);
        self.by_name[first..]
            .iter()
            .map(move |index| symbols.symbol(u32::from_le_bytes(*index) as usize))
            .take_while(move |symbol| symbol.name == name)
    }

    /// Whether [`is_variant`](Self::is_variant) is true of any function.
    pub(crate) fn has_variants(&self) -> bool {
        self.has_variants
    }

    /// Whether a function that begins at this address has a variant convention, by any of its names.
    pub(crate) fn is_variant(&self, function: u64) -> bool {
        let group = self.offset(function).and_then(|wanted| Some((wanted, self.group_of(wanted)?)));
        let is_it = |index: usize, wanted| u64::from(nth(self.offsets, index)) == wanted;
        group.is_some_and(|(wanted, mut group)| {
            is_it(group.start, wanted) && group.any(|index| nth(self.sizes, index) & VARIANT != 0)
        })
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
            size: self.size(index),
            convention: match nth(self.sizes, index) & VARIANT {
                0 => Convention::Base,
                _ => Convention::Variant,
            },
        }
    }

    /// The length of a symbol in bytes.
    #[inline]
    fn size(&self, index: usize) -> u64 {
        u64::from(nth(self.sizes, index) & !VARIANT)
    }

    /// The name of a symbol. It is empty where the table is damaged, which [`Symbols::parse`] lets nobody see.
    fn name(&self, index: usize) -> &'a str {
        let starts = self.name_starts.get(index..).unwrap_or_default();
        let end = starts.get(1).map_or(self.names.len(), |end| number(end) as usize);
        starts.first().and_then(|start| self.names.get(number(start) as usize..end)).unwrap_or_default()
    }

    /// The offset of this symbol.
    #[inline(always)]
    fn offset_of(&self, index: usize) -> Option<u64> {
        self.offsets.get(index).map(|offset| u64::from(number(offset)))
    }

    /// How far an address is from the lowest symbol's.
    #[inline(always)]
    fn offset(&self, addr: u64) -> Option<u64> {
        addr.wrapping_sub(self.slide).checked_sub(self.base)
    }

    /// The symbols with the highest offset that is not above `wanted`: several, where they have one address.
    fn group_of(&self, wanted: u64) -> Option<Range<usize>> {
        let end = self.offsets.partition_point(|offset| u64::from(number(offset)) <= wanted);
        let (last, before) = self.offsets[..end].split_last()?;
        // Hardly ever is there more than one.
        let start = match before.last() {
            Some(other) if other == last => {
                before.partition_point(|offset| u32::from_le_bytes(*offset) < u32::from_le_bytes(*last))
            }
            _ => before.len(),
        };
        Some(start..end)
    }

    /// The place `wanted` in this symbol, if it is in it.
    fn location(&self, index: usize, wanted: u64) -> Option<Location<'a>> {
        let offset = wanted.checked_sub(u64::from(nth(self.offsets, index)))?;
        (offset < self.size(index).max(1)).then(|| Location { symbol: self.symbol(index), offset })
    }

    fn check_symbols(&self) -> Result<(), SymbolsError> {
        let mut before = 0;
        let ends = self.name_starts.iter().skip(1).map(|end| u32::from_le_bytes(*end) as usize);
        let names = self.name_starts.iter().zip(ends.chain([self.names.len()]));
        for (index, ((offset, size), (start, end))) in (0..).zip(self.offsets.iter().zip(self.sizes).zip(names)) {
            let offset = u32::from_le_bytes(*offset);
            if offset < before {
                return Err(SymbolsError::AddressOrder { index });
            }
            before = offset;
            let last = u64::from(offset) + u64::from(u32::from_le_bytes(*size) & !VARIANT);
            if self.base.checked_add(last).is_none() {
                return Err(SymbolsError::AddressRange { index });
            }
            if self.names.get(u32::from_le_bytes(*start) as usize..end).is_none() {
                return Err(SymbolsError::Name { index });
            }
        }
        Ok(())
    }

    fn check_name_index(&self) -> Result<(), SymbolsError> {
        match self.by_name.iter().position(|index| u32::from_le_bytes(*index) as usize >= self.len()) {
            None => Ok(()),
            Some(wrong) => Err(SymbolsError::NameIndex { index: wrong as u32 }),
        }
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

/// The names that one address has; made by [`Symbols::names_at`].
#[derive(Clone, Debug)]
pub struct Names<'a> {
    symbols: Symbols<'a>,
    /// # Invariants
    ///
    /// Symbols of one address.
    range: Range<usize>,
}

impl<'a> Names<'a> {
    #[inline(always)]
    const fn none(symbols: Symbols<'a>) -> Self {
        Self { symbols, range: 0..0 }
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = &'a str;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a str> {
        self.range.next().map(|index| self.symbols.name(index))
    }
}

impl FusedIterator for Names<'_> {}

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

/// Element `index` of an array of little-endian numbers, which is long enough.
#[inline(always)]
fn nth(array: &[[u8; 4]], index: usize) -> u32 {
    number(&array[index])
}

/// A little-endian number. A bare-metal target loads byte by byte where it doesn't know of any alignment, and tables are
/// aligned nearly always.
#[inline(always)]
fn number(bytes: &[u8; 4]) -> u32 {
    let number = core::ptr::from_ref(bytes).cast::<u32>();
    if number.is_aligned() {
        // Volatile, or the compiler makes one load of both, for either alignment.
        // SAFETY: aligned, and of four bytes, any of which are a number.
        u32::from_le(unsafe { number.read_volatile() })
    } else {
        u32::from_le_bytes(*bytes)
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(read_u32(bytes, at)) | u64::from(read_u32(bytes, at + 4)) << 32
}

/// The checksum of a table's bytes but for the sum itself; see [above](self#the-tables-form).
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, piece: u64| (sum ^ piece).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let sum_of = |sum: u64, bytes: &[u8]| {
        // SAFETY: any eight bytes are a number.
        let (unaligned, aligned, tail) = unsafe { bytes.align_to::<u64>() };
        // A bare-metal target loads byte by byte where it doesn't know of any alignment.
        let (sum, tail) = if unaligned.is_empty() {
            (aligned.iter().fold(sum, |sum, piece| step(sum, u64::from_le(*piece))), tail)
        } else {
            let (pieces, tail) = bytes.as_chunks();
            (pieces.iter().fold(sum, |sum, piece| step(sum, u64::from_le_bytes(*piece))), tail)
        };
        if tail.is_empty() {
            return sum;
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        step(sum, u64::from_le_bytes(last))
    };
    sum_of(sum_of(0, &bytes[..SUM_AT]), &bytes[HEADER_LEN..])
}
