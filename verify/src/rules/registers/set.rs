//! The registers that matter here, as bits.

use fentry::insn::{Reg, Width};

/// x9 to x18 in bits 9 to 18, the flags in bit 0.
pub(in crate::rules) type Set = u32;

pub(super) const REGISTERS: Set = 0x7fe00;
pub(super) const FLAGS: Set = 1;
/// The platform's register, which stubs leave alone.
pub(in crate::rules) const X18: Set = 1 << 18;
/// What callsites and stubs change.
pub(super) const CHANGED: Set = REGISTERS & !X18 | FLAGS;

/// `x9 is live`, `x9, x10 and the flags are live`.
pub(super) fn names(set: Set, how: &str) -> String {
    let registers = (9..=18).filter(|number| set >> number & 1 == 1);
    let mut names: Vec<String> =
        registers.filter_map(|number| Some(Reg::x(number)?.name(Width::X).to_string())).collect();
    if set & FLAGS != 0 {
        names.push("the flags".to_owned());
    }
    let is_one = names.len() == 1 && set & FLAGS == 0;
    format!("{} {} {how}", names.join(", "), if is_one { "is" } else { "are" })
}
