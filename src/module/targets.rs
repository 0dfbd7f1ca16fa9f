//! What entries are made for: the distinct targets of veneers, or of a GOT, collected before there is memory and found again
//! while it is filled.
//!
//! A module may have tens of thousands of each, so none is looked for one by one: the targets are
//! sorted, and a binary search gives a relocation its entry. Entries are taken in the order of first use, as linkers do it.

use super::error::LoadError;
use super::resolve::RelocTarget;
use alloc::vec::Vec;

/// Collects the distinct targets, in no order yet.
#[derive(Debug, Default)]
pub(crate) struct TargetCollector(Vec<RelocTarget>);

impl TargetCollector {
    /// Notes a target, which may have been noted before.
    pub(crate) fn note(&mut self, target: RelocTarget) -> Result<(), LoadError> {
        if self.0.len() == self.0.capacity() {
            // Room is asked for what is different only: most relocations repeat a target.
            self.sort();
            if self.0.len() >= self.0.capacity() / 2 {
                self.0.try_reserve(self.0.len().max(16))?;
            }
        }
        self.0.push(target);
        Ok(())
    }

    fn sort(&mut self) {
        self.0.sort_unstable();
        self.0.dedup();
    }

    /// Returns the distinct targets.
    pub(crate) fn finish(mut self) -> TargetSet {
        self.sort();
        TargetSet(self.0)
    }
}

/// Distinct targets.
///
/// # Invariants
///
/// Sorted, and none twice.
#[derive(Debug, Default)]
pub(crate) struct TargetSet(Vec<RelocTarget>);

impl TargetSet {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Which entry each target has, once it has one.
#[derive(Debug)]
pub(crate) struct TargetEntries<'a> {
    targets: &'a TargetSet,
    /// An entry's number for each target, or [`NONE`](Self::NONE).
    numbers: Vec<u32>,
}

impl<'a> TargetEntries<'a> {
    const NONE: u32 = u32::MAX;

    pub(crate) fn new(targets: &'a TargetSet) -> Result<Self, LoadError> {
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(targets.len())?;
        numbers.resize(targets.len(), Self::NONE);
        Ok(Self { targets, numbers })
    }

    /// The index of a target among them; `None` for one that was not collected.
    pub(crate) fn find(&self, target: RelocTarget) -> Option<usize> {
        self.targets.0.binary_search(&target).ok()
    }

    /// The number of the entry of the target of this index, if it has one.
    pub(crate) fn number(&self, index: usize) -> Option<usize> {
        self.numbers.get(index).filter(|number| **number != Self::NONE).map(|number| *number as usize)
    }

    /// Notes the entry of the target of this index.
    pub(crate) fn take(&mut self, index: usize, number: usize) {
        if let Some(taken) = self.numbers.get_mut(index) {
            *taken = number as u32;
        }
    }
}
