//! Tracers: what users of the engine record, where they record it, and how it gets out.
//!
//! Each tracer is an ops of a few lines:
//!
//! | module | what it tells |
//! |---|---|
//! | [`function`](mod@function) | each call, its caller, its arguments |
//! | [`graph`] | which calls each call made, how long they took, what they returned |
//! | [`profiler`] | how often each function was called, its time with and without what it called |
//! | [`latency`] | how long the calls of a function take: a histogram, and a trigger for slow ones |
//! | [`stack`] | the deepest stack, and by which calls |
//! | [`under`] | the call graph below some functions only, and not below others |
//!
//! The first two record into [`ring`]s, one for each CPU; [`event`] says what records hold; [`dump`] is the stream of bytes in
//! which a kernel hands its rings out, and the reader of it; [`kept`] are rings that are read after a reset, or in an image of the
//! memory. [`kernel`] is what they ask of a kernel; [`session`] does all that a
//! command line asks for, from its words to the dump.
//!
//! Times are ticks of the generic timer, as [`ticks`] reads them.

pub mod dump;
pub mod event;
pub mod function;
pub mod graph;
pub mod kept;
pub mod kernel;
pub mod latency;
pub mod profiler;
pub mod ring;
pub mod session;
pub mod stack;
pub mod under;

pub use crate::context::clock::ticks;
#[cfg(target_arch = "aarch64")]
pub use crate::context::clock::ticks_per_second;
