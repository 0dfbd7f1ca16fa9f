//! One region: a contiguous piece of text, its callsites, and the changes that are planned for them.
//!
//! A plan is written into the table itself (what each callsite shall call next), so that none needs memory of its
//! own; carried out, it becomes what each calls now, and given up, it is forgotten.

use super::change::{Refused, SetChange};
use super::error::InitError;
use super::image::Image;
use super::sets::{Destination, SetError, Sets};
use super::veneers::{VeneerError, Veneers};
use crate::address::{TextAddr, TextRange};
use crate::callsite::table::{CallsiteRecord, InitCounts, Planned, Run, SetId, Slots, Table, TableError};
use crate::callsite::veneer::reaches;
use crate::callsite::{Callsite, LiveWord, OutOfReach, State, WordChange};
use crate::filter::{Filter, Pattern, Rule};
#[cfg(feature = "module")]
use crate::symbols::OwnedSymbols;
use crate::symbols::{Cursor, Names, Symbols};
#[cfg(target_os = "none")]
use crate::text::Machine as _;
use crate::text::{Cpu, TextPoke};
#[cfg(feature = "module")]
use alloc::boxed::Box;
use core::ops::{ControlFlow, Range};

/// The functions that return twice to one call, by the names that compilers know as well (GCC's `special_function_p`).
const RETURNING_TWICE: [&str; 11] = [
    "setjmp",
    "_setjmp",
    "__setjmp",
    "sigsetjmp",
    "_sigsetjmp",
    "__sigsetjmp",
    "savectx",
    "vfork",
    "__vfork",
    "getcontext",
    "__getcontext",
];

/// A function whose return can't be hooked was asked for.
pub(super) struct ReturnsTwice {
    pub(super) function: TextAddr,
    pub(super) name: &'static str,
}

/// A piece of text with its callsites.
pub(super) struct Region {
    pub(super) text: TextRange,
    pub(super) excluded: TextRange,
    pub(super) table: Table,
    pub(super) origin: Origin,
    /// Where stubs are out of BL's reach.
    pub(super) veneers: Option<Veneers>,
    /// The records between which there are planned changes.
    pub(super) planned: Planned,
}

/// Whose text it is, and the names in it.
pub(super) enum Origin {
    /// The kernel's own, which is there for ever.
    Kernel(Option<Symbols<'static>>),
    /// A module's, which goes when the region does.
    #[cfg(feature = "module")]
    Module {
        /// Of the region's token: text is freed and reused, so its address doesn't tell what is there.
        number: u64,
        name: Box<str>,
        symbols: Option<OwnedSymbols>,
    },
}

impl Origin {
    #[inline(always)]
    pub(super) fn symbols(&self) -> Option<&Symbols<'_>> {
        match self {
            Self::Kernel(symbols) => symbols.as_ref(),
            #[cfg(feature = "module")]
            Self::Module { symbols, .. } => symbols.as_ref().map(OwnedSymbols::get),
        }
    }

    /// The names of functions, for asking for one after the other.
    #[inline(always)]
    fn names(&self) -> FunctionNames<'_> {
        FunctionNames(self.symbols().map(Symbols::cursor))
    }

    /// The name of the module that it belongs to.
    fn module(&self) -> Option<&str> {
        match self {
            Self::Kernel(_) => None,
            #[cfg(feature = "module")]
            Self::Module { name, .. } => Some(name),
        }
    }
}

impl Region {
    /// The kernel's own text.
    pub(super) fn of_image(image: Image, machine: Cpu) -> Result<(Self, InitCounts), InitError> {
        let Image { text, excluded, section, section_bytes, encoding, layout, symbols, .. } = image;
        if !section.is_aligned() || !section_bytes.is_multiple_of(size_of::<u64>()) {
            let error = TableError::Truncated { start: section.addr() as u64, bytes: section_bytes };
            return Err(InitError::Table(error));
        }
        if section.is_null() {
            return Err(InitError::Table(TableError::Empty));
        }
        // SAFETY: `Image::new`'s caller gave the section to the engine; alignment was looked at.
        let slots = unsafe { core::slice::from_raw_parts_mut(section, section_bytes / size_of::<u64>()) };
        let slots = Slots::Section(slots);
        let read = |at| {
            // SAFETY: the table asks for aligned addresses inside `text` only, which `Image::new`'s caller promises to be
            // mapped.
            unsafe { machine.load(at) }
        };
        let (table, counts) =
            Table::build(text, excluded, slots, encoding, layout, symbols, read).map_err(InitError::Table)?;
        if counts.accepted == 0 {
            let first = table.refused(excluded, symbols, read).next();
            table.dissolve();
            let InitCounts { refused, excluded, .. } = counts;
            return Err(InitError::Table(TableError::NothingAccepted { refused, excluded, first }));
        }
        let origin = Origin::Kernel(symbols);
        Ok((Self { text, excluded, table, origin, veneers: None, planned: Planned::NONE }, counts))
    }

