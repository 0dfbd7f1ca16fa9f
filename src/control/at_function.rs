//! Commands at functions: `func:command[:count]` in `set_ftrace_filter`.

use super::event::parts::EventsParts;
use super::event::reason::EventReason;
use super::left::Left;
use super::line::Word;
use super::reason::{Reason, Refusal};
use super::rules::{COMMAND_RULE_BYTES, MAX_COMMANDS};
use crate::filter::Rule;
use crate::ops::{Callback, Ops};
use arrayvec::ArrayString;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

/// What is done when one of the functions is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Command {
    TraceOn,
    TraceOff,
    Snapshot,
    StackTrace,
    Dump,
    CpuDump,
    /// Has an event be recorded.
    EnableEvent,
    DisableEvent,
}

impl Command {
    const ALL: [(Self, &'static str); 8] = [
        (Self::TraceOn, "traceon"),
        (Self::TraceOff, "traceoff"),
        (Self::Snapshot, "snapshot"),
        (Self::StackTrace, "stacktrace"),
        (Self::Dump, "dump"),
        (Self::CpuDump, "cpudump"),
        (Self::EnableEvent, "enable_event"),
        (Self::DisableEvent, "disable_event"),
    ];

    const fn is_about_event(self) -> bool {
        matches!(self, Self::EnableEvent | Self::DisableEvent)
    }

    const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The ops of one command, and what its handler looks at.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) ops: Ops,
    /// A [`Command`], as a number.
    command: AtomicU8,
    /// Whether the event is recorded that it switches: null, or of a `&'static AtomicBool`.
    records: AtomicPtr<AtomicBool>,
    pub(super) left: Left,
}

impl Slot {
    /// All of them, with this callback, whose ops's data is a slot's number.
    pub(super) const fn all(callback: Callback) -> [Self; MAX_COMMANDS] {
        let mut all = [const { Self::new() }; MAX_COMMANDS];
        let mut number = 0;
        while number < MAX_COMMANDS {
            all[number].ops = Ops::new(callback).with_data(number);
            number += 1;
        }
        all
    }

    /// One whose ops is still to be made.
    const fn new() -> Self {
        let records = AtomicPtr::new(core::ptr::null_mut());
        Self { ops: Ops::counter(), command: AtomicU8::new(0), records, left: Left::none() }
    }

    /// What it does.
    #[inline]
    pub(super) fn is(&self, command: Command) -> bool {
        self.command.load(Ordering::Relaxed) == command as u8
    }

    pub(super) fn command(&self) -> Option<Command> {
        Command::ALL.get(usize::from(self.command.load(Ordering::Relaxed))).map(|(command, _)| *command)
    }

    /// Has it do this when it is registered.
    pub(super) fn prepare(&self, command: Command, records: Option<&'static AtomicBool>, count: Option<u64>) {
        self.command.store(command as u8, Ordering::Relaxed);
        let records = records.map_or(core::ptr::null(), core::ptr::from_ref);
        self.records.store(records.cast_mut(), Ordering::Release);
        self.left.set(count);
    }
}

impl Slot {
    /// Whether the event is recorded that it switches, if it switches one.
    pub(super) fn records(&self) -> Option<&'static AtomicBool> {
        // SAFETY: null, or it was made of a reference for ever.
        unsafe { self.records.load(Ordering::Acquire).as_ref() }
    }
}

/// A command as a word asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AtFunction<'a> {
    pub(super) rule: Word<'a>,
    pub(super) command: Command,
    /// The number of the event that it switches.
    pub(super) target: Option<usize>,
    /// How often it acts; always, where nothing is said.
    pub(super) count: Option<u64>,
    /// `!` stands before it: it is removed.
    pub(super) is_removed: bool,
}

