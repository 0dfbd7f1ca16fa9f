//! Files about which tasks and which CPUs are traced.

use crate::control::line::{Redirection, Value};
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use crate::control::switches::{MAX_CLOSED, MAX_PIDS, Pids};
use arrayvec::ArrayVec;
use core::fmt::Write;

pub(super) fn pids<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list(&state.tracing.switches.pids, "no pid", out)
}

pub(super) fn notrace_pids<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list(&state.tracing.switches.notrace_pids, "no pid", out)
}

fn list(pids: &Pids, if_none: &str, out: &mut dyn Write) -> Result<(), Reason> {
    if pids.iter().next().is_none() {
        return Ok(writeln!(out, "{if_none}")?);
    }
    Ok(pids.iter().try_for_each(|pid| writeln!(out, "{pid}"))?)
}

pub(super) fn set_pids<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let switches = state.tracing.switches;
    switches.set_pids(&changed(&switches.pids, value)?);
    Ok(())
}

pub(super) fn set_notrace_pids<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let switches = state.tracing.switches;
    switches.set_notrace_pids(&changed(&switches.notrace_pids, value)?);
    Ok(())
}

/// What the file has after this is written.
fn changed(before: &Pids, value: &Value<'_>) -> Result<ArrayVec<u32, MAX_PIDS>, Refusal> {
    let mut pids = ArrayVec::new();
    if value.redirection == Redirection::Append {
        pids.extend(before.iter());
    }
    for word in value.words() {
        let pid = u32::try_from(word.number()?).ok().filter(|pid| *pid != 0);
        let pid = pid.ok_or(word.refuse(Reason::Expected("The number of a task, which is not 0,")))?;
        if !pids.contains(&pid) {
            pids.try_push(pid).map_err(|_| word.refuse(Reason::TooManyPids))?;
        }
    }
    Ok(pids)
}

/// As Linux writes it: hexadecimal, a comma before each 32 CPUs but the first.
pub(super) fn cpumask<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let is_open = |cpu: usize| state.rings.get(cpu).is_some_and(|ring| state.tracing.switches.is_open(ring));
    let parts = CPUS.div_ceil(32).max(1);
    for part in (0..parts).rev() {
        let in_part = 32.min(CPUS.saturating_sub(part * 32));
        let mask: u32 = (0..in_part).map(|bit| u32::from(is_open(part * 32 + bit)) << bit).sum();
        let width = in_part.div_ceil(4);
        write!(out, "{mask:0width$x}{}", if part == 0 { "\n" } else { "," })?;
    }
    Ok(())
}

pub(super) fn set_cpumask<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let text = value.all().text();
    let wrong = || value.all().refuse(Reason::Expected("A hexadecimal mask of CPUs, one of them at least,"));
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut mask = [false; CPUS];
    let (mut cpu, mut any) = (0, false);
    for digit in digits.chars().rev().filter(|c| *c != ',') {
        let digit = digit.to_digit(16).ok_or_else(wrong)?;
        for bit in 0..4 {
            let is_set = digit & 1 << bit != 0;
            // CPUs that there are not are left out, as where a mask is copied from another machine.
            if let Some(place) = mask.get_mut(cpu) {
                *place = is_set;
            }
            any |= is_set && cpu < CPUS;
            cpu += 1;
        }
    }
    if !any {
        return Err(wrong());
    }
    let left_out = state.rings.iter().zip(mask).filter(|(_, is_set)| !is_set).map(|(ring, _)| *ring);
    if left_out.clone().count() > MAX_CLOSED {
        return Err(value.all().refuse(Reason::TooManyLeftOut));
    }
    state.tracing.switches.close(left_out);
    Ok(())
}
