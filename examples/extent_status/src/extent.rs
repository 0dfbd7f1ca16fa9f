//! What is said of a range of blocks, and which ranges can be told together.

use core::fmt;

use thiserror::Error;

/// How many blocks a file can have (`EXT_MAX_BLOCKS`): the last one's number is one less, so that no range's end overflows.
pub const MAX_BLOCKS: u32 = u32::MAX;

/// How many physical blocks a device can have: a node keeps their numbers in 59 bits.
pub const MAX_PHYSICAL: u64 = 1 << 59;

/// A range that no file has.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ExtentError {
    /// The range has no block.
    #[error("The range at block {start} is empty")]
    Empty {
        /// Where it would begin.
        start: u32,
    },
    /// The range ends behind the last block that a file can have.
    #[error("The range of {len} blocks at block {start} ends behind the last block of a file")]
    TooLong {
        /// The first block.
        start: u32,
        /// How many blocks.
        len: u32,
    },
    /// The range's place on the device ends behind the last block that a device can have.
    #[error("The {len} blocks at physical block {physical} end behind the last block of a device")]
    PhysicalTooHigh {
        /// The first physical block.
        physical: u64,
        /// How many blocks.
        len: u32,
    },
}

/// A range of a file's logical blocks: at least one, and none behind the last that a file can have.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blocks {
    start: u32,
    len: u32,
}

impl Blocks {
    /// Every block that a file can have.
    pub const ALL: Self = Self { start: 0, len: MAX_BLOCKS };

    /// The `len` blocks from `start` on.
    ///
    /// # Errors
    /// [`ExtentError::Empty`] for no block, [`ExtentError::TooLong`] where the range's end is behind [`MAX_BLOCKS`].
    pub const fn new(start: u32, len: u32) -> Result<Self, ExtentError> {
        if len == 0 {
            return Err(ExtentError::Empty { start });
        }
        if start.checked_add(len).is_none() {
            return Err(ExtentError::TooLong { start, len });
        }
        Ok(Self { start, len })
    }

    /// The blocks from `first` to `last`, which is not before it.
    pub(crate) const fn between(first: u32, last: u32) -> Self {
        Self { start: first, len: last - first + 1 }
    }

    /// The first block.
    #[must_use]
    pub const fn start(self) -> u32 {
        self.start
    }

    /// How many blocks.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    #[must_use]
    pub const fn len(self) -> u32 {
        self.len
    }

    /// The last block.
    #[must_use]
    pub const fn last(self) -> u32 {
        self.start + (self.len - 1)
    }

    /// Whether the block is one of these.
    #[must_use]
    pub const fn contains(self, block: u32) -> bool {
        self.start <= block && block <= self.last()
    }

    /// What both have in common.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let (first, last) = (self.start.max(other.start), self.last().min(other.last()));
        (first <= last).then(|| Self::between(first, last))
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}/{})", self.start, self.len)
    }
}

/// What is known of a range of blocks. The number is the physical block of the first of them.
///
/// Written and delayed at the same time would be data that is on the device and not on it. That can't be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Data is on the device.
    Written(u64),
    /// Space is allocated, and reads give zeros.
    Unwritten(u64),
    /// Data is in memory; space is reserved, and allocated when it is written back.
    Delayed,
    /// Data is in memory, and space was allocated for it meanwhile (`fallocate` over delayed blocks).
    UnwrittenDelayed(u64),
    /// Nothing is there.
    Hole,
}

impl Status {
    /// The physical block of the first block, where there is one.
    #[must_use]
    pub const fn physical(self) -> Option<u64> {
        match self {
            Self::Written(physical) | Self::Unwritten(physical) | Self::UnwrittenDelayed(physical) => Some(physical),
            Self::Delayed | Self::Hole => None,
        }
    }

    /// Whether data is in memory only. What is known of such blocks is known nowhere else: it must be kept.
    #[must_use]
    pub const fn is_delayed(self) -> bool {
        matches!(self, Self::Delayed | Self::UnwrittenDelayed(_))
    }

    /// Whether no space is allocated for the delayed data, so that it holds a reservation.
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        matches!(self, Self::Delayed)
    }

    /// The same of the block that is `blocks` further on.
    pub(crate) const fn ahead(self, blocks: u32) -> Self {
        // Lossless; `From` is not const.
        let blocks = blocks as u64;
        match self {
            Self::Written(physical) => Self::Written(physical + blocks),
            Self::Unwritten(physical) => Self::Unwritten(physical + blocks),
            Self::UnwrittenDelayed(physical) => Self::UnwrittenDelayed(physical + blocks),
            Self::Delayed | Self::Hole => self,
        }
    }
}

/// A range of blocks with one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    blocks: Blocks,
    status: Status,
}

impl Extent {
    /// These blocks, with this status.
    ///
    /// # Errors
    /// [`ExtentError::PhysicalTooHigh`] where its place on the device ends behind [`MAX_PHYSICAL`].
    pub const fn new(blocks: Blocks, status: Status) -> Result<Self, ExtentError> {
        if let Some(physical) = status.physical() {
            let fits = match physical.checked_add(blocks.len as u64) {
                Some(end) => end <= MAX_PHYSICAL,
                None => false,
            };
            if !fits {
                return Err(ExtentError::PhysicalTooHigh { physical, len: blocks.len });
            }
        }
        Ok(Self { blocks, status })
    }

    /// Delayed blocks. They have no place on the device that could be wrong.
    pub(crate) const fn delayed(blocks: Blocks) -> Self {
        Self { blocks, status: Status::Delayed }
    }

    /// What a node says, which was made from extents.
    pub(crate) const fn of_node(blocks: Blocks, status: Status) -> Self {
        Self { blocks, status }
    }

    /// The range.
    #[must_use]
    pub const fn blocks(self) -> Blocks {
        self.blocks
    }

    /// What is known of it.
    #[must_use]
    pub const fn status(self) -> Status {
        self.status
    }

    /// What is known of one of its blocks.
    #[must_use]
    pub const fn status_of(self, block: u32) -> Option<Status> {
        if self.blocks.contains(block) { Some(self.status.ahead(block - self.blocks.start)) } else { None }
    }

    /// The part up to the block in front of `end`, which is inside.
    pub(crate) const fn before(self, end: u32) -> Self {
        Self { blocks: Blocks::between(self.blocks.start, end - 1), status: self.status }
    }

    /// The part from `start` on, which is inside.
    pub(crate) const fn from(self, start: u32) -> Self {
        let status = self.status.ahead(start - self.blocks.start);
        Self { blocks: Blocks::between(start, self.blocks.last()), status }
    }

    /// Both as one, where `next` goes on where this one ends: in the file, in its status, and on the device where it is there.
    ///
    /// A length never overflows, since no file's blocks end behind [`MAX_BLOCKS`].
    #[must_use]
    pub fn joined(self, next: Self) -> Option<Self> {
        let is_next = self.blocks.last() + 1 == next.blocks.start && self.status.ahead(self.blocks.len) == next.status;
        is_next.then(|| Self { blocks: Blocks::between(self.blocks.start, next.blocks.last()), ..self })
    }
}
