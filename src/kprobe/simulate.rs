//! What simulated instructions do to the registers (Arm ARM C6.2, each under its own name).

use super::instruction::Simulated;
use crate::address::TextAddr;
use crate::context::regs::PtRegs;
use crate::insn::{Branch, Cond, DataImm, Link, Literal, Reg, Width, Zero};

/// PSTATE.BTYPE in a saved PSTATE (Arm ARM C5.2.19, SPSR_EL1).
const BTYPE: u64 = 0b11 << 10;
/// BLR has come here.
const BTYPE_CALL: u64 = 0b10 << 10;
/// BR has, by x16 or x17 or from a page that is not guarded.
const BTYPE_JUMP: u64 = 0b01 << 10;

/// Where the instruction behind this one is.
const NEXT: u64 = 4;

/// Carries out the instruction at `at`, of which the registers are `regs`: PC is where execution goes on.
///
/// `has_bti` is whether the CPU checks landing pads. A BR is told to the check as one that is not from a guarded page: whether
/// this page is guarded, nobody here knows.
pub(super) fn simulate(insn: Simulated, at: TextAddr, regs: &mut PtRegs, has_bti: bool, literal: u64) {
    let from = at.get();
    // An instruction that is no branch leaves 0, and so does one by its own distance.
    regs.pstate &= !BTYPE;
    regs.pc = from.wrapping_add(NEXT);
    match insn {
        Simulated::Branch(branch) => {
            if let Some(target) = taken(branch, from, regs) {
                regs.pc = target;
            }
            if has_bti && let Branch::Register { link, .. } = branch {
                regs.pstate |= match link {
                    Link::Jump => BTYPE_JUMP,
                    Link::Call => BTYPE_CALL,
                };
            }
        }
        Simulated::Address(DataImm::Adr { rd, offset }) => set(regs, rd, offset.target(from)),
        Simulated::Address(DataImm::Adrp { rd, offset }) => set(regs, rd, offset.target(from)),
        Simulated::Literal { rt, .. } => set(regs, rt, literal),
        Simulated::Address(_) | Simulated::Nothing => {}
    }
}

/// Where the branch at `from` goes, if it is taken; LR is set by those that do.
fn taken(branch: Branch, from: u64, regs: &mut PtRegs) -> Option<u64> {
    match branch {
        Branch::B { offset } => Some(offset.target(from)),
        Branch::Bl { offset } => {
            set(regs, Reg::LR, from.wrapping_add(NEXT));
            Some(offset.target(from))
        }
        Branch::BCond { cond, offset } => holds(cond, regs.pstate).then(|| offset.target(from)),
        Branch::CompareBranch { on, width, rt, offset } => {
            let value = match width {
                Width::X => get(regs, rt),
                Width::W => get(regs, rt) & u64::from(u32::MAX),
            };
            ((value == 0) == (on == Zero::Zero)).then(|| offset.target(from))
        }
        Branch::TestBranch { on, rt, bit, offset } => {
            let is_zero = get(regs, rt) >> bit.get() & 1 == 0;
            (is_zero == (on == Zero::Zero)).then(|| offset.target(from))
        }
        Branch::Register { link, rn } => {
            // Before LR is set, which may be the register.
            let target = get(regs, rn);
            if link == Link::Call {
                set(regs, Reg::LR, from.wrapping_add(NEXT));
            }
            Some(target)
        }
        Branch::Ret { rn } => Some(get(regs, rn)),
        // Not simulated.
        Branch::RegisterAuth { .. }
        | Branch::RetAuth { .. }
        | Branch::Eret
        | Branch::EretAuth { .. }
        | Branch::Drps => None,
    }
}

/// Whether a condition holds with these flags (Arm ARM, `ConditionHolds`).
fn holds(cond: Cond, pstate: u64) -> bool {
    let flag = |bit: u32| pstate >> bit & 1 == 1;
    let (n, z, c, v) = (flag(31), flag(30), flag(29), flag(28));
    let field = cond.field();
    let holds = match field >> 1 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        _ => return true,
    };
    holds != (field & 1 == 1)
}

fn get(regs: &PtRegs, reg: Reg) -> u64 {
    regs.regs.get(usize::from(reg.number())).copied().unwrap_or(0)
}

fn set(regs: &mut PtRegs, reg: Reg, value: u64) {
    if let Some(place) = regs.regs.get_mut(usize::from(reg.number())) {
        *place = value;
    }
}

