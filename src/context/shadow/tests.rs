//! What is pushed, dropped and brought to the top of a shadow stack.

use super::{HookedCall, HookedCalls, ShadowFrames, ShadowMemoryError, ShadowStack, return_stub};
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;
extern crate std;

const STUB: u64 = return_stub().get();

fn call(sp: u64) -> HookedCall {
    HookedCall { return_address: 0x4000, function: 0x8000, sp, hook: 7 }
}

/// Calls on a stack from 0x1000 to 0x2000, if `bounded`.
fn calls<const CALLS: usize>(stack: &ShadowStack<CALLS>, bounded: bool) -> HookedCalls {
    let calls = HookedCalls::new();
    // SAFETY: the stack is these calls' own, and outlives them here.
    unsafe { calls.give(stack) };
    if bounded {
        calls.set_stack_bounds(0x1000, 0x2000);
    }
    calls
}

fn sps(calls: &HookedCalls) -> Vec<u64> {
    calls.iter().map(|frame| frame.sp()).collect()
}

fn counts(calls: &HookedCalls) -> (u64, u64) {
    (calls.overflows.load(Ordering::Relaxed), calls.abandoned.load(Ordering::Relaxed))
}

#[test]
fn without_a_stack_there_is_no_room_and_nothing_returns() {
    let calls = HookedCalls::new();
    assert!(calls.push(call(0x1800)).is_none());
    assert_eq!((counts(&calls), calls.depth(), calls.bring_to_top(0x1800)), ((1, 0), 0, None));
}

#[test]
fn a_full_stack_takes_no_more_and_a_new_one_is_empty() {
    let (small, other) = (ShadowStack::<2>::new(), ShadowStack::<3>::new());
    let calls = calls(&small, true);
    assert!(calls.push(call(0x1800)).is_some() && calls.push(call(0x1700)).is_some());
    assert!(calls.push(call(0x1600)).is_none());
    assert_eq!((sps(&calls), counts(&calls)), (Vec::from([0x1700, 0x1800]), (1, 0)));
    // SAFETY: nothing returns.
    unsafe { calls.give(&other) };
    assert_eq!(calls.depth(), 0);
    // SAFETY: nothing returns.
    unsafe { calls.give(&small) };
    assert!(calls.push(call(0x1800)).is_some() && calls.push(call(0x1700)).is_some());
}

#[test]
fn a_return_drops_what_is_above_its_call_on_any_stack() {
    let stack = ShadowStack::<8>::new();
    let calls = calls(&stack, false);
    calls.push_all(&[(1, 0x1f00), (2, 0x1e00), (3, 0x1d00), (4, 0x9000)]);
    assert_eq!(calls.bring_to_top(0x1e80), None);
    assert_eq!(calls.depth(), 4, "nothing is dropped for a return that is nobody's");
    assert_eq!(calls.bring_to_top(0x1e00), Some(()));
    assert_eq!((sps(&calls), counts(&calls)), (Vec::from([0x1e00, 0x1f00]), (0, 2)));
}

#[test]
fn a_free_frame_with_the_sp_of_a_return_is_not_taken_for_its_own() {
    let stack = ShadowStack::<8>::new();
    let calls = calls(&stack, false);
    calls.push_all(&[(1, 0x1f00), (2, 0x1f00)]);
    calls.iter().next().unwrap().return_address.store(super::frame::FREE, Ordering::Relaxed);
    assert_eq!(calls.bring_to_top(0x1f00), Some(()));
    assert_eq!((calls.depth(), calls.iter().next().unwrap().return_address()), (1, 1));
}

#[test]
fn an_entry_drops_what_is_over_on_its_own_stack() {
    for (bounded, left) in [(true, [0x1e80, 0x1f00].as_slice()), (false, &[0x1e80, 0x1d00, 0x1e00, 0x1f00])] {
        let stack = ShadowStack::<8>::new();
        let calls = calls(&stack, bounded);
        calls.push_all(&[(1, 0x1f00), (2, 0x1e00), (3, 0x1d00)]);
        calls.push(call(0x1e80));
        assert_eq!(sps(&calls), left);
    }
}

#[test]
fn a_loop_of_calls_that_never_return_takes_one_frame() {
    let stack = ShadowStack::<4>::new();
    let calls = calls(&stack, true);
    calls.push_all(&[(1, 0x1f00)]);
    for _ in 0..100 {
        assert!(calls.push(call(0x1800)).is_some());
    }
    assert_eq!((calls.depth(), counts(&calls)), (2, (0, 99)));
}

#[test]
fn tail_calls_and_second_hooks_at_one_function_are_not_over() {
    let stack = ShadowStack::<8>::new();
    let calls = calls(&stack, true);
    calls.push_all(&[(1, 0x1f00), (STUB, 0x1f00), (STUB, 0x1f00)]);
    assert_eq!((calls.depth(), counts(&calls)), (3, (0, 0)));
}

