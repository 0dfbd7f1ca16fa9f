//! A64 instructions as values: encoded, decoded, printed, and asked what they do. It knows nothing of the rest of
//! the crate.
//!
//! ```
//! use fentry::insn::{BranchOffset, Insn};
//!
//! let call = Insn::bl(BranchOffset::between(0x8000_0000, 0x8010_0000)?);
//! assert_eq!(call.encode(), 0x9404_0000);
//! assert_eq!(Insn::decode(0xd503_201f), Insn::NOP);
//! # Ok::<(), fentry::insn::EncodeError>(())
//! ```
//!
//! # How it is built
//! An instruction is a value of [`Insn`], which has one variant for each class of the Arm ARM's encoding index (C4.1).
//! What stands in its fields are checked types: a [`Reg`] cannot be SP, a [`BranchOffset`] cannot be too far or unaligned.
//! So what can be built can be encoded, and [`Insn::encode`] has no error; the errors are where the fields are made.
//!
//! Decoding never guesses. A word is decoded only when every one of its bits is understood, so that encoding the result
//! gives the same word; any other word becomes [`Insn::Unknown`] with its broad [`Class`].

mod address;
mod atomic;
mod bitmask;
mod branch;
mod cond;
mod constant;
mod data_imm;
mod data_reg;
mod data_reg_decode;
mod data_reg_ops;
mod effects;
mod error;
mod imm;
mod memory;
mod reg;
mod short;
mod simd;
mod simd_decode;
mod simd_memory;
mod simd_shapes;
mod sysop;
mod sysreg;
mod system;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod unpredictable;
mod vector;

pub use address::{
    Access, Address, Direction, IndexExtend, IndexScale, Literal, PairAccess, PairMode, PrefetchAddress, pair_offset,
};
pub use atomic::{Atomic, AtomicOp, Exclusive, Order, Ordering, Size};
pub use bitmask::BitmaskImm;
pub use branch::{Branch, Key, Link, Zero};
pub use cond::Cond;
pub use constant::{Constant, load_constant};
pub use data_imm::{AddSub, BitfieldMove, BitfieldPlaces, DataImm, HalfWord, Logical, MoveWide};
pub use data_reg::DataReg;
pub use data_reg_ops::{
    Accumulate, ArithShift, CompareWith, CrcPolynomial, CrcSize, Extend, ExtendShift, Flags, LogicalOp, OneSource,
    PointerAuth, Select, SetfSize, Shift, Sign, TwoSource,
};
pub use effects::{
    Change, DataRegister, Effects, Flow, MemoryUse, Modifier, Moved, Place, RegSet, Signature, Sum, VRegSet,
};
pub use error::EncodeError;
pub use imm::{AdrOffset, ArithImm, BitPos, BranchOffset, CondOffset, PageOffset, PcOffset, SImm, TestOffset, UImm};
pub use memory::Memory;
pub use reg::{EvenReg, Reg, RegName, RegOrSp, VReg, Width};
pub use simd::Simd;
pub use simd_memory::SimdMemory;
pub use simd_shapes::{
    FloatMove, FloatOne, FloatSize, FloatTwo, ModifiedImm, Permute, ShiftBy, VectorLogical, VectorOp, VectorShift,
    VectorThree,
};
pub use sysop::SysOpName;
pub use sysreg::SysReg;
pub use system::{Barrier, BarrierOption, Exception, Hint, PstateField, PstateWrite, SysOp, System};
pub use vector::{Arrangement, Lane, PairSize, StepReg, StructLayout, StructList, StructPost, VSize};

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Insn {
    /// A branch.
    Branch(Branch),
    /// Exceptions, hints, barriers, system registers.
    System(System),
    /// Arithmetic on a register and a number.
    DataImm(DataImm),
    /// Arithmetic on registers.
    DataReg(DataReg),
    /// A load or store of general registers.
    Memory(Memory),
    /// An exclusive, ordered or atomic access of general registers.
    Atomic(Atomic),
    /// A load or store of SIMD and floating-point registers.
    SimdMemory(SimdMemory),
    /// Data processing on SIMD and floating-point registers.
    Simd(Simd),
    /// A word that this module does not know.
    Unknown {
        /// The word.
        word: u32,
        /// What kind of instruction it would be.
        class: Class,
    },
}

