//! What the loader asks of a kernel: memory, by what it is for.
//!
//! A module is placed in up to six segments, each on pages of its own, so that each can have its own permission and the
//! three init segments can be freed once the module has started.

use crate::address::TextAddr;
use core::fmt;
use core::ptr::NonNull;
use thiserror::Error;

/// A part of a module that has memory and a permission of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Functions, and the region's veneers.
    Text,
    /// Constants, and the GOT.
    Rodata,
    /// Variables.
    Data,
    /// Functions that run once, and veneers of their own.
    InitText,
    /// Constants for those.
    InitRodata,
    /// Variables for those.
    InitData,
}

impl Segment {
    /// All segments, in the order of allocation.
    pub const ALL: [Self; 6] = [Self::Text, Self::Rodata, Self::Data, Self::InitText, Self::InitRodata, Self::InitData];

    /// Returns the permission that the segment has once the module is complete.
    pub const fn permission(self) -> Permission {
        match self {
            Self::Text | Self::InitText => Permission::ReadExecute,
            Self::Rodata | Self::InitRodata => Permission::Read,
            Self::Data | Self::InitData => Permission::ReadWrite,
        }
    }

    /// Whether it is freed once the module has started.
    pub const fn is_init(self) -> bool {
        matches!(self, Self::InitText | Self::InitRodata | Self::InitData)
    }

    /// Whether it holds functions.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::InitText)
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Text => "text",
            Self::Rodata => "rodata",
            Self::Data => "data",
            Self::InitText => "init text",
            Self::InitRodata => "init rodata",
            Self::InitData => "init data",
        })
    }
}

/// A permission of memory. None allows both to write and to execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Read and execute.
    ReadExecute,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// Where to place a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// As near to this address as there is room: within BL's 128 MiB no veneers are needed, and beyond ADRP's 4 GiB a
    /// module can't refer to the kernel's data without a GOT.
    Near(TextAddr),
    /// Wherever there is room.
    Anywhere,
}

/// A request for a segment's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the memory is for.
    pub segment: Segment,
    /// How many bytes, a multiple of [`ModuleMemory::page_bytes`] and not 0.
    pub bytes: usize,
    /// Where. The first segment is placed as the caller of the loader says, the others near it.
    pub placement: Placement,
}

/// Memory that was given for one segment.
#[derive(Debug, PartialEq, Eq)]
pub struct Allocation {
    /// What the memory is for.
    pub segment: Segment,
    /// Where the module will use it: a multiple of the page size.
    pub address: u64,
    /// How many bytes, as requested.
    pub bytes: usize,
    /// Where the loader writes it; the same place or an alias.
    pub writable: NonNull<u8>,
}

/// The kernel had no memory, or could not set a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("The kernel has no memory for {bytes:#x} bytes of {segment}: {reason}")]
pub struct MemoryError {
    /// What the memory is for.
    pub segment: Segment,
    /// How many bytes.
    pub bytes: usize,
    /// The kernel's own words for it.
    pub reason: &'static str,
}

/// The kernel's memory for modules.
///
/// # Safety
///
/// The loader writes through what this trait returns and lets CPUs execute it. An implementation promises of each
/// [`Allocation`] that [`allocate`](Self::allocate) returns, until [`free`](Self::free) is given it back:
///
/// 1. `bytes` bytes from `address` on are the allocation's alone, and so are those from `writable` on; both are the same
///    physical memory (Normal Inner Shareable Write-Back), and `address` is a multiple of the page size;
/// 2. until [`protect`](Self::protect), `writable` may be written and read, and `address` is mapped readable, but not
///    executable;
/// 3. after it, `address` has that permission, and no mapping of text but what
///    [`Platform::map_alias`](crate::Platform::map_alias) gives is writable.
///
/// And of all of them:
///
/// 4. `free` forgets every translation of the memory on every CPU before the memory is given to somebody else;
/// 5. whatever [`Request`] it is given, `allocate` does nothing but allocate or refuse.
pub unsafe trait ModuleMemory: Sync {
    /// Returns the size of a page, the unit of permissions: a power of two, 4096 at least.
    fn page_bytes(&self) -> usize {
        4096
    }

    /// Allocates memory for a segment.
    ///
    /// # Errors
    ///
    /// There is no such memory.
    fn allocate(&self, request: &Request) -> Result<Allocation, MemoryError>;

    /// Gives the memory its final permission; `writable` isn't used any more.
    ///
    /// # Errors
    ///
    /// The permission could not be set. The allocation is freed then.
    ///
    /// # Safety
    ///
    /// 1. `allocation` came from this object and has not been freed yet.
    /// 2. Its holder writes it no more by `writable`, and has let no CPU execute it yet.
    unsafe fn protect(&self, allocation: &Allocation, permission: Permission) -> Result<(), MemoryError>;

    /// Frees memory.
    ///
    /// # Safety
    ///
    /// 1. `allocation` came from this object and has not been freed yet.
    /// 2. Nothing uses the memory any more: no CPU executes it, and nobody has a pointer into it.
    unsafe fn free(&self, allocation: Allocation);
}
