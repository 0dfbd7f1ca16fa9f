//! Loads and stores of general registers as text.

use core::fmt;

use super::base;
use crate::insn::{
    Access, Address, Direction, IndexExtend, IndexScale, Literal, Memory, PairAccess, PairMode, Reg, RegOrSp, SImm,
    UImm, Width,
};

impl Access {
    /// The mnemonic's suffix: `b` for bytes, and so on.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::StoreByte | Self::LoadByte => "b",
            Self::LoadSignedByteX | Self::LoadSignedByteW => "sb",
            Self::StoreHalf | Self::LoadHalf => "h",
            Self::LoadSignedHalfX | Self::LoadSignedHalfW => "sh",
            Self::LoadSignedWord => "sw",
            Self::StoreW | Self::LoadW | Self::StoreX | Self::LoadX => "",
        }
    }

    fn verb(self) -> &'static str {
        if self.is_load() { "ld" } else { "st" }
    }
}

/// An address in an access of this size: `[x0, #8]!`.
pub(super) struct At {
    pub(super) rn: RegOrSp,
    pub(super) address: Address,
    pub(super) log2_bytes: u32,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rn = base(self.rn);
        match self.address {
            Address::Unsigned(units) => offset(f, self.rn, i64::from(units.get()) << self.log2_bytes),
            Address::Unscaled(bytes) => offset(f, self.rn, bytes.get().into()),
            Address::PreIndex(bytes) => write!(f, "[{rn}, #{}]!", bytes.get()),
            Address::PostIndex(bytes) => write!(f, "[{rn}], #{}", bytes.get()),
            Address::Register { rm, extend, scale } => {
                write!(f, "[{rn}, ")?;
                index(f, rm, extend, scale, self.log2_bytes)?;
                f.write_str("]")
            }
        }
    }
}

/// `[x0, #8]`, or `[x0]`.
fn offset(f: &mut fmt::Formatter<'_>, rn: RegOrSp, bytes: i64) -> fmt::Result {
    let rn = base(rn);
    if bytes == 0 { write!(f, "[{rn}]") } else { write!(f, "[{rn}, #{bytes}]") }
}

fn index(f: &mut fmt::Formatter<'_>, rm: Reg, extend: IndexExtend, scale: IndexScale, log2_bytes: u32) -> fmt::Result {
    let (width, name) = match extend {
        IndexExtend::Uxtw => (Width::W, "uxtw"),
        IndexExtend::Lsl => (Width::X, "lsl"),
        IndexExtend::Sxtw => (Width::W, "sxtw"),
        IndexExtend::Sxtx => (Width::X, "sxtx"),
    };
    let rm = rm.name(width);
    match (scale, extend) {
        (IndexScale::Bytes, IndexExtend::Lsl) => write!(f, "{rm}"),
        (IndexScale::Bytes, _) => write!(f, "{rm}, {name}"),
        (IndexScale::Elements, _) => write!(f, "{rm}, {name} #{log2_bytes}"),
    }
}

/// The address of a pair.
pub(super) struct PairAt {
    pub(super) rn: RegOrSp,
    pub(super) mode: PairMode,
    pub(super) offset: SImm<7>,
    pub(super) log2_bytes: u32,
}

impl fmt::Display for PairAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = i64::from(self.offset.get()) << self.log2_bytes;
        match self.mode {
            PairMode::Offset => offset(f, self.rn, bytes),
            PairMode::PreIndex => write!(f, "[{}, #{bytes}]!", base(self.rn)),
            PairMode::PostIndex => write!(f, "[{}], #{bytes}", base(self.rn)),
        }
    }
}

/// What a prefetch is for: `pldl1keep`, or its number.
struct Operation(UImm<5>);

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.get();
        let purpose = match number >> 3 {
            0 => "pld",
            1 => "pli",
            2 => "pst",
            _ => return write!(f, "#{number}"),
        };
        let level = match (number >> 1) & 3 {
            0 => "l1",
            1 => "l2",
            2 => "l3",
            _ => "slc",
        };
        let policy = if number & 1 == 0 { "keep" } else { "strm" };
        write!(f, "{purpose}{level}{policy}")
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Single { access, rt, rn, address } => {
                let kind = if matches!(address, Address::Unscaled(_)) { "ur" } else { "r" };
                let at = At { rn, address, log2_bytes: access.log2_bytes() };
                let rt = rt.name(access.width());
                write!(f, "{}{kind}{} {rt}, {at}", access.verb(), access.suffix())
            }
            Self::Unprivileged { access, rt, rn, offset } => {
                let address = Address::Unscaled(offset);
                let at = At { rn, address, log2_bytes: access.log2_bytes() };
                write!(f, "{}tr{} {}, {at}", access.verb(), access.suffix(), rt.name(access.width()))
            }
            Self::Literal { literal, rt, offset } => {
                let (mnemonic, width) = match literal {
                    Literal::LoadW => ("ldr", Width::W),
                    Literal::LoadX => ("ldr", Width::X),
                    Literal::LoadSignedWord => ("ldrsw", Width::X),
                };
                write!(f, "{mnemonic} {}, #{}", rt.name(width), offset.bytes())
            }
            Self::Prefetch { operation, rn, address } => {
                let address = address.address();
                let kind = if matches!(address, Address::Unscaled(_)) { "prfum" } else { "prfm" };
                write!(f, "{kind} {}, {}", Operation(operation), At { rn, address, log2_bytes: 3 })
            }
            Self::PrefetchLiteral { operation, offset } => {
                write!(f, "prfm {}, #{}", Operation(operation), offset.bytes())
            }
            Self::Pair { access, mode, rt, rt2, rn, offset } => {
                let mnemonic = match access {
                    PairAccess::LoadSignedWord => "ldpsw",
                    PairAccess::LoadW | PairAccess::LoadX => "ldp",
                    PairAccess::StoreW | PairAccess::StoreX => "stp",
                };
                let at = PairAt { rn, mode, offset, log2_bytes: access.log2_bytes() };
                let width = access.width();
                write!(f, "{mnemonic} {}, {}, {at}", rt.name(width), rt2.name(width))
            }
            Self::PairNonTemporal { direction, width, rt, rt2, rn, offset } => {
                let mnemonic = match direction {
                    Direction::Load => "ldnp",
                    Direction::Store => "stnp",
                };
                let log2_bytes = match width {
                    Width::W => 2,
                    Width::X => 3,
                };
                let at = PairAt { rn, mode: PairMode::Offset, offset, log2_bytes };
                write!(f, "{mnemonic} {}, {}, {at}", rt.name(width), rt2.name(width))
            }
        }
    }
}
