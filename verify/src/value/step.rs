//! What one instruction makes of what is known.

use fentry::insn::{
    Access, AddSub, Address, ArithShift, BitfieldMove, DataImm, DataReg, DataRegister, Effects, Extend, Flags,
    IndexExtend, IndexScale, Insn, Key, Logical, LogicalOp, Memory, MemoryUse, Modifier, MoveWide, Place, Reg, RegOrSp,
    Shift, Signature, Width,
};
use object::elf;

use super::refining::Compared;
use super::{CallerReg, Machine, Part, Shape, Shapes, Value};
use crate::program::{InsnId, Program};

/// Larger tables are not believed.
const MAX_ELEMENTS: u64 = 1 << 16;

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
        let loaded = self.access(insn, effects);
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

    /// What a register becomes that gets its value from registers and numbers alone.
    fn result(
        &self,
        id: InsnId,
        insn: &Insn,
        effects: &Effects,
        context: &mut Context<'_>,
    ) -> Option<(RegOrSp, Value)> {
        if let Some(sum) = effects.sum {
            let value = match context.program.relocation(id) {
                None => self.register(sum.from).plus(sum.bytes),
                Some(relocation) => match (elf::RelocationType(relocation.kind), self.register(sum.from)) {
                    (elf::R_AARCH64_ADD_ABS_LO12_NC, Value::Const(page)) => relocation
                        .address()
                        .map_or(Value::Unknown, |address| Value::Const(page.wrapping_add(address & 0xfff))),
                    _ => Value::Unknown,
                },
            };
            return Some((sum.to, value));
        }
        match *insn {
            Insn::DataImm(data) => self.by_number(id, data, context),
            Insn::DataReg(data) => self.by_registers(data, context.shapes),
            Insn::Memory(Memory::Single { access, rt, rn, address: Address::Register { rm, extend, scale } }) => {
                let shape = self.element(access, rn, rm, extend, scale)?;
                Some((rt.or_sp()?, Value::Element(context.shapes.intern(shape))))
            }
            Insn::Memory(Memory::Literal { literal, rt, .. }) => {
                let Place::Near(bytes) = effects.place else { return None };
                let at = context.program.address(id).get().wrapping_add_signed(bytes);
                let is_plain = context.program.relocation(id).is_none() && literal.bytes() == 8;
                let value = is_plain.then(|| context.program.image().number_at(at, 8)).flatten()?;
                Some((rt.or_sp()?, Value::Const(value)))
            }
            _ => None,
        }
    }

    fn by_number(&self, id: InsnId, data: DataImm, context: &Context<'_>) -> Option<(RegOrSp, Value)> {
        let at = context.program.address(id).get();
        let relocation = context.program.relocation(id);
        let (rd, value) = match data {
            DataImm::Adr { rd, offset } => {
                let address = match relocation {
                    None => Some(at.wrapping_add_signed(offset.bytes())),
                    Some(relocation) if relocation.kind == elf::R_AARCH64_ADR_PREL_LO21.0 => relocation.address(),
                    Some(_) => None,
                };
                (rd, Value::Const(address?))
            }
            DataImm::Adrp { rd, offset } => {
                let page = match relocation {
                    None => Some((at & !0xfff).wrapping_add_signed(offset.bytes())),
                    Some(relocation) => match elf::RelocationType(relocation.kind) {
                        elf::R_AARCH64_ADR_PREL_PG_HI21 | elf::R_AARCH64_ADR_PREL_PG_HI21_NC => {
                            relocation.address().map(|address| address & !0xfff)
                        }
                        _ => None,
                    },
                };
                (rd, Value::Const(page?))
            }
            DataImm::MoveWide { op, rd, imm, at } if relocation.is_none() => {
                let (bits, width) = (u64::from(imm.get()) << at.shift(), at.width());
                let value = match (op, self.general(rd)) {
                    (MoveWide::Zero, _) => bits,
                    (MoveWide::Not, _) => !bits,
                    (MoveWide::Keep, Value::Const(value)) => value & !(0xffff << at.shift()) | bits,
                    (MoveWide::Keep, _) => return None,
                };
                let value = Value::Const(value);
                (rd, if width == Width::W { value.low_half() } else { value })
            }
            // Zero-extension of a word, in two spellings.
            DataImm::Logical { op: Logical::And, rd, rn, imm } if imm.value() == 0xffff_ffff => {
                return Some((rd, self.general(rn).low_half()));
            }
            // And of a byte, and of two.
            DataImm::Logical { op: Logical::And, rd, rn, imm } if imm.value() == 0xff => {
                return Some((rd, self.general(rn).part(Part::Byte)));
            }
            DataImm::Logical { op: Logical::And, rd, rn, imm } if imm.value() == 0xffff => {
                return Some((rd, self.general(rn).part(Part::Half)));
            }
            DataImm::Bitfield { op: BitfieldMove::Unsigned, rd, rn, places }
                if (places.immr(), places.imms()) == (0, 7) =>
            {
                (rd, self.general(rn).part(Part::Byte))
            }
            DataImm::Bitfield { op: BitfieldMove::Unsigned, rd, rn, places }
                if (places.immr(), places.imms()) == (0, 15) =>
            {
                (rd, self.general(rn).part(Part::Half))
            }
            DataImm::Bitfield { op: BitfieldMove::Unsigned, rd, rn, places }
                if places.width() == Width::X && (places.immr(), places.imms()) == (0, 31) =>
            {
                (rd, self.general(rn).low_half())
            }
            _ => return None,
        };
        Some((rd.or_sp()?, value))
    }

    fn by_registers(&self, data: DataReg, shapes: &mut Shapes) -> Option<(RegOrSp, Value)> {
        match data {
            DataReg::Logical { op: LogicalOp::Orr, rd, rn: Reg::XZR, rm, shift: Shift::Lsl, amount }
                if amount.get() == 0 && amount.width() == Width::W =>
            {
                let value = match self.general(rm) {
                    Value::Element(shape) if shapes.get(shape).is_some_and(|shape| !shape.is_signed) => {
                        Value::Element(shape)
                    }
                    value => value.low_half(),
                };
                Some((rd.or_sp()?, value))
            }
            DataReg::AddSub { op, flags: Flags::Kept, rd, rn, rm, shift: ArithShift::Lsl, amount }
                if amount.width() == Width::X =>
            {
                let shift = amount.get() as u8;
                let value = added(op, self.general(rn), self.general(rm), None, shift, shapes);
                let value = if value == Value::Unknown && shift == 0 {
                    added(op, self.general(rm), self.general(rn), None, 0, shapes)
                } else {
                    value
                };
                Some((rd.or_sp()?, value))
            }
            DataReg::AddSubExtended { op, width: Width::X, rd, rn, rm, extend, amount } => {
                let right = match (extend, self.general(rm)) {
                    (Extend::Uxtw, value @ (Value::Const(_) | Value::Opaque(..))) => value.low_half(),
                    (Extend::Uxtx | Extend::Sxtx, value) | (_, value @ Value::Element(_)) => value,
                    _ => Value::Unknown,
                };
                Some((rd, added(op, self.register(rn), right, Some(extend), amount.get() as u8, shapes)))
            }
            _ => None,
        }
    }

    /// The table that a load reads from, if it reads from one.
    fn element(&self, access: Access, rn: RegOrSp, rm: Reg, extend: IndexExtend, scale: IndexScale) -> Option<Shape> {
        let Value::Const(table) = self.register(rn) else { return None };
        let log2_bytes = access.log2_bytes() as u8;
        let counts_elements = log2_bytes == 0 || scale == IndexScale::Elements;
        if !access.is_load() || !counts_elements {
            return None;
        }
        let index = self.general(rm);
        let max = match extend {
            IndexExtend::Uxtw => self.max_of(index, true),
            IndexExtend::Lsl | IndexExtend::Sxtx => self.max_of(index, false),
            IndexExtend::Sxtw => self.max_of(index, true).filter(|(max, _)| *max <= i32::MAX as u64),
        };
        let is_signed = matches!(
            access,
            Access::LoadSignedByteX
                | Access::LoadSignedByteW
                | Access::LoadSignedHalfX
                | Access::LoadSignedHalfW
                | Access::LoadSignedWord
        );
        let max = max.filter(|(max, _)| *max < MAX_ELEMENTS);
        let (count, is_compared) = max.map_or((None, false), |(max, is_compared)| (Some(max as u32 + 1), is_compared));
        Some(Shape { table, log2_bytes, is_signed, count, is_compared, anchor: 0, shift: 0 })
    }

    /// Carries out the memory side of an access: stores go to the stack's slots, and what is loaded from them is returned.
    fn access(&mut self, insn: &Insn, effects: &Effects) -> [Option<(DataRegister, Value)>; 2] {
        let nothing = [None, None];
        let stores = match effects.memory {
            MemoryUse::None | MemoryUse::Maintenance => return nothing,
            MemoryUse::Load(_) => false,
            MemoryUse::Store(_) | MemoryUse::Update(_) => true,
        };
        let at = match effects.place {
            Place::Beside(base, bytes) => match self.register(base).plus(bytes) {
                Value::Frame(at) => Some(at),
                _ => None,
            },
            _ => None,
        };
        let Some(at) = at else {
            if stores {
                self.slots.forget_shared();
            }
            return nothing;
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

/// A value plus or minus another one that is shifted left.
fn added(op: AddSub, left: Value, right: Value, extend: Option<Extend>, shift: u8, shapes: &mut Shapes) -> Value {
    match (op, left, right) {
        (AddSub::Add, Value::Const(anchor), Value::Element(shape)) => {
            let Some(shape) = shapes.get(shape).filter(|shape| shape.anchor == 0) else { return Value::Unknown };
            let (is_signed, takes) = match extend {
                None | Some(Extend::Uxtx | Extend::Sxtx) => (shape.is_signed, None),
                Some(Extend::Uxtb) => (false, Some(0)),
                Some(Extend::Uxth) => (false, Some(1)),
                Some(Extend::Uxtw) => (shape.is_signed && shape.log2_bytes < 2, Some(2)),
                Some(Extend::Sxtb) => (true, Some(0)),
                Some(Extend::Sxth) => (true, Some(1)),
                Some(Extend::Sxtw) => (true, Some(2)),
            };
            // A word that is widened from more bits than the element has is as it was loaded.
            let (is_signed, is_whole) = match takes {
                Some(takes) if takes > shape.log2_bytes => (shape.is_signed, true),
                Some(takes) => (is_signed, takes == shape.log2_bytes),
                None => (is_signed, true),
            };
            if !is_whole || shape.log2_bytes == 3 {
                return Value::Unknown;
            }
            Value::Target(shapes.intern(Shape { anchor, shift, is_signed, ..shape }))
        }
        (op, left, Value::Const(bytes)) if shift < 64 => {
            let bytes = (bytes << shift) as i64;
            match (op, bytes.checked_neg()) {
                (AddSub::Add, _) => left.plus(bytes),
                (AddSub::Sub, Some(bytes)) => left.plus(bytes),
                (AddSub::Sub, None) => Value::Unknown,
            }
        }
        _ => Value::Unknown,
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