    /// A module's text.
    #[cfg(feature = "module")]
    pub(super) const fn of_module(text: TextRange, table: Table, veneers: Option<Veneers>, origin: Origin) -> Self {
        Self { text, excluded: TextRange::EMPTY, table, origin, veneers, planned: Planned::NONE }
    }

    /// Whether this token's number is the region's.
    #[cfg(feature = "module")]
    pub(super) const fn is_of(&self, token: u64) -> bool {
        matches!(self.origin, Origin::Module { number, .. } if number == token)
    }

    /// What makes every callsite ready: MOV X9, LR.
    #[inline]
    pub(super) fn to_ready(&self) -> impl Iterator<Item = WordChange<u32>> {
        let callsites = self.table.records(0..self.table.len()).map(|record| record.callsite(self.text.start));
        callsites.map(|callsite| callsite.made_ready())
    }

    /// What makes every callsite as the compiler left it again.
    #[cfg(feature = "module")]
    pub(super) fn to_compiled(&self) -> impl Iterator<Item = WordChange<u32>> {
        self.to_ready().map(WordChange::reversed)
    }

    /// No callsite has a set any more, whatever its text says: nobody will run it.
    #[cfg(feature = "module")]
    pub(super) fn give_up(&mut self, sets: &mut Sets) {
        for index in 0..self.table.len() {
            self.table.update(index, |record| {
                sets.count(record.now(), SetId::NONE, u32::from(record.now() != SetId::NONE));
                *record = record.with_both(SetId::NONE);
            });
        }
    }

    /// Changes what is planned for the callsite at `index`; how many planned changes that adds. Of a region's parts, so that
    /// its names can be walked meanwhile.
    fn plan(
        table: &mut Table,
        planned: &mut Planned,
        index: usize,
        change: &mut SetChange<'_>,
    ) -> Result<usize, Refused> {
        let Some(record) = table.get(index).filter(|record| !record.is_quarantined()) else { return Ok(0) };
        let next = change.next(record.next()).map_err(|error| refused(table, index, error))?;
        if record.next() == next {
            return Ok(0);
        }
        planned.add(table.plan(index, next));
        Ok(1)
    }

    /// Changes what is planned for every callsite; how many planned changes that adds.
    pub(super) fn plan_all(&mut self, change: &mut SetChange<'_>) -> Result<usize, Refused> {
        self.plan_span(0..self.table.len(), change)
    }

    /// The same for the callsites inside `range`.
    pub(super) fn plan_range(&mut self, range: TextRange, change: &mut SetChange<'_>) -> Result<usize, Refused> {
        self.plan_span(self.table.span(range), change)
    }

    /// The same for the callsites of which a part is inside `range`.
    pub(super) fn plan_within(&mut self, range: TextRange, change: &mut SetChange<'_>) -> Result<(), Refused> {
        self.plan_span(self.table.within(range), change).map(drop)
    }

    fn plan_span(&mut self, span: Range<usize>, change: &mut SetChange<'_>) -> Result<usize, Refused> {
        match self.table.plan_all(span.clone(), |from| change.next(from)) {
            Ok((planned, count)) => {
                self.planned.add(planned);
                Ok(count)
            }
            Err((index, error)) => {
                self.planned.add(Planned::within(span.start..index));
                Err(refused(&self.table, index, error))
            }
        }
    }

    /// Changes what is planned for every callsite that the filter selects here, if any.
    #[cfg(feature = "module")]
    pub(super) fn plan_filter(&mut self, filter: &Filter<'_>, change: &mut SetChange<'_>) -> Result<usize, Refused> {
        if filter.rules().is_empty() { self.plan_all(change) } else { self.plan_selected(filter, change) }
    }

