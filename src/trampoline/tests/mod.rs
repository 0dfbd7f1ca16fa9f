//! Ops structs: on a host.

mod check;
mod registry;
mod users;
