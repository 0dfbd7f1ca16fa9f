//! What belongs to one thread of execution, or to one CPU, in memory of the kernel's.

use super::error::fentry_error;
use super::from_c::{self, word};
use crate::context::shadow::ShadowFrames;
use crate::context::{ContextLevel, Interrupted, TraceContext};
use crate::record::CpuArea;
use core::ffi::c_void;
use core::mem::MaybeUninit;

/// The words of a `struct fentry_trace_context`.
pub const FENTRY_TRACE_CONTEXT_WORDS: usize = 14;
/// The words of a `struct fentry_interrupted`.
pub const FENTRY_INTERRUPTED_WORDS: usize = 4;
/// The words of a `struct fentry_cpu_area`.
pub const FENTRY_CPU_AREA_WORDS: usize = 64;

/// What tells a context that was initialised.
const MADE: u64 = u64::from_le_bytes(*b"fentryTC");
/// Where that is.
const MADE_AT: usize = 12;

/// fentry's own words for one thread of execution: one for each CPU where the kernel never switches tasks inside kernel
/// code, one for each task where it does. fentry_trace_context_init() makes it, before the base register leads to it; it stays
/// for as long as that register can.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct fentry_trace_context {
    /// The engine's own.
    pub engine: [u64; FENTRY_TRACE_CONTEXT_WORDS],
}

/// What an exception handler has interrupted.
#[derive(Debug)]
#[repr(C)]
pub struct fentry_interrupted {
    /// The engine's own.
    pub engine: [u64; FENTRY_INTERRUPTED_WORDS],
}

/// One CPU's counters; all zeros at first. It must live, at one place, for as long as the CPU's base register can lead to it.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct fentry_cpu_area {
    /// The engine's own.
    pub engine: [u64; FENTRY_CPU_AREA_WORDS],
}

const _: () = assert!(size_of::<TraceContext>() <= MADE_AT * 8 && align_of::<TraceContext>() <= 16);
const _: () = assert!(size_of::<Interrupted>() <= FENTRY_INTERRUPTED_WORDS * 8 && align_of::<Interrupted>() <= 8);
const _: () = assert!(size_of::<CpuArea>() == size_of::<fentry_cpu_area>() && align_of::<CpuArea>() <= 64);

/// The levels of what is running: each can be inside a callback once.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum fentry_level {
    /// An interrupt handler.
    Irq = 2,
    /// What can interrupt an interrupt handler: an FIQ used as NMI, an SError, a debug exception.
    Nmi = 4,
}

impl fentry_trace_context {
    /// The context in it; null where there is none, because it was not initialised.
    ///
    /// # Safety
    ///
    /// 1. `trace` is NULL, or points at a context, or at what could become one.
    pub(super) unsafe fn inner(trace: *const Self) -> *const TraceContext {
        if trace.is_null() || !trace.is_aligned() {
            return core::ptr::null();
        }
        // SAFETY: our caller's promise, and aligned.
        let made = unsafe { word(trace.cast_mut(), MADE_AT).read() };
        if made == MADE { trace.cast() } else { core::ptr::null() }
    }

    /// The context in it.
    ///
    /// # Safety
    ///
    /// 1. As for [`inner`](Self::inner); and it stays for `'a`.
    pub(super) unsafe fn of<'a>(trace: *const Self) -> Result<&'a TraceContext, fentry_error> {
        // SAFETY: 1. our caller's promise.
        let inner = unsafe { Self::inner(trace) };
        // SAFETY: null, or one that `fentry_trace_context_init` has made, which stays by our caller's promise.
        let context = unsafe { inner.as_ref() };
        context.ok_or(if trace.is_null() { fentry_error::NullPointer } else { fentry_error::NotSetUp })
    }
}

