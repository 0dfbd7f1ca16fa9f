//! Exclusive, ordered and atomic memory accesses of general registers: Arm ARM C4.1, "Loads and Stores", its groups
//! "Load/store exclusive", "Load/store ordered", "Compare and swap", "Atomic memory operations" and "LDAPR/STLR (unscaled
//! immediate)". Each instruction is described in C6.2 under its own name.

use super::imm::{bit, bits};
use super::{Access, Direction, EvenReg, Reg, RegOrSp, SImm, Width};

/// How much memory an atomic access touches. The discriminant is the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// One byte.
    Byte,
    /// Two.
    Half,
    /// Four.
    Word,
    /// Eight.
    Double,
}

impl Size {
    const fn of(word: u32) -> Self {
        match bits(word, 30, 2) {
            0 => Self::Byte,
            1 => Self::Half,
            2 => Self::Word,
            _ => Self::Double,
        }
    }

    const fn field(self) -> u32 {
        (self as u32) << 30
    }

    /// The width of the registers that hold so much.
    pub const fn width(self) -> Width {
        match self {
            Self::Double => Width::X,
            _ => Width::W,
        }
    }
}

/// How a read-modify-write is ordered among other accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Not at all.
    Relaxed,
    /// Before what follows (the suffix `a`).
    Acquire,
    /// After what precedes (the suffix `l`).
    Release,
    /// Both (the suffix `al`).
    AcquireRelease,
}

impl Order {
    const fn new(acquire: bool, release: bool) -> Self {
        match (acquire, release) {
            (false, false) => Self::Relaxed,
            (true, false) => Self::Acquire,
            (false, true) => Self::Release,
            (true, true) => Self::AcquireRelease,
        }
    }

    const fn acquires(self) -> bool {
        matches!(self, Self::Acquire | Self::AcquireRelease)
    }

    const fn releases(self) -> bool {
        matches!(self, Self::Release | Self::AcquireRelease)
    }
}

/// Whether an exclusive access is ordered: a load then acquires, a store releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exclusive {
    /// LDXR, STXR, LDXP, STXP.
    Plain,
    /// LDAXR, STLXR, LDAXP, STLXP.
    Ordered,
}

/// The kind of an ordered access. The discriminant is the encoding's o0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ordering {
    /// LDLAR, STLLR: within limited ordering regions only.
    Limited,
    /// LDAR, STLR.
    Full,
}

/// What an atomic read-modify-write does to memory. The discriminant is the encoding's o3 and opc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicOp {
    /// LDADD: adds the register.
    Add,
    /// LDCLR: clears the register's bits.
    Clear,
    /// LDEOR: flips the register's bits.
    Eor,
    /// LDSET: sets the register's bits.
    Set,
    /// LDSMAX: the larger, signed.
    SignedMax,
    /// LDSMIN: the smaller, signed.
    SignedMin,
    /// LDUMAX: the larger, unsigned.
    UnsignedMax,
    /// LDUMIN: the smaller, unsigned.
    UnsignedMin,
    /// SWP: the register itself.
    Swap,
}

impl AtomicOp {
    const fn of(word: u32) -> Option<Self> {
        Some(match bits(word, 12, 4) {
            0 => Self::Add,
            1 => Self::Clear,
            2 => Self::Eor,
            3 => Self::Set,
            4 => Self::SignedMax,
            5 => Self::SignedMin,
            6 => Self::UnsignedMax,
            7 => Self::UnsignedMin,
            8 => Self::Swap,
            _ => return None,
        })
    }
}

