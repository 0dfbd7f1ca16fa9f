//! The files of `events/`: each event's own, and those about all.

use super::triggers;
use crate::control::event::fetch::Shape;
use crate::control::event::filter::Filter;
use crate::control::event::limits::{GROUP_BYTES, MAX_EVENTS, TEXT_BYTES};
use crate::control::event::parts::{EventsParts, Recorded};
use crate::control::event::reason::EventReason;
use crate::control::event::slot::Known;
use crate::control::line::{Redirection, Value, Word};
use crate::control::log::cut;
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt::{self, Write};

/// Where they are.
const DIRECTORY: &str = "events/";

/// A file of `events/` that is there as long as an event is.
#[derive(Clone, Debug)]
pub(in crate::control) enum EventFile {
    /// `events/GRP/enable`.
    GroupEnable { group: ArrayString<GROUP_BYTES> },
    /// `events/GRP/EV/...`.
    Of { number: usize, file: Of },
}

/// What an event has files for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Of {
    Enable,
    Filter,
    Format,
    Hist,
    Id,
    Trigger,
}

const GROUP_HELP: &str = "1: all events of the group are recorded; 0: none is";

/// In the order in which `ls` lists them.
const FILES: [(&str, Of, &str); 6] = [
    ("enable", Of::Enable, "1: the event is recorded; 0: it is not"),
    (
        "filter",
        Of::Filter,
        "which times of the event are recorded: FIELD OP VALUE with && || ! ( ); OP is == != < <= > >= & for numbers, == != ~ for \
         strings; common_pid and comm are the task; 0: all",
    ),
    ("format", Of::Format, "the event's fields"),
    ("hist", Of::Hist, "what its histograms have counted"),
    ("id", Of::Id, "the number of its records"),
    (
        "trigger",
        Of::Trigger,
        "what it does when it happens: CMD[:N] [if FILTER], CMD is traceon, traceoff, snapshot, stacktrace, enable_event:GRP:EV, \
         disable_event:GRP:EV, enable_hist:GRP:EV, disable_hist:GRP:EV, or hist:keys=K,..[:vals=V,..][:sort=S,..][:size=N]\
         [:pause|:continue|:clear]; !CMD removes; > replaces, >> adds",
    ),
];

impl EventFile {
    /// The file of this name, if an event has it.
    pub(in crate::control) fn named(events: EventsParts, name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(DIRECTORY)?.split('/');
        let (group, event, file) = (parts.next()?, parts.next()?, parts.next());
        if event == "enable" && file.is_none() {
            let is_there = events.all().any(|(_, known)| *known.definition.group == *group);
            return is_there.then(|| Self::GroupEnable { group: cut(group) });
        }
        let (_, file, _) = FILES.iter().find(|(name, _, _)| Some(*name) == file)?;
        let (number, _) = events.named(Some(group), event)?;
        parts.next().is_none().then_some(Self::Of { number, file: *file })
    }

    /// What it is for.
    pub(in crate::control) fn help(&self) -> &'static str {
        match self {
            Self::GroupEnable { .. } => GROUP_HELP,
            Self::Of { file, .. } => FILES.iter().find(|(_, own, _)| own == file).map_or("", |(.., help)| help),
        }
    }

    /// Calls `each` with the names of all that there are now, and what they are for: a group's own before its first event's.
    pub(in crate::control) fn each(
        events: EventsParts,
        each: &mut dyn FnMut(fmt::Arguments<'_>, &str) -> fmt::Result,
    ) -> fmt::Result {
        for (_, known) in events.all() {
            let (group, name) = (&known.definition.group, &known.definition.name);
            if events.is_first_of_group(&known) {
                each(format_args!("{DIRECTORY}{group}/enable"), GROUP_HELP)?;
            }
            FILES
                .iter()
                .try_for_each(|(file, _, help)| each(format_args!("{DIRECTORY}{group}/{name}/{file}"), help))?;
        }
        Ok(())
    }

    pub(in crate::control) fn read<const CPUS: usize>(
        &self,
        state: &State<CPUS>,
        events: EventsParts,
        out: &mut dyn Write,
    ) -> Result<(), Reason> {
        let known = |number: &usize| events.known(*number).ok_or(Reason::UnknownFile);
        match self {
            Self::GroupEnable { group } => write_enabled(events, Some(group), out),
            Self::Of { number, file: Of::Enable } => {
                // As Linux: how it is, with a star where a trigger may switch it.
                let known = known(number)?;
                let star = if known.is_named() { "*" } else { "" };
                Ok(writeln!(out, "{}{star}", u8::from(events.recorded(*number, &known).is_on))?)
            }
            Self::Of { number, file: Of::Filter } => {
                let filter = known(number)?.filter;
                Ok(writeln!(out, "{}", if filter.is_empty() { "none" } else { &filter })?)
            }
            Self::Of { number, file: Of::Format } => Ok(write_format(&known(number)?, out)?),
            Self::Of { number, file: Of::Hist } => triggers::write_hists(state, events, *number, out),
            Self::Of { number, file: Of::Trigger } => triggers::write(events, *number, out),
            Self::Of { number, file: Of::Id } => Ok(writeln!(out, "{}", known(number)?.id)?),
        }
    }

    pub(in crate::control) fn write<const CPUS: usize>(
        &self,
        state: &State<CPUS>,
        events: EventsParts,
        value: &Value<'_>,
    ) -> Result<(), Refusal> {
        match self {
            Self::GroupEnable { group } => {
                enable_all(events, Some(group), value.switch()?).map_err(|reason| value.all().refuse(reason))
            }
            Self::Of { number, file: Of::Enable } => {
                let enabled = events.enable(*number, value.switch()?);
                enabled.map_err(|reason| value.all().refuse(Reason::Event(reason)))
            }
            Self::Of { number, file: Of::Filter } => set_filter(events, *number, value),
            Self::Of { number, file: Of::Trigger } => triggers::set(state, events, *number, value),
            Self::Of { file: Of::Format | Of::Hist | Of::Id, .. } => Err(value.all().refuse(Reason::NotWritable)),
        }
    }
}