    /// Changes what is planned for every callsite that the filter as a whole selects.
    pub(super) fn plan_selected(&mut self, filter: &Filter<'_>, change: &mut SetChange<'_>) -> Result<usize, Refused> {
        let Self { table, planned, origin, .. } = self;
        let (mut changes, mut names) = (0, origin.names());
        for index in 0..table.len() {
            let Some(function) = function(table, index) else { continue };
            if filter.selects(names.of(function), function, origin.module()) {
                changes += Self::plan(table, planned, index, change)?;
            }
        }
        Ok(changes)
    }

    /// Changes what is planned for every callsite that `rule` selects and `filter` does not take away; whether the rule
    /// matched any, and how many planned changes that adds.
    pub(super) fn plan_rule(
        &mut self,
        rule: &Rule<'_>,
        filter: &Filter<'_>,
        change: &mut SetChange<'_>,
    ) -> Result<(bool, usize), Refused> {
        if !rule.concerns(self.origin.module()) {
            return Ok((false, 0));
        }
        let candidates = self.candidates(rule);
        let Self { table, planned, origin, .. } = self;
        let (mut matched, mut changes, mut names) = (false, 0, origin.names());
        // An address is its own candidate; a name is looked up only where it decides.
        let by_address = matches!(rule.pattern, Pattern::Address(_));
        let by_name = !by_address || filter.any_takes_away();
        for index in candidates {
            if table.get(index).is_none_or(CallsiteRecord::is_quarantined) {
                continue;
            }
            let Some(function) = function(table, index) else { continue };
            let aliases = if by_name { names.of(function) } else { Aliases(None) };
            if by_address || rule.matches(aliases.clone(), function) {
                matched = true;
                if !filter.any_takes_away() || !filter.takes_away(aliases, function, origin.module()) {
                    changes += Self::plan(table, planned, index, change)?;
                }
            }
        }
        Ok((matched, changes))
    }

    /// Whether the rule matches a callsite.
    pub(super) fn has(&self, rule: &Rule<'_>) -> bool {
        if !rule.concerns(self.origin.module()) {
            return false;
        }
        let mut names = self.origin.names();
        let mut functions = self.candidates(rule).filter_map(|index| function(&self.table, index));
        functions
            .any(|function| matches!(rule.pattern, Pattern::Address(_)) || rule.matches(names.of(function), function))
    }

    /// Whether a function with a planned change returns twice to one call.
    pub(super) fn plans_returning_twice(&self) -> bool {
        let Some(symbols) = self.origin.symbols() else { return false };
        let mut names = self.planned_callsites().flat_map(|(_, callsite)| symbols.names_at(callsite.function().get()));
        names.any(|name| RETURNING_TWICE.contains(&name))
    }

    /// Plans that functions which return twice to one call lose an ops that hooks returns; how many planned changes that
    /// takes away.
    ///
    /// # Errors
    ///
    /// A rule of the filter asks for such a function by its name or its address.
    pub(super) fn plan_returning_twice(
        &mut self,
        filter: &Filter<'_>,
        change: &mut SetChange<'_>,
    ) -> Result<usize, ReturnsTwice> {
        let Self { table, planned, origin, .. } = self;
        let Some(symbols) = origin.symbols() else { return Ok(0) };
        let mut taken_away = 0;
        for name in RETURNING_TWICE {
            for symbol in symbols.lookup_name(name) {
                let function = TextAddr::new(symbol.addr);
                let Some(index) = table.find(function) else { continue };
                // Taking an ops away excludes nothing.
                if Self::plan(table, planned, index, change) != Ok(1) {
                    continue;
                }
                if filter.asks_for(name, function) {
                    return Err(ReturnsTwice { function, name });
                }
                taken_away += 1;
            }
        }
        Ok(taken_away)
    }

    /// The callsites that a rule can match: all for a glob, the few that have the name or the address else.
    fn candidates(&self, rule: &Rule<'_>) -> Range<usize> {
        let at = |addr| self.table.find(addr).map_or(0..0, |index| index..index + 1);
        match rule.pattern {
            Pattern::Glob(_) => 0..self.table.len(),
            Pattern::Address(addr) => at(addr),
            Pattern::Name(name) => {
                // Instances of one generic function share a name; they need not be neighbours.
                let mut all = 0..0;
                let Some(symbols) = self.origin.symbols() else { return all };
                for symbol in symbols.lookup_name(name) {
                    let one = at(TextAddr::new(symbol.addr));
                    if all.is_empty() {
                        all = one;
                    } else if !one.is_empty() {
                        all = all.start.min(one.start)..all.end.max(one.end);
                    }
                }
                all
            }
        }
    }

