//! Files about the graph: below which functions it is, and below which it is not.

use crate::control::files::functions::list_rules;
use crate::control::line::{Redirection, Value};
use crate::control::reason::{Reason, Refusal};
use crate::control::rules::{GRAPH_RULES_BYTES, Rules};
use crate::control::state::{Chosen, State};
use crate::filter::Rule;
use crate::tracer::under::MAX_UNDER;
use core::fmt::Write;

pub(super) fn function<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list_rules(state, &state.chosen.under, "#### all functions enabled ####", out)
}

pub(super) fn notrace<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list_rules(state, &state.chosen.not_under, "#### no functions disabled ####", out)
}

pub(super) fn set_function<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let under = changed(state, &state.chosen.under, value)?;
    let chosen = Chosen { under, ..state.chosen.clone() };
    state.set_rules(chosen).map_err(|reason| value.all().refuse(reason))
}

pub(super) fn set_notrace<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let not_under = changed(state, &state.chosen.not_under, value)?;
    let chosen = Chosen { not_under, ..state.chosen.clone() };
    state.set_rules(chosen).map_err(|reason| value.all().refuse(reason))
}

/// The rules of a file in which `!` removes a rule that it has.
fn changed<const CPUS: usize>(
    state: &State<CPUS>,
    before: &Rules<GRAPH_RULES_BYTES>,
    value: &Value<'_>,
) -> Result<Rules<GRAPH_RULES_BYTES>, Refusal> {
    let mut rules = match value.redirection {
        Redirection::Replace => Rules::new(),
        Redirection::Append => before.clone(),
    };
    for word in value.words() {
        if let Some(positive) = word.text().strip_prefix('!') {
            if !rules.remove(positive) {
                return Err(word.refuse(Reason::NoSuchRule));
            }
            continue;
        }
        let rule = Rule::parse(word.text()).map_err(|error| word.refuse(Reason::Glob(error)))?;
        state.check_rule(&word, &rule)?;
        rules.add(word.text()).map_err(|_| word.refuse(Reason::TooManyUnder))?;
        if rules.iter().count() > MAX_UNDER {
            return Err(word.refuse(Reason::TooManyUnder));
        }
    }
    Ok(rules)
}