/// An exclusive, ordered or atomic access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Atomic {
    /// LDXR, LDAXR and their narrow forms.
    LoadExclusive {
        /// Whether it acquires.
        order: Exclusive,
        /// How much memory.
        size: Size,
        /// The register that is loaded.
        rt: Reg,
        /// The address.
        rn: RegOrSp,
    },
    /// STXR, STLXR and their narrow forms.
    StoreExclusive {
        /// Whether it releases.
        order: Exclusive,
        /// How much memory.
        size: Size,
        /// Becomes 0 if the store happened, else 1.
        rs: Reg,
        /// The register that is stored.
        rt: Reg,
        /// The address.
        rn: RegOrSp,
    },
    /// LDXP, LDAXP.
    LoadExclusivePair {
        /// Whether it acquires.
        order: Exclusive,
        /// The registers' width.
        width: Width,
        /// The register at the lower address.
        rt: Reg,
        /// The register at the higher address.
        rt2: Reg,
        /// The address.
        rn: RegOrSp,
    },
    /// STXP, STLXP.
    StoreExclusivePair {
        /// Whether it releases.
        order: Exclusive,
        /// The registers' width.
        width: Width,
        /// Becomes 0 if the store happened, else 1.
        rs: Reg,
        /// The register at the lower address.
        rt: Reg,
        /// The register at the higher address.
        rt2: Reg,
        /// The address.
        rn: RegOrSp,
    },
    /// LDAR, STLR, LDLAR, STLLR and their narrow forms.
    Ordered {
        /// To memory or from it.
        direction: Direction,
        /// Of which kind.
        ordering: Ordering,
        /// How much memory.
        size: Size,
        /// The register that is loaded or stored.
        rt: Reg,
        /// The address.
        rn: RegOrSp,
    },
    /// LDAPR and its narrow forms: acquires, and may pass an earlier release.
    LoadAcquirePc {
        /// How much memory.
        size: Size,
        /// The register that is loaded.
        rt: Reg,
        /// The address.
        rn: RegOrSp,
    },
    /// LDAPUR, STLUR and kin.
    OrderedUnscaled {
        /// Size, direction and widening.
        access: Access,
        /// The register that is loaded or stored.
        rt: Reg,
        /// The base.
        rn: RegOrSp,
        /// In bytes.
        offset: SImm<9>,
    },
    /// CAS and its forms: memory becomes `rt` if it was `rs`.
    CompareSwap {
        /// How it is ordered.
        order: Order,
        /// How much memory.
        size: Size,
        /// What is expected; becomes what was there.
        rs: Reg,
        /// What is to be stored.
        rt: Reg,
        /// The address.
        rn: RegOrSp,
    },
    /// CASP and its forms: the same with a pair of registers.
    CompareSwapPair {
        /// How it is ordered.
        order: Order,
        /// The registers' width.
        width: Width,
        /// What is expected; becomes what was there.
        rs: EvenReg,
        /// What is to be stored.
        rt: EvenReg,
        /// The address.
        rn: RegOrSp,
    },
    /// LDADD and kin, SWP, in all their forms; STADD and kin when nothing is loaded.
    ReadModifyWrite {
        /// What becomes of memory.
        op: AtomicOp,
        /// How it is ordered.
        order: Order,
        /// How much memory.
        size: Size,
        /// The operand.
        rs: Reg,
        /// Becomes what was in memory.
        rt: Reg,
        /// The address.
        rn: RegOrSp,
    },
}

const EXCLUSIVE: u32 = 0x0800_0000;
/// Rt2 where there is no second register.
const NO_RT2: u32 = 31 << 10;
/// Rs where there is no status register.
const NO_RS: u32 = 31 << 16;
const ORDERED: u32 = 1 << 23;
const LOAD: u32 = 1 << 22;
const PAIR: u32 = 1 << 21;
const ATOMIC: u32 = 0x3820_0000;
const LDAPR: u32 = 0x38bf_c000;

impl Atomic {
    /// The instruction's word.
    pub const fn encode(self) -> u32 {
        match self {
            Self::LoadExclusive { order, size, rt, rn } => {
                EXCLUSIVE | LOAD | NO_RS | NO_RT2 | size.field() | (order as u32) << 15 | at(rn, rt)
            }
            Self::StoreExclusive { order, size, rs, rt, rn } => {
                EXCLUSIVE | NO_RT2 | size.field() | rs.field() << 16 | (order as u32) << 15 | at(rn, rt)
            }
            Self::LoadExclusivePair { order, width, rt, rt2, rn } => {
                let pair = PAIR | 1 << 31 | width.sf() << 30 | rt2.field() << 10;
                EXCLUSIVE | LOAD | NO_RS | pair | (order as u32) << 15 | at(rn, rt)
            }
            Self::StoreExclusivePair { order, width, rs, rt, rt2, rn } => {
                let pair = PAIR | 1 << 31 | width.sf() << 30 | rt2.field() << 10;
                EXCLUSIVE | pair | rs.field() << 16 | (order as u32) << 15 | at(rn, rt)
            }
            Self::Ordered { direction, ordering, size, rt, rn } => {
                let kind = (direction as u32) << 22 | (ordering as u32) << 15;
                EXCLUSIVE | ORDERED | NO_RS | NO_RT2 | size.field() | kind | at(rn, rt)
            }
            Self::LoadAcquirePc { size, rt, rn } => LDAPR | size.field() | at(rn, rt),
            Self::OrderedUnscaled { access, rt, rn, offset } => {
                0x1900_0000 | access.field() | offset.field() << 12 | at(rn, rt)
            }
            Self::CompareSwap { order, size, rs, rt, rn } => {
                let order = (order.acquires() as u32) << 22 | (order.releases() as u32) << 15;
                EXCLUSIVE | ORDERED | PAIR | NO_RT2 | size.field() | order | rs.field() << 16 | at(rn, rt)
            }
            Self::CompareSwapPair { order, width, rs, rt, rn } => {
                let order = (order.acquires() as u32) << 22 | (order.releases() as u32) << 15;
                let registers = rs.field() << 16 | rn.field() << 5 | rt.field();
                EXCLUSIVE | PAIR | NO_RT2 | width.sf() << 30 | order | registers
            }
            Self::ReadModifyWrite { op, order, size, rs, rt, rn } => {
                let order = (order.acquires() as u32) << 23 | (order.releases() as u32) << 22;
                ATOMIC | size.field() | order | rs.field() << 16 | (op as u32) << 12 | at(rn, rt)
            }
        }
    }

