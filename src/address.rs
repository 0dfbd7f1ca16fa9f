//! Addresses that can't be mixed up.
//!
//! Text is not Rust data: the engine never holds a reference to an instruction, only one of these, and reads or
//! writes it through [`text`](crate::text).

use core::fmt;

/// The address of an instruction, as the CPUs that execute it see it.
///
/// Not necessarily aligned: an address that comes from outside is checked where it is used, so that the refusal can name
/// it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TextAddr(u64);

impl TextAddr {
    /// Takes an address as it is.
    pub const fn new(addr: u64) -> Self {
        Self(addr)
    }

    /// The address as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This address plus `bytes`, wrapping at the end of the address space as the CPU's own arithmetic does.
    #[must_use]
    pub const fn offset(self, bytes: i64) -> Self {
        Self(self.0.wrapping_add_signed(bytes))
    }

    /// Whether an instruction can be here (Arm ARM B1.1.1: A64 instructions are word-aligned).
    pub const fn is_aligned(self) -> bool {
        self.0.is_multiple_of(4)
    }
}

impl From<u64> for TextAddr {
    fn from(addr: u64) -> Self {
        Self(addr)
    }
}

impl fmt::Display for TextAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for TextAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextAddr({:#x})", self.0)
    }
}

/// A half-open range of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct TextRange {
    /// The first address inside.
    pub start: TextAddr,
    /// The first address after it.
    pub end: TextAddr,
}

impl TextRange {
    /// The range from `start` up to, and without, `end`.
    pub const fn new(start: TextAddr, end: TextAddr) -> Self {
        Self { start, end }
    }

    /// A range with nothing in it.
    pub const EMPTY: Self = Self::new(TextAddr(0), TextAddr(0));

    /// Whether `addr` is inside.
    pub const fn contains(&self, addr: TextAddr) -> bool {
        self.start.0 <= addr.0 && addr.0 < self.end.0
    }

    /// The smallest range that has both in it.
    pub(crate) fn hull(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self::new(self.start.min(other.start), self.end.max(other.end)),
        }
    }

    /// What is in both.
    pub(crate) fn common(self, other: Self) -> Self {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// Its length in bytes; 0 where the end is not after the start.
    pub const fn len(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for TextRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}
