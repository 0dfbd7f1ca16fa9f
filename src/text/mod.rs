//! The only writer of instructions.
//!
//! Every word of text that the engine changes goes through `poke`, every line of cache that must be maintained for it
//! through `cache`, and the CPU's own part in both is behind [`Machine`], so that all of it runs on a host against a
//! simulated one. What is written, and where, others decide: this room knows callsites only as the words that may be swung
//! while they run (`callsite`). Aliases, and the way to the other CPUs, are the [`platform`](crate::platform)'s.
//!
//! How a batch of changes becomes what every CPU executes (Arm ARM B2.7.4.3, "Synchronization and coherency issues between
//! data and instruction accesses"):
//!
//! ```text
//!   1. check     each old word is the expected one                     no write before all are
//!   2. write     one aligned 32-bit store each, through a writable alias, page by page
//!   3. clean     DC CVAU for each line written       } one DSB behind all of them        nothing to do with CTR_EL0.IDC
//!   4. forget    IC IVAU for each line written       } one DSB behind all of them, ISB   nothing to do with CTR_EL0.DIC
//!   5. tell      every other CPU goes through a context synchronisation event
//!   6. again     each word is stored once more, unchanged               nothing to do on hardware
//! ```
//!
//! Between 2 and 5 another CPU may execute the old instruction or the new one, nothing else: NOP, B and BL are among the
//! instructions for which the architecture promises that (Arm ARM B2.2.5, "Concurrent modification and execution of
//! instructions"), and a batch for live text is made of `LiveWord`s only.
//!
//! # The second store
//! An emulator that translates has no caches to be maintained, and so forgives what is missing in 3 to 5. It has something
//! else: translations, which it throws away when their word is stored to. Releases of QEMU up to 7.2, with a thread for
//! each CPU, throw away those that are there; one that another CPU is making at that moment, from the old word, is put
//! there afterwards, and then stays. From then on every CPU executes the old word, for as long as the word is not stored to,
//! and nothing of 3 to 5 changes that:
//!
//! ```text
//!   CPU 0                          CPU 1                         executed at the word
//!                                  begins to translate it
//!   stores the new one
//!                                  has translated the old one    the old one, by all CPUs
//!   tells CPU 1                    answers: it translates no more
//!   stores the new one again                                     the new one
//! ```
//!
//! It takes no bad luck: whoever calls a thousand functions that were just enabled has them all translated anew, and if they
//! are disabled meanwhile, some stay enabled; then they call stubs that are there no more. So the second store is made for
//! everything that is written here, unless the platform says that it runs on hardware
//! ([`may_be_emulated`](crate::Platform::may_be_emulated)): callsites, generated code, and what is written back when a batch
//! fails. It comes behind 5, since a CPU takes an interrupt only between two translations. Nothing has to follow it: to a
//! CPU it is one more store of the word that is there, and an emulated one that is in the midst of the old translation
//! leaves it at the next branch, as if it had begun the call before.
//!
//! Memory for modules needs none of it: it is not executable before it is complete, so nobody is at it.
//!
//! `protocol`, among the engine's tests, forgives nothing: it explores what CPUs with stale caches can execute between
//! any two steps of the real sequence, and what such an emulator can.

pub(crate) mod cache;
mod error;
pub(crate) mod machine;
pub(crate) mod poke;
#[cfg(test)]
mod tests;
pub(crate) mod word;

pub use error::{PokeCause, PokeError, Undone};
pub(crate) use machine::Cpu;
#[cfg(target_arch = "aarch64")]
pub use machine::Hardware;
pub use machine::{CacheType, InterruptMask, Machine};
pub(crate) use poke::{Batch, TextPoke};
pub(crate) use word::TextWord;
