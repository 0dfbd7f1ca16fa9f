//! A 64-bit constant in the fewest instructions.
//!
//! The first instruction is a MOVZ, a MOVN or an ORR of the zero register with a bitmask, in either width, and gives all
//! four half-words of the register some value. Each half-word that is still wrong then takes a MOVK. So the best first
//! instruction is the one that leaves the fewest half-words wrong. MOVZ and MOVN are tried first; the 6636 bitmasks only
//! when those need three instructions or more.

use crate::insn::{BitmaskImm, DataImm, HalfWord, Insn, Logical, MoveWide, Reg, RegOrSp, UImm, Width};

/// One to four instructions that load a constant.
///
/// # Invariants
/// The first `len` of `insns` are it; `len` is 1 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    insns: [Insn; 4],
    len: u8,
}

impl Constant {
    /// The instructions.
    pub fn insns(&self) -> &[Insn] {
        self.insns.get(..usize::from(self.len)).unwrap_or(&self.insns)
    }

    /// The instructions, with NOP after the last.
    pub const fn padded(&self) -> [Insn; 4] {
        self.insns
    }
}

/// A first instruction and what the register holds after it.
#[derive(Clone, Copy)]
struct Start {
    insn: Insn,
    value: u64,
}

impl Start {
    /// How many half-words it leaves wrong.
    const fn wrong(self, wanted: u64) -> u32 {
        let mut difference = self.value ^ wanted;
        let mut wrong = 0;
        while difference != 0 {
            if difference & 0xffff != 0 {
                wrong += 1;
            }
            difference >>= 16;
        }
        wrong
    }

    const fn better(self, other: Self, wanted: u64) -> Self {
        if other.wrong(wanted) < self.wrong(wanted) { other } else { self }
    }
}

/// The fewest instructions that put `value` into `rd`.
///
/// ```
/// use fentry::insn::{Reg, load_constant};
///
/// assert_eq!(load_constant(Reg::X0, 0xffff_ffff_ffff_1234).insns().len(), 1);
/// assert_eq!(load_constant(Reg::X0, 0x5555_5555_1234_5555).insns().len(), 2);
/// ```
pub const fn load_constant(rd: Reg, value: u64) -> Constant {
    let mut start = best_move(rd, value);
    if start.wrong(value) >= 2 || (start.wrong(value) == 1 && is_bitmask(value)) {
        start = best_bitmask(rd, value, start);
    }
    let mut constant = Constant { insns: [start.insn, Insn::NOP, Insn::NOP, Insn::NOP], len: 1 };
    let difference = start.value ^ value;
    let places = [HalfWord::X0, HalfWord::X16, HalfWord::X32, HalfWord::X48];
    let mut rest: &[HalfWord] = &places;
    while let [at, others @ ..] = rest {
        rest = others;
        if (difference >> at.shift()) & 0xffff == 0 {
            continue;
        }
        let insn = wide(MoveWide::Keep, rd, (value >> at.shift()) as u32, *at);
        match &mut constant.insns {
            [_, next, _, _] if constant.len == 1 => *next = insn,
            [_, _, next, _] if constant.len == 2 => *next = insn,
            [_, _, _, next] => *next = insn,
        }
        constant.len += 1;
    }
    constant
}

const fn wide(op: MoveWide, rd: Reg, imm: u32, at: HalfWord) -> Insn {
    Insn::DataImm(DataImm::MoveWide { op, rd, imm: UImm::truncated(imm), at })
}

const fn is_bitmask(value: u64) -> bool {
    BitmaskImm::new(Width::X, value).is_ok() || BitmaskImm::new(Width::W, value).is_ok()
}

/// The MOVZ or MOVN that leaves the fewest half-words wrong.
const fn best_move(rd: Reg, value: u64) -> Start {
    let mut best = Start { insn: wide(MoveWide::Zero, rd, 0, HalfWord::X0), value: 0 };
    let places = [HalfWord::X0, HalfWord::X16, HalfWord::X32, HalfWord::X48, HalfWord::W0, HalfWord::W16];
    let mut rest: &[HalfWord] = &places;
    while let [at, others @ ..] = rest {
        rest = others;
        let (shift, all) = match at.width() {
            Width::X => (at.shift(), u64::MAX),
            Width::W => (at.shift(), 0xffff_ffff),
        };
        let zero =
            Start { insn: wide(MoveWide::Zero, rd, (value >> shift) as u32, *at), value: value & 0xffff << shift };
        let not = Start {
            insn: wide(MoveWide::Not, rd, (!value >> shift) as u32, *at),
            value: (value | !(0xffff << shift)) & all,
        };
        best = best.better(zero, value).better(not, value);
    }
    best
}

/// The ORR that leaves fewer half-words wrong than `best`, or `best`.
const fn best_bitmask(rd: Reg, value: u64, mut best: Start) -> Start {
    // ORR cannot write the zero register: 31 is SP there.
    let Some(to) = rd.or_sp() else { return best };
    let mut encoding = 0u32;
    while encoding < 1 << 13 {
        best = best.better_bitmask(to, encoding, Width::X, value);
        best = best.better_bitmask(to, encoding, Width::W, value);
        if best.wrong(value) == 0 {
            break;
        }
        encoding += 1;
    }
    best
}

impl Start {
    const fn better_bitmask(self, rd: RegOrSp, encoding: u32, width: Width, wanted: u64) -> Self {
        match BitmaskImm::of(encoding << 10, width) {
            Some(imm) => {
                let orr = DataImm::Logical { op: Logical::Orr, rd, rn: Reg::XZR, imm };
                self.better(Self { insn: Insn::DataImm(orr), value: imm.value() }, wanted)
            }
            None => self,
        }
    }
}
