//! What a call can fail with, and the number that user space is told.

use thiserror::Error;

/// Why a call has failed. Nothing was changed then, but where a variant says so.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// A container of another type was asked for.
    #[error("The container's type is not {kind}")]
    Type {
        /// The type that was asked for.
        kind: u32,
    },
    /// The command is none of the container's.
    #[error("The container has no command {command:#x}")]
    Command {
        /// The command.
        command: u32,
    },
    /// The argument says that it is shorter than the command's.
    #[error("The argument is {said} bytes long, and the command's has {least}")]
    ArgumentSize {
        /// What it says.
        said: u32,
        /// How many bytes there must be.
        least: u32,
    },
    /// The argument's memory can't be read or written.
    #[error("The argument's memory cannot be accessed")]
    ArgumentFault,
    /// The flags have bits that the command does not know, or lack one that it needs.
    #[error("The flags {flags:#x} are not the command's")]
    Flags {
        /// The flags.
        flags: u32,
    },
    /// An address or a size is not a multiple of the page size.
    #[error("{value:#x} is not a multiple of the page size")]
    Unaligned {
        /// The address or size.
        value: u64,
    },
    /// A range ends behind the last address that there is.
    #[error("The range of {size:#x} bytes at {start:#x} ends behind the last address")]
    Wraps {
        /// Where it begins.
        start: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// A range has no page, where it must have some.
    #[error("The range at {start:#x} has no page")]
    NoPages {
        /// Where it would begin.
        start: u64,
    },
    /// A range of bus addresses is not in a window.
    #[error("The {size:#x} bytes at bus address {iova:#x} are not all in the DMA window")]
    OutsideWindow {
        /// Where it begins.
        iova: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// The window can't be told in 32 bits.
    #[error("The DMA window at bus address {start:#x} does not fit into 32 bits")]
    WindowTooHigh {
        /// Where the window begins.
        start: u64,
    },
    /// No group is attached, or it has no translation table.
    #[error("The container has no translation table")]
    NoTable,
    /// The caller has no address space.
    #[error("The caller has no address space")]
    NoAddressSpace,
    /// The container is enabled already, or is enabled where it must not be.
    #[error("The container is enabled")]
    Enabled,
    /// The container must be enabled first.
    #[error("The container is not enabled")]
    NotEnabled,
    /// Another address space has enabled the container.
    #[error("Another address space has enabled the container")]
    OtherAddressSpace,
    /// A group is attached already.
    #[error("A group is attached already")]
    Attached,
    /// The kernel has mappings of its own in the group's table.
    #[error("The kernel uses {entries} entries of the table")]
    TableInUse {
        /// How many.
        entries: usize,
    },
    /// The table belongs to a container already.
    #[error("The table belongs to another container")]
    TableOwned,
    /// An entry is in use.
    #[error("The entry of bus address {iova:#x} is in use")]
    EntryInUse {
        /// The bus address.
        iova: u64,
    },
    /// More would be locked than the address space may.
    #[error("{pages} more locked pages are over the limit")]
    OverLimit {
        /// How many pages were asked for.
        pages: u64,
    },
    /// The kernel has no memory.
    #[error("There is no memory")]
    NoMemory,
    /// Memory is registered already.
    #[error("The {size:#x} bytes at {start:#x} are registered already")]
    Registered {
        /// The user's address.
        start: u64,
        /// The size in bytes.
        size: u64,
    },
    /// Memory overlaps some that is registered.
    #[error("The {size:#x} bytes at {start:#x} overlap registered memory")]
    Overlaps {
        /// The user's address.
        start: u64,
        /// The size in bytes.
        size: u64,
    },
    /// No such memory is registered.
    #[error("The {size:#x} bytes at {start:#x} are not registered")]
    NotRegistered {
        /// The user's address.
        start: u64,
        /// The size in bytes.
        size: u64,
    },
    /// The memory is mapped still.
    #[error("{entries} pages of the memory are mapped")]
    StillMapped {
        /// How many entries map it.
        entries: u64,
    },
    /// A page that was to be mapped is not in registered memory.
    #[error("The page at {address:#x} is not in registered memory")]
    PageNotRegistered {
        /// The user's address.
        address: u64,
    },
    /// The group's hardware has no windows of this page size.
    #[error("The hardware has no windows with pages of 2^{shift} bytes")]
    PageShift {
        /// The page size, as a power of two.
        shift: u32,
    },
    /// The group's hardware has no windows of this size, or with so many levels of tables.
    #[error("The hardware has no windows of {size:#x} bytes in {levels} levels")]
    WindowSize {
        /// The size in bytes.
        size: u64,
        /// The levels.
        levels: u32,
    },
    /// The container has all windows that the hardware has.
    #[error("The container has no window left")]
    NoFreeWindow,
    /// No window begins there.
    #[error("No window begins at bus address {start:#x}")]
    NoSuchWindow {
        /// The bus address.
        start: u64,
    },
    /// The group's hardware is not as that of the groups that are attached.
    #[error("The group's hardware is not as that of the others")]
    Incompatible,
    /// The hardware has refused a window.
    #[error("The hardware of group {group} has refused a window")]
    WindowRefused {
        /// The group's number.
        group: u32,
    },
    /// A page of the user's can't be pinned.
    #[error("The page at {address:#x} cannot be pinned")]
    PageFault {
        /// The user's address.
        address: u64,
    },
}

/// An error as user space knows it.
#[expect(missing_docs, reason = "the names are Linux's")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Errno {
    EPERM = 1,
    ENOENT = 2,
    ESRCH = 3,
    EIO = 5,
    ENXIO = 6,
    ENOMEM = 12,
    EFAULT = 14,
    EBUSY = 16,
    EINVAL = 22,
    ENOTTY = 25,
    ENOSPC = 28,
    EOVERFLOW = 75,
}

impl Error {
    /// The error's number for user space.
    #[must_use]
    pub const fn errno(self) -> Errno {
        match self {
            Self::Type { .. }
            | Self::ArgumentSize { .. }
            | Self::Flags { .. }
            | Self::Unaligned { .. }
            | Self::Wraps { .. }
            | Self::NoPages { .. }
            | Self::Overlaps { .. }
            | Self::PageNotRegistered { .. }
            | Self::PageShift { .. }
            | Self::WindowSize { .. }
            | Self::NoSuchWindow { .. }
            | Self::OutsideWindow { .. } => Errno::EINVAL,
            Self::NotRegistered { .. } => Errno::ENOENT,
            Self::NoFreeWindow => Errno::ENOSPC,
            Self::WindowRefused { .. } => Errno::EIO,
            Self::Command { .. } => Errno::ENOTTY,
            Self::ArgumentFault | Self::PageFault { .. } => Errno::EFAULT,
            Self::WindowTooHigh { .. } => Errno::EOVERFLOW,
            Self::NoTable => Errno::ENXIO,
            Self::NoAddressSpace => Errno::ESRCH,
            Self::NotEnabled | Self::OtherAddressSpace | Self::Incompatible => Errno::EPERM,
            Self::OverLimit { .. } | Self::NoMemory => Errno::ENOMEM,
            Self::Enabled
            | Self::Attached
            | Self::TableInUse { .. }
            | Self::TableOwned
            | Self::Registered { .. }
            | Self::StillMapped { .. }
            | Self::EntryInUse { .. } => Errno::EBUSY,
        }
    }
}