impl<'a> AtFunction<'a> {
    /// Reads a word, if it has a command.
    pub(super) fn parse(word: Word<'a>, events: Result<EventsParts, Reason>) -> Result<Option<Self>, Refusal> {
        let Some((rule, command, rest)) = divide(word) else { return Ok(None) };
        let (is_removed, rule) = match rule.strip_prefix("!") {
            Some(rule) => (true, rule),
            None => (false, rule),
        };
        let Some((kind, _)) = Command::ALL.into_iter().find(|(_, name)| *name == command.text()) else {
            return Err(command.refuse(Reason::FunctionCommand));
        };
        let (target, count) = if kind.is_about_event() {
            let events = events.map_err(|reason| command.refuse(reason))?;
            let (target, count) = event_in(rest.unwrap_or(command.end()), events)?;
            (Some(target), count)
        } else {
            (None, rest)
        };
        let command = kind;
        let count = match count {
            None => None,
            Some(count) => Some(count.number()? as u64),
        };
        // `dump` once, as on Linux, since the next one has the same.
        let count = count.or(matches!(command, Command::Dump | Command::CpuDump).then_some(1));
        if rule.text().len() > COMMAND_RULE_BYTES {
            return Err(rule.refuse(Reason::TooManyCommands));
        }
        Rule::parse(rule.text()).map_err(|error| rule.refuse(Reason::Glob(error)))?;
        Ok(Some(Self { rule, command, target, count, is_removed }))
    }
}

/// The number of the event in `GRP:EV[:count]`, and the count.
fn event_in(word: Word<'_>, events: EventsParts) -> Result<(usize, Option<Word<'_>>), Refusal> {
    let Some((group, rest)) = word.split_once(':') else {
        return Err(word.refuse(Reason::Event(EventReason::NoTarget)));
    };
    let (event, count) = rest.split_once(':').map_or((rest, None), |(event, count)| (event, Some(count)));
    match events.named(Some(group.text()), event.text()) {
        Some((number, _)) => Ok((number, count)),
        None => Err(group.refuse(Reason::Event(EventReason::NoSuchEvent))),
    }
}

/// Of a word that is no rule and has no command that is one: why it is refused, if it may have been meant to have one.
pub(super) fn unknown_command(word: Word<'_>) -> Option<Refusal> {
    let text = word.text();
    let at = text.rfind(':').filter(|at| !text[..*at].ends_with(':'))?;
    let (_, command) = word.split_at(at + 1);
    let is_name =
        !command.text().is_empty() && command.text().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name.then(|| command.refuse(Reason::FunctionCommand))
}

/// A word as `rule:command` and what stands behind a `:` after that, if it has a command: in a path a colon has another beside
/// it.
fn divide(word: Word<'_>) -> Option<(Word<'_>, Word<'_>, Option<Word<'_>>)> {
    let text = word.text();
    let is_command = |name: &str| Command::ALL.iter().any(|(_, own)| *own == name);
    let single = |at: usize| !text[..at].ends_with(':') && !text[at + 1..].starts_with(':');
    let mut colons = text.match_indices(':').map(|(at, _)| at).filter(|at| *at > 0 && single(*at));
    colons.find_map(|at| {
        let (rule, rest) = word.split_at(at);
        let rest = rest.split_at(1).1;
        let (command, count) = match rest.text().find(':') {
            Some(end) => (rest.split_at(end).0, Some(rest.split_at(end + 1).1)),
            None => (rest, None),
        };
        is_command(command.text()).then_some((rule, command, count))
    })
}

/// A command that is registered.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    /// # Invariants
    ///
    /// It can be parsed.
    pub(super) rule: ArrayString<COMMAND_RULE_BYTES>,
    pub(super) command: Command,
    /// The number of the event that it switches.
    pub(super) target: Option<usize>,
    /// How often it acts; always, where there is nothing.
    pub(super) left: Option<u64>,
}

impl Registered {
    pub(super) fn is(&self, asked: &AtFunction<'_>) -> bool {
        (self.rule.as_str(), self.command, self.target) == (asked.rule.text(), asked.command, asked.target)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.rule, self.command, self.target) == (&other.rule, other.command, other.target)
    }

    /// Writes it as Linux does.
    pub(super) fn write(&self, events: Option<EventsParts>, out: &mut dyn Write) -> fmt::Result {
        write!(out, "{}:{}:", self.rule, self.command.name())?;
        if let Some(known) = self.target.zip(events).and_then(|(target, events)| events.known(target)) {
            write!(out, "{}:{}:", known.definition.group, known.definition.name)?;
        }
        match self.left {
            Some(left) => writeln!(out, "count={left}"),
            None => out.write_str("unlimited\n"),
        }
    }
}
