//! All that is known at one place of a function.

use fentry::insn::{Reg, RegOrSp};

use super::compared::{Bound, Compared};
use super::slots::Slots;
use super::{CallerReg, Origin, Part, Value};
use crate::program::{InsnId, Program};

/// What registers and stack hold before an instruction.
#[derive(Clone, Debug)]
pub struct Machine {
    /// X0 to X30, then SP.
    pub(super) registers: [Value; 32],
    /// A bit for each of d8 to d15 that has the caller's value.
    pub(super) vectors: u8,
    pub(super) slots: Slots,
    /// What was pushed onto the shadow call stack, and where: a function pushes its return address, once.
    pub(super) pushed: Option<(i64, Value)>,
    /// What the flags tell.
    pub(super) compared: Option<Compared>,
    pub(super) bounds: Vec<Bound>,
    /// Changes whenever something does that [`State`](crate::cfi::State) tells of, and perhaps more often.
    pub(super) version: u32,
    /// Whether values of which nothing is known are told apart: only for jump tables, since it costs time.
    pub(super) tells_apart: bool,
}

impl Machine {
    /// A function's entry, as the AAPCS64 has it: SP is the canonical frame address, every register the caller's.
    ///
    /// With `tells_apart` it can follow an index to a table of jumps.
    pub fn at_entry(entry: InsnId, tells_apart: bool) -> Self {
        let mut registers = [Value::Unknown; 32];
        for (number, value) in registers.iter_mut().enumerate() {
            let reg = Reg::x(number as u8);
            *value = match reg.and_then(CallerReg::general) {
                Some(reg) => Value::Caller(reg, None),
                None if tells_apart => {
                    Value::Opaque(Origin { at: entry, register: number as u8, is_met: true, part: Part::Whole }, false)
                }
                None => Value::Unknown,
            };
        }
        registers[31] = Value::Frame(0);
        registers[18] = Value::ShadowTop(0);
        let (compared, bounds, version) = (None, Vec::new(), 0);
        Self {
            version,
            registers,
            vectors: u8::MAX,
            slots: Slots::default(),
            pushed: None,
            compared,
            bounds,
            tells_apart,
        }
    }

    /// A number that is the same as long as nothing changes, from one instruction to the next, that a
    /// [`State`](crate::cfi::State) tells of.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// What a general register or SP holds.
    pub fn register(&self, reg: RegOrSp) -> Value {
        self.registers[usize::from(reg.number() & 31)]
    }

    /// What a general register holds; the zero register, zero.
    pub(super) fn general(&self, reg: Reg) -> Value {
        reg.or_sp().map_or(Value::Const(0), |reg| self.register(reg))
    }

    /// How far SP is below the canonical frame address, where that is known.
    pub fn sp(&self) -> Option<i64> {
        match self.register(RegOrSp::SP) {
            Value::Frame(at) => at.checked_neg(),
            _ => None,
        }
    }

    /// Whether one of d8 to d15 has the caller's value.
    pub fn keeps_vector(&self, reg: CallerReg) -> bool {
        reg.vector_index().is_some_and(|index| self.vectors >> index & 1 == 1)
    }

    /// How far the top of the shadow call stack is above where it was at the entry, in bytes, if the function has pushed its
    /// return address there.
    pub fn shadow_depth(&self) -> Option<i64> {
        match (self.pushed, self.registers[18]) {
            (Some(_), Value::ShadowTop(at)) => Some(at),
            _ => None,
        }
    }

    /// The places of the stack of which something is known, from the canonical frame address, upwards.
    pub fn stack(&self) -> impl DoubleEndedIterator<Item = (i64, Value)> + '_ {
        self.slots.iter()
    }

    /// Gives a register a value.
    pub(super) fn set(&mut self, reg: RegOrSp, value: Value) {
        let is_told = |value| matches!(value, Value::Caller(..) | Value::Frame(_) | Value::ShadowTop(_));
        let place = &mut self.registers[usize::from(reg.number() & 31)];
        if (is_told(value) || is_told(*place)) && value != *place {
            self.version = self.version.wrapping_add(1);
        }
        *place = value;
        if self.compared.is_some_and(|compared| compared.is_of(reg)) {
            self.compared = None;
        }
        if let (RegOrSp::SP, Value::Frame(sp)) = (reg, value) {
            self.slots.forget_below(sp);
        }
    }

    /// Gives a register a value of which nothing is known but that this instruction wrote it.
    pub(super) fn define(&mut self, at: InsnId, reg: RegOrSp, is_narrow: bool) {
        if !self.tells_apart || reg.is_sp() {
            return self.set(reg, Value::Unknown);
        }
        let origin = Origin { at, register: reg.number(), is_met: false, part: Part::Whole };
        self.forget_origin(origin);
        self.set(reg, Value::Opaque(origin, is_narrow));
    }

    /// What has this origin from the last time round a loop is not what has it now.
    fn forget_origin(&mut self, origin: Origin) {
        let is_stale = |value: Value| value.origin().is_some_and(|other| other.is_of_same(origin));
        for value in &mut self.registers {
            if is_stale(*value) {
                *value = Value::Unknown;
            }
        }
        self.slots.forget_where(is_stale);
        self.bounds.retain(|bound| !bound.origin.is_of_same(origin));
        self.compared = self.compared.filter(|compared| !compared.has(origin));
    }

    /// Carries what is known over a call that comes back.
    pub fn after_call(&mut self, call: InsnId, program: &Program<'_>) {
        let platform = self.pushed.is_none().then_some(18);
        for number in (0..18).chain(platform).chain([30]) {
            if let Some(reg) = RegOrSp::x(number) {
                self.define(call, reg, false);
            }
        }
        self.slots.forget_shared(program.image());
        self.compared = None;
    }
}
