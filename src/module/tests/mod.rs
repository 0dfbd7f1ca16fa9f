//! Tests of the loader, on a host.

mod bad_input;
mod fixture;
mod loading;
mod relocations;