#[test]
fn frames_of_other_stacks_are_left_alone() {
    let stack = ShadowStack::<8>::new();
    let calls = calls(&stack, true);
    // A handler on a stack above the thread's, and one below.
    calls.push_all(&[(1, 0x1100), (2, 0x9000), (3, 0x8000), (4, 0x0800)]);
    calls.push(call(0x9800));
    assert_eq!((calls.depth(), counts(&calls)), (5, (0, 0)));
}

#[test]
fn a_frame_in_the_making_is_not_stale() {
    let stack = ShadowStack::<8>::new();
    let calls = calls(&stack, true);
    // Its SP is what another call has left there.
    calls.push_all(&[(1, 0x1f00), (2, 0x1100)]);
    let frame = calls.iter().next().unwrap();
    frame.return_address.store(super::frame::FREE, Ordering::Relaxed);
    calls.push(call(0x1800));
    assert_eq!((sps(&calls), counts(&calls)), (Vec::from([0x1800, 0x1100, 0x1f00]), (0, 0)));
}

#[test]
fn a_frame_that_was_given_back_in_use_can_be_taken_again() {
    let stack = ShadowStack::<2>::new();
    let calls = calls(&stack, true);
    calls.push_all(&[(1, 0x1f00), (2, 0x1800)]);
    // As an interrupt that was left by a jump: above the top it is not free.
    calls.top.store(stack.start().wrapping_add(1), Ordering::Relaxed);
    assert!(calls.push(call(0x1700)).is_some());
    assert_eq!((sps(&calls), counts(&calls)), (Vec::from([0x1700, 0x1f00]), (0, 0)));
}

#[test]
fn what_a_handler_leaves_behind_is_dropped_at_its_end_but_not_its_callers() {
    let stack = ShadowStack::<8>::new();
    let calls = calls(&stack, true);
    calls.push_all(&[(1, 0x1f00)]);
    let mark = calls.mark();
    // The handler, on a stack above; what it calls; what was left further in, there and on a stack below.
    calls.push_all(&[(2, 0x9f00), (3, 0x9e00), (4, 0x9d00), (5, 0x0800)]);
    calls.drop_left(mark, 0x9e00);
    assert_eq!((sps(&calls), counts(&calls)), (Vec::from([0x9e00, 0x9f00, 0x1f00]), (0, 2)));
    calls.drop_left(mark, 0xa000);
    assert_eq!(sps(&calls), [0x1f00]);
    calls.drop_left(mark, 0xa000);
    assert_eq!(sps(&calls), [0x1f00], "what was interrupted goes on");
}

#[test]
fn after_a_reset_nothing_is_hooked() {
    let stack = ShadowStack::<2>::new();
    let calls = calls(&stack, true);
    calls.push_all(&[(1, 0x1f00), (2, 0x1800)]);
    // SAFETY: nothing returns.
    unsafe { calls.reset() };
    assert!(calls.depth() == 0 && calls.push(call(0x1f80)).is_some());
}

/// What a stack of three calls does, wherever it is.
fn holds_three(calls: &HookedCalls) {
    for round in 0..2 {
        for sp in [0x1800, 0x1700, 0x1600] {
            assert!(calls.push(call(sp)).is_some(), "round {round}");
        }
        assert!(calls.push(call(0x1500)).is_none());
        assert_eq!(sps(calls), [0x1600, 0x1700, 0x1800]);
        // SAFETY: nothing returns.
        unsafe { calls.reset() };
        assert_eq!(calls.depth(), 0);
    }
}

#[test]
fn a_stack_made_in_place_is_as_one_that_was_moved_there() {
    let mut memory = Box::<ShadowStack<3>>::new_uninit();
    holds_three(&calls(ShadowStack::new_in(&mut memory), false));
    let frames = Box::leak(vec![MaybeUninit::uninit(); ShadowFrames::bytes(3)].into_boxed_slice());
    let stack = ShadowFrames::new_in(frames).unwrap();
    assert_eq!(stack.calls(), 3);
    let calls = HookedCalls::new();
    for _ in 0..2 {
        // SAFETY: the stack is these calls' own, and outlives them here; nothing returns.
        unsafe { calls.give_frames(stack) };
        holds_three(&calls);
    }
}

#[test]
fn memory_of_any_length_and_alignment_is_used_as_far_as_it_goes() {
    for (skipped, calls) in [(0, 1), (1, 1), (7, 5), (8, 2)] {
        let needed = ShadowFrames::bytes(calls);
        let mut memory = vec![MaybeUninit::new(0xff); skipped + needed];
        let stack = ShadowFrames::new_in(&mut memory[skipped..]).unwrap();
        assert_eq!(stack.calls(), calls);
    }
    for bytes in [0, 1, 63, 64, 128, 3 * 64 - 1] {
        let mut memory = vec![MaybeUninit::uninit(); bytes];
        let error = ShadowFrames::new_in(&mut memory).unwrap_err();
        assert_eq!(error, ShadowMemoryError { bytes, needed: 3 * 64 + 7 });
    }
}
