//! A model of the protocol: every order in which CPUs can meet a batch of changes, explored.
//!
//! The real [`Engine`](crate::Engine) runs on a [fake machine](crate::fakes), which writes
//! down what it was asked; that list, made into a [`Script`], is what the patching CPU does here. Nothing of the sequence
//! is written a second time, so what is proven is proven of the code.
//!
//! A simulator can't be asked instead: emulators keep instructions and data coherent, and forgive every barrier that is
//! missing. (What they don't forgive is in `translated`, which is a model of one.) Nor can the checkers for concurrent Rust: they know late stores, but no instruction fetch.
//!
//! # The memory that is modelled
//! What data accesses see is one thing, what instruction fetches see is another, and only maintenance ties them together
//! (Arm ARM B2.7.4, "Ordering of instruction and data accesses"). The rules below allow what that leaves open, and follow
//! the formal account in Simner and others, "ARMv8-A system semantics: instruction fetch in relaxed architectures" (ESOP
//! 2020).
//!
//! ```text
//!     patching CPU                                             each CPU (the patching one too)
//!     store --> data caches --------> point of unification --> instruction cache ------> fetched --> executed
//!               stored      DC CVAU   unified            fill  cached             fetch
//!                           completed                          emptied by an IC IVAU     emptied by a context
//!                           by a DSB,                          that a DSB completed      synchronisation event:
//!                           or by itself                                                 own ISB, an IPI's entry
//! ```
//!
//! - *Store.* One aligned word, single-copy atomic: all of it or nothing is seen (B2.2.1). All data accesses see it at
//!   once; the point of unification, from which all instruction caches fill, gets it when it likes: a line may be written
//!   back at any time.
//! - *DC CVAU* comes behind the stores before it to the same line, by whatever alias they were made: the ordering is one
//!   of locations. It asks for what was stored until then. That it has happened is only known behind a *DSB* of the CPU
//!   that issued it.
//! - *IC IVAU* goes to all CPUs, and arrives at each when it likes, at the latest when a DSB of the CPU that issued it
//!   completes it. Nothing but a DSB orders it behind a DC. What comes into the cache again after it arrived may be old
//!   again, if the point of unification is.
//! - *The instruction cache* may fill at any time, whether or not anybody is going there, and is a set: once it has held two
//!   versions of a word, a fetch may get either, and one may come after the other in any order.
//! - *Fetched* is what waits between fetch and execution: a pipeline, a prefetch or a loop buffer. It is a set too, and
//!   executing takes nothing out of it. No maintenance reaches it; a *context synchronisation event* on its own CPU
//!   empties it (the Arm ARM's glossary lists those events).
//! - *IDC*: the point of unification has what the data caches have. A store still may take its time to leave the CPU, up
//!   to the next DSB. *DIC*: there is no instruction cache to speak of: fetches come from the point of unification (D24.2.34,
//!   CTR_EL0).
//! - *Several CPUs.* Each of them fills, fetches and executes between any two steps of the patching one, and answers an
//!   IPI when it likes. [`synchronize_cpus`](crate::Platform::synchronize_cpus) goes on when all have.
//! - *An instruction swung while it runs* is executed as it was or as it will be if both are in the set of B2.2.5,
//!   "Concurrent modification and execution of instructions"; else anything can happen, and the tests look at the words.
//!
//! Two words that a CPU executes one after the other, a call and what it goes to, are looked at as a pair: `stubs` asks
//! whether the new call can come with the old code behind it.
//!
//! The second store of each word, which is for emulators, is in the scripts as any other: a version of the word with the
//! value of the one before. That no CPU can execute anything else for it is found here.
//!
//! # What makes exploring all of it cheap
//! More in a cache or in a buffer only ever allows more. So a search that is not asked in which order things were fetched
//! may have each CPU fill and fetch all that it can at once ([`Fetching::Eager`]): every execution of the slow search is
//! one of the fast search, and pairs that it could execute one after the other are there at one moment. Both are run where the slow one ends in time, and must find the same.
//!
//! # What is left out
//! Fetches ordered among themselves (weaker here: any order). Lines as wholes: words of one line travel on their own
//! (weaker too). What the data side of other CPUs sees of text, since none reads it there. The engine's own instructions.
//! Translation: aliases are the platform's promise, with the TLB maintenance for them. Masked interrupts, which are
//! there for a window's sake. An IPI that is never answered is the round left out of the script.

mod explorer;
mod script;
mod stubs;
mod tests;
mod translated;

use explorer::{Action, CPUS, Explored, Fetching, Migration, Rules, explore};
use script::{Script, Step};
