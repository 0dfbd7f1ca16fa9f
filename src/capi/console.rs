//! What the library says, and how it ends: through two functions of the kernel's.

use super::error::fentry_error;
use super::platform::KERNEL;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use log::{LevelFilter, Log, Metadata, Record};

/// The kernel's console, if it has given one.
pub(super) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        KERNEL.print(text);
        Ok(())
    }
}

/// Prints to the kernel's console, if it has given one.
pub(super) fn say(text: fmt::Arguments<'_>) {
    // A console has no errors.
    let _ = Console.write_fmt(text);
}

/// Prints the whole of an error, and gives its number.
pub(super) fn told<E: fmt::Display + Into<fentry_error>>(error: E) -> fentry_error {
    say(format_args!("fentry: {error}\n"));
    error.into()
}

impl Log for Console {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        say(format_args!("{}\n", record.args()));
    }

    fn flush(&self) {}
}

/// Sends what the engine logs to the console as well: warnings, and more serious things.
pub(super) fn take_log() {
    // If somebody else has it, it stays theirs.
    if log::set_logger(&Console).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// Ends the kernel after a panic: what the panic handler of the static library does.
///
/// The text goes to the kernel's console, then its `panic` is called. If there is none, or it returns, the CPU stays here.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    say(format_args!("fentry: {info}\n"));
    KERNEL.panic();
    loop {
        core::hint::spin_loop();
    }
}
