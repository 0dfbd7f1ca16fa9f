//! What an instruction does: the registers that it reads and writes, where control goes, what becomes of SP and FP.
//!
//! What is told is what the instruction itself does. What an exception handler, a callee or a debugger does after SVC, BL or
//! BRK is not told: BL writes LR and nothing else. SP is the current exception level's; that MSR may write another level's,
//! or the same one under another name, is not followed, but a change of SPSel is.

mod atomic;
mod branch;
mod data_imm;
mod data_reg;
mod memory;
mod place;
mod simd;
mod simd_memory;
mod system;

use super::{Class, Insn, Reg, RegOrSp, VReg};
pub use place::{DataRegister, Modifier, Moved, Place, Signature, Sum};

/// A set of general registers: X0 to X30 in bits 0 to 30, SP in bit 31. The zero register is never in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RegSet(u32);

impl RegSet {
    /// No register.
    pub const EMPTY: Self = Self(0);
    /// All of them, and SP.
    pub const ALL: Self = Self(u32::MAX);

    /// One bit for each register: X0 to X30, and SP in bit 31.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether this register is in it. The zero register is not.
    pub const fn contains(self, reg: Reg) -> bool {
        !reg.is_zero() && self.0 >> reg.number() & 1 == 1
    }

    /// Whether SP is in it.
    pub const fn contains_sp(self) -> bool {
        self.0 >> 31 == 1
    }

    /// The registers that are in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn with(self, reg: Reg) -> Self {
        if reg.is_zero() { self } else { Self(self.0 | 1 << reg.number()) }
    }

    const fn with_or_sp(self, reg: RegOrSp) -> Self {
        Self(self.0 | 1 << reg.number())
    }
}

/// A set of SIMD and floating-point registers: V0 to V31 in bits 0 to 31.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VRegSet(u32);

impl VRegSet {
    /// No register.
    pub const EMPTY: Self = Self(0);

    /// One bit for each register.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether this register is in it.
    pub const fn contains(self, reg: VReg) -> bool {
        self.0 >> reg.number() & 1 == 1
    }

    const fn with(self, reg: VReg) -> Self {
        Self(self.0 | 1 << reg.number())
    }
}

/// Where control goes. Distances are in bytes from the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// On to the next instruction.
    Next,
    /// There.
    Jump(i64),
    /// There or to the next instruction.
    CondJump(i64),
    /// There, and back to the next instruction by LR.
    Call(i64),
    /// To the address in a register.
    IndirectJump(Reg),
    /// To the address in a register, and back by LR.
    IndirectCall(Reg),
    /// To the address in a register, out of this function.
    Return(Reg),
    /// Out of an exception handler.
    ExceptionReturn,
    /// Into an exception handler or a debugger, whence control may or may not come back.
    Exception,
    /// Nobody knows: the instruction is unknown.
    Unknown,
}

/// What becomes of SP or FP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Nothing.
    Kept,
    /// So many bytes are added to it.
    By(i64),
    /// It becomes another register's value and so many bytes.
    From(RegOrSp, i64),
    /// It becomes something that the instruction alone does not tell.
    Unknown,
}

/// What becomes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryUse {
    /// It is not touched; prefetches count here.
    None,
    /// So many bytes are loaded.
    Load(u32),
    /// So many bytes are stored, or may be.
    Store(u32),
    /// So many bytes are loaded and stored again, or may be.
    Update(u32),
    /// Cache maintenance and the like: some memory, and no register is loaded.
    Maintenance,
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Effects {
    /// The general registers whose value matters.
    pub reads: RegSet,
    /// The general registers that get a value, even if it should be the same.
    pub writes: RegSet,
    /// The SIMD and floating-point registers whose value matters.
    pub vector_reads: VRegSet,
    /// The SIMD and floating-point registers that get a value.
    pub vector_writes: VRegSet,
    /// Whether it matters what the flags are.
    pub reads_flags: bool,
    /// Whether flags get a value.
    pub writes_flags: bool,
    /// Where control goes.
    pub flow: Flow,
    /// What becomes of SP.
    pub sp: Change,
    /// What becomes of FP, X29.
    pub fp: Change,
    /// What becomes of memory.
    pub memory: MemoryUse,
    /// Where that memory begins.
    pub place: Place,
    /// The registers that are stored there or loaded from there. `None` also for accesses of more than two registers or of a
    /// vector's element, and for those that load and store at once.
    pub moved: Option<Moved>,
    /// The register that becomes a register's value and a number of bytes.
    pub sum: Option<Sum>,
    /// What becomes of LR's signature.
    pub signature: Signature,
}

impl Effects {
    /// Nothing but going on.
    pub const NONE: Self = Self {
        reads: RegSet::EMPTY,
        writes: RegSet::EMPTY,
        vector_reads: VRegSet::EMPTY,
        vector_writes: VRegSet::EMPTY,
        reads_flags: false,
        writes_flags: false,
        flow: Flow::Next,
        sp: Change::Kept,
        fp: Change::Kept,
        memory: MemoryUse::None,
        place: Place::None,
        moved: None,
        sum: None,
        signature: Signature::Kept,
    };

