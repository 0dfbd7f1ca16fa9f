//! Ops structs: on a host.
#![expect(clippy::allow_attributes, reason = "`ops_struct!` has them for the crates that it is for")]

mod check;
mod generated;
mod registry;
mod users;
