//! Triggers: what an event does when it happens, `CMD[:N] [if FILTER]` (Linux's Documentation/trace/events.rst, section 6).

use super::fetch::number;
use super::filter::{Filter, Named};
use super::hist::{Hist, HistCommand};
use super::limits::TEXT_BYTES;
use super::reason::EventReason;
use crate::control::line::Word;
use crate::control::log::cut;
use crate::control::reason::{Reason, Refusal};
use arrayvec::ArrayString;

/// What a trigger does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) enum Act {
    TraceOn,
    TraceOff,
    Stacktrace,
    /// Has the other rings be written to.
    Snapshot,
    /// Has the event in a slot be recorded, or not.
    Switch {
        slot: usize,
        is_enabled: bool,
    },
    /// Has the histograms of the event in a slot count, or not.
    Pause {
        slot: usize,
        is_paused: bool,
    },
    Hist(Hist),
}

/// A trigger: what it does, and when.
#[derive(Clone, Debug)]
pub(in crate::control) struct Trigger {
    pub(in crate::control) act: Act,
    pub(super) filter: Filter,
}

impl Trigger {
    /// Whether it looks at the stack.
    pub(super) fn takes_stack(&self) -> bool {
        match &self.act {
            Act::Stacktrace => true,
            Act::Hist(hist) => hist.takes_stack(),
            _ => false,
        }
    }
}

impl Act {
    /// Whether an event can't have both: they are of a kind, and about the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Hist(hist), Self::Hist(other)) => hist.has_keys_of(other),
            (Self::Hist(_), _) | (_, Self::Hist(_)) => false,
            (Self::Switch { slot, .. }, Self::Switch { slot: other, .. })
            | (Self::Pause { slot, .. }, Self::Pause { slot: other, .. }) => slot == other,
            // As Linux has it: both switch the trace.
            (Self::TraceOn | Self::TraceOff, Self::TraceOn | Self::TraceOff) => true,
            (act, other) => act == other,
        }
    }

    /// The event that it switches, or whose histograms.
    pub(in crate::control) const fn target(&self) -> Option<usize> {
        match self {
            Self::Switch { slot, .. } | Self::Pause { slot, .. } => Some(*slot),
            _ => None,
        }
    }
}

/// A trigger that an event gets.
#[derive(Clone, Debug)]
pub(in crate::control) struct NewTrigger {
    pub(in crate::control) trigger: Trigger,
    /// How often it may act; always, where nothing is said.
    pub(in crate::control) count: Option<u64>,
    /// Its filter as it was written.
    pub(in crate::control) filter: ArrayString<TEXT_BYTES>,
}

/// What a line of the file asks for.
#[expect(clippy::large_enum_variant, reason = "nothing is boxed: there may be no heap")]
pub(in crate::control) enum Asked {
    Add(NewTrigger),
    /// Takes away the one that is like this.
    Remove(Act),
    /// Does something to the histogram of these keys.
    Command(Act, HistCommand),
}

/// What a trigger may name.
#[derive(Clone, Copy)]
pub(in crate::control) struct Scope<'a> {
    pub(in crate::control) named: Named<'a>,
    /// The slot of an event, by its group and its name.
    pub(in crate::control) event: &'a dyn Fn(&str, &str) -> Option<usize>,
}

/// Takes a line apart, with what is in front of `if`; `None` if it is empty.
pub(in crate::control) fn parse<'a>(line: Word<'a>, scope: &Scope<'_>) -> Result<Option<(Word<'a>, Asked)>, Refusal> {
    let refused = |at: Word<'_>, reason| Err(at.refuse(Reason::Event(reason)));
    let line = line.trim();
    if line.text().is_empty() {
        return Ok(None);
    }
    let (is_removal, line) = line.strip_prefix("!").map_or((false, line), |line| (true, line));
    let end = line.text().find(char::is_whitespace).unwrap_or(line.text().len());
    let (head, rest) = line.split_at(end);
    let rest = rest.trim();
    let filter = match rest.strip_prefix("if").filter(|filter| filter.text().starts_with([' ', '\t', '('])) {
        Some(filter) => filter.trim(),
        None if rest.text().is_empty() => rest,
        None => return refused(rest, EventReason::NoIf),
    };
    let compiled = match filter.text() {
        "" if !rest.text().is_empty() => return refused(filter, EventReason::NoSuchField),
        "" => Filter::ALL,
        _ => Filter::parse(filter, scope.named)?,
    };
    let (command, options) = head.split_once(':').map_or((head, None), |(command, options)| (command, Some(options)));
    let (act, count, hist) = match command.text() {
        "traceon" => (Act::TraceOn, count(options)?, None),
        "traceoff" => (Act::TraceOff, count(options)?, None),
        "stacktrace" => (Act::Stacktrace, count(options)?, None),
        "snapshot" => (Act::Snapshot, count(options)?, None),
        "hist" => {
            let (hist, command) = Hist::parse(options.unwrap_or(head.end()), scope.named)?;
            (Act::Hist(hist), None, command)
        }
        "enable_event" | "disable_event" | "enable_hist" | "disable_hist" => {
            let Some((group, rest)) = options.and_then(|options| options.split_once(':')) else {
                return refused(options.unwrap_or(head.end()), EventReason::NoTarget);
            };
            let (event, options) = rest.split_once(':').map_or((rest, None), |(event, rest)| (event, Some(rest)));
            let Some(slot) = (scope.event)(group.text(), event.text()) else {
                return refused(group, EventReason::NoSuchEvent);
            };
            let act = match command.text() {
                "enable_event" => Act::Switch { slot, is_enabled: true },
                "disable_event" => Act::Switch { slot, is_enabled: false },
                text => Act::Pause { slot, is_paused: text == "disable_hist" },
            };
            (act, count(options)?, None)
        }
        _ => return refused(command, EventReason::BadTrigger),
    };
    let asked = match hist {
        _ if is_removal => Asked::Remove(act),
        Some(command) => Asked::Command(act, command),
        None if filter.text().len() > TEXT_BYTES => return refused(filter, EventReason::TooLong),
        None => {
            Asked::Add(NewTrigger { trigger: Trigger { act, filter: compiled }, count, filter: cut(filter.text()) })
        }
    };
    Ok(Some((head, asked)))
}

/// How often it acts.
fn count(word: Option<Word<'_>>) -> Result<Option<u64>, Refusal> {
    let Some(word) = word else { return Ok(None) };
    // (The greatest stands for no limit.)
    let count = number(word.text()).filter(|count| *count < u64::MAX);
    count.map(Some).ok_or(word.refuse(Reason::Event(EventReason::BadNumber)))
}
