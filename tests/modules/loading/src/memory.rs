//! Memory for modules: pages of the heap, mapped a second time where the module shall be.

use alloc::alloc::{Layout, alloc, dealloc};
use alloc::vec::Vec;
use core::ptr::NonNull;
use fentry::module::{Allocation, MemoryError, ModuleMemory, Permission, Placement, Request};
use spin::Mutex;
use support::memory::{Access, map_elsewhere};

const PAGE: usize = 4096;

/// What is lent: where the module sees it, and how many bytes.
#[derive(Debug)]
struct Lent {
    address: usize,
    bytes: usize,
}

/// All memory that is lent to modules.
#[derive(Debug)]
pub struct Pages(Mutex<Vec<Lent>>);

/// The memory of every module of this kernel.
pub static PAGES: Pages = Pages(Mutex::new(Vec::new()));

impl Pages {
    /// How many bytes are lent.
    pub fn lent_bytes(&self) -> usize {
        self.0.lock().iter().map(|lent| lent.bytes).sum()
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, PAGE).expect("the loader asks for whole pages")
}

// SAFETY: (1) The pages are the allocator's, given to nobody else, and Normal memory by both mappings. (2) and (3) The heap's
// own mapping is writable for ever, the second one is read-only until it gets its permission. (4) Unmapping forgets the
// translations on all CPUs. (5) What the allocator must not be asked for is refused.
unsafe impl ModuleMemory for Pages {
    fn allocate(&self, request: &Request) -> Result<Allocation, MemoryError> {
        let Request { segment, bytes, placement } = *request;
        let error = |reason| MemoryError { segment, bytes, reason };
        let Placement::Near(near) = placement else { return Err(error("this kernel wants to know where")) };
        if bytes == 0 || !bytes.is_multiple_of(PAGE) {
            return Err(error("that is no number of whole pages"));
        }
        let mut lent = self.0.lock();
        let mut address = near.get() as usize & !(PAGE - 1);
        while let Some(other) =
            lent.iter().find(|other| address < other.address + other.bytes && other.address < address + bytes)
        {
            address = other.address + other.bytes;
        }
        // SAFETY: it is not nothing.
        let pages = unsafe { alloc(layout(bytes)) };
        let pages = NonNull::new(pages).ok_or(error("the heap is used up"))?;
        let physical = pages.addr().get();
        if let Err(reason) = map_elsewhere(address, physical..physical + bytes, Access::Read) {
            // SAFETY: allocated above with this layout.
            unsafe { dealloc(pages.as_ptr(), layout(bytes)) };
            return Err(error(reason));
        }
        lent.push(Lent { address, bytes });
        Ok(Allocation { segment, address: address as u64, bytes, writable: pages })
    }

    unsafe fn protect(&self, allocation: &Allocation, permission: Permission) -> Result<(), MemoryError> {
        let Allocation { segment, address, bytes, writable } = *allocation;
        let access = match permission {
            Permission::ReadExecute => Access::Execute,
            Permission::Read => Access::Read,
            Permission::ReadWrite => Access::Write,
        };
        let physical = writable.addr().get();
        map_elsewhere(address as usize, physical..physical + bytes, access).map_err(|reason| MemoryError {
            segment,
            bytes,
            reason,
        })
    }

    unsafe fn free(&self, allocation: Allocation) {
        let Allocation { address, bytes, writable, .. } = allocation;
        let physical = writable.addr().get();
        map_elsewhere(address as usize, physical..physical + bytes, Access::None)
            .expect("what was mapped can be unmapped");
        self.0.lock().retain(|lent| lent.address != address as usize);
        // Whoever still looks there by the heap's mapping finds no address and no instruction.
        // SAFETY: so many bytes are there, and they are nobody's any more.
        unsafe { writable.write_bytes(0xa5, bytes) };
        // SAFETY: allocated by `allocate` with this layout; our caller promises that nobody uses it.
        unsafe { dealloc(writable.as_ptr(), layout(bytes)) };
    }
}
