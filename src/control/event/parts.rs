//! All events of a kernel, whatever its type: lines define them, remove them, enable them, and give them filters.

use super::definition::{Definition, Kind, Kinds, Surroundings};
use super::fetch::{Point, Type};
use super::filter::{Field, Filter};
use super::hist::Histogram;
use super::limits::TEXT_BYTES;
use super::reason::EventReason;
use super::slot::{Known, Program, Slot};
use super::values::Hooks;
use crate::address::TextAddr;
use crate::engine::{Engine, RegisterError};
use crate::filter as functions;
use crate::kprobe::{Kprobe, KprobeError, Kprobes, ServedBy};
use crate::tracer::ring::Ring;
use arrayvec::ArrayString;
use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};

/// What all events have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) probes: &'static dyn Probes,
    /// Whether there are events at other instructions than functions' entries.
    pub(super) is_anywhere: bool,
    pub(super) hooks: Hooks,
    /// The running CPU's second ring, if there is one.
    pub(super) spare_ring: fn() -> Option<&'static Ring>,
    pub(super) histograms: &'static [Histogram],
    /// Held while lines change something.
    pub(super) changes: spin::Mutex<()>,
    pub(super) last_id: AtomicU16,
}

/// A kernel's [`Events`](super::store::Events) without their type, for [`Control::with_events`](super::super::Control::with_events).
#[derive(Clone, Copy, Debug)]
pub struct EventsParts {
    pub(super) shared: &'static Shared,
    pub(super) slots: &'static [Slot],
}

/// [`Kprobes`] for any number of instructions.
pub(super) trait Probes: Sync + fmt::Debug {
    fn engine(&self) -> &'static Engine;
    /// # Safety
    ///
    /// As for [`Kprobes::register`].
    unsafe fn register(&'static self, probe: &'static Kprobe, at: TextAddr) -> Result<ServedBy, KprobeError>;
    fn register_entry(&'static self, probe: &'static Kprobe, function: TextAddr) -> Result<ServedBy, KprobeError>;
    fn unregister(&'static self, probe: &'static Kprobe) -> Result<(), KprobeError>;
    fn switch(&'static self, probe: &'static Kprobe, is_enabled: bool) -> Result<(), KprobeError>;
}

impl<const POINTS: usize> Probes for Kprobes<POINTS> {
    fn engine(&self) -> &'static Engine {
        self.engine
    }

    unsafe fn register(&'static self, probe: &'static Kprobe, at: TextAddr) -> Result<ServedBy, KprobeError> {
        // SAFETY: 1. and 2. our caller's promises.
        unsafe { self.register(probe, at) }
    }

    fn register_entry(&'static self, probe: &'static Kprobe, function: TextAddr) -> Result<ServedBy, KprobeError> {
        self.register_entry(probe, function)
    }

    fn unregister(&'static self, probe: &'static Kprobe) -> Result<(), KprobeError> {
        self.unregister(probe)
    }

    fn switch(&'static self, probe: &'static Kprobe, is_enabled: bool) -> Result<(), KprobeError> {
        if is_enabled { self.enable(probe) } else { self.disable(probe) }
    }
}

/// Whether an event is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Recorded {
    /// Whether it was asked for.
    pub(in crate::control) is_enabled: bool,
    /// Whether it is so now: a trigger may have switched it.
    pub(in crate::control) is_on: bool,
}

/// Held while a line changes events.
pub(super) type Change = spin::MutexGuard<'static, ()>;

impl EventsParts {
    pub(super) const fn has_memory(&self) -> bool {
        self.shared.hooks.memory.is_some()
    }

    const fn has_task_names(&self) -> bool {
        self.shared.hooks.name_task.is_some()
    }

    /// What a name means in an event.
    pub(in crate::control) fn field(&self, event: &Known, name: &str) -> Result<(Field, Type), EventReason> {
        event.definition.named(name, self.has_task_names())
    }

    /// What definitions are looked up in.
    pub(in crate::control) fn surroundings(&self) -> Surroundings {
        Surroundings { engine: self.engine(), has_memory: self.has_memory(), has_task_names: self.has_task_names() }
    }

    pub(super) fn change(&self) -> Change {
        self.locked(&self.shared.changes)
    }

