//! The graph tracer: which calls each call made, and how long each took.
//!
//! A probe that writes one record a call, at the exit, with the time of the entry: a reader puts calls inside each
//! other by these times and by the depth. So a call that has not returned yet is not there.

use super::kernel::{RecordTo, event_writer};
use crate::ops::{Exit, Probe};
use core::marker::PhantomData;

/// The probe: `Ops::returning::<Graph<K, DEPTH>>()` records calls that are inside less than `DEPTH` hooked ones.
#[derive(Debug)]
pub struct Graph<K, const DEPTH: usize = { usize::MAX }>(PhantomData<K>);

impl<K: RecordTo, const DEPTH: usize> Probe for Graph<K, DEPTH> {
    const ENTRY: bool = false;
    type Data = ();

    #[inline]
    fn exit(call: &mut Exit<'_>, (): &()) {
        record_exit::<K>(call, |depth| DEPTH == usize::MAX || depth < DEPTH);
    }
}

/// Records a call at its exit, if it is wanted at its depth.
#[inline]
pub(crate) fn record_exit<K: RecordTo>(call: &Exit<'_>, is_wanted: impl FnOnce(usize) -> bool) {
    let depth = call.depth();
    if is_wanted(depth) {
        record_exit_at::<K>(call, depth as u16);
    }
}

/// Records a call at its exit, at this depth.
#[inline]
pub(crate) fn record_exit_at<K: RecordTo>(call: &Exit<'_>, depth: u16) {
    event_writer::<K>().graph_exit(call.ip(), call.entry_time(), depth, call.value());
}
