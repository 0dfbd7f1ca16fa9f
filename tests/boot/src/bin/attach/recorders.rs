//! A caller, a function and handlers in assembly that write down all that they find, and change all that they may.

use core::arch::global_asm;
use support::simd;

/// So many words of the stack are written down.
pub(super) const STACK_WORDS: usize = 52;

/// What somebody found when it was called.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Found {
    pub(super) x: [u64; 9],
    pub(super) d: [u64; 8],
    pub(super) sp: u64,
    pub(super) fp: u64,
    pub(super) lr: u64,
    pub(super) stack: [u64; STACK_WORDS],
}

pub(super) const NOTHING: Found = Found { x: [0; 9], d: [0; 8], sp: 0, fp: 0, lr: 0, stack: [0; STACK_WORDS] };
const FOUND_BYTES: usize = size_of::<Found>();

/// By the function, at the entry, by what may answer, at the exit.
pub(super) static mut FOUND: [Found; 4] = [NOTHING; 4];

/// What the function returns: x0, x1, d0 to d3; and, where that is not 0, to where it stores the first.
#[repr(C)]
pub(super) struct Results {
    pub(super) x: [u64; 2],
    pub(super) d: [u64; 4],
    pub(super) is_large: u64,
    /// What is answered.
    pub(super) answer: u64,
    /// How many words of its arguments each one changes.
    pub(super) changed: u64,
}

pub(super) static mut RESULTS: Results = Results { x: [0; 2], d: [0; 4], is_large: 0, answer: 0, changed: 0 };

/// What the caller passes, and what it gets.
#[repr(C)]
pub(super) struct Call {
    pub(super) given: Found,
    pub(super) x: [u64; 2],
    pub(super) d: [u64; 4],
    /// Whether x18 to x29, d8 to d15 and SP were what they had been.
    pub(super) kept: u64,
}

unsafe extern "C" {
    pub(super) fn attach_caller(call: *mut Call);
    pub(super) fn attach_function();
    pub(super) fn attach_entry();
    pub(super) fn attach_entry_that_calls();
    pub(super) fn attach_modify();
    pub(super) fn attach_modify_that_calls();
    pub(super) fn attach_exit();
    pub(super) fn attach_exit_that_calls();
}