/// The broad kinds of instructions (Arm ARM C4.1, its first table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Reserved: no instruction is encoded here, except UDF.
    Reserved,
    /// Scalable vectors and matrices (SVE, SME).
    Scalable,
    /// Data processing with an immediate.
    DataImm,
    /// Branches, exceptions and system instructions.
    BranchSystem,
    /// Loads and stores, SIMD and floating-point ones too.
    LoadStore,
    /// Data processing on registers.
    DataReg,
    /// Data processing on SIMD and floating-point registers.
    Simd,
}

impl Class {
    /// The class that a word belongs to.
    pub const fn of(word: u32) -> Self {
        match imm::bits(word, 25, 4) {
            0b0000 if word >> 31 == 0 => Self::Reserved,
            0b0000 | 0b0010 => Self::Scalable,
            0b1000 | 0b1001 => Self::DataImm,
            0b1010 | 0b1011 => Self::BranchSystem,
            0b0100 | 0b0110 | 0b1100 | 0b1110 => Self::LoadStore,
            0b0101 | 0b1101 => Self::DataReg,
            0b0111 | 0b1111 => Self::Simd,
            _ => Self::Reserved,
        }
    }
}

impl Insn {
    /// The instruction's word.
    pub const fn encode(self) -> u32 {
        match self {
            Self::Branch(branch) => branch.encode(),
            Self::System(system) => system.encode(),
            Self::DataImm(data) => data.encode(),
            Self::DataReg(data) => data.encode(),
            Self::Memory(memory) => memory.encode(),
            Self::Atomic(atomic) => atomic.encode(),
            Self::SimdMemory(memory) => memory.encode(),
            Self::Simd(simd) => simd.encode(),
            Self::Unknown { word, .. } => word,
        }
    }

    /// The instruction that a word is.
    pub const fn decode(word: u32) -> Self {
        let class = Class::of(word);
        match class {
            Class::BranchSystem | Class::Reserved => {
                if let Some(branch) = Branch::decode(word) {
                    return Self::Branch(branch);
                }
                if let Some(system) = System::decode(word) {
                    return Self::System(system);
                }
            }
            Class::DataImm => {
                if let Some(data) = DataImm::decode(word) {
                    return Self::DataImm(data);
                }
            }
            Class::DataReg => {
                if let Some(data) = DataReg::decode(word) {
                    return Self::DataReg(data);
                }
            }
            Class::LoadStore => {
                if let Some(memory) = Memory::decode(word) {
                    return Self::Memory(memory);
                }
                if let Some(atomic) = Atomic::decode(word) {
                    return Self::Atomic(atomic);
                }
                if let Some(memory) = SimdMemory::decode(word) {
                    return Self::SimdMemory(memory);
                }
            }
            Class::Simd => {
                if let Some(simd) = Simd::decode(word) {
                    return Self::Simd(simd);
                }
            }
            Class::Scalable => {}
        }
        Self::Unknown { word, class }
    }

    /// Whether this word may be replaced by another such one while other processors may be executing it, without more than
    /// a 32-bit store and cache maintenance (Arm ARM B2.2.5, "Concurrent modification and execution of instructions").
    ///
    /// Those are B, BL, BRK, HVC, ISB, NOP, SMC and SVC. Both the old instruction and the new one must be of that set. A
    /// processor that runs into the place sees the old one or the new one; when it sees the new one for certain is a
    /// matter of cache maintenance and context synchronisation.
    pub const fn is_concurrently_modifiable(self) -> bool {
        match self {
            Self::Branch(branch) => matches!(branch, Branch::B { .. } | Branch::Bl { .. }),
            Self::System(System::Exception { kind, .. }) => {
                matches!(kind, Exception::Svc | Exception::Hvc | Exception::Smc | Exception::Brk)
            }
            Self::System(System::Hint(hint)) => hint.number() == Hint::NOP.number(),
            Self::System(System::Barrier { kind, .. }) => matches!(kind, Barrier::Isb),
            _ => false,
        }
    }
}
