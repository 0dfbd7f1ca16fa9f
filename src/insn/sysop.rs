//! The names of cache and TLB maintenance and address translation (Arm ARM C5.3 to C5.5).

use super::{SysOp, UImm};

/// How an assembler writes a SYS operation that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysOpName {
    mnemonic: &'static str,
    operation: &'static str,
    argument: Argument,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    None,
    Register,
}

impl SysOpName {
    /// `dc`, `ic`, `at` or `tlbi`.
    pub const fn mnemonic(self) -> &'static str {
        self.mnemonic
    }

    /// `ivau`, for instance.
    pub const fn operation(self) -> &'static str {
        self.operation
    }

    /// Whether it has an argument.
    pub const fn takes_register(self) -> bool {
        matches!(self.argument, Argument::Register)
    }
}

const fn place(op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op1 << 11 | crn << 7 | crm << 3 | op2
}

const fn named(place: u32) -> SysOp {
    SysOp {
        op1: UImm::truncated(place >> 11),
        crn: UImm::truncated(place >> 7),
        crm: UImm::truncated(place >> 3),
        op2: UImm::truncated(place),
    }
}

macro_rules! operations {
    ($($name:ident = $mnemonic:literal $operation:literal $argument:ident $op1:literal $crn:literal $crm:literal $op2:literal;)*) => {
        impl SysOp {
            $(
                #[doc = concat!("`", $mnemonic, " ", $operation, "`.")]
                pub const $name: Self = named(place($op1, $crn, $crm, $op2));
            )*

            /// The operation's name, for those with a constant here.
            pub const fn name(self) -> Option<SysOpName> {
                $(
                    const $name: u32 = place($op1, $crn, $crm, $op2);
                )*
                match place(self.op1.get(), self.crn.get(), self.crm.get(), self.op2.get()) {
                    $(
                        $name => Some(SysOpName {
                            mnemonic: $mnemonic,
                            operation: $operation,
                            argument: Argument::$argument,
                        }),
                    )*
                    _ => None,
                }
            }
        }
    };
}

operations! {
    IC_IALLUIS = "ic" "ialluis" None 0 7 1 0;
    IC_IALLU = "ic" "iallu" None 0 7 5 0;
    IC_IVAU = "ic" "ivau" Register 3 7 5 1;
    DC_IVAC = "dc" "ivac" Register 0 7 6 1;
    DC_ISW = "dc" "isw" Register 0 7 6 2;
    DC_CSW = "dc" "csw" Register 0 7 10 2;
    DC_CISW = "dc" "cisw" Register 0 7 14 2;
    DC_ZVA = "dc" "zva" Register 3 7 4 1;
    DC_CVAC = "dc" "cvac" Register 3 7 10 1;
    DC_CVAU = "dc" "cvau" Register 3 7 11 1;
    DC_CVAP = "dc" "cvap" Register 3 7 12 1;
    DC_CVADP = "dc" "cvadp" Register 3 7 13 1;
    DC_CIVAC = "dc" "civac" Register 3 7 14 1;
    AT_S1E1R = "at" "s1e1r" Register 0 7 8 0;
    AT_S1E1W = "at" "s1e1w" Register 0 7 8 1;
    AT_S1E0R = "at" "s1e0r" Register 0 7 8 2;
    AT_S1E0W = "at" "s1e0w" Register 0 7 8 3;
    AT_S1E1RP = "at" "s1e1rp" Register 0 7 9 0;
    AT_S1E1WP = "at" "s1e1wp" Register 0 7 9 1;
    AT_S1E2R = "at" "s1e2r" Register 4 7 8 0;
    AT_S1E2W = "at" "s1e2w" Register 4 7 8 1;
    AT_S12E1R = "at" "s12e1r" Register 4 7 8 4;
    AT_S12E1W = "at" "s12e1w" Register 4 7 8 5;
    AT_S12E0R = "at" "s12e0r" Register 4 7 8 6;
    AT_S12E0W = "at" "s12e0w" Register 4 7 8 7;
    TLBI_VMALLE1IS = "tlbi" "vmalle1is" None 0 8 3 0;
    TLBI_VAE1IS = "tlbi" "vae1is" Register 0 8 3 1;
    TLBI_ASIDE1IS = "tlbi" "aside1is" Register 0 8 3 2;
    TLBI_VAAE1IS = "tlbi" "vaae1is" Register 0 8 3 3;
    TLBI_VALE1IS = "tlbi" "vale1is" Register 0 8 3 5;
    TLBI_VAALE1IS = "tlbi" "vaale1is" Register 0 8 3 7;
    TLBI_VMALLE1 = "tlbi" "vmalle1" None 0 8 7 0;
    TLBI_VAE1 = "tlbi" "vae1" Register 0 8 7 1;
    TLBI_ASIDE1 = "tlbi" "aside1" Register 0 8 7 2;
    TLBI_VAAE1 = "tlbi" "vaae1" Register 0 8 7 3;
    TLBI_VALE1 = "tlbi" "vale1" Register 0 8 7 5;
    TLBI_VAALE1 = "tlbi" "vaale1" Register 0 8 7 7;
    TLBI_VMALLS12E1IS = "tlbi" "vmalls12e1is" None 4 8 3 6;
    TLBI_VMALLS12E1 = "tlbi" "vmalls12e1" None 4 8 7 6;
    TLBI_ALLE2IS = "tlbi" "alle2is" None 4 8 3 0;
    TLBI_VAE2IS = "tlbi" "vae2is" Register 4 8 3 1;
    TLBI_ALLE1IS = "tlbi" "alle1is" None 4 8 3 4;
    TLBI_VALE2IS = "tlbi" "vale2is" Register 4 8 3 5;
    TLBI_ALLE2 = "tlbi" "alle2" None 4 8 7 0;
    TLBI_VAE2 = "tlbi" "vae2" Register 4 8 7 1;
    TLBI_ALLE1 = "tlbi" "alle1" None 4 8 7 4;
    TLBI_VALE2 = "tlbi" "vale2" Register 4 8 7 5;
}
