//! What the parameters say of the next calls, worked out ahead: how many go by before one fails.
//!
//! It is one word, [`Ops::due`](crate::Ops), which stubs count down; so most calls need not be looked at. Where it has come to
//! its end while another call, of another CPU or one that was interrupted, works out the next ones, a call asks the
//! parameters for itself alone.

use super::parameters::Parameters;
use crate::ops::NEVER_DUE;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many calls are worked out at once, at most: how long one of them may take.
const MOST: u64 = 64;
/// The call that is due fails, and is not only the end of what was worked out.
const FAILS: u64 = 1;
/// Nothing is worked out: calls are looked at one by one.
const ALL_DUE: u64 = 0;

/// How many calls go by, and whether somebody is working that out.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) is_worked_at: AtomicBool,
}

impl Ahead {
    pub(super) const fn new() -> Self {
        Self { is_worked_at: AtomicBool::new(false) }
    }

    /// Says of one call whether it may fail.
    pub(super) fn may_fail(&self, due: &AtomicU64, parameters: &Parameters) -> bool {
        let may_fail = match due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted) {
            Ok(FAILS) => true,
            Ok(ALL_DUE) => parameters.step(),
            // It goes by.
            Ok(_) | Err(_) => return false,
        };
        if !self.is_worked_at.swap(true, Ordering::Acquire) {
            work_out(due, parameters);
            self.is_worked_at.store(false, Ordering::Release);
        }
        may_fail
    }
}

/// What is left behind one call; `None` where no call is due.
fn counted(due: u64) -> Option<u64> {
    match due {
        ALL_DUE | FAILS => Some(ALL_DUE),
        due if due & NEVER_DUE != 0 => None,
        due => Some(due - 2),
    }
}

fn work_out(due: &AtomicU64, parameters: &Parameters) {
    // Another call has come between, and somebody has worked out what comes behind it.
    if due.load(Ordering::Relaxed) != ALL_DUE {
        return;
    }
    let (mut go_by, mut fails) = (0, 0);
    while go_by < MOST {
        if parameters.step() {
            fails = FAILS;
            break;
        }
        go_by += 1;
    }
    // Not where the parameters were changed meanwhile.
    let _ = due.compare_exchange(ALL_DUE, go_by << 1 | fails, Ordering::Relaxed, Ordering::Relaxed);
}

/// Begins anew, after the parameters were changed.
pub(super) fn reset(due: &AtomicU64, parameters: &Parameters) {
    due.store(if parameters.is_off() { NEVER_DUE } else { ALL_DUE }, Ordering::Relaxed);
}
