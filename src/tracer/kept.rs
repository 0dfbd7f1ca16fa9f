//! Rings in memory that outlives the kernel: what was traced is read after a reset, or out of an image of the memory.
//!
//! The rings of all CPUs are one piece of memory, [`KeptRings`], with a head that says what it is. It needs nothing of the kernel
//! that wrote it: the kernel that boots after a reset, the same one or another, takes the records over; and a tool finds them in a
//! dump of the memory, as a panic's or QEMU's (`dump-guest-memory`, `pmemsave`), by `cargo fentry trace --memory FILE`.
//!
//! ```
//! use fentry::tracer::kept::KeptRings;
//! use fentry::tracer::ring::{Mode, Ring};
//!
//! // In memory that neither the boot loader nor the kernel's first code clears.
//! static KEPT: KeptRings<2, 16> = KeptRings::new();
//! static RINGS: [Ring; 2] = {
//!     let [first, second] = KEPT.blocks();
//!     [Ring::new(first, Mode::Overwrite), Ring::new(second, Mode::Overwrite)]
//! };
//!
//! # let (ticks_per_second, slide) = (62_500_000, 0);
//! let found = KEPT.begin(RINGS.each_ref(), ticks_per_second, slide);
//! if found.records > 0 {
//!     // Written out, as any rings are, and taken out, before anything is traced: times begin anew.
//! }
//! ```
//!
//! ```text
//!   head     "fentryKR" | version: u32 | CPUs: u32 | blocks of a ring: u32 | words of a block: u32
//!            ticks per second: u64 | slide: u64 | CRC-32 of what is before: u64        64 bytes in all, little-endian
//!   blocks   of CPU 0's ring, of CPU 1's, ...
//! ```
//!
//! # What a kernel does
//! - The memory is not cleared: in a section that is no part of what is loaded, or at an address that the kernel keeps free. Any
//!   bits are values of [`KeptRings`], so that a pointer to such memory may be used as one. For a tool that looks for it, its
//!   physical pages follow each other.
//! - Before a reset, caches are written back: [`KeptRings::write_back`], by each CPU, or by one where the caches are coherent.
//!   What is in no cache any more, as under an emulator, needs nothing.

use super::dump::{CRC, MAX_CPUS};
use super::ring::{BLOCK_WORDS, Recovered, Ring, RingBlock, RingSizeError};
#[cfg(target_os = "none")]
use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// The most blocks of a ring: what a head says beyond that is not believed.
const MAX_BLOCKS: usize = 1 << 16;

/// How the memory begins.
pub const MAGIC: [u8; 8] = *b"fentryKR";
const VERSION: u32 = 1;
/// The bytes of the head.
pub const HEAD_BYTES: usize = 64;
const HEAD_WORDS: usize = HEAD_BYTES / 8;

/// The rings of all CPUs in one piece of memory, in which they are found again.
#[repr(C, align(4096))]
pub struct KeptRings<const CPUS: usize, const BLOCKS: usize> {
    head: [AtomicU64; HEAD_WORDS],
    blocks: [[RingBlock; BLOCKS]; CPUS],
}

impl<const CPUS: usize, const BLOCKS: usize> KeptRings<CPUS, BLOCKS> {
    /// Makes some in which nothing is kept.
    #[expect(clippy::new_without_default, reason = "it is for statics")]
    pub const fn new() -> Self {
        const { assert!(CPUS <= MAX_CPUS, "there are 256 CPUs at most") };
        const { assert!(BLOCKS <= MAX_BLOCKS, "a ring has 65536 blocks at most") };
        Self {
            head: [const { AtomicU64::new(0) }; HEAD_WORDS],
            blocks: [const { [const { RingBlock::new() }; BLOCKS] }; CPUS],
        }
    }

