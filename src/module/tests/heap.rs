//! A heap that is used up when a test says so: for the one thread that says it, and at the allocation that it names.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

/// What happens after the allocation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// There is room again.
    Room,
    /// There is never any.
    NoRoom,
}

#[derive(Clone, Copy)]
enum Supply {
    Unlimited,
    /// So many allocations succeed yet.
    Left(usize, After),
    /// The fault has happened.
    Over(After),
}

std::thread_local! {
    static SUPPLY: Cell<Supply> = const { Cell::new(Supply::Unlimited) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// Takes one allocation from the supply; whether there was one.
fn take() -> bool {
    let (left, given) = match SUPPLY.get() {
        Supply::Unlimited => (Supply::Unlimited, true),
        Supply::Left(0, after) => (Supply::Over(after), false),
        Supply::Left(left, after) => (Supply::Left(left - 1, after), true),
        Supply::Over(after) => (Supply::Over(after), after == After::Room),
    };
    SUPPLY.set(left);
    given
}

/// Runs `f`, whose allocation of this number fails; whether it came so far.
pub(super) fn without<T>(number: usize, after: After, f: impl FnOnce() -> T) -> (T, bool) {
    SUPPLY.set(Supply::Left(number, after));
    let result = f();
    let reached = matches!(SUPPLY.replace(Supply::Unlimited), Supply::Over(_));
    (result, reached)
}

/// Runs `f` with all the room that it wants: what it does is not what is tested.
pub(super) fn spared<T>(f: impl FnOnce() -> T) -> T {
    let supply = SUPPLY.replace(Supply::Unlimited);
    let result = f();
    SUPPLY.set(supply);
    result
}

/// How many allocations more than deallocations this thread has made.
pub(super) fn live() -> isize {
    LIVE.get()
}

struct Limited;

#[global_allocator]
static HEAP: Limited = Limited;

// SAFETY: everything that doesn't fail is passed on to the system's allocator.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take() {
            return core::ptr::null_mut();
        }
        LIVE.set(LIVE.get() + 1);
        // SAFETY: our caller keeps the contract of this same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - 1);
        // SAFETY: our caller keeps the contract of this same method.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !take() {
            return core::ptr::null_mut();
        }
        // SAFETY: our caller keeps the contract of this same method.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