/// Makes a context in which nothing is going on. Without a shadow stack, no return is hooked in it.
///
/// Errors: NULL_POINTER, BAD_VALUE (not aligned to 16).
///
/// # Safety
///
/// `trace` is NULL, or memory that nobody uses: no base register leads to it yet, or it is a context whose task has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_trace_context_init(trace: *mut fentry_trace_context) -> fentry_error {
    if trace.is_null() {
        return fentry_error::NullPointer;
    }
    if !trace.is_aligned() {
        return fentry_error::BadValue;
    }
    // The stubs come here by an address that they load as a number.
    trace.expose_provenance();
    // SAFETY: our caller's promise; large enough and aligned, as was checked.
    unsafe { trace.cast::<TraceContext>().write(TraceContext::new()) };
    // SAFETY: as above.
    unsafe { word(trace, MADE_AT).write(MADE) };
    fentry_error::None
}

/// Gives a context a shadow stack, without which no return is hooked, and resets it: inside no callback and no hooked call.
///
/// FENTRY_SHADOW_STACK_BYTES(N) bytes, 64 for each call and some at the ends, hold N hooked calls inside each other. What finds
/// no room is not hooked, and counted as an overflow.
///
/// Errors: NULL_POINTER, NOT_SET_UP (no fentry_trace_context_init() before), MEMORY_SIZE (no room for one call).
///
/// # Safety
///
/// 1. `memory` is nobody else's, and stays for as long as the context is used.
/// 2. No hooked call of this thread returns any more.
/// 3. It is inside no callback, or will never go on there; and inside no handler that has called fentry_enter().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_trace_context_set_shadow_stack(
    trace: *mut fentry_trace_context,
    memory: *mut c_void,
    bytes: usize,
) -> fentry_error {
    // SAFETY: 1. A context, as the header asks for.
    let context = match unsafe { fentry_trace_context::of(trace) } {
        Ok(context) => context,
        Err(error) => return error,
    };
    // SAFETY: 1. Our caller's first promise; any bytes will do.
    let memory = match unsafe { from_c::slice_mut::<MaybeUninit<u8>>(memory.cast(), bytes) } {
        Ok(memory) => memory,
        Err(error) => return error,
    };
    let Ok(stack) = ShadowFrames::new_in(memory) else { return fentry_error::MemorySize };
    // SAFETY: 1. to 4. Our caller's promises.
    unsafe { context.set_shadow_frames(stack) };
    fentry_error::None
}

/// Resets a context for another task: inside no callback and no hooked call. Its shadow stack and the bounds of its stack stay.
///
/// A task that is killed leaves its context inside whatever it was inside of; a context that is used again without this may
/// never be traced any more, nor ever be quiescent.
///
/// Errors: NULL_POINTER, NOT_SET_UP.
///
/// # Safety
///
/// As for fentry_trace_context_set_shadow_stack(), 2 and 3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_trace_context_reset(trace: *mut fentry_trace_context) -> fentry_error {
    // SAFETY: 1. A context, as the header asks for.
    match unsafe { fentry_trace_context::of(trace) } {
        Ok(context) => {
            // SAFETY: 2. to 4. Our caller's promises.
            unsafe { context.reset() };
            fentry_error::None
        }
        Err(error) => error,
    }
}

/// Tells a context where its thread's stack is, from its lowest address to behind its highest; 0, 0 where nobody knows. With
/// it, hooked calls on that stack that never returned are dropped at the next hooked call.
///
/// Errors: NULL_POINTER, NOT_SET_UP.
///
/// # Safety
///
/// That is the stack of this context's thread, and nothing else that runs in this context uses a part of it, but for exception
/// handlers that go on below what they interrupt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_trace_context_set_stack_bounds(
    trace: *mut fentry_trace_context,
    low: u64,
    high: u64,
) -> fentry_error {
    // SAFETY: 1. A context, as the header asks for.
    match unsafe { fentry_trace_context::of(trace) } {
        Ok(context) => {
            // SAFETY: 1. Our caller's promise. 2. Compilers do no other.
            unsafe { context.set_stack_bounds(low..high) };
            fentry_error::None
        }
        Err(error) => error,
    }
}