    /// What must be feared of an unknown instruction: that it does anything.
    pub const UNKNOWN: Self = Self {
        reads: RegSet::ALL,
        writes: RegSet::ALL,
        vector_reads: VRegSet(u32::MAX),
        vector_writes: VRegSet(u32::MAX),
        reads_flags: true,
        writes_flags: true,
        flow: Flow::Unknown,
        sp: Change::Unknown,
        fp: Change::Unknown,
        memory: MemoryUse::Maintenance,
        place: Place::Unknown,
        ..Self::NONE
    };

    /// What must be feared of an unknown word. Data processing on SIMD and floating-point registers (Arm ARM C4.1) goes on to
    /// the next instruction, touches no memory, and has its result in the register of its lowest field: a vector or, of those
    /// that convert or copy, a general register; or in the flags.
    const fn of_unknown(word: u32, class: Class) -> Self {
        if !matches!(class, Class::Simd) {
            return Self::UNKNOWN;
        }
        let kept = Self { sp: Change::Kept, fp: Change::Kept, writes: RegSet::EMPTY, ..Self::UNKNOWN };
        let kept = Self { vector_writes: VRegSet::EMPTY, ..kept };
        let kept = kept.flow(Flow::Next).memory(MemoryUse::None).at(Place::None);
        // Scalar conversions have bit 21 clear (fixed-point) or no bit of 15 to 10 set (integers), and 2, 3 or 7 in bits 18 to
        // 16 where they are from a general register. SMOV and UMOV copy an element.
        let is_scalar = word & 0x7f00_0000 == 0x1e00_0000;
        let is_conversion = is_scalar && (word & 1 << 21 == 0 || word & 0xfc00 == 0);
        let is_to_general = is_conversion && !matches!(word >> 16 & 7, 2 | 3 | 7);
        // FCMP has 8 in bits 15 to 10, FCCMP 1 in the lowest two of those.
        let is_compare = is_scalar && word & 1 << 21 != 0 && (word & 0xfc00 == 0x2000 || word & 0xc00 == 0x400);
        if is_compare {
            kept
        } else if is_to_general || word & 0xbfe0_ec00 == 0x0e00_2c00 {
            kept.writes(Reg::at(word, 0))
        } else {
            kept.vector_writes(VReg::at(word, 0))
        }
    }

    const fn reads(mut self, reg: Reg) -> Self {
        self.reads = self.reads.with(reg);
        self
    }

    const fn reads_or_sp(mut self, reg: RegOrSp) -> Self {
        self.reads = self.reads.with_or_sp(reg);
        self
    }

    /// A register gets a value that the instruction alone does not tell.
    const fn writes(mut self, reg: Reg) -> Self {
        self.writes = self.writes.with(reg);
        if matches!(reg, Reg::FP) {
            self.fp = Change::Unknown;
        }
        self
    }

    /// A register or SP gets a value of which more is known.
    const fn changes(mut self, reg: RegOrSp, change: Change) -> Self {
        self.writes = self.writes.with_or_sp(reg);
        self.sum = match change {
            Change::By(bytes) => Some(Sum { to: reg, from: reg, bytes }),
            Change::From(from, bytes) => Some(Sum { to: reg, from, bytes }),
            Change::Kept | Change::Unknown => None,
        };
        match reg {
            RegOrSp::SP => self.sp = change,
            RegOrSp::FP => self.fp = change,
            _ => {}
        }
        self
    }

    const fn vector_reads(mut self, reg: VReg) -> Self {
        self.vector_reads = self.vector_reads.with(reg);
        self
    }

    const fn vector_writes(mut self, reg: VReg) -> Self {
        self.vector_writes = self.vector_writes.with(reg);
        self
    }

    const fn reads_flags(mut self) -> Self {
        self.reads_flags = true;
        self
    }

    const fn writes_flags(mut self) -> Self {
        self.writes_flags = true;
        self
    }

    const fn flow(mut self, flow: Flow) -> Self {
        self.flow = flow;
        self
    }

    const fn memory(mut self, memory: MemoryUse) -> Self {
        self.memory = memory;
        self
    }

    const fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    const fn moves(mut self, moved: Moved) -> Self {
        self.moved = Some(moved);
        self
    }

    const fn signature(mut self, signature: Signature) -> Self {
        self.signature = signature;
        self
    }
}

impl Insn {
    /// What the instruction does. An unknown one may do anything that its class does not rule out.
    pub const fn effects(self) -> Effects {
        match self {
            Self::Branch(branch) => branch.effects(),
            Self::System(system) => system.effects(),
            Self::DataImm(data) => data.effects(),
            Self::DataReg(data) => data.effects(),
            Self::Memory(memory) => memory.effects(),
            Self::Atomic(atomic) => atomic.effects(),
            Self::SimdMemory(memory) => memory.effects(),
            Self::Simd(simd) => simd.effects(),
            Self::Unknown { word, class } => Effects::of_unknown(word, class),
        }
    }
}
