//! The commands and their arguments, as user space writes them: Linux's numbers and layouts (`include/uapi/linux/vfio.h`).
//!
//! Every argument begins with its own size, `argsz`, so that it can grow: what is behind the end that the container knows is not
//! read. An argument that says it is shorter than the command's first form is refused.

use crate::error::Error;
use crate::table::Access;

/// The container's type (`VFIO_SPAPR_TCE_IOMMU`); the extension of this number says that it is there.
pub const SPAPR_TCE_IOMMU: u32 = 2;

/// The second version's type (`VFIO_SPAPR_TCE_v2_IOMMU`).
pub const SPAPR_TCE_V2_IOMMU: u32 = 7;

/// Commands are numbered from here: `_IO(';', 100)`.
const BASE: u32 = (b';' as u32) << 8 | 100;

/// Asks whether there is an extension. The argument is its number.
pub const CHECK_EXTENSION: u32 = BASE + 1;
/// Asks for the DMA window: `{ argsz, flags, start, size }`, all 32 bits.
pub const GET_INFO: u32 = BASE + 12;
/// Maps pages: `{ argsz, flags }` in 32 bits, `{ vaddr, iova, size }` in 64.
pub const MAP_DMA: u32 = BASE + 13;
/// Unmaps pages: `{ argsz, flags }` in 32 bits, `{ iova, size }` in 64.
pub const UNMAP_DMA: u32 = BASE + 14;
/// Enables the container. No argument.
pub const ENABLE: u32 = BASE + 15;
/// Disables the container. No argument.
pub const DISABLE: u32 = BASE + 16;

/// Registers memory (second version): `{ argsz, flags }` in 32 bits, `{ vaddr, size }` in 64.
pub const REGISTER_MEMORY: u32 = BASE + 17;
/// Unregisters memory (second version); the same argument.
pub const UNREGISTER_MEMORY: u32 = BASE + 18;
/// Creates a window (second version): `{ argsz, flags, page_shift, 0 }` in 32 bits, `size` in 64, `{ levels, 0 }` in 32; the
/// answer is its `start`, in 64.
pub const CREATE_WINDOW: u32 = BASE + 19;
/// Removes a window (second version): `{ argsz, flags }` in 32 bits, `start` in 64.
pub const REMOVE_WINDOW: u32 = BASE + 20;

/// [`GET_INFO`] has told what windows can be created as well: `{ page sizes }` in 64 bits, `{ windows, levels }` in 32.
pub const INFO_WINDOWS: u32 = 1;

/// The device may read.
pub const MAP_READ: u32 = 1;
/// The device may write.
pub const MAP_WRITE: u32 = 2;

/// A command's argument: one word, which is a number or an address.
#[derive(Debug)]
pub enum Argument<'a> {
    /// A number.
    Number(u64),
    /// The memory that it points to, as far as that can be accessed.
    Memory(&'a mut [u8]),
}

/// An argument's fields, read at their offsets.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, offset: usize) -> Result<[u8; N], Error> {
        let field = self.0.get(offset..).and_then(<[u8]>::first_chunk);
        field.copied().ok_or(Error::ArgumentFault)
    }

    fn word(&self, offset: usize) -> Result<u32, Error> {
        self.bytes(offset).map(u32::from_ne_bytes)
    }

    fn long(&self, offset: usize) -> Result<u64, Error> {
        self.bytes(offset).map(u64::from_ne_bytes)
    }
}

impl Argument<'_> {
    /// Memory of which the first `least` bytes can be read and whose `argsz` has them. What isn't an address faults.
    fn fields(&mut self, least: u32) -> Result<(Fields<'_>, u32), Error> {
        let Self::Memory(memory) = self else { return Err(Error::ArgumentFault) };
        let known = usize::try_from(least).ok().and_then(|least| memory.get(..least));
        let fields = Fields(known.ok_or(Error::ArgumentFault)?);
        let said = fields.word(0)?;
        if said < least {
            return Err(Error::ArgumentSize { said, least });
        }
        let flags = fields.word(4)?;
        Ok((fields, flags))
    }
}

impl Argument<'_> {
    /// Writes a field of the answer.
    fn write(&mut self, offset: usize, field: &[u8]) -> Result<(), Error> {
        let Self::Memory(memory) = self else { return Err(Error::ArgumentFault) };
        let place = memory.get_mut(offset..).and_then(|rest| rest.get_mut(..field.len()));
        place.ok_or(Error::ArgumentFault)?.copy_from_slice(field);
        Ok(())
    }
}

