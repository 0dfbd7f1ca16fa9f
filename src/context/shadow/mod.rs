//! The shadow stack: where traced calls will really return to.
//!
//! At the entry of a function whose return is hooked, the address that it will return to is put on the shadow
//! stack of the running thread's [`TraceContext`](crate::TraceContext), and the address of the return stub takes its place.
//! The return stub takes it down again. So hooked calls and returns nest as the calls do:
//!
//! ```text
//!   lowest  +-------------------------------+
//!           | SP = all ones                 |  below it nothing can be taken down
//!   start   +-------------------------------+
//!           | returns to, function, SP, ... |  the outermost hooked call
//!           | ...                           |
//!   top ->  +-------------------------------+
//!           | 0, ...                        |  free: returns to nowhere
//!           | ...                           |
//!   end     +-------------------------------+
//!           | all ones                      |  no room from here on
//! ```
//!
//! Both bounds are marked in the memory itself, next to what is loaded anyway: the stub looks at the SP below `top` and at
//! the word at `top`, which are neighbours, and so knows with one load whether there is room and whether what is below
//! is still going on. One store of `top` is all that it takes to give a thread another stack.
//!
//! # Calls that never return
//! A panic that is caught, a task that is killed, a longjmp leave frames behind. They are told from others by SP, since
//! stacks grow downwards:
//!
//! - at a *return*, a function has the SP that it was called with, so frames above the one with that SP are of calls that
//!   are over, on whatever stack they were;
//! - at the *end of an exception handler* that the context was told of, frames that were made since its beginning are of
//!   calls that are over, but for those of the handler's own callers;
//! - at an *entry*, a frame of the same stack whose SP is below the new call's is over; and one with the same SP is over as
//!   well, unless the new call will return to the return stub: then it is a tail call of that one, or a second hook at the
//!   same function. Which stack an SP belongs to is known where the context was told its
//!   [bounds](crate::TraceContext::set_stack_bounds); frames of other stacks are left alone.
//!
//! What is dropped is counted.
//!
//! # Interrupts
//! A context is changed by its thread and by what interrupts it, and an interrupt leaves `top` where it was, but for stale
//! frames that it may have dropped. (One whose handler leaves hooked calls behind, and which the context was not told of,
//! leaves their frames, until something below them returns.) A frame is taken (`top` goes up) before it is filled, and its
//! return address is written last. Until then it holds zero there, because whoever gives a frame back writes zero first: so
//! a frame in the making is told from a stale one.
//!
//! The memory is the kernel's: [`ShadowStack`] in a `static`, or in what belongs to a task, for as long as its context; or
//! [`ShadowFrames`] in bytes of its allocator.

mod calls;
mod frame;
mod stack;
#[cfg(test)]
mod tests;

pub(crate) use calls::{HookedCall, HookedCalls};
pub use frame::DATA_BYTES;
pub(crate) use frame::{FrameRef, ShadowFrame};
pub use stack::{ShadowFrames, ShadowMemoryError, ShadowStack};

use crate::address::TextAddr;

/// The address of the [return stub](crate::stub::exit).
#[cfg(target_os = "none")]
pub(crate) fn return_stub() -> TextAddr {
    // Declared as where the stubs are collected: the compiler keeps one declaration of a name.
    unsafe extern "C" {
        static fentry_return: u32;
    }
    TextAddr::new((&raw const fentry_return).addr() as u64)
}

/// A host has none; where nothing is.
#[cfg(not(target_os = "none"))]
pub(crate) const fn return_stub() -> TextAddr {
    TextAddr::new(8)
}
