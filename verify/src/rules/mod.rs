//! The validators: each proves one thing of every function, or says where it does not hold, one file a validator.
//!
//! A validator is a function from what the rooms below know to [`Finding`]s. It keeps nothing, and none relies on
//! another's findings.

mod callsites;
mod registers;
mod sites;
mod stack;
#[cfg(test)]
mod tests;

pub use sites::Sites;

use crate::cfi::Cfi;
use crate::flow::Flow;
use crate::report::Finding;

/// Runs all validators.
pub fn check(flow: &Flow<'_>, cfi: &Cfi) -> Vec<Finding> {
    let sites = Sites::of(flow.program());
    let mut findings = callsites::check(flow, &sites);
    findings.extend(stack::check(flow, cfi));
    findings.extend(registers::check(flow, &sites));
    findings
}