/// What is loaded from a literal of these two words, the lower one first.
pub(super) const fn literal(literal: Literal, words: [u32; 2]) -> u64 {
    let [low, high] = words;
    match literal {
        Literal::LoadW => low as u64,
        Literal::LoadSignedWord => low.cast_signed() as i64 as u64,
        Literal::LoadX => low as u64 | (high as u64) << 32,
    }
}

#[cfg(test)]
mod tests {
    use super::super::instruction::{Way, way};
    use super::simulate;
    use crate::address::TextAddr;
    use crate::context::regs::PtRegs;

    const AT: TextAddr = TextAddr::new(0x1000);

    /// The registers after the instruction of this word, where the one before was an indirect branch.
    fn after(word: u32, flags: u64, has_bti: bool) -> PtRegs {
        let mut regs = PtRegs { regs: [0; 31], sp: 0, pc: AT.get(), pstate: flags | 0b11 << 10 | 5 };
        (regs.regs[1], regs.regs[2], regs.regs[3], regs.regs[30]) = (1 << 32, 1 << 33, 0x3000, 0x5000);
        let Ok(Way::Simulated(insn)) = way(AT, word) else { panic!("{word:#x}") };
        simulate(insn, AT, &mut regs, has_bti, 0);
        regs
    }

    #[test]
    fn a_branch_goes_where_it_would_and_tells_a_landing_pad_how() {
        for (word, text, pc, lr, btype) in [
            (0x17ff_ffff, "b #-4", 0xffc, 0x5000, 0),
            (0x9400_0004, "bl #16", 0x1010, 0x1004, 0),
            (0x3400_0041, "cbz w1, #8", 0x1008, 0x5000, 0),
            (0xb400_0041, "cbz x1, #8", 0x1004, 0x5000, 0),
            (0x3500_0041, "cbnz w1, #8", 0x1004, 0x5000, 0),
            (0xb500_0041, "cbnz x1, #8", 0x1008, 0x5000, 0),
            (0xb400_005f, "cbz xzr, #8", 0x1008, 0x5000, 0),
            (0xb608_0042, "tbz x2, #33, #8", 0x1004, 0x5000, 0),
            (0xb708_0042, "tbnz x2, #33, #8", 0x1008, 0x5000, 0),
            (0xd61f_0060, "br x3", 0x3000, 0x5000, 0b01),
            (0xd63f_0060, "blr x3", 0x3000, 0x1004, 0b10),
            (0xd63f_03c0, "blr x30", 0x5000, 0x1004, 0b10),
            (0xd65f_03c0, "ret", 0x5000, 0x5000, 0),
            (0xd65f_0060, "ret x3", 0x3000, 0x5000, 0),
        ] {
            for has_bti in [false, true] {
                let regs = after(word, 0, has_bti);
                let btype = if has_bti { btype } else { 0 };
                assert_eq!((regs.pc, regs.regs[30], regs.pstate), (pc, lr, 5 | btype << 10), "{text}");
            }
        }
    }

    #[test]
    fn a_condition_holds_where_what_was_compared_is_so() {
        const VALUES: [u64; 6] = [0, 1, 2, 1 << 63, (1 << 63) - 1, u64::MAX];
        for (a, b) in VALUES.into_iter().flat_map(|a| VALUES.map(|b| (a, b))) {
            let (signed, other) = (a.cast_signed(), b.cast_signed());
            let (difference, overflows) = signed.overflowing_sub(other);
            // As CMP sets them.
            let flags = [difference < 0, a == b, a >= b, overflows];
            let flags = flags.iter().fold(0, |flags, flag| flags << 1 | u64::from(*flag)) << 28;
            for (cond, (name, holds)) in [
                ("eq", a == b),
                ("ne", a != b),
                ("hs", a >= b),
                ("lo", a < b),
                ("mi", difference < 0),
                ("pl", difference >= 0),
                ("vs", overflows),
                ("vc", !overflows),
                ("hi", a > b),
                ("ls", a <= b),
                ("ge", signed >= other),
                ("lt", signed < other),
                ("gt", signed > other),
                ("le", signed <= other),
                ("al", true),
                ("nv", true),
            ]
            .into_iter()
            .enumerate()
            {
                let pc = after(0x5400_0040 | cond as u32, flags, false).pc;
                assert_eq!(pc, if holds { 0x1008 } else { 0x1004 }, "{a:#x} {name} {b:#x}");
            }
        }
    }
}
