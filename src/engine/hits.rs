//! Reading what counters have counted.
//!
//! A registered [`Ops::counter`](Ops::counter) has a counter in each CPU's area, and its hits are their sum. When it is
//! unregistered, and no CPU is inside a stub that counts for it any more, the sum moves into the ops itself, and the
//! counters are free for another one.

use super::Engine;
use crate::address::TextAddr;
use crate::ops::Ops;
use crate::record::hits::CallsiteHits;
use core::sync::atomic::Ordering;

/// A function and how often it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub struct FunctionHits<'a> {
    pub function: TextAddr,
    pub name: Option<&'a str>,
    pub hits: u64,
}

impl Engine {
    /// Returns how many calls an [`Ops::counter`](Ops::counter) has counted, over all its registrations.
    ///
    /// While it is registered, concurrent calls may or may not be included; after it is unregistered the sum is exact.
    pub fn hits(&self, ops: &Ops) -> u64 {
        // Under the lock, so that the counters are not taken back between the two reads.
        let registry = self.lock();
        let number = registry.members.find(ops);
        let counter = number.and_then(|number| registry.members.get(number)?.counter);
        let mut hits = ops.hits.load(Ordering::Relaxed);
        if let Some(counter) = counter {
            self.platform.for_each_cpu_area(&mut |area| hits = hits.wrapping_add(area.hits(counter.into())));
        }
        hits
    }

    /// Returns how often the function at this address was called; `None` if its callsite has no counter in `hits`.
    pub fn function_hits(&self, hits: &CallsiteHits, function: TextAddr) -> Option<u64> {
        let registry = self.lock();
        let table = &registry.region_of(function)?.table;
        hits.of(&table.callsite(table.find(function)?)?)
    }

    /// Calls `show` with every function that was called at least once, in the order of their addresses.
    pub fn for_each_function_hit(&self, hits: &CallsiteHits, mut show: impl FnMut(FunctionHits<'_>)) {
        let registry = self.lock();
        for region in &registry.regions {
            for (_, callsite) in region.callsites(0..region.table.len()) {
                if let Some(hits @ 1..) = hits.of(&callsite) {
                    let function = callsite.function();
                    show(FunctionHits { function, name: region.name(function), hits });
                }
            }
        }
    }
}
