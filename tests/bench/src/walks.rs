//! What a walk costs for each frame.

use crate::counted::{counted, tell};
use core::hint::black_box;
use fentry::context::unwind::Unwinder;
use support::backtrace;
use support::unwind::{self, KernelStacks};

/// Frames that are walked over, beyond those around them.
const DEPTH: u32 = 32;

#[inline(never)]
fn deep(depth: u32, walk: &mut dyn FnMut()) -> u32 {
    if depth == 0 {
        walk();
        return 0;
    }
    black_box(deep(depth - 1, walk)) + 1
}

/// The instructions for a frame, of a walk that counts them.
fn each(mut walk: impl FnMut() -> usize) -> u32 {
    let mut took = |depth| {
        let mut walked = (0, 0);
        deep(depth, &mut || walked = counted(&mut walk));
        walked
    };
    // Once before, so that what is only done the first time is done.
    took(1);
    let ((fewer, few), (more, many)) = (took(1), took(1 + DEPTH));
    assert_eq!(more - fewer, DEPTH as usize, "every frame is found");
    (many - few) / DEPTH
}

pub(crate) fn walks() {
    let tables = [unwind::table().expect("it is linked with one")];
    tell(
        "walk-table",
        each(|| {
            // SAFETY: 1. The kernel's own. 2. It is used up here.
            let mut walk = unsafe { Unwinder::here(&tables, &KernelStacks) };
            let frames = walk.by_ref().count();
            assert!(walk.is_complete(), "{walk:?}");
            frames
        }),
    );
    tell("walk-records", each(|| backtrace::callers(backtrace::frame_pointer()).count()));
}
