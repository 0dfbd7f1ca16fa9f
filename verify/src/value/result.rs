//! What a register becomes that gets its value from registers and numbers alone: sums, constants, addresses, and the steps on the
//! way to a table of jumps.

use fentry::insn::{
    Access, AddSub, Address, ArithShift, BitfieldMove, DataImm, DataReg, Effects, Extend, Flags, IndexExtend,
    IndexScale, Insn, Logical, LogicalOp, Memory, MoveWide, Place, Reg, RegOrSp, Shift, Width,
};
use object::elf;

use super::step::Context;
use super::table::MAX_ELEMENTS;
use super::{Machine, Part, Shape, Shapes, Value};
use crate::program::InsnId;

impl Machine {
    /// What a register becomes that gets its value from registers and numbers alone.
    pub(super) fn result(
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
            DataReg::Logical { op: LogicalOp::Orr, rd, rn: Reg::XZR, rm: Reg::XZR, .. } => {
                Some((rd.or_sp()?, Value::Const(0)))
            }
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
