//! A group: devices that the platform can tell from others, behind one translation table; and what their DMA finds.
//!
//! The hardware is simulated. A device's access is translated page by page; one that finds no entry, or none that allows it,
//! is counted, and *isolates* the group: no access of its devices gets through any more, until the group is
//! [reset](Group::reset).

use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;
use thiserror::Error as ThisError;

use crate::error::Error;
use crate::machine::HostMemory;
use crate::page::{BusPage, HostPage, PAGE_SHIFT, PAGE_SIZE, Window};
use crate::table::{Access, Mapped, Table};

/// A device's access that did not get through.
#[derive(Clone, Copy, Debug, ThisError, PartialEq, Eq)]
pub enum DmaFault {
    /// There is no entry, or none that allows it. The group is isolated from now on.
    #[error("The device may not access bus address {address:#x}")]
    NotMapped {
        /// The bus address.
        address: u64,
    },
    /// The group is isolated.
    #[error("The device's group is isolated")]
    Isolated,
}

/// How many windows a group's hardware has.
pub(crate) const WINDOWS: usize = 2;

/// A table that groups share: a container's.
pub(crate) type SharedTable = Arc<Mutex<Table>>;

/// A group of devices.
#[derive(Debug)]
pub struct Group {
    number: u32,
    hardware: Mutex<Hardware>,
}

#[derive(Debug)]
struct Hardware {
    /// The group's own.
    table: Option<Table>,
    /// The windows that a container has programmed.
    windows: [Option<SharedTable>; WINDOWS],
    /// The sizes of pages that windows can have: bit 12 for 4 KiB.
    page_sizes: u64,
    /// How many windows it takes before it refuses one.
    until_refusal: Option<u32>,
    faults: u64,
    is_isolated: bool,
}

impl Group {
    fn of(number: u32, table: Option<Table>) -> Self {
        let page_sizes = 1 << PAGE_SHIFT;
        let windows = [const { None }; WINDOWS];
        let hardware = Hardware { table, windows, page_sizes, until_refusal: None, faults: 0, is_isolated: false };
        Self { number, hardware: Mutex::new(hardware) }
    }

    /// A group with a table for this window; none where there is no memory for it.
    #[must_use]
    pub fn new(number: u32, window: Window) -> Option<Self> {
        Some(Self::of(number, Some(Table::new(window).ok()?)))
    }

    /// A group whose devices' DMA is not translated.
    #[must_use]
    pub fn without_table(number: u32) -> Self {
        Self::of(number, None)
    }

    /// The same group with other sizes of pages: bit 12 stands for 4 KiB, and only these are translated.
    #[must_use]
    pub fn with_page_sizes(mut self, page_sizes: u64) -> Self {
        self.hardware.get_mut().page_sizes = page_sizes;
        self
    }

