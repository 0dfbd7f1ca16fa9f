//! What a function may do to registers.

use core::arch::asm;

/// Assembly that stands only in kernels with SIMD registers.
#[cfg(target_feature = "neon")]
#[macro_export]
macro_rules! simd {
    ($code:literal) => {
        $code
    };
}

/// Assembly that stands only in kernels with SIMD registers.
#[cfg(not(target_feature = "neon"))]
#[macro_export]
macro_rules! simd {
    ($code:literal) => {
        ""
    };
}

/// Overwrites all that a function may: x0-x17 and, where there are any, q0-q7, the upper halves of q8-q15, q16-q31.
#[inline(never)]
pub fn trash() {
    // SAFETY: every register that is changed is declared so.
    unsafe {
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
            "movn x\\n, #0xdea",
            ".endr",
            "adds xzr, x0, x0",
            clobber_abi("C"),
        );
    }
    #[cfg(target_feature = "neon")]
    // SAFETY: every register that is changed is declared so; the upper halves of q8-q15 are nobody's.
    unsafe {
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "movi v\\n\\().16b, #0xad",
            ".endr",
            ".irp n, 8,9,10,11,12,13,14,15",
            "mov v\\n\\().d[1], v0.d[1]",
            ".endr",
            clobber_abi("C"),
        );
    }
}