    pub(super) fn locked<T>(&self, mutex: &'static spin::Mutex<T>) -> spin::MutexGuard<'static, T> {
        loop {
            if let Some(guard) = mutex.try_lock() {
                return guard;
            }
            self.engine().relax();
        }
    }

    fn engine(&self) -> &'static Engine {
        self.shared.probes.engine()
    }

    /// The event in a slot.
    pub(in crate::control) fn known(&self, number: usize) -> Option<Known> {
        self.locked(&self.slots.get(number)?.known).clone()
    }

    /// All events, with the numbers of their slots, in the order of their definition.
    pub(in crate::control) fn all(&self) -> impl Iterator<Item = (usize, Known)> + use<> {
        let (parts, mut last) = (*self, None);
        core::iter::from_fn(move || {
            let behind = parts.ids().filter(|(_, id)| last.is_none_or(|last| *id > last));
            let (number, id) = behind.min_by_key(|(_, id)| *id)?;
            last = Some(id);
            Some((number, parts.known(number)?))
        })
    }

    /// The same of these kinds.
    pub(in crate::control) fn all_of(&self, kinds: Kinds) -> impl Iterator<Item = (usize, Known)> + use<> {
        self.all().filter(move |(_, known)| kinds.have(&known.definition))
    }

    /// The numbers of the slots that have an event, and of those events.
    fn ids(&self) -> impl Iterator<Item = (usize, u16)> {
        let ids = self.slots.iter().map(|slot| self.locked(&slot.known).as_ref().map(|known| known.id));
        ids.enumerate().filter_map(|(number, id)| Some((number, id?)))
    }

    /// The event of this name, in this group or in any.
    pub(in crate::control) fn named(&self, group: Option<&str>, name: &str) -> Option<(usize, Known)> {
        self.all().find(|(_, known)| known.definition.is_named(group, name))
    }

    /// The event that records of this number are of.
    pub(in crate::control) fn of_id(&self, id: u16) -> Option<Known> {
        let (number, _) = self.ids().find(|(_, known)| *known == id)?;
        self.known(number)
    }

    /// Whether no other event of its group was defined before.
    pub(in crate::control) fn is_first_of_group(&self, known: &Known) -> bool {
        let is_before = |other: &Known| other.id < known.id && other.definition.group == known.definition.group;
        !self.slots.iter().any(|slot| self.locked(&slot.known).as_ref().is_some_and(is_before))
    }

    /// How often an event's place was come to, and how often that was missed.
    pub(in crate::control) fn counts(&self, number: usize, known: &Known) -> (u64, u64) {
        self.slots.get(number).map_or((0, 0), |slot| slot.counts_since(known))
    }

    /// A number that no event has.
    fn new_id(&self) -> u16 {
        loop {
            let id = self.shared.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if self.ids().all(|(_, known)| known != id) {
                return id;
            }
        }
    }

    /// Defines an event, which is neither enabled nor has a filter.
    pub(in crate::control) fn define(&self, definition: Definition) -> Result<(), EventReason> {
        let _change = self.change();
        let slot = self.free().ok_or(EventReason::TooManyEvents { events: self.slots.len() })?;
        self.put_probe(slot, &definition)?;
        self.publish(slot, definition);
        Ok(())
    }

    /// Defines an event, or none, that takes the place of all others of these kinds, of which none is in use: they are there as
    /// long as it is not. Where there is no memory for one more, it gets that of one of them.
    pub(in crate::control) fn define_instead(
        &self,
        kinds: Kinds,
        definition: Option<Definition>,
    ) -> Result<(), EventReason> {
        let _change = self.change();
        if self.all_of(kinds).any(|(_, known)| known.is_in_use()) {
            return Err(EventReason::EventInUse);
        }
        let Some(definition) = definition else {
            self.take_probes(kinds)?;
            self.forget_all(kinds);
            return Ok(());
        };
        let (group, name) = (&definition.group, &definition.name);
        let stays = |known: &Known| !kinds.have(&known.definition) && known.definition.is_named(Some(group), name);
        if self.all().any(|(_, known)| stays(&known)) {
            return Err(EventReason::EventExists);
        }
        // All that can fail, and what is to be tried first: what is wrong with it is so more often than with those that are there.
        let put = |slot| self.put_probe(slot, &definition);
        let slot = match self.free() {
            Some(slot) => {
                put(slot)?;
                self.take_probes(kinds).inspect_err(|_| self.give_up(slot, &definition))?;
                slot
            }
            None => {
                let first = self.all_of(kinds).next().and_then(|(number, _)| self.slots.get(number));
                let slot = first.ok_or(EventReason::TooManyEvents { events: self.slots.len() })?;
                self.take_probes(kinds)?;
                put(slot).inspect_err(|_| self.put_probes(kinds, usize::MAX))?;
                slot
            }
        };
        self.forget_all(kinds);
        self.publish(slot, definition);
        Ok(())
    }

