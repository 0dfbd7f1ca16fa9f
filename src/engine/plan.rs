//! Planning: what set each callsite shall have next, so that every ops is called where its filter says.
//!
//! A plan needs no memory of its own: it is the second field of each callsite's record ([`Region`] has the part that is
//! done in one region). [`Plan`] is the guard around it. Whatever returns early on the way, dropping it discards what was
//! planned, and with it the sets that were only thought of.

use super::change::{Refused, SetChange};
use super::error::RegisterError;
use super::region::Region;
use super::registry::{Failed, Registry};
use super::selection::ReturnsTwice;
use super::spans::Spans;
use crate::address::TextRange;
use crate::filter::{Filter, Pattern, Rule, Sign};
use crate::ops::Action;

/// Changes that are planned, and discarded if they are not carried out.
pub(super) struct Plan<'r> {
    pub(super) registry: &'r mut Registry,
    pub(super) is_carried_out: bool,
}

impl Drop for Plan<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_carried_out {
            self.discard();
        }
    }
}

impl<'r> Plan<'r> {
    /// No changes yet.
    pub(super) const fn new(registry: &'r mut Registry) -> Self {
        Self { registry, is_carried_out: false }
    }

    #[cold]
    #[inline(never)]
    fn discard(&mut self) {
        self.registry.regions.iter_mut().for_each(Region::discard_plan);
        self.registry.sets.forget_unmade();
    }

    /// Plans the ops of this number for every callsite that the filter selects; returns how many those are.
    #[inline(never)]
    pub(super) fn add(&mut self, number: usize, filter: &Filter<'_>) -> Result<usize, Failed> {
        let Registry { regions, members, sets, .. } = &mut *self.registry;
        let selected = match select(regions, filter, &mut SetChange::adding(sets, members, number)) {
            Ok(selected) => selected,
            Err(error) => return Err(self.selection_failure(error, filter)),
        };
        if let Some(needed) = self.registry.sets.needed() {
            return Err(self.registry.fail(|| RegisterError::TooManySets { needed }));
        }
        let count = selected - self.leave_out_returning_twice(number, filter, selected)?;
        self.check_counters(number)?;
        if count == 0 && !filter.awaits_module() {
            return Err(self.registry.fail(|| RegisterError::EmptySelection));
        }
        self.note_spans(number);
        Ok(count)
    }

    #[cold]
    #[inline(never)]
    fn selection_failure(&mut self, error: SelectError, filter: &Filter<'_>) -> Failed {
        let error = match error {
            SelectError::NothingSelected(rule) | SelectError::NothingTakenAway(rule)
                if filter.rules().get(rule).is_some_and(|rule| self.lacks_names(rule)) =>
            {
                RegisterError::NoNames { rule }
            }
            SelectError::NothingSelected(rule) => RegisterError::NothingSelected { rule },
            SelectError::NothingTakenAway(rule) => RegisterError::NothingTakenAway { rule },
            SelectError::Refused(refused) => return self.refusal(refused),
        };
        self.registry.fail(|| error)
    }

    /// Whether a rule asks for a name where nothing has any.
    fn lacks_names(&self, rule: &Rule<'_>) -> bool {
        let origins = || self.registry.regions.iter().map(|region| &region.origin);
        let mut concerned = origins().filter(|origin| rule.concerns(origin.module())).peekable();
        let asks = !matches!(rule.pattern, Pattern::Address(_)) && concerned.peek().is_some();
        asks && concerned.all(|origin| origin.symbols().is_none())
    }

    /// Plans that no callsite has the ops of this number; returns how many lose it.
    #[inline(never)]
    pub(super) fn remove(&mut self, number: usize) -> Result<usize, Failed> {
        let Registry { regions, members, sets, .. } = &mut *self.registry;
        let Some(spans) = members.get(number).map(|member| &member.spans) else { return Ok(0) };
        let planned = plan_spans(regions, spans, &mut SetChange::removing(sets, members, number));
        planned.map_err(|refused| self.refusal(refused))
    }

    /// Plans the successor for every callsite that has the ops of this number.
    #[inline(never)]
    pub(super) fn replace(&mut self, number: usize, successor: usize) -> Result<(), Failed> {
        let Registry { regions, members, sets, .. } = &mut *self.registry;
        let Some(spans) = members.get(number).map(|member| &member.spans) else { return Ok(()) };
        let planned = plan_spans(regions, spans, &mut SetChange::replacing(sets, members, number, successor));
        planned.map_err(|refused| self.refusal(refused))?;
        self.note_spans(successor);
        Ok(())
    }

    /// Plans that no callsite of which a part is inside `range` has any ops.
    pub(super) fn clear(&mut self, range: TextRange) -> Result<(), Failed> {
        let Registry { regions, members, sets, .. } = &mut *self.registry;
        let mut change = SetChange::clearing(sets, members);
        let planned = regions.iter_mut().try_for_each(|region| region.plan_within(range, &mut change));
        planned.map_err(|refused| self.refusal(refused))
    }

