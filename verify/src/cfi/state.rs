//! The state before one instruction, and how two of them differ.

use std::fmt;

use fentry::insn::{Key, Reg, RegOrSp, Width};

use crate::value::{CallerReg, Machine, Value};

/// Where the caller's registers are before an instruction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    sp: Option<i64>,
    fp: Fp,
    /// A register by which the CFA is known, where SP and FP say nothing.
    other: Option<(Reg, i64)>,
    saved: [Saved; CallerReg::COUNT],
    /// The keys that the return address in LR is signed with, and the one on the stack.
    lr_key: Option<Key>,
    saved_lr_key: Option<Key>,
    shadow_depth: Option<i64>,
}

/// What x29 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fp {
    /// What the caller had in it.
    Callers,
    /// An address of the own frame: the CFA is so many bytes above.
    Frame(i64),
    /// Zero: the chain of frame records ends here (AAPCS64 6.4.6).
    End,
    /// Something else.
    Other,
}

/// How the canonical frame address follows from registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cfa {
    /// SP and so many bytes.
    Sp(i64),
    /// FP and so many bytes.
    Fp(i64),
    /// Another register and so many bytes: in loops that probe a large frame.
    Other(Reg, i64),
    /// Nothing tells.
    Unknown,
}

/// Where the caller's value of one register is. It may be at several places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Saved {
    /// Whether it is in its own register.
    pub is_kept: bool,
    /// Another register that has it.
    pub copy: Option<Reg>,
    /// A place on the stack that has it, in bytes from the CFA, so below zero; the highest where there are several, but for
    /// the return address's in a frame record.
    pub slot: Option<i64>,
}

impl Saved {
    /// Whether it is anywhere.
    pub const fn is_known(&self) -> bool {
        self.is_kept || self.copy.is_some() || self.slot.is_some()
    }
}

impl State {
    /// What an unwinder needs of all that is known.
    pub(super) fn of(known: &Machine) -> Self {
        let sp = known.sp();
        let fp = match known.register(RegOrSp::FP) {
            Value::Caller(CallerReg::FP, _) => Fp::Callers,
            Value::Frame(at) => at.checked_neg().map_or(Fp::Other, Fp::Frame),
            Value::Const(0) => Fp::End,
            _ => Fp::Other,
        };
        let mut saved = [Saved::default(); CallerReg::COUNT];
        let (mut lr_key, mut saved_lr_key, mut other, mut is_in_record) = (None, None, None, false);
        for number in 0..31 {
            let Some(reg) = Reg::x(number) else { continue };
            match reg.or_sp().map(|reg| known.register(reg)) {
                Some(Value::Caller(kept, key)) => {
                    let saved = &mut saved[kept.index()];
                    if kept.as_general() == Some(reg) {
                        saved.is_kept = true;
                        lr_key = if kept == CallerReg::LR { key } else { lr_key };
                    } else {
                        saved.copy.get_or_insert(reg);
                    }
                }
                Some(Value::Frame(at)) if sp.is_none() && !matches!(fp, Fp::Frame(_)) => {
                    other = other.or(at.checked_neg().map(|bytes| (reg, bytes)));
                }
                _ => {}
            }
        }
        for reg in CallerReg::all().filter(|reg| known.keeps_vector(*reg)) {
            saved[reg.index()].is_kept = true;
        }
        let mut below = None;
        for (at, value) in known.stack() {
            if let Value::Caller(reg, key) = value {
                let slot = &mut saved[reg.index()].slot;
                // Where the return address is stored twice, one is an argument, and the other in the frame record.
                let is_record = below == at.checked_sub(8).map(|at| (at, Value::Caller(CallerReg::FP, None)));
                let is_better = reg != CallerReg::LR || is_record || !is_in_record;
                if is_better {
                    *slot = Some(at);
                    is_in_record |= is_record && reg == CallerReg::LR;
                    saved_lr_key = if reg == CallerReg::LR { key } else { saved_lr_key };
                }
            }
            below = Some((at, value));
        }
        Self { sp, fp, other, saved, lr_key, saved_lr_key, shadow_depth: known.shadow_depth() }
    }

    /// How the canonical frame address follows: from SP where that is known, else from FP.
    pub fn cfa(&self) -> Cfa {
        match (self.sp, self.fp, self.other) {
            (Some(bytes), ..) => Cfa::Sp(bytes),
            (None, Fp::Frame(bytes), _) => Cfa::Fp(bytes),
            (None, _, Some((reg, bytes))) => Cfa::Other(reg, bytes),
            (None, _, None) => Cfa::Unknown,
        }
    }

    /// How many bytes SP is below the CFA, where that is known.
    pub fn sp(&self) -> Option<i64> {
        self.sp
    }

    /// What x29 holds.
    pub fn fp(&self) -> Fp {
        self.fp
    }

    /// Where the caller's value of a register is; of LR, the return address.
    pub fn saved(&self, reg: CallerReg) -> Saved {
        self.saved[reg.index()]
    }

    /// The key that the return address in LR is signed with.
    pub fn lr_key(&self) -> Option<Key> {
        self.lr_key
    }

    /// The key that the return address on the stack is signed with.
    pub fn saved_lr_key(&self) -> Option<Key> {
        self.saved_lr_key
    }

    /// How far the top of the shadow call stack is above where it was at the entry, in bytes, if the function has pushed its
    /// return address there and this is known.
    pub fn shadow_depth(&self) -> Option<i64> {
        self.shadow_depth
    }

    /// Whether x29 points at a frame record: the caller's x29, and the return address behind it (AAPCS64 6.4.6).
    pub fn has_record(&self) -> bool {
        let Fp::Frame(bytes) = self.fp else { return false };
        let at = bytes.checked_neg();
        self.saved(CallerReg::FP).slot == at && self.saved(CallerReg::LR).slot == at.and_then(|at| at.checked_add(8))
    }

