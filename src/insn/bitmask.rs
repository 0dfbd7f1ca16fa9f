//! The immediates of AND, ORR and EOR (Arm ARM C6.2 "AND (immediate)", J1 "DecodeBitMasks").
//!
//! Such an immediate is a block of 2, 4, 8, 16, 32 or 64 bits, repeated over the register. The block is a run of ones,
//! at least one and not all, rotated to the right. Thirteen bits tell the block's size, the run's length and the rotation.

use super::imm::bits;
use super::{EncodeError, Width};

/// A bitmask immediate.
///
/// Two may differ and yet stand for the same value: an instruction's rotation may have bits that small blocks ignore, and
/// they are kept.
///
/// # Invariants
/// The thirteen bits are an encoding that the architecture defines for the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BitmaskImm {
    width: Width,
    /// N, immr and imms, as they stand in bits 22 to 10 of the instruction.
    encoding: u16,
}

const fn ones(count: u32) -> u64 {
    u64::MAX >> (64 - count)
}

/// The low `size` bits of `value`, turned left within those bits. `size` is 2 to 64, `by` below it.
const fn rotate_left(value: u64, by: u32, size: u32) -> u64 {
    if by == 0 { value } else { (value << by | value >> (size - by)) & ones(size) }
}

/// The block that the 64-bit value repeats, by its size.
const fn block_size(value: u64) -> u32 {
    let mut size = 64;
    while size > 2 {
        let half = size / 2;
        if value & ones(half) != (value >> half) & ones(half) {
            break;
        }
        size = half;
    }
    size
}

impl BitmaskImm {
    /// The immediate that stands for this value in a register of this width.
    ///
    /// # Errors
    /// [`EncodeError::NotEncodable`] when the value is no repeated run of ones.
    pub const fn new(width: Width, value: u64) -> Result<Self, EncodeError> {
        match Self::find(width, value) {
            Some(imm) => Ok(imm),
            None => Err(EncodeError::NotEncodable {
                field: "imm13",
                value,
                takes: "runs of ones, rotated, repeated every 2, 4, 8, 16, 32 or 64 bits",
            }),
        }
    }

    const fn find(width: Width, value: u64) -> Option<Self> {
        let wide = match width {
            Width::X => value,
            Width::W if value >> 32 == 0 => value | value << 32,
            Width::W => return None,
        };
        if wide == 0 || wide == u64::MAX {
            return None;
        }
        let size = block_size(wide);
        let block = wide & ones(size);
        let length = block.count_ones();
        let start =
            if block & 1 == 0 { block.trailing_zeros() } else { (size - (block << (64 - size)).leading_ones()) % size };
        if rotate_left(ones(length), start, size) != block {
            return None;
        }
        let rotation = (size - start) % size;
        let n = size / 64;
        let imms = (0x3f & !(size * 2 - 1)) | (length - 1);
        Some(Self { width, encoding: (n << 12 | rotation << 6 | imms) as u16 })
    }

    /// The width of the register that it is for.
    pub const fn width(self) -> Width {
        self.width
    }

    /// The value that it stands for.
    pub const fn value(self) -> u64 {
        let encoding = self.encoding as u32;
        let size = Self::size_of(encoding);
        let length = (encoding & (size - 1)) + 1;
        let rotation = bits(encoding, 6, 6) & (size - 1);
        let start = (size - rotation) & (size - 1);
        let mut value = rotate_left(ones(length), start, size);
        let mut filled = size;
        while filled < self.width.bits() {
            value |= value << filled;
            filled *= 2;
        }
        value
    }

    /// The size of the block: 0 or 1 where there is none.
    const fn size_of(encoding: u32) -> u32 {
        let selector = bits(encoding, 12, 1) << 6 | (!encoding & 0x3f);
        match selector.checked_ilog2() {
            Some(log) => 1 << log,
            None => 0,
        }
    }

    /// From bits 22 to 10 of an instruction.
    pub(super) const fn of(word: u32, width: Width) -> Option<Self> {
        let encoding = bits(word, 10, 13);
        let size = Self::size_of(encoding);
        if size < 2 || size > width.bits() || encoding & (size - 1) == size - 1 {
            return None;
        }
        Some(Self { width, encoding: encoding as u16 })
    }

    pub(super) const fn field(self) -> u32 {
        (self.encoding as u32) << 10
    }
}
