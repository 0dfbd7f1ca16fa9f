//! The only writer of instructions.
//!
//! Floor 2. Every word of text that the project changes goes through `poke`, every line of cache that must be
//! maintained for it through `cache`, and the CPU's own part in both is behind [`Machine`], so that the whole floor runs
//! on a host against a simulated one.
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
//! ```
//!
//! Between 2 and 5 another CPU may execute the old instruction or the new one, nothing else: NOP, B and BL are among the
//! instructions for which the architecture promises that (Arm ARM B2.2.5, "Concurrent modification and execution of
//! instructions"), and a batch for live text is made of [`LiveWord`](crate::callsite::LiveWord)s only.
//!
//! Emulators keep both sides coherent and forgive what is missing here; `model`, among the tests, does not: it explores
//! what CPUs with stale caches can execute between any two steps of the real sequence.

pub(crate) mod cache;
pub(crate) mod machine;
#[cfg(test)]
mod model;
pub(crate) mod poke;
#[cfg(test)]
mod tests;

pub(crate) use machine::Cpu;
#[cfg(target_arch = "aarch64")]
pub use machine::Hardware;
pub use machine::{CacheType, InterruptMask, Machine};
pub(crate) use poke::{Batch, TextPoke};
pub use poke::{PokeCause, PokeError, Undone};
