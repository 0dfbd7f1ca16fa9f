//! The files `trigger` and `hist` of an event.

use crate::control::event::hist::HistShown;
use crate::control::event::limits::TEXT_BYTES;
use crate::control::event::parts::EventsParts;
use crate::control::event::reason::EventReason;
use crate::control::event::slot::KnownTrigger;
use crate::control::event::trigger::{Act, Asked, Scope, parse};
use crate::control::line::{Redirection, Value};
use crate::control::log::cut;
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use core::fmt::{self, Write};

/// With `>` those that were there go first, as on Linux, but where it is about one of them.
pub(super) fn set(events: EventsParts, number: usize, value: &Value<'_>) -> Result<(), Refusal> {
    let refused = |reason| value.all().refuse(Reason::Event(reason));
    let Some(known) = events.known(number) else { return Err(value.all().refuse(Reason::UnknownFile)) };
    let event = |group: &str, name: &str| events.named(Some(group), name).map(|(number, _)| number);
    let asked = parse(value.all(), &Scope { named: &|name| known.definition.named(name), event: &event })?;
    let is_about_one = asked.as_ref().is_some_and(|asked| asked.is_removal || asked.hist.is_some());
    if value.redirection == Redirection::Replace && !is_about_one {
        if let Some(asked) = &asked {
            events.check_trigger(number, &asked.trigger).map_err(|reason| asked.head.refuse(Reason::Event(reason)))?;
        }
        let all = events.triggers(number).into_iter().flatten();
        all.into_iter().try_for_each(|(trigger, _)| events.remove_trigger(number, &trigger.act)).map_err(refused)?;
    }
    let Some(Asked { is_removal, trigger, count, hist, head, filter }) = asked else { return Ok(()) };
    let refused = |reason| head.refuse(Reason::Event(reason));
    if is_removal {
        return events.remove_trigger(number, &trigger.act).map_err(refused);
    }
    if let Some(command) = hist {
        return events.command(number, &trigger.act, command).map_err(refused);
    }
    if filter.text().len() > TEXT_BYTES {
        return Err(filter.refuse(Reason::Event(EventReason::TooLong)));
    }
    events.add_trigger(number, trigger, count, cut(filter.text())).map_err(refused)
}

pub(super) fn write(events: EventsParts, number: usize, out: &mut dyn Write) -> Result<(), Reason> {
    let mut is_empty = true;
    for (trigger, left) in events.triggers(number).into_iter().flatten() {
        is_empty = false;
        write_trigger(events, number, &trigger, left, out)?;
        out.write_str("\n")?;
    }
    if is_empty {
        writeln!(out, "# Available triggers:\n# traceon traceoff stacktrace enable_event disable_event hist")?;
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
        Act::Switch { slot, is_enabled } => {
            out.write_str(if *is_enabled { "enable_event" } else { "disable_event" })?;
            if let Some(target) = events.known(*slot) {
                write!(out, ":{}:{}", target.definition.group, target.definition.name)?;
            }
        }
        Act::Hist(hist) => {
            if let Some((histogram, known)) = events.histogram(hist).zip(events.known(number)) {
                hist.write(histogram.room(), &known.definition, out)?;
            }
        }
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
