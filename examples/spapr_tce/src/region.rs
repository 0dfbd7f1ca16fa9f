//! Memory that a user has registered: pinned and paid for as a whole, once, so that mapping it is quick and cannot fail for
//! want of either.

use alloc::vec::Vec;

use crate::error::Error;
use crate::page::{HostPage, Pages, UserPage};
use crate::process::{AddressSpace, Privilege, Write};

/// Registered memory.
///
/// # Invariants
/// Each of the pages is pinned once, and charged for, in the address space that it was registered in.
#[derive(Debug)]
pub(crate) struct Region {
    range: Pages,
    pages: Vec<Page>,
    /// How many entries map it.
    mapped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    host: HostPage,
    /// Whether a device could write to it.
    dirty: Write,
}

impl Region {
    /// Charges for the pages, and pins each; on failure all of that is undone.
    pub(crate) fn register<A: AddressSpace>(
        address_space: &A,
        privilege: Privilege,
        range: Pages,
    ) -> Result<Self, Error> {
        address_space.charge(range.count, privilege)?;
        let mut region = Self { range, pages: Vec::new(), mapped: 0 };
        for page in range.first..range.first + range.count {
            if let Err(error) = region.pin(address_space, UserPage(page)) {
                region.release(address_space);
                return Err(error);
            }
        }
        Ok(region)
    }

    fn pin<A: AddressSpace>(&mut self, address_space: &A, page: UserPage) -> Result<(), Error> {
        self.pages.try_reserve(1).map_err(|_| Error::NoMemory)?;
        let host = address_space.pin(page, Write::Yes)?;
        self.pages.push(Page { host, dirty: Write::No });
        Ok(())
    }

    /// Gives pins and charge back.
    pub(crate) fn release<A: AddressSpace>(self, address_space: &A) {
        for Page { host, dirty } in self.pages {
            address_space.unpin(host, dirty);
        }
        address_space.uncharge(self.range.count);
    }

    /// The range.
    pub(crate) fn range(&self) -> Pages {
        self.range
    }

    /// How many entries map it.
    pub(crate) fn mapped(&self) -> u64 {
        self.mapped
    }

    fn page_mut(&mut self, page: UserPage) -> Option<&mut Page> {
        let index = page.0.checked_sub(self.range.first)?;
        self.pages.get_mut(usize::try_from(index).ok()?)
    }

    /// The page's host page, for an entry that maps it from now on.
    pub(crate) fn map(&mut self, page: UserPage) -> Option<HostPage> {
        let host = self.page_mut(page)?.host;
        self.mapped += 1;
        Some(host)
    }

    /// An entry does not map the page any more.
    pub(crate) fn unmap(&mut self, page: UserPage, write: Write) {
        if write == Write::Yes
            && let Some(page) = self.page_mut(page)
        {
            page.dirty = Write::Yes;
        }
        self.mapped -= 1;
    }
}
