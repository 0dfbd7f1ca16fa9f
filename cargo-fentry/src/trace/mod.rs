//! `cargo fentry trace`: boots a kernel that records its calls, and writes the trace as other people's tools read it.
//!
//! | | |
//! |---|---|
//! | `record` | boots the kernel, which leaves a dump |
//! | `runner` | the command that boots it, where that is not QEMU |
//! | `lines` | finds a dump in what a kernel says on its console |
//! | `memory` | finds rings in an image of a machine's memory, and makes such a dump of them |
//! | `dump` | reads that dump |
//! | `model` | the trace: events, names, tasks, what was lost |
//! | `calls` | puts calls inside each other, and supplies the entries and exits that are missing |
//! | `formats` | writes the trace for its readers; knows nothing of kernels or dumps |
//! | `proof` | compares all this with what the real readers show, for tests |

mod calls;
mod command;
mod dump;
mod formats;
mod lines;
mod memory;
mod model;
#[cfg(any(test, feature = "proof"))]
pub mod proof;
mod record;
mod runner;
#[cfg(test)]
mod tests;

pub(crate) use command::export;
pub use command::{Kernel, TraceArgs, TraceChoices, run, run_on};
pub(crate) use record::functions_of;
pub use record::{Booter, Recorded, Recording, Tracer};
pub use runner::{Given, Runner};

/// The dump among the lines of a console; empty if there is none, or not all of one.
pub(crate) fn dump_in(console: &[u8]) -> Vec<u8> {
    let lines = lines::Lines::in_text(console);
    if lines.is_whole { lines.bytes } else { Vec::new() }
}
