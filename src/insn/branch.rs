//! Branches: Arm ARM C4.1, "Branches, Exception Generating and System instructions", its branch half. Each is described in
//! C6.2 under its own name.

use super::imm::{bit, bits};
use super::{BranchOffset, Cond, CondOffset, Reg, RegOrSp, TestOffset, UImm, Width};

/// Which half of a compare-and-branch or test-and-branch pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Zero {
    /// Branch if zero (CBZ, TBZ).
    Zero,
    /// Branch if not zero (CBNZ, TBNZ).
    NonZero,
}

/// What a branch to a register does beside jumping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Nothing (BR).
    Jump,
    /// LR becomes the address after the branch (BLR).
    Call,
}

/// A pointer-authentication key for instruction addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Key A.
    A,
    /// Key B.
    B,
}

/// A branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Branch {
    /// B.
    B {
        /// Where to.
        offset: BranchOffset,
    },
    /// BL: LR becomes the address after it.
    Bl {
        /// Where to.
        offset: BranchOffset,
    },
    /// B.cond.
    BCond {
        /// When to branch.
        cond: Cond,
        /// Where to.
        offset: CondOffset,
    },
    /// CBZ, CBNZ.
    CompareBranch {
        /// Branch on zero or on anything else.
        on: Zero,
        /// How much of the register is compared.
        width: Width,
        /// The register.
        rt: Reg,
        /// Where to.
        offset: CondOffset,
    },
    /// TBZ, TBNZ.
    TestBranch {
        /// Branch on a clear bit or on a set one.
        on: Zero,
        /// The register.
        rt: Reg,
        /// The bit.
        bit: UImm<6>,
        /// Where to.
        offset: TestOffset,
    },
    /// BR, BLR.
    Register {
        /// Whether LR is written.
        link: Link,
        /// The register with the address.
        rn: Reg,
    },
    /// BRAA, BRAB, BLRAA, BLRAB and, without a modifier, BRAAZ and kin.
    RegisterAuth {
        /// Whether LR is written.
        link: Link,
        /// The key that the address is checked with.
        key: Key,
        /// The register with the signed address.
        rn: Reg,
        /// The register with the modifier; zero is used when there is none.
        modifier: Option<RegOrSp>,
    },
    /// RET.
    Ret {
        /// The register with the address, LR as a rule.
        rn: Reg,
    },
    /// RETAA, RETAB: LR is checked with SP as the modifier.
    RetAuth {
        /// The key.
        key: Key,
    },
    /// ERET.
    Eret,
    /// ERETAA, ERETAB.
    EretAuth {
        /// The key.
        key: Key,
    },
    /// DRPS: out of Debug state.
    Drps,
}

const BR: u32 = 0xd61f_0000;
const RET: u32 = 0xd65f_0000;
const RETAA: u32 = 0xd65f_0bff;
const ERET: u32 = 0xd69f_03e0;
const ERETAA: u32 = 0xd69f_0bff;
const DRPS: u32 = 0xd6bf_03e0;
const KEY_B: u32 = 1 << 10;
const CALL: u32 = 1 << 21;
const AUTH: u32 = 1 << 11;
const MODIFIER: u32 = 1 << 24;

impl Zero {
    const fn at(word: u32, lsb: u32) -> Self {
        if bit(word, lsb) { Self::NonZero } else { Self::Zero }
    }
}

impl Key {
    const fn field(self) -> u32 {
        match self {
            Self::A => 0,
            Self::B => KEY_B,
        }
    }

    const fn of(word: u32) -> Self {
        if word & KEY_B == 0 { Self::A } else { Self::B }
    }
}

impl Link {
    const fn field(self) -> u32 {
        match self {
            Self::Jump => 0,
            Self::Call => CALL,
        }
    }

    const fn of(word: u32) -> Self {
        if word & CALL == 0 { Self::Jump } else { Self::Call }
    }
}

impl Branch {
    /// The instruction's word.
    pub const fn encode(self) -> u32 {
        match self {
            Self::B { offset } => 0x1400_0000 | offset.field(),
            Self::Bl { offset } => 0x9400_0000 | offset.field(),
            Self::BCond { cond, offset } => 0x5400_0000 | offset.field() << 5 | cond.field(),
            Self::CompareBranch { on, width, rt, offset } => {
                0x3400_0000 | width.sf() << 31 | (on as u32) << 24 | offset.field() << 5 | rt.field()
            }
            Self::TestBranch { on, rt, bit, offset } => {
                let bit = bit.get();
                0x3600_0000 | (bit >> 5) << 31 | (on as u32) << 24 | (bit & 31) << 19 | offset.field() << 5 | rt.field()
            }
            Self::Register { link, rn } => BR | link.field() | rn.field() << 5,
            Self::RegisterAuth { link, key, rn, modifier } => {
                let tail = match modifier {
                    Some(modifier) => MODIFIER | modifier.field(),
                    None => 31,
                };
                BR | AUTH | link.field() | key.field() | rn.field() << 5 | tail
            }
            Self::Ret { rn } => RET | rn.field() << 5,
            Self::RetAuth { key } => RETAA | key.field(),
            Self::Eret => ERET,
            Self::EretAuth { key } => ERETAA | key.field(),
            Self::Drps => DRPS,
        }
    }

    /// The branch that this word is, if it is one.
    pub const fn decode(word: u32) -> Option<Self> {
        let (offset, rt) = (CondOffset::at(word, 5), Reg::at(word, 0));
        Some(match bits(word, 24, 8) {
            0x14..=0x17 => Self::B { offset: BranchOffset::at(word, 0) },
            0x94..=0x97 => Self::Bl { offset: BranchOffset::at(word, 0) },
            0x54 if !bit(word, 4) => Self::BCond { cond: Cond::at(word, 0), offset },
            0x34 | 0x35 | 0xb4 | 0xb5 => {
                Self::CompareBranch { on: Zero::at(word, 24), width: Width::from_bit(word >> 31), rt, offset }
            }
            0x36 | 0x37 | 0xb6 | 0xb7 => {
                let number = bits(word, 31, 1) << 5 | bits(word, 19, 5);
                Self::TestBranch {
                    on: Zero::at(word, 24),
                    rt,
                    bit: UImm::at(number, 0),
                    offset: TestOffset::at(word, 5),
                }
            }
            0xd6 | 0xd7 => return Self::decode_register(word),
            _ => return None,
        })
    }

    /// Arm ARM "Unconditional branch (register)".
    const fn decode_register(word: u32) -> Option<Self> {
        let rn = Reg::at(word, 5);
        let (link, key) = (Link::of(word), Key::of(word));
        Some(match word {
            ERET => Self::Eret,
            DRPS => Self::Drps,
            _ if word & !KEY_B == RETAA => Self::RetAuth { key },
            _ if word & !KEY_B == ERETAA => Self::EretAuth { key },
            _ if word & !(31 << 5) == RET => Self::Ret { rn },
            _ if word & !(31 << 5 | CALL) == BR => Self::Register { link, rn },
            _ if word & !(31 << 5 | CALL | KEY_B) == BR | AUTH | 31 => {
                Self::RegisterAuth { link, key, rn, modifier: None }
            }
            _ if word & !(31 << 5 | CALL | KEY_B | 31) == BR | AUTH | MODIFIER => {
                Self::RegisterAuth { link, key, rn, modifier: Some(RegOrSp::at(word, 0)) }
            }
            _ => return None,
        })
    }
}
