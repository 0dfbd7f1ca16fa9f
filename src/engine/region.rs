//! One region: a contiguous piece of text, its callsites, and the changes that are planned for them.
//!
//! Floor 4. A plan is written into the table itself (what each callsite shall call next), so that none needs memory of its
//! own; carried out, it becomes what each calls now, and given up, it is forgotten.

use super::error::InitError;
use super::image::Image;
use crate::address::{TextAddr, TextRange};
use crate::callsite::{Callsite, Change, LiveWord, State, StateError};
use crate::entry::Stubs;
use crate::filter::{Filter, Pattern, Rule};
use crate::symbols::Symbols;
use crate::table::{Census, Differing, Record, Table, TableError, Target};
use crate::text::Cpu;
#[cfg(target_os = "none")]
use crate::text::Machine as _;
use core::ops::Range;

/// What a region's callsites call: the stubs themselves, or its veneers to them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    pub(super) caller: TextAddr,
    pub(super) regs_caller: TextAddr,
}

impl From<&Stubs> for Reached {
    fn from(stubs: &Stubs) -> Self {
        Self { caller: stubs.caller.entry, regs_caller: stubs.regs_caller.entry }
    }
}

/// A piece of text with its callsites.
pub(super) struct Region {
    pub(super) text: TextRange,
    pub(super) excluded: TextRange,
    pub(super) table: Table,
    pub(super) symbols: Option<Symbols<'static>>,
    pub(super) reached: Reached,
    /// The records between which there are planned changes.
    planned: Range<usize>,
    /// The records between which something is called: so that one function is let go without a look at all others.
    active: Range<usize>,
    /// What a module's region keeps alive; last, so that what borrows it is dropped before it.
    #[cfg(feature = "module")]
    owned: Option<super::modules::Owned>,
}

impl Region {
    /// The kernel's own text.
    pub(super) fn of_image(image: Image, machine: Cpu) -> Result<(Self, Census), InitError> {
        let Image { text, excluded, section, section_bytes, encoding, layout, stubs, symbols } = image;
        if !section.is_aligned() || !section_bytes.is_multiple_of(size_of::<u64>()) {
            let error = TableError::Truncated { start: section.addr() as u64, bytes: section_bytes };
            return Err(InitError::Table(error));
        }
        if section.is_null() {
            return Err(InitError::Table(TableError::Empty));
        }
        // SAFETY: `Image::new`'s caller gave the section to the engine; alignment was looked at.
        let slots = unsafe { core::slice::from_raw_parts_mut(section, section_bytes / size_of::<u64>()) };
        let read = |at| {
            // SAFETY: the table asks for aligned addresses inside `text` only, which `Image::new`'s caller promises to be
            // mapped.
            unsafe { machine.load(at) }
        };
        let (table, census) = Table::build(text, excluded, slots, encoding, layout, read).map_err(InitError::Table)?;
        let region = Self {
            text,
            excluded,
            table,
            symbols,
            reached: Reached::from(&stubs),
            planned: 0..0,
            active: 0..0,
            #[cfg(feature = "module")]
            owned: None,
        };
        Ok((region, census))
    }

    /// A module's text.
    #[cfg(feature = "module")]
    pub(super) const fn of_module(
        text: TextRange,
        table: Table,
        symbols: Option<Symbols<'static>>,
        reached: Reached,
        owned: super::modules::Owned,
    ) -> Self {
        Self {
            text,
            excluded: TextRange::EMPTY,
            table,
            symbols,
            reached,
            planned: 0..0,
            active: 0..0,
            owned: Some(owned),
        }
    }

    /// Whether the region, and with it its functions' names, is there for ever.
    pub(super) const fn is_permanent(&self) -> bool {
        #[cfg(feature = "module")]
        {
            self.owned.is_none()
        }
        #[cfg(not(feature = "module"))]
        true
    }

    /// What makes every callsite ready: MOV X9, LR.
    pub(super) fn to_ready(&self) -> impl Iterator<Item = Change<u32>> {
        let callsites = self.callsites(0..self.table.len());
        callsites.filter_map(|(_, callsite)| callsite.init(State::Compiled).ok())
    }

    /// Plans `target` for the callsite at `index`; how many planned changes that adds.
    fn plan(&mut self, index: usize, target: Target) -> usize {
        if self.table.get(index).is_none_or(|record| record.next() == target) {
            return 0;
        }
        self.table.update(index, |record| record.plan(target));
        self.planned = hull(&self.planned, &(index..index + 1));
        1
    }

