//! Waivers: findings that somebody has looked at and accepted, each with the reason.
//!
//! ```text
//! # rule               place                         reason
//! callsite-entered     memcpy                     -- jumps behind its own NOPs, which it shares with memmove
//! callsite-form        <kernel::Uart as Log>::log -- naked, and never traced
//! callsite-entered     0x40081234                 -- ...
//! ```
//! A place is a function, as the linker or as the language names it, or an instruction's address: in an object, its section
//! and offset, `.text+0x20`.

use thiserror::Error;

use super::Rule;

/// The waivers of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waivers {
    pub(super) all: Vec<Waiver>,
}

/// One waiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiver {
    /// Counted from 1.
    pub(super) line: usize,
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
        (false, false) => Ok(Waiver { line, rule, place, reason }),
    }
}
