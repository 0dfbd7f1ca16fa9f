//! Tests of the loader, on a host.

mod bad_input;
mod compilers;
mod exports;
mod fixture;
mod forms;
mod heap;
mod injectables;
mod loading;
mod out_of_memory;
mod relocations;
mod unwind;
