//! Events that lines define while the kernel runs: at which place, with which fields, for which of the times that it comes there.
//!
//! ```text
//! # echo 'p:reads my_kernel::disk::read block=$arg1 name=+0($arg2):string' > kprobe_events
//! # echo 'block > 100 && name ~ "sd*"' > events/kprobes/reads/filter
//! # echo 1 > events/kprobes/reads/enable
//! # cat trace_pipe
//!             main-1       [000] .....     1.204516: reads: (my_kernel::disk::read+0x0/0x40) block=0x80 name="sda"
//! ```
//!
//! [`Events`] is what a kernel keeps in a `static`: memory for so many events, each with the probes that it may need. A line
//! changes an event under a lock; what a probe's handler looks at is [published](published::Published) to it, and never in a lock.
//!
//! | | |
//! |---|---|
//! | `definition` | a line of `kprobe_events` or `dynamic_events`, taken apart |
//! | `fetch` | an argument: where a field's value comes from, and its type |
//! | `values` | the values of one event, as they are recorded |
//! | `filter` | which events pass |
//! | `trigger`, `hist` | what an event does beside: switch the trace or another event, show the stack, be counted |
//! | `stack` | a backtrace from where an event happens |
//! | `slot` | the memory of one event |
//! | `parts`, `switching` | all events: lines change them, and their triggers |
//! | `happen` | what is done where an event happens |
//! | `store` | all of it in one `static`, and what its probes call |
//! | `show` | an event as Linux prints it |

pub(super) mod definition;
pub(super) mod fetch;
pub(super) mod filter;
mod happen;
pub(super) mod hist;
pub(super) mod limits;
pub(super) mod parts;
mod published;
pub(super) mod reason;
pub(super) mod show;
pub(super) mod slot;
mod stack;
pub(super) mod store;
mod switching;
#[cfg(test)]
mod tests;
pub(super) mod trigger;
pub(super) mod values;

/// Whether a text is an identifier, as C has them.
pub(super) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