    /// Plans `target` for every callsite; how many changes that makes. Nothing is planned yet.
    pub(super) fn plan_all(&mut self, target: Target) -> usize {
        self.plan_span(0..self.table.len(), target)
    }

    /// Plans nothing for every callsite that calls something; how many changes that makes. Nothing else is planned yet.
    pub(super) fn plan_removal(&mut self) -> usize {
        self.plan_span(self.active.clone(), Target::NONE)
    }

    fn plan_span(&mut self, span: Range<usize>, target: Target) -> usize {
        let (planned, count) = self.table.plan_all(span, target);
        self.planned = planned;
        count
    }

    /// Plans `target` for every callsite that the filter selects here, if any.
    #[cfg(feature = "module")]
    pub(super) fn plan_filter(&mut self, filter: &Filter<'_>, target: Target) {
        if filter.rules().is_empty() {
            self.plan_all(target);
        } else {
            self.plan_selected(filter, target);
        }
    }

    /// Plans `target` for every callsite that the filter as a whole selects.
    pub(super) fn plan_selected(&mut self, filter: &Filter<'_>, target: Target) -> usize {
        let mut changes = 0;
        for index in 0..self.table.len() {
            if self.selects(index, |name, function| filter.selects(name, function)) {
                changes += self.plan(index, target);
            }
        }
        changes
    }

    /// Plans `target` for every callsite that `rule` selects and `filter` does not take away; whether the rule matched
    /// any, and how many changes that adds.
    pub(super) fn plan_rule(&mut self, rule: &Rule<'_>, filter: &Filter<'_>, target: Target) -> (bool, usize) {
        let (mut matched, mut changes) = (false, 0);
        // An address is its own candidate; a name is looked up only where it decides.
        let by_address = matches!(rule.pattern, Pattern::Address(_));
        for index in self.candidates(rule) {
            if by_address || self.selects(index, |name, function| rule.matches(name, function)) {
                matched = true;
                if !filter.any_takes_away() || !self.selects(index, |name, function| filter.takes_away(name, function))
                {
                    changes += self.plan(index, target);
                }
            }
        }
        (matched, changes)
    }

    /// The callsites that a rule can match: all for a glob, the few that have the name or the address else.
    fn candidates(&self, rule: &Rule<'_>) -> Range<usize> {
        let at = |addr| self.table.find(addr).map_or(0..0, |index| index..index + 1);
        match rule.pattern {
            Pattern::Glob(_) => 0..self.table.len(),
            Pattern::Address(addr) => at(addr),
            Pattern::Name(name) => {
                let found = self.symbols.into_iter().flat_map(|symbols| symbols.lookup_name(name));
                // Instances of one generic function share a name; they need not be neighbours.
                found.map(|symbol| at(TextAddr::new(symbol.addr))).filter(|range| !range.is_empty()).fold(
                    0..0,
                    |all, one| {
                        if all.is_empty() { one } else { all.start.min(one.start)..all.end.max(one.end) }
                    },
                )
            }
        }
    }

    /// Whether `matches` holds for the callsite at `index`.
    fn selects(&self, index: usize, matches: impl FnOnce(Option<&str>, TextAddr) -> bool) -> bool {
        let Some(callsite) = self.table.callsite(index) else { return false };
        matches(self.name(callsite.function()), callsite.function())
    }

    /// Whether every planned change can be made: if the first and the last callsite reach the target, all between do.
    pub(super) fn check(&self) -> Result<(), StateError> {
        if self.planned.is_empty() {
            return Ok(());
        }
        let ends = [self.planned.start, self.planned.end - 1];
        ends.into_iter().filter_map(|index| self.table.get(index)).try_for_each(|record| {
            let (callsite, now) = (record.callsite(self.text.start), self.state(record.now()));
            let change = match (self.target(record.next()), now) {
                (None, State::Disabled) => return Ok(()),
                (None, _) => callsite.disable(now),
                (Some(target), State::Enabled(_)) => callsite.retarget(now, target),
                (Some(target), _) => callsite.enable(now, target),
            };
            change.map(drop)
        })
    }

