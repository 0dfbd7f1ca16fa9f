//! How much an event may have: its memory is fixed.

/// The most fields of an event.
pub const MAX_FIELDS: usize = 8;

/// The most bytes of a string that are fetched.
pub const STRING_BYTES: usize = 64;

/// The most words of a string: its length, and the string.
pub(super) const STRING_WORDS: usize = 1 + STRING_BYTES / 8;

/// The most words of all fields of an event: they may all be strings.
pub(super) const MAX_FIELD_WORDS: usize = MAX_FIELDS * STRING_WORDS;

/// The most elements of an array, a bit for each in a word.
pub(super) const MAX_ELEMENTS: u64 = 64;

/// The most tests of a filter, and the most brackets inside each other.
pub const MAX_TESTS: usize = 8;

/// The most addresses that are followed for one field.
pub(super) const MAX_DEREFERENCES: usize = 4;

/// The room for the strings of a filter.
pub(super) const PATTERN_BYTES: usize = 48;

/// The longest name of a group of events.
pub(in crate::control) const GROUP_BYTES: usize = 32;

/// The longest name of an event.
pub(super) const NAME_BYTES: usize = 64;

/// The room for the text of an event's fields, and for that of a filter.
pub(in crate::control) const TEXT_BYTES: usize = 256;

/// The most triggers of an event.
pub(super) const MAX_TRIGGERS: usize = 4;

/// The most keys of a histogram.
pub(super) const MAX_KEYS: usize = 3;

/// The most values that a histogram sums up, but for the hits.
pub(super) const MAX_SUMS: usize = 3;

/// By how much a histogram is sorted.
pub(super) const MAX_SORTS: usize = 2;

/// The most events of a kernel.
pub(in crate::control) const MAX_EVENTS: usize = 256;
