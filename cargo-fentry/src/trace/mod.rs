//! `cargo fentry trace`: boots a kernel that records its calls, and writes the trace as other people's tools read it.
//!
//! | | |
//! |---|---|
//! | `record` | boots the kernel, which leaves a dump |
//! | `dump` | reads that dump |
//! | `model` | the trace: events, names, tasks, what was lost |
//! | `calls` | puts calls inside each other, and supplies the entries and exits that are missing |
//! | `formats` | writes the trace for its readers; knows nothing of kernels or dumps |
//! | `proof` | compares all this with what the real readers show, for tests |

mod calls;
mod command;
mod dump;
mod formats;
mod model;
#[cfg(any(test, feature = "proof"))]
pub mod proof;
mod record;
#[cfg(test)]
mod tests;

pub use command::{Kernel, TraceArgs, TraceChoices, run, run_on};
pub use record::{Recorded, Recording, Tracer};
