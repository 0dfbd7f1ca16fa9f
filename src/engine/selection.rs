//! Planning inside one region: which of its callsites a filter selects, and what is planned for them.
//!
//! Names are walked beside the callsites, both in the order of their addresses, so that none is searched for.

use super::change::{Refused, SetChange};
use super::names::Aliases;
use super::region::Region;
use super::sets::Conflict;
use crate::address::{TextAddr, TextRange};
use crate::callsite::table::{CallsiteRecord, Planned, Table};
use crate::filter::{Filter, Pattern, Rule};
use core::ops::Range;

/// The functions that return twice to one call, by the names that compilers know as well (GCC's `special_function_p`).
static RETURNING_TWICE: [&str; 11] = [
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

/// The filter asks for a function whose return can't be hooked.
pub(super) struct ReturnsTwice {
    pub(super) function: TextAddr,
    pub(super) name: &'static str,
}

impl Region {
    /// Changes what is planned for the callsite at `index`; returns how many planned changes that adds. Takes the region's
    /// parts, so that its names can be walked meanwhile.
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

    /// Changes what is planned for every callsite; returns how many planned changes that adds.
    pub(super) fn plan_all(&mut self, change: &mut SetChange<'_>) -> Result<usize, Refused> {
        self.plan_span(0..self.table.len(), change)
    }

    /// Changes what is planned for the callsites inside `range`; returns how many planned changes that adds.
    pub(super) fn plan_range(&mut self, range: TextRange, change: &mut SetChange<'_>) -> Result<usize, Refused> {
        self.plan_span(self.table.span(range), change)
    }

    /// Changes what is planned for the callsites of which a part is inside `range`.
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

    /// Changes what is planned for every callsite that `rule` selects and `filter` does not take away; returns whether the
    /// rule matched any, and how many planned changes that adds.
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
            let aliases = if by_name { names.of(function) } else { Aliases::NONE };
            if by_address || rule.matches(aliases.clone(), function) {
                matched = true;
                if !filter.any_takes_away() || !filter.takes_away(&aliases, function, origin.module()) {
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

    /// Plans that functions which return twice to one call lose an ops that hooks returns; returns how many planned changes
    /// that takes away.
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
        for &name in &RETURNING_TWICE {
            for function in symbols.addresses_of(name).map(TextAddr::new) {
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

    /// The callsites that a rule can match: all for a glob, else the few that have the name or the address.
    fn candidates(&self, rule: &Rule<'_>) -> Range<usize> {
        let at = |addr| self.table.find(addr).map_or(0..0, |index| index..index + 1);
        match rule.pattern {
            Pattern::Glob(_) => 0..self.table.len(),
            Pattern::Address(addr) => at(addr),
            Pattern::Name(name) => {
                // Instances of one generic function share a name; they need not be neighbours.
                let mut all = 0..0;
                let Some(symbols) = self.origin.symbols() else { return all };
                for addr in symbols.addresses_of(name) {
                    let one = at(TextAddr::new(addr));
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
}

/// The function of the callsite at `index`.
#[inline]
fn function(table: &Table, index: usize) -> Option<TextAddr> {
    table.callsite(index).map(|callsite| callsite.function())
}

/// Makes the error of the callsite at `index`.
fn refused(table: &Table, index: usize, _: Conflict) -> Refused {
    Refused { function: function(table, index).unwrap_or(TextAddr::new(0)) }
}
