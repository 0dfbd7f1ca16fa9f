//! The return stub: where a function returns whose return is hooked.
//!
//! [`ops`](crate::ops) has what a user sees of return hooks, [`shadow`](crate::context::shadow) where the real return
//! addresses are.
//!
//! # The contract
//! ```text
//!   at its start    x0-x7, x8, q0-q7: results (AAPCS64 6.5); x18-x29, SP: the caller's; x30: the stub itself
//!                   x9-x17, q16-q31 and the flags are free
//!   at the caller   x30: where it returns; all else as it was, or as the exit handler set it
//! ```
//!
//! On the stack it leaves the same picture as the entry stubs, so that a backtrace taken in an exit handler shows the
//! function and its caller. A RET needs no landing pad (Arm ARM D8.4.9.1), and since the function's return address was
//! replaced before it was signed, it authenticates as any other.
//!
//! # Which frame, and which handler
//! The frame is the first from the top whose SP is that of the return. Nearly always it is the top one; if it isn't, those
//! above it are of calls that never returned, and `fentry_find_call` drops them. The frame says which registration of an
//! ops it was made for; the slot of that registration has the exit handler, unless it is gone (`ops::exits`).
//!
//! # Lost returns
//! If there is no such frame, nobody knows where to go: the base register leads to another context than at the entry, or
//! to none, or the code did what [can't be hooked](crate::ops::Probe#what-cant-be-hooked). The platform is told all that is
//! known, and does not come back ([`Platform::lost_return`]).

use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::platform::{LostCall, LostReturn, Platform};
use core::sync::atomic::Ordering;

/// Who is told of lost returns: the platform of the first engine. A kernel has one.
static PLATFORM: spin::Once<&'static dyn Platform> = spin::Once::new();

/// Sets who is told of lost returns, before any return is hooked; the first caller's stays.
pub(crate) fn set_platform(platform: &'static dyn Platform) {
    PLATFORM.call_once(|| platform);
}

/// Brings the frame of the call that returns with this SP to the top of the context's shadow stack.
///
/// # Errors
///
/// There is no such frame; what is known of the call.
#[cfg_attr(not(any(test, target_os = "none")), expect(dead_code, reason = "on a host no return is hooked"))]
fn find_call(context: Option<&TraceContext>, sp: u64, platform: &dyn Platform) -> Result<(), LostReturn> {
    if context.is_some_and(|context| context.calls.bring_to_top(sp).is_some()) {
        return Ok(());
    }
    let address = |context: &TraceContext| core::ptr::from_ref(context).addr() as u64;
    let mut call = None;
    platform.for_each_context(&mut |other| {
        let found = other.calls.iter().find(|frame| frame.sp() == sp);
        call = call.or(found.map(|frame| LostCall {
            function: TextAddr::new(frame.function.load(Ordering::Relaxed)).offset(-4),
            return_address: TextAddr::new(frame.return_address()),
            context: address(other),
        }));
    });
    Err(LostReturn { sp, context: context.map(address), call })
}

/// What the return stub calls where the top frame is not the one.
///
/// # Safety
///
/// 1. `context` is null, or the context of the running thread, whose recursion guard is taken.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
unsafe extern "C" fn fentry_find_call(context: *const TraceContext, sp: u64) {
    // SAFETY: null, or by our caller's promise the running thread's context, which lives as long as it runs.
    let context = unsafe { context.as_ref() };
    // Init has set it before anything could be hooked.
    if let Some(platform) = PLATFORM.get()
        && let Err(lost) = find_call(context, sp, *platform)
    {
        platform.lost_return(&lost)
    }
}

