//! The flight recorder: the last calls of each CPU, written by a stub without a call of Rust, read while it goes on.
//!
//! The stub of an [`Ops::recorder`](crate::Ops::recorder) writes a [`FlightRecord`] into the ring of the CPU that it
//! runs on, over the oldest one. A [`FlightReader`] reads a ring from any CPU, at any time.
//!
//! # Writing
//! Writers of one ring are not one after the other: an interrupt comes in the middle of a record and records, too; a task
//! is moved in the middle of one and goes on, at its leisure, from another CPU. So a writer
//!
//! ```text
//!   claim     index = next++                    atomic: each index is given once
//!   take      was = slot.seq, slot.seq = BUSY   atomic: slot = index mod the ring's size; if it was BUSY, give up
//!             DMB ISHST
//!   store     ip, parent, time, arguments
//!   publish   slot.seq = index + 1              STLR
//! ```
//!
//! *Take* keeps a slot to one writer at a time. Without it a writer that was held up for a whole round of the ring would
//! write into the record of the one that came round. Who finds a slot taken gives up: waiting would be for ever, where
//! the other is what it has interrupted. It takes a whole round of the ring inside one record for that to happen.
//!
//! # Reading
//! ```text
//!   seq = slot.seq (acquire); not index + 1: not there
//!   load      ip, parent, time, arguments (acquire, each)
//!   slot.seq again; not the same: overwritten meanwhile
//! ```
//!
//! *A record is never torn.* Say that the first look found what writer W published. Every field that is loaded is W's or
//! one that came after W's: the look acquires what W's STLR releases, and whoever took the slot after W read W's sequence
//! number (or a later one) in order to take it, so its stores come after W's (Arm ARM B2.3.3: the exclusive store is ordered
//! behind its load, what follows the DMB behind that). If a field is not W's, it is of a V that took the slot after
//! W. V's BUSY is before V's fields (DMB ISHST), so who has loaded such a field (acquire) and then looks again finds BUSY
//! or something later still. No number is given twice, so that is not W's.
//!
//! `stub::tests::recorder` runs the instructions that are generated, against the reader here and the orderings that it
//! asks for, on a memory that shows old values wherever it may.
//!
//! *Everything is counted.* Of the indices below `next`, each was read, was lost, or is still to be read. Lost are those
//! that were overwritten before, given up by their writers, or passed over while a writer was at them.
//!
//! # Giving a ring
//! The stubs load the slots' address and the mask with one LDP, and there is no order between its halves. So whatever the
//! mask is while slots may be seen must fit them: it is 0, which is right for any ring, until it is what it stays. Whoever
//! gives a ring claims it first; a second one finds that and touches neither ring nor slots.
//!
//! ```text
//!   claim     was = ring.claimed, ring.claimed = 1   atomic; was 1: somebody else's
//!   prepare   every slot.seq = NEVER; ring.mask = size - 1
//!   publish   ring.slots = slots                     release; the stubs' accesses depend on the address
//! ```

#[cfg(test)]
mod giving;
mod reader;
mod ring;
#[cfg(test)]
mod tests;

pub use reader::{FlightReader, FlightRecord};
#[cfg(test)]
pub(crate) use reader::{Shared, read};
pub(crate) use ring::FlightRing;
#[cfg(test)]
pub(crate) use ring::{BUSY, NEVER, WORDS};
pub use ring::{FlightSlot, MAX_ARGUMENTS, RingError};
