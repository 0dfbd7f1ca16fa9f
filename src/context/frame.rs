//! How registers get onto the stack and off it again: the instructions, spelled once.
//!
//! The entry stubs and the return stub are assembly, the stubs for one set of ops are generated, and a trampoline that
//! `direct_trampoline!` makes is assembly in its user's crate. All leave the same picture on the stack, the one of
//! [`regs`](super::regs). So `__frame!` lists the instructions, and either makes an assembler's lines of them (`text`) or
//! hands each to a macro of the caller's that makes something else of it, as the generator does.
//!
//! | piece | what it does |
//! |---|---|
//! | `save(context, pc)` | pushes a `SavedRegs`: both frame records, x0 to x8 and these two registers |
//! | `restore` | pops it: x0 to x7 and x29, x9 = where to go on, x30 = the return address |
//! | `restore_x8` | before that: x8, and x10 = what `context` was |
//! | `save_simd`, `restore_simd` | push and pop q0 to q7 |
//! | `store_arguments(base)`, `load_arguments(base)` | x0 to x7, at SP and these bytes |

use super::regs::SavedRegs;
use core::mem::offset_of;

// The distances below.
const _: () = assert!(
    size_of::<SavedRegs>() == 112
        && offset_of!(SavedRegs, function_record) == 0
        && offset_of!(SavedRegs, caller_record) == 16
        && offset_of!(SavedRegs, x) == 32
        && offset_of!(SavedRegs, context) == 104
);

#[doc(hidden)]
#[macro_export]
macro_rules! __frame {
    ($how:ident: $($piece:tt)*) => { $crate::__frame!(@ $how [] $($piece)*) };

    // A piece becomes its lines, a line goes behind those before.
    (@ $how:ident [$($lines:tt)*] {$($line:tt)*} $($rest:tt)*) => {
        $crate::__frame!(@ $how [$($lines)* {$($line)*}] $($rest)*)
    };
    (@ $how:ident $lines:tt save($context:ident, $pc:ident) $($rest:tt)*) => {
        $crate::__frame!(@ $how $lines
            {stp X29 X9 pre -96} // the caller's record
            store_arguments(16)
            {stp X8 $context at 80 + 0}
            {mov X29 SP}
            {stp X29 $pc pre -16} // the function's record, which points at the caller's
            {mov X29 SP}
            $($rest)*)
    };
    (@ $how:ident $lines:tt restore_x8 $($rest:tt)*) => {
        $crate::__frame!(@ $how $lines {ldp X8 X10 at 96 + 0} $($rest)*)
    };
    (@ $how:ident $lines:tt restore $($rest:tt)*) => {
        $crate::__frame!(@ $how $lines load_arguments(32) {ldp X29 X9 post 16} {ldp X29 X30 post 96} $($rest)*)
    };
    (@ $how:ident $lines:tt store_arguments($base:literal) $($rest:tt)*) => {
        $crate::__frame!(@ $how $lines
            {stp X0 X1 at $base + 0} {stp X2 X3 at $base + 16} {stp X4 X5 at $base + 32} {stp X6 X7 at $base + 48}
            $($rest)*)
    };
    (@ $how:ident $lines:tt load_arguments($base:literal) $($rest:tt)*) => {
        $crate::__frame!(@ $how $lines
            {ldp X6 X7 at $base + 48} {ldp X4 X5 at $base + 32} {ldp X2 X3 at $base + 16} {ldp X0 X1 at $base + 0}
            $($rest)*)
    };
    (@ $how:ident $lines:tt save_simd $($rest:tt)*) => {
        $crate::__frame!(@ $how $lines
            {stp Q[6] Q[7] pre -128} {stp Q[4] Q[5] at 32 + 0} {stp Q[2] Q[3] at 64 + 0} {stp Q[0] Q[1] at 96 + 0}
            $($rest)*)
    };
    (@ $how:ident $lines:tt restore_simd $($rest:tt)*) => {
        $crate::__frame!(@ $how $lines
            {ldp Q[0] Q[1] at 96 + 0} {ldp Q[2] Q[3] at 64 + 0} {ldp Q[4] Q[5] at 32 + 0} {ldp Q[6] Q[7] post 128}
            $($rest)*)
    };

    (@ text [$({$($line:tt)*})*]) => { concat!($($crate::__frame!(= $($line)*), "\n"),*) };
    (@ $line_macro:ident [$({$($line:tt)*})*]) => { [$($line_macro!($($line)*)),*] };

    // A line as text.
    (= mov $rd:ident $rn:ident) => { concat!("mov ", stringify!($rd), ", ", stringify!($rn)) };
    (= $op:ident Q[$rt:literal] Q[$rt2:literal] $($place:tt)*) => {
        concat!(stringify!($op), " q", $rt, ", q", $rt2, ", ", $crate::__frame!(= $($place)*))
    };
    (= at $base:literal + $more:literal) => { concat!("[sp, #", $base, " + ", $more, "]") };
    (= pre $bytes:literal) => { concat!("[sp, #", $bytes, "]!") };
    (= post $bytes:literal) => { concat!("[sp], #", $bytes) };
    (= $op:ident $rt:ident $rt2:ident $($place:tt)*) => {
        concat!(stringify!($op), " ", stringify!($rt), ", ", stringify!($rt2), ", ", $crate::__frame!(= $($place)*))
    };
}

/// `save_simd` or `restore_simd` as text: q0 to q7 carry arguments (AAPCS64 6.1.2).
#[cfg(target_feature = "neon")]
#[doc(hidden)]
#[macro_export]
macro_rules! __frame_simd {
    ($piece:ident) => { $crate::__frame!(text: $piece) };
}

/// No text: without SIMD registers in the ABI there are none to keep.
#[cfg(not(target_feature = "neon"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __frame_simd {
    ($piece:ident) => {
        ""
    };
}
