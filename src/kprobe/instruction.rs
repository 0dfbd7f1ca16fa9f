//! How an instruction is carried out that a probe has taken the place of: somewhere else, by simulation, or not at all.

use crate::address::TextAddr;
use crate::engine::Surroundings;
use crate::insn::{
    Atomic, Barrier, Branch, Class, DataImm, Flow, Hint, Insn, Link, Literal, Memory, Reg, SimdMemory, SysOp, SysReg,
    System,
};
use thiserror::Error;

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As it is, at another address; execution comes out behind it.
    OutOfLine,
    /// As it is, at another address; it goes elsewhere by itself.
    Leaving,
    /// By what it does to the registers.
    Simulated(Simulated),
}

/// An instruction whose result depends on where it is, or that goes elsewhere. Distances are from the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Simulated {
    /// B, BL, B.cond, CBZ, CBNZ, TBZ, TBNZ, BR, BLR, RET.
    Branch(Branch),
    /// ADR, ADRP.
    Address(DataImm),
    /// LDR, LDRSW (literal).
    Literal { literal: Literal, rt: Reg, bytes: i64 },
    /// PRFM (literal), which does nothing.
    Nothing,
}

/// Why no probe can be at an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A landing pad, where indirect calls and jumps come in; the probe would be at the next instruction as well.
    #[error("it is a landing pad; the instruction after it, at {next}, can have a probe")]
    LandingPad {
        /// The instruction after it.
        next: TextAddr,
    },
    /// An exclusive access, or CLREX: an exception between a load and its store makes the store fail, each time.
    #[error("it is an exclusive access, which an exception would make fail each time")]
    Exclusive,
    /// It is executed between an exclusive load and its store.
    #[error(
        "it is executed between the exclusive load at {load} and its store, which an exception would make fail each time"
    )]
    BetweenExclusives {
        /// The load.
        load: TextAddr,
    },
    /// It makes an exception itself: BRK, SVC, HVC, SMC, HLT, DCPS, UDF.
    #[error("it makes an exception itself")]
    Exception,
    /// It returns from one: ERET, DRPS.
    #[error("it returns from an exception")]
    ExceptionReturn,
    /// It changes what the CPU is or can do: masks, the stack pointer that is selected, system registers, translations.
    #[error("it changes the CPU's state")]
    CpuState,
    /// A call by a signed address, which leaves in LR where it is.
    #[error("it is a call by a signed address, which can be executed where it is only")]
    SignedCall,
    /// A load of a SIMD and floating-point register from an address that depends on where it is.
    #[error("it loads a SIMD and floating-point register from an address that depends on where it is")]
    SimdLiteral,
    /// It loads from an address that depends on where it is, and is in no text.
    #[error("it loads from {from}, which depends on where it is, and lies in no text that the engine has")]
    LiteralOutsideText {
        /// The address.
        from: TextAddr,
    },
    /// The engine does not know what it does.
    #[error("what {word:#010x} does is not known")]
    Unknown {
        /// The instruction.
        word: u32,
    },
    /// The kernel says that it is executed between a BRK and the probe's handler.
    #[error("it is executed on the way from an exception to its handler")]
    ExceptionPath,
}

/// How the instruction at `at`, which is `word`, is carried out.
///
/// # Errors
///
/// [`Refusal`], for the instruction itself.
pub(super) fn way(at: TextAddr, word: u32) -> Result<Way, Refusal> {
    Ok(match Insn::decode(word) {
        Insn::Branch(branch) => branch_way(branch)?,
        Insn::System(system) => {
            check_system(at, system)?;
            Way::OutOfLine
        }
        Insn::DataImm(data @ (DataImm::Adr { .. } | DataImm::Adrp { .. })) => Way::Simulated(Simulated::Address(data)),
        Insn::Memory(Memory::Literal { literal, rt, offset }) => {
            Way::Simulated(Simulated::Literal { literal, rt, bytes: offset.bytes() })
        }
        Insn::Memory(Memory::PrefetchLiteral { .. }) => Way::Simulated(Simulated::Nothing),
        Insn::Atomic(
            Atomic::LoadExclusive { .. }
            | Atomic::LoadExclusivePair { .. }
            | Atomic::StoreExclusive { .. }
            | Atomic::StoreExclusivePair { .. },
        ) => return Err(Refusal::Exclusive),
        Insn::SimdMemory(SimdMemory::Literal { .. }) => return Err(Refusal::SimdLiteral),
        Insn::DataImm(_)
        | Insn::DataReg(_)
        | Insn::Memory(_)
        | Insn::Atomic(_)
        | Insn::SimdMemory(_)
        | Insn::Simd(_) => Way::OutOfLine,
        // Data processing on registers is nowhere about where it is (Arm ARM C4.1).
        Insn::Unknown { class: Class::Simd, .. } => Way::OutOfLine,
        Insn::Unknown { word, .. } => return Err(Refusal::Unknown { word }),
    })
}

