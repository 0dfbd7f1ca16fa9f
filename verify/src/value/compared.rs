//! What the flags tell of a comparison, and what comparisons have told of how large a value can be.

use fentry::insn::{RegOrSp, RegSet, Width};

use super::{Origin, Value};

/// What the flags tell: the outcome of subtracting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) left: Side,
    pub(super) right: Side,
    pub(super) width: Width,
}

/// One side of a comparison, as it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) register: Option<RegOrSp>,
    pub(super) value: Value,
}

/// The largest value that something can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) origin: Origin,
    pub(super) max: u64,
    /// By a comparison, and not by a width.
    pub(super) is_compared: bool,
    /// Of all 64 bits, or of the low half alone.
    pub(super) is_whole: bool,
}

impl Compared {
    /// The same after these registers have got other values.
    pub(super) fn after_writes(mut self, writes: RegSet) -> Self {
        for side in [&mut self.left, &mut self.right] {
            side.register = side.register.filter(|reg| writes.bits() >> reg.number() & 1 == 0);
        }
        self
    }

    /// Whether a register is on one of its sides.
    pub(super) fn is_of(&self, reg: RegOrSp) -> bool {
        [self.left.register, self.right.register].contains(&Some(reg))
    }

    /// Whether a value of this origin is on one of its sides.
    pub(super) fn has(&self, origin: Origin) -> bool {
        let sides = [self.left.value.origin(), self.right.value.origin()];
        sides.into_iter().flatten().any(|side| side.is_of_same(origin))
    }
}
