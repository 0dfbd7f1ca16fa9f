//! Direct trampolines written in Rust.
//!
//! A callsite calls a direct trampoline itself, so the trampoline must keep to the convention of
//! [direct calls](crate::ops#direct-calls). Assembly can, and the macro `direct_trampoline!` makes it around a Rust
//! function: it leaves the same picture on the stack as a stub does (see [`regs`](crate::context::regs)), so the
//! function gets the same view of the registers as a callback, and backtraces show the traced function.

use crate::address::TextAddr;

/// Code that a callsite can call by itself.
#[derive(Clone, Copy, Debug)]
pub struct Trampoline(unsafe extern "C" fn());

impl Trampoline {
    /// The trampoline that `code` is.
    ///
    /// # Safety
    ///
    /// 1. `code` keeps to the convention of [direct calls](crate::ops#direct-calls).
    pub const unsafe fn new(code: unsafe extern "C" fn()) -> Self {
        Self(code)
    }

    /// Where it is.
    pub fn address(self) -> TextAddr {
        TextAddr::new((self.0 as *const ()).addr() as u64)
    }
}

/// The offsets that `direct_trampoline!` needs.
#[doc(hidden)]
#[cfg(target_arch = "aarch64")]
pub mod layout {
    use crate::context::regs::SavedRegs;
    use core::mem::offset_of;

    pub const X0: usize = offset_of!(SavedRegs, x);
    pub const X8: usize = X0 + 64;
    pub const REST: usize = size_of::<SavedRegs>() - 16;
    const _: () = assert!(offset_of!(SavedRegs, context) == X8 + 8 && offset_of!(SavedRegs, caller_record) == 16);
}

/// The direct [`Trampoline`] that calls a function `extern "C" fn(FtraceRegs<'_>)` and goes on as that leaves the registers:
/// in the traced function, or where [`set_pc`](crate::FtraceRegs::set_pc) or
/// [`return_early`](crate::FtraceRegs::return_early) send it. A constant expression; for kernels only.
///
/// There is no guard around it: the function, and what it calls, must not be what it is registered for. Nor does
/// [`unregister`](crate::Engine::unregister) wait for who is inside it.
///
/// ```ignore
/// extern "C" fn on_open(regs: FtraceRegs<'_>) {
///     OPENED.fetch_add(1, Ordering::Relaxed);
/// }
///
/// static OPENS: Ops = Ops::direct_call(fentry::direct_trampoline!(on_open));
/// ```
#[cfg(target_arch = "aarch64")]
#[macro_export]
macro_rules! direct_trampoline {
    ($function:path) => {{
        const _: extern "C" fn($crate::FtraceRegs<'_>) = $function;

        #[unsafe(naked)]
        unsafe extern "C" fn __fentry_direct_trampoline() {
            ::core::arch::naked_asm!(
                "hint  #34",                        // BTI C
                "stp   x29, x9, [sp, #-{REST}]!",   // the caller's record
                "stp   x0, x1, [sp, #{X0} - 16]",
                "stp   x2, x3, [sp, #{X0}]",
                "stp   x4, x5, [sp, #{X0} + 16]",
                "stp   x6, x7, [sp, #{X0} + 32]",
                "stp   x8, xzr, [sp, #{X8} - 16]",  // no context, and not all registers are saved
                "mov   x29, sp",
                "stp   x29, x30, [sp, #-16]!",      // the function's record, which points at the caller's
                "mov   x29, sp",
                $crate::__direct_trampoline_simd!(save),
                "mov   x0, x29",
                "bl    {function}",
                $crate::__direct_trampoline_simd!(restore),
                "ldr   x8, [sp, #{X8}]",
                "ldp   x6, x7, [sp, #{X0} + 48]",
                "ldp   x4, x5, [sp, #{X0} + 32]",
                "ldp   x2, x3, [sp, #{X0} + 16]",
                "ldp   x0, x1, [sp, #{X0}]",
                "ldp   x29, x9, [sp], #16",         // x9 = where to go on
                "ldp   x29, x30, [sp], #{REST}",
                "ret   x9",
                function = sym $function,
                X0 = const $crate::ops::direct::layout::X0,
                X8 = const $crate::ops::direct::layout::X8,
                REST = const $crate::ops::direct::layout::REST,
            )
        }

        // SAFETY: it begins with BTI C, keeps every live register on the stack meanwhile, and leaves by RET with x30 as the
        // convention asks for.
        unsafe { $crate::ops::direct::Trampoline::new(__fentry_direct_trampoline) }
    }};
}

/// q0 to q7 carry arguments where the ABI has them.
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __direct_trampoline_simd {
    (save) => {
        "stp q6, q7, [sp, #-128]!
        stp q4, q5, [sp, #32]
        stp q2, q3, [sp, #64]
        stp q0, q1, [sp, #96]"
    };
    (restore) => {
        "ldp q0, q1, [sp, #96]
        ldp q2, q3, [sp, #64]
        ldp q4, q5, [sp, #32]
        ldp q6, q7, [sp], #128"
    };
}

/// Nothing to keep.
#[cfg(all(target_arch = "aarch64", not(target_feature = "neon")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __direct_trampoline_simd {
    ($what:ident) => {
        ""
    };
}
