//! What is recorded without a call: a CPU's hit counters and its flight recorder's ring, where generated code finds them.
//!
//! A kernel embeds a [`CpuArea`] in its per-CPU data and tells [`Platform::cpu_base`] where. A counting stub then
//! reaches its counter with three instructions. Code may be interrupted anywhere, and moved to another CPU anywhere; so the
//! stubs use the CPU's own counter for speed (nobody else has its cache line), and atomic additions for truth: a thread that
//! was moved between the two adds to the CPU that it came from.
//!
//! [`Platform::cpu_base`]: crate::Platform::cpu_base

pub mod flight;
pub mod hits;
pub mod times;

use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use flight::{FlightReader, FlightRing, FlightSlot, RingError};

/// How many ops can have a counter of their own on each CPU; more share one between all CPUs.
pub const COUNTERS: usize = 60;

/// One CPU's hit counters, and its ring.
///
/// It must live, at one place, for as long as the CPU's base register can lead to it.
#[repr(C, align(64))]
pub struct CpuArea {
    ring: FlightRing,
    hits: [AtomicU64; COUNTERS],
}

// Eight lines of 64 bytes.
const _: () = assert!(size_of::<CpuArea>() == 512);

impl CpuArea {
    /// Makes an area with nothing counted, and no ring.
    pub const fn new() -> Self {
        Self { ring: FlightRing::new(), hits: [const { AtomicU64::new(0) }; COUNTERS] }
    }

    /// Gives the flight recorder these slots on this CPU; until then it records nothing here.
    ///
    /// Do this before a recorder is registered: what is recorded meanwhile may be lost. Give each CPU its own. Of several
    /// callers one succeeds.
    ///
    /// # Errors
    ///
    /// [`RingError`]; neither ring nor slots have changed then.
    pub fn set_ring(&self, slots: &'static [FlightSlot]) -> Result<(), RingError> {
        self.ring.set(slots)
    }

    /// Returns a reader of what was recorded on this CPU, from the oldest record that is still there.
    pub const fn recording(&self) -> FlightReader<'_> {
        FlightReader::of(&self.ring)
    }

    #[cfg(test)]
    pub(crate) fn write(&self, record: &flight::FlightRecord) {
        self.ring.write(record);
    }

    /// Where the ring is.
    pub(crate) const RING: u16 = offset_of!(Self, ring) as u16;

    /// Where the last counter is.
    pub(crate) const LAST: u16 = Self::counter(COUNTERS - 1);

    /// Returns where a counter is.
    pub(crate) const fn counter(number: usize) -> u16 {
        (offset_of!(Self, hits) + number * size_of::<AtomicU64>()) as u16
    }

    /// What a counter says.
    pub(crate) fn hits(&self, number: usize) -> u64 {
        self.hits.get(number).map_or(0, |hits| hits.load(Ordering::Relaxed))
    }

    /// Returns what a counter says, and sets it to 0.
    pub(crate) fn take_hits(&self, number: usize) -> u64 {
        self.hits.get(number).map_or(0, |hits| hits.swap(0, Ordering::Relaxed))
    }
}

impl Default for CpuArea {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CpuArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuArea").field("ring", &self.ring).finish_non_exhaustive()
    }
}
