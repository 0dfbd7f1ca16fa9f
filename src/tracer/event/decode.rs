//! Events out of bytes, which anybody may have damaged.

use super::{
    Event, FUNCTION, GRAPH_ENTRY, GRAPH_EXIT, MARKER, MAX_ARGUMENTS, PROBE, PayloadWords, Recorded, STACK, USER_KINDS,
};
use crate::address::TextAddr;
use crate::tracer::ring::Label;
use thiserror::Error;

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EventError {
    /// There are fewer bytes than the record's first one says, or than any record has.
    #[error("The record should have {needed} bytes and has {found}")]
    #[expect(missing_docs, reason = "numbers of bytes")]
    Truncated { needed: usize, found: usize },
    /// A kind that this version does not know.
    #[error("The record is of the unknown kind {0}")]
    Kind(u8),
    /// A length that a record of that kind can't have.
    #[error("The record of kind {kind} with the number {extra} can't have {words} words")]
    #[expect(missing_docs, reason = "the record's head, and its length in words")]
    Length { kind: u8, extra: u16, words: usize },
    /// A marker whose text is not UTF-8.
    #[error("The marker's text is no UTF-8 after {valid} bytes")]
    Text {
        /// How many of its bytes are.
        valid: usize,
    },
}

/// Decodes the event that these bytes begin with; returns it and the bytes behind it.
///
/// # Errors
///
/// See [`EventError`].
pub fn decode(bytes: &[u8]) -> Result<(Recorded<'_>, &[u8]), EventError> {
    let truncated = |needed| EventError::Truncated { needed, found: bytes.len() };
    let length = usize::from(*bytes.first().ok_or(truncated(16))?) * 8;
    let (record, rest) = bytes.split_at_checked(length).ok_or(truncated(length))?;
    let [label, time, payload @ ..] = record.as_chunks().0 else { return Err(truncated(16)) };
    let label = Label::from_word(u64::from_le_bytes(*label));
    let event = event(label.kind, label.extra, payload)?;
    Ok((Recorded { time: u64::from_le_bytes(*time), task: label.task, event }, rest))
}

fn event(kind: u8, extra: u16, payload: &[[u8; 8]]) -> Result<Event<'_>, EventError> {
    let address = |word: &[u8; 8]| TextAddr::new(u64::from_le_bytes(*word));
    let counted = |words: &[[u8; 8]]| words.len() == usize::from(extra);
    match (kind, payload) {
        (0, _) => Ok(Event::Void),
        (FUNCTION, [ip, parent, arguments @ ..]) if counted(arguments) && arguments.len() <= MAX_ARGUMENTS => {
            Ok(Event::Function { ip: address(ip), parent: address(parent), arguments: PayloadWords(arguments) })
        }
        (GRAPH_ENTRY, [ip, parent]) => Ok(Event::GraphEntry { ip: address(ip), parent: address(parent), depth: extra }),
        (GRAPH_EXIT, [ip, entry_time, value]) => Ok(Event::GraphExit {
            ip: address(ip),
            entry_time: u64::from_le_bytes(*entry_time),
            depth: extra,
            value: u64::from_le_bytes(*value),
        }),
        (STACK, [ip, frames @ ..]) if counted(frames) => {
            Ok(Event::Stack { ip: address(ip), frames: PayloadWords(frames) })
        }
        (MARKER, words) if words.len() == usize::from(extra).div_ceil(8) => {
            let text = words.as_flattened().get(..extra.into()).unwrap_or_default();
            let text = core::str::from_utf8(text).map_err(|error| EventError::Text { valid: error.valid_up_to() })?;
            Ok(Event::Marker { text })
        }
        (PROBE, words) => Ok(Event::Probe { id: extra, payload: PayloadWords(words) }),
        (USER_KINDS.., _) => Ok(Event::User { kind, extra, payload: PayloadWords(payload) }),
        (FUNCTION..=MARKER, _) => Err(EventError::Length { kind, extra, words: payload.len() + 2 }),
        _ => Err(EventError::Kind(kind)),
    }
}
