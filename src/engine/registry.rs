//! What the engine knows: the table, who is registered, and how a wish becomes a plan.
//!
//! Floor 4. A plan is written into the table itself (what each callsite shall call next), so that none needs memory of its
//! own; carried out, it becomes what each calls now, and given up, it is forgotten.

use super::error::{InitError, RegisterError};
use super::image::Image;
use crate::address::{TextAddr, TextRange};
use crate::callsite::{Callsite, Change, LiveWord, State, StateError};
use crate::entry::Stubs;
use crate::filter::{Filter, Pattern, Rule, Sign};
use crate::ops::Ops;
use crate::platform::Platform;
use crate::symbols::Symbols;
use crate::table::{Census, Record, Table, TableError, Target};
#[cfg(target_os = "none")]
use crate::text::Machine as _;
use crate::text::{Batch, Cpu, PokeCause, TextPoke, Undone};
use core::ops::Range;

/// What is known once there is an image.
pub(super) struct Registry {
    pub(super) text: TextRange,
    pub(super) excluded: TextRange,
    pub(super) table: Table,
    pub(super) stubs: Stubs,
    pub(super) symbols: Option<Symbols<'static>>,
    pub(super) registered: Option<&'static Ops>,
}

// SAFETY: the pointers inside are to the section, which `Image::new`'s caller gave to the engine alone, and to statics.
unsafe impl Send for Registry {}

/// Planned changes: the records from the first to the last one that differs, and how many do.
pub(super) struct Plan {
    span: Range<usize>,
    pub(super) count: usize,
}

impl Plan {
    const EMPTY: Self = Self { span: 0..0, count: 0 };

    pub(super) fn add(&mut self, index: usize) {
        self.span =
            if self.count == 0 { index..index + 1 } else { self.span.start.min(index)..self.span.end.max(index + 1) };
        self.count += 1;
    }
}

impl Registry {
    pub(super) fn build(image: Image, machine: Cpu) -> Result<(Self, Census), InitError> {
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
        Ok((Self { text, excluded, table, stubs, symbols, registered: None }, census))
    }

    /// Writes the stubs' two instructions each, and MOV X9, LR at every callsite.
    ///
    /// # Safety
    ///
    /// Nothing runs the image's text meanwhile.
    pub(super) unsafe fn make_ready(&self, platform: &dyn Platform, machine: Cpu) -> Result<(), InitError> {
        let base = platform.context_base();
        let caller = self.stubs.caller.changes(base).map_err(InitError::ContextOffset)?;
        let regs_caller = self.stubs.regs_caller.changes(base).map_err(InitError::ContextOffset)?;
        let changes = || {
            let callsites = self.callsites(0..self.table.len());
            let to_ready = callsites.filter_map(|(_, callsite)| callsite.init(State::Compiled).ok());
            caller.into_iter().chain(regs_caller).chain(to_ready)
        };
        // SAFETY: callsites lie inside the text and nothing runs it, as our caller promises; the stubs' labels are
        // instructions of ours, and no callsite calls them yet.
        unsafe { TextPoke::new(platform, machine).apply_quiet(&changes) }.map_err(InitError::Text)
    }

    /// Plans `target` for every callsite that the filter selects.
    pub(super) fn plan(&mut self, filter: &Filter<'_>, target: Target) -> Result<Plan, RegisterError> {
        let mut plan = Plan::EMPTY;
        let planned = self.select(filter, |table, index| {
            if table.get(index).is_some_and(|record| record.next() != target) {
                table.update(index, |record| record.plan(target));
                plan.add(index);
            }
        });
        let checked = match planned {
            Ok(()) if plan.count == 0 => Err(RegisterError::EmptySelection),
            Ok(()) => self.check(&plan).map_err(RegisterError::Callsite),
            Err(error) => Err(error),
        };
        match checked {
            Ok(()) => Ok(plan),
            Err(error) => {
                self.withdraw(&plan);
                Err(error)
            }
        }
    }

    /// Plans nothing for every callsite that calls something.
    pub(super) fn plan_removal(&mut self) -> Plan {
        let mut plan = Plan::EMPTY;
        for index in 0..self.table.len() {
            if self.table.get(index).is_some_and(|record| record.now() != Target::NONE) {
                self.table.update(index, |record| record.plan(Target::NONE));
                plan.add(index);
            }
        }
        plan
    }

    /// Calls `choose` with every callsite that the filter selects, some perhaps twice.
    pub(super) fn select(
        &mut self,
        filter: &Filter<'_>,
        mut choose: impl FnMut(&mut Table, usize),
    ) -> Result<(), RegisterError> {
        let positive = |rule: &Rule<'_>| rule.sign == Sign::Select;
        if filter.rules().is_empty() {
            (0..self.table.len()).for_each(|index| choose(&mut self.table, index));
            return Ok(());
        }
        if !filter.rules().iter().any(positive) {
            for index in 0..self.table.len() {
                if self.selects(index, |name, function| filter.selects(name, function)) {
                    choose(&mut self.table, index);
                }
            }
            return Ok(());
        }
        for (number, rule) in filter.rules().iter().enumerate().filter(|(_, rule)| positive(rule)) {
            let mut matched = false;
            for index in self.candidates(rule) {
                if self.selects(index, |name, function| rule.matches(name, function)) {
                    matched = true;
                    if !self.selects(index, |name, function| filter.takes_away(name, function)) {
                        choose(&mut self.table, index);
                    }
                }
            }
            if !matched {
                return Err(RegisterError::NothingSelected { rule: number });
            }
        }
        Ok(())
    }

