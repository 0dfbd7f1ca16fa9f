//! Files about tracers: which one there is, what it records, the profiler.

use crate::control::line::Value;
use crate::control::log::cut;
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use crate::tracer::profiler::FunctionProfile;
use arrayvec::ArrayString;
use core::fmt::Write;

/// The tracer that does nothing.
const NOP: &str = "nop";

pub(super) fn available<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    state.all_tracers().try_for_each(|tracer| write!(out, "{} ", tracer.name))?;
    Ok(writeln!(out, "{NOP}")?)
}

pub(super) fn current<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", state.current_name())?)
}

pub(super) fn set_current<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let name = value.all().text();
    let wanted = state.all_tracers().find(|tracer| tracer.name == name);
    if wanted.is_none() && name != NOP {
        return Err(value.all().refuse(Reason::UnknownTracer));
    }
    if name == state.current_name() {
        return Ok(());
    }
    if wanted.is_some_and(|tracer| state.is_active(&tracer)) {
        return Err(value.all().refuse(Reason::IsOn));
    }
    let refused = |error| value.all().refuse(Reason::Register(error));
    // The new one first: if it can't be, the old one goes on without a gap.
    if let Some(tracer) = wanted {
        state.start(&tracer).map_err(refused)?;
    }
    if let Some(tracer) = state.current
        && let Err(error) = state.stop(&tracer)
    {
        if let Some(tracer) = wanted {
            let _ = state.stop(&tracer);
        }
        return Err(refused(error));
    }
    state.current = wanted;
    // As Linux does: what another tracer has recorded is of another kind.
    State::<CPUS>::clear(&state.live());
    if state.is_current(state.tracing.profiler) {
        (state.tracing.profile)().clear();
    }
    if let Some(flight) = state.flight() {
        (0..CPUS).for_each(|cpu| flight.forget(cpu));
    }
    Ok(())
}

pub(super) fn is_on<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", u8::from(state.tracing.switches.is_on()))?)
}

pub(super) fn set_on<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let on = value.switch()?;
    state.set_on(on).map_err(|error| value.all().refuse(Reason::Register(error)))
}

pub(super) fn max_depth<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let depth = match state.tracing.switches.max_depth() {
        usize::MAX => 0,
        depth => depth,
    };
    Ok(writeln!(out, "{depth}")?)
}

pub(super) fn set_max_depth<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let depth = match value.all().number()? {
        0 => usize::MAX,
        depth => depth,
    };
    state.tracing.switches.set_max_depth(depth);
    Ok(())
}

/// Microseconds in ticks, rounded up: what is as long lasts so many ticks at least.
fn ticks_of<const CPUS: usize>(state: &State<CPUS>, value: &Value<'_>) -> Result<u64, Refusal> {
    let micros = value.all().number()? as u128;
    let ticks = (micros * u128::from(state.ticks_per_second)).div_ceil(1_000_000);
    u64::try_from(ticks).map_err(|_| value.all().refuse(Reason::Expected("A number of microseconds")))
}

pub(super) fn threshold<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", state.shown().micros(state.tracing.switches.threshold()))?)
}

pub(super) fn set_threshold<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    state.tracing.switches.set_threshold(ticks_of(state, value)?);
    Ok(())
}

pub(super) fn max_latency<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", state.shown().micros(state.tracing.switches.longest()))?)
}

pub(super) fn set_max_latency<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    state.tracing.switches.set_longest(ticks_of(state, value)?);
    Ok(())
}

pub(super) fn profiles<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", u8::from(state.profiles))?)
}

pub(super) fn set_profiles<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let wanted = value.switch()?;
    if wanted == state.profiles {
        return Ok(());
    }
    if wanted && state.is_current(state.tracing.profiler) {
        return Err(value.all().refuse(Reason::IsCurrentTracer));
    }
    let done = if wanted {
        (state.tracing.profile)().clear();
        state.start_profiler()
    } else {
        state.stop_profiler()
    };
    done.map_err(|error| value.all().refuse(Reason::Register(error)))?;
    state.profiles = wanted;
    Ok(())
}

/// Microseconds, in so many columns.
fn column(nanos: u64) -> ArrayString<32> {
    let micros: ArrayString<28> = cut(format_args!("{}.{:03} us", nanos / 1000, nanos % 1000));
    cut(format_args!("{micros:<16}"))
}

/// The order of the file: by all their time, the longest first; no two functions are equal.
const fn key(function: &FunctionProfile) -> (u64, u64) {
    (function.total, function.ip.get())
}

pub(super) fn profile<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    writeln!(out, "  Function                               Hit    Time            Avg             Max")?;
    writeln!(out, "  --------                               ---    ----            ---             ---")?;
    let profile = (state.tracing.profile)();
    let mut last = None;
    // Sorted without memory: the next one is searched for each time.
    let next = |last: Option<(u64, u64)>| {
        let behind = |function: &FunctionProfile| last.is_none_or(|last| key(function) < last);
        profile.functions().filter(behind).max_by_key(key)
    };
    while let Some(function) = next(last) {
        last = Some(key(&function));
        let mut name = ArrayString::<256>::new();
        // A longer name is cut.
        let _ = state.names().write(function.ip.get(), &mut name);
        let times = [function.total, function.average(), function.max].map(|ticks| column(state.shown().nanos(ticks)));
        write!(out, "  {name:<30}  {:>10}    ", function.hits)?;
        let [total, average, max] = &times;
        writeln!(out, "{total}{average}{}", max.trim_end())?;
    }
    if profile.unplaced() > 0 {
        writeln!(out, "# {} calls of functions for which there was no room", profile.unplaced())?;
    }
    Ok(())
}
