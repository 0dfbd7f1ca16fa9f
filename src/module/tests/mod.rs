//! Tests of the loader, on a host.

mod bad_input;
mod exports;
mod fixture;
mod heap;
mod loading;
mod out_of_memory;
mod relocations;
