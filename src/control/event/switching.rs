//! Triggers come and go, and the memory of their histograms.

use super::hist::{Hist, HistCommand, Histogram};
use super::limits::MAX_TRIGGERS;
use super::parts::EventsParts;
use super::reason::EventReason;
use super::slot::{KnownTrigger, Program};
use super::trigger::{Act, NewTrigger, Trigger};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, Ordering};

impl EventsParts {
    /// An event's triggers, and how often each may still act; `None` for any number of times.
    pub(in crate::control) fn triggers(&self, number: usize) -> [Option<(KnownTrigger, Option<u64>)>; MAX_TRIGGERS] {
        let Some(slot) = self.slots.get(number) else { return [const { None }; MAX_TRIGGERS] };
        let triggers = self.locked(&slot.triggers);
        core::array::from_fn(|number| Some((triggers.get(number)?.clone()?, slot.left.get(number)?.get())))
    }

    /// The memory of a histogram.
    pub(in crate::control) fn histogram(&self, hist: &Hist) -> Option<&'static Histogram> {
        self.shared.histograms.get(usize::from(hist.number))
    }

    /// Looks whether an event can have a trigger where all that it has go.
    fn check_trigger(&self, number: usize, trigger: &Trigger) -> Result<(), EventReason> {
        self.check_memory(trigger)?;
        let Act::Hist(hist) = &trigger.act else { return Ok(()) };
        let own = self.triggers(number);
        let is_own = |histogram: &Histogram| {
            let mut hists = own.iter().flatten().filter_map(|(known, _)| match &known.act {
                Act::Hist(hist) => self.histogram(hist),
                _ => None,
            });
            hists.any(|own| core::ptr::eq(own, histogram))
        };
        let fits = |histogram: &&Histogram| hist.wanted(histogram.room()) <= histogram.room();
        let is_free = |histogram: &Histogram| !histogram.is_used.load(Ordering::Relaxed) || is_own(histogram);
        let there_is = self.shared.histograms.iter().filter(fits).any(is_free);
        if there_is { Ok(()) } else { Err(EventReason::NoHistogram) }
    }

    fn check_memory(&self, trigger: &Trigger) -> Result<(), EventReason> {
        if trigger.takes_stack() && !self.has_memory() { Err(EventReason::NoMemory) } else { Ok(()) }
    }

    /// Gives an event one more trigger.
    pub(in crate::control) fn add_trigger(&self, number: usize, new: NewTrigger) -> Result<(), EventReason> {
        let _change = self.change();
        self.put_trigger(number, new)
    }

    /// Takes a trigger like this one from an event.
    pub(in crate::control) fn remove_trigger(&self, number: usize, like: &Act) -> Result<(), EventReason> {
        let _change = self.change();
        self.take_triggers(number, |act| act.is_like(like))
    }

    /// Gives an event this trigger, or none, in the place of all that it has. Where it can't be, they stay, unless
    /// a CPU is not seen quiescent any more when they have gone.
    pub(in crate::control) fn replace_triggers(
        &self,
        number: usize,
        new: Option<NewTrigger>,
    ) -> Result<(), EventReason> {
        let _change = self.change();
        let take_all = || match self.take_triggers(number, |_| true) {
            Err(EventReason::NoSuchTrigger) => Ok(()),
            done => done,
        };
        let Some(new) = new else { return take_all() };
        self.check_trigger(number, &new.trigger)?;
        // What can fail most is done while the others are there: both events are hooked, and stay so.
        let target = new.trigger.act.target();
        self.count_trigger(number, true)?;
        let done = self.name(target, true).and_then(|()| {
            let gone = take_all();
            target.into_iter().for_each(|target| self.reset(target, 1));
            let replaced = gone.and_then(|()| self.put_trigger(number, new));
            replaced.and(self.name(target, false))
        });
        done.and(self.count_trigger(number, false))
    }

    /// Has an event be recorded as it was asked for, where no trigger names it but so many that do not act yet.
    fn reset(&self, number: usize, to_come: usize) {
        if let Some((slot, known)) = self.slots.get(number).zip(self.known(number))
            && known.named <= to_come
        {
            slot.records.store(known.is_enabled, Ordering::Relaxed);
        }
    }

    fn put_trigger(&self, number: usize, new: NewTrigger) -> Result<(), EventReason> {
        let NewTrigger { mut trigger, count, filter } = new;
        let Some(slot) = self.slots.get(number) else { return Ok(()) };
        self.check_memory(&trigger)?;
        let place = {
            let triggers = self.locked(&slot.triggers);
            if triggers.iter().flatten().any(|known| known.act.is_like(&trigger.act)) {
                return Err(EventReason::TriggerExists);
            }
            triggers.iter().position(Option::is_none).ok_or(EventReason::TooManyTriggers)?
        };
        if let Act::Hist(hist) = &mut trigger.act {
            hist.number = self.take_histogram(hist)?;
        }
        let act = trigger.act.clone();
        slot.left.iter().skip(place).take(1).for_each(|left| left.set(count));
        let published = self.name(act.target(), true).and_then(|()| {
            let published = self.reprogram(slot, |program| program.set_trigger(place, Some(trigger)));
            published.inspect_err(|_| {
                let _ = self.name(act.target(), false);
            })
        });
        if published.is_err() {
            self.give_back(&act);
            return published;
        }
        let hooked = self.count_trigger(number, true);
        if hooked.is_err() {
            // The probe may be called for all that, if it could not be taken back.
            let gone = self.reprogram(slot, |program| program.set_trigger(place, None));
            if gone.and_then(|()| self.await_quiescence()).is_ok() {
                let _ = self.name(act.target(), false);
                self.give_back(&act);
                return hooked;
            }
            // Else somebody may pull it yet: it stays, for who removes it.
        }
        self.locked(&slot.triggers).iter_mut().skip(place).take(1).for_each(|known| {
            *known = Some(KnownTrigger { act: act.clone(), filter });
        });
        hooked
    }

    /// Takes those of an event's triggers that are meant, of which there must be one: all of them or none.
    fn take_triggers(&self, number: usize, is_meant: impl Fn(&Act) -> bool) -> Result<(), EventReason> {
        let Some(slot) = self.slots.get(number) else { return Ok(()) };
        let all = self.triggers(number).into_iter().enumerate();
        let meant: ArrayVec<(usize, Act), MAX_TRIGGERS> =
            all.filter_map(|(place, known)| Some((place, known?.0.act))).filter(|(_, act)| is_meant(act)).collect();
        if meant.is_empty() {
            return Err(EventReason::NoSuchTrigger);
        }
        let before = slot.program.with(Program::all_triggers);
        self.reprogram(slot, |program| meant.iter().for_each(|(place, _)| program.set_trigger(*place, None)))?;
        // Whoever still has the program of before may switch another event yet.
        if meant.iter().any(|(_, act)| act.target().is_some())
            && let Err(reason) = self.await_quiescence()
        {
            let _ = self.reprogram(slot, |program| program.set_triggers(before));
            return Err(reason);
        }
        let mut done = Ok(());
        for (place, act) in meant {
            self.locked(&slot.triggers).iter_mut().skip(place).take(1).for_each(|known| *known = None);
            self.give_back(&act);
            let uncounted = self.count_trigger(number, false);
            done = done.and(self.name(act.target(), false)).and(uncounted);
        }
        done
    }

    /// Does something to the histogram of these keys.
    pub(in crate::control) fn command(
        &self,
        number: usize,
        like: &Act,
        command: HistCommand,
    ) -> Result<(), EventReason> {
        let _change = self.change();
        let Some(slot) = self.slots.get(number) else { return Ok(()) };
        let found = self.locked(&slot.triggers).iter().flatten().find_map(|known| match &known.act {
            Act::Hist(hist) if known.act.is_like(like) => self.histogram(hist),
            _ => None,
        });
        let histogram = found.ok_or(EventReason::NoSuchTrigger)?;
        match command {
            HistCommand::Pause => histogram.pause(true),
            HistCommand::Continue => histogram.pause(false),
            HistCommand::Clear => {
                histogram.close(true);
                let seen = self.await_quiescence();
                if seen.is_ok() {
                    histogram.clear();
                }
                histogram.close(false);
                return seen;
            }
        }
        Ok(())
    }

    /// Counts one trigger more of an event, or one less.
    fn count_trigger(&self, number: usize, is_more: bool) -> Result<(), EventReason> {
        let Some((slot, mut known)) = self.slots.get(number).zip(self.known(number)) else { return Ok(()) };
        known.triggers = if is_more { known.triggers + 1 } else { known.triggers.saturating_sub(1) };
        let hooked = self.hook(slot, &mut known);
        if hooked.is_ok() || !is_more {
            *self.locked(&slot.known) = Some(known);
        }
        hooked
    }

    /// Whether an event is recorded, for a command at a function that switches it.
    pub(in crate::control) fn records(&self, number: usize) -> Option<&'static AtomicBool> {
        self.slots.get(number).map(|slot| &slot.records)
    }

    /// Counts one command at a function more that switches an event, or one less; as a trigger that names it.
    pub(in crate::control) fn count_command(&self, number: usize, is_more: bool) -> Result<(), EventReason> {
        let _change = self.change();
        self.name(Some(number), is_more)
    }

    /// Counts one trigger more that names an event, or one less.
    fn name(&self, target: Option<usize>, is_more: bool) -> Result<(), EventReason> {
        let Some(number) = target else { return Ok(()) };
        let Some((slot, mut known)) = self.slots.get(number).zip(self.known(number)) else { return Ok(()) };
        known.named = if is_more { known.named + 1 } else { known.named.saturating_sub(1) };
        let hooked = self.hook(slot, &mut known);
        if hooked.is_ok() || !is_more {
            *self.locked(&slot.known) = Some(known);
            self.reset(number, 0);
        }
        hooked
    }

    /// Takes memory for a histogram, empty; its number.
    fn take_histogram(&self, hist: &Hist) -> Result<u8, EventReason> {
        let is_free = |histogram: &Histogram| {
            !histogram.is_used.load(Ordering::Relaxed) && hist.wanted(histogram.room()) <= histogram.room()
        };
        let number = self.shared.histograms.iter().take(256).position(is_free).ok_or(EventReason::NoHistogram)?;
        let histogram = self.shared.histograms.get(number).ok_or(EventReason::NoHistogram)?;
        // Those who may still be adding to what it was before.
        self.await_quiescence()?;
        histogram.clear();
        histogram.pause(false);
        histogram.is_used.store(true, Ordering::Relaxed);
        Ok(number as u8)
    }

    fn give_back(&self, act: &Act) {
        if let Act::Hist(hist) = act
            && let Some(histogram) = self.histogram(hist)
        {
            histogram.is_used.store(false, Ordering::Relaxed);
        }
    }
}