global_asm!(
    ".macro attach_record slot",
    "    adrp  x16, {found}",
    "    add   x16, x16, :lo12:{found}",
    "    add   x16, x16, #(\\slot * {FOUND_BYTES})",
    "    stp   x0, x1, [x16]",
    "    stp   x2, x3, [x16, #16]",
    "    stp   x4, x5, [x16, #32]",
    "    stp   x6, x7, [x16, #48]",
    "    str   x8, [x16, #64]",
    simd!("stp   d0, d1, [x16, #72]
           stp   d2, d3, [x16, #88]
           stp   d4, d5, [x16, #104]
           stp   d6, d7, [x16, #120]"),
    "    mov   x17, sp",
    "    str   x17, [x16, #136]",
    "    stp   x29, x30, [x16, #144]",
    "    add   x16, x16, #160",
    "    mov   x15, {STACK_WORDS}",
    "1:  ldr   x14, [x17], #8",
    "    str   x14, [x16], #8",
    "    subs  x15, x15, #1",
    "    b.ne  1b",
    // What its arguments are in is its own.
    "    adrp  x16, {results}",
    "    add   x16, x16, :lo12:{results}",
    "    ldr   x15, [x16, #64]",
    "    mov   x17, sp",
    "2:  cbz   x15, 3f",
    "    str   x16, [x17], #8",
    "    sub   x15, x15, #1",
    "    b     2b",
    "3:",
    ".irp n, 0,1,2,3,4,5,6,7,9,10,11,12,13,14,15,17",
    "    mvn   x\\n, x16",
    ".endr",
    simd!(".irp n, 0,1,2,3,4,5,6,7,16,17,31
           fmov  d\\n, x17
           .endr"),
    "    adds  xzr, x17, x17",
    ".endm",

    ".macro attach_handler name, slot",
    "    .balign 8",
    "    .global attach_\\name",
    "    .type attach_\\name, %function",
    "attach_\\name:",
    "    hint  #34", // BTI C
    "    attach_record \\slot",
    "    mov   x8, xzr",
    "    ldr   x0, [x16, #56]",
    "    ret",
    "    .size attach_\\name, . - attach_\\name",
    "    .global attach_\\name\\()_that_calls",
    "    .type attach_\\name\\()_that_calls, %function",
    "attach_\\name\\()_that_calls:",
    "    hint  #34", // BTI C
    "    stp   x29, x30, [sp, #-16]!",
    "    mov   x29, sp",
    "    bl    attach_nothing",
    "    ldp   x29, x30, [sp], #16",
    "    attach_record \\slot",
    "    mov   x8, xzr",
    "    ldr   x0, [x16, #56]",
    "    ret",
    "    .size attach_\\name\\()_that_calls, . - attach_\\name\\()_that_calls",
    ".endm",

    ".pushsection .text.attach, \"ax\", %progbits",
    "    .balign 8",
    "    .global attach_function",
    "    .type attach_function, %function",
    "attach_function:",
    "    hint  #34", // BTI C
    "attach_function_nops:",
    "    nop",
    "    nop",
    "    .pushsection __patchable_function_entries, \"awo\", %progbits, .text.attach",
    "    .balign 8",
    "    .quad attach_function_nops",
    "    .popsection",
    "    attach_record 0",
    "    ldr   x15, [x16, #48]",
    "    ldp   x0, x1, [x16]",
    "    cbz   x15, 4f",
    "    str   x0, [x8]",
    "4:  mov   x8, xzr",
    simd!("ldp   d0, d1, [x16, #16]
           ldp   d2, d3, [x16, #32]"),
    "    ret",
    "    .size attach_function, . - attach_function",

    "    attach_handler entry, 1",
    "    attach_handler modify, 2",
    "    attach_handler exit, 3",

    "    .type attach_nothing, %function",
    "attach_nothing:",
    "    ret",
    "    .size attach_nothing, . - attach_nothing",

    "    .balign 8",
    "    .global attach_caller",
    "    .type attach_caller, %function",
    "attach_caller:",
    "    hint  #34", // BTI C
    "    stp   x29, x30, [sp, #-192]!",
    "    mov   x29, sp",
    "    stp   x19, x20, [sp, #16]",
    "    stp   x21, x22, [sp, #32]",
    "    stp   x23, x24, [sp, #48]",
    "    stp   x25, x26, [sp, #64]",
    "    stp   x27, x28, [sp, #80]",
    "    stp   x18, x0, [sp, #96]",
    simd!("stp   d8, d9, [sp, #112]
           stp   d10, d11, [sp, #128]
           stp   d12, d13, [sp, #144]
           stp   d14, d15, [sp, #160]
           .irp n, 8,9,10,11,12,13,14,15
           fmov  d\\n, x29
           .endr"),
    ".irp n, 18,20,21,22,23,24,25,26,27,28",
    "    add   x\\n, x29, #\\n",
    ".endr",
    "    mov   x19, x0",
    // The arguments on the stack.
    "    sub   sp, sp, #(8 * {STACK_WORDS})",
    "    add   x16, x19, #160",
    "    mov   x17, sp",
    "    mov   x15, {STACK_WORDS}",
    "1:  ldr   x14, [x16], #8",
    "    str   x14, [x17], #8",
    "    subs  x15, x15, #1",
    "    b.ne  1b",
    simd!("ldp   d0, d1, [x19, #72]
           ldp   d2, d3, [x19, #88]
           ldp   d4, d5, [x19, #104]
           ldp   d6, d7, [x19, #120]"),
    "    ldp   x0, x1, [x19]",
    "    ldp   x2, x3, [x19, #16]",
    "    ldp   x4, x5, [x19, #32]",
    "    ldp   x6, x7, [x19, #48]",
    "    ldr   x8, [x19, #64]",
    "    bl    attach_function",
    "    add   x16, x19, #{CALL_X}",
    "    stp   x0, x1, [x16]",
    simd!("stp   d0, d1, [x16, #16]
           stp   d2, d3, [x16, #32]"),
    // Whatever differs sets a bit.
    "    add   x17, sp, #(8 * {STACK_WORDS})",
    "    eor   x15, x17, x29",
    ".irp n, 18,20,21,22,23,24,25,26,27,28",
    "    add   x14, x17, #\\n",
    "    eor   x14, x14, x\\n",
    "    orr   x15, x15, x14",
    ".endr",
    simd!(
        ".irp n, 8,9,10,11,12,13,14,15
           fmov  x14, d\\n
           eor   x14, x14, x17
           orr   x15, x15, x14
           .endr"
    ),
    "    str   x15, [x16, #48]",
    "    mov   sp, x17",
    simd!("ldp   d8, d9, [sp, #112]
           ldp   d10, d11, [sp, #128]
           ldp   d12, d13, [sp, #144]
           ldp   d14, d15, [sp, #160]"),
    "    ldr   x18, [sp, #96]",
    "    ldp   x19, x20, [sp, #16]",
    "    ldp   x21, x22, [sp, #32]",
    "    ldp   x23, x24, [sp, #48]",
    "    ldp   x25, x26, [sp, #64]",
    "    ldp   x27, x28, [sp, #80]",
    "    ldp   x29, x30, [sp], #192",
    "    ret",
    "    .size attach_caller, . - attach_caller",
    ".popsection",
    ".purgem attach_record",
    ".purgem attach_handler",
    found = sym FOUND,
    results = sym RESULTS,
    FOUND_BYTES = const FOUND_BYTES,
    STACK_WORDS = const STACK_WORDS,
    CALL_X = const core::mem::offset_of!(Call, x),
);

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Found, d) == 72 && offset_of!(Found, sp) == 136 && offset_of!(Found, stack) == 160);
    assert!(offset_of!(Results, is_large) == 48 && offset_of!(Results, answer) == 56);
    assert!(offset_of!(Results, changed) == 64 && offset_of!(Call, kept) == offset_of!(Call, x) + 48);
    assert!(STACK_WORDS.is_multiple_of(2));
};
