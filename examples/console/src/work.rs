//! What the CPUs do that are not the console's: they read a disk and send what they have read, a few times a millisecond.

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};
use support::{interrupts, smp};

/// How long a CPU rests between two requests, in nanoseconds.
const REST: u64 = 250_000;

/// Works until it is over.
pub(crate) fn until(over: &AtomicBool) {
    let mut request = 0;
    while !over.load(Ordering::Acquire) {
        serve(request);
        request += 1;
        let rested = interrupts::now_ns() + REST;
        while interrupts::now_ns() < rested && !over.load(Ordering::Relaxed) {
            smp::wait();
        }
    }
}

/// Serves one request.
#[inline(never)]
fn serve(request: u64) {
    let sum = disk::read(request);
    net::send(sum);
}

fentry::injectable! {
    // SAFETY: what is sent may be any number, and 0 is what there is of a block that can't be read.
    unsafe fn disk::read(block: u64) -> u64 { 0 }
}

mod disk {
    use super::black_box;

    /// Reads a block: every eighth one is not in the cache.
    #[inline(never)]
    pub(super) fn read(block: u64) -> u64 {
        let sector = seek(block);
        if block.is_multiple_of(8) { wait(sector) } else { cached(sector) }
    }

    #[inline(never)]
    fn seek(block: u64) -> u64 {
        black_box(block) * 8
    }

    #[inline(never)]
    fn cached(sector: u64) -> u64 {
        checksum(sector)
    }

    #[inline(never)]
    fn wait(sector: u64) -> u64 {
        (0..20).fold(0, |sum, step| sum ^ checksum(sector + step))
    }

    #[inline(never)]
    fn checksum(sector: u64) -> u64 {
        black_box(sector).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

mod net {
    use super::black_box;

    #[inline(never)]
    pub(super) fn send(sum: u64) {
        let header = header(sum);
        black_box(header ^ sum);
    }

    #[inline(never)]
    fn header(sum: u64) -> u64 {
        black_box(sum) >> 32
    }
}