/// Tells a context that an exception handler begins, at this `enum fentry_level`, so that what it calls is traced also where it
/// has interrupted a callback. A kernel that never calls this is traced all the same; then such calls are counted as misses.
///
/// Errors: NULL_POINTER, NOT_SET_UP, BAD_VALUE.
///
/// # Safety
///
/// `trace` is the running thread's. `interrupted` is given to fentry_leave() with the same context, before what was
/// interrupted goes on; of several handlers inside each other, the one that entered last leaves first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_enter(
    trace: *mut fentry_trace_context,
    level: u32,
    interrupted: *mut fentry_interrupted,
) -> fentry_error {
    let level = match level {
        level if level == fentry_level::Irq as u32 => ContextLevel::Irq,
        level if level == fentry_level::Nmi as u32 => ContextLevel::Nmi,
        _ => return fentry_error::BadValue,
    };
    if interrupted.is_null() {
        return fentry_error::NullPointer;
    }
    // SAFETY: 1. A context, as the header asks for.
    let context = match unsafe { fentry_trace_context::of(trace) } {
        Ok(context) => context,
        Err(error) => return error,
    };
    // SAFETY: 1. to 3. Our caller's promise.
    let outer = unsafe { context.enter(level) };
    // SAFETY: large enough and aligned, as was checked when this was compiled, and our caller's.
    unsafe { interrupted.cast::<Interrupted>().write(outer) };
    // SAFETY: as above; behind what was just written.
    unsafe { word(interrupted, FENTRY_INTERRUPTED_WORDS - 1).write(MADE) };
    fentry_error::None
}

/// Tells a context that the exception handler ends. Hooked calls that were made inside it and never returned are dropped.
///
/// Errors: NULL_POINTER, NOT_SET_UP (no fentry_enter() has written `interrupted`, or it was given here before).
///
/// # Safety
///
/// As for fentry_enter().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_leave(
    trace: *mut fentry_trace_context,
    interrupted: *mut fentry_interrupted,
) -> fentry_error {
    // SAFETY: 1. A context, as the header asks for.
    let context = match unsafe { fentry_trace_context::of(trace) } {
        Ok(context) => context,
        Err(error) => return error,
    };
    // SAFETY: NULL, or what `fentry_enter` was given.
    let Some(words) = (unsafe { interrupted.as_mut() }) else { return fentry_error::NullPointer };
    if core::mem::replace(&mut words.engine[FENTRY_INTERRUPTED_WORDS - 1], 0) != MADE {
        return fentry_error::NotSetUp;
    }
    // SAFETY: `fentry_enter` has written it, and nobody has taken it since: the last word says so.
    let outer = unsafe { interrupted.cast::<Interrupted>().read() };
    // SAFETY: 1. Our caller's promise.
    unsafe { context.leave(outer) };
    fentry_error::None
}

/// Returns whether the thread of this context is inside a callback, at any level. False for a context that was not initialised,
/// and for NULL.
///
/// # Safety
///
/// `trace` is NULL or a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_in_callback(trace: *const fentry_trace_context) -> bool {
    // SAFETY: 1. Our caller's promise.
    unsafe { fentry_trace_context::of(trace) }.is_ok_and(TraceContext::in_callback)
}

/// What a context has counted.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct fentry_context_counts {
    /// Hooked calls that are under way, inside each other.
    pub depth: u64,
    /// Calls that went untraced because their level was inside a callback already.
    pub misses: u64,
    /// Calls that were not hooked because the shadow stack was full, or there is none.
    pub overflows: u64,
    /// Hooked calls that never returned, as far as a later call or return has shown it.
    pub abandoned: u64,
}

/// Writes what a context has counted to `counts`.
///
/// Errors: NULL_POINTER, NOT_SET_UP.
///
/// # Safety
///
/// `trace` is NULL or a context, and `counts` is NULL or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_trace_context_counts(
    trace: *const fentry_trace_context,
    counts: *mut fentry_context_counts,
) -> fentry_error {
    // SAFETY: 1. Our caller's promise.
    let context = match unsafe { fentry_trace_context::of(trace) } {
        Ok(context) => context,
        Err(error) => return error,
    };
    let found = fentry_context_counts {
        depth: context.depth() as u64,
        misses: context.misses(),
        overflows: context.overflows(),
        abandoned: context.abandoned(),
    };
    // SAFETY: our caller's promise.
    unsafe { from_c::write(counts, found) }
}
