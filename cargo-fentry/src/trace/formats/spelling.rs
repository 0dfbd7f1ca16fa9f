//! Names, texts and times as several formats spell them.

/// The name of what is between functions, for readers that take a function to last until the next one begins.
pub(super) const NO_FUNCTION: &str = "no_function";

/// A text without what would end its line.
pub(super) fn in_one_line(text: &str) -> String {
    text.trim_end().replace(|character: char| character.is_control(), " ")
}

/// Nanoseconds as microseconds with three decimals.
pub(super) fn micros(nanoseconds: u64) -> String {
    format!("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000)
}
