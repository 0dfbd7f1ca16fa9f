//! Files about the rings: what was recorded. And the last refusals.

use crate::control::line::{Redirection, Value};
use crate::control::merge::{Merged, Purpose};
use crate::control::reason::{Reason, Refusal};
use crate::control::show::Format;
use crate::control::state::State;
use crate::tracer::dump::{DumpLines, DumpWriter, Reading};
use crate::tracer::ring::Ring;
use core::fmt::Write;

/// Whose records a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    All,
    Cpu(usize),
}

impl Of {
    fn merged<'a, const CPUS: usize>(
        self,
        state: &'a State<CPUS>,
        rings: [&'static Ring; CPUS],
        purpose: Purpose,
        is_snapshot: bool,
    ) -> Merged<'a, CPUS> {
        let merged = Merged::new(rings, purpose, state.tracing.switches.began(is_snapshot));
        let merged = match state.flight().filter(|_| !is_snapshot) {
            Some(flight) => merged.with_calls(flight, purpose),
            None => merged,
        };
        match self {
            Self::All => merged,
            Self::Cpu(cpu) => merged.of_cpu(cpu),
        }
    }

    fn rings<'a, const CPUS: usize>(self, rings: &'a [&'static Ring; CPUS]) -> &'a [&'static Ring] {
        match self {
            Self::All => rings,
            Self::Cpu(cpu) => rings.get(cpu..=cpu).unwrap_or_default(),
        }
    }

    fn cpus<const CPUS: usize>(self) -> core::ops::Range<usize> {
        match self {
            Self::All => 0..CPUS,
            Self::Cpu(cpu) => cpu..cpu + 1,
        }
    }
}

const fn add([a, b]: [u64; 2], [c, d]: [u64; 2]) -> [u64; 2] {
    [a.saturating_add(c), b.saturating_add(d)]
}

/// How what the current tracer records is shown.
fn format<const CPUS: usize>(state: &State<CPUS>) -> Format {
    if state.current_name() == "function_graph" { Format::Graph } else { Format::Lines }
}

pub(super) fn trace<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    look(state, Of::All, state.live(), false, out)
}

/// Shows what these rings have, which stays.
pub(super) fn look<const CPUS: usize>(
    state: &State<CPUS>,
    of: Of,
    rings: [&'static Ring; CPUS],
    is_snapshot: bool,
    out: &mut dyn Write,
) -> Result<(), Reason> {
    if is_snapshot {
        return look_now(state, of, rings, is_snapshot, out);
    }
    state.show_paused(|| look_now(state, of, rings, is_snapshot, out))
}

fn look_now<const CPUS: usize>(
    state: &State<CPUS>,
    of: Of,
    rings: [&'static Ring; CPUS],
    is_snapshot: bool,
    out: &mut dyn Write,
) -> Result<(), Reason> {
    let (shown, counts) = (state.shown(), state.counts(of.rings(&rings), is_snapshot));
    let mut counts = [counts.kept, counts.kept.saturating_add(counts.lost())];
    if let Some(flight) = state.flight().filter(|_| !is_snapshot) {
        of.cpus::<CPUS>().for_each(|cpu| counts = add(counts, flight.counts(cpu)));
    }
    shown.head(format(state), state.current_name(), counts, CPUS, out)?;
    let merged = of.merged(state, rings, Purpose::Look, is_snapshot);
    shown.events(format(state), merged, state.goes_on, out)?;
    Ok(())
}

/// Writing with `>` empties them, with `>>` it does nothing, as opening the file does on Linux.
pub(super) fn clear_trace<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    clear(state, Of::All, value);
    Ok(())
}

pub(super) fn clear<const CPUS: usize>(state: &State<CPUS>, of: Of, value: &Value<'_>) {
    if value.redirection == Redirection::Replace {
        State::<CPUS>::clear(of.rings(&state.live()));
        if let Some(flight) = state.flight() {
            of.cpus::<CPUS>().for_each(|cpu| flight.forget(cpu));
        }
    }
}

pub(super) fn trace_pipe<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    take(state, Of::All, out)
}

/// Shows what is recorded, and takes it out.
pub(super) fn take<const CPUS: usize>(state: &State<CPUS>, of: Of, out: &mut dyn Write) -> Result<(), Reason> {
    loop {
        let merged = of.merged(state, state.live(), Purpose::Consume, false);
        // Told to stop, it does not ask again: whoever was asked may have forgotten by then.
        let went_on = state.shown().events(format(state), merged, state.goes_on, out)?;
        if !went_on || !state.goes_on.is_some_and(|goes_on| goes_on()) {
            return Ok(());
        }
    }
}

