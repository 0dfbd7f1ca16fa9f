//! What entries are made for: the distinct targets of veneers, or of a GOT, gathered before there is memory and found again
//! while it is filled.
//!
//! A module may have tens of thousands of each, so none is looked for one by one: the targets are
//! sorted, and a binary search gives a relocation its entry. Entries are taken in the order of first use, as linkers do it.

use super::error::LoadError;
use super::symbols::Target;
use alloc::vec::Vec;

/// Targets while they are gathered.
#[derive(Debug, Default)]
pub(crate) struct Gathering(Vec<Target>);

impl Gathering {
    /// Notes a target, which may have been noted before.
    pub(crate) fn note(&mut self, target: Target) -> Result<(), LoadError> {
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

    /// The distinct targets.
    pub(crate) fn finish(mut self) -> Targets {
        self.sort();
        Targets(self.0)
    }
}

/// Distinct targets.
///
/// # Invariants
///
/// Sorted, and none twice.
#[derive(Debug, Default)]
pub(crate) struct Targets(Vec<Target>);

impl Targets {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Which entry each target has, once it has one.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    targets: &'a Targets,
    /// An entry's number for each target, or [`NONE`](Self::NONE).
    numbers: Vec<u32>,
}

impl<'a> Taken<'a> {
    const NONE: u32 = u32::MAX;

    pub(crate) fn new(targets: &'a Targets) -> Result<Self, LoadError> {
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(targets.len())?;
        numbers.resize(targets.len(), Self::NONE);
        Ok(Self { targets, numbers })
    }

    /// The place of a target among them; `None` for one that was not gathered.
    pub(crate) fn find(&self, target: Target) -> Option<usize> {
        self.targets.0.binary_search(&target).ok()
    }

    /// The number of the entry of the target at this place, if it has one.
    pub(crate) fn number(&self, place: usize) -> Option<usize> {
        self.numbers.get(place).filter(|number| **number != Self::NONE).map(|number| *number as usize)
    }

    /// Gives the target at this place an entry.
    pub(crate) fn take(&mut self, place: usize, number: usize) {
        if let Some(taken) = self.numbers.get_mut(place) {
            *taken = number as u32;
        }
    }
}