    /// Whether every planned change can be made. Where the first and the last callsite reach all of the room that stubs
    /// are in, all between reach every stub.
    pub(super) fn check(&self, sets: &Sets) -> Result<(), OutOfReach> {
        let room = self.veneers.as_ref().map_or(sets.room.text(), Veneers::room);
        let reaches_room = |at| reaches(at, room.start) && reaches(at, room.end.offset(-4));
        let text = self.planned_text();
        if text.is_empty() || (reaches_room(text.start) && reaches_room(text.end.offset(-4))) {
            return Ok(());
        }
        let mut records = self.table.records(self.planned.span.clone()).filter(|record| record.differs());
        records.try_for_each(|record| {
            let callsite = record.callsite(self.text.start);
            match self.destination(sets, record.next()).from(callsite.call_addr()) {
                Some(target) => callsite.check_reach(target),
                None => Ok(()),
            }
        })
    }

    /// Where the callsites of a set go from here.
    #[inline]
    pub(super) fn destination(&self, sets: &Sets, target: SetId) -> Destination {
        match (&self.veneers, sets.destination(target)) {
            (None, destination) => destination,
            (Some(veneers), destination) => veneers.instead_of(target, destination),
        }
    }

    /// The state that a callsite of a set is in.
    pub(super) fn state(&self, sets: &Sets, record: CallsiteRecord) -> State {
        let at = record.call_addr(self.text.start);
        self.destination(sets, record.now()).from(at).map_or(State::Disabled, State::Enabled)
    }