fn branch_way(branch: Branch) -> Result<Way, Refusal> {
    Ok(match branch {
        Branch::B { .. }
        | Branch::Bl { .. }
        | Branch::BCond { .. }
        | Branch::CompareBranch { .. }
        | Branch::TestBranch { .. }
        | Branch::Register { .. }
        | Branch::Ret { .. } => Way::Simulated(Simulated::Branch(branch)),
        Branch::RegisterAuth { link: Link::Jump, .. } | Branch::RetAuth { .. } => Way::Leaving,
        Branch::RegisterAuth { link: Link::Call, .. } => return Err(Refusal::SignedCall),
        Branch::Eret | Branch::EretAuth { .. } | Branch::Drps => return Err(Refusal::ExceptionReturn),
    })
}

fn check_system(at: TextAddr, system: System) -> Result<(), Refusal> {
    match system {
        System::Udf { .. } | System::Exception { .. } => Err(Refusal::Exception),
        System::Hint(Hint::BTI | Hint::BTI_C | Hint::BTI_J | Hint::BTI_JC) => {
            Err(Refusal::LandingPad { next: at.offset(4) })
        }
        // What a hint will mean that has no name yet, nobody knows. PACM is about the instruction that follows it.
        System::Hint(hint) if hint.name().is_none() || hint == Hint::PACM => {
            Err(Refusal::Unknown { word: Insn::System(system).encode() })
        }
        System::Barrier { kind: Barrier::Clrex, .. } => Err(Refusal::Exclusive),
        System::Hint(_) | System::Barrier { .. } | System::Sb | System::Mrs { .. } => Ok(()),
        System::Cfinv | System::Xaflag | System::Axflag => Ok(()),
        System::Msr { reg, .. } if is_flags_or_fp(reg) => Ok(()),
        System::Sys { op, .. } if is_cache_line(op) => Ok(()),
        _ => Err(Refusal::CpuState),
    }
}

/// NZCV, FPCR and FPSR: what a function may change at any time.
fn is_flags_or_fp(reg: SysReg) -> bool {
    matches!(reg.parts(), [3, 3, 4, 2, 0] | [3, 3, 4, 4, 0 | 1])
}

/// Maintenance of a cache line by address, and DC ZVA (Arm ARM C5.3): CRn 7, and of CRm those by VA.
fn is_cache_line(op: SysOp) -> bool {
    let SysOp { op1, crn, crm, op2 } = op;
    (op1.get(), crn.get(), op2.get()) == (3, 7, 1) && matches!(crm.get(), 4 | 5 | 10 | 11 | 12 | 13 | 14)
}

/// Checks that the instruction at `at` is not executed between an exclusive load and its store.
///
/// # Errors
///
/// [`Refusal::BetweenExclusives`].
pub(super) fn check_exclusives(at: TextAddr, text: &Surroundings<'_>) -> Result<(), Refusal> {
    let mut load = text.function.start;
    while load < text.function.end {
        if text.word(load).is_some_and(is_exclusive_load) && is_reached(load, at, text) {
            return Err(Refusal::BetweenExclusives { load });
        }
        load = load.offset(4);
    }
    Ok(())
}

fn is_exclusive_load(word: u32) -> bool {
    matches!(Insn::decode(word), Insn::Atomic(Atomic::LoadExclusive { .. } | Atomic::LoadExclusivePair { .. }))
}