/// What [`MAP_DMA`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapDma {
    pub(crate) flags: u32,
    pub(crate) vaddr: u64,
    pub(crate) iova: u64,
    pub(crate) size: u64,
}

impl MapDma {
    pub(crate) fn read(argument: &mut Argument<'_>) -> Result<Self, Error> {
        let (fields, flags) = argument.fields(32)?;
        Ok(Self { flags, vaddr: fields.long(8)?, iova: fields.long(16)?, size: fields.long(24)? })
    }
}

impl MapDma {
    /// What the device may do. Nothing at all is no mapping: no entry would name the page that is pinned for it.
    pub(crate) fn access(self) -> Result<Access, Error> {
        const BOTH: u32 = MAP_READ | MAP_WRITE;
        match self.flags {
            MAP_READ => Ok(Access::Read),
            MAP_WRITE => Ok(Access::Write),
            BOTH => Ok(Access::ReadWrite),
            flags => Err(Error::Flags { flags }),
        }
    }
}

/// What [`UNMAP_DMA`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnmapDma {
    pub(crate) flags: u32,
    pub(crate) iova: u64,
    pub(crate) size: u64,
}

impl UnmapDma {
    pub(crate) fn read(argument: &mut Argument<'_>) -> Result<Self, Error> {
        let (fields, flags) = argument.fields(24)?;
        Ok(Self { flags, iova: fields.long(8)?, size: fields.long(16)? })
    }
}

/// Memory that [`REGISTER_MEMORY`] and [`UNREGISTER_MEMORY`] are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegisterMemory {
    pub(crate) flags: u32,
    pub(crate) vaddr: u64,
    pub(crate) size: u64,
}

impl RegisterMemory {
    pub(crate) fn read(argument: &mut Argument<'_>) -> Result<Self, Error> {
        let (fields, flags) = argument.fields(24)?;
        Ok(Self { flags, vaddr: fields.long(8)?, size: fields.long(16)? })
    }
}

/// What [`CREATE_WINDOW`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CreateWindow {
    pub(crate) flags: u32,
    pub(crate) page_shift: u32,
    pub(crate) size: u64,
    pub(crate) levels: u32,
}

impl CreateWindow {
    pub(crate) fn read(argument: &mut Argument<'_>) -> Result<Self, Error> {
        let (fields, flags) = argument.fields(40)?;
        Ok(Self { flags, page_shift: fields.word(8)?, size: fields.long(16)?, levels: fields.word(24)? })
    }

    pub(crate) fn answer(argument: &mut Argument<'_>, start: u64) -> Result<(), Error> {
        argument.write(32, &start.to_ne_bytes())
    }
}

/// The window that [`REMOVE_WINDOW`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoveWindow {
    pub(crate) flags: u32,
    pub(crate) start: u64,
}

impl RemoveWindow {
    pub(crate) fn read(argument: &mut Argument<'_>) -> Result<Self, Error> {
        let (fields, flags) = argument.fields(16)?;
        Ok(Self { flags, start: fields.long(8)? })
    }
}

/// Whether a container of the second version tells which windows can be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) page_sizes: u64,
    pub(crate) count: u32,
    pub(crate) levels: u32,
}

/// Answers [`GET_INFO`] with the window that `window` gives, once the argument is right; and with what windows can be created,
/// where that is known and the argument has room for it.
pub(crate) fn answer_info(
    argument: &mut Argument<'_>,
    window: impl FnOnce() -> Result<((u32, u32), Option<Windows>), Error>,
) -> Result<(), Error> {
    let (fields, _) = argument.fields(16)?;
    let said = fields.word(0)?;
    let ((start, size), windows) = window()?;
    let mut flags = 0;
    if let Some(Windows { page_sizes, count, levels }) = windows.filter(|_| said >= 32) {
        flags = INFO_WINDOWS;
        argument.write(24, [count, levels].map(u32::to_ne_bytes).as_flattened())?;
        argument.write(16, &page_sizes.to_ne_bytes())?;
    }
    argument.write(4, [flags, start, size].map(u32::to_ne_bytes).as_flattened())
}