    /// A slot that has no event.
    fn free(&self) -> Option<&'static Slot> {
        self.slots.iter().find(|slot| self.locked(&slot.known).is_none())
    }

    /// Makes this the event of a slot whose probe is registered for it, and does not call yet.
    fn publish(&self, slot: &'static Slot, definition: Definition) {
        let id = self.new_id();
        // What a trigger of another one may have switched it to, when it was another event.
        slot.records.store(false, Ordering::Relaxed);
        // SAFETY: 1. The changes are locked. 2. Nobody looks at it in a slot that has no event, by the invariant.
        unsafe { slot.program.replace(Program::new(&definition, id)) };
        *self.locked(&slot.known) = Some(slot.know(definition, id));
    }

    /// Registers an event's probe, which does not call yet, in the place of what an attempt to remove it may have left.
    fn put_probe(&self, slot: &'static Slot, definition: &Definition) -> Result<(), EventReason> {
        let is_entry = self.engine().has_match(&functions::Rule::address(definition.at));
        let is_whole = definition.point == Point::Return || definition.kind == Kind::Fprobe;
        if !is_entry && (is_whole || !self.shared.is_anywhere) {
            return Err(EventReason::NotAtEntry);
        }
        if definition.point == Point::Return {
            return Ok(());
        }
        self.take_probe(slot, definition)?;
        let (probes, probe) = (self.shared.probes, slot.probe(definition));
        let put = |()| {
            if is_entry {
                return probes.register_entry(probe, definition.at);
            }
            // SAFETY: 1. and 2. The address is in a function of a symbol table, and a multiple of four bytes from its
            // beginning on or refused; the kernel has promised both for all of them with `anywhere`.
            unsafe { probes.register(probe, definition.at) }
        };
        probes.switch(probe, false).and_then(put).map(drop).map_err(EventReason::Kprobe)
    }

    /// Removes an event's probe, with whatever an attempt to hook it or to unhook it may have left, and waits until nobody is in
    /// its handler.
    fn take_probe(&self, slot: &'static Slot, definition: &Definition) -> Result<(), EventReason> {
        let gone = match definition.point {
            Point::Return => self.engine().unregister(&slot.returns).map(drop).map_err(KprobeError::Entry),
            Point::Entry | Point::Inside => self.shared.probes.unregister(slot.probe(definition)),
        };
        match gone {
            Ok(()) | Err(KprobeError::NotRegistered | KprobeError::Entry(RegisterError::NotRegistered)) => Ok(()),
            Err(error) => Err(EventReason::Kprobe(error)),
        }
    }

    /// Removes an event that is not in use.
    pub(in crate::control) fn remove(&self, number: usize) -> Result<(), EventReason> {
        let _change = self.change();
        let Some((slot, known)) = self.slots.get(number).zip(self.known(number)) else { return Ok(()) };
        if known.is_in_use() {
            return Err(EventReason::EventInUse);
        }
        self.take_probe(slot, &known.definition)?;
        *self.locked(&slot.known) = None;
        Ok(())
    }

    /// Removes the probes of all events of these kinds, or none of them.
    fn take_probes(&self, kinds: Kinds) -> Result<(), EventReason> {
        for (done, (number, known)) in self.all_of(kinds).enumerate() {
            let Some(slot) = self.slots.get(number) else { continue };
            // Also its own, of which a part may be gone.
            self.take_probe(slot, &known.definition).inspect_err(|_| self.put_probes(kinds, done + 1))?;
        }
        Ok(())
    }

    /// Registers the probes of so many events again.
    fn put_probes(&self, kinds: Kinds, count: usize) {
        for (number, known) in self.all_of(kinds).take(count) {
            if let Some(slot) = self.slots.get(number) {
                // As good as it gets: the first failure is the one that is told.
                let _ = self.put_probe(slot, &known.definition);
            }
        }
    }

    fn give_up(&self, slot: &'static Slot, definition: &Definition) {
        // It does not call yet. What can't go now does when the slot gets its next one.
        let _ = self.take_probe(slot, definition);
    }

    fn forget_all(&self, kinds: Kinds) {
        for slot in self.slots {
            let mut known = self.locked(&slot.known);
            if known.as_ref().is_some_and(|known| kinds.have(&known.definition)) {
                *known = None;
            }
        }
    }

    /// Has an event be recorded, or not, whatever a trigger has switched it to.
    pub(in crate::control) fn enable(&self, number: usize, is_enabled: bool) -> Result<(), EventReason> {
        self.record(number, Recorded { is_enabled, is_on: is_enabled })
    }

    /// Whether an event is recorded.
    pub(in crate::control) fn recorded(&self, number: usize, known: &Known) -> Recorded {
        let is_on = self.slots.get(number).is_some_and(|slot| slot.records.load(Ordering::Relaxed));
        Recorded { is_enabled: known.is_enabled, is_on }
    }

    pub(in crate::control) fn record(&self, number: usize, wanted: Recorded) -> Result<(), EventReason> {
        let _change = self.change();
        let Some((slot, mut known)) = self.slots.get(number).zip(self.known(number)) else { return Ok(()) };
        known.is_enabled = wanted.is_enabled;
        self.hook(slot, &mut known)?;
        slot.records.store(wanted.is_on, Ordering::Relaxed);
        *self.locked(&slot.known) = Some(known);
        Ok(())
    }

    /// Has an event's probe call, or not, as it is needed now.
    pub(super) fn hook(&self, slot: &'static Slot, known: &mut Known) -> Result<(), EventReason> {
        let is_wanted = known.is_in_use();
        if known.is_hooked == is_wanted {
            return Ok(());
        }
        let Definition { at, point, .. } = known.definition;
        let hooked = match point {
            Point::Entry | Point::Inside => self.shared.probes.switch(slot.probe(&known.definition), is_wanted),
            Point::Return if is_wanted => self.hook_return(slot, at).map_err(KprobeError::Entry),
            Point::Return => self.unhook_return(slot).map_err(KprobeError::Entry),
        };
        hooked.map_err(EventReason::Kprobe)?;
        known.is_hooked = is_wanted;
        Ok(())
    }

    fn hook_return(&self, slot: &'static Slot, at: TextAddr) -> Result<(), RegisterError> {
        let rules = [functions::Rule::address(at)];
        self.engine().register_anew(&slot.returns, &functions::Filter::new(&rules)).map(drop)
    }

    /// Has an event's returns hooked no more. A CPU may still be in their handler.
    fn unhook_return(&self, slot: &'static Slot) -> Result<(), RegisterError> {
        self.engine().unregister_unwaited(&slot.returns)
    }

    /// Gives an event another filter.
    pub(in crate::control) fn set_filter(
        &self,
        number: usize,
        filter: &Filter,
        text: ArrayString<TEXT_BYTES>,
    ) -> Result<(), EventReason> {
        let _change = self.change();
        let Some((slot, mut known)) = self.slots.get(number).zip(self.known(number)) else { return Ok(()) };
        self.reprogram(slot, |program| program.filter = filter.clone())?;
        known.filter = text;
        *self.locked(&slot.known) = Some(known);
        Ok(())
    }

    /// Changes what is done where an event happens. The changes are locked.
    pub(super) fn reprogram(&self, slot: &'static Slot, change: impl FnOnce(&mut Program)) -> Result<(), EventReason> {
        let mut program = slot.program.with(Clone::clone);
        change(&mut program);
        self.await_quiescence()?;
        // SAFETY: 1. The changes are locked. 2. Handlers are callbacks, or what a breakpoint or jump calls: whoever was in one
        // before the last change has left it, since every CPU was seen quiescent just now.
        unsafe { slot.program.replace(program) };
        Ok(())
    }

    pub(super) fn await_quiescence(&self) -> Result<(), EventReason> {
        let seen = self.engine().await_quiescence();
        seen.map_err(|timeout| EventReason::Kprobe(KprobeError::NotQuiescent(timeout)))
    }
}