    /// Has the hardware take so many more windows, and refuse the next one.
    pub fn refuse_window_after(&self, windows: u32) {
        self.hardware.lock().until_refusal = Some(windows);
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The window of its table.
    #[must_use]
    pub fn window(&self) -> Option<Window> {
        self.hardware.lock().table.as_ref().map(Table::window)
    }

    fn with_table<T>(&self, access: impl FnOnce(&mut Table) -> T) -> Result<T, Error> {
        self.hardware.lock().table.as_mut().map(access).ok_or(Error::NoTable)
    }

    /// Takes the table from the kernel, with nothing in it. A group without one has nothing to take.
    pub(crate) fn take_ownership(&self) -> Result<(), Error> {
        self.with_table(Table::take_ownership).unwrap_or(Ok(()))
    }

    /// Gives the table back to the kernel, with nothing in it.
    pub(crate) fn release_ownership(&self) {
        // A group without a table has nothing to give back.
        let _ = self.with_table(Table::release_ownership);
    }

    /// The sizes of pages that windows can have.
    pub(crate) fn page_sizes(&self) -> u64 {
        self.hardware.lock().page_sizes
    }

    /// Programs a window.
    pub(crate) fn set_window(&self, number: usize, table: &SharedTable) -> Result<(), Error> {
        let mut hardware = self.hardware.lock();
        let refused = Error::WindowRefused { group: self.number };
        if let Some(left) = hardware.until_refusal {
            hardware.until_refusal = left.checked_sub(1);
            if left == 0 {
                return Err(refused);
            }
        }
        *hardware.windows.get_mut(number).ok_or(refused)? = Some(Arc::clone(table));
        Ok(())
    }

    /// Takes a window back.
    pub(crate) fn unset_window(&self, number: usize) {
        if let Some(window) = self.hardware.lock().windows.get_mut(number) {
            *window = None;
        }
    }

    /// Maps a page.
    pub(crate) fn put(&self, page: BusPage, mapped: Mapped) -> Result<(), Error> {
        self.with_table(|table| table.put(page, mapped))?
    }

    /// Unmaps a page, and returns what was mapped.
    pub(crate) fn clear(&self, page: BusPage) -> Option<Mapped> {
        self.with_table(|table| table.clear(page)).ok().flatten()
    }

    /// Has the hardware forget the translations that it has kept.
    pub(crate) fn flush(&self) {
        // Without a table none are kept.
        let _ = self.with_table(Table::flush);
    }

    /// Maps a page for one of the kernel's own drivers.
    ///
    /// # Errors
    /// [`Error::NoTable`]. There is no page where the window is full, or the table is a container's.
    pub fn kernel_map(&self, mapped: Mapped) -> Result<Option<BusPage>, Error> {
        self.with_table(|table| table.allocate(mapped))
    }

    /// Unmaps a page of a driver's.
    ///
    /// # Errors
    /// [`Error::NoTable`].
    pub fn kernel_unmap(&self, page: BusPage) -> Result<(), Error> {
        self.with_table(|table| table.free(page))
    }

    /// A device reads.
    ///
    /// # Errors
    /// [`DmaFault`]; what comes before the address has been read.
    pub fn dma_read(&self, memory: &HostMemory, address: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.dma(address, into.len(), Access::Read, |page, offset, range| {
            memory.read(page, offset, &mut into[range]);
        })
    }

    /// A device writes.
    ///
    /// # Errors
    /// [`DmaFault`]; what comes before the address has been written.
    pub fn dma_write(&self, memory: &HostMemory, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        self.dma(address, bytes.len(), Access::Write, |page, offset, range| {
            memory.write(page, offset, &bytes[range]);
        })
    }

    /// Translates an access page by page: `each` is given the host's page, the offset in it, and which of the bytes.
    fn dma(
        &self,
        start: u64,
        len: usize,
        wanted: Access,
        mut each: impl FnMut(HostPage, usize, core::ops::Range<usize>),
    ) -> Result<(), DmaFault> {
        let mut hardware = self.hardware.lock();
        if hardware.is_isolated {
            return Err(DmaFault::Isolated);
        }
        let mut done = 0;
        while done < len {
            let address = start.wrapping_add(done as u64);
            let offset = (address % PAGE_SIZE) as usize;
            let part = (len - done).min(PAGE_SIZE as usize - offset);
            let page = BusPage(address >> PAGE_SHIFT);
            let Some(page) = hardware.translate(page, wanted) else {
                hardware.faults += 1;
                hardware.is_isolated = true;
                return Err(DmaFault::NotMapped { address });
            };
            each(page, offset, done..done + part);
            done += part;
        }
        Ok(())
    }

    /// How many accesses were not allowed.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.hardware.lock().faults
    }

    /// Whether the group is isolated.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.hardware.lock().is_isolated
    }

    /// Resets the devices: their accesses get through again.
    pub fn reset(&self) {
        self.hardware.lock().is_isolated = false;
    }

    /// What is mapped, in the order of bus addresses.
    #[must_use]
    pub fn mapped(&self) -> Vec<(BusPage, Mapped)> {
        let hardware = self.hardware.lock();
        let mut mapped: Vec<(BusPage, Mapped)> = hardware.table.iter().flat_map(Table::mapped).collect();
        for window in hardware.windows.iter().flatten() {
            mapped.extend(window.lock().mapped());
        }
        mapped
    }

    /// The windows that a container has programmed.
    #[must_use]
    pub fn windows(&self) -> Vec<Window> {
        self.hardware.lock().windows.iter().flatten().map(|table| table.lock().window()).collect()
    }
}

impl Hardware {
    fn translate(&mut self, page: BusPage, wanted: Access) -> Option<HostPage> {
        let own = self.table.as_mut().and_then(|table| table.translate(page, wanted));
        own.or_else(|| self.windows.iter().flatten().find_map(|table| table.lock().translate(page, wanted)))
    }
}
