//! The page tables: three blocks of 1 GiB, for all CPUs. Nothing is both writable and executable.

use aarch64_rt::{InitialPagetable, initial_pagetable};

const VALID: usize = 1 | 1 << 10; // a block that was accessed
const RAM: usize = VALID | 1 << 2 | 3 << 8; // Normal memory (attribute 1 of aarch64-rt's MAIR), Inner Shareable
const READ_ONLY: usize = 1 << 7;
const NEVER_EXECUTE: usize = 3 << 53;
/// How far the writable mapping of RAM lies above the executable one.
pub(crate) const GIB: usize = 1 << 30;

initial_pagetable!({
    let mut gibibytes = [0; 512];
    gibibytes[0] = VALID | NEVER_EXECUTE; // devices
    gibibytes[1] = GIB | RAM | READ_ONLY; // RAM where it is: code and constants
    gibibytes[2] = GIB | RAM | NEVER_EXECUTE; // the same RAM again: data, and the writable alias of the code
    InitialPagetable(gibibytes)
});
