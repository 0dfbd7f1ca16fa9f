//! Files about functions: which there are, which are chosen, which call something now.

use crate::address::TextAddr;
use crate::control::at_function::{AtFunction, unknown_command};
use crate::control::line::{Redirection, Value, Word};
use crate::control::log::cut;
use crate::control::reason::{Reason, Refusal};
use crate::control::rules::{MAX_COMMANDS, MAX_RULES, Rules};
use crate::control::state::{Chosen, State};
use crate::engine::Status;
use crate::filter::{Filter, Rule};
use crate::ops::{Action, OpsFlags};
use arrayvec::ArrayVec;
use core::fmt::{self, Write};

pub(super) fn available<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list(state, &Filter::ALL, out)
}

/// Writes the functions that a filter selects, one a line.
fn list<const CPUS: usize>(state: &State<CPUS>, filter: &Filter<'_>, out: &mut dyn Write) -> Result<(), Reason> {
    let mut written = Ok(());
    state.engine.for_each_selected(filter, |status| {
        if written.is_ok() && !status.is_quarantined {
            written = write_function(&status, out).and_then(|()| out.write_str("\n"));
        }
    });
    Ok(written?)
}

fn write_function(status: &Status<'_>, out: &mut dyn Write) -> fmt::Result {
    match status.name {
        Some(name) => out.write_str(name)?,
        None => write!(out, "{}", status.callsite.function())?,
    }
    status.module.map_or(Ok(()), |module| write!(out, " [{module}]"))
}

pub(super) fn total_info<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let statistics = state.engine.statistics();
    let pages = (statistics.callsites * 8).div_ceil(4096);
    Ok(writeln!(out, "{} pages:{pages} groups: {}", statistics.callsites, statistics.regions)?)
}

pub(super) fn enabled<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list_with_ops(state, |status| status.ops().next().is_some(), out)
}

pub(super) fn touched<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list_with_ops(state, |status| status.is_touched, out)
}

/// Writes the functions that are wanted, with what they call now.
fn list_with_ops<const CPUS: usize>(
    state: &State<CPUS>,
    is_wanted: impl Fn(&Status<'_>) -> bool,
    out: &mut dyn Write,
) -> Result<(), Reason> {
    let mut written = Ok(());
    state.engine.for_each_callsite(|status| {
        if written.is_ok() && is_wanted(&status) {
            written = write_enabled(&status, out);
        }
    });
    Ok(written?)
}

fn write_enabled(status: &Status<'_>, out: &mut dyn Write) -> fmt::Result {
    write_function(status, out)?;
    write!(out, " ({})", status.ops().count())?;
    let has = |flag| status.ops().any(|ops| ops.flags().contains(flag));
    let is_direct = status.ops().any(|ops| matches!(ops.action(), Action::Direct(_)));
    for (is_set, letter) in [(has(OpsFlags::SAVE_REGS), 'R'), (has(OpsFlags::IPMODIFY), 'I'), (is_direct, 'D')] {
        if is_set {
            write!(out, " {letter}")?;
        }
    }
    out.write_str("\n")
}

pub(super) fn filter<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list_rules(state, &state.chosen.filter, "#### all functions enabled ####", out)?;
    Ok(state.commands_now().iter().flatten().try_for_each(|command| command.write(state.events, out))?)
}

pub(super) fn notrace<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list_rules(state, &state.chosen.notrace, "#### no functions disabled ####", out)
}

/// Writes the functions that rules select, and the rules that wait for a module.
pub(super) fn list_rules<const CPUS: usize, const BYTES: usize>(
    state: &State<CPUS>,
    rules: &Rules<BYTES>,
    if_empty: &str,
    out: &mut dyn Write,
) -> Result<(), Reason> {
    if rules.is_empty() {
        return Ok(writeln!(out, "{if_empty}")?);
    }
    let all: ArrayVec<Rule<'_>, MAX_RULES> = rules.iter().collect();
    list(state, &Filter::new(&all), out)?;
    for rule in all.iter().filter(|rule| rule.awaits_module() && !state.engine.has_match(rule)) {
        writeln!(out, "{rule}")?;
    }
    Ok(())
}

