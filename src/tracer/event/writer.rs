//! Recording events: straight into a ring's words, without a buffer between.

use super::{FUNCTION, GRAPH_ENTRY, GRAPH_EXIT, MARKER, MAX_ARGUMENTS, PROBE, STACK, USER_KINDS};
use crate::address::TextAddr;
use crate::tracer::ring::{Label, MAX_PAYLOAD, Ring};

/// Writes events of one task into a ring.
///
/// Each method returns whether there was room; if there was not, the ring has counted the event as lost.
#[derive(Clone, Copy, Debug)]
pub struct EventWriter<'r, C> {
    /// The ring that it writes to.
    pub ring: &'r Ring,
    /// The task that the events are of.
    pub task: u32,
    /// The clock, in ticks; `tracer::ticks` in a kernel.
    pub clock: C,
}

impl<C: Fn() -> u64 + Copy> EventWriter<'_, C> {
    /// Records a call with these arguments; those behind the eighth are left out.
    #[inline]
    pub fn function(&self, ip: TextAddr, parent: TextAddr, arguments: &[u64]) -> bool {
        let count = arguments.len().min(MAX_ARGUMENTS);
        self.ring.record_with(2 + count, self.label(FUNCTION, count), self.clock, move |slot| {
            slot.write(0, ip.get());
            slot.write(1, parent.get());
            for (index, argument) in arguments.iter().take(count).enumerate() {
                slot.write(2 + index, *argument);
            }
        })
    }

    /// Records the entry of a call whose exit will be recorded too.
    #[inline]
    pub fn graph_entry(&self, ip: TextAddr, parent: TextAddr, depth: u16) -> bool {
        self.ring.record(self.label(GRAPH_ENTRY, depth.into()), self.clock, [ip.get(), parent.get()])
    }

    /// Records the exit of a call, with the result in x0.
    #[inline]
    pub fn graph_exit(&self, ip: TextAddr, entry_time: u64, depth: u16, value: u64) -> bool {
        self.ring.record(self.label(GRAPH_EXIT, depth.into()), self.clock, [ip.get(), entry_time, value])
    }

    /// Records a backtrace taken at `ip`, the innermost frame first; what does not fit into a record is left out.
    pub fn stack(&self, ip: TextAddr, frames: &[TextAddr]) -> bool {
        let count = frames.len().min(MAX_PAYLOAD - 1);
        let Some(mut slot) = self.ring.reserve(1 + count, self.clock) else { return false };
        slot.write(0, ip.get());
        for (index, frame) in frames.iter().take(count).enumerate() {
            slot.write(1 + index, frame.get());
        }
        slot.commit(self.label(STACK, count));
        true
    }

    /// Records a text; what does not fit into a record is left out, whole characters at a time.
    pub fn marker(&self, text: &str) -> bool {
        let bytes = &text.as_bytes()[..text.floor_char_boundary(MAX_PAYLOAD * 8)];
        let Some(mut slot) = self.ring.reserve(bytes.len().div_ceil(8), self.clock) else { return false };
        for (index, part) in bytes.chunks(8).enumerate() {
            let word = part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            slot.write(index, word);
        }
        slot.commit(self.label(MARKER, bytes.len()));
        true
    }

    /// Records an event of this id; what does not fit into a record is left out.
    pub(crate) fn probe(&self, id: u16, payload: &[u64]) -> bool {
        let payload = payload.get(..payload.len().min(MAX_PAYLOAD)).unwrap_or_default();
        self.ring.record_with(payload.len(), self.label(PROBE, id.into()), self.clock, |slot| {
            for (index, word) in payload.iter().enumerate() {
                slot.write(index, *word);
            }
        })
    }

    /// Records an event of the user's own kind, from [`USER_KINDS`] on; a lower one is recorded as void.
    #[inline]
    pub fn user<const N: usize>(&self, kind: u8, extra: u16, payload: [u64; N]) -> bool {
        let label = Label { kind, extra, task: self.task };
        self.ring.record(if kind < USER_KINDS { Label::VOID } else { label }, self.clock, payload)
    }

    #[inline]
    const fn label(&self, kind: u8, extra: usize) -> Label {
        Label { kind, extra: extra as u16, task: self.task }
    }
}