fn set_filter(events: EventsParts, number: usize, value: &Value<'_>) -> Result<(), Refusal> {
    let all = value.all();
    let Some(known) = events.known(number) else { return Err(all.refuse(Reason::UnknownFile)) };
    let text = all.trim();
    if text.text().len() > TEXT_BYTES {
        return Err(all.refuse(Reason::Event(EventReason::TooLong)));
    }
    let (filter, text) = match text.text() {
        "" | "0" => (Filter::ALL, ArrayString::new()),
        text_of_it => (Filter::parse(text, &|name| events.field(&known, name))?, cut(text_of_it)),
    };
    events.set_filter(number, &filter, text).map_err(|reason| all.refuse(Reason::Event(reason)))
}

fn write_format(known: &Known, out: &mut dyn Write) -> fmt::Result {
    let definition = &known.definition;
    writeln!(out, "name: {}\nID: {}\nformat:", definition.name, known.id)?;
    let common: &[&str] = if definition.is_return() { &["__probe_func", "__probe_ret_ip"] } else { &["__probe_ip"] };
    writeln!(out, "\tfield:int common_pid;\tsize:4;\tsigned:1;\n")?;
    common.iter().try_for_each(|name| writeln!(out, "\tfield:unsigned long {name};\tsize:8;\tsigned:0;"))?;
    for ((name, _), fetch) in definition.fields().zip(&definition.fetches) {
        let kind = fetch.kind;
        let (signed, size) = (u8::from(kind.shape == Shape::Signed), kind.bytes as usize);
        match fetch.elements() {
            None => write!(out, "\tfield:{} {name};\tsize:{size};", kind.c_name())?,
            // As Linux has them: `u8 name[4]`, but `__data_loc char[][4] name`.
            Some(elements) if kind.shape == Shape::Text => {
                write!(out, "\tfield:{}[{elements}] {name};\tsize:{};", kind.c_name(), size * usize::from(elements))?;
            }
            Some(elements) => {
                write!(out, "\tfield:{} {name}[{elements}];\tsize:{};", kind.c_name(), size * usize::from(elements))?;
            }
        }
        writeln!(out, "\tsigned:{signed};")?;
    }
    out.write_str("\nprint fmt: \"(%lx")?;
    out.write_str(if definition.is_return() { " <- %lx)" } else { ")" })?;
    for ((name, _), fetch) in definition.fields().zip(&definition.fetches) {
        let form = match fetch.kind.shape {
            Shape::Unsigned => "%Lu",
            Shape::Signed => "%Ld",
            Shape::Hex => "0x%Lx",
            Shape::Char => "'%c'",
            Shape::Symbol => "%pS",
            Shape::Text => "\\\"%s\\\"",
        };
        match fetch.elements() {
            None => write!(out, " {name}={form}")?,
            Some(elements) => {
                write!(out, " {name}={{{form}")?;
                (1..elements).try_for_each(|_| write!(out, ",{form}"))?;
                out.write_str("}")?;
            }
        }
    }
    out.write_str("\"")?;
    common.iter().rev().try_for_each(|name| write!(out, ", REC->{name}"))?;
    for ((name, _), fetch) in definition.fields().zip(&definition.fetches) {
        match fetch.elements() {
            None => write!(out, ", REC->{name}")?,
            Some(elements) => (0..elements).try_for_each(|element| write!(out, ", REC->{name}[{element}]"))?,
        }
    }
    out.write_str("\n")
}