/// What the file has, for what is written to it to be added to.
fn begin(rules: &Rules, value: &Value<'_>) -> Rules {
    match value.redirection {
        Redirection::Replace => Rules::new(),
        Redirection::Append => rules.clone(),
    }
}

fn add(rules: &mut Rules, word: &Word<'_>, rule: &str) -> Result<(), Refusal> {
    rules.add(rule).map_err(|_| word.refuse(Reason::TooManyRules))
}

pub(super) fn set_filter<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let mut rules = begin(&state.chosen.filter, value);
    let mut commands = ArrayVec::<AtFunction<'_>, { 2 * MAX_COMMANDS }>::new();
    let mut has_rules = false;
    for word in value.words() {
        if let Some(command) = AtFunction::parse(word, state.events())? {
            commands.try_push(command).map_err(|_| word.refuse(Reason::TooManyCommands))?;
            continue;
        }
        has_rules = true;
        if let Some(function) = by_line(state, &word)? {
            let rule = cut::<24>(function);
            add(&mut rules, &word, &rule)?;
            continue;
        }
        let rule = Rule::parse(word.text()).map_err(|error| word.refuse(Reason::Glob(error)))?;
        match word.text().strip_prefix('!') {
            // It took part in choosing: now it does not.
            Some(positive) if rules.remove(positive) => {}
            Some(_) => {
                state.check_rule(&word, &rule)?;
                add(&mut rules, &word, word.text())?;
            }
            None => {
                state.check_rule(&word, &rule).map_err(|refusal| unknown_command(word).unwrap_or(refusal))?;
                rules.remove_negative(word.text());
                add(&mut rules, &word, word.text())?;
            }
        }
    }
    if commands.is_empty() {
        return put(state, rules, value);
    }
    let before = state.commands_now();
    let wanted = state.commands_with(&commands)?;
    state.set_commands(wanted).map_err(|reason| value.all().refuse(reason))?;
    // Commands alone leave the rules as they are.
    let done = if has_rules { put(state, rules, value) } else { Ok(()) };
    if done.is_err() {
        // As good as it gets: the first failure is the one that is told.
        let _ = state.set_commands(before);
    }
    done
}

fn put<const CPUS: usize>(state: &mut State<CPUS>, filter: Rules, value: &Value<'_>) -> Result<(), Refusal> {
    let chosen = Chosen { filter, ..state.chosen.clone() };
    state.set_rules(chosen).map_err(|reason| value.all().refuse(reason))
}

pub(super) fn set_notrace<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let mut rules = begin(&state.chosen.notrace, value);
    for word in value.words() {
        if let Some(positive) = word.text().strip_prefix('!') {
            if !rules.remove(positive) {
                return Err(word.refuse(Reason::NoSuchRule));
            }
            continue;
        }
        let rule = Rule::parse(word.text()).map_err(|error| word.refuse(Reason::Glob(error)))?;
        state.check_rule(&word, &rule)?;
        add(&mut rules, &word, word.text())?;
    }
    let chosen = Chosen { notrace: rules, ..state.chosen.clone() };
    state.set_rules(chosen).map_err(|reason| value.all().refuse(reason))
}

/// The function at a line of `available_filter_functions`, if the word is a number.
fn by_line<const CPUS: usize>(state: &State<CPUS>, word: &Word<'_>) -> Result<Option<TextAddr>, Refusal> {
    if word.text().is_empty() || !word.text().bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let wanted = word.number()?;
    let (mut lines, mut function) = (0, None);
    state.engine.for_each_callsite(|status| {
        if !status.is_quarantined {
            lines += 1;
            if lines == wanted {
                function = Some(status.callsite.function());
            }
        }
    });
    function.map(Some).ok_or(word.refuse(Reason::NoSuchLine { lines }))
}
