//! An event happens: its fields are fetched, its triggers act, and it is recorded. From any context, and without a lock.

use super::fetch::{Point, Registers};
use super::filter::Happening;
use super::parts::EventsParts;
use super::slot::Slot;
use super::stack::{self, MAX_FRAMES};
use super::trigger::Act;
use super::values::Values;
use crate::address::TextAddr;
use crate::control::left::Left;
use crate::control::switches::Switches;
use crate::control::tracing::{Tracing, Turns, switches};
use crate::kprobe::KprobeRegs;
use crate::ops::Exit;
use crate::tracer::event::EventWriter;
use crate::tracer::kernel::{RecordTo, StoreIn};
use crate::tracer::ring::Ring;
use crate::tracer::ticks;
use core::sync::atomic::{AtomicBool, Ordering};

impl EventsParts {
    /// The slot that something is a part of.
    #[inline]
    pub(super) fn slot_with<T>(&self, part: &T) -> Option<&'static Slot> {
        let offset = core::ptr::from_ref(part).addr().wrapping_sub(self.slots.as_ptr().addr());
        self.slots.get(offset / size_of::<Slot>())
    }

    /// An event happens.
    pub(super) fn happen(&self, slot: &Slot, regs: &dyn Registers, parent: u64, place: &Place) {
        slot.hits.fetch_add(1, Ordering::Relaxed);
        let is_on = || place.switches.is_on();
        let was_on = is_on();
        slot.program.with(|program| {
            let may_be_recorded = was_on && place.is_open && slot.records.load(Ordering::Relaxed);
            if !may_be_recorded && !program.has_triggers() {
                return;
            }
            let mut values = Values::none();
            let hooks = &self.shared.hooks;
            values.fetch(program.layout(), regs, parent, place.task, hooks);
            let event = Happening { values: &values, task: place.task, ip: program.ip, hooks };
            let stack =
                |frames: &mut [u64]| stack::fill(frames, regs, program.point, [program.ip, parent], hooks.memory);
            let mut shows_stack = false;
            for (number, trigger) in program.triggers() {
                if let Some(left) = slot.left.get(number).filter(|_| trigger.filter.lets(event)) {
                    shows_stack |= self.pull(&trigger.act, left, event, place, &stack);
                }
            }
            // What has switched the trace off or on is in it.
            if !place.is_open || !was_on && !is_on() {
                return;
            }
            let writer = EventWriter { ring: place.ring, task: place.task, clock: ticks };
            if slot.records.load(Ordering::Relaxed) && program.filter.lets(event) {
                writer.probe(program.id, values.words());
            }
            if shows_stack {
                let mut frames = [0; MAX_FRAMES];
                let count = stack(&mut frames);
                let mut addresses = [TextAddr::new(0); MAX_FRAMES];
                addresses.iter_mut().zip(frames).for_each(|(place, frame)| *place = TextAddr::new(frame));
                // As if it were a return address too, which is behind the instruction that it is about.
                if program.point != Point::Return
                    && let Some(first) = addresses.first_mut()
                {
                    *first = first.offset(4);
                }
                writer.stack(TextAddr::new(program.ip), addresses.get(..count).unwrap_or_default());
            }
        });
    }

    /// Does what a trigger does; whether the stack is to be shown.
    fn pull(
        &self,
        act: &Act,
        left: &Left,
        event: Happening<'_>,
        place: &Place,
        stack: &impl Fn(&mut [u64]) -> usize,
    ) -> bool {
        let is_on = place.switches.is_on();
        match act {
            Act::TraceOn | Act::TraceOff => {
                let on = matches!(act, Act::TraceOn);
                // What is so already counts as no time.
                if is_on != on && left.take() {
                    place.switches.set_on(on);
                }
            }
            // Where nothing is recorded it would count as a time, and show nothing.
            Act::Stacktrace => return is_on && place.is_open && left.take(),
            // The event itself is the last that it has.
            Act::Snapshot => {
                let acts = is_on && !place.switches.gate().is_held();
                if acts && (self.shared.spare_ring)().is_some() && left.take() {
                    place.switches.swap();
                }
            }
            Act::Pause { slot, is_paused } => {
                self.slots.get(*slot).into_iter().for_each(|target| self.pause(target, *is_paused, left));
            }
            Act::Switch { slot, is_enabled } => {
                self.slots.get(*slot).into_iter().for_each(|target| switch(&target.records, *is_enabled, left));
            }
            Act::Hist(hist) => {
                let fill = |words: &mut [u64]| {
                    stack(words);
                };
                self.histogram(hist).into_iter().for_each(|histogram| histogram.add(hist, event, fill));
            }
        }
        false
    }

    /// Has an event's histograms count, or not, unless it is so already, which counts as no time.
    fn pause(&self, target: &Slot, is_paused: bool, left: &Left) {
        target.program.with(|program| {
            let histograms = || {
                program.triggers().filter_map(|(_, trigger)| match &trigger.act {
                    Act::Hist(hist) => self.histogram(hist),
                    _ => None,
                })
            };
            if histograms().any(|histogram| histogram.is_paused() != is_paused) && left.take() {
                histograms().for_each(|histogram| histogram.pause(is_paused));
            }
        });
    }
}

/// Switches something, unless it is so already, which counts as no time.
fn switch(what: &AtomicBool, is_on: bool, left: &Left) {
    if what.load(Ordering::Relaxed) != is_on && left.take() {
        what.store(is_on, Ordering::Relaxed);
    }
}

/// Where an event happens: what is the kernel's.
pub(super) struct Place {
    ring: &'static Ring,
    task: u32,
    switches: &'static Switches,
    /// Whether anything is recorded here, if the trace is on.
    is_open: bool,
}

impl Place {
    #[inline]
    pub(super) fn here<K: RecordTo + StoreIn<Tracing<K>>>() -> Self {
        let switches = switches::<K>();
        let gate = switches.gate();
        let is_open = gate.is_free() || !gate.is_held() && switches.lets_cpu_through::<K>(gate);
        Self { ring: Turns::<K>::ring(), task: K::task(), switches, is_open }
    }
}

/// The registers at a probe.
pub(super) struct AtProbe<'a> {
    pub(super) ip: TextAddr,
    pub(super) regs: KprobeRegs<'a>,
}

impl Registers for AtProbe<'_> {
    fn x(&self, n: usize) -> Option<u64> {
        self.regs.x(n)
    }

    fn sp(&self) -> Option<u64> {
        Some(self.regs.sp())
    }

    fn pc(&self) -> Option<u64> {
        Some(self.ip.get())
    }

    fn pstate(&self) -> Option<u64> {
        self.regs.pt_regs().map(|regs| regs.pstate)
    }
}

impl Registers for Exit<'_> {
    fn x(&self, n: usize) -> Option<u64> {
        // The caller's frame, whose function goes on.
        if n == 29 { Some(self.regs.frame_pointer()) } else { self.values().get(n).copied() }
    }

    fn sp(&self) -> Option<u64> {
        None
    }

    fn pc(&self) -> Option<u64> {
        None
    }

    fn pstate(&self) -> Option<u64> {
        None
    }
}
