//! `cargo xtask trace`: a kernel that records, and its trace, written as other people's tools read it.
//!
//! | file | what reads it |
//! |---|---|
//! | `text` | people, and what reads Linux's `trace` file |
//! | `uftrace` | uftrace's `replay`, `report`, `graph`, `tui` and `dump` |
//! | `trace_dat` | trace-cmd and KernelShark |
//! | `perfetto` | Perfetto's UI and `chrome://tracing` |
//! | `folded`, `flamegraph` | flame graph tools; a browser |
//! | `summary` | people: one table |
//!
//! Each takes a [`model::Trace`] and knows nothing of kernels. `calls` pairs entries and exits for those that need calls.
//! `record` boots a kernel, `recorded` reads what it wrote, `proof` has it all checked.

mod calls;
mod command;
mod flamegraph;
mod folded;
mod model;
mod perfetto;
pub(crate) mod proof;
mod record;
mod recorded;
mod summary;
mod text;
mod trace_dat;
mod uftrace;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod readers;

pub(crate) use command::{TraceArgs, run};
