//! The pieces that generated stubs have in common: what saves and restores, and places that are filled in later.

use super::code::{Code, Forward};
use crate::address::TextAddr;
use crate::context::regs::SavedRegs;
use crate::insn::{
    Branch, BranchOffset, Direction, EncodeError, Insn, PairAccess, PairMode, PairSize, Reg, RegOrSp, SimdMemory, VReg,
    pair_offset,
};
use core::mem::offset_of;

/// q0 to q7 carry arguments (AAPCS64 6.1.2); without SIMD registers in the ABI there are none to keep.
pub(super) const HAS_SIMD: bool = cfg!(target_feature = "neon");

pub(super) const X0: i64 = offset_of!(SavedRegs, x) as i64;
const RECORD: i64 = 16;
const REST: i64 = size_of::<SavedRegs>() as i64 - RECORD;

/// Where SP is the SavedRegs but for the function's record, and then the whole.
pub(super) const SAVE: [u32; 9] = [
    pair(PairAccess::StoreX, Reg::X29, Reg::X9, PairMode::PreIndex, -REST),
    pair(PairAccess::StoreX, Reg::X0, Reg::X1, PairMode::Offset, X0 - RECORD),
    pair(PairAccess::StoreX, Reg::X2, Reg::X3, PairMode::Offset, X0 - RECORD + 16),
    pair(PairAccess::StoreX, Reg::X4, Reg::X5, PairMode::Offset, X0 - RECORD + 32),
    pair(PairAccess::StoreX, Reg::X6, Reg::X7, PairMode::Offset, X0 - RECORD + 48),
    pair(PairAccess::StoreX, Reg::X8, Reg::X10, PairMode::Offset, X0 - RECORD + 64),
    MOV_X29_SP,
    pair(PairAccess::StoreX, Reg::X29, Reg::X30, PairMode::PreIndex, -RECORD),
    MOV_X29_SP,
];

/// x0 = ip, x1 = parent_ip, x3 = the SavedRegs; x2 comes from a literal.
pub(super) const ARGUMENTS: [u32; 3] = [
    encoded(Insn::sub_imm(RegOrSp::X0, RegOrSp::X30, 4)),
    Insn::mov(Reg::X1, Reg::X9).encode(),
    Insn::mov(Reg::X3, Reg::X29).encode(),
];

/// x9 = where to go on; x30 = the return address.
pub(super) const RESTORE: [u32; 7] = [
    pair(PairAccess::LoadX, Reg::X6, Reg::X7, PairMode::Offset, X0 + 48),
    pair(PairAccess::LoadX, Reg::X4, Reg::X5, PairMode::Offset, X0 + 32),
    pair(PairAccess::LoadX, Reg::X2, Reg::X3, PairMode::Offset, X0 + 16),
    pair(PairAccess::LoadX, Reg::X0, Reg::X1, PairMode::Offset, X0),
    pair(PairAccess::LoadX, Reg::X29, Reg::X9, PairMode::PostIndex, RECORD),
    pair(PairAccess::LoadX, Reg::X29, Reg::X30, PairMode::PostIndex, REST),
    Insn::Branch(Branch::Ret { rn: Reg::X9 }).encode(),
];

pub(super) const LOAD_CONTEXT: u32 = pair(PairAccess::LoadX, Reg::X8, Reg::X10, PairMode::Offset, X0 + 64);
const MOV_X29_SP: u32 = encoded(Insn::add_imm(RegOrSp::X29, RegOrSp::SP, 0));

pub(super) const SAVE_SIMD: [u32; 4] = simd_pairs(Direction::Store);
pub(super) const RESTORE_SIMD: [u32; 4] = simd_pairs(Direction::Load);

impl Code {
    /// Calls the function at `target`. Where BL doesn't reach, the place of the load of its address to X16.
    pub(super) fn call(&mut self, target: TextAddr) -> Option<Forward> {
        if let Ok(offset) = BranchOffset::between(self.here().get(), target.get()) {
            self.word(Insn::bl(offset).encode());
            return None;
        }
        let load = self.forward();
        self.word(Insn::blr(Reg::X16).encode());
        Some(load)
    }
}

/// `STR X11, [SP, #-16]!` or `LDR X11, [SP], #16`, as a pair with XZR or X12.
pub(super) const fn single(mode: PairMode) -> u32 {
    match mode {
        PairMode::PreIndex => pair(PairAccess::StoreX, Reg::X11, Reg::XZR, mode, -16),
        _ => pair(PairAccess::LoadX, Reg::X11, Reg::X12, mode, 16),
    }
}

const fn pair(access: PairAccess, rt: Reg, rt2: Reg, mode: PairMode, bytes: i64) -> u32 {
    pair_at(access, rt, rt2, RegOrSp::SP, mode, bytes)
}

/// LDP or STP.
pub(super) const fn pair_at(access: PairAccess, rt: Reg, rt2: Reg, rn: RegOrSp, mode: PairMode, bytes: i64) -> u32 {
    encoded(Insn::pair(access, rt, rt2, rn, mode, bytes))
}

/// For constants only: a wrong one doesn't compile.
pub(super) const fn encoded(insn: Result<Insn, EncodeError>) -> u32 {
    match insn {
        Ok(insn) => insn.encode(),
        Err(_) => panic!("a constant that can't be encoded"),
    }
}

/// Four pairs, pushed from the last to the first or popped the other way.
const fn simd_pairs(direction: Direction) -> [u32; 4] {
    let Some(v0) = VReg::v(0) else { panic!("V0 is a register") };
    let mut words = [0; 4];
    let mut n = 0;
    while n < 4 {
        let (first, mode, bytes) = match direction {
            Direction::Store => (6 - 2 * n as u8, PairMode::PreIndex, -32),
            Direction::Load => (2 * n as u8, PairMode::PostIndex, 32),
        };
        let Ok(offset) = pair_offset(bytes, 4) else { panic!("a constant that can't be encoded") };
        let (rt, rt2, rn) = (v0.next(first), v0.next(first + 1), RegOrSp::SP);
        words[n] =
            Insn::SimdMemory(SimdMemory::Pair { direction, size: PairSize::Q, mode, rt, rt2, rn, offset }).encode();
        n += 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{RESTORE_SIMD, SAVE_SIMD};
    use crate::insn::Insn;
    use std::string::ToString;
    extern crate std;

    #[test]
    fn the_argument_registers_of_the_hard_float_abi_are_kept() {
        let saved =
            ["stp q6, q7", "stp q4, q5", "stp q2, q3", "stp q0, q1"].map(|pair| std::format!("{pair}, [sp, #-32]!"));
        assert_eq!(SAVE_SIMD.map(|word| Insn::decode(word).to_string()), saved);
        let restored =
            ["ldp q0, q1", "ldp q2, q3", "ldp q4, q5", "ldp q6, q7"].map(|pair| std::format!("{pair}, [sp], #32"));
        assert_eq!(RESTORE_SIMD.map(|word| Insn::decode(word).to_string()), restored);
    }
}
