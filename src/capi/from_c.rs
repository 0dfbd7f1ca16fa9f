//! Pointers that come from C.

use super::error::fentry_error;
use core::ffi::{CStr, c_char};

/// Where one of the engine's own words is, with which an object begins.
pub(super) const fn word<T>(object: *mut T, number: usize) -> *mut u64 {
    object.cast::<u64>().wrapping_add(number)
}

/// Writes a result to where C wants it.
///
/// # Safety
///
/// 1. `to` is NULL, or a place for a `T`.
pub(super) unsafe fn write<T>(to: *mut T, value: T) -> fentry_error {
    if to.is_null() {
        return fentry_error::NullPointer;
    }
    // SAFETY: our caller's promise.
    unsafe { to.write(value) };
    fentry_error::None
}

/// Writes a result that C may have no interest in.
///
/// # Safety
///
/// 1. `to` is NULL, or a place for a `T`.
pub(super) unsafe fn write_if_wanted<T>(to: *mut T, value: T) {
    // SAFETY: 1. our caller's promise.
    let _ = unsafe { write(to, value) };
}

/// The text that a pointer leads to.
///
/// # Safety
///
/// 1. `text` is NULL, or ends in a zero and stays as it is for `'a`.
pub(super) unsafe fn text<'a>(text: *const c_char, otherwise: fentry_error) -> Result<&'a str, fentry_error> {
    if text.is_null() {
        return Err(fentry_error::NullPointer);
    }
    // SAFETY: our caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|_| otherwise)
}

/// The elements of a C array; none for NULL with a length of 0.
///
/// # Safety
///
/// 1. `first` is NULL, or points at `count` elements that stay as they are for `'a`.
pub(super) unsafe fn slice<'a, T>(first: *const T, count: usize) -> Result<&'a [T], fentry_error> {
    match (first.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(fentry_error::NullPointer),
        (false, _) if !first.is_aligned() => Err(fentry_error::BadValue),
        (false, _) if count > isize::MAX as usize / size_of::<T>().max(1) => Err(fentry_error::BadValue),
        // SAFETY: our caller's promise; aligned, and of a length that can be.
        (false, _) => Ok(unsafe { core::slice::from_raw_parts(first, count) }),
    }
}

/// The same of memory that is handed over.
///
/// # Safety
///
/// 1. `first` is NULL, or points at `count` elements that nobody else uses for `'a`.
pub(super) unsafe fn slice_mut<'a, T>(first: *mut T, count: usize) -> Result<&'a mut [T], fentry_error> {
    // SAFETY: 1. our caller's promise.
    let length = unsafe { slice(first.cast_const(), count) }?.len();
    if length == 0 {
        return Ok(&mut []);
    }
    // SAFETY: our caller's promise; `slice` has looked at the rest.
    Ok(unsafe { core::slice::from_raw_parts_mut(first, length) })
}
