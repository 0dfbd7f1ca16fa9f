//! Errors where the user says: functions that fail on purpose, so that the paths behind them are tested.
//!
//! A kernel lists the functions that may fail, and what they return then ([`injectable!`](crate::injectable)). An
//! [`Injection`] is attached to some of them, and says when one fails; its parameters are those of Linux's fault injection
//! (lib/fault-inject.c), in its order:
//!
//! | asked | | as long as it says no |
//! |---|---|---|
//! | `fail-nth` | is the task counting injectable calls ([`fail_nth`])? | the call that it counts to fails, no other does |
//! | `probability` | a chance in percent; 0 for never | nothing fails |
//! | `task-filter` | may this [task](crate::TraceContext::set_may_fail) fail? | the call is as if it had not been made |
//! | `times` | how many may still fail? | nothing fails |
//! | `space` | have so many calls gone by? | this one goes by |
//! | `interval` | is it the nth, and each nth after that? | this one goes by |
//! | `probability` | is a random number below it? | this one goes by |
//! | stack filter | has the call come through one function, and not through another? | this one goes by |
//!
//! ```ignore
//! use fentry::inject::{Injectable, Injection};
//!
//! fentry::injectable! {
//!     // SAFETY: its callers handle a lack of pages.
//!     unsafe fn my_kernel::pages::take(order: usize) -> Option<Page> { None }
//! }
//!
//! static NO_PAGES: Injection = Injection::new();
//!
//! // SAFETY: the linker script is examples/fentry.ld.
//! let list = unsafe { Injectable::linked() };
//! NO_PAGES.attach(engine, [list.iter().find(|site| site.name() == "my_kernel::pages::take")?])?;
//! NO_PAGES.set_interval(10);
//! NO_PAGES.set_probability(100);
//! ```
//!
//! # What a call costs
//! A function to which nothing is attached costs nothing. One that does not fail now costs a test in its callsite's stub of
//! 10 instructions, or of 15 where calls are counted: what the parameters will say of the next calls is worked out ahead,
//! up to the one that fails. Only with a task filter, or where other ops are at the same function, is each call looked at.
//!
//! # What happens
//! A call that fails runs the function of the same type that `injectable!` was given, in place of the real one: so
//! arguments that were moved into it are dropped, and the result is where the compiler puts it, whatever its type.

mod ahead;
mod injection;
mod nth;
mod parameters;
mod site;
mod stack_filter;
#[cfg(test)]
mod tests;

pub use injection::{Failure, Injection, MAX_SITES};
pub use nth::{FailurePoints, fail_nth};
pub use site::Injectable;
pub use stack_filter::{Callers, StackFilter};
