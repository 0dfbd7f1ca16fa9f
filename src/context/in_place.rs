//! Arrays made in memory of a kernel's allocator, where they stay: a kernel's stack is too small to make them on.

use core::mem::MaybeUninit;

/// Makes as many values in this memory as `choose` takes of those that fit it, aligned; what is left over is not used.
///
/// # Safety
///
/// 1. `make` initialises what it is given, with the value of that number.
pub(crate) unsafe fn in_place<T>(
    memory: &mut [MaybeUninit<u8>],
    choose: impl FnOnce(usize) -> usize,
    mut make: impl FnMut(usize, &mut MaybeUninit<T>),
) -> &mut [T] {
    // SAFETY: whatever bytes there are, they are a `MaybeUninit`.
    let (_, places, _) = unsafe { memory.align_to_mut::<MaybeUninit<T>>() };
    let count = choose(places.len()).min(places.len());
    let places = &mut places[..count];
    places.iter_mut().enumerate().for_each(|(number, place)| make(number, place));
    // SAFETY: our caller's promise, for each.
    unsafe { places.assume_init_mut() }
}