    /// Removes the functions whose returns can't be hooked from the plan of `count` changes, if the ops of this number hooks
    /// returns; returns how many planned changes that removes.
    #[inline(never)]
    fn leave_out_returning_twice(&mut self, number: usize, filter: &Filter<'_>, count: usize) -> Result<usize, Failed> {
        let Registry { regions, members, sets, .. } = &mut *self.registry;
        if members.get(number).is_none_or(|member| member.hook.is_none()) {
            return Ok(0);
        }
        // A few planned functions are looked at one by one; of many, those are looked for that have such a name.
        const FEW: usize = 8;
        if count <= FEW && !regions.iter().any(Region::plans_returning_twice) {
            return Ok(0);
        }
        let mut change = SetChange::removing(sets, members, number);
        let mut left_out = 0;
        for region in regions {
            match region.plan_returning_twice(filter, &mut change) {
                Ok(here) => left_out += here,
                Err(ReturnsTwice { function, name }) => {
                    return Err(self.registry.fail(|| RegisterError::ReturnsTwice { function, name }));
                }
            }
        }
        Ok(left_out)
    }

    /// Checks that every callsite that is planned to have the ops of this number has a counter, if the ops needs one.
    #[inline(never)]
    fn check_counters(&mut self, number: usize) -> Result<(), Failed> {
        let Registry { regions, members, sets, .. } = &*self.registry;
        let Some(Action::CountCallsites(hits)) = members.get(number).map(|member| member.action) else {
            return Ok(());
        };
        let uncounted = regions.iter().find_map(|region| {
            let mut planned = region.planned_callsites().filter(|(next, _)| sets.has(*next, number));
            planned.find(|(_, callsite)| !hits.covers(callsite.call_addr()))
        });
        let Some((_, callsite)) = uncounted else { return Ok(()) };
        let function = callsite.function();
        let name = self.registry.name(function);
        Err(self.registry.fail(|| RegisterError::NoCounter { function, name }))
    }

    /// Adds where the planned changes are to where this ops's callsites are.
    #[inline(never)]
    fn note_spans(&mut self, number: usize) {
        let Some(member) = self.registry.members.get_mut(number) else { return };
        for region in &self.registry.regions {
            member.spans.add(region.planned_text());
        }
    }

    #[cold]
    #[inline(never)]
    fn refusal(&mut self, Refused { function }: Refused) -> Failed {
        let name = self.registry.name(function);
        self.registry.fail(|| RegisterError::Conflict { function, name })
    }
}

/// Why a filter's callsites were not all planned.
enum SelectError {
    NothingSelected(usize),
    NothingTakenAway(usize),
    Refused(Refused),
}

impl From<Refused> for SelectError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Plans a change for every callsite that the filter selects; returns how many planned changes that adds.
fn select(regions: &mut [Region], filter: &Filter<'_>, change: &mut SetChange<'_>) -> Result<usize, SelectError> {
    let positive = |rule: &Rule<'_>| rule.sign == Sign::Select;
    let mut changes = 0;
    if filter.rules().is_empty() {
        for region in regions {
            changes += region.plan_all(change)?;
        }
        return Ok(changes);
    }
    let unmet = |rule: &Rule<'_>| !rule.awaits_module() && !regions.iter().any(|region| region.has(rule));
    let mut negative = filter.rules().iter().enumerate().filter(|(_, rule)| !positive(rule));
    if let Some((number, _)) = negative.find(|(_, rule)| unmet(rule)) {
        return Err(SelectError::NothingTakenAway(number));
    }
    if !filter.rules().iter().any(positive) {
        for region in regions {
            changes += region.plan_selected(filter, change)?;
        }
        return Ok(changes);
    }
    for (number, rule) in filter.rules().iter().enumerate().filter(|(_, rule)| positive(rule)) {
        let mut matched = false;
        for region in &mut *regions {
            let (matched_here, changes_here) = region.plan_rule(rule, filter, change)?;
            matched |= matched_here;
            changes += changes_here;
        }
        if !matched && !rule.awaits_module() {
            return Err(SelectError::NothingSelected(number));
        }
    }
    Ok(changes)
}

/// Plans a change for every callsite in these spans; returns how many planned changes that adds.
fn plan_spans(regions: &mut [Region], spans: &Spans, change: &mut SetChange<'_>) -> Result<usize, Refused> {
    let mut changes = 0;
    for region in regions {
        let text = region.text;
        for span in spans.iter().filter(|span| span.start < text.end && text.start < span.end) {
            changes += region.plan_range(span, change)?;
        }
    }
    Ok(changes)
}
