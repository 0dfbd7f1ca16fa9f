//! Lookups in a table: which function an address lies in, and where a named function is.

use super::table::{Symbol, Symbols, VARIANT, nth, number};
use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;

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

impl<'a> Symbols<'a> {
    /// Finds the function that `addr` is in.
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

    /// Finds every name of the function that begins at `addr`, in the order of the table.
    #[must_use]
    pub fn names_at(&self, addr: u64) -> Names<'_, 'a> {
        Names { symbols: self, range: self.beginning_at(addr) }
    }

    /// Finds all functions of exactly this name, in the order of their addresses.
    ///
    /// There may be several: a generic function that two crates instantiate keeps one name.
    pub fn lookup_name<'n>(&self, name: &'n str) -> impl Iterator<Item = Symbol<'a>> + use<'a, 'n> {
        let symbols = *self;
        self.by_name_from(name)
            .iter()
            .map(move |index| symbols.symbol(u32::from_le_bytes(*index) as usize))
            .take_while(move |symbol| symbol.name == name)
    }

    /// Finds the addresses of all functions of exactly this name, as [`lookup_name`](Self::lookup_name) does, for who has
    /// little stack: an iterator over symbols has a copy of the table's parts.
    pub(crate) fn addresses_of(&self, name: &str) -> impl Iterator<Item = u64> {
        let indices = self.by_name_from(name).iter().map(|index| u32::from_le_bytes(*index) as usize);
        indices.take_while(move |index| self.name(*index) == name).map(|index| self.symbol(index).addr)
    }

    /// The symbols, in the order of their names, from the first on that is not before this name.
    #[inline(never)]
    fn by_name_from(&self, name: &str) -> &'a [[u8; 4]] {
        let before = |index: &[u8; 4]| self.name(u32::from_le_bytes(*index) as usize) < name;
        self.by_name.split_at(self.by_name.partition_point(before)).1
    }

    /// Whether [`is_variant`](Self::is_variant) is true of any function.
    pub(crate) fn has_variants(&self) -> bool {
        self.has_variants
    }

    /// Whether a function that begins at this address has a variant convention, by any of its names.
    pub(crate) fn is_variant(&self, function: u64) -> bool {
        self.beginning_at(function).any(|index| nth(self.sizes, index) & VARIANT != 0)
    }

    /// Iterates over every function, in the order of the addresses.
    pub fn iter(&self) -> Iter<'a> {
        Iter { symbols: *self, next: 0 }
    }

    /// Shows `addr` as a person wants to read it: `name+0x10/0x40`, or the number where no function is there.
    pub fn display(&self, addr: u64) -> impl fmt::Display + use<'a> {
        let location = self.lookup_addr(addr);
        fmt::from_fn(move |f| match location {
            Some(location) => write!(f, "{location}"),
            None => write!(f, "{addr:#x}"),
        })
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

    /// The symbols that begin at `addr`; empty where none does.
    fn beginning_at(&self, addr: u64) -> Range<usize> {
        let group = self.offset(addr).and_then(|wanted| {
            let begins = |group: &Range<usize>| self.offset_of(group.start) == Some(wanted);
            self.group_of(wanted).filter(begins)
        });
        group.unwrap_or_default()
    }

    /// The place `wanted` in this symbol, if it is in it.
    fn location(&self, index: usize, wanted: u64) -> Option<Location<'a>> {
        let offset = wanted.checked_sub(u64::from(nth(self.offsets, index)))?;
        (offset < self.size(index).max(1)).then(|| Location { symbol: self.symbol(index), offset })
    }
}

impl<'a> IntoIterator for &Symbols<'a> {
    type Item = Symbol<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The names that one address has; made by [`Symbols::names_at`]. So small that it is copied for each rule of a filter.
#[derive(Clone, Debug)]
pub struct Names<'s, 'a> {
    pub(super) symbols: &'s Symbols<'a>,
    /// # Invariants
    ///
    /// Symbols of one address.
    pub(super) range: Range<usize>,
}

impl<'a> Iterator for Names<'_, 'a> {
    type Item = &'a str;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a str> {
        self.range.next().map(|index| self.symbols.name(index))
    }
}

impl FusedIterator for Names<'_, '_> {}

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
