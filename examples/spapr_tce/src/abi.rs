//! The commands and their arguments, as user space writes them: Linux's numbers and layouts (`include/uapi/linux/vfio.h`).
//!
//! Every argument begins with its own size, `argsz`, so that it can grow: what is behind the end that the container knows is not
//! read. An argument that says it is shorter than the command's first form is refused.

use crate::error::Error;

/// The container's type (`VFIO_SPAPR_TCE_IOMMU`); the extension of this number says that it is there.
pub const SPAPR_TCE_IOMMU: u32 = 2;

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

/// Answers [`GET_INFO`] with the window that `window` gives, once the argument is right.
pub(crate) fn answer_info(
    argument: &mut Argument<'_>,
    window: impl FnOnce() -> Result<(u32, u32), Error>,
) -> Result<(), Error> {
    argument.fields(16)?;
    let (start, size) = window()?;
    let Argument::Memory(memory) = argument else { return Err(Error::ArgumentFault) };
    let answer = memory.get_mut(4..16).ok_or(Error::ArgumentFault)?;
    for (field, word) in answer.chunks_exact_mut(4).zip([0, start, size]) {
        field.copy_from_slice(&word.to_ne_bytes());
    }
    Ok(())
}
