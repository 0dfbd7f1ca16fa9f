//! Exceptions, hints, barriers and system registers: Arm ARM C4.1, "Branches, Exception Generating and System
//! instructions", its other half. Each is described in C6.2 under its own name.

use super::imm::bits;
use super::{EncodeError, Reg, SysReg, UImm};

/// An instruction that makes an exception, or stops the processor for a debugger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exception {
    /// SVC: to EL1.
    Svc,
    /// HVC: to EL2.
    Hvc,
    /// SMC: to EL3.
    Smc,
    /// BRK: a breakpoint.
    Brk,
    /// HLT: into Debug state.
    Hlt,
    /// DCPS1: a debug change of state to EL1.
    Dcps1,
    /// DCPS2: a debug change of state to EL2.
    Dcps2,
    /// DCPS3: a debug change of state to EL3.
    Dcps3,
}

/// One of the 128 hints (Arm ARM C4.1, "Hints"): those without a meaning do nothing.
///
/// Most processors that lack a feature execute its hints as NOPs, which is what makes BTI and PACIASP safe to compile in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hint(UImm<7>);

macro_rules! hints {
    ($($name:ident = $number:literal $text:literal $doc:literal;)*) => {
        impl Hint {
            $(
                #[doc = $doc]
                pub const $name: Self = Self(UImm::truncated($number));
            )*

            /// The assembler's name, for those that have one.
            pub const fn name(self) -> Option<&'static str> {
                match self.number() {
                    $($number => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

hints! {
    NOP = 0 "nop" "NOP: nothing.";
    YIELD = 1 "yield" "YIELD: spinning.";
    WFE = 2 "wfe" "WFE: wait for an event.";
    WFI = 3 "wfi" "WFI: wait for an interrupt.";
    SEV = 4 "sev" "SEV: send an event.";
    SEVL = 5 "sevl" "SEVL: send an event to this processor.";
    DGH = 6 "dgh" "DGH: don't gather memory accesses.";
    XPACLRI = 7 "xpaclri" "XPACLRI: strip LR's authentication code.";
    PACIA1716 = 8 "pacia1716" "PACIA1716: sign X17 with key A and modifier X16.";
    PACIB1716 = 10 "pacib1716" "PACIB1716: sign X17 with key B and modifier X16.";
    AUTIA1716 = 12 "autia1716" "AUTIA1716: check X17 with key A and modifier X16.";
    AUTIB1716 = 14 "autib1716" "AUTIB1716: check X17 with key B and modifier X16.";
    ESB = 16 "esb" "ESB: synchronise errors.";
    PSB_CSYNC = 17 "psb csync" "PSB CSYNC: synchronise profiling.";
    TSB_CSYNC = 18 "tsb csync" "TSB CSYNC: synchronise trace.";
    GCSB_DSYNC = 19 "gcsb dsync" "GCSB DSYNC: synchronise the guarded control stack.";
    CSDB = 20 "csdb" "CSDB: no speculation on data past here.";
    CLRBHB = 22 "clrbhb" "CLRBHB: forget the branch history.";
    PACIAZ = 24 "paciaz" "PACIAZ: sign LR with key A and modifier 0.";
    PACIASP = 25 "paciasp" "PACIASP: sign LR with key A and modifier SP; lands a call as BTI C does.";
    PACIBZ = 26 "pacibz" "PACIBZ: sign LR with key B and modifier 0.";
    PACIBSP = 27 "pacibsp" "PACIBSP: sign LR with key B and modifier SP; lands a call as BTI C does.";
    AUTIAZ = 28 "autiaz" "AUTIAZ: check LR with key A and modifier 0.";
    AUTIASP = 29 "autiasp" "AUTIASP: check LR with key A and modifier SP.";
    AUTIBZ = 30 "autibz" "AUTIBZ: check LR with key B and modifier 0.";
    AUTIBSP = 31 "autibsp" "AUTIBSP: check LR with key B and modifier SP.";
    BTI = 32 "bti" "BTI: no indirect branch lands here.";
    BTI_C = 34 "bti c" "BTI C: indirect calls land here.";
    BTI_J = 36 "bti j" "BTI J: indirect jumps land here.";
    BTI_JC = 38 "bti jc" "BTI JC: indirect calls and jumps land here.";
    PACM = 39 "pacm" "PACM: the next signature takes PC in, too.";
    CHKFEAT = 40 "chkfeat x16" "CHKFEAT X16: ask which features are enabled.";
}

impl Hint {
    /// Hint number `number`.
    pub const fn new(number: UImm<7>) -> Self {
        Self(number)
    }

    /// Its number, 0 to 127: CRm and op2 of the encoding.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

/// A barrier (Arm ARM C4.1, "Barriers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Barrier {
    /// CLREX: let go of the exclusive monitor.
    Clrex,
    /// DSB: wait until memory accesses are complete. Options 0 and 4 are SSBB and PSSBB.
    Dsb,
    /// DMB: order memory accesses.
    Dmb,
    /// ISB: fetch again what follows.
    Isb,
}

/// The domain and kind of a barrier: CRm of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BarrierOption(UImm<4>);

macro_rules! barrier_options {
    ($($name:ident = $number:literal $text:literal $doc:literal;)*) => {
        impl BarrierOption {
            $(
                #[doc = $doc]
                pub const $name: Self = Self(UImm::truncated($number));
            )*

            /// The assembler's name, for those that have one.
            pub const fn name(self) -> Option<&'static str> {
                match self.number() {
                    $($number => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

barrier_options! {
    OSHLD = 1 "oshld" "Outer shareable, loads.";
    OSHST = 2 "oshst" "Outer shareable, stores.";
    OSH = 3 "osh" "Outer shareable.";
    NSHLD = 5 "nshld" "This processor, loads.";
    NSHST = 6 "nshst" "This processor, stores.";
    NSH = 7 "nsh" "This processor.";
    ISHLD = 9 "ishld" "Inner shareable, loads.";
    ISHST = 10 "ishst" "Inner shareable, stores.";
    ISH = 11 "ish" "Inner shareable.";
    LD = 13 "ld" "The full system, loads.";
    ST = 14 "st" "The full system, stores.";
    SY = 15 "sy" "The full system.";
}

impl BarrierOption {
    /// The option with this number.
    pub const fn new(number: UImm<4>) -> Self {
        Self(number)
    }

    /// Its number, 0 to 15.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

/// A field of the processor's state that MSR (immediate) writes (Arm ARM C6.2, "MSR (immediate)").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PstateField {
    /// User access override.
    Uao,
    /// Privileged access never.
    Pan,
    /// Which stack pointer.
    SpSel,
    /// Speculative store bypass safe.
    Ssbs,
    /// Data independent timing.
    Dit,
    /// Tag check override.
    Tco,
    /// Mask the exceptions whose bits are set.
    DaifSet,
    /// Unmask the exceptions whose bits are set.
    DaifClr,
}

impl PstateField {
    /// op1 and op2, as `op1 << 3 | op2`.
    const fn op(self) -> u32 {
        match self {
            Self::Uao => 0o03,
            Self::Pan => 0o04,
            Self::SpSel => 0o05,
            Self::Ssbs => 0o31,
            Self::Dit => 0o32,
            Self::Tco => 0o34,
            Self::DaifSet => 0o36,
            Self::DaifClr => 0o37,
        }
    }

    const fn of(op: u32) -> Option<Self> {
        Some(match op {
            0o03 => Self::Uao,
            0o04 => Self::Pan,
            0o05 => Self::SpSel,
            0o31 => Self::Ssbs,
            0o32 => Self::Dit,
            0o34 => Self::Tco,
            0o36 => Self::DaifSet,
            0o37 => Self::DaifClr,
            _ => return None,
        })
    }

    /// The assembler's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uao => "UAO",
            Self::Pan => "PAN",
            Self::SpSel => "SPSel",
            Self::Ssbs => "SSBS",
            Self::Dit => "DIT",
            Self::Tco => "TCO",
            Self::DaifSet => "DAIFSet",
            Self::DaifClr => "DAIFClr",
        }
    }
}

/// A field of the processor's state and what MSR (immediate) writes to it.
///
/// # Invariants
/// The value fits the field: four bits of DAIF, one bit of any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PstateWrite {
    field: PstateField,
    value: UImm<4>,
}

impl PstateWrite {
    /// This value to this field.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] from 2 up, or for DAIF from 16 up.
    pub const fn new(field: PstateField, value: u32) -> Result<Self, EncodeError> {
        let max = match field {
            PstateField::DaifSet | PstateField::DaifClr => 15,
            _ => 1,
        };
        if value > max {
            let (value, max) = (value as i64, max as i64);
            return Err(EncodeError::OutOfRange { field: "CRm", value, min: 0, max });
        }
        Ok(Self { field, value: UImm::truncated(value) })
    }

    /// The field.
    pub const fn field(self) -> PstateField {
        self.field
    }

    /// The value.
    pub const fn value(self) -> u32 {
        self.value.get()
    }

    const fn of(word: u32) -> Option<Self> {
        match PstateField::of(bits(word, 16, 3) << 3 | bits(word, 5, 3)) {
            Some(field) => match Self::new(field, bits(word, 8, 4)) {
                Ok(write) => Some(write),
                Err(_) => None,
            },
            None => None,
        }
    }
}

/// What SYS and SYSL operate on: cache maintenance, address translation, TLB maintenance (Arm ARM C5.3 to C5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SysOp {
    /// op1 of the encoding.
    pub op1: UImm<3>,
    /// CRn of the encoding.
    pub crn: UImm<4>,
    /// CRm of the encoding.
    pub crm: UImm<4>,
    /// op2 of the encoding.
    pub op2: UImm<3>,
}

impl SysOp {
    const fn of(word: u32) -> Self {
        Self { op1: UImm::at(word, 16), crn: UImm::at(word, 12), crm: UImm::at(word, 8), op2: UImm::at(word, 5) }
    }

    const fn field(self) -> u32 {
        self.op1.get() << 16 | self.crn.get() << 12 | self.crm.get() << 8 | self.op2.get() << 5
    }
}

/// An instruction that works on the processor's state rather than on its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum System {
    /// UDF: never an instruction.
    Udf {
        /// For whoever handles the exception.
        imm: UImm<16>,
    },
    /// SVC, HVC, SMC, BRK, HLT, DCPS1 to DCPS3.
    Exception {
        /// Which.
        kind: Exception,
        /// For whoever handles the exception.
        imm: UImm<16>,
    },
    /// NOP, YIELD, BTI and the other hints.
    Hint(Hint),
    /// DSB, DMB, ISB, CLREX.
    Barrier {
        /// Which.
        kind: Barrier,
        /// For whom.
        option: BarrierOption,
    },
    /// SB: no speculation past here.
    Sb,
    /// MRS: a system register into a general one.
    Mrs {
        /// Where to.
        rt: Reg,
        /// The system register.
        reg: SysReg,
    },
    /// MSR (register): a general register into a system register.
    Msr {
        /// The system register.
        reg: SysReg,
        /// What.
        rt: Reg,
    },
    /// MSR (immediate).
    MsrImm(PstateWrite),
    /// CFINV: invert the carry flag.
    Cfinv,
    /// XAFLAG: flags from the external floating-point form.
    Xaflag,
    /// AXFLAG: flags to the external floating-point form.
    Axflag,
    /// SYS: DC, IC, AT, TLBI and others.
    Sys {
        /// What to do.
        op: SysOp,
        /// Its argument; the zero register for operations without one.
        rt: Reg,
    },
    /// SYSL: an operation with a result.
    Sysl {
        /// Where the result goes.
        rt: Reg,
        /// What to do.
        op: SysOp,
    },
}

impl Exception {
    /// The word without its immediate.
    const fn base(self) -> u32 {
        match self {
            Self::Svc => 0xd400_0001,
            Self::Hvc => 0xd400_0002,
            Self::Smc => 0xd400_0003,
            Self::Brk => 0xd420_0000,
            Self::Hlt => 0xd440_0000,
            Self::Dcps1 => 0xd4a0_0001,
            Self::Dcps2 => 0xd4a0_0002,
            Self::Dcps3 => 0xd4a0_0003,
        }
    }

    const fn of(word: u32) -> Option<Self> {
        Some(match word & 0xffe0_001f {
            0xd400_0001 => Self::Svc,
            0xd400_0002 => Self::Hvc,
            0xd400_0003 => Self::Smc,
            0xd420_0000 => Self::Brk,
            0xd440_0000 => Self::Hlt,
            0xd4a0_0001 => Self::Dcps1,
            0xd4a0_0002 => Self::Dcps2,
            0xd4a0_0003 => Self::Dcps3,
            _ => return None,
        })
    }
}

impl Barrier {
    const fn op2(self) -> u32 {
        match self {
            Self::Clrex => 2,
            Self::Dsb => 4,
            Self::Dmb => 5,
            Self::Isb => 6,
        }
    }
}

const HINT: u32 = 0xd503_201f;
const BARRIER: u32 = 0xd503_301f;
const SB: u32 = 0xd503_30ff;
const PSTATE: u32 = 0xd500_401f;
const CFINV: u32 = 0xd500_401f;
const XAFLAG: u32 = 0xd500_403f;
const AXFLAG: u32 = 0xd500_405f;
const SYS: u32 = 0xd508_0000;
const SYSL: u32 = 0xd528_0000;
const MSR: u32 = 0xd510_0000;
const MRS: u32 = 0xd530_0000;

impl System {
    /// The instruction's word.
    pub const fn encode(self) -> u32 {
        match self {
            Self::Udf { imm } => imm.get(),
            Self::Exception { kind, imm } => kind.base() | imm.get() << 5,
            Self::Hint(hint) => HINT | hint.number() << 5,
            Self::Barrier { kind, option } => BARRIER | option.number() << 8 | kind.op2() << 5,
            Self::Sb => SB,
            Self::Mrs { rt, reg } => MRS | reg.field() | rt.field(),
            Self::Msr { reg, rt } => MSR | reg.field() | rt.field(),
            Self::MsrImm(PstateWrite { field, value }) => {
                let op = field.op();
                PSTATE | (op >> 3) << 16 | value.get() << 8 | (op & 7) << 5
            }
            Self::Cfinv => CFINV,
            Self::Xaflag => XAFLAG,
            Self::Axflag => AXFLAG,
            Self::Sys { op, rt } => SYS | op.field() | rt.field(),
            Self::Sysl { rt, op } => SYSL | op.field() | rt.field(),
        }
    }

    /// The system instruction that this word is, if it is one.
    pub const fn decode(word: u32) -> Option<Self> {
        Some(match bits(word, 24, 8) {
            0x00 if bits(word, 16, 8) == 0 => Self::Udf { imm: UImm::at(word, 0) },
            0xd4 => match Exception::of(word) {
                Some(kind) => Self::Exception { kind, imm: UImm::at(word, 5) },
                None => return None,
            },
            0xd5 => return Self::decode_d5(word),
            _ => return None,
        })
    }

    const fn decode_d5(word: u32) -> Option<Self> {
        let rt = Reg::at(word, 0);
        Some(match bits(word, 19, 5) {
            0b00000 => return Self::decode_without_register(word),
            0b00001 => Self::Sys { op: SysOp::of(word), rt },
            0b00101 => Self::Sysl { rt, op: SysOp::of(word) },
            0b00010 | 0b00011 => Self::Msr { reg: SysReg::of(word), rt },
            0b00110 | 0b00111 => Self::Mrs { rt, reg: SysReg::of(word) },
            _ => return None,
        })
    }

    /// Hints, barriers and MSR (immediate).
    const fn decode_without_register(word: u32) -> Option<Self> {
        let option = BarrierOption(UImm::at(word, 8));
        Some(match word {
            SB => Self::Sb,
            CFINV => Self::Cfinv,
            XAFLAG => Self::Xaflag,
            AXFLAG => Self::Axflag,
            _ if word & !(0x7f << 5) == HINT => Self::Hint(Hint(UImm::at(word, 5))),
            _ if word & 0xffff_f01f == BARRIER => {
                let kind = match bits(word, 5, 3) {
                    2 => Barrier::Clrex,
                    4 => Barrier::Dsb,
                    5 => Barrier::Dmb,
                    6 => Barrier::Isb,
                    _ => return None,
                };
                Self::Barrier { kind, option }
            }
            _ if word & 0xfff8_f01f == PSTATE => match PstateWrite::of(word) {
                Some(write) => Self::MsrImm(write),
                None => return None,
            },
            _ => return None,
        })
    }
}
