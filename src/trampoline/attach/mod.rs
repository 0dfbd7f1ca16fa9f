//! Attachments: handlers at one function, with its arguments and its result as Rust values and no register frame (Linux's
//! fentry, fexit and fmod_ret).
//!
//! An ops is for any function, so its callback is given registers. A handler here is for one, whose type it shares:
//!
//! ```
//! use fentry::Engine;
//! use fentry::trampoline::attach::{AttachError, AttachPoint, Fentry, Fexit, ModifyReturn};
//!
//! type Open = extern "C" fn(u64, u32) -> i32;
//!
//! extern "C" fn open(inode: u64, _flags: u32) -> i32 {
//!     if inode == 0 { -2 } else { 3 }
//! }
//!
//! static OPEN: AttachPoint<Open> = AttachPoint::new(open);
//!
//! static ASKED: Fentry<Open> = Fentry::<Open>::new(asked);
//! // SAFETY: 1. An error is a result that every caller knows. 2. One that failed has done nothing.
//! static DENIED: ModifyReturn<Open> = unsafe { ModifyReturn::<Open>::new(denied) };
//! static OPENED: Fexit<Open> = Fexit::<Open>::new(opened);
//!
//! extern "C" fn asked(inode: u64, flags: u32) {
//!     log::info!("open({inode}, {flags:#x})");
//! }
//!
//! /// What is not zero is the result, and the function does not run.
//! extern "C" fn denied(inode: u64, _flags: u32) -> i32 {
//!     if inode == 7 { -13 } else { 0 }
//! }
//!
//! extern "C" fn opened(inode: u64, _flags: u32, result: &i32) {
//!     log::info!("open({inode}) = {result}");
//! }
//!
//! # fn trace(engine: &'static Engine) -> Result<(), AttachError> {
//! OPEN.attach(engine, &ASKED)?;
//! OPEN.attach(engine, &DENIED)?;
//! OPEN.attach(engine, &OPENED)?;
//! // ...
//! OPEN.detach(engine, &ASKED)?;
//! # Ok(())
//! # }
//! ```
//!
//! One of another type is refused by the compiler:
//!
//! ```compile_fail,E0308
//! # use fentry::trampoline::attach::Fentry;
//! extern "C" fn asked(inode: u64, flags: u64) {}
//! type Open = extern "C" fn(u64, u32) -> i32;
//! static ASKED: Fentry<Open> = Fentry::<Open>::new(asked);
//! ```
//!
//! # What is called, and when
//! All entries in the order in which they were attached; then those that may answer, until the first does; then the function,
//! unless one has; then the exits, with the result, whoever it is from.
//!
//! For each set of handlers there is a trampoline, which the callsite calls itself, and which consists of these calls and what
//! they need: it keeps the registers that the function's type says have arguments, and no others. (`stub::attached` has its
//! instructions.) Beyond the disabled callsite, with one empty handler of two arguments, which is itself two instructions, a
//! call takes
//!
//! | | handler calls nothing | handler may call something |
//! |---|---|---|
//! | [`Fentry`] | 12 | 19 |
//! | [`ModifyReturn`] | 13 | 20 |
//! | [`Fexit`] | 26 | 33 |
//! | [`Fexit`], with FEAT_LSE | 22 | 29 |
//!
//! [Ops](crate::Ops) at the same function are called before, and see it as if nothing were attached. An attached function has a
//! direct trampoline, so it can't have another one, nor an ops that changes where the call goes.
//!
//! # Types
//! The type of the function is that of a value, so the compiler answers for it; a handler is a function with the same
//! arguments, which the compiler makes read them where they are. What is an [`Argument`] can have any bits, and has no
//! lifetime: numbers, `bool`, raw pointers, and structs of those that say so. For what else a function may take, its author
//! knows more than its type does: whoever calls it has a reference that lives for the call, and a handler must not be told that
//! it lives longer; two functions of the same instructions may be one in the image, of which the one takes a `char` and the
//! other a `u32`. Such a function is attached to [by its address](AttachPoint::at), with pointers for its references, by
//! somebody who promises what its type can't.
//!
//! Up to twelve arguments; those that have no place in registers are on the stack, and are copied for each call. Of numbers
//! with less than 64 bits, what is above is cleared for handlers. A result may be anything: it is where AAPCS64 6.9 says, and
//! exits get a reference to it.
//!
//! # No handler inside a handler
//! A handler that calls the function that it is attached to would be called for ever. So handlers are called under the guard of
//! the [context](crate::context): inside a callback of the same level none are called, the call goes on in the function, and
//! [`misses`](AttachPoint::misses) counts it. That costs seven instructions, at the entry and again at the exit. It is left out
//! where a handler calls nothing, which is found out by following its instructions when it is attached: it then can't recurse, but
//! by a fault whose handling calls the function; so it touches no memory that may be missing.
//!
//! # Who may free what
//! The handlers are functions of the kernel, and stay. A trampoline that the callsite doesn't call any more is freed when
//! nobody can be inside: neither on the way to a handler, nor in one, nor in the function, from which a thread returns to the
//! trampoline when it returns, however long that takes and wherever it was preempted. Of the first two, quiescence tells
//! ([`Platform::quiesce`](crate::Platform::quiesce)): a handler is a callback, or one that calls nothing, whose text is among
//! the stubs. The third are counted, one word for each trampoline. So a trampoline is freed
//!
//! 1. when every thread was seen quiescent after the callsite had changed: none is at an entry handler, or will be;
//! 2. and then no call of the function is under way: none will come to an exit handler;
//! 3. and then every thread was seen quiescent once more: none is at an exit handler, or on the way from there.
//!
//! Nobody waits for 2: what is not free is looked at again by the next change, or by [`reclaim`](AttachPoint::reclaim). Until
//! then it has one of the point's places; the calls that are under way end with the exits that were attached when they began.
//!
//! # Traces
//! The unwinder follows a trampoline's instructions as it does a stub's. From inside the function it finds the trampoline, then
//! the function again, at its callsite, as frame records show it too; then the caller.

mod attachments;
mod class;
mod error;
mod function;
mod leaf;
mod point;
#[cfg(test)]
mod tests;
mod untyped;

pub use attachments::{Attach, AttachPoint, Fentry, Fexit, ModifyReturn};
pub use class::{Class, Signature};
pub use error::AttachError;
pub use function::{Answer, Argument, Function, Value};
pub use untyped::{UntypedPoint, When};
