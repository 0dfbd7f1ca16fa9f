//! Direct trampolines: code that a callsite calls itself, in assembly or around a Rust function.
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
    /// Makes a trampoline of `code`.
    ///
    /// # Safety
    ///
    /// 1. `code` keeps to the convention of [direct calls](crate::ops#direct-calls).
    pub const unsafe fn new(code: unsafe extern "C" fn()) -> Self {
        Self(code)
    }

    /// Returns its address.
    pub fn address(self) -> TextAddr {
        TextAddr::new((self.0 as *const ()).addr() as u64)
    }
}

/// Makes a direct [`Trampoline`] that calls a function `extern "C" fn(FtraceRegs<'_>)` and goes on as that leaves the
/// registers: in the traced function, or where [`set_pc`](crate::FtraceRegs::set_pc) or
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
                // No context, and not all registers are saved.
                $crate::__frame!(text: save(XZR, X30)),
                $crate::__frame_simd!(save_simd),
                "mov   x0, x29",
                "bl    {function}",
                $crate::__frame_simd!(restore_simd),
                "ldr   x8, [sp, #96]",
                $crate::__frame!(text: restore),    // x9 = where to go on
                "ret   x9",
                function = sym $function,
            )
        }

        // SAFETY: 1. It begins with BTI C, keeps every live register on the stack meanwhile, and leaves by RET with x30 as
        // the convention asks for.
        unsafe { $crate::ops::direct::Trampoline::new(__fentry_direct_trampoline) }
    }};
}
