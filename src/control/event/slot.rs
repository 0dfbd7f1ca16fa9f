//! The memory of one event.

use super::definition::Definition;
use super::fetch::{Fetch, Point};
use super::filter::Filter;
use super::limits::{MAX_FIELDS, MAX_TRIGGERS, TEXT_BYTES};
use super::published::Published;
use super::trigger::{Act, Trigger};
use super::values::Layout;
use crate::control::left::Left;
use crate::kprobe::{Handler, Kprobe};
use crate::ops::Ops;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is done where an event happens.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) id: u16,
    pub(super) ip: u64,
    pub(super) point: Point,
    fetches: ArrayVec<Fetch, MAX_FIELDS>,
    pub(super) filter: Filter,
    triggers: [Option<Trigger>; MAX_TRIGGERS],
    has_triggers: bool,
}

impl Program {
    const NONE: Self = Self {
        id: 0,
        ip: 0,
        point: Point::Entry,
        fetches: ArrayVec::new_const(),
        filter: Filter::ALL,
        triggers: [const { None }; MAX_TRIGGERS],
        has_triggers: false,
    };

    pub(super) fn new(definition: &Definition, id: u16) -> Self {
        let Definition { at, point, ref fetches, .. } = *definition;
        Self { id, ip: at.get(), point, fetches: fetches.clone(), ..Self::NONE }
    }

    /// Has the trigger of this number be this one.
    pub(super) fn set_trigger(&mut self, number: usize, trigger: Option<Trigger>) {
        self.triggers.iter_mut().skip(number).take(1).for_each(|place| place.clone_from(&trigger));
        self.has_triggers = self.triggers.iter().any(Option::is_some);
    }

    /// Its triggers, for [`set_triggers`](Self::set_triggers).
    pub(super) fn all_triggers(&self) -> [Option<Trigger>; MAX_TRIGGERS] {
        self.triggers.clone()
    }

    pub(super) fn set_triggers(&mut self, triggers: [Option<Trigger>; MAX_TRIGGERS]) {
        self.triggers = triggers;
        self.has_triggers = self.triggers.iter().any(Option::is_some);
    }

    /// Its triggers, with their numbers.
    #[inline]
    pub(super) fn triggers(&self) -> impl Iterator<Item = (usize, &Trigger)> {
        let triggers = if self.has_triggers { self.triggers.as_slice() } else { &[] };
        triggers.iter().enumerate().filter_map(|(number, trigger)| Some((number, trigger.as_ref()?)))
    }

    #[inline]
    pub(super) const fn has_triggers(&self) -> bool {
        self.has_triggers
    }

    pub(super) fn layout(&self) -> Layout<'_> {
        Layout { fields: &self.fetches, is_return: self.point == Point::Return }
    }
}

/// What lines know of an event that is defined.
#[derive(Clone, Debug)]
pub(in crate::control) struct Known {
    pub(in crate::control) definition: Definition,
    pub(in crate::control) id: u16,
    /// Whether it was asked for that it is recorded.
    pub(in crate::control) is_enabled: bool,
    /// Whether its probe calls.
    pub(super) is_hooked: bool,
    /// How many triggers it has, and how many of others, and commands at functions, name it.
    pub(super) triggers: usize,
    pub(super) named: usize,
    pub(in crate::control) filter: ArrayString<TEXT_BYTES>,
    /// What was counted before it was defined.
    hits_before: u64,
    misses_before: u64,
}

/// The memory of one event: what it can need, and what it is now.
///
/// # Invariants
///
/// Where nothing is [`known`](Self::known), no probe is registered, no CPU is in a handler of one, and none of another slot's looks
/// at the program: a trigger that does names the event, and counts as long as anybody may pull it.
pub(super) struct Slot {
    /// With the registers that are saved at every entry, and with all.
    few: Kprobe,
    all: Kprobe,
    pub(super) returns: Ops,
    pub(super) program: Published<Program>,
    /// Whether it is recorded.
    pub(super) records: AtomicBool,
    pub(super) hits: AtomicU64,
    pub(super) known: spin::Mutex<Option<Known>>,
    /// How often each trigger may still act.
    pub(super) left: [Left; MAX_TRIGGERS],
    pub(super) triggers: spin::Mutex<[Option<KnownTrigger>; MAX_TRIGGERS]>,
}

/// What lines know of a trigger.
#[derive(Clone, Debug)]
pub(in crate::control) struct KnownTrigger {
    pub(in crate::control) act: Act,
    pub(in crate::control) filter: ArrayString<TEXT_BYTES>,
}

impl Known {
    /// Whether its probe is to call, and it can't be removed.
    pub(in crate::control) const fn is_in_use(&self) -> bool {
        self.is_enabled || self.triggers > 0 || self.named > 0
    }

    /// Whether a trigger, or a command at a function, names it.
    pub(in crate::control) const fn is_named(&self) -> bool {
        self.named > 0
    }
}

impl Slot {
    /// Makes one whose probes call `fire`, and whose `returns` hooks returns.
    pub(super) const fn new(fire: Handler, returns: Ops) -> Self {
        Self {
            few: Kprobe::new(fire),
            all: Kprobe::new(fire).with_all_registers(),
            returns,
            program: Published::new(Program::NONE, Program::NONE),
            records: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            known: spin::Mutex::new(None),
            left: [const { Left::none() }; MAX_TRIGGERS],
            triggers: spin::Mutex::new([const { None }; MAX_TRIGGERS]),
        }
    }

    /// The probe of an event that is at an instruction.
    pub(super) fn probe(&self, definition: &Definition) -> &Kprobe {
        if definition.takes_all_registers() { &self.all } else { &self.few }
    }

    pub(super) fn know(&self, definition: Definition, id: u16) -> Known {
        let (hits_before, misses_before) = self.counts(&definition);
        let filter = ArrayString::new();
        let (is_enabled, is_hooked, triggers, named) = (false, false, 0, 0);
        Known { definition, id, is_enabled, is_hooked, triggers, named, filter, hits_before, misses_before }
    }

    /// How often its place was come to, and how often that was missed.
    fn counts(&self, definition: &Definition) -> (u64, u64) {
        let missed = match definition.point {
            Point::Return => self.returns.misses(),
            Point::Entry | Point::Inside => self.probe(definition).missed(),
        };
        (self.hits.load(Ordering::Relaxed), missed)
    }

    /// The same since it was defined.
    pub(super) fn counts_since(&self, known: &Known) -> (u64, u64) {
        let (hits, misses) = self.counts(&known.definition);
        (hits.wrapping_sub(known.hits_before), misses.wrapping_sub(known.misses_before))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("probes", &[&self.few, &self.all]).finish_non_exhaustive()
    }
}
