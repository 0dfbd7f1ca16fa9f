//! Files of a kernel's own.

use super::line::Value;
use super::reason::{Reason, Refusal};
use core::fmt;

/// A file that a kernel adds: `cat NAME` reads it, `echo VALUE > NAME` writes it.
///
/// ```
/// use core::fmt;
/// use core::sync::atomic::{AtomicUsize, Ordering};
/// use fentry::control::{File, Reason, Refusal, Value};
///
/// static LEVEL: AtomicUsize = AtomicUsize::new(3);
///
/// struct LogLevel;
///
/// impl File for LogLevel {
///     fn name(&self) -> &str {
///         "log_level"
///     }
///     fn help(&self) -> &str {
///         "what is logged, from 0 (nothing) to 5"
///     }
///     fn read(&self, out: &mut dyn fmt::Write) -> Result<(), Reason> {
///         Ok(writeln!(out, "{}", LEVEL.load(Ordering::Relaxed))?)
///     }
///     fn write(&self, value: &Value<'_>) -> Result<(), Refusal> {
///         let level = value.all().number()?;
///         if level > 5 {
///             return Err(value.all().refuse(Reason::Expected("0 to 5")));
///         }
///         LEVEL.store(level, Ordering::Relaxed);
///         Ok(())
///     }
/// }
/// ```
pub trait File: Sync {
    /// Returns its name, which may have slashes in it. Where the control interface has a file of this name, that one is meant.
    fn name(&self) -> &str;

    /// Returns one line on what it is for.
    fn help(&self) -> &str;

    /// Writes what it has to `out`.
    ///
    /// # Errors
    ///
    /// The reason why not; [`Reason::NotReadable`] if this isn't implemented.
    fn read(&self, out: &mut dyn fmt::Write) -> Result<(), Reason> {
        let _ = out;
        Err(Reason::NotReadable)
    }

    /// Takes a value.
    ///
    /// # Errors
    ///
    /// The reason why not, and where in the line. Then nothing has changed. [`Reason::NotWritable`] if this isn't implemented.
    fn write(&self, value: &Value<'_>) -> Result<(), Refusal> {
        Err(value.all().refuse(Reason::NotWritable))
    }
}
