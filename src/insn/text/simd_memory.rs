//! Loads and stores of SIMD and floating-point registers as text.

use core::fmt;

use super::base;
use super::memory::{At, PairAt};
use crate::insn::{Address, Direction, Lane, PairMode, PairSize, RegOrSp, SimdMemory, StructPost, VReg, VSize, Width};

impl VSize {
    pub(super) fn letter(self) -> char {
        match self {
            Self::B => 'b',
            Self::H => 'h',
            Self::S => 's',
            Self::D => 'd',
            Self::Q => 'q',
        }
    }
}

impl PairSize {
    fn letter(self) -> char {
        match self {
            Self::S => 's',
            Self::D => 'd',
            Self::Q => 'q',
        }
    }
}

impl Lane {
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::B(_) => "b",
            Self::H(_) => "h",
            Self::S(_) => "s",
            Self::D(_) => "d",
        }
    }
}

impl Direction {
    fn verb(self) -> &'static str {
        match self {
            Self::Load => "ld",
            Self::Store => "st",
        }
    }
}

/// `{ v31.16b, v0.16b }`.
struct List {
    first: VReg,
    count: u8,
    suffix: &'static str,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ ")?;
        for place in 0..self.count {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}v{}.{}", self.first.next(place).number(), self.suffix)?;
        }
        f.write_str(" }")
    }
}

/// `[x0], #16`.
struct StructAt {
    rn: RegOrSp,
    post: StructPost,
    bytes: u32,
}

impl fmt::Display for StructAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", base(self.rn))?;
        match self.post {
            StructPost::Stays => Ok(()),
            StructPost::BySize => write!(f, ", #{}", self.bytes),
            StructPost::By(rm) => write!(f, ", {}", rm.reg().name(Width::X)),
        }
    }
}

impl fmt::Display for SimdMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Single { direction, size, rt, rn, address } => {
                let kind = if matches!(address, Address::Unscaled(_)) { "ur" } else { "r" };
                let at = At { rn, address, log2_bytes: size.log2_bytes() };
                write!(f, "{}{kind} {}{}, {at}", direction.verb(), size.letter(), rt.number())
            }
            Self::Literal { size, rt, offset } => {
                write!(f, "ldr {}{}, #{}", size.letter(), rt.number(), offset.bytes())
            }
            Self::Pair { direction, size, mode, rt, rt2, rn, offset } => {
                let at = PairAt { rn, mode, offset, log2_bytes: size.log2_bytes() };
                let (letter, rt, rt2) = (size.letter(), rt.number(), rt2.number());
                write!(f, "{}p {letter}{rt}, {letter}{rt2}, {at}", direction.verb())
            }
            Self::PairNonTemporal { direction, size, rt, rt2, rn, offset } => {
                let at = PairAt { rn, mode: PairMode::Offset, offset, log2_bytes: size.log2_bytes() };
                let (letter, rt, rt2) = (size.letter(), rt.number(), rt2.number());
                write!(f, "{}np {letter}{rt}, {letter}{rt2}, {at}", direction.verb())
            }
            Self::Structures { direction, layout, rt, rn, post } => {
                let (list, arrangement) = (layout.list(), layout.arrangement());
                let count = list.registers();
                let registers = List { first: rt, count, suffix: arrangement.name() };
                let at = StructAt { rn, post, bytes: arrangement.bytes() * u32::from(count) };
                write!(f, "{}{} {registers}, {at}", direction.verb(), list.interleave())
            }
            Self::Lane { direction, more, lane, rt, rn, post } => {
                let count = more.get() as u8 + 1;
                let registers = List { first: rt, count, suffix: lane.letter() };
                let at = StructAt { rn, post, bytes: u32::from(count) << lane.log2_bytes() };
                write!(f, "{}{count} {registers}[{}], {at}", direction.verb(), lane.index())
            }
            Self::Replicate { more, arrangement, rt, rn, post } => {
                let count = more.get() as u8 + 1;
                let registers = List { first: rt, count, suffix: arrangement.name() };
                let at = StructAt { rn, post, bytes: u32::from(count) << arrangement.log2_element() };
                write!(f, "ld{count}r {registers}, {at}")
            }
        }
    }
}
