//! What two paths agree in.

use super::{Machine, Origin, Part, Value};
use crate::program::InsnId;

impl Machine {
    /// Keeps what both agree in, where paths meet before `at`; returns whether that is less than this knew.
    pub fn join(&mut self, other: &Self, at: InsnId) -> bool {
        let mut is_less = false;
        for (number, (value, other)) in self.registers.iter_mut().zip(&other.registers).enumerate() {
            let origin = Origin { at, register: number as u8, is_met: true, part: Part::Whole };
            let met = meet(*value, *other, self.tells_apart.then_some(origin).filter(|_| number != 31));
            is_less |= met != *value;
            *value = met;
        }
        let vectors = self.vectors & other.vectors;
        is_less |= vectors != self.vectors;
        self.vectors = vectors;
        is_less |= self.slots.join(&other.slots);
        if self.pushed != other.pushed && self.pushed.is_some() {
            self.pushed = None;
            is_less = true;
        }
        is_less |= self.join_bounds(other);
        if self.compared != other.compared && self.compared.is_some() {
            self.compared = None;
            is_less = true;
        }
        is_less
    }
}

fn meet(one: Value, other: Value, met: Option<Origin>) -> Value {
    match (one, other) {
        _ if one == other => one,
        // What has met here before.
        (Value::Opaque(origin, is_narrow), _) if Some(origin) == met => match other {
            Value::Opaque(_, other_is_narrow) => Value::Opaque(origin, is_narrow && other_is_narrow),
            _ => Value::Opaque(origin, false),
        },
        (Value::Unknown, _) => Value::Unknown,
        _ => {
            let is_narrow = |value| matches!(value, Value::Opaque(_, true));
            met.map_or(Value::Unknown, |origin| Value::Opaque(origin, is_narrow(one) && is_narrow(other)))
        }
    }
}