    /// Whether SP, x29 and every register that a function keeps for its caller are as at its entry, the return address in LR,
    /// unsigned.
    pub fn is_as_at_entry(&self) -> bool {
        self.sp == Some(0)
            && self.fp == Fp::Callers
            && self.lr_key.is_none()
            && self.saved.iter().all(|saved| saved.is_kept)
    }

    /// What the two say differently.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        self.compare(other, |one, other| one == other, |one, other| one == other, |one, other| one == other)
    }

    /// What this says and the other does not: an address that only this one knows, a register that is nowhere any more where
    /// this one has it.
    pub(super) fn lost_in(&self, joined: &Self) -> Vec<Difference> {
        // A frame of which x29 tells may have any size: alloca.
        let is_told_by_fp = matches!(self.fp, Fp::Frame(_)) && self.fp == joined.fp;
        let mut lost = self.compare(
            joined,
            |one, other| one.is_none() || one == other || is_told_by_fp,
            |one, other| matches!(one, Fp::End | Fp::Other) || one == other,
            // Where paths have met it is only where it was on all of them.
            |one, other| !one.is_known() || other.is_known(),
        );
        // A call has changed LR on one path: the return address is still where both have it, signed as before.
        let is_alike = |keys: (Option<Key>, Option<Key>), other: (Option<Key>, Option<Key>)| {
            keys.0.or(keys.1) == other.0.or(other.1)
        };
        lost.retain(|lost| !matches!(lost, Difference::Signature { here, there } if is_alike(*here, *there)));
        lost
    }

    fn compare(
        &self,
        other: &Self,
        same_sp: impl Fn(Option<i64>, Option<i64>) -> bool,
        same_fp: impl Fn(Fp, Fp) -> bool,
        same_saved: impl Fn(Saved, Saved) -> bool,
    ) -> Vec<Difference> {
        let mut differences = Vec::new();
        if !same_sp(self.sp, other.sp) {
            differences.push(Difference::Sp { here: self.sp, there: other.sp });
        }
        if !same_fp(self.fp, other.fp) {
            differences.push(Difference::Fp { here: self.fp, there: other.fp });
        }
        for reg in CallerReg::all() {
            let (here, there) = (self.saved(reg), other.saved(reg));
            // x29 itself is told of above.
            if !same_saved(here, there) {
                differences.push(Difference::Saved { reg, here, there });
            }
        }
        // What a place is signed with counts where both have the return address there.
        let (here, there) = (self.saved(CallerReg::LR), other.saved(CallerReg::LR));
        let in_lr = here.is_kept && there.is_kept && self.lr_key != other.lr_key;
        let on_stack = here.slot.is_some() && here.slot == there.slot && self.saved_lr_key != other.saved_lr_key;
        if in_lr || on_stack {
            let (here, there) = ((self.lr_key, self.saved_lr_key), (other.lr_key, other.saved_lr_key));
            differences.push(Difference::Signature { here, there });
        }
        differences
    }
}

/// What two states say differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants say what differs, the fields where")]
pub enum Difference {
    /// How far SP is below the CFA.
    Sp { here: Option<i64>, there: Option<i64> },
    /// What x29 holds.
    Fp { here: Fp, there: Fp },
    /// Where a caller's register is.
    Saved { reg: CallerReg, here: Saved, there: Saved },
    /// What the return address in LR, and that on the stack, are signed with.
    Signature { here: (Option<Key>, Option<Key>), there: (Option<Key>, Option<Key>) },
}

impl fmt::Display for Cfa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Sp(bytes) => write!(f, "CFA = sp + {bytes}"),
            Self::Fp(bytes) => write!(f, "CFA = x29 + {bytes}"),
            Self::Other(reg, bytes) => write!(f, "CFA = {} + {bytes}", reg.name(Width::X)),
            Self::Unknown => f.write_str("CFA unknown"),
        }
    }
}

impl fmt::Display for Fp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Callers => f.write_str("the caller's"),
            Self::Frame(bytes) => write!(f, "CFA - {bytes}"),
            Self::End => f.write_str("zero"),
            Self::Other => f.write_str("something else"),
        }
    }
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_kept, self.slot, self.copy) {
            (true, ..) => f.write_str("in its register"),
            (false, Some(at), _) => write!(f, "at CFA - {}", at.unsigned_abs()),
            (false, None, Some(reg)) => write!(f, "in {}", reg.name(Width::X)),
            (false, None, None) => f.write_str("lost"),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, x29 is {}", self.cfa(), self.fp)?;
        for reg in CallerReg::all().filter(|reg| !self.saved(*reg).is_kept) {
            write!(f, ", {reg} {}", self.saved(reg))?;
        }
        if let Some(key) = self.lr_key.or(self.saved_lr_key) {
            write!(f, ", x30 signed with key {key:?}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = |bytes: Option<i64>| bytes.map_or("unknown".to_owned(), |bytes| format!("CFA - {bytes}"));
        let signed = |keys: (Option<Key>, Option<Key>)| match keys.0.or(keys.1) {
            Some(key) => format!("signed with key {key:?}"),
            None => "not signed".to_owned(),
        };
        match self {
            Self::Sp { here, there } => write!(f, "sp is {} here, {} there", below(*here), below(*there)),
            Self::Fp { here, there } => write!(f, "x29 is {here} here, {there} there"),
            Self::Saved { reg, here, there } => {
                write!(f, "the caller's {reg} is {here} here, {there} there")
            }
            Self::Signature { here, there } => {
                write!(f, "the return address is {} here, {} there", signed(*here), signed(*there))
            }
        }
    }
}
