//! What a comparison tells on each of the two paths behind it: how large an index can be, and that SP has become equal to a
//! register, at the end of a loop that probes a large frame page by page.

use fentry::insn::{AddSub, Cond, DataImm, DataReg, Extend, Flags, Insn, Reg, RegOrSp, Width};

use super::compared::{Bound, Compared, Side};
use super::{Machine, Origin, Value};

impl Compared {
    /// What an instruction compares, if it does.
    pub(super) fn by(insn: &Insn, machine: &Machine) -> Option<Self> {
        let general = |reg: Reg| Side { register: reg.or_sp(), value: machine.general(reg) };
        let or_sp = |reg: RegOrSp| Side { register: Some(reg), value: machine.register(reg) };
        Some(match *insn {
            Insn::DataImm(DataImm::AddSubFlags { op: AddSub::Sub, width, rn, imm, .. }) => {
                let right = Side { register: None, value: Value::Const(u64::from(imm.value())) };
                Self { left: or_sp(rn), right, width }
            }
            Insn::DataReg(DataReg::AddSub { op: AddSub::Sub, flags: Flags::Set, rn, rm, amount, .. })
                if amount.get() == 0 =>
            {
                Self { left: general(rn), right: general(rm), width: amount.width() }
            }
            Insn::DataReg(DataReg::AddSubExtendedFlags {
                op: AddSub::Sub,
                width: Width::X,
                rn,
                rm,
                extend: Extend::Uxtx | Extend::Sxtx,
                amount,
                ..
            }) if amount.get() == 0 => Self { left: or_sp(rn), right: general(rm), width: Width::X },
            _ => return None,
        })
    }
}

impl Machine {
    /// Takes in that the flags are so; returns whether they can be, by what is known by now.
    ///
    /// Of a loop that probes a frame, the end can't be reached before it is known that SP is not the same each time round.
    /// Without that, what comes behind it would be told of the first page first.
    pub fn refine(&mut self, cond: Cond) -> bool {
        let Some(compared) = self.compared else { return true };
        let Compared { left, right, width } = compared;
        match (cond, left.value, right.value) {
            (Cond::Eq, Value::Frame(one), Value::Frame(other)) if width == Width::X => return one == other,
            (Cond::Ne, Value::Frame(one), Value::Frame(other)) if width == Width::X => return one != other,
            (Cond::Eq, known @ Value::Frame(_), Value::Unknown | Value::Opaque(..)) if width == Width::X => {
                right.register.into_iter().for_each(|reg| self.set(reg, known));
            }
            (Cond::Eq, Value::Unknown | Value::Opaque(..), known @ Value::Frame(_)) if width == Width::X => {
                left.register.into_iter().for_each(|reg| self.set(reg, known));
            }
            (Cond::Ls | Cond::Eq, Value::Opaque(origin, _), Value::Const(max)) => self.bound(origin, max, width, true),
            (Cond::Lo, Value::Opaque(origin, _), Value::Const(end)) => {
                if let Some(max) = end.checked_sub(1) {
                    self.bound(origin, max, width, true);
                }
            }
            // The other way round: the number is higher than the index, or the same.
            (Cond::Hs, Value::Const(max), Value::Opaque(origin, _)) => self.bound(origin, max, width, true),
            (Cond::Hi, Value::Const(end), Value::Opaque(origin, _)) => {
                if let Some(max) = end.checked_sub(1) {
                    self.bound(origin, max, width, true);
                }
            }
            _ => {}
        }
        true
    }

    /// Takes in that a value is not larger than this.
    pub(super) fn bound(&mut self, origin: Origin, max: u64, width: Width, is_compared: bool) {
        let is_whole = width == Width::X;
        let new = Bound { origin, max, is_compared, is_whole };
        let is_same = |bound: &&mut Bound| bound.origin == origin && bound.is_whole == is_whole;
        if let Some(known) = self.bounds.iter_mut().find(is_same) {
            if max <= known.max {
                *known = new;
            }
        } else {
            self.bounds.push(new);
        }
    }

    /// The largest that a value can be, by its low half alone where `of_low_half` says so; and whether by a comparison.
    pub(super) fn max_of(&self, value: Value, of_low_half: bool) -> Option<(u64, bool)> {
        let Value::Opaque(origin, is_narrow) = value else { return None };
        let counts = |bound: &&Bound| {
            let is_enough = if bound.is_whole {
                // What is below 2^32 as a whole has itself as its low half.
                !of_low_half || bound.max <= u64::from(u32::MAX)
            } else {
                of_low_half || is_narrow
            };
            bound.origin == origin && is_enough
        };
        let found = self.bounds.iter().filter(counts).min_by_key(|bound| (bound.max, !bound.is_compared));
        found.map(|bound| (bound.max, bound.is_compared)).or_else(|| Some((origin.max()?, false)))
    }

    /// Keeps the bounds that hold on both paths; returns whether that is less.
    pub(super) fn join_bounds(&mut self, other: &Self) -> bool {
        let mut is_less = false;
        self.bounds.retain_mut(|bound| {
            let same = |other: &&Bound| other.origin == bound.origin && other.is_whole == bound.is_whole;
            let Some(other) = other.bounds.iter().find(same) else {
                is_less = true;
                return false;
            };
            let is_compared = bound.is_compared && other.is_compared;
            is_less |= other.max > bound.max || is_compared != bound.is_compared;
            bound.max = bound.max.max(other.max);
            bound.is_compared = is_compared;
            true
        });
        is_less
    }
}
