//! The function tracer: each call, with who made it and with which arguments.
//!
//! An ops that writes one record a call. Where only the last calls before something matter, the flight recorder
//! costs less.

use super::event::MAX_ARGUMENTS;
use super::kernel::{RecordTo, event_writer};
use crate::address::TextAddr;
use crate::context::regs::FtraceRegs;
use crate::ops::Ops;

/// Makes an ops that records each call of the functions that it is registered for, with the first `ARGUMENTS` of the
/// arguments, at most eight.
pub const fn function<K: RecordTo, const ARGUMENTS: usize>() -> Ops {
    Ops::new(record::<K, ARGUMENTS>)
}

extern "C" fn record<K: RecordTo, const ARGUMENTS: usize>(
    ip: TextAddr,
    parent_ip: TextAddr,
    _: &'static Ops,
    regs: FtraceRegs<'_>,
) {
    record_call::<K>(ip, parent_ip, &regs, ARGUMENTS);
}

/// Records a call with the first `count` of its arguments.
#[inline]
pub(crate) fn record_call<K: RecordTo>(ip: TextAddr, parent_ip: TextAddr, regs: &FtraceRegs<'_>, count: usize) {
    // x0 to x7 where they were saved: not copied first.
    let arguments = regs.saved().x.get(..count.min(MAX_ARGUMENTS)).unwrap_or_default();
    event_writer::<K>().function(ip, parent_ip, arguments);
}
