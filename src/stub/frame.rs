//! The pieces that generated stubs have in common: what saves and restores, and places that are filled in later.

use super::code::{Code, Placeholder};
use crate::address::TextAddr;
use crate::insn::{
    Branch, BranchOffset, Direction, EncodeError, Insn, PairAccess, PairMode, PairSize, Reg, RegOrSp, SimdMemory, VReg,
    pair_offset,
};

/// q0 to q7 carry arguments (AAPCS64 6.1.2); without SIMD registers in the ABI there are none to keep.
pub(super) const HAS_SIMD: bool = cfg!(target_feature = "neon");

/// A line of `__frame!` as an instruction.
macro_rules! word {
    (mov X29 SP) => { encoded(Insn::add_imm(RegOrSp::X29, RegOrSp::SP, 0)) };
    (stp Q[$rt:literal] Q[$rt2:literal] $mode:tt $($bytes:tt)*) => {
        simd_pair(Direction::Store, $rt, $rt2, mode!($mode), $($bytes)*)
    };
    (ldp Q[$rt:literal] Q[$rt2:literal] $mode:tt $($bytes:tt)*) => {
        simd_pair(Direction::Load, $rt, $rt2, mode!($mode), $($bytes)*)
    };
    (stp $rt:ident $rt2:ident $mode:tt $($bytes:tt)*) => {
        pair(PairAccess::StoreX, Reg::$rt, Reg::$rt2, mode!($mode), $($bytes)*)
    };
    (ldp $rt:ident $rt2:ident $mode:tt $($bytes:tt)*) => {
        pair(PairAccess::LoadX, Reg::$rt, Reg::$rt2, mode!($mode), $($bytes)*)
    };
}

macro_rules! mode {
    (at) => {
        PairMode::Offset
    };
    (pre) => {
        PairMode::PreIndex
    };
    (post) => {
        PairMode::PostIndex
    };
}

/// Where SP is the SavedRegs but for the function's record, and then the whole.
pub(super) const SAVE: [u32; 9] = crate::__frame!(word: save(X10, X30));

/// x0 = ip, x1 = parent_ip, x3 = the SavedRegs; x2 comes from a literal.
pub(super) const ARGUMENTS: [u32; 3] = [
    encoded(Insn::sub_imm(RegOrSp::X0, RegOrSp::X30, 4)),
    Insn::mov(Reg::X1, Reg::X9).encode(),
    Insn::mov(Reg::X3, Reg::X29).encode(),
];

pub(super) const RESTORE_X8: u32 = crate::__frame!(word: restore_x8)[0];
/// x9 = where to go on; x30 = the return address.
pub(super) const RESTORE: [u32; 6] = crate::__frame!(word: restore);
/// The end of a stub.
pub(super) const RET_X9: u32 = Insn::Branch(Branch::Ret { rn: Reg::X9 }).encode();

/// From here a function goes on as if its callsite were disabled.
pub(super) const RETURN_TO_FUNCTION: [u32; 3] = [
    Insn::mov(Reg::X10, Reg::X30).encode(),
    Insn::mov(Reg::X30, Reg::X9).encode(),
    Insn::Branch(Branch::Ret { rn: Reg::X10 }).encode(),
];

pub(super) const SAVE_SIMD: [u32; 4] = crate::__frame!(word: save_simd);
pub(super) const RESTORE_SIMD: [u32; 4] = crate::__frame!(word: restore_simd);

impl Code {
    /// Calls the function at `target`. Where BL doesn't reach, the place of the load of its address to X16.
    pub(super) fn call(&mut self, target: TextAddr) -> Option<Placeholder> {
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

/// LDP or STP of two of q0 to q7.
const fn simd_pair(direction: Direction, rt: u8, rt2: u8, mode: PairMode, bytes: i64) -> u32 {
    let (Some(rt), Some(rt2), Ok(offset)) = (VReg::v(rt), VReg::v(rt2), pair_offset(bytes, 4)) else {
        panic!("a constant that can't be encoded")
    };
    Insn::SimdMemory(SimdMemory::Pair { direction, size: PairSize::Q, mode, rt, rt2, rn: RegOrSp::SP, offset }).encode()
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
            ["stp q6, q7, [sp, #-128]!", "stp q4, q5, [sp, #32]", "stp q2, q3, [sp, #64]", "stp q0, q1, [sp, #96]"];
        assert_eq!(SAVE_SIMD.map(|word| Insn::decode(word).to_string()), saved);
        let restored =
            ["ldp q0, q1, [sp, #96]", "ldp q2, q3, [sp, #64]", "ldp q4, q5, [sp, #32]", "ldp q6, q7, [sp], #128"];
        assert_eq!(RESTORE_SIMD.map(|word| Insn::decode(word).to_string()), restored);
    }
}