    /// The callsites that a rule can match: all for a glob, the few that have the name or the address else.
    pub(super) fn candidates(&self, rule: &Rule<'_>) -> Range<usize> {
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
    pub(super) fn selects(&self, index: usize, matches: impl FnOnce(Option<&str>, TextAddr) -> bool) -> bool {
        let Some(callsite) = self.table.callsite(index) else { return false };
        matches(self.name(callsite.function()), callsite.function())
    }

    /// Whether every planned change can be made: if the first and the last callsite reach the target, all between do.
    fn check(&self, plan: &Plan) -> Result<(), StateError> {
        let (first, last) = (plan.span.start, plan.span.end.saturating_sub(1));
        [first, last]
            .into_iter()
            .filter_map(|index| self.table.get(index))
            .try_for_each(|record| self.change(&record.callsite(self.text.start), record).map(drop))
    }

    /// Has the plan's changes made, and commits or withdraws it.
    pub(super) fn carry_out(&mut self, plan: &Plan, poke: TextPoke<'_>, machine: Cpu) -> Result<(), RegisterError> {
        // SAFETY: callsites lie inside the text, which `Image::new`'s caller promises to be mapped.
        let result = unsafe { poke.apply_live(&Planned { registry: self, span: plan.span.clone() }) };
        let Err(error) = result else {
            self.table.update_all(plan.span.clone(), Record::commit);
            return Ok(());
        };
        match error.undone {
            Undone::AllBut(_) => self.believe_the_text(plan, machine),
            Undone::Entirely | Undone::Unconfirmed => self.withdraw(plan),
        }
        // No one function is to blame for a CPU that doesn't answer.
        let function = if matches!(error.cause, PokeCause::Cpu(_)) { None } else { self.name(error.at) };
        Err(RegisterError::Text { error, function })
    }

    fn withdraw(&mut self, plan: &Plan) {
        self.table.update_all(plan.span.clone(), Record::withdraw);
    }

    /// Commits what of a plan the text says was done, and withdraws the rest.
    fn believe_the_text(&mut self, plan: &Plan, machine: Cpu) {
        for index in plan.span.clone() {
            let Some(record) = self.table.get(index) else { continue };
            let done = self.text_state(&record.callsite(self.text.start), machine) == Ok(self.state(record.next()));
            self.table.update(index, if done { Record::commit } else { Record::withdraw });
        }
    }

    /// The change that takes a callsite from what it calls to what it shall call.
    pub(super) fn change(&self, callsite: &Callsite, record: Record) -> Result<Change<LiveWord>, StateError> {
        let now = self.state(record.now());
        match (self.target(record.next()), now) {
            (None, _) => callsite.disable(now),
            (Some(target), State::Enabled(_)) => callsite.retarget(now, target),
            (Some(target), _) => callsite.enable(now, target),
        }
    }

    /// The same for a record that [`check`](Self::check) has answered for: without the errors, in a few instructions.
    #[inline]
    fn planned_change(&self, record: Record) -> Change<LiveWord> {
        let at = record.call_addr(self.text.start);
        let word = |target| self.target(target).map_or(LiveWord::NOP, |target| LiveWord::bl_within_reach(at, target));
        Change { at, old: word(record.now()), new: word(record.next()) }
    }

    /// The state that a callsite with this target is in.
    pub(super) fn state(&self, target: Target) -> State {
        self.target(target).map_or(State::Disabled, State::Enabled)
    }

    /// The address that a target stands for.
    #[inline]
    pub(super) fn target(&self, target: Target) -> Option<TextAddr> {
        match target {
            Target::CALLER => Some(self.stubs.caller.entry),
            Target::REGS_CALLER => Some(self.stubs.regs_caller.entry),
            _ => None,
        }
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
        // SAFETY: inside the text, which `Image::new`'s caller promises to be mapped, and aligned: callsites were decoded
        // from there.
        unsafe { machine.load(at) }
    }

    pub(super) fn name(&self, addr: TextAddr) -> Option<&'static str> {
        self.symbols.and_then(|symbols| symbols.lookup_addr(addr.get())).map(|found| found.symbol.name)
    }
}

/// The changes of a plan.
struct Planned<'a> {
    registry: &'a Registry,
    span: Range<usize>,
}

impl Batch<LiveWord> for Planned<'_> {
    #[inline]
    fn changes(&self) -> impl Iterator<Item = Change<LiveWord>> {
        let registry = self.registry;
        registry.table.differing(self.span.clone()).map(|record| registry.planned_change(record))
    }

    #[inline]
    fn addresses(&self) -> impl Iterator<Item = TextAddr> {
        let start = self.registry.text.start;
        self.registry.table.differing(self.span.clone()).map(move |record| record.call_addr(start))
    }
}
