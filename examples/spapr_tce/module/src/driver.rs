//! What the module and its kernel have in common: the driver's operations, and the simulated machine's numbers. A part of both.

/// The driver's operations, as VFIO's core calls an IOMMU driver's (`struct vfio_iommu_driver_ops`). Containers, processes and
/// groups are numbers; errors are negative, in Linux's numbers.
#[derive(Debug)]
#[repr(C)]
pub struct Driver {
    /// Opens a container of this type; returns its number.
    pub open: extern "C" fn(kind: u32) -> i64,
    /// Attaches a group.
    pub attach: extern "C" fn(container: u32, group: u32) -> i64,
    /// Carries out a process's command. The argument is `bytes` bytes that nobody else uses meanwhile; where it is null, the
    /// number `bytes`.
    pub ioctl: unsafe extern "C" fn(container: u32, process: u32, command: u32, argument: *mut u8, bytes: usize) -> i64,
    /// Detaches a group. Returns 1 where the container was enabled still.
    pub detach: extern "C" fn(container: u32, group: u32) -> i64,
    /// Closes a container.
    pub release: extern "C" fn(container: u32) -> i64,
}

/// How many processes there are, and how many groups: of each the same.
pub const COUNT: u32 = 4;
/// The pages of a process, from page [`USER`] of its address space on.
pub const USER_PAGES: u64 = 32;
/// The first of them.
pub const USER: u64 = 0x400;
/// How many pages a process may lock.
pub const LIMIT: u64 = 64;
/// The pages of a group's window.
pub const WINDOW_PAGES: u64 = 16;
/// The first of them.
pub const WINDOW: u64 = 0x100;

/// What there is to see of a process and of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Seen {
    /// The pages that the process is charged for.
    pub locked: u64,
    /// The pins that its pages have.
    pub pins: u64,
    /// The pages that the group's devices can reach.
    pub mapped: u64,
    /// How many accesses of theirs were stopped.
    pub faults: u64,
}
