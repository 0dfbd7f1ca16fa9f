//! All events of a kernel, whatever its type: lines define them, remove them, enable them, and give them filters.

use super::definition::{Definition, Surroundings};
use super::fetch::{Point, ReadMemory};
use super::filter::Filter;
use super::hist::Histogram;
use super::limits::TEXT_BYTES;
use super::reason::EventReason;
use super::slot::{Known, Program, Slot};
use crate::address::TextAddr;
use crate::engine::{Engine, RegisterError};
use crate::filter as functions;
use crate::kprobe::{Kprobe, KprobeError, Kprobes, ServedBy};
use arrayvec::ArrayString;
use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};

/// What all events have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) probes: &'static dyn Probes,
    /// Whether there are events at other instructions than functions' entries.
    pub(super) is_anywhere: bool,
    pub(super) memory: Option<ReadMemory>,
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

/// Held while a line changes events.
pub(super) type Change = spin::MutexGuard<'static, ()>;

impl EventsParts {
    pub(super) const fn has_memory(&self) -> bool {
        self.shared.memory.is_some()
    }

    /// What definitions are looked up in.
    pub(in crate::control) fn surroundings(&self) -> Surroundings {
        Surroundings { engine: self.engine(), has_memory: self.has_memory() }
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

    /// How many events there can be.
    pub(in crate::control) const fn len(&self) -> usize {
        self.slots.len()
    }

    /// The event in a slot.
    pub(in crate::control) fn known(&self, number: usize) -> Option<Known> {
        self.locked(&self.slots.get(number)?.known).clone()
    }

    /// All events, with the numbers of their slots, in the order of their definition.
    pub(in crate::control) fn all(&self) -> impl Iterator<Item = (usize, Known)> + use<> {
        let (parts, mut last) = (*self, None);
        core::iter::from_fn(move || {
            let known = (0..parts.len()).filter_map(|number| Some((number, parts.known(number)?)));
            let behind = known.filter(|(_, known)| last.is_none_or(|last| known.id > last));
            let next = behind.min_by_key(|(_, known)| known.id)?;
            last = Some(next.1.id);
            Some(next)
        })
    }

    /// The event of this name, in this group or in any.
    pub(in crate::control) fn named(&self, group: Option<&str>, name: &str) -> Option<(usize, Known)> {
        self.all().find(|(_, known)| known.definition.is_named(group, name))
    }

    /// The event that records of this number are of.
    pub(in crate::control) fn of_id(&self, id: u16) -> Option<Known> {
        self.all().find_map(|(_, known)| (known.id == id).then_some(known))
    }

    /// How often an event's place was come to, and how often that was missed.
    pub(in crate::control) fn counts(&self, number: usize, known: &Known) -> (u64, u64) {
        self.slots.get(number).map_or((0, 0), |slot| slot.counts_since(known))
    }

    /// A number that no event has.
    fn new_id(&self) -> u16 {
        loop {
            let id = self.shared.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if self.of_id(id).is_none() {
                return id;
            }
        }
    }

    /// Whether there is memory for one more event.
    pub(in crate::control) fn has_room(&self) -> bool {
        self.slots.iter().any(|slot| self.locked(&slot.known).is_none())
    }

    /// Defines an event, which is neither enabled nor has a filter; returns its number.
    pub(in crate::control) fn define(&self, definition: Definition) -> Result<u16, EventReason> {
        let _change = self.change();
        let free = self.slots.iter().find(|slot| self.locked(&slot.known).is_none());
        let slot = free.ok_or(EventReason::TooManyEvents { events: self.slots.len() })?;
        let is_entry = self.engine().has_match(&functions::Rule::address(definition.at));
        if !is_entry && (definition.point == Point::Return || !self.shared.is_anywhere) {
            return Err(EventReason::NotAtEntry);
        }
        if definition.point != Point::Return {
            let (probes, probe) = (self.shared.probes, slot.probe(&definition));
            let put = |()| {
                if is_entry {
                    return probes.register_entry(probe, definition.at);
                }
                // SAFETY: 1. and 2. The address is in a function of a symbol table, and a multiple of four bytes from its
                // beginning on or refused; the kernel has promised both for all of them with `anywhere`.
                unsafe { probes.register(probe, definition.at) }
            };
            probes.switch(probe, false).and_then(put).map_err(EventReason::Kprobe)?;
        }
        let id = self.new_id();
        // SAFETY: 1. The changes are locked. 2. Nobody is in a handler of this slot, by its invariant.
        unsafe { slot.program.replace(Program::new(&definition, id)) };
        *self.locked(&slot.known) = Some(slot.know(definition, id));
        Ok(id)
    }

    /// Removes an event that is not in use.
    pub(in crate::control) fn remove(&self, number: usize) -> Result<(), EventReason> {
        let _change = self.change();
        let Some((slot, known)) = self.slots.get(number).zip(self.known(number)) else { return Ok(()) };
        if known.is_hooked {
            return Err(EventReason::EventInUse);
        }
        if known.definition.point != Point::Return {
            let probe = slot.probe(&known.definition);
            match self.shared.probes.unregister(probe) {
                Ok(()) | Err(KprobeError::NotRegistered) => {}
                Err(error) => return Err(EventReason::Kprobe(error)),
            }
        }
        // A probe at an entry waits where it is disabled; this is for those that did not.
        self.await_quiescence()?;
        *self.locked(&slot.known) = None;
        Ok(())
    }

    /// Has an event be recorded, or not.
    pub(in crate::control) fn enable(&self, number: usize, is_enabled: bool) -> Result<(), EventReason> {
        let _change = self.change();
        let Some((slot, mut known)) = self.slots.get(number).zip(self.known(number)) else { return Ok(()) };
        if known.is_enabled == is_enabled {
            return Ok(());
        }
        known.is_enabled = is_enabled;
        self.hook(slot, &mut known)?;
        slot.records.store(is_enabled, Ordering::Relaxed);
        *self.locked(&slot.known) = Some(known);
        Ok(())
    }

    /// Has an event's probe call, or not, as it is needed now.
    pub(super) fn hook(&self, slot: &'static Slot, known: &mut Known) -> Result<(), EventReason> {
        let is_wanted = known.is_needed();
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
        let hooked = self.engine().register(&slot.returns, &functions::Filter::new(&rules));
        if hooked.is_err() {
            // A callsite that was changed and could not be changed back may call it.
            let _ = self.engine().unregister(&slot.returns);
        }
        hooked.map(drop)
    }

    fn unhook_return(&self, slot: &'static Slot) -> Result<(), RegisterError> {
        match self.engine().unregister(&slot.returns) {
            Ok(_) | Err(RegisterError::NotRegistered) => Ok(()),
            Err(error) => Err(error),
        }
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

    /// Whether an event is recorded now: a trigger may have switched it.
    pub(in crate::control) fn is_recorded(&self, number: usize) -> bool {
        self.slots.get(number).is_some_and(|slot| slot.records.load(Ordering::Relaxed))
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