/// `0`, `1`, `X` where they differ, or `?` where there are none.
fn write_enabled(events: EventsParts, group: Option<&str>, out: &mut dyn Write) -> Result<(), Reason> {
    let is_in = |known: &Known| group.is_none_or(|group| *known.definition.group == *group);
    let (mut on, mut off) = (false, false);
    for (_, known) in events.all().filter(|(_, known)| is_in(known)) {
        (on, off) = (on || known.is_enabled, off || !known.is_enabled);
    }
    let shown = match (on, off) {
        (true, true) => 'X',
        (true, false) => '1',
        (false, true) => '0',
        (false, false) => '?',
    };
    Ok(writeln!(out, "{shown}")?)
}

/// Enables all events of a group, or disables them.
fn enable_all(events: EventsParts, group: Option<&str>, is_enabled: bool) -> Result<(), Reason> {
    let is_in = |known: &Known| group.is_none_or(|group| *known.definition.group == *group);
    enable_each(events, |known| is_in(known).then_some(is_enabled))
}

/// Has each event be recorded, or not, or as it is, as is wanted; where one can't be, those before it are as they were.
fn enable_each(events: EventsParts, is_wanted: impl Fn(&Known) -> Option<bool>) -> Result<(), Reason> {
    let mut changed: ArrayVec<(usize, Recorded), MAX_EVENTS> = ArrayVec::new();
    for (number, known) in events.all() {
        let Some(is_enabled) = is_wanted(&known) else { continue };
        let before = events.recorded(number, &known);
        if let Err(reason) = events.enable(number, is_enabled) {
            for (number, before) in changed {
                // As good as it gets: the first failure is the one that is told.
                let _ = events.record(number, before);
            }
            return Err(Reason::Event(reason));
        }
        // There are no more events.
        let _ = changed.try_push((number, before));
    }
    Ok(())
}

pub(super) fn all_enabled<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    write_enabled(state.events()?, None, out)
}

pub(super) fn set_all_enabled<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let is_enabled = value.switch()?;
    let done = state.events().and_then(|events| enable_all(events, None, is_enabled));
    done.map_err(|reason| value.all().refuse(reason))
}

pub(super) fn available<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    for (_, known) in state.events()?.all() {
        writeln!(out, "{}:{}", known.definition.group, known.definition.name)?;
    }
    Ok(())
}

pub(super) fn enabled<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    for (_, known) in state.events()?.all().filter(|(_, known)| known.is_enabled) {
        writeln!(out, "{}:{}", known.definition.group, known.definition.name)?;
    }
    Ok(())
}

/// `GRP:EV`, `GRP:` or `GRP:*`, `*:*`, or `EV`, each with `!` to disable it. With `>` all others are disabled.
pub(super) fn set_event<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let events = state.events().map_err(|reason| value.all().refuse(reason))?;
    // All of them first: a line that can't be carried out changes nothing.
    for word in value.words() {
        let (_, wanted) = positive(word);
        if !events.all().any(|(_, known)| is_meant(wanted, &known)) {
            return Err(wanted.refuse(Reason::Event(EventReason::NoSuchEvent)));
        }
    }
    let is_wanted = |known: &Known| {
        let others = (value.redirection == Redirection::Replace).then_some(false);
        value.words().fold(others, |is_wanted, word| {
            let (is_positive, meant) = positive(word);
            if is_meant(meant, known) { Some(is_positive) } else { is_wanted }
        })
    };
    enable_each(events, is_wanted).map_err(|reason| value.all().refuse(reason))
}

fn positive(word: Word<'_>) -> (bool, Word<'_>) {
    word.strip_prefix("!").map_or((true, word), |word| (false, word))
}

fn is_meant(word: Word<'_>, known: &Known) -> bool {
    let is = |wanted: &str, name: &str| wanted.is_empty() || wanted == "*" || wanted == name;
    let (group, name) = (&known.definition.group, &known.definition.name);
    match word.text().split_once(':') {
        Some((wanted_group, wanted)) => is(wanted_group, group) && is(wanted, name),
        None => is(word.text(), name) || word.text() == &**group,
    }
}
