//! What one instruction makes of what is known.

use fentry::insn::{
    Access, BitfieldMove, DataImm, DataRegister, Effects, Insn, Key, Logical, Memory, MemoryUse, Modifier, Place,
    RegOrSp, Signature, Width,
};

use super::compared::Compared;
use super::table::MAX_ELEMENTS;
use super::{CallerReg, Machine, Shapes, Value};
use crate::program::{InsnId, Program};

/// What an instruction's meaning depends on beside the registers.
#[derive(Debug)]
pub struct Context<'a> {
    /// The program, for relocations, literals and addresses.
    pub program: &'a Program<'a>,
    /// The tables of jumps that were seen.
    pub shapes: &'a mut Shapes,
}

impl Machine {
    /// Carries what is known over an instruction. Of a call, only that it writes LR; [`Self::after_call`] does the rest.
    pub fn step(&mut self, id: InsnId, insn: &Insn, effects: &Effects, context: &mut Context<'_>) {
        let result = self.result(id, insn, effects, context);
        let compared = if effects.writes_flags { Compared::by(insn, self) } else { self.compared };
        let loaded = self.access(insn, effects, context.program);
        let lr = self.signed(effects.signature);
        let is_narrow = is_narrow(insn);
        for number in numbers(effects.writes.bits()) {
            let reg = RegOrSp::x(number).unwrap_or(RegOrSp::SP);
            match result {
                Some((to, value)) if to == reg && value != Value::Unknown => self.set(reg, value),
                _ => self.define(id, reg, is_narrow),
            }
        }
        self.keep_vectors(effects, &loaded);
        for (reg, value) in loaded.into_iter().flatten() {
            if let (DataRegister::General(reg), true) = (reg, value != Value::Unknown)
                && let Some(reg) = reg.or_sp()
            {
                self.set(reg, value);
            }
        }
        if let Some(lr) = lr {
            self.set(RegOrSp::LR, lr);
        }
        if effects.writes_flags {
            // A register that the same instruction changes is not what was compared any more.
            self.compared = compared.map(|compared| compared.after_writes(effects.writes));
        }
        self.bound_by_width(id, insn);
    }

    /// Carries out the memory side of an access: stores go to the stack's slots, and what is loaded from them is returned.
    fn access(&mut self, insn: &Insn, effects: &Effects, program: &Program<'_>) -> [Option<(DataRegister, Value)>; 2] {
        let nothing = [None, None];
        let stores = match effects.memory {
            MemoryUse::None | MemoryUse::Maintenance => return nothing,
            MemoryUse::Load(_) => false,
            MemoryUse::Store(_) | MemoryUse::Update(_) => true,
        };
        let place = match effects.place {
            Place::Beside(base, bytes) => self.register(base).plus(bytes),
            _ => Value::Unknown,
        };
        let at = match place {
            Value::Frame(at) => at,
            Value::ShadowTop(at) => return [self.access_shadow(at, effects), None],
            _ => {
                if stores {
                    self.slots.forget_shared(program.image());
                }
                return nothing;
            }
        };
        if stores {
            self.version = self.version.wrapping_add(1);
        }
        match (effects.memory, effects.moved) {
            (MemoryUse::Load(_), Some(moved)) => {
                let mut loaded = nothing;
                for (place, (reg, distance)) in loaded.iter_mut().zip(moved.registers()) {
                    *place = Some((reg, self.loaded(insn, at + distance, moved.bytes)));
                }
                loaded
            }
            (MemoryUse::Store(bytes), Some(moved)) => {
                let exclusive = matches!(insn, Insn::Atomic(_));
                self.slots.forget(at, bytes.into());
                for (reg, distance) in moved.registers().filter(|_| !exclusive) {
                    self.slots.set(at + distance, moved.bytes as u8, self.stored(reg, moved.bytes));
                }
                nothing
            }
            (MemoryUse::Store(bytes) | MemoryUse::Update(bytes), _) => {
                self.slots.forget(at, bytes.into());
                nothing
            }
            _ => nothing,
        }
    }

    /// The same for the shadow call stack, which has return addresses and nothing else.
    fn access_shadow(&mut self, at: i64, effects: &Effects) -> Option<(DataRegister, Value)> {
        let moved = effects.moved.filter(|moved| moved.bytes == 8 && moved.second.is_none());
        self.version = self.version.wrapping_add(1);
        match (effects.memory, moved) {
            (MemoryUse::Load(_), Some(moved)) => {
                let (_, value) = self.pushed.filter(|(place, _)| *place == at)?;
                Some((moved.first, value))
            }
            (MemoryUse::Store(_), Some(moved)) => {
                let value = self.stored(moved.first, moved.bytes);
                self.pushed = matches!(value, Value::Caller(CallerReg::LR, _)).then_some((at, value));
                None
            }
            (MemoryUse::Store(_) | MemoryUse::Update(_), _) => {
                self.pushed = None;
                None
            }
            _ => None,
        }
    }

