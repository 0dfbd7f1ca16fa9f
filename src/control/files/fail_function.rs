//! The files of `fail_function/`: functions that fail on purpose (Linux's Documentation/fault-injection/fault-injection.rst).

use crate::control::failing::{Chosen, Failing};
use crate::control::line::{Redirection, Value, Word};
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use crate::control::switches::MAX_VERBOSITY;
use crate::engine::{Engine, RegisterError};
use crate::inject::{Injection, MAX_SITES};
use arrayvec::ArrayVec;
use core::fmt::Write;

fn failing<const CPUS: usize>(state: &State<CPUS>) -> Result<&Failing, Reason> {
    state.failing.as_ref().ok_or(Reason::NothingFails)
}

pub(super) fn injectable<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(failing(state)?.functions.iter().try_for_each(|function| writeln!(out, "{}", function.name()))?)
}

pub(super) fn inject<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let failing = failing(state)?;
    Ok(failing.sites(&failing.chosen).try_for_each(|function| writeln!(out, "{}", function.name()))?)
}

/// `FUNCTION` and `!FUNCTION`; nothing is none.
pub(super) fn set_inject<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let refused = |reason| value.all().refuse(reason);
    let engine = state.engine;
    let failing = state.failing.as_mut().ok_or(refused(Reason::NothingFails))?;
    let removes = value.all().text().starts_with('!');
    let mut chosen = match value.redirection {
        Redirection::Replace if !removes => ArrayVec::new(),
        _ => failing.chosen.clone(),
    };
    for word in value.words() {
        let (is_wanted, name) = word.strip_prefix("!").map_or((true, word), |name| (false, name));
        let number = number_of(failing, name)?;
        chosen.retain(|known| *known != number);
        if is_wanted && chosen.try_push(number).is_err() {
            return Err(word.refuse(Reason::TooManyFailing));
        }
    }
    attach(failing, chosen, engine).map_err(|error| refused(Reason::Register(error)))
}

fn number_of(failing: &Failing, name: Word<'_>) -> Result<usize, Refusal> {
    let text = name.text().trim_matches('"');
    let found = failing.functions.iter().position(|function| function.name() == text);
    found.ok_or(name.refuse(Reason::NotInjectable))
}

/// Attaches the injection to others, or leaves it as it was. What can't be attached again then is chosen no more.
fn attach(failing: &mut Failing, chosen: Chosen, engine: &'static Engine) -> Result<(), RegisterError> {
    let put = |failing: &Failing, chosen: &Chosen| {
        let sites: ArrayVec<_, MAX_SITES> = failing.sites(chosen).collect();
        if sites.is_empty() { Ok(()) } else { failing.injection.attach_to(engine, &sites) }
    };
    detach(failing, engine)?;
    let attached = put(failing, &chosen);
    if attached.is_ok() {
        failing.chosen = chosen;
    } else if detach(failing, engine).and_then(|()| put(failing, &failing.chosen)).is_err() {
        failing.chosen.clear();
    }
    attached
}

/// Takes the injection away from its functions, or from what a failure has left of them.
fn detach(failing: &Failing, engine: &'static Engine) -> Result<(), RegisterError> {
    match failing.injection.detach(engine) {
        Ok(()) | Err(RegisterError::NotRegistered) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A number that fits.
fn number<T: TryFrom<usize>>(value: &Value<'_>, expected: &'static str) -> Result<T, Refusal> {
    let number = value.all().number()?;
    T::try_from(number).map_err(|_| value.all().refuse(Reason::Expected(expected)))
}

fn injection<const CPUS: usize>(state: &State<CPUS>, value: &Value<'_>) -> Result<&'static Injection, Refusal> {
    Ok(failing(state).map_err(|reason| value.all().refuse(reason))?.injection)
}

pub(super) fn probability<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", failing(state)?.injection.probability())?)
}

pub(super) fn set_probability<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let percent: u32 = number(value, "0 to 100")?;
    if percent > 100 {
        return Err(value.all().refuse(Reason::Expected("0 to 100")));
    }
    injection(state, value)?.set_probability(percent);
    Ok(())
}

pub(super) fn interval<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", failing(state)?.injection.interval())?)
}

pub(super) fn set_interval<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    injection(state, value)?.set_interval(number(value, "A number of 32 bits")?);
    Ok(())
}

pub(super) fn times<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    match failing(state)?.injection.times() {
        Some(times) => Ok(writeln!(out, "{times}")?),
        None => Ok(writeln!(out, "-1")?),
    }
}

pub(super) fn set_times<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let times = if value.all().text() == "-1" { None } else { Some(number(value, "A number of 32 bits, or -1")?) };
    injection(state, value)?.set_times(times);
    Ok(())
}

pub(super) fn space<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", failing(state)?.injection.space())?)
}

pub(super) fn set_space<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    injection(state, value)?.set_space(number(value, "A number of 64 bits")?);
    Ok(())
}

pub(super) fn task_filter<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", if failing(state)?.injection.task_filter() { 'Y' } else { 'N' })?)
}

/// `Y` or `N`, or `1` or `0`.
pub(super) fn set_task_filter<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let is_on = match value.all().text() {
        "Y" | "y" | "1" => true,
        "N" | "n" | "0" => false,
        _ => return Err(value.all().refuse(Reason::Expected("Y or N"))),
    };
    injection(state, value)?.set_task_filter(is_on);
    Ok(())
}

pub(super) fn verbose<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    failing(state)?;
    Ok(writeln!(out, "{}", state.tracing.switches.verbosity())?)
}

pub(super) fn set_verbose<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    injection(state, value)?;
    let verbosity: u32 = number(value, "0, 1 or 2")?;
    if verbosity > MAX_VERBOSITY {
        return Err(value.all().refuse(Reason::Expected("0, 1 or 2")));
    }
    state.tracing.switches.set_verbosity(verbosity);
    Ok(())
}
