//! The files `kprobe_events` and `kprobe_profile`: which events there are, and how often their places are come to.

use crate::control::event::definition::{Asked, Definition, parse};
use crate::control::event::fetch::Point;
use crate::control::event::parts::EventsParts;
use crate::control::event::reason::EventReason;
use crate::control::line::{Redirection, Value};
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use core::fmt::{self, Write};

pub(super) fn list<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    for (_, known) in state.events()?.all() {
        write_definition(state, &known.definition, out)?;
    }
    Ok(())
}

fn write_definition<const CPUS: usize>(
    state: &State<CPUS>,
    definition: &Definition,
    out: &mut dyn Write,
) -> fmt::Result {
    let kind = if definition.point == Point::Return { 'r' } else { 'p' };
    write!(out, "{kind}:{}/{} ", definition.group, definition.name)?;
    state.names().write_short(definition.at.get(), out)?;
    definition.fields().try_for_each(|(name, argument)| write!(out, " {name}={argument}"))?;
    out.write_str("\n")
}

/// With `>` all that was there goes first, unless something of it is in use.
pub(super) fn define<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let refused = |reason| value.all().refuse(Reason::Event(reason));
    let events = state.events().map_err(|reason| value.all().refuse(reason))?;
    let asked = parse(value, events.surroundings())?;
    let replaces = value.redirection == Redirection::Replace;
    match asked {
        None if replaces => remove_others(state, events, None).map_err(refused),
        None => Ok(()),
        Some(Asked::Define(definition)) if replaces => {
            let id = define_instead(state, events, definition).map_err(refused)?;
            remove_others(state, events, Some(id)).map_err(refused)
        }
        Some(Asked::Define(definition)) => {
            let is_there = events.named(Some(&definition.group), &definition.name).is_some();
            let defined = if is_there { Err(EventReason::EventExists) } else { events.define(definition) };
            defined.map(drop).map_err(refused)
        }
        Some(Asked::Remove { group, name }) => {
            let not_there = || name.refuse(Reason::Event(EventReason::NoSuchEvent));
            let (number, known) = events.named(group.map(|group| group.text()), name.text()).ok_or_else(not_there)?;
            let removed = remove(state, events, number, known.is_in_use());
            removed.map_err(|reason| name.refuse(Reason::Event(reason)))
        }
    }
}

fn check_unused(events: EventsParts) -> Result<(), EventReason> {
    let is_in_use = events.all().any(|(_, known)| known.is_in_use());
    if is_in_use { Err(EventReason::EventInUse) } else { Ok(()) }
}

/// Removes all events but the one of this number.
fn remove_others<const CPUS: usize>(
    state: &State<CPUS>,
    events: EventsParts,
    kept: Option<u16>,
) -> Result<(), EventReason> {
    check_unused(events)?;
    let mut others = events.all().filter(|(_, known)| Some(known.id) != kept);
    others.try_for_each(|(number, known)| remove(state, events, number, known.is_in_use()))
}

/// Defines an event that takes the place of all others, which are there as long as it is not. Where there is no memory for one
/// more, one of them goes before, and comes back if it was in vain.
fn define_instead<const CPUS: usize>(
    state: &State<CPUS>,
    events: EventsParts,
    definition: Definition,
) -> Result<u16, EventReason> {
    check_unused(events)?;
    let first = events.all().next().filter(|_| !events.has_room());
    let Some((number, known)) = first else { return events.define(definition) };
    remove(state, events, number, known.is_in_use())?;
    events.define(definition).inspect_err(|_| {
        // As good as it gets: the first failure is the one that is told.
        let _ = events.define(known.definition);
    })
}

/// Removes an event, and as Linux does, what was recorded: nobody could say of what.
fn remove<const CPUS: usize>(
    state: &State<CPUS>,
    events: EventsParts,
    number: usize,
    is_in_use: bool,
) -> Result<(), EventReason> {
    if is_in_use {
        return Err(EventReason::EventInUse);
    }
    events.remove(number)?;
    State::<CPUS>::clear(&state.rings);
    state.spares.iter().for_each(|spares| State::<CPUS>::clear(spares));
    Ok(())
}

pub(super) fn profile<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let events = state.events()?;
    for (number, known) in events.all() {
        let (hits, misses) = events.counts(number, &known);
        writeln!(out, "  {:<44} {hits:>15} {misses:>15}", known.definition.name)?;
    }
    Ok(())
}
