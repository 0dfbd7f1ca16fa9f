//! What a session is asked for: as words, and out of words.

use super::words::Word;
use crate::filter::{GlobError, Rule};
use crate::tracer::event::MAX_ARGUMENTS;
use crate::tracer::under::{MAX_FILTER, MAX_UNDER, Scope};
use arrayvec::ArrayVec;
use core::fmt;
use thiserror::Error;

/// The most rules of a session's filter.
pub const MAX_RULES: usize = MAX_FILTER;

/// What is done at each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tracer {
    /// Calls are recorded with their returns.
    Graph = 1,
    /// Calls are recorded.
    Function = 2,
    /// Calls are counted and timed.
    Profile = 3,
}

impl Tracer {
    pub(super) const ALL: [Self; 3] = [Self::Graph, Self::Function, Self::Profile];

    /// Its name in a `tracer=` word.
    const fn name(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Function => "function",
            Self::Profile => "profile",
        }
    }
}

/// What the words of a command line ask for. `Display` writes the words that [`parse`](Self::parse) reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// What is done at each call.
    pub tracer: Tracer,
    /// Of which functions; all, if there are no rules.
    pub rules: ArrayVec<Rule<'a>, MAX_RULES>,
    /// The graph has only calls of these functions and calls inside them; all, if there are no rules.
    pub under: ArrayVec<Rule<'a>, MAX_UNDER>,
    /// The graph has no calls of these functions, nor any inside them.
    pub not_under: ArrayVec<Rule<'a>, MAX_UNDER>,
    /// The graph has calls that are inside less than this many others.
    pub depth: usize,
    /// How many arguments the function tracer records.
    pub arguments: usize,
}

/// A word that can't be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("The word {word:?}: {cause}")]
pub struct OptionError<'a> {
    /// The word.
    pub word: &'a str,
    /// What is wrong with it.
    #[source]
    pub cause: OptionCause,
}

/// What is wrong with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionCause {
    /// There is no such tracer.
    #[error("there are the tracers graph, function and profile")]
    Tracer,
    /// The rule is no glob.
    #[error("{0}")]
    Rule(#[source] GlobError),
    /// There are [`MAX_RULES`] rules already.
    #[error("there are {MAX_RULES} rules already")]
    TooManyRules,
    /// There are [`MAX_UNDER`] such rules already.
    #[error("there are {MAX_UNDER} such rules already")]
    TooManyUnder,
    /// A negative rule where only functions can be named.
    #[error("functions should be named here, not taken away")]
    Negative,
    /// No number stands behind the `=`.
    #[error("a number should stand behind the =")]
    Number,
    /// A call has no more than eight arguments in registers.
    #[error("a call has {MAX_ARGUMENTS} arguments in registers")]
    Arguments,
}

impl fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tracer={}", self.tracer.name())?;
        self.rules.iter().try_for_each(|rule| write!(f, " {}", Word(format_args!("filter={rule}"))))?;
        self.under.iter().try_for_each(|rule| write!(f, " {}", Word(format_args!("under={rule}"))))?;
        self.not_under.iter().try_for_each(|rule| write!(f, " {}", Word(format_args!("not-under={rule}"))))?;
        if self.depth != usize::MAX {
            write!(f, " depth={}", self.depth)?;
        }
        if self.arguments != 0 {
            write!(f, " args={}", self.arguments)?;
        }
        Ok(())
    }
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<'a> Options<'a> {
    /// What no words ask for.
    pub(crate) const NONE: Self = Self {
        tracer: Tracer::Graph,
        rules: ArrayVec::new_const(),
        under: ArrayVec::new_const(),
        not_under: ArrayVec::new_const(),
        depth: usize::MAX,
        arguments: 0,
    };

    /// Whether the graph is of calls below some functions only, or not below some.
    pub(super) const fn has_scope(&self) -> bool {
        !self.under.is_empty() || !self.not_under.is_empty()
    }

    pub(super) fn scope(&self) -> Scope<'_> {
        Scope { filter: &self.rules, under: &self.under, not_under: &self.not_under }
    }

    /// Reads what these words ask for, as [`words`](super::words) divides a line; of two that contradict each other, the
    /// later one.
    ///
    /// # Errors
    ///
    /// The first word that begins as one of the session's own and goes on wrong.
    pub fn parse(words: impl IntoIterator<Item = &'a str>) -> Result<Self, OptionError<'a>> {
        let mut options = Self::NONE;
        options.read(words)?;
        Ok(options)
    }

    /// Reads what these words ask for into options that are there already, since they are large.
    pub(crate) fn read(&mut self, words: impl IntoIterator<Item = &'a str>) -> Result<(), OptionError<'a>> {
        for word in words {
            self.take(word).map_err(|cause| OptionError { word, cause })?;
        }
        Ok(())
    }

    fn take(&mut self, word: &'a str) -> Result<(), OptionCause> {
        let number = |text: &str| text.parse().map_err(|_| OptionCause::Number);
        match word.split_once('=') {
            Some(("tracer", name)) => {
                let named = Tracer::ALL.into_iter().find(|tracer| tracer.name() == name);
                self.tracer = named.ok_or(OptionCause::Tracer)?;
            }
            Some(("filter", rule)) => {
                let rule = Rule::parse(rule).map_err(OptionCause::Rule)?;
                self.rules.try_push(rule).map_err(|_| OptionCause::TooManyRules)?;
            }
            Some(("under", rule)) => take_function(&mut self.under, rule)?,
            Some(("not-under", rule)) => take_function(&mut self.not_under, rule)?,
            Some(("depth", depth)) => self.depth = number(depth)?,
            Some(("args", count)) => {
                self.arguments = number(count)?;
                if self.arguments > MAX_ARGUMENTS {
                    return Err(OptionCause::Arguments);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn take_function<'a>(rules: &mut ArrayVec<Rule<'a>, MAX_UNDER>, text: &'a str) -> Result<(), OptionCause> {
    let rule = Rule::parse(text).map_err(OptionCause::Rule)?;
    if text.trim_start().starts_with('!') {
        return Err(OptionCause::Negative);
    }
    rules.try_push(rule).map_err(|_| OptionCause::TooManyUnder)
}