    fn loaded(&self, insn: &Insn, at: i64, bytes: u32) -> Value {
        let extends_sign = match insn {
            Insn::Memory(Memory::Single { access, .. }) => !matches!(access, Access::LoadX | Access::LoadW),
            Insn::Memory(Memory::Pair { access, .. }) => access.log2_bytes() == 2 && access.width() == Width::X,
            _ => false,
        };
        match (bytes, self.slots.get(at, bytes as u8)) {
            (8, value) => value,
            // D registers have their low half in a Q register's slot.
            (4, value) if !extends_sign => value.low_half(),
            _ => Value::Unknown,
        }
    }

    /// What a store of a register leaves in memory.
    fn stored(&self, reg: DataRegister, bytes: u32) -> Value {
        match reg {
            DataRegister::General(reg) if bytes == 8 => self.general(reg),
            DataRegister::General(reg) if bytes == 4 => self.general(reg).low_half(),
            DataRegister::Vector(reg) if bytes == 8 => match CallerReg::vector(reg) {
                Some(reg) if self.keeps_vector(reg) => Value::Caller(reg, None),
                _ => Value::Unknown,
            },
            _ => Value::Unknown,
        }
    }

    /// d8 to d15 lose the caller's value when they are written, unless by its own from the stack.
    fn keep_vectors(&mut self, effects: &Effects, loaded: &[Option<(DataRegister, Value)>; 2]) {
        let before = self.vectors;
        self.vectors &= !((effects.vector_writes.bits() >> 8) as u8);
        for (reg, value) in loaded.iter().flatten() {
            if let (DataRegister::Vector(reg), Value::Caller(kept, _)) = (reg, value)
                && CallerReg::vector(*reg) == Some(*kept)
                && let Some(index) = kept.vector_index()
            {
                self.vectors |= 1 << index;
            }
        }
        if self.vectors != before {
            self.version = self.version.wrapping_add(1);
        }
    }

    /// The return address after it was signed or checked, if LR holds it and this is the right way to.
    fn signed(&self, signature: Signature) -> Option<Value> {
        let Value::Caller(CallerReg::LR, key) = self.register(RegOrSp::LR) else { return None };
        let is_callers_sp = |modifier| match modifier {
            Modifier::Value(reg) => self.register(reg) == Value::Frame(0),
            Modifier::Zero => true,
        };
        let after = |key: Option<Key>| Some(Value::Caller(CallerReg::LR, key));
        match signature {
            Signature::Kept => None,
            Signature::Signed(with, modifier) if key.is_none() && is_callers_sp(modifier) => after(Some(with)),
            Signature::Authenticated(with, modifier) if key == Some(with) && is_callers_sp(modifier) => after(None),
            Signature::Stripped => after(None),
            Signature::Signed(..) | Signature::Authenticated(..) => Some(Value::Unknown),
        }
    }

    /// What an instruction's width says of how large its result can be.
    fn bound_by_width(&mut self, id: InsnId, insn: &Insn) {
        let (rd, max) = match *insn {
            Insn::Memory(Memory::Single { access: Access::LoadByte, rt, .. }) => (rt.or_sp(), 0xff),
            Insn::Memory(Memory::Single { access: Access::LoadHalf, rt, .. }) => (rt.or_sp(), 0xffff),
            Insn::DataImm(DataImm::Logical { op: Logical::And, rd, imm, .. }) => (Some(rd), imm.value()),
            Insn::DataImm(DataImm::Bitfield { op: BitfieldMove::Unsigned, rd, places, .. })
                if places.imms() >= places.immr() =>
            {
                let bits = places.imms() - places.immr() + 1;
                (rd.or_sp(), 1_u64.checked_shl(bits).map_or(u64::MAX, |end| end - 1))
            }
            _ => return,
        };
        let value = rd.map(|rd| self.register(rd));
        if let Some(Value::Opaque(origin, _)) = value
            && origin.at == id
            && max < MAX_ELEMENTS
        {
            self.bound(origin, max, Width::X, false);
        }
    }
}

/// Whether an instruction's result is a W register, whose upper half becomes zero.
fn is_narrow(insn: &Insn) -> bool {
    match insn {
        Insn::DataImm(DataImm::Adr { .. } | DataImm::Adrp { .. }) => false,
        Insn::DataImm(_) | Insn::DataReg(_) => insn.encode() >> 31 == 0,
        Insn::Memory(Memory::Single { access, .. }) => access.width() == Width::W,
        Insn::Memory(Memory::Pair { access, .. }) => access.width() == Width::W,
        _ => false,
    }
}

/// The numbers of the bits that are set.
fn numbers(mut bits: u32) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let number = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (number < 32).then_some(number as u8)
    })
}
