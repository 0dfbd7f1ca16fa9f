//! The room for generated stubs: it is empty until the engine fills it.

use fentry::TextAddr;

use crate::program::Program;
use crate::report::{At, Finding, Rule};

/// Its ends, as examples/fentry.ld has them.
const ENDS: (&str, &str) = ("__fentry_stubs_start", "__fentry_stubs_stop");
/// UDF has zeros above its number (Arm ARM C6.2, "UDF").
const UDF_MASK: u32 = 0xffff_0000;

pub(super) fn check(program: &Program<'_>) -> Option<Finding> {
    let image = program.image();
    let range = image.between(ENDS)?;
    // What the file has no bytes of is zero.
    let is_used = |at: &u64| image.number_at(*at, 4).is_some_and(|word| word as u32 & UDF_MASK != 0);
    let used = range.step_by(4).find(is_used)?;
    let at = program.at(TextAddr::new(used)).map_or(At::Address(used), At::Insn);
    Some(Finding::new(Rule::StubsRoom, at, "there is something in the room where the engine generates its stubs"))
}