    /// Calls `each` with the planned changes, as words, until it breaks. [`check`](Self::check) has answered for them.
    #[inline]
    pub(super) fn for_each_change<B>(
        &self,
        sets: &Sets,
        mut each: impl FnMut(WordChange<LiveWord>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for run in self.table.runs(&self.planned) {
            let (now, next) = (self.destination(sets, run.now), self.destination(sets, run.next));
            // Where the place differs from callsite to callsite, each is worked out for itself.
            let at_once = if now.is_one() && next.is_one() { usize::MAX } else { 1 };
            for piece in run.pieces(at_once) {
                let Some(first) = piece.call_addrs().next() else { continue };
                let (nop, bl) = (|_| LiveWord::NOP, |target| move |at| LiveWord::bl_within_reach(at, target));
                // A loop for each case, so that none decides anything for each callsite.
                match (now.from(first), next.from(first)) {
                    (None, None) => {}
                    (None, Some(new)) => for_each_of(&piece, nop, bl(new), &mut each)?,
                    (Some(old), None) => for_each_of(&piece, bl(old), nop, &mut each)?,
                    (Some(old), Some(new)) => for_each_of(&piece, bl(old), bl(new), &mut each)?,
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The same for their addresses alone.
    #[inline]
    pub(super) fn for_each_address<B>(&self, mut each: impl FnMut(TextAddr) -> ControlFlow<B>) -> ControlFlow<B> {
        for run in self.table.runs(&self.planned) {
            for at in run.call_addrs() {
                each(at)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The callsites with planned changes, and what set each shall have.
    pub(super) fn planned_callsites(&self) -> impl Iterator<Item = (SetId, Callsite)> {
        let records = self.table.records(self.planned.span.clone()).filter(|record| record.differs());
        records.map(|record| (record.next(), record.callsite(self.text.start)))
    }

    /// Whether a callsite shall have this set that doesn't yet.
    pub(super) fn plans(&self, set: SetId) -> bool {
        self.table.runs(&self.planned).any(|run| run.next == set)
    }

    /// Makes a veneer for every set that a planned change needs one for.
    pub(super) fn make_veneers(&mut self, sets: &Sets, poke: TextPoke<'_>) -> Result<(), VeneerError> {
        let Some(veneers) = &mut self.veneers else { return Ok(()) };
        self.table.runs(&self.planned).try_for_each(|run| veneers.make(run.next, sets.destination(run.next), poke))
    }

    /// The part of the text between the first and the last callsite with a planned change.
    pub(super) fn planned_text(&self) -> TextRange {
        let mut text = TextRange::EMPTY;
        let at = |index| self.table.get(index).map(|record| record.call_addr(self.text.start));
        let Range { start, end } = self.planned.span;
        if let (true, Some(first)) = (start < end, at(start))
            && let Some(last) = at(end - 1)
        {
            text = TextRange::new(first, last.offset(4));
        }
        text
    }

    /// The plan was carried out; how many callsites it changed.
    pub(super) fn commit(&mut self, sets: &mut Sets) -> u64 {
        let (veneers, mut changed) = (&mut self.veneers, 0);
        self.table.commit(&self.planned, |from, to, callsites| {
            changed += u64::from(callsites);
            sets.count(from, to, callsites);
            if let Some(veneers) = veneers {
                veneers.count(from, to, callsites);
            }
        });
        self.planned = Planned::NONE;
        changed
    }

    /// The plan was given up.
    pub(super) fn withdraw(&mut self) {
        self.table.withdraw(&self.planned);
        self.planned = Planned::NONE;
    }

    /// The plan was carried out in part: commits what the text says was done, and withdraws the rest.
    pub(super) fn resync_from_text(&mut self, sets: &mut Sets, machine: Cpu) {
        for index in core::mem::take(&mut self.planned).span {
            let Some(record) = self.table.get(index).filter(|record| record.differs()) else { continue };
            let callsite = record.callsite(self.text.start);
            let next = self.destination(sets, record.next()).from(callsite.call_addr());
            let done = self.text_state(&callsite, machine) == Ok(next.map_or(State::Disabled, State::Enabled));
            if done {
                sets.count(record.now(), record.next(), 1);
                if let Some(veneers) = &mut self.veneers {
                    veneers.count(record.now(), record.next(), 1);
                }
            }
            self.table.update(index, |record| *record = if done { record.committed() } else { record.withdrawn() });
        }
    }

    /// The records of these indices with their callsites.
    pub(super) fn callsites(&self, span: Range<usize>) -> impl Iterator<Item = (CallsiteRecord, Callsite)> {
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

    /// The names of functions, for asking for one after the other.
    pub(super) fn names(&self) -> FunctionNames<'_> {
        self.origin.names()
    }

    pub(super) fn name(&self, addr: TextAddr) -> Option<&str> {
        self.origin.symbols().and_then(|symbols| symbols.lookup_addr(addr.get())).map(|found| found.symbol.name)
    }

    /// The same if the name is there for ever: that of a function of the kernel's own.
    pub(super) fn permanent_name(&self, addr: TextAddr) -> Option<&'static str> {
        match &self.origin {
            Origin::Kernel(symbols) => symbols.as_ref()?.lookup_addr(addr.get()).map(|found| found.symbol.name),
            #[cfg(feature = "module")]
            Origin::Module { .. } => None,
        }
    }
}

/// The function of the callsite at `index`.
#[inline]
fn function(table: &Table, index: usize) -> Option<TextAddr> {
    table.callsite(index).map(|callsite| callsite.function())
}

/// The callsite at `index`, which is there, can't be changed so.
fn refused(table: &Table, index: usize, error: SetError) -> Refused {
    Refused { function: function(table, index).unwrap_or(TextAddr::new(0)), error }
}

/// Calls `each` with a change of every callsite of the run.
#[inline]
fn for_each_of<B>(
    run: &Run<'_>,
    old: impl Fn(TextAddr) -> LiveWord,
    new: impl Fn(TextAddr) -> LiveWord,
    each: &mut impl FnMut(WordChange<LiveWord>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    for at in run.call_addrs() {
        each(WordChange { at, old: old(at), new: new(at) })?;
    }
    ControlFlow::Continue(())
}

/// The names of a region's functions, one after the other: in the order of their addresses, none is searched for.
pub(super) struct FunctionNames<'a>(Option<Cursor<'a>>);

impl<'a> FunctionNames<'a> {
    /// All names of a function.
    #[inline(always)]
    pub(super) fn of(&mut self, function: TextAddr) -> Aliases<'_, 'a> {
        Aliases(self.0.as_mut().map(|cursor| cursor.names_at(function.get())))
    }
}

/// The names of one function; none where there are no symbols.
#[derive(Clone)]
pub(super) struct Aliases<'c, 'a>(Option<Names<'c, 'a>>);

impl<'a> Iterator for Aliases<'_, 'a> {
    type Item = &'a str;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a str> {
        self.0.as_mut()?.next()
    }
}
