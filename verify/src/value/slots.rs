//! What the stack holds.

use super::Value;
use crate::image::Image;

/// A place on the stack and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// From the canonical frame address, in bytes.
    at: i64,
    bytes: u8,
    value: Value,
}

/// The places of which something is known, in order. None overlaps another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    /// What is known of so many bytes.
    pub(super) fn get(&self, at: i64, bytes: u8) -> Value {
        let found = self.0.binary_search_by_key(&at, |slot| slot.at);
        found
            .ok()
            .map(|index| self.0[index])
            .filter(|slot| slot.bytes == bytes)
            .map_or(Value::Unknown, |slot| slot.value)
    }

    /// The places in order, with what each holds.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (i64, Value)> + '_ {
        self.0.iter().map(|slot| (slot.at, slot.value))
    }

    /// Bytes that are overwritten by what is not known.
    pub(super) fn forget(&mut self, at: i64, bytes: i64) {
        let end = at.saturating_add(bytes);
        self.0.retain(|slot| slot.at >= end || slot.at + i64::from(slot.bytes) <= at);
    }

    /// Bytes that are overwritten.
    pub(super) fn set(&mut self, at: i64, bytes: u8, value: Value) {
        self.forget(at, bytes.into());
        if value != Value::Unknown {
            let index = self.0.partition_point(|slot| slot.at < at);
            self.0.insert(index, Slot { at, bytes, value });
        }
    }

    /// What lies below SP is anybody's.
    pub(super) fn forget_below(&mut self, sp: i64) {
        let dead = self.0.partition_point(|slot| slot.at < sp);
        self.0.drain(..dead);
    }

    /// What a pointer of which nothing is known may have overwritten: everything but what a function keeps for itself. That is
    /// also where a table is, which compilers work out before a loop: an address of data that nobody writes.
    pub(super) fn forget_shared(&mut self, image: &Image<'_>) {
        let is_fixed =
            |address| image.section_at(address).is_some_and(|section| !section.is_executable && !section.is_writable);
        self.0.retain(|slot| match slot.value {
            Value::Caller(..) | Value::Frame(_) => true,
            Value::Const(address) => is_fixed(address),
            _ => false,
        });
    }

    /// Forgets the values that `is_stale` says.
    pub(super) fn forget_where(&mut self, is_stale: impl Fn(Value) -> bool) {
        self.0.retain(|slot| !is_stale(slot.value));
    }

    /// Keeps what both hold; returns whether that is less.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        let before = self.0.len();
        let mut others = other.0.iter().peekable();
        self.0.retain(|slot| {
            while others.next_if(|other| other.at < slot.at).is_some() {}
            others.peek().is_some_and(|other| *other == slot)
        });
        self.0.len() != before
    }
}
