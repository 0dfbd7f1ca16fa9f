//! What a walk costs for each frame.

use crate::counted::tell;
use support::unwind;

pub(crate) fn walks() {
    let [by_table, by_records] = unwind::frame_costs().expect("the bench needs a machine that counts instructions");
    tell("walk-table", by_table);
    tell("walk-records", by_records);
}
