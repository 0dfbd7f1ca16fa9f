//! Commands at functions: `func:command[:count]` in `set_ftrace_filter`.

use super::left::Left;
use super::line::Word;
use super::reason::{Reason, Refusal};
use super::rules::{COMMAND_RULE_BYTES, MAX_COMMANDS};
use crate::filter::Rule;
use crate::ops::{Callback, Ops};
use arrayvec::ArrayString;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

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
}

impl Command {
    const ALL: [(Self, &'static str); 6] = [
        (Self::TraceOn, "traceon"),
        (Self::TraceOff, "traceoff"),
        (Self::Snapshot, "snapshot"),
        (Self::StackTrace, "stacktrace"),
        (Self::Dump, "dump"),
        (Self::CpuDump, "cpudump"),
    ];

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
        Self { ops: Ops::counter(), command: AtomicU8::new(0), left: Left::none() }
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
    pub(super) fn prepare(&self, command: Command, count: Option<u64>) {
        self.command.store(command as u8, Ordering::Relaxed);
        self.left.set(count);
    }
}

/// A command as a word asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AtFunction<'a> {
    pub(super) rule: Word<'a>,
    pub(super) command: Command,
    /// How often it acts; always, where nothing is said.
    pub(super) count: Option<u64>,
    /// `!` stands before it: it is removed.
    pub(super) is_removed: bool,
}

impl<'a> AtFunction<'a> {
    /// Reads a word, if it has a command.
    pub(super) fn parse(word: Word<'a>) -> Result<Option<Self>, Refusal> {
        let Some((rule, command, rest)) = divide(word) else { return Ok(None) };
        let (is_removed, rule) = match rule.strip_prefix("!") {
            Some(rule) => (true, rule),
            None => (false, rule),
        };
        let Some((command, _)) = Command::ALL.into_iter().find(|(_, name)| *name == command.text()) else {
            return Err(command.refuse(Reason::FunctionCommand));
        };
        let count = match rest {
            None => None,
            Some(count) => Some(count.number()? as u64),
        };
        // `dump` once, as on Linux, since the next one has the same.
        let count = count.or(matches!(command, Command::Dump | Command::CpuDump).then_some(1));
        if rule.text().len() > COMMAND_RULE_BYTES {
            return Err(rule.refuse(Reason::TooManyCommands));
        }
        Rule::parse(rule.text()).map_err(|error| rule.refuse(Reason::Glob(error)))?;
        Ok(Some(Self { rule, command, count, is_removed }))
    }
}

/// The names of commands that Linux has and this doesn't.
const OTHERS: [&str; 2] = ["enable_event", "disable_event"];

/// A word as `rule:command` and what stands behind a `:` after that, if it has a command: in a path a colon has another beside
/// it.
fn divide(word: Word<'_>) -> Option<(Word<'_>, Word<'_>, Option<Word<'_>>)> {
    let text = word.text();
    let is_command = |name: &str| Command::ALL.iter().any(|(_, own)| *own == name) || OTHERS.contains(&name);
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
    /// How often it acts; always, where there is nothing.
    pub(super) left: Option<u64>,
}

impl Registered {
    pub(super) fn is(&self, asked: &AtFunction<'_>) -> bool {
        (self.rule.as_str(), self.command) == (asked.rule.text(), asked.command)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.rule, self.command) == (&other.rule, other.command)
    }
}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.rule, self.command.name())?;
        match self.left {
            Some(left) => write!(f, "count={left}"),
            None => f.write_str("unlimited"),
        }
    }
}