    /// The records with planned changes, in the order of their addresses. [`check`](Self::check) has answered for them.
    #[inline]
    fn differing(&self) -> Differing<'_> {
        self.table.differing(self.planned.clone())
    }

    /// The change that a record plans.
    #[inline]
    pub(super) fn change(&self, record: Record) -> Change<LiveWord> {
        let at = record.call_addr(self.text.start);
        Change { at, old: self.word(at, record.now()), new: self.word(at, record.next()) }
    }

    /// The plan was carried out.
    pub(super) fn commit(&mut self) {
        let planned = core::mem::take(&mut self.planned);
        self.active = hull(&self.active, &planned);
        self.table.update_all(planned, Record::commit);
    }

    /// A removal was carried out: nothing here calls anything.
    pub(super) fn rest(&mut self) {
        self.active = 0..0;
    }

    /// The plan was given up.
    pub(super) fn withdraw(&mut self) {
        self.table.update_all(core::mem::take(&mut self.planned), Record::withdraw);
    }

    /// The plan was carried out in part: commits what the text says was done, and withdraws the rest.
    pub(super) fn believe_the_text(&mut self, machine: Cpu) {
        let planned = core::mem::take(&mut self.planned);
        self.active = hull(&self.active, &planned);
        for index in planned {
            let Some(record) = self.table.get(index) else { continue };
            let done = self.text_state(&record.callsite(self.text.start), machine) == Ok(self.state(record.next()));
            self.table.update(index, if done { Record::commit } else { Record::withdraw });
        }
    }

    /// The state that a callsite with this target is in.
    pub(super) fn state(&self, target: Target) -> State {
        self.target(target).map_or(State::Disabled, State::Enabled)
    }

    /// The address that a target stands for.
    #[inline]
    fn target(&self, target: Target) -> Option<TextAddr> {
        match target {
            Target::CALLER => Some(self.reached.caller),
            Target::REGS_CALLER => Some(self.reached.regs_caller),
            _ => None,
        }
    }

    /// The instruction at `at` that a target stands for.
    #[inline]
    fn word(&self, at: TextAddr, target: Target) -> LiveWord {
        self.target(target).map_or(LiveWord::NOP, |target| LiveWord::bl_within_reach(at, target))
    }

    /// The records of these indices with their callsites.
    pub(super) fn callsites(&self, span: Range<usize>) -> impl Iterator<Item = (Record, Callsite)> {
        self.table.records(span).map(|record| (record, record.callsite(self.text.start)))
    }

    /// What a callsite's text says.
    pub(super) fn text_state(&self, callsite: &Callsite, machine: Cpu) -> Result<State, [u32; 2]> {
        let words = [self.read(machine, callsite.mov_addr()), self.read(machine, callsite.call_addr())];
        callsite.state_of(words[0], words[1]).ok_or(words)
    }

    /// The instruction at an aligned address inside the text.
    pub(super) fn read(&self, machine: Cpu, at: TextAddr) -> u32 {
        debug_assert!(self.text.contains(at) && at.is_aligned());
        // SAFETY: inside the text, which whoever gave the region to the engine promises to be mapped, and aligned: callsites
        // were decoded from there.
        unsafe { machine.load(at) }
    }

    pub(super) fn name(&self, addr: TextAddr) -> Option<&'static str> {
        self.symbols.and_then(|symbols| symbols.lookup_addr(addr.get())).map(|found| found.symbol.name)
    }
}

/// The smallest range that holds both.
fn hull(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.clone(),
        (_, true) => a.clone(),
        _ => a.start.min(b.start)..a.end.max(b.end),
    }
}

/// The records with planned changes of several regions. A type of its own, since a chain of adaptors costs several calls a
/// callsite, in each pass.
pub(super) struct Planned<'a> {
    regions: core::slice::Iter<'a, Region>,
    current: Option<(&'a Region, Differing<'a>)>,
}

impl<'a> Planned<'a> {
    pub(super) fn of(regions: &'a [Region]) -> Self {
        Self { regions: regions.iter(), current: None }
    }
}

impl<'a> Iterator for Planned<'a> {
    type Item = (&'a Region, Record);

    #[inline]
    fn next(&mut self) -> Option<(&'a Region, Record)> {
        loop {
            if let Some((region, records)) = &mut self.current
                && let Some(record) = records.next()
            {
                return Some((region, record));
            }
            let region = self.regions.next()?;
            self.current = Some((region, region.differing()));
        }
    }
}