    /// The blocks of each CPU's ring.
    pub const fn blocks(&'static self) -> &'static [[RingBlock; BLOCKS]; CPUS] {
        &self.blocks
    }

    /// Begins with these rings, which are [those](Self::blocks) of the CPUs: takes over what an earlier run has left, if it had as
    /// many CPUs and blocks, or clears what is not of one. Says how much it was; those records are best taken out before anything
    /// is traced, since times begin anew after a reset.
    ///
    /// Once, before anything is written to the rings. The numbers are for who reads the memory: the clock's ticks in a second
    /// (CNTFRQ_EL0), and how far the kernel is from where it was linked ([`Engine::slide`](crate::Engine::slide)).
    pub fn begin(&'static self, rings: [&Ring; CPUS], ticks_per_second: u64, slide: u64) -> Recovered {
        let before = self.head.each_ref().map(|word| word.load(Ordering::Relaxed));
        let is_kept = KeptHead::parse(&bytes_of(before)).is_some_and(|head| head.is_like::<CPUS, BLOCKS>());
        let mut found = Recovered::default();
        for (ring, blocks) in rings.into_iter().zip(&self.blocks) {
            if !is_kept {
                blocks.iter().for_each(RingBlock::clear);
            }
            let Recovered { records, damaged } = ring.recover();
            found = Recovered { records: found.records + records, damaged: found.damaged + damaged };
        }
        let head = KeptHead { cpus: CPUS as u32, blocks: BLOCKS as u32, ticks_per_second, slide };
        let words = head.words();
        self.head.iter().zip(words).for_each(|(place, word)| place.store(word, Ordering::Relaxed));
        found
    }

    /// Writes back what this CPU's caches hold of it, to where memory is after a reset (DC CVAC: to the point of coherency).
    pub fn write_back(&self) {
        #[cfg(target_os = "none")]
        clean(core::ptr::from_ref(self).addr(), size_of::<Self>());
    }
}

/// Cleans so many bytes of a static to the point of coherency.
#[cfg(target_os = "none")]
fn clean(start: usize, bytes: usize) {
    let caches: usize;
    // SAFETY: it reads an identification register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) caches, options(nomem, nostack, preserves_flags)) };
    // DminLine: the smallest line, as a power of two of words.
    let line = 4 << (caches >> 16 & 0xf);
    for at in (start..start + bytes).step_by(line) {
        // SAFETY: it changes no data, and the address is mapped, as our caller's object is.
        unsafe { asm!("dc cvac, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

impl<const CPUS: usize, const BLOCKS: usize> fmt::Debug for KeptRings<CPUS, BLOCKS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptRings").field("cpus", &CPUS).field("blocks", &BLOCKS).finish_non_exhaustive()
    }
}

fn bytes_of(words: [u64; HEAD_WORDS]) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    bytes.as_chunks_mut().0.iter_mut().zip(words).for_each(|(place, word)| *place = word.to_le_bytes());
    bytes
}

/// What the head of a [`KeptRings`] says: for who has found one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptHead {
    cpus: u32,
    blocks: u32,
    /// The clock's ticks in a second.
    pub ticks_per_second: u64,
    /// How far the kernel was from where it was linked, modulo 2^64.
    pub slide: u64,
}

impl KeptHead {
    /// Reads the head at the beginning of these bytes; `None` where there is none, or not a whole one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let (words, _) = bytes.as_chunks();
        let word = |index: usize| words.get(index).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let halves = |index: usize| (word(index) as u32, (word(index) >> 32) as u32);
        let ((_, cpus), (blocks, _)) = (halves(1), halves(2));
        let head = Self { cpus, blocks, ticks_per_second: word(3), slide: word(4) };
        let can_be = cpus as usize <= MAX_CPUS && blocks as usize <= MAX_BLOCKS;
        (can_be && bytes_of(head.words()) == *bytes).then_some(head)
    }

    fn words(&self) -> [u64; HEAD_WORDS] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let Self { cpus, blocks, ticks_per_second, slide } = *self;
        let (version, block) = (pair(VERSION, cpus), pair(blocks, BLOCK_WORDS as u32));
        let mut words = [u64::from_le_bytes(MAGIC), version, block, ticks_per_second, slide, 0, 0, 0];
        let mut check = CRC.digest();
        words.iter().take(HEAD_WORDS - 1).for_each(|word| check.update(&word.to_le_bytes()));
        words[HEAD_WORDS - 1] = u64::from(check.finalize());
        words
    }

    fn is_like<const CPUS: usize, const BLOCKS: usize>(&self) -> bool {
        (self.cpus as usize, self.blocks as usize) == (CPUS, BLOCKS)
    }

    /// How many rings there are.
    pub const fn cpus(&self) -> u32 {
        self.cpus
    }

    /// How many blocks each of them has.
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Where the blocks of a CPU's ring are in the memory, in bytes from its head.
    pub const fn offset(&self, cpu: u32) -> u64 {
        let ring = self.blocks as u64 * RingBlock::BYTES as u64;
        BLOCKS_AT as u64 + ring.saturating_mul(cpu as u64)
    }

    /// The ring of a CPU, of blocks that were copied from the memory, with what could be read in them.
    ///
    /// # Errors
    ///
    /// [`RingSizeError`].
    pub fn ring(blocks: &'static [RingBlock]) -> Result<(Ring, Recovered), RingSizeError> {
        let ring = Ring::from_slice(blocks, super::ring::Mode::Stop)?;
        let found = ring.recover();
        Ok((ring, found))
    }
}

const BLOCKS_AT: usize = core::mem::offset_of!(KeptRings<1, 2>, blocks);

#[cfg(test)]
mod tests {
    use super::{HEAD_BYTES, KeptHead, KeptRings, Recovered};
    use crate::tracer::event::EventWriter;
    use crate::tracer::ring::{Mode, Ring, RingBlock};
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::boxed::Box;
    use std::string::String;
    use std::vec::Vec;
    extern crate std;

    type Memory = KeptRings<2, 4>;

