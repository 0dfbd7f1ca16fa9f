//! Pages, their addresses, and ranges of them that neither wrap nor leave a window.

use crate::error::Error;

/// The page size is 4 KiB.
pub const PAGE_SHIFT: u32 = 12;

/// The bytes of a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// A page of host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPage(pub u64);

/// A page of a user's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserPage(pub u64);

/// A page of bus addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BusPage(pub u64);

impl UserPage {
    /// Its first byte's address.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.0 << PAGE_SHIFT
    }
}

impl BusPage {
    /// Its first byte's address.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.0 << PAGE_SHIFT
    }
}

/// Whole pages, of bus or of user addresses; none of them is behind the last that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Pages {
    /// The pages of these bytes.
    pub(crate) const fn of(start: u64, size: u64) -> Result<Self, Error> {
        if !start.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Unaligned { value: start });
        }
        if !size.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Unaligned { value: size });
        }
        // The last page may end at 2^64, which is no address.
        if size > 0 && start.checked_add(size - 1).is_none() {
            return Err(Error::Wraps { start, size });
        }
        Ok(Self { first: start >> PAGE_SHIFT, count: size >> PAGE_SHIFT })
    }

    /// Whether a page is one of these. (Pages' numbers are far below 2^64: no end wraps.)
    pub(crate) const fn contains(self, page: u64) -> bool {
        self.first <= page && page < self.first + self.count
    }

    /// Whether they have a page in common.
    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.first < other.first + other.count && other.first < self.first + self.count
    }
}

/// A DMA window: the bus addresses that a translation table has entries for. They are absolute, not offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    first: u64,
    count: u64,
}

impl Window {
    /// The window of `count` pages from this one on; none where it would end behind the last address.
    #[must_use]
    pub const fn new(first: BusPage, count: u64) -> Option<Self> {
        match first.0.checked_add(count) {
            Some(end) if end <= 1 << (u64::BITS - PAGE_SHIFT) => Some(Self { first: first.0, count }),
            _ => None,
        }
    }

    /// How many pages.
    #[must_use]
    pub const fn pages(self) -> u64 {
        self.count
    }

    /// The first page.
    #[must_use]
    pub const fn first(self) -> BusPage {
        BusPage(self.first)
    }

    /// The number of a page's entry.
    pub(crate) fn entry_of(self, page: BusPage) -> Option<usize> {
        let entry = page.0.checked_sub(self.first).filter(|entry| *entry < self.count)?;
        usize::try_from(entry).ok()
    }

    /// The pages of these bytes, if all of them are in the window; of no bytes, the address must be.
    pub(crate) fn pages_of(self, iova: u64, size: u64) -> Result<Pages, Error> {
        let pages = Pages::of(iova, size)?;
        let is_inside = pages.first.checked_sub(self.first).is_some_and(|before| {
            // Neither side wraps: what is before the range is taken off the window.
            before < self.count && pages.count <= self.count - before
        });
        if is_inside { Ok(pages) } else { Err(Error::OutsideWindow { iova, size }) }
    }

    /// Start and size in bytes, as 32 bits.
    pub(crate) fn in_32_bits(self) -> Result<(u32, u32), Error> {
        let too_high = Error::WindowTooHigh { start: self.first().address() };
        let bytes = |pages: u64| {
            let bytes = pages.checked_mul(PAGE_SIZE).ok_or(too_high)?;
            u32::try_from(bytes).map_err(|_| too_high)
        };
        Ok((bytes(self.first)?, bytes(self.count)?))
    }
}
