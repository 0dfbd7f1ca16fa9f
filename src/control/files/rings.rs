//! Files about the rings: what was recorded. And the last refusals.

use crate::control::line::{Redirection, Value};
use crate::control::merge::{Merged, Purpose};
use crate::control::reason::{Reason, Refusal};
use crate::control::show::Format;
use crate::control::state::State;
use core::fmt::Write;
use core::sync::atomic::Ordering;

/// How what the current tracer records is shown.
fn format<const CPUS: usize>(state: &State<CPUS>) -> Format {
    if state.current_name() == "function_graph" { Format::Graph } else { Format::Lines }
}

pub(super) fn trace<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let (shown, counts) = (state.shown(), state.counts());
    let counts = [counts.kept, counts.kept.saturating_add(counts.lost())];
    shown.head(format(state), state.current_name(), counts, CPUS, out)?;
    shown.events(format(state), Merged::new(state.rings, Purpose::Look), state.goes_on, out)?;
    Ok(())
}

/// Writing with `>` empties them, with `>>` it does nothing, as opening the file does on Linux.
pub(super) fn clear_trace<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    if value.redirection == Redirection::Replace {
        state.clear();
    }
    Ok(())
}

pub(super) fn trace_pipe<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    loop {
        let merged = Merged::new(state.rings, Purpose::Consume);
        // Told to stop, it does not ask again: whoever was asked may have forgotten by then.
        let went_on = state.shown().events(format(state), merged, state.goes_on, out)?;
        if !went_on || !state.goes_on.is_some_and(|goes_on| goes_on()) {
            return Ok(());
        }
    }
}

pub(super) fn mark<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    if !state.tracing.switches.on.load(Ordering::Relaxed) {
        return Err(value.all().refuse(Reason::TracingIsOff));
    }
    if (state.tracing.mark)(value.all().text()) { Ok(()) } else { Err(value.all().refuse(Reason::RingIsFull)) }
}

pub(super) fn size<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let mut sizes = state.rings.iter().map(|ring| ring.bytes_len() / 1024);
    let first = sizes.next().unwrap_or(0);
    if sizes.all(|size| size == first) {
        return Ok(writeln!(out, "{first}")?);
    }
    Ok(writeln!(out, "X")?)
}

pub(super) fn total_size<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let all: usize = state.rings.iter().map(|ring| ring.bytes_len()).sum();
    Ok(writeln!(out, "{}", all / 1024)?)
}

pub(super) fn error_log<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(state.log.show(out)?)
}

pub(super) fn clear_error_log<const CPUS: usize>(state: &mut State<CPUS>, _: &Value<'_>) -> Result<(), Refusal> {
    state.log.clear();
    Ok(())
}