    fn rings(memory: &'static Memory) -> [Ring; 2] {
        memory.blocks().each_ref().map(|blocks| Ring::new(blocks, Mode::Overwrite))
    }

    fn write(ring: &Ring, text: &str) {
        static TIME: AtomicU64 = AtomicU64::new(1);
        EventWriter { ring, task: 7, clock: || TIME.fetch_add(1, Ordering::Relaxed) }.marker(text);
    }

    fn texts(ring: &Ring) -> Vec<String> {
        let mut pass = ring.snapshot();
        let blocks = core::iter::from_fn(|| pass.next_block());
        let of_block = |block: crate::tracer::ring::HeldBlock<'_>| -> Vec<String> {
            let text = |word: u64| String::from_utf8_lossy(&word.to_le_bytes()).trim_end_matches('\0').into();
            block.records().map(|record| text(record.word(record.payload() - 1).unwrap_or(0))).collect()
        };
        blocks.flat_map(of_block).collect()
    }

    #[test]
    fn what_a_run_has_left_is_there_in_the_next_one() {
        let memory: &'static Memory = Box::leak(Box::new(Memory::new()));
        let first = rings(memory);
        assert_eq!(memory.begin(first.each_ref(), 1000, 0x20), Recovered::default());
        write(&first[0], "one");
        write(&first[1], "two");
        // Interrupted in the middle: it is given up.
        let half = first[1].reserve(3, || 9).unwrap();
        core::mem::forget(half);
        let next = rings(memory);
        assert_eq!(memory.begin(next.each_ref(), 1000, 0), Recovered { records: 2, damaged: 0 });
        assert_eq!(next.each_ref().map(texts), [["one"], ["two"]]);
        write(&next[1], "three");
        assert_eq!(texts(&next[1]), ["two", "three"]);
        assert_eq!(next[1].counts().kept, 2);
    }

    #[test]
    fn memory_of_another_shape_is_cleared() {
        let memory: &'static Memory = Box::leak(Box::new(Memory::new()));
        let first = rings(memory);
        memory.begin(first.each_ref(), 1000, 0);
        write(&first[0], "one");
        for word in [0, 1, 2, 7] {
            let (place, rings) = (&memory.head[word], rings(memory));
            write(&rings[0], "again");
            place.fetch_xor(1 << 33, Ordering::Relaxed);
            assert_eq!(memory.begin(rings.each_ref(), 1000, 0), Recovered::default(), "word {word}");
        }
    }

    #[test]
    fn a_head_is_found_by_its_bytes_and_says_where_the_blocks_are() {
        let memory: &'static Memory = Box::leak(Box::new(Memory::new()));
        memory.begin(rings(memory).each_ref(), 62_500_000, 0x20_0000);
        let words = memory.head.each_ref().map(|word| word.load(Ordering::Relaxed));
        let bytes = super::bytes_of(words);
        let head = KeptHead::parse(&bytes).unwrap();
        assert_eq!((head.cpus(), head.blocks(), head.ticks_per_second, head.slide), (2, 4, 62_500_000, 0x20_0000));
        for cpu in [0, 1] {
            let at = core::ptr::from_ref(&memory.blocks()[cpu]).addr() - core::ptr::from_ref(memory).addr();
            assert_eq!(head.offset(cpu as u32), at as u64);
        }
        assert_eq!(KeptHead::parse(&bytes[..HEAD_BYTES - 1]), None);
        for bit in 0..HEAD_BYTES * 8 {
            let mut wrong = bytes;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(KeptHead::parse(&wrong), None, "bit {bit}");
        }
    }

    #[test]
    fn whatever_the_memory_holds_only_whole_records_are_read() {
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 16
        };
        for round in 0..rounds {
            let mut bytes = [[0_u8; RingBlock::BYTES]; 2];
            // Words that look like what could be there, and some that do not.
            for words in bytes.iter_mut().flat_map(|block| block.as_chunks_mut::<8>().0.iter_mut().take(40)) {
                let word = match random() % 4 {
                    0 => random() & 0xf,
                    1 => random() << 40 | (random() & 3) << 20 | random() & 0x1f,
                    2 => 2 + random() % 4,
                    _ => random() << 17,
                };
                *words = word.to_le_bytes();
            }
            let blocks: Box<[RingBlock]> = bytes.iter().map(RingBlock::from_le_bytes).collect();
            let (ring, found) = KeptHead::ring(Box::leak(blocks)).unwrap();
            assert_eq!(texts_of_any(&ring), found.records, "round {round}");
            assert_eq!(ring.recover(), Recovered { damaged: 0, ..found }, "what was mended is whole");
            write(&ring, "new");
        }
    }

    /// The records that a reader comes to and that nobody has taken out.
    fn texts_of_any(ring: &Ring) -> u64 {
        let mut pass = ring.snapshot();
        core::iter::from_fn(|| pass.next_block()).map(|block| block.records().count() as u64).sum()
    }
}
