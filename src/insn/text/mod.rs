//! Instructions as the assembler writes them, in the forms that LLVM's disassembler prefers.
//!
//! Distances print in bytes (`bl #-16`), as `llvm-mc` prints them, since a word does not know its address.

mod atomic;
mod branch;
mod data_imm;
mod data_reg;
mod memory;
mod simd;
mod simd_memory;
mod system;

use core::fmt;

use super::{Class, Insn, RegOrSp, Width};

impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(branch) => branch.fmt(f),
            Self::System(system) => system.fmt(f),
            Self::DataImm(data) => data.fmt(f),
            Self::DataReg(data) => data.fmt(f),
            Self::Memory(memory) => memory.fmt(f),
            Self::Atomic(atomic) => atomic.fmt(f),
            Self::SimdMemory(memory) => memory.fmt(f),
            Self::Simd(simd) => simd.fmt(f),
            Self::Unknown { word, .. } => write!(f, ".inst {word:#010x}"),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reserved => "reserved",
            Self::Scalable => "scalable",
            Self::DataImm => "data processing, immediate",
            Self::BranchSystem => "branch or system",
            Self::LoadStore => "load or store",
            Self::DataReg => "data processing, register",
            Self::Simd => "SIMD and floating point",
        })
    }
}

/// `#0x1` for 1, `#0` for 0.
struct Hex(u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("#0") } else { write!(f, "#{:#x}", self.0) }
    }
}

/// The base of an address.
fn base(rn: RegOrSp) -> impl fmt::Display {
    rn.name(Width::X)
}
