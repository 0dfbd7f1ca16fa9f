//! The last question: does the kernel know where each instruction's caller is, so that its stack traces are true?

use std::collections::BTreeMap;

use fentry::context::unwind::{Unknown, UnwindTable, UnwindTableError};
use fentry_verify::table::Rows;
use fentry_verify::{Cfi, Flow, Image, NoReturn, Program};

use super::advice;
use super::loaded::Loaded;
use super::report::Report;
use crate::kept::Kept;

/// Looks at the unwind table, and compares it with what following the image's functions gives.
pub(super) fn examine(data: &[u8], loaded: &Loaded<'_>, report: &mut Report) {
    let range_of = |Kept { start, stop, .. }: Kept| loaded.between(&start, &stop);
    let Some(range) = range_of(Kept::unwind()) else {
        // Who has no place for names has not come so far.
        if range_of(Kept::symbols()).is_some() {
            report.hint("there is no place for an unwind table: stack traces follow frame records", &advice::unwind());
        }
        return;
    };
    let bytes = loaded.bytes(&range).unwrap_or_default();
    let table = match UnwindTable::in_room(bytes, range.start) {
        Ok(table) => table,
        Err(error @ UnwindTableError::Absent) => return report.hint(error.to_string(), advice::UNWIND),
        Err(error) => return report.problem(error.to_string(), advice::UNWIND),
    };
    match Image::parse(data) {
        Ok(image) => compare(&Program::new(image), &table, report),
        Err(error) => report.note(format!("the unwind table {table:?} can't be compared with the image: {error}")),
    }
}

fn compare(program: &Program<'_>, table: &UnwindTable<'_>, report: &mut Report) {
    let flow = Flow::follow(program, &NoReturn::default());
    if let Some(id) = Rows::differs_at(&flow, &Cfi::of(&flow), table) {
        let what = format!("the unwind table is of another link: at {} it is not right", program.place(id));
        return report.problem(what, advice::UNWIND);
    }
    let in_functions = program.all().filter(|id| program.function_of(*id).is_some());
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    for why in in_functions.filter_map(|id| table.row(program.address(id)).err()) {
        // Data among the code, and padding.
        if why != Unknown::NotReached {
            *unknown.entry(why.to_string()).or_default() += 1;
        }
    }
    report.good(format!(
        "the unwind table is of this link: {} functions and gaps, {} rows",
        table.pieces(),
        table.rows()
    ));
    if !unknown.is_empty() {
        let cases = unknown.into_iter().map(|(why, count)| format!("{count:6}  {why}")).collect();
        report.note_with_cases("where an instruction's caller is not known, stack traces say so", cases);
    }
}