/// Whether execution may go from the exclusive load to `at` before it comes to a store, CLREX or the function's end.
fn is_reached(load: TextAddr, at: TextAddr, text: &Surroundings<'_>) -> bool {
    let mut places = Places::new();
    places.add(load.offset(4));
    while let Some(here) = places.next() {
        if here == at {
            return true;
        }
        let Some(word) = text.word(here).filter(|_| text.function.contains(here)) else { continue };
        let insn = Insn::decode(word);
        if ends_exclusive(insn) {
            continue;
        }
        let next = here.offset(4);
        match insn.effects().flow {
            Flow::Next | Flow::Exception | Flow::Call(_) | Flow::IndirectCall(_) => places.add(next),
            Flow::Jump(bytes) => places.add(here.offset(bytes)),
            Flow::CondJump(bytes) => {
                places.add(here.offset(bytes));
                places.add(next);
            }
            Flow::IndirectJump(_) | Flow::Return(_) | Flow::ExceptionReturn | Flow::Unknown => {}
        }
    }
    places.is_full
}

fn ends_exclusive(insn: Insn) -> bool {
    matches!(
        insn,
        Insn::Atomic(Atomic::StoreExclusive { .. } | Atomic::StoreExclusivePair { .. })
            | Insn::System(System::Barrier { kind: Barrier::Clrex, .. })
    )
}

/// Addresses to look at, each once.
struct Places {
    all: [TextAddr; Self::MOST],
    count: usize,
    seen: usize,
    /// Whether there was no room for one.
    is_full: bool,
}

impl Places {
    /// Between an exclusive load and its store there are a few instructions.
    const MOST: usize = 64;

    const fn new() -> Self {
        Self { all: [TextAddr::new(0); Self::MOST], count: 0, seen: 0, is_full: false }
    }

    fn add(&mut self, place: TextAddr) {
        if self.all.iter().take(self.count).any(|known| *known == place) {
            return;
        }
        match self.all.get_mut(self.count) {
            Some(free) => {
                *free = place;
                self.count += 1;
            }
            None => self.is_full = true,
        }
    }

    fn next(&mut self) -> Option<TextAddr> {
        let next = *self.all.get(self.seen).filter(|_| self.seen < self.count)?;
        self.seen += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, Way, way};
    use crate::address::TextAddr;

    #[test]
    fn each_refusal_has_its_instructions() {
        let at = TextAddr::new(0x1000);
        for (word, cause) in [
            (0xd73f_0801, Refusal::SignedCall),                        // blraa x0, x1
            (0x9c00_0040, Refusal::SimdLiteral),                       // ldr q0, #8
            (0xd400_0001, Refusal::Exception),                         // svc #0
            (0x0000_0000, Refusal::Exception),                         // udf #0
            (0xd69f_03e0, Refusal::ExceptionReturn),                   // eret
            (0xd503_42df, Refusal::CpuState),                          // msr DAIFSet, #2
            (0xd518_c000, Refusal::CpuState),                          // msr VBAR_EL1, x0
            (0xd508_871f, Refusal::CpuState),                          // tlbi vmalle1
            (0xd508_751f, Refusal::CpuState),                          // ic iallu
            (0xd508_7e40, Refusal::CpuState),                          // dc cisw, x0
            (0xd50b_7020, Refusal::CpuState),                          // sys #3, c7, c0, #1, x0
            (0xd503_3f5f, Refusal::Exclusive),                         // clrex
            (0xd503_245f, Refusal::LandingPad { next: at.offset(4) }), // bti c
            (0xd503_2fff, Refusal::Unknown { word: 0xd503_2fff }),     // hint #127
            (0x0420_0000, Refusal::Unknown { word: 0x0420_0000 }),     // add z0.b, z0.b, z0.b
        ] {
            assert_eq!(way(at, word), Err(cause), "{word:#x}");
        }
    }

    #[test]
    fn what_looks_alike_is_carried_out_elsewhere() {
        // msr NZCV, x0; dc cvau, x0; mrs x0, DAIF; paciasp; ldar x0, [x1]
        for word in [0xd51b_4200, 0xd50b_7b20, 0xd53b_4220, 0xd503_233f, 0xc8df_fc20] {
            assert_eq!(way(TextAddr::new(0x1000), word), Ok(Way::OutOfLine), "{word:#x}");
        }
    }
}
