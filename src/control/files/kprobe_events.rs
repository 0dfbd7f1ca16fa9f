//! The files `kprobe_events`, `dynamic_events` and `kprobe_profile`: which events there are, and how often their places are come
//! to.

use crate::control::event::definition::{Asked, Definition, Kind, Kinds, parse};
use crate::control::event::fetch::Point;
use crate::control::event::reason::EventReason;
use crate::control::line::{Redirection, Value};
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use core::fmt::{self, Write};

pub(super) fn list<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list_of(state, Kinds::Kprobes, out)
}

pub(super) fn list_all<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    list_of(state, Kinds::All, out)
}

fn list_of<const CPUS: usize>(state: &State<CPUS>, kinds: Kinds, out: &mut dyn Write) -> Result<(), Reason> {
    for (_, known) in state.events()?.all_of(kinds) {
        write_definition(state, &known.definition, out)?;
    }
    Ok(())
}

fn write_definition<const CPUS: usize>(
    state: &State<CPUS>,
    definition: &Definition,
    out: &mut dyn Write,
) -> fmt::Result {
    let (letter, behind) = match (definition.kind, definition.point) {
        (Kind::Kprobe, Point::Return) => ('r', ""),
        (Kind::Kprobe, Point::Entry | Point::Inside) => ('p', ""),
        (Kind::Fprobe, Point::Return) => ('f', "%return"),
        (Kind::Fprobe, Point::Entry | Point::Inside) => ('f', ""),
    };
    write!(out, "{letter}:{}/{} ", definition.group, definition.name)?;
    state.names().write_short(definition.at.get(), out)?;
    out.write_str(behind)?;
    definition.fields().try_for_each(|(name, argument)| write!(out, " {name}={argument}"))?;
    out.write_str("\n")
}

pub(super) fn define<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    define_of(state, Kinds::Kprobes, value)
}

pub(super) fn define_any<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    define_of(state, Kinds::All, value)
}

/// With `>` all of the file's kinds that were there go first, unless something of it is in use.
fn define_of<const CPUS: usize>(state: &mut State<CPUS>, kinds: Kinds, value: &Value<'_>) -> Result<(), Refusal> {
    let refused = |reason| value.all().refuse(Reason::Event(reason));
    let events = state.events().map_err(|reason| value.all().refuse(reason))?;
    let asked = parse(value, kinds, events.surroundings())?;
    let replaces = value.redirection == Redirection::Replace;
    let is_empty = events.all_of(kinds).next().is_none();
    match asked {
        None if replaces => events.define_instead(kinds, None).map_err(refused)?,
        None => return Ok(()),
        Some(Asked::Define(definition)) if replaces => {
            events.define_instead(kinds, Some(definition)).map_err(refused)?;
        }
        Some(Asked::Define(definition)) => {
            let is_there = events.named(Some(&definition.group), &definition.name).is_some();
            let defined = if is_there { Err(EventReason::EventExists) } else { events.define(definition) };
            return defined.map_err(refused);
        }
        Some(Asked::Remove { group, name }) => {
            let refused = |reason| name.refuse(Reason::Event(reason));
            let group = group.map(|group| group.text());
            let named = events.all_of(kinds).find(|(_, known)| known.definition.is_named(group, name.text()));
            let (number, _) = named.ok_or(EventReason::NoSuchEvent).map_err(refused)?;
            events.remove(number).map_err(refused)?;
        }
    }
    if is_empty {
        return Ok(());
    }
    // As Linux does, with what was recorded: nobody could say of what.
    State::<CPUS>::clear(&state.rings);
    state.spares.iter().for_each(|spares| State::<CPUS>::clear(spares));
    Ok(())
}

pub(super) fn profile<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let events = state.events()?;
    for (number, known) in events.all_of(Kinds::Kprobes) {
        let (hits, misses) = events.counts(number, &known);
        writeln!(out, "  {:<44} {hits:>15} {misses:>15}", known.definition.name)?;
    }
    Ok(())
}