#[cfg(target_os = "none")]
use crate::context::shadow::ShadowFrame;
#[cfg(target_os = "none")]
use crate::ops::EXITS;
#[cfg(target_os = "none")]
use core::mem::offset_of;

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".pushsection .text.fentry_stubs, \"ax\", %progbits",
    "    .balign 16",
    "    .global fentry_return",
    "    .hidden fentry_return",
    "    .type fentry_return, %function",
    "    .global fentry_return_base",
    "    .hidden fentry_return_base",
    "    .global fentry_return_offset",
    "    .hidden fentry_return_offset",
    // The instruction before a return address is taken for the call by whoever looks its function up.
    "    nop",
    "fentry_return:",
    "fentry_return_base:",
    "    mrs   x10, tpidr_el1",                 // which register is written at init
    "    cbz   x10, 4f",
    "fentry_return_offset:",
    "    add   x10, x10, #0",                   // x10 = this thread's TraceContext
    "1:  ldp   x15, x11, [x10, {BUSY}]",        // x15 = `busy`, x11 = behind the top frame
    "    ldp   x14, x12, [x11, {HOOK} - {FRAME}]", // x14 = its hook, x12 = its SP
    "    adrp  x16, {EXITS}",
    "    add   x16, x16, w14, uxth",            // where the hook's slot is
    "    ldp   x13, x16, [x16]",                // x13 = whose exits it handles, x16 = its handler
    "    cmp   sp, x12",
    "    ccmp  x15, #0, #0, eq",
    "    ccmp  x13, x14, #0, eq",
    "    b.ne  2f",
    "    ldp   x9, x12, [x11, -{FRAME}]",       // x9 = the return address, x12 = the function
    "    cbz   x9, 3f",                         // free: an interrupt has left it there
    "    str   x10, [x10, {BUSY}]",
    crate::__frame!(text: save(X10, X12)),
    crate::__frame_simd!(save_simd),
    "    sub   x0, x11, {FRAME}",
    "    mov   x1, x29",
    "    blr   x16",                            // x0 = the frame, as before
    crate::__frame_simd!(restore_simd),
    crate::__frame!(text: restore_x8),
    "    str   xzr, [x0]",                      // free, before it is above the top
    "    stp   xzr, x0, [x10, {BUSY}]",
    crate::__frame!(text: restore),
    "    ret",

    // Inside a callback of our own level, or the ops is gone: no handler.
    "2:  cmp   sp, x12",
    "    b.ne  3f",
    "    ldr   x9, [x11, -{FRAME}]",
    "    cbz   x9, 3f",
    "    mov   x30, x9",
    "    str   xzr, [x11, -{FRAME}]",
    "    sub   x11, x11, {FRAME}",
    "    str   x11, [x10, {TOP}]",
    "    ret",

    // Not the top one. Rust looks for it, under the guard; the results are kept meanwhile.
    "3:  str   x10, [x10, {BUSY}]",
    "    stp   x29, x30, [sp, #-112]!",
    "    mov   x29, sp",
    crate::__frame!(text: store_arguments(16)),
    "    stp   x8, x10, [sp, #80]",
    "    str   x15, [sp, #96]",
    crate::__frame_simd!(save_simd),
    "    mov   x0, x10",
    "    add   x1, x29, #112",
    "    bl    fentry_find_call",
    crate::__frame_simd!(restore_simd),
    "    ldr   x15, [sp, #96]",
    "    ldp   x8, x10, [sp, #80]",
    crate::__frame!(text: load_arguments(16)),
    "    ldp   x29, x30, [sp], #112",
    "    str   x15, [x10, {BUSY}]",
    "    b     1b",

    // No context at all: it does not come back.
    "4:  stp   x29, x30, [sp, #-16]!",
    "    mov   x29, sp",
    "    mov   x0, xzr",
    "    add   x1, x29, #16",
    "    bl    fentry_find_call",
    "    brk   #0x1",
    "    .size fentry_return, . - fentry_return",
    "    .global fentry_return_stop",
    "    .hidden fentry_return_stop",
    "fentry_return_stop:",
    ".popsection",
    EXITS = sym EXITS,
    TOP = const offset_of!(TraceContext, calls.top),
    BUSY = const offset_of!(TraceContext, busy),
    FRAME = const size_of::<ShadowFrame>(),
    HOOK = const offset_of!(ShadowFrame, hook),
);

// The stub loads and stores both at once; `ldp x9, x12` reads the first two words of a frame.
#[cfg(target_os = "none")]
const _: () = assert!(offset_of!(TraceContext, calls.top) == offset_of!(TraceContext, busy) + 8);

#[cfg(test)]
mod tests {
    use super::find_call;
    use crate::address::{TextAddr, TextRange};
    use crate::context::TraceContext;
    use crate::context::shadow::ShadowStack;
    use crate::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout, LostReturn, Platform};
    use core::ptr::NonNull;
    use std::boxed::Box;
    use std::string::ToString;
    extern crate std;

    /// A kernel of which only the contexts matter.
    struct Contexts(&'static [TraceContext]);

    // SAFETY: no text is ever written or run with it.
    unsafe impl Platform for Contexts {
        fn context_base(&self) -> ContextBase {
            ContextBase { register: BaseRegister::TpidrEl1, offset: 0 }
        }

        fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
            Err(AliasError { page, reason: "there is no text" })
        }

        fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
            Ok(())
        }

        fn quiesce(&self, _: &[TextRange]) -> Result<(), CpuTimeout> {
            Ok(())
        }

        fn for_each_context(&self, show: &mut dyn FnMut(&TraceContext)) {
            self.0.iter().for_each(show);
        }
    }

    /// Two contexts, the second of which has a call that was made with this SP.
    fn two(sp: u64) -> Contexts {
        let contexts: &'static [TraceContext] = Box::leak(Box::new([const { TraceContext::new() }; 2]));
        for context in contexts {
            // SAFETY: 1. The stack is this context's alone, and there for ever. 2.-4. It has not run.
            unsafe { context.set_shadow_stack::<4>(Box::leak(Box::new(ShadowStack::new()))) };
        }
        contexts[1].calls.push_all(&[(0x4444, sp)]);
        Contexts(contexts)
    }

    #[test]
    fn a_return_in_another_context_is_lost_and_both_are_told() {
        let platform = two(0x1f00);
        assert_eq!(find_call(Some(&platform.0[1]), 0x1f00, &platform), Ok(()));
        let at = |n: usize| (&raw const platform.0[n]).addr() as u64;
        let lost = find_call(Some(&platform.0[0]), 0x1f00, &platform).unwrap_err();
        let call = lost.call.unwrap();
        assert_eq!((lost.context, call.context, call.return_address.get()), (Some(at(0)), at(1), 0x4444));
        assert!(lost.to_string().contains("another context"), "{lost}");
    }

    #[test]
    fn a_return_of_nobody_is_lost_whatever_context_there_is() {
        let platform = two(0x1f00);
        for context in [None, Some(&platform.0[0])] {
            let lost = find_call(context, 0x1e00, &platform).unwrap_err();
            let address = context.map(|context| core::ptr::from_ref(context).addr() as u64);
            assert_eq!(lost, LostReturn { sp: 0x1e00, context: address, call: None });
        }
    }
}
