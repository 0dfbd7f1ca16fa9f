//! Memory for modules on a host: buffers that pretend to be anywhere. For host tests, of this crate and of its users.

use crate::module::{Allocation, MemoryError, ModuleMemory, Permission, Placement, Request, Segment};
use core::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// What goes wrong. Counts start from 0 whenever a fault is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFault {
    /// The allocation of this number.
    Allocate(usize),
    /// The setting of a permission of this number.
    Protect(usize),
}

/// One allocation that has not been freed.
#[derive(Debug)]
struct Lent {
    segment: Segment,
    address: u64,
    /// Not a box: the loader has a pointer into it, and moving a box ends what such a pointer may do.
    buffer: Vec<u8>,
    permission: Option<Permission>,
}

#[derive(Debug, Default)]
struct State {
    lent: Vec<Lent>,
    fault: Option<MemoryFault>,
    allocations: usize,
    protections: usize,
}

/// Memory that pretends to be where it is asked to be.
#[derive(Debug)]
pub struct FakeMemory {
    anywhere: u64,
    most_bytes: usize,
    state: Mutex<State>,
}

impl FakeMemory {
    /// Makes memory that puts what may be anywhere at `anywhere` and after it, and has 64 MiB for one request at most.
    pub fn new(anywhere: u64) -> Self {
        Self { anywhere, most_bytes: 64 << 20, state: Mutex::default() }
    }

    /// Sets what goes wrong from now on; `None` for nothing.
    pub fn set_fault(&self, fault: Option<MemoryFault>) {
        let mut state = self.state();
        (state.fault, state.allocations, state.protections) = (fault, 0, 0);
    }

    /// Returns how many bytes are lent.
    pub fn lent_bytes(&self) -> usize {
        self.state().lent.iter().map(|lent| lent.buffer.len()).sum()
    }

    /// Returns the segment at an address, with its permission if that has been set.
    pub fn segment_at(&self, address: u64) -> Option<(Segment, Option<Permission>)> {
        self.state().lent.iter().find(|lent| lent.holds(address)).map(|lent| (lent.segment, lent.permission))
    }

    /// Returns `bytes` bytes from `address` on; `None` where they are not lent.
    pub fn read(&self, address: u64, bytes: usize) -> Option<Vec<u8>> {
        let state = self.state();
        let lent = state.lent.iter().find(|lent| lent.holds(address))?;
        let start = (address - lent.address) as usize;
        lent.buffer.get(start..start.checked_add(bytes)?).map(<[u8]>::to_vec)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent {
    fn holds(&self, address: u64) -> bool {
        (self.address..self.address + self.buffer.len() as u64).contains(&address)
    }
}

// SAFETY: (1) to (3) Each allocation is a buffer of its own until it is freed; addresses are never dereferenced, because
// nothing executes a fake's text. (4) There are no translations. (5) `allocate` lends a buffer of any length.
unsafe impl ModuleMemory for FakeMemory {
    fn allocate(&self, request: &Request) -> Result<Allocation, MemoryError> {
        let Request { segment, bytes, placement } = *request;
        let mut state = self.state();
        let number = state.allocations;
        state.allocations += 1;
        if state.fault == Some(MemoryFault::Allocate(number)) || bytes > self.most_bytes {
            return Err(MemoryError { segment, bytes, reason: "there is none left" });
        }
        let mut address = match placement {
            Placement::Near(near) => near.get() & !0xfff,
            Placement::Anywhere => self.anywhere,
        };
        // Behind everything that is in the way.
        while let Some(other) = state
            .lent
            .iter()
            .find(|lent| lent.address < address + bytes as u64 && address < lent.address + lent.buffer.len() as u64)
        {
            address = other.address + other.buffer.len() as u64;
        }
        let mut buffer = std::vec![0xaa; bytes];
        let writable = NonNull::new(buffer.as_mut_ptr());
        let writable = writable.ok_or(MemoryError { segment, bytes, reason: "there is none at all" })?;
        state.lent.push(Lent { segment, address, buffer, permission: None });
        Ok(Allocation { segment, address, bytes, writable })
    }

    unsafe fn protect(&self, allocation: &Allocation, permission: Permission) -> Result<(), MemoryError> {
        let mut state = self.state();
        let number = state.protections;
        state.protections += 1;
        let Allocation { segment, bytes, address, .. } = *allocation;
        if state.fault == Some(MemoryFault::Protect(number)) {
            return Err(MemoryError { segment, bytes, reason: "the permission can't be set" });
        }
        for lent in state.lent.iter_mut().filter(|lent| lent.address == address) {
            lent.permission = Some(permission);
        }
        Ok(())
    }

    unsafe fn free(&self, allocation: Allocation) {
        let mut state = self.state();
        let before = state.lent.len();
        state.lent.retain(|lent| lent.address != allocation.address);
        assert_eq!(state.lent.len() + 1, before, "freed what is not lent: {allocation:?}");
    }
}
