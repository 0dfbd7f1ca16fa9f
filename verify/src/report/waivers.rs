//! Waivers: findings that somebody has looked at and accepted, each with the reason.
//!
//! ```text
//! # rule               place                         reason
//! callsite-entered     memcpy                     -- jumps behind its own NOPs, which it shares with memmove
//! callsite-form        <kernel::Uart as Log>::log -- naked, and never traced
//! callsite-entered     0x40081234                 -- ...
//! return-register      kernel::trampolines::*     -- ...
//! ```
//! A place is a function, as the linker or as the language names it, `*` at the start or end of the name standing for anything;
//! or an instruction's address: in an object, its section and offset, `.text+0x20`; or `*`, the whole file.
//!
//! What the engine's own stubs and trampolines need is waived here ([`Waivers::with_engine`]): every kernel with fentry has
//! them, and none has to copy those lines.

use thiserror::Error;

use super::Rule;

/// The waivers of the engine's stubs and trampolines.
pub(super) const ENGINE: &str = include_str!("engine.waivers");

/// The waivers of one file, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waivers {
    pub(super) all: Vec<Waiver>,
}

/// One waiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiver {
    /// In the user's file, counted from 1; `None` for one of the engine's.
    pub(super) line: Option<usize>,
    pub(super) rule: Rule,
    pub(super) place: String,
    pub(super) reason: String,
}

/// A line of a file of waivers that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are the line's number, counted from 1, and what stands there")]
pub enum WaiverError {
    /// There is no such rule.
    #[error("line {line}: there is no rule {id}")]
    NoRule { line: usize, id: String },
    /// It does not say where.
    #[error("line {line}: {rule} is waived without a function or an address")]
    NoPlace { line: usize, rule: Rule },
    /// It does not say why.
    #[error("line {line}: {rule} is waived at {place} without a reason: write it behind ` -- `")]
    NoReason { line: usize, rule: Rule, place: String },
}

impl Waivers {
    /// Reads a file of waivers: in each line a rule, a function or an address, ` -- `, and the reason. `#` begins a comment
    /// line.
    ///
    /// # Errors
    ///
    /// A line lacks one of the three, or names a rule that there is not.
    pub fn parse(text: &str) -> Result<Self, WaiverError> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let written = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        Ok(Self { all: written.map(|(line, text)| waiver(line, text)).collect::<Result<_, _>>()? })
    }

    /// Adds those of what the engine has in assembly. They hold in images that have the engine, and in modules, and need not
    /// all be needed.
    #[must_use]
    pub fn with_engine(mut self) -> Self {
        let engine = Self::parse(ENGINE).unwrap_or_default().all;
        self.all.extend(engine.into_iter().map(|waiver| Waiver { line: None, ..waiver }));
        self
    }
}

fn waiver(line: usize, text: &str) -> Result<Waiver, WaiverError> {
    let (id, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rule = Rule::of_id(id).ok_or_else(|| WaiverError::NoRule { line, id: id.to_owned() })?;
    // A name may have two dashes in it, but not with spaces around them.
    let rest = format!(" {rest} ");
    let (place, reason) = rest.split_once(" -- ").unwrap_or((&rest, ""));
    let (place, reason) = (place.trim().to_owned(), reason.trim().to_owned());
    match (place.is_empty(), reason.is_empty()) {
        (true, _) => Err(WaiverError::NoPlace { line, rule }),
        (false, true) => Err(WaiverError::NoReason { line, rule, place }),
        (false, false) => Ok(Waiver { line: Some(line), rule, place, reason }),
    }
}
