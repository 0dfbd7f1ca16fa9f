//! Reads tables of jumps.

use fentry::insn::{Change, Flow, Hint, Insn, System};

use super::jump::{Jump, Table, Why};
use super::onward::Rules;
use crate::program::{FunctionId, InsnId, Program};
use crate::value::Shape;

/// More elements are not believed.
const MAX_ELEMENTS: u32 = 1 << 16;

/// Where the jumps of a table go, if all its elements lead into the function.
///
/// Of a table that the code does not compare an index with, those are the elements that do, up to the next place that anything
/// refers to, once those are known.
pub(super) fn read(rules: &Rules<'_>, function: FunctionId, shape: Shape) -> Jump {
    let Shape { table, log2_bytes, count, is_compared, .. } = shape;
    let count = match (count, rules.table_starts) {
        (Some(count), _) if is_compared => count,
        // What an index can be by its width is not what it is.
        (_, None) => return Jump::NotFollowed(Why::Unbounded { table }),
        (count, Some(starts)) => {
            let next = starts.get(starts.partition_point(|start| *start <= table)).copied().unwrap_or(u64::MAX);
            let room = u32::try_from((next - table) >> log2_bytes).unwrap_or(u32::MAX);
            count.unwrap_or(MAX_ELEMENTS).min(room)
        }
    };
    let is_pad = |id| matches!(rules.program.insn(id), Insn::System(System::Hint(Hint::BTI_J | Hint::BTI_JC)));
    let may_end_early = rules.table_starts.is_some() && !is_compared;
    let mut targets: Vec<InsnId> = Vec::new();
    let mut elements = 0;
    while elements < count {
        match target(rules.program, function, shape, elements) {
            // Where one has a landing pad, all have one.
            Ok(target) if may_end_early && targets.first().is_some_and(|first| is_pad(*first) && !is_pad(target)) => {
                break;
            }
            // From before the jump the frame is there; from the instruction before, it is not.
            Ok(target) if may_end_early && elements > 0 && is_behind_frame(rules.program, target) => break,
            Ok(target) => targets.push(target),
            Err(_) if may_end_early && elements > 0 => break,
            Err(why) => return Jump::NotFollowed(why),
        }
        elements += 1;
    }
    targets.sort_unstable();
    targets.dedup();
    let bytes = u64::from(elements) << log2_bytes;
    Jump::Table(Table { address: table, bytes, is_compared, targets: targets.into() })
}

/// Whether the instruction before this one goes on here, and takes the frame down: it changes SP or X29, and calls nothing.
fn is_behind_frame(program: &Program<'_>, id: InsnId) -> bool {
    let before = program.prev_in_section(id).map(|before| program.insn(before).effects());
    before.is_some_and(|before| before.flow == Flow::Next && [before.sp, before.fp] != [Change::Kept; 2])
}

/// The instruction of the function that an element leads to.
fn target(program: &Program<'_>, function: FunctionId, shape: Shape, element: u32) -> Result<InsnId, Why> {
    let Shape { table, log2_bytes, is_signed, anchor, shift, .. } = shape;
    let none = Why::NoElement { table, element };
    let at = table.checked_add(u64::from(element) << log2_bytes).ok_or(none)?;
    let value = program.image().number_at(at, 1 << log2_bytes).ok_or(none)?;
    let unused = 64 - (8 << log2_bytes);
    let value = if is_signed { ((value << unused) as i64 >> unused) as u64 } else { value };
    let to = anchor.wrapping_add(value.checked_shl(shift.into()).ok_or(none)?);
    let is_ours =
        |id: &InsnId| program.function_of(*id).is_some_and(|other| program.parent(other) == program.parent(function));
    program.at(to.into()).filter(is_ours).ok_or(Why::TableLeaves { table, to })
}
