//! Exclusive, ordered and atomic accesses as text.

use core::fmt;

use super::base;
use super::memory::At;
use crate::insn::{Address, Atomic, AtomicOp, Direction, Exclusive, Order, Ordering, Size, Width};

impl Size {
    fn suffix(self) -> &'static str {
        match self {
            Self::Byte => "b",
            Self::Half => "h",
            Self::Word | Self::Double => "",
        }
    }
}

impl Order {
    fn suffix(self) -> &'static str {
        match self {
            Self::Relaxed => "",
            Self::Acquire => "a",
            Self::Release => "l",
            Self::AcquireRelease => "al",
        }
    }
}

impl AtomicOp {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Clear => "clr",
            Self::Eor => "eor",
            Self::Set => "set",
            Self::SignedMax => "smax",
            Self::SignedMin => "smin",
            Self::UnsignedMax => "umax",
            Self::UnsignedMin => "umin",
            Self::Swap => "swp",
        }
    }
}

fn load(order: Exclusive) -> &'static str {
    match order {
        Exclusive::Plain => "ldx",
        Exclusive::Ordered => "ldax",
    }
}

fn store(order: Exclusive) -> &'static str {
    match order {
        Exclusive::Plain => "stx",
        Exclusive::Ordered => "stlx",
    }
}

impl fmt::Display for Atomic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LoadExclusive { order, size, rt, rn } => {
                let rt = rt.name(size.width());
                write!(f, "{}r{} {rt}, [{}]", load(order), size.suffix(), base(rn))
            }
            Self::StoreExclusive { order, size, rs, rt, rn } => {
                let (rs, rt) = (rs.name(Width::W), rt.name(size.width()));
                write!(f, "{}r{} {rs}, {rt}, [{}]", store(order), size.suffix(), base(rn))
            }
            Self::LoadExclusivePair { order, width, rt, rt2, rn } => {
                write!(f, "{}p {}, {}, [{}]", load(order), rt.name(width), rt2.name(width), base(rn))
            }
            Self::StoreExclusivePair { order, width, rs, rt, rt2, rn } => {
                let (rs, rt, rt2) = (rs.name(Width::W), rt.name(width), rt2.name(width));
                write!(f, "{}p {rs}, {rt}, {rt2}, [{}]", store(order), base(rn))
            }
            Self::Ordered { direction, ordering, size, rt, rn } => {
                let mnemonic = match (direction, ordering) {
                    (Direction::Load, Ordering::Full) => "ldar",
                    (Direction::Load, Ordering::Limited) => "ldlar",
                    (Direction::Store, Ordering::Full) => "stlr",
                    (Direction::Store, Ordering::Limited) => "stllr",
                };
                write!(f, "{mnemonic}{} {}, [{}]", size.suffix(), rt.name(size.width()), base(rn))
            }
            Self::LoadAcquirePc { size, rt, rn } => {
                write!(f, "ldapr{} {}, [{}]", size.suffix(), rt.name(size.width()), base(rn))
            }
            Self::OrderedUnscaled { access, rt, rn, offset } => {
                let mnemonic = if access.is_load() { "ldapur" } else { "stlur" };
                let address = Address::Unscaled(offset);
                let at = At { rn, address, log2_bytes: access.log2_bytes() };
                write!(f, "{mnemonic}{} {}, {at}", access.suffix(), rt.name(access.width()))
            }
            Self::CompareSwap { order, size, rs, rt, rn } => {
                let (rs, rt) = (rs.name(size.width()), rt.name(size.width()));
                write!(f, "cas{}{} {rs}, {rt}, [{}]", order.suffix(), size.suffix(), base(rn))
            }
            Self::CompareSwapPair { order, width, rs, rt, rn } => {
                write!(f, "casp{} ", order.suffix())?;
                write!(f, "{}, {}, ", rs.first().name(width), rs.second().name(width))?;
                write!(f, "{}, {}, [{}]", rt.first().name(width), rt.second().name(width), base(rn))
            }
            Self::ReadModifyWrite { op, order, size, rs, rt, rn } => {
                let acquires = matches!(order, Order::Acquire | Order::AcquireRelease);
                let (name, size_suffix) = (op.name(), size.suffix());
                let source = rs.name(size.width());
                if op == AtomicOp::Swap {
                    let rt = rt.name(size.width());
                    return write!(f, "swp{}{size_suffix} {source}, {rt}, [{}]", order.suffix(), base(rn));
                }
                if rt.is_zero() && !acquires {
                    return write!(f, "st{name}{}{size_suffix} {source}, [{}]", order.suffix(), base(rn));
                }
                let rt = rt.name(size.width());
                write!(f, "ld{name}{}{size_suffix} {source}, {rt}, [{}]", order.suffix(), base(rn))
            }
        }
    }
}