pub(super) fn mark<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    (state.tracing.mark)(value.all().text()).map_err(|reason| value.all().refuse(reason))
}

pub(super) fn size<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    size_of(state, Of::All, out)
}

pub(super) fn size_of<const CPUS: usize>(state: &State<CPUS>, of: Of, out: &mut dyn Write) -> Result<(), Reason> {
    let mut sizes = of.rings(&state.rings).iter().map(|ring| ring.bytes_len() / 1024);
    let first = sizes.next().unwrap_or(0);
    if sizes.all(|size| size == first) {
        return Ok(writeln!(out, "{first}")?);
    }
    Ok(writeln!(out, "X")?)
}

/// Rings are of the size that they have: whoever asks for that has it.
pub(super) fn set_size<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    set_size_of(state, Of::All, value)
}

pub(super) fn set_size_of<const CPUS: usize>(state: &State<CPUS>, of: Of, value: &Value<'_>) -> Result<(), Refusal> {
    let wanted = value.all().text().parse();
    let other = of.rings(&state.rings).iter().map(|ring| ring.bytes_len() / 1024).find(|size| Ok(*size) != wanted);
    other.map_or(Ok(()), |kib| Err(value.all().refuse(Reason::SizeIsFixed { kib })))
}

pub(super) fn total_size<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let all: usize = state.rings.iter().map(|ring| ring.bytes_len()).sum();
    Ok(writeln!(out, "{}", all / 1024)?)
}

pub(super) fn snapshot<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    snapshot_of(state, Of::All, out)
}

pub(super) fn snapshot_of<const CPUS: usize>(state: &State<CPUS>, of: Of, out: &mut dyn Write) -> Result<(), Reason> {
    match (state.snapshot(), state.spares) {
        (Some(rings), _) => look(state, of, rings, true, out),
        (None, Some(_)) => {
            Ok(writeln!(out, "# There is no snapshot: `echo 1 > snapshot` takes one, 0 and 2 forget it.")?)
        }
        (None, None) => Err(Reason::NoSpareRings),
    }
}

pub(super) fn set_snapshot<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let number = value.all().number()?;
    let spares = state.spares.ok_or(value.all().refuse(Reason::NoSpareRings))?;
    let switches = state.tracing.switches;
    if number == 1 && switches.gate().is_held() {
        return Err(value.all().refuse(Reason::RecordingIsHeld));
    }
    let other = if switches.are_swapped() { state.rings } else { spares };
    switches.forget_snapshot();
    State::<CPUS>::clear(&other);
    if number == 1 {
        switches.swap();
    }
    Ok(())
}

/// Writes what was recorded as a dump, for the exporters of `cargo fentry trace`; it stays.
pub(super) fn dump_lines<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    /// Tasks with higher numbers stay without their names.
    const TASKS: u32 = 1024;
    let rings = state.live();
    let mut lines = DumpLines::new(&mut *out);
    let mut writer = DumpWriter::begin(|bytes: &[u8]| lines.write(bytes), state.ticks_per_second, &rings)?;
    writer.leave_out_before(state.tracing.switches.began(false));
    for task in 0..TASKS {
        if let Some(name) = (state.task_name)(task) {
            writer.task(task, name)?;
        }
    }
    writer.names(state.engine)?;
    writer.pull(Reading::Snapshot)?;
    writer.profile((state.tracing.profile)())?;
    writer.finish()?;
    Ok(lines.finish()?)
}

/// What a CPU's ring has had, in Linux's words as far as there is such a thing.
pub(super) fn stats<const CPUS: usize>(state: &State<CPUS>, of: Of, out: &mut dyn Write) -> Result<(), Reason> {
    let counts = state.counts(of.rings(&state.live()), false);
    writeln!(out, "entries: {}", counts.kept)?;
    writeln!(out, "overrun: {}", counts.overwritten)?;
    writeln!(out, "dropped events: {}", counts.refused)?;
    Ok(writeln!(out, "read events: {}", counts.read)?)
}

pub(super) fn error_log<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(state.log.show(out)?)
}

pub(super) fn clear_error_log<const CPUS: usize>(state: &mut State<CPUS>, _: &Value<'_>) -> Result<(), Refusal> {
    state.log.clear();
    Ok(())
}
