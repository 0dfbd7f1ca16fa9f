//! The translation table of a group: one entry (a *TCE*) for each page of its window.
//!
//! ```text
//!   63                      12 11      2   1   0
//!   | host page                |  zero   | W | R |     neither W nor R: the page is not mapped
//! ```
//!
//! The hardware keeps translations that it has used. An entry that has changed counts for certain once they are flushed.

use alloc::vec::Vec;

use crate::error::Error;
use crate::page::{BusPage, HostPage, PAGE_SHIFT, Window};
use crate::process::Write;

const READ: u64 = 1;
const WRITE: u64 = 2;

/// What a device may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    /// Whether it may write.
    #[must_use]
    pub const fn write(self) -> Write {
        if matches!(self, Self::Read) { Write::No } else { Write::Yes }
    }

    const fn bits(self) -> u64 {
        match self {
            Self::Read => READ,
            Self::Write => WRITE,
            Self::ReadWrite => READ | WRITE,
        }
    }

    /// Whether all that `wanted` needs is allowed.
    const fn allows(self, wanted: Self) -> bool {
        self.bits() & wanted.bits() == wanted.bits()
    }
}

/// A mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The host's page.
    pub page: HostPage,
    /// What a device may do with it.
    pub access: Access,
}

/// An entry as it stands in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    const fn of(mapped: Mapped) -> Self {
        Self(mapped.page.0 << PAGE_SHIFT | mapped.access.bits())
    }

    const fn mapped(self) -> Option<Mapped> {
        let access = match self.0 & (READ | WRITE) {
            0 => return None,
            READ => Access::Read,
            WRITE => Access::Write,
            _ => Access::ReadWrite,
        };
        Some(Mapped { page: HostPage(self.0 >> PAGE_SHIFT), access })
    }
}

/// Who maps pages in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The kernel, for its drivers.
    Kernel,
    /// A container, for a user.
    Container,
}

/// A translation table.
#[derive(Debug)]
pub(crate) struct Table {
    window: Window,
    entries: Vec<Entry>,
    /// What the hardware has kept of the entries that it has used, and after how many flushes that was: it counts until the next.
    kept: Vec<(u64, Entry)>,
    flushes: u64,
    /// The entries that the kernel's own allocator has given out (`it_map`).
    allocated: Vec<bool>,
    owner: Owner,
}

/// One of these for each page of a window.
fn filled<T: Clone + Default>(window: Window) -> Result<Vec<T>, Error> {
    let count = usize::try_from(window.pages()).map_err(|_| Error::NoMemory)?;
    let mut filled = Vec::new();
    filled.try_reserve_exact(count).map_err(|_| Error::NoMemory)?;
    filled.resize(count, T::default());
    Ok(filled)
}

impl Table {
    /// A table for this window, which is the kernel's.
    pub(crate) fn new(window: Window) -> Result<Self, Error> {
        let mut table = Self {
            window,
            entries: filled(window)?,
            kept: filled(window)?,
            // None is kept at first.
            flushes: 1,
            allocated: filled(window)?,
            owner: Owner::Kernel,
        };
        table.reserve_zero();
        Ok(table)
    }

    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// Bus address 0 is never given out: drivers take it for an error.
    fn reserve_zero(&mut self) {
        if let Some(zero) = self.allocated.first_mut().filter(|_| self.window.first() == BusPage(0)) {
            *zero = true;
        }
    }

    /// Gives the table to a container: all entries are cleared, and the kernel's allocator finds none free.
    pub(crate) fn take_ownership(&mut self) -> Result<(), Error> {
        if self.owner == Owner::Container {
            return Err(Error::TableOwned);
        }
        let reserved = usize::from(self.window.first() == BusPage(0));
        let entries = self.allocated.iter().skip(reserved).filter(|is_allocated| **is_allocated).count();
        if entries > 0 {
            return Err(Error::TableInUse { entries });
        }
        self.allocated.fill(true);
        self.owner = Owner::Container;
        self.clear_all();
        Ok(())
    }

    /// Gives the table back to the kernel, with nothing in it.
    pub(crate) fn release_ownership(&mut self) {
        self.clear_all();
        self.allocated.fill(false);
        self.reserve_zero();
        self.owner = Owner::Kernel;
    }

    fn clear_all(&mut self) {
        self.entries.fill(Entry::default());
        self.flush();
    }

    /// Maps a page.
    pub(crate) fn put(&mut self, page: BusPage, mapped: Mapped) -> Result<(), Error> {
        let outside = Error::OutsideWindow { iova: page.address(), size: 1 << PAGE_SHIFT };
        let entry = self.window.entry_of(page).and_then(|entry| self.entries.get_mut(entry)).ok_or(outside)?;
        if entry.mapped().is_some() {
            return Err(Error::EntryInUse { iova: page.address() });
        }
        *entry = Entry::of(mapped);
        Ok(())
    }

    /// Unmaps a page, and returns what was mapped.
    pub(crate) fn clear(&mut self, page: BusPage) -> Option<Mapped> {
        let entry = self.window.entry_of(page).and_then(|entry| self.entries.get_mut(entry))?;
        core::mem::take(entry).mapped()
    }

    /// Has the hardware forget what it has kept.
    pub(crate) fn flush(&mut self) {
        self.flushes += 1;
    }

    /// Maps a page for the kernel's own use, at the first free entry.
    pub(crate) fn allocate(&mut self, mapped: Mapped) -> Option<BusPage> {
        let free = self.allocated.iter().position(|is_allocated| !is_allocated)?;
        let page = BusPage(self.window.first().0 + u64::try_from(free).ok()?);
        *self.allocated.get_mut(free)? = true;
        self.put(page, mapped).ok()?;
        Some(page)
    }

    /// Frees a page that the kernel has allocated. In a container's table there is none.
    pub(crate) fn free(&mut self, page: BusPage) {
        if self.owner == Owner::Container {
            return;
        }
        self.clear(page);
        self.flush();
        if let Some(is_allocated) = self.window.entry_of(page).and_then(|entry| self.allocated.get_mut(entry)) {
            *is_allocated = false;
        }
        self.reserve_zero();
    }

    /// The host page that a device reaches, as the hardware finds it.
    pub(crate) fn translate(&mut self, page: BusPage, wanted: Access) -> Option<HostPage> {
        let index = self.window.entry_of(page)?;
        let entry = *self.entries.get(index)?;
        let kept = self.kept.get_mut(index)?;
        let used = if kept.0 == self.flushes { kept.1 } else { entry };
        // What is not mapped is not kept.
        let mapped = used.mapped()?;
        *kept = (self.flushes, used);
        mapped.access.allows(wanted).then_some(mapped.page)
    }

    /// What is mapped, in the order of bus addresses.
    pub(crate) fn mapped(&self) -> impl Iterator<Item = (BusPage, Mapped)> + '_ {
        let first = self.window.first().0;
        (first..).zip(&self.entries).filter_map(|(page, entry)| Some((BusPage(page), entry.mapped()?)))
    }
}
