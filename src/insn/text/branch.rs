//! Branches as text.

use core::fmt;

use crate::insn::{Branch, Key, Link, Reg, Width, Zero};

impl Key {
    pub(super) fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::B { offset } => write!(f, "b #{}", offset.bytes()),
            Self::Bl { offset } => write!(f, "bl #{}", offset.bytes()),
            Self::BCond { cond, offset } => write!(f, "b.{cond} #{}", offset.bytes()),
            Self::CompareBranch { on, width, rt, offset } => {
                let mnemonic = match on {
                    Zero::Zero => "cbz",
                    Zero::NonZero => "cbnz",
                };
                write!(f, "{mnemonic} {}, #{}", rt.name(width), offset.bytes())
            }
            Self::TestBranch { on, rt, bit, offset } => {
                let mnemonic = match on {
                    Zero::Zero => "tbz",
                    Zero::NonZero => "tbnz",
                };
                let width = if bit.get() < 32 { Width::W } else { Width::X };
                write!(f, "{mnemonic} {}, #{}, #{}", rt.name(width), bit.get(), offset.bytes())
            }
            Self::Register { link, rn } => write!(f, "{} {}", mnemonic(link), rn.name(Width::X)),
            Self::RegisterAuth { link, key, rn, modifier } => {
                let (mnemonic, key, rn) = (mnemonic(link), key.letter(), rn.name(Width::X));
                match modifier {
                    Some(modifier) => {
                        write!(f, "{mnemonic}a{key} {rn}, {}", modifier.name(Width::X))
                    }
                    None => write!(f, "{mnemonic}a{key}z {rn}"),
                }
            }
            Self::Ret { rn: Reg::LR } => f.write_str("ret"),
            Self::Ret { rn } => write!(f, "ret {}", rn.name(Width::X)),
            Self::RetAuth { key } => write!(f, "reta{}", key.letter()),
            Self::Eret => f.write_str("eret"),
            Self::EretAuth { key } => write!(f, "ereta{}", key.letter()),
            Self::Drps => f.write_str("drps"),
        }
    }
}

fn mnemonic(link: Link) -> &'static str {
    match link {
        Link::Jump => "br",
        Link::Call => "blr",
    }
}
