//! Reads tables of jumps.

use super::{Jump, Table, Why};
use crate::program::{FunctionId, InsnId, Program};
use crate::value::Shape;

/// Where the jumps of a table go, if all its elements lead into the function.
pub(super) fn read(program: &Program<'_>, function: FunctionId, shape: Shape) -> Jump {
    let Shape { table, log2_bytes, count, .. } = shape;
    let Some(count) = count else { return Jump::NotFollowed(Why::Unbounded { table }) };
    let mut targets: Vec<InsnId> = Vec::new();
    for element in 0..count {
        let Some(to) = element_of(program, shape, element) else {
            return Jump::NotFollowed(Why::NoElement { table, element });
        };
        let is_ours = |id: &InsnId| {
            program.function_of(*id).is_some_and(|other| program.parent(other) == program.parent(function))
        };
        match program.at(to.into()).filter(is_ours) {
            Some(target) => targets.push(target),
            None => return Jump::NotFollowed(Why::TableLeaves { table, to }),
        }
    }
    targets.sort_unstable();
    targets.dedup();
    Jump::Table(Table { address: table, bytes: u64::from(count) << log2_bytes, targets: targets.into() })
}

/// Where an element leads.
fn element_of(program: &Program<'_>, shape: Shape, element: u32) -> Option<u64> {
    let Shape { table, log2_bytes, is_signed, anchor, shift, .. } = shape;
    let at = table.checked_add(u64::from(element) << log2_bytes)?;
    let value = program.image().number_at(at, 1 << log2_bytes)?;
    let unused = 64 - (8 << log2_bytes);
    let value = if is_signed { ((value << unused) as i64 >> unused) as u64 } else { value };
    Some(anchor.wrapping_add(value.checked_shl(shift.into())?))
}
