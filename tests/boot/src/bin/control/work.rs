//! What the scripts trace: a few functions that call each other.

use core::fmt;
use core::hint::black_box;
use fentry::tracer::{ticks, ticks_per_second};

#[inline(never)]
pub(crate) fn work() -> u64 {
    let shown = fmt::Write::write_fmt(&mut Nothing, format_args!("{:?}", Sectors([1, 2])));
    disk::read(7) + net::send(3) + u64::from(shown.is_ok())
}

/// Takes a fifth of a second or more.
#[inline(never)]
pub(crate) fn slow() -> u64 {
    spin(ticks_per_second() / 5) + disk::poll()
}

#[inline(never)]
fn spin(wanted: u64) -> u64 {
    let start = ticks();
    while ticks() - start < wanted {
        core::hint::spin_loop();
    }
    black_box(wanted)
}

pub(crate) mod disk {
    use super::black_box;

    #[inline(never)]
    pub(crate) fn read(block: u64) -> u64 {
        let sector = seek(block);
        black_box(sector) + poll()
    }

    #[inline(never)]
    pub(crate) fn seek(block: u64) -> u64 {
        black_box(block) * 8
    }

    #[inline(never)]
    pub(crate) fn poll() -> u64 {
        black_box(1)
    }
}

mod net {
    use super::{black_box, disk};

    #[inline(never)]
    pub(crate) fn send(length: u64) -> u64 {
        let polled = disk::poll();
        black_box(length) ^ polled
    }
}

/// A type with a name that has the characters of a glob.
struct Sectors<T>(T);

impl fmt::Debug for Sectors<[u64; 2]> {
    #[inline(never)]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if black_box(self.0[0]) == 1 { "one" } else { "other" })
    }
}

struct Nothing;

impl fmt::Write for Nothing {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}
