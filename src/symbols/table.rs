//! A table's form, checked once and then read as if nothing could be wrong.

use core::fmt;
use thiserror::Error;

/// The first four bytes of a table.
pub(super) const MAGIC: [u8; 4] = *b"fsym";
/// The form that this module reads and writes.
pub(super) const VERSION: u32 = 3;
/// Where each field of the header stands, and where the first array starts.
pub(super) const VERSION_AT: usize = 4;
pub(super) const BASE_AT: usize = 8;
const ANCHOR_AT: usize = 16;
pub(super) const COUNT_AT: usize = 24;
const NAMES_LEN_AT: usize = 28;
pub(super) const SUM_AT: usize = 32;
pub(super) const HEADER_LEN: usize = 40;
/// The bytes that each symbol takes beside its name.
pub(super) const ENTRY_LEN: usize = 16;
/// The bit of a size that says that the symbol's convention is a variant.
pub(super) const VARIANT: u32 = 1 << 31;

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
    /// The table's index of names has a symbol that the table does not have.
    #[error("The symbol table's index of names is wrong at place {index}")]
    NameIndex {
        /// The first place in the index that is wrong.
        index: u32,
    },
    /// The table's bytes are not those that were written.
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
    /// Reads what a symbol's `st_other` says in an ELF file for AArch64.
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
    pub(super) offsets: &'a [[u8; 4]],
    pub(super) sizes: &'a [[u8; 4]],
    name_starts: &'a [[u8; 4]],
    pub(super) by_name: &'a [[u8; 4]],
    names: &'a str,
    base: u64,
    anchor: u64,
    slide: u64,
    /// Whether any symbol's convention is a variant.
    pub(super) has_variants: bool,
}

impl<'a> Symbols<'a> {
    /// Checks a table and takes it into use, at the addresses that it was linked for.
    ///
    /// # Errors
    /// Says what is wrong with the table; see [`SymbolsError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SymbolsError> {
        let expected = length(bytes)?;
        if bytes.len() as u64 != expected {
            return Err(SymbolsError::Length { expected, found: bytes.len() as u64 });
        }
        let (header, count) = (&bytes[..HEADER_LEN], read_u32(bytes, COUNT_AT));

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

    /// Checks the table at the start of `room`, behind which there are only zeros.
    ///
    /// A linker script can leave room for a table that is filled in once all is linked.
    ///
    /// # Errors
    /// [`SymbolsError::Absent`] where there are zeros only, or nothing, and else what [`parse`](Self::parse) says.
    pub fn in_room(room: &'a [u8]) -> Result<Self, SymbolsError> {
        if room.iter().all(|byte| *byte == 0) {
            return Err(SymbolsError::Absent);
        }
        let len = length(room)?;
        match usize::try_from(len).ok().and_then(|len| room.split_at_checked(len)) {
            Some((table, rest)) if rest.iter().all(|byte| *byte == 0) => Self::parse(table),
            _ => Err(SymbolsError::Length { expected: len, found: room.len() as u64 }),
        }
    }

    /// Reads the table that the linker put into this kernel, for the addresses where the kernel runs now.
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
        // SAFETY: the bytes between the two symbols are readable and never written: our caller's second promise.
        let bytes = unsafe { core::slice::from_raw_parts(start.cast::<u8>(), len) };
        let symbols = Symbols::in_room(bytes)?;
        let slide = match symbols.anchor {
            0 => 0,
            anchor => (start.addr() as u64).wrapping_sub(anchor),
        };
        Ok(symbols.relocated(slide))
    }

    /// Moves the addresses, for a kernel that runs `slide` bytes above (wrapping: or below) the address it was linked for.
    #[must_use]
    pub fn relocated(self, slide: u64) -> Self {
        Self { slide, ..self }
    }

    /// Returns how far above its linked addresses the kernel runs, as far as the table knows, modulo 2^64.
    pub fn slide(&self) -> u64 {
        self.slide
    }

    /// Returns the number of symbols.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is no symbol at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Returns the address that the table itself was linked at, where it is known.
    #[must_use]
    pub fn anchor(&self) -> Option<u64> {
        (self.anchor != 0).then_some(self.anchor)
    }

    pub(super) fn symbol(&self, index: usize) -> Symbol<'a> {
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
    pub(super) fn size(&self, index: usize) -> u64 {
        u64::from(nth(self.sizes, index) & !VARIANT)
    }

    /// The name of a symbol. It is empty where the table is damaged, which [`Symbols::parse`] lets nobody see.
    pub(super) fn name(&self, index: usize) -> &'a str {
        let starts = self.name_starts.get(index..).unwrap_or_default();
        let end = starts.get(1).map_or(self.names.len(), |end| number(end) as usize);
        starts.first().and_then(|start| self.names.get(number(start) as usize..end)).unwrap_or_default()
    }

    /// The offset of this symbol.
    #[inline(always)]
    pub(super) fn offset_of(&self, index: usize) -> Option<u64> {
        self.offsets.get(index).map(|offset| u64::from(number(offset)))
    }

    /// How far an address is from the lowest symbol's.
    #[inline(always)]
    pub(super) fn offset(&self, addr: u64) -> Option<u64> {
        addr.wrapping_sub(self.slide).checked_sub(self.base)
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

/// Element `index` of an array of little-endian numbers, which is long enough.
#[inline(always)]
pub(super) fn nth(array: &[[u8; 4]], index: usize) -> u32 {
    number(&array[index])
}

/// A little-endian number. A bare-metal target loads byte by byte where it doesn't know of any alignment, and tables are
/// aligned nearly always.
#[inline(always)]
pub(super) fn number(bytes: &[u8; 4]) -> u32 {
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

/// How long a table is, as its header says.
fn length(bytes: &[u8]) -> Result<u64, SymbolsError> {
    let too_short = SymbolsError::Length { expected: HEADER_LEN as u64, found: bytes.len() as u64 };
    let header = bytes.get(..HEADER_LEN).ok_or(too_short)?;
    if header[..4] != MAGIC {
        return Err(SymbolsError::Magic { found: [header[0], header[1], header[2], header[3]] });
    }
    let version = read_u32(header, VERSION_AT);
    if version != VERSION {
        return Err(SymbolsError::Version { found: version });
    }
    let (count, names) = (u64::from(read_u32(header, COUNT_AT)), u64::from(read_u32(header, NAMES_LEN_AT)));
    Ok(HEADER_LEN as u64 + count * ENTRY_LEN as u64 + names)
}

/// The checksum of a table's bytes but for the sum itself; see [above](super#the-tables-form).
pub(super) fn checksum(bytes: &[u8]) -> u64 {
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