    /// The access that this word is, if it is one of this kind.
    pub const fn decode(word: u32) -> Option<Self> {
        let (rt, rn, size) = (Reg::at(word, 0), RegOrSp::at(word, 5), Size::of(word));
        match bits(word, 24, 6) {
            0b001000 if bit(word, 21) => decode_pair_or_swap(word),
            0b001000 => decode_exclusive(word),
            0b011001 if !bit(word, 21) && bits(word, 10, 2) == 0 => match Access::of(word) {
                Some(access) => Some(Self::OrderedUnscaled { access, rt, rn, offset: SImm::at(word, 12) }),
                None => None,
            },
            0b111000 if bit(word, 21) && bits(word, 10, 2) == 0 => {
                if word & 0x3fff_fc00 == LDAPR {
                    return Some(Self::LoadAcquirePc { size, rt, rn });
                }
                let order = Order::new(bit(word, 23), bit(word, 22));
                match AtomicOp::of(word) {
                    Some(op) => Some(Self::ReadModifyWrite { op, order, size, rs: Reg::at(word, 16), rt, rn }),
                    None => None,
                }
            }
            _ => None,
        }
    }
}

const fn at(rn: RegOrSp, rt: Reg) -> u32 {
    rn.field() << 5 | rt.field()
}

const fn decode_exclusive(word: u32) -> Option<Atomic> {
    let (rt, rn, rs) = (Reg::at(word, 0), RegOrSp::at(word, 5), Reg::at(word, 16));
    let (size, direction) = (Size::of(word), Direction::at(word, 22));
    if word & NO_RT2 != NO_RT2 {
        return None;
    }
    let no_rs = word & NO_RS == NO_RS;
    if word & ORDERED != 0 {
        let ordering = if bit(word, 15) { Ordering::Full } else { Ordering::Limited };
        return if no_rs { Some(Atomic::Ordered { direction, ordering, size, rt, rn }) } else { None };
    }
    let order = exclusive_order(word);
    match direction {
        Direction::Store => Some(Atomic::StoreExclusive { order, size, rs, rt, rn }),
        Direction::Load if no_rs => Some(Atomic::LoadExclusive { order, size, rt, rn }),
        Direction::Load => None,
    }
}

const fn exclusive_order(word: u32) -> Exclusive {
    if bit(word, 15) { Exclusive::Ordered } else { Exclusive::Plain }
}

/// The half of the exclusives' space with bit 21 set: pairs, CAS and CASP.
const fn decode_pair_or_swap(word: u32) -> Option<Atomic> {
    let (rt, rn, rs) = (Reg::at(word, 0), RegOrSp::at(word, 5), Reg::at(word, 16));
    let (rt2, width) = (Reg::at(word, 10), Width::from_bit(word >> 30));
    let swap_order = Order::new(bit(word, 22), bit(word, 15));
    let no_rt2 = word & NO_RT2 == NO_RT2;
    if word & ORDERED != 0 {
        let (order, size) = (swap_order, Size::of(word));
        return if no_rt2 { Some(Atomic::CompareSwap { order, size, rs, rt, rn }) } else { None };
    }
    if !bit(word, 31) {
        return match (EvenReg::at(word, 16), EvenReg::at(word, 0)) {
            (Some(rs), Some(rt)) if no_rt2 => Some(Atomic::CompareSwapPair { order: swap_order, width, rs, rt, rn }),
            _ => None,
        };
    }
    let order = exclusive_order(word);
    match Direction::at(word, 22) {
        Direction::Store => Some(Atomic::StoreExclusivePair { order, width, rs, rt, rt2, rn }),
        Direction::Load if word & NO_RS == NO_RS => Some(Atomic::LoadExclusivePair { order, width, rt, rt2, rn }),
        Direction::Load => None,
    }
}
