//! The files `trigger` and `hist` of an event.

use crate::control::event::hist::HistShown;
use crate::control::event::parts::EventsParts;
use crate::control::event::slot::KnownTrigger;
use crate::control::event::trigger::{Act, Asked, Scope, parse};
use crate::control::line::{Redirection, Value};
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use core::fmt::{self, Write};

/// What the file has where there are none.
const AVAILABLE: &str = "\
# Available triggers:
# traceon traceoff snapshot stacktrace enable_event disable_event enable_hist disable_hist hist";

/// With `>` those that were there go first, as on Linux, but where it is about one of them.
pub(super) fn set<const CPUS: usize>(
    state: &State<CPUS>,
    events: EventsParts,
    number: usize,
    value: &Value<'_>,
) -> Result<(), Refusal> {
    let refused = |reason| value.all().refuse(Reason::Event(reason));
    let Some(known) = events.known(number) else { return Err(value.all().refuse(Reason::UnknownFile)) };
    let event = |group: &str, name: &str| events.named(Some(group), name).map(|(number, _)| number);
    let asked = parse(value.all(), &Scope { named: &|name| events.field(&known, name), event: &event })?;
    let replaces = value.redirection == Redirection::Replace;
    let Some((head, asked)) = asked else {
        return if replaces { events.replace_triggers(number, None).map_err(refused) } else { Ok(()) };
    };
    if matches!(&asked, Asked::Add(new) if new.trigger.act == Act::Snapshot) && state.spares.is_none() {
        return Err(head.refuse(Reason::NoSpareRings));
    }
    let done = match asked {
        Asked::Add(new) if replaces => events.replace_triggers(number, Some(new)),
        Asked::Add(new) => events.add_trigger(number, new),
        Asked::Remove(act) => events.remove_trigger(number, &act),
        Asked::Command(act, command) => events.command(number, &act, command),
    };
    done.map_err(|reason| head.refuse(Reason::Event(reason)))
}

pub(super) fn write(events: EventsParts, number: usize, out: &mut dyn Write) -> Result<(), Reason> {
    let mut is_empty = true;
    for (trigger, left) in events.triggers(number).into_iter().flatten() {
        is_empty = false;
        write_trigger(events, number, &trigger, left, out)?;
        out.write_str("\n")?;
    }
    if is_empty {
        writeln!(out, "{AVAILABLE}")?;
    }
    Ok(())
}

fn write_trigger(
    events: EventsParts,
    number: usize,
    trigger: &KnownTrigger,
    left: Option<u64>,
    out: &mut dyn Write,
) -> fmt::Result {
    match &trigger.act {
        Act::TraceOn => out.write_str("traceon")?,
        Act::TraceOff => out.write_str("traceoff")?,
        Act::Stacktrace => out.write_str("stacktrace")?,
        Act::Snapshot => out.write_str("snapshot")?,
        Act::Switch { is_enabled, .. } => out.write_str(if *is_enabled { "enable_event" } else { "disable_event" })?,
        Act::Pause { is_paused, .. } => out.write_str(if *is_paused { "disable_hist" } else { "enable_hist" })?,
        Act::Hist(hist) => {
            if let Some((histogram, known)) = events.histogram(hist).zip(events.known(number)) {
                hist.write(histogram.room(), &known.definition, out)?;
            }
        }
    }
    if let Some(target) = trigger.act.target().and_then(|slot| events.known(slot)) {
        write!(out, ":{}:{}", target.definition.group, target.definition.name)?;
    }
    match (&trigger.act, left) {
        (Act::Hist(_), _) => {}
        (_, None) => out.write_str(":unlimited")?,
        (_, Some(left)) => write!(out, ":count={left}")?,
    }
    if !trigger.filter.is_empty() {
        write!(out, " if {}", trigger.filter)?;
    }
    if let Act::Hist(hist) = &trigger.act {
        write!(out, " [{}]", events.histogram(hist).map_or("", |histogram| histogram.state()))?;
    }
    Ok(())
}

pub(super) fn write_hists<const CPUS: usize>(
    state: &State<CPUS>,
    events: EventsParts,
    number: usize,
    out: &mut dyn Write,
) -> Result<(), Reason> {
    let known = events.known(number).ok_or(Reason::UnknownFile)?;
    let shown = HistShown { definition: &known.definition, names: state.names(), task_name: state.task_name };
    for (trigger, left) in events.triggers(number).into_iter().flatten() {
        let Act::Hist(hist) = &trigger.act else { continue };
        let Some(histogram) = events.histogram(hist) else { continue };
        out.write_str("# event histogram\n#\n# trigger info: ")?;
        write_trigger(events, number, &trigger, left, out)?;
        out.write_str("\n#\n\n")?;
        histogram.write(hist, shown, out)?;
        out.write_str("\n")?;
    }
    Ok(())
}
