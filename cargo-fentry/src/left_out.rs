//! Tests that can't do their work, for want of a program that is not installed: how they say so, and to whom.

use std::io::Write as _;

/// What begins the line of such a test, by which the suite knows that it has not passed.
pub const LEFT_OUT: &str = "LEFT OUT: ";

/// Says of the running test that it could not do its work, past the harness, which keeps what a passing test prints.
///
/// # Panics
///
/// If standard error can't be written to.
pub fn leave_out(why: &str) {
    let test = std::thread::current();
    let line = format!("{LEFT_OUT}{}: {why}\n", test.name().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
