//! The validators: each proves one thing of every function, or says where it does not hold, one file a validator.
//!
//! A validator is a function from what the rooms below know to [`Finding`]s. It keeps nothing, and none relies on
//! another's findings.

mod calls;
mod callsites;
mod conventions;
mod depth;
mod engine;
mod hashes;
mod landing;
mod registers;
mod room;
mod sites;
mod stack;
mod taken;
#[cfg(test)]
mod tests;

pub use depth::{Counted, Depth, Depths, Link, Unbounded};
pub use sites::Sites;

use crate::cfi::Cfi;
use crate::flow::Flow;
use crate::report::Finding;
use calls::Calls;
use hashes::Checks;
use registers::Solved;
use taken::Taken;

/// Runs all validators.
pub fn check(flow: &Flow<'_>, cfi: &Cfi) -> Vec<Finding> {
    let program = flow.program();
    let sites = Sites::of(program);
    let taken = Taken::of(program, &sites);
    let checks = Checks::of(program);
    let mut findings = callsites::check(flow, &sites);
    findings.extend(stack::check(flow, cfi));
    if !sites.is_empty() {
        let solved = Solved::of(flow);
        findings.extend(registers::check(flow, &sites, &solved));
        findings.extend(conventions::check(flow, &sites, &solved));
    }
    findings.extend(landing::check(flow, &sites, &taken));
    findings.extend(hashes::check(flow, &taken, &checks));
    findings.extend(room::check(program));
    findings.extend(engine::check(flow, &sites, &Calls::of(flow, &taken, &checks)));
    findings
}
