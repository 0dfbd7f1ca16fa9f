//! Backtraces from where an event happens, by frame records (AAPCS64 6.4.6) that are read as an event's fields are.

use super::fetch::{Point, ReadMemory, Registers};
use crate::context::unwind::strip;

/// The most return addresses of a trigger `stacktrace`.
pub(super) const MAX_FRAMES: usize = 32;

/// Fills `frames` with addresses, the innermost first, as far as there are any; returns how many. `ip` is where the event is, and
/// `parent` what it returns to.
pub(super) fn fill(
    frames: &mut [u64],
    regs: &dyn Registers,
    point: Point,
    [ip, parent]: [u64; 2],
    memory: Option<ReadMemory>,
) -> usize {
    // At an entry, the function has no record yet; at a return, none any more.
    let first = match point {
        Point::Entry => [Some(ip), regs.x(30)],
        Point::Inside => [Some(ip), None],
        Point::Return => [Some(parent), None],
    };
    let records = Records { next: regs.x(29).unwrap_or(0), memory };
    let all = first.into_iter().flatten().chain(records);
    frames.iter_mut().zip(all).map(|(place, frame)| *place = frame).fold(0, |count, ()| count + 1)
}

/// The return addresses of frame records.
struct Records {
    next: u64,
    memory: Option<ReadMemory>,
}

impl Iterator for Records {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let mut record = [0; 16];
        let is_record = self.next != 0 && self.next.is_multiple_of(8);
        if !is_record || !(self.memory?)(self.next, &mut record) {
            return None;
        }
        let (caller, return_address) = record.split_first_chunk::<8>()?;
        let (caller, return_address) = (u64::from_le_bytes(*caller), return_address.first_chunk::<8>()?);
        // The stack grows down, so a record that does not point up is the last one.
        self.next = if caller > self.next { caller } else { 0 };
        Some(strip(u64::from_le_bytes(*return_address))).filter(|address| *address != 0)
    }
}
