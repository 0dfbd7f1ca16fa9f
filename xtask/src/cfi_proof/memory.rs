//! What memory holds, as far as it was stored by the instructions that were executed. (The log has registers only.)

use std::collections::HashMap;

use fentry::insn::{
    Address, DataRegister, Effects, IndexExtend, IndexScale, Insn, Memory as Access, MemoryUse, Place, Reg, RegOrSp,
};

use super::log::Registers;

/// Words of eight bytes by their addresses. What is not here is not known.
#[derive(Debug, Default)]
pub(super) struct Memory(HashMap<u64, u64>);

impl Memory {
    /// The word at an address.
    pub(super) fn word(&self, at: u64) -> Option<u64> {
        self.0.get(&at).copied()
    }

    /// Carries out an instruction's stores; `before` is before it.
    pub(super) fn execute(&mut self, insn: &Insn, effects: &Effects, before: &Registers) {
        let bytes = match effects.memory {
            MemoryUse::None | MemoryUse::Load(_) => return,
            MemoryUse::Store(bytes) | MemoryUse::Update(bytes) => u64::from(bytes),
            // Zeroing a cache line stores, too.
            MemoryUse::Maintenance => return self.0.clear(),
        };
        let Some(at) = address(insn, effects, before) else { return self.0.clear() };
        self.forget(at, bytes);
        let (MemoryUse::Store(_), Some(moved)) = (effects.memory, effects.moved) else { return };
        if moved.bytes != 8 || !at.is_multiple_of(8) || may_fail(insn) {
            return;
        }
        for (register, at) in [(Some(moved.first), at), (moved.second, at.wrapping_add(8))] {
            if let Some(DataRegister::General(reg)) = register {
                self.0.insert(at, general(reg, before));
            }
        }
    }

    fn forget(&mut self, at: u64, bytes: u64) {
        for word in (at & !7..at.saturating_add(bytes)).step_by(8) {
            self.0.remove(&word);
        }
    }
}

/// Whether a store happens only if nobody else has stored meanwhile: it writes a register that says so.
fn may_fail(insn: &Insn) -> bool {
    matches!(insn, Insn::Atomic(_))
}

fn general(reg: Reg, registers: &Registers) -> u64 {
    reg.or_sp().map_or(0, |reg| or_sp(reg, registers))
}

fn or_sp(reg: RegOrSp, registers: &Registers) -> u64 {
    registers.general[usize::from(reg.number() & 31)]
}

/// Where an access goes; `None` where that was not worked out.
fn address(insn: &Insn, effects: &Effects, before: &Registers) -> Option<u64> {
    match (effects.place, insn) {
        (Place::Beside(base, bytes), _) => Some(or_sp(base, before).wrapping_add_signed(bytes)),
        (
            Place::Indexed(base),
            Insn::Memory(Access::Single { access, address: Address::Register { rm, extend, scale }, .. }),
        ) => {
            let index = general(*rm, before);
            let index = match extend {
                IndexExtend::Uxtw => index & 0xffff_ffff,
                IndexExtend::Sxtw => i64::from(index as i32) as u64,
                IndexExtend::Lsl | IndexExtend::Sxtx => index,
            };
            let shift = if *scale == IndexScale::Elements { access.log2_bytes() } else { 0 };
            Some(or_sp(base, before).wrapping_add(index << shift))
        }
        _ => None,
    }
}
