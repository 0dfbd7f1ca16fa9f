//! System registers that MRS and MSR name (Arm ARM D24, C5.2).

/// A system register, by its place in the encoding space.
///
/// Any place can be made with [`SysReg::new`]; those with a constant here also print by name, the others as
/// `S<op0>_<op1>_C<n>_C<m>_<op2>`, which assemblers take for every register.
///
/// # Invariants
/// Bit 15 is set: op0 is 2 or 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SysReg(u16);

use super::imm::bits;
use super::{EncodeError, UImm};

const fn place(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// Which of MRS and MSR an assembler takes the register's name in.
#[derive(Clone, Copy)]
enum Named {
    Both,
    Read,
    Write,
}

macro_rules! system_registers {
    ($($name:ident = $op0:literal $op1:literal $crn:literal $crm:literal $op2:literal $named:ident $text:literal;)*) => {
        impl SysReg {
            $(
                #[doc = concat!("`", $text, "`.")]
                pub const $name: Self = Self(place($op0, $op1, $crn, $crm, $op2));
            )*

            const fn named(self) -> Option<(Named, &'static str)> {
                match self {
                    $(Self::$name => Some((Named::$named, $text)),)*
                    _ => None,
                }
            }
        }
    };
}

system_registers! {
    SP_EL0 = 3 0 4 1 0 Both "SP_EL0";
    SP_EL1 = 3 4 4 1 0 Both "SP_EL1";
    SP_EL2 = 3 6 4 1 0 Both "SP_EL2";
    TPIDR_EL0 = 3 3 13 0 2 Both "TPIDR_EL0";
    TPIDRRO_EL0 = 3 3 13 0 3 Both "TPIDRRO_EL0";
    TPIDR_EL1 = 3 0 13 0 4 Both "TPIDR_EL1";
    TPIDR_EL2 = 3 4 13 0 2 Both "TPIDR_EL2";
    TPIDR_EL3 = 3 6 13 0 2 Both "TPIDR_EL3";
    CONTEXTIDR_EL1 = 3 0 13 0 1 Both "CONTEXTIDR_EL1";
    MIDR_EL1 = 3 0 0 0 0 Read "MIDR_EL1";
    MPIDR_EL1 = 3 0 0 0 5 Read "MPIDR_EL1";
    REVIDR_EL1 = 3 0 0 0 6 Read "REVIDR_EL1";
    ID_AA64PFR0_EL1 = 3 0 0 4 0 Read "ID_AA64PFR0_EL1";
    ID_AA64PFR1_EL1 = 3 0 0 4 1 Read "ID_AA64PFR1_EL1";
    ID_AA64DFR0_EL1 = 3 0 0 5 0 Read "ID_AA64DFR0_EL1";
    ID_AA64DFR1_EL1 = 3 0 0 5 1 Read "ID_AA64DFR1_EL1";
    ID_AA64ISAR0_EL1 = 3 0 0 6 0 Read "ID_AA64ISAR0_EL1";
    ID_AA64ISAR1_EL1 = 3 0 0 6 1 Read "ID_AA64ISAR1_EL1";
    ID_AA64ISAR2_EL1 = 3 0 0 6 2 Read "ID_AA64ISAR2_EL1";
    ID_AA64MMFR0_EL1 = 3 0 0 7 0 Read "ID_AA64MMFR0_EL1";
    ID_AA64MMFR1_EL1 = 3 0 0 7 1 Read "ID_AA64MMFR1_EL1";
    ID_AA64MMFR2_EL1 = 3 0 0 7 2 Read "ID_AA64MMFR2_EL1";
    CTR_EL0 = 3 3 0 0 1 Read "CTR_EL0";
    DCZID_EL0 = 3 3 0 0 7 Read "DCZID_EL0";
    CLIDR_EL1 = 3 1 0 0 1 Read "CLIDR_EL1";
    CCSIDR_EL1 = 3 1 0 0 0 Read "CCSIDR_EL1";
    CSSELR_EL1 = 3 2 0 0 0 Both "CSSELR_EL1";
    SCTLR_EL1 = 3 0 1 0 0 Both "SCTLR_EL1";
    ACTLR_EL1 = 3 0 1 0 1 Both "ACTLR_EL1";
    CPACR_EL1 = 3 0 1 0 2 Both "CPACR_EL1";
    SCTLR_EL2 = 3 4 1 0 0 Both "SCTLR_EL2";
    HCR_EL2 = 3 4 1 1 0 Both "HCR_EL2";
    MDCR_EL2 = 3 4 1 1 1 Both "MDCR_EL2";
    CPTR_EL2 = 3 4 1 1 2 Both "CPTR_EL2";
    HSTR_EL2 = 3 4 1 1 3 Both "HSTR_EL2";
    SCTLR_EL3 = 3 6 1 0 0 Both "SCTLR_EL3";
    SCR_EL3 = 3 6 1 1 0 Both "SCR_EL3";
    CPTR_EL3 = 3 6 1 1 2 Both "CPTR_EL3";
    TTBR0_EL1 = 3 0 2 0 0 Both "TTBR0_EL1";
    TTBR1_EL1 = 3 0 2 0 1 Both "TTBR1_EL1";
    TCR_EL1 = 3 0 2 0 2 Both "TCR_EL1";
    TTBR0_EL2 = 3 4 2 0 0 Both "TTBR0_EL2";
    TCR_EL2 = 3 4 2 0 2 Both "TCR_EL2";
    VTTBR_EL2 = 3 4 2 1 0 Both "VTTBR_EL2";
    VTCR_EL2 = 3 4 2 1 2 Both "VTCR_EL2";
    APIAKEYLO_EL1 = 3 0 2 1 0 Both "APIAKeyLo_EL1";
    APIAKEYHI_EL1 = 3 0 2 1 1 Both "APIAKeyHi_EL1";
    APIBKEYLO_EL1 = 3 0 2 1 2 Both "APIBKeyLo_EL1";
    APIBKEYHI_EL1 = 3 0 2 1 3 Both "APIBKeyHi_EL1";
    APDAKEYLO_EL1 = 3 0 2 2 0 Both "APDAKeyLo_EL1";
    APDAKEYHI_EL1 = 3 0 2 2 1 Both "APDAKeyHi_EL1";
    APDBKEYLO_EL1 = 3 0 2 2 2 Both "APDBKeyLo_EL1";
    APDBKEYHI_EL1 = 3 0 2 2 3 Both "APDBKeyHi_EL1";
    APGAKEYLO_EL1 = 3 0 2 3 0 Both "APGAKeyLo_EL1";
    APGAKEYHI_EL1 = 3 0 2 3 1 Both "APGAKeyHi_EL1";
    SPSR_EL1 = 3 0 4 0 0 Both "SPSR_EL1";
    ELR_EL1 = 3 0 4 0 1 Both "ELR_EL1";
    SPSR_EL2 = 3 4 4 0 0 Both "SPSR_EL2";
    ELR_EL2 = 3 4 4 0 1 Both "ELR_EL2";
    SPSR_EL3 = 3 6 4 0 0 Both "SPSR_EL3";
    ELR_EL3 = 3 6 4 0 1 Both "ELR_EL3";
    SP_SEL = 3 0 4 2 0 Both "SPSel";
    CURRENT_EL = 3 0 4 2 2 Read "CurrentEL";
    PAN = 3 0 4 2 3 Both "PAN";
    UAO = 3 0 4 2 4 Both "UAO";
    NZCV = 3 3 4 2 0 Both "NZCV";
    DAIF = 3 3 4 2 1 Both "DAIF";
    DIT = 3 3 4 2 5 Both "DIT";
    SSBS = 3 3 4 2 6 Both "SSBS";
    TCO = 3 3 4 2 7 Both "TCO";
    FPCR = 3 3 4 4 0 Both "FPCR";
    FPSR = 3 3 4 4 1 Both "FPSR";
    RNDR = 3 3 2 4 0 Read "RNDR";
    RNDRRS = 3 3 2 4 1 Read "RNDRRS";
    ICC_PMR_EL1 = 3 0 4 6 0 Both "ICC_PMR_EL1";
    AFSR0_EL1 = 3 0 5 1 0 Both "AFSR0_EL1";
    AFSR1_EL1 = 3 0 5 1 1 Both "AFSR1_EL1";
    ESR_EL1 = 3 0 5 2 0 Both "ESR_EL1";
    ESR_EL2 = 3 4 5 2 0 Both "ESR_EL2";
    ESR_EL3 = 3 6 5 2 0 Both "ESR_EL3";
    DISR_EL1 = 3 0 12 1 1 Both "DISR_EL1";
    FAR_EL1 = 3 0 6 0 0 Both "FAR_EL1";
    FAR_EL2 = 3 4 6 0 0 Both "FAR_EL2";
    FAR_EL3 = 3 6 6 0 0 Both "FAR_EL3";
    HPFAR_EL2 = 3 4 6 0 4 Both "HPFAR_EL2";
    PAR_EL1 = 3 0 7 4 0 Both "PAR_EL1";
    MAIR_EL1 = 3 0 10 2 0 Both "MAIR_EL1";
    AMAIR_EL1 = 3 0 10 3 0 Both "AMAIR_EL1";
    MAIR_EL2 = 3 4 10 2 0 Both "MAIR_EL2";
    VBAR_EL1 = 3 0 12 0 0 Both "VBAR_EL1";
    VBAR_EL2 = 3 4 12 0 0 Both "VBAR_EL2";
    VBAR_EL3 = 3 6 12 0 0 Both "VBAR_EL3";
    RVBAR_EL1 = 3 0 12 0 1 Read "RVBAR_EL1";
    ISR_EL1 = 3 0 12 1 0 Read "ISR_EL1";
    ICC_IAR0_EL1 = 3 0 12 8 0 Read "ICC_IAR0_EL1";
    ICC_EOIR0_EL1 = 3 0 12 8 1 Write "ICC_EOIR0_EL1";
    ICC_HPPIR0_EL1 = 3 0 12 8 2 Read "ICC_HPPIR0_EL1";
    ICC_BPR0_EL1 = 3 0 12 8 3 Both "ICC_BPR0_EL1";
    ICC_DIR_EL1 = 3 0 12 11 1 Write "ICC_DIR_EL1";
    ICC_RPR_EL1 = 3 0 12 11 3 Read "ICC_RPR_EL1";
    ICC_SGI1R_EL1 = 3 0 12 11 5 Write "ICC_SGI1R_EL1";
    ICC_ASGI1R_EL1 = 3 0 12 11 6 Write "ICC_ASGI1R_EL1";
    ICC_SGI0R_EL1 = 3 0 12 11 7 Write "ICC_SGI0R_EL1";
    ICC_IAR1_EL1 = 3 0 12 12 0 Read "ICC_IAR1_EL1";
    ICC_EOIR1_EL1 = 3 0 12 12 1 Write "ICC_EOIR1_EL1";
    ICC_HPPIR1_EL1 = 3 0 12 12 2 Read "ICC_HPPIR1_EL1";
    ICC_BPR1_EL1 = 3 0 12 12 3 Both "ICC_BPR1_EL1";
    ICC_CTLR_EL1 = 3 0 12 12 4 Both "ICC_CTLR_EL1";
    ICC_SRE_EL1 = 3 0 12 12 5 Both "ICC_SRE_EL1";
    ICC_IGRPEN0_EL1 = 3 0 12 12 6 Both "ICC_IGRPEN0_EL1";
    ICC_IGRPEN1_EL1 = 3 0 12 12 7 Both "ICC_IGRPEN1_EL1";
    ICC_SRE_EL2 = 3 4 12 9 5 Both "ICC_SRE_EL2";
    ICC_SRE_EL3 = 3 6 12 12 5 Both "ICC_SRE_EL3";
    CNTKCTL_EL1 = 3 0 14 1 0 Both "CNTKCTL_EL1";
    CNTFRQ_EL0 = 3 3 14 0 0 Both "CNTFRQ_EL0";
    CNTPCT_EL0 = 3 3 14 0 1 Read "CNTPCT_EL0";
    CNTVCT_EL0 = 3 3 14 0 2 Read "CNTVCT_EL0";
    CNTPCTSS_EL0 = 3 3 14 0 5 Read "CNTPCTSS_EL0";
    CNTVCTSS_EL0 = 3 3 14 0 6 Read "CNTVCTSS_EL0";
    CNTP_TVAL_EL0 = 3 3 14 2 0 Both "CNTP_TVAL_EL0";
    CNTP_CTL_EL0 = 3 3 14 2 1 Both "CNTP_CTL_EL0";
    CNTP_CVAL_EL0 = 3 3 14 2 2 Both "CNTP_CVAL_EL0";
    CNTV_TVAL_EL0 = 3 3 14 3 0 Both "CNTV_TVAL_EL0";
    CNTV_CTL_EL0 = 3 3 14 3 1 Both "CNTV_CTL_EL0";
    CNTV_CVAL_EL0 = 3 3 14 3 2 Both "CNTV_CVAL_EL0";
    CNTPS_TVAL_EL1 = 3 7 14 2 0 Both "CNTPS_TVAL_EL1";
    CNTPS_CTL_EL1 = 3 7 14 2 1 Both "CNTPS_CTL_EL1";
    CNTPS_CVAL_EL1 = 3 7 14 2 2 Both "CNTPS_CVAL_EL1";
    CNTVOFF_EL2 = 3 4 14 0 3 Both "CNTVOFF_EL2";
    CNTHCTL_EL2 = 3 4 14 1 0 Both "CNTHCTL_EL2";
    CNTHP_TVAL_EL2 = 3 4 14 2 0 Both "CNTHP_TVAL_EL2";
    CNTHP_CTL_EL2 = 3 4 14 2 1 Both "CNTHP_CTL_EL2";
    CNTHP_CVAL_EL2 = 3 4 14 2 2 Both "CNTHP_CVAL_EL2";
    CNTHV_CTL_EL2 = 3 4 14 3 1 Both "CNTHV_CTL_EL2";
    VPIDR_EL2 = 3 4 0 0 0 Both "VPIDR_EL2";
    VMPIDR_EL2 = 3 4 0 0 5 Both "VMPIDR_EL2";
    PMCR_EL0 = 3 3 9 12 0 Both "PMCR_EL0";
    PMCNTENSET_EL0 = 3 3 9 12 1 Both "PMCNTENSET_EL0";
    PMCNTENCLR_EL0 = 3 3 9 12 2 Both "PMCNTENCLR_EL0";
    PMOVSCLR_EL0 = 3 3 9 12 3 Both "PMOVSCLR_EL0";
    PMSELR_EL0 = 3 3 9 12 5 Both "PMSELR_EL0";
    PMCCNTR_EL0 = 3 3 9 13 0 Both "PMCCNTR_EL0";
    PMXEVTYPER_EL0 = 3 3 9 13 1 Both "PMXEVTYPER_EL0";
    PMXEVCNTR_EL0 = 3 3 9 13 2 Both "PMXEVCNTR_EL0";
    PMUSERENR_EL0 = 3 3 9 14 0 Both "PMUSERENR_EL0";
    PMINTENSET_EL1 = 3 0 9 14 1 Both "PMINTENSET_EL1";
    PMINTENCLR_EL1 = 3 0 9 14 2 Both "PMINTENCLR_EL1";
    PMCCFILTR_EL0 = 3 3 14 15 7 Both "PMCCFILTR_EL0";
    MDSCR_EL1 = 2 0 0 2 2 Both "MDSCR_EL1";
    OSLAR_EL1 = 2 0 1 0 4 Write "OSLAR_EL1";
    OSLSR_EL1 = 2 0 1 1 4 Read "OSLSR_EL1";
    OSDLR_EL1 = 2 0 1 3 4 Both "OSDLR_EL1";
    MDCCSR_EL0 = 2 3 0 1 0 Read "MDCCSR_EL0";
    DBGDTR_EL0 = 2 3 0 4 0 Both "DBGDTR_EL0";
}

impl SysReg {
    /// The register at this place.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] when `op0` is not 2 or 3.
    pub const fn new(op0: u32, op1: UImm<3>, crn: UImm<4>, crm: UImm<4>, op2: UImm<3>) -> Result<Self, EncodeError> {
        if op0 != 2 && op0 != 3 {
            return Err(EncodeError::OutOfRange { field: "op0", value: op0 as i64, min: 2, max: 3 });
        }
        Ok(Self(place(op0 as u16, op1.get() as u16, crn.get() as u16, crm.get() as u16, op2.get() as u16)))
    }

    /// The register's name, for those with a constant here.
    pub const fn name(self) -> Option<&'static str> {
        match self.named() {
            Some((_, name)) => Some(name),
            None => None,
        }
    }

    /// The name that an assembler takes in MRS: none for a register that can only be written.
    pub const fn name_for_reading(self) -> Option<&'static str> {
        match self.named() {
            Some((Named::Both | Named::Read, name)) => Some(name),
            _ => None,
        }
    }

    /// The name that an assembler takes in MSR: none for a register that can only be read.
    pub const fn name_for_writing(self) -> Option<&'static str> {
        match self.named() {
            Some((Named::Both | Named::Write, name)) => Some(name),
            _ => None,
        }
    }

    /// op0, op1, CRn, CRm and op2 of the encoding.
    pub const fn parts(self) -> [u32; 5] {
        let place = self.0 as u32;
        [bits(place, 14, 2), bits(place, 11, 3), bits(place, 7, 4), bits(place, 3, 4), bits(place, 0, 3)]
    }

    pub(super) const fn of(word: u32) -> Self {
        Self(bits(word, 5, 16) as u16 | 1 << 15)
    }

    /// The bits below op0's upper one, which MRS and MSR share with the rest of their encodings.
    pub(super) const fn field(self) -> u32 {
        ((self.0 & 0x7fff) as u32) << 5
    }
}
