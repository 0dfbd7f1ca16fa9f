//! Rules as text: what `set_ftrace_filter` and `set_ftrace_notrace` hold.

use crate::filter::Rule;
use arrayvec::{ArrayString, ArrayVec};

/// The most rules of the two files together.
pub const MAX_RULES: usize = 32;

/// The room for the rules of one file, in bytes; each takes its length and one more.
pub const RULES_BYTES: usize = 1024;

/// The room for the rules of `set_graph_function`, and of `set_graph_notrace`.
pub const GRAPH_RULES_BYTES: usize = 256;

/// The most commands at functions that there are at a time.
pub const MAX_COMMANDS: usize = 8;

/// The longest rule of a command at a function, in bytes.
pub const COMMAND_RULE_BYTES: usize = 128;

/// There is no room for one more rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full;

/// The rules of a file.
#[derive(Clone, Debug)]
pub(super) struct Rules<const BYTES: usize = RULES_BYTES> {
    /// # Invariants
    ///
    /// Each rule can be parsed, has no line break in it, and ends in one.
    text: ArrayString<BYTES>,
}

impl<const BYTES: usize> Rules<BYTES> {
    pub(super) const fn new() -> Self {
        Self { text: ArrayString::new_const() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Rule<'_>> {
        // By the invariant, each is one.
        self.text.lines().filter_map(|text| Rule::parse(text).ok())
    }

    /// Adds a rule that can be parsed, unless it is there.
    pub(super) fn add(&mut self, rule: &str) -> Result<(), Full> {
        if self.has(rule) {
            return Ok(());
        }
        if self.text.lines().count() == MAX_RULES || rule.len() >= self.text.remaining_capacity() {
            return Err(Full);
        }
        // INVARIANT: a line has no line breaks, nor has a part of it. There is room for both.
        let added = self.text.try_push_str(rule).is_ok() && self.text.try_push('\n').is_ok();
        if added { Ok(()) } else { Err(Full) }
    }

    /// Removes the rule of this text; returns whether it was there.
    pub(super) fn remove(&mut self, rule: &str) -> bool {
        let had = self.has(rule);
        if had {
            self.keep(|text| text != rule);
        }
        had
    }

    /// Removes the negative rule of the rule of this text, if it is there.
    pub(super) fn remove_negative(&mut self, rule: &str) {
        self.keep(|text| text.strip_prefix('!') != Some(rule));
    }

    /// Keeps these rules only.
    fn keep(&mut self, is_kept: impl Fn(&str) -> bool) {
        let mut kept = Self::new();
        for text in self.text.lines().filter(|text| is_kept(text)) {
            // There is room: they were here.
            let _ = kept.add(text);
        }
        *self = kept;
    }

    fn has(&self, rule: &str) -> bool {
        self.text.lines().any(|text| text == rule)
    }

    /// The rules of a filter with these of `set_ftrace_filter`, less those of `set_ftrace_notrace`.
    pub(super) fn without<'a>(&'a self, notrace: &'a Self) -> Result<ArrayVec<Rule<'a>, MAX_RULES>, Full> {
        let mut rules = ArrayVec::new_const();
        for rule in self.iter().chain(notrace.iter().map(Rule::negated)) {
            rules.try_push(rule).map_err(|_| Full)?;
        }
        Ok(rules)
    }
}
