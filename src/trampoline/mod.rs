//! Ops structs: tables of functions that are described once, checked, counted, and replaced while they are called; and handlers at
//! one function, typed ([`attach`]).
//!
//! A kernel has many places where it calls by a table of functions: a driver's, a scheduling policy's. A kernel that checks
//! control flow (kCFI) compares, before each such call, the word before the target with the hash of the type that it calls.
//! So it can't simply be given functions that a compiler of another build has made, or that are made while it runs; and
//! nobody should have to know how a compiler hashes types. The way out, which Linux's struct_ops takes too: for each member
//! the description has a *stub* of the same type, which is never called, and before which the compiler has put the hash
//! ("x86/cfi,bpf: Fix BPF JIT call"). Linux's registry takes it for granted that all code of the kernel is built in one way.
//! This one looks: at a *caller* that is compiled beside the stubs, and so tells whether calls are checked, and where they
//! look for a hash.
//!
//! ```text
//!     caller:  ldur w16, [x0, #-(4 + 4 * M)]       M words (the prefix NOPs of =M+2,M) between the hash and the entry
//!     stub:    hash, M words, entry                 what the hash of a member must be
//!     member:  hash, M words, entry                 the same word at the same place, or it is refused
//! ```
//!
//! [`ops_struct!`](crate::ops_struct) makes the description; [`Implementations`] holds the tables.
//!
//! # Who owns what, and who may drop it
//! A call by a table needs three things: that the table stays, that its functions stay, and that they are of the types that
//! the caller believes. Nothing of it may cost the call anything: it is a load and an indirect call, compiled where the
//! kernel is.
//!
//! - **A table** is copied into one of the places that [`Implementations`] has. It stays there, unchanged, as long as anybody
//!   is a [`User`] of it. A `User` is counted when it is made and when it is dropped, not when it calls. Who calls often keeps
//!   one, as Linux's sockets keep their congestion control; who has to see each replacement at once takes one for each call.
//! - **To be in use** is one word: the number of a place, and how many users have come since. [`Prepared::put_in_use`] swaps
//!   it. Users that come then have the new table, and those that were there go on with the old one. The swap says how many
//!   those are, and their number is added to the place's own count; so no count is ever touched that belongs to something
//!   else, and no lock is taken by who comes or goes: interrupt handlers may (`users` has the protocol).
//! - **A place** is used again when its count is zero, and that is all the quiescence that is needed: a thread that
//!   is inside a member, or on its way there or back, was called by somebody who has a `User`, also if it was preempted there.
//! - **The functions** of a table that safe code has made are of the kernel, and stay; those of a module stay until it is
//!   unloaded, and who unloads it promises ([`Modules::unload`](crate::module::Modules::unload)) that nobody calls them any
//!   more: a table of a module is taken out of use, and has no users, before that. Safe code never sees a function pointer of
//!   a table that is in use, which it could keep: only the methods of the face that `ops_struct!` makes call it, and they need
//!   a `User`.
//!
//! | state | how it gets there | who sees it |
//! |---|---|---|
//! | free | at first; when nobody uses it any more | nobody |
//! | prepared | [`Implementations::prepare`] has checked each member | the [`Prepared`] |
//! | in use | [`Prepared::put_in_use`] | every new [`User`] |
//! | being freed | the next one was put in use, or it was [taken out](Implementations::take_out) | the [`Replaced`], and users that were there |
//!
//! # What is checked
//! The compiler holds a table that is written in Rust to the types. [`Implementations::prepare`] then looks at each member:
//! one that is NULL must be optional; and where calls are checked, the word that the caller will look at must be the hash. One
//! of another type, as it may come from a module or from C, has another hash; code in assembly has none; and what was built
//! with another number of prefix NOPs has it elsewhere. Each is refused with the member's name ([`OpsError`]). What
//! was refused would have trapped at its first call, wherever that is: the check is the same, only earlier.
//!
//! Without kCFI there is nothing to look at, and the types of a table from another language are its author's promise. An ops struct
//! that another language has described, its stubs and its callers, is an [`UntypedOps`].
//!
//! # Generated members
//! [`Implementations::prepare_generated`] makes a table whose members are code that is made here and now: it counts, records, times,
//! or answers, for all calls or for those with a certain argument, and then goes on in the table behind ([`Body`]). Such a member has
//! in front of it what the stub has: its hash, as many words as callers expect, a landing pad. It is made in the room that the
//! engine's stubs are in, and written as they are.
//!
//! - **Who owns it**: the table's place. Its text is given back when the place is freed, so when nobody uses the table any more; and
//!   it can't be called in any other way, since nobody sees its address as a function.
//! - **What it needs** of others is in its instructions: counters, which are `static`; and the function behind, which stays because
//!   the generated table is a user of the table behind, until it is freed itself.
//! - **The function behind** finds everything as if it had been called itself: a jump leads there, not a call, so that there is no
//!   frame, and arguments on the stack are where they were. Only a [timed](Body::timed) member calls it. The types that the compiler
//!   saw where the ops struct was described say which members that can be, and what may answer for them.
//! - **A trace** goes through it: the unwinder follows its instructions as it does a stub's ([`context::unwind`](crate::context::unwind)),
//!   and [`Implementations::name_of`] says what it is.

pub mod attach;
mod body;
mod check;
mod description;
mod error;
mod generate;
mod implementations;
#[doc(hidden)]
pub mod kinds;
mod place;
#[cfg(test)]
mod tests;
mod untyped;
mod users;

pub use body::{Body, Condition, Test};
pub use description::{InUse, Member, OpsStruct};
pub use error::OpsError;
pub use generate::GeneratedName;
pub use implementations::{Implementations, Prepared, Replaced, State};
pub use kinds::{Argument, Scalar, ScalarKind};
pub use place::User;
pub use untyped::{GeneratedMembers, UntypedOps};

#[doc(hidden)]
pub use description::never_called;
