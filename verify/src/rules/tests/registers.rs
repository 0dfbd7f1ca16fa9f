use super::{finds, passes};

#[test]
fn nothing_that_a_callsite_changes_is_live_there() {
    let bad = [("live-at-callsite", "bad")];
    let with = |code: &str| format!("entry bad\n function f; bad: nop; nop; {code}; ret; end f");
    finds(&with("mov x0, x9"), &bad);
    finds(&with("str x17, [x0]"), &bad);
    finds(&with("cset x0, eq"), &bad);
    // On one path only; around a loop; half of the register.
    finds(&with("cbz x0, 1f; mov x0, x12; 1: add x0, x0, x1"), &bad);
    finds(&with("1: sub x0, x0, #1; add w1, w1, w11; cbnz x0, 1b"), &bad);
    // By whom it jumps to, who is not patchable.
    finds("entry bad\n function f; bad: nop; nop; b g; end f\n function g; mov x0, x16; ret; end g", &bad);
    passes(&with("mov x9, x0; mov x0, x9"));
    passes(&with("cmp x0, x1; cset x0, eq"));
    // Which the model of instructions does not know.
    passes(&with("fcmpe d0, #0.0; cset x0, eq"));
    passes(&with("fcmp d0, d1; fccmpe d0, d1, #0, eq; cset x0, eq"));
    finds(&with("fadd d0, d0, d1; cset x0, eq"), &bad);
    passes(&with("cbz x0, 1f; mov x12, x0; b 2f; 1: mov x12, x1; 2: add x0, x0, x12"));
    // What has a value on one path only, as of an enum's variants, is copied on all.
    passes(&with("cbz x0, 1f; mov x12, x0; 1: str x12, [x1]"));
    // A hash that is compared, as Clang and rustc write it for kCFI; half of one is not a number.
    passes(&with("ldur w16, [x1, #-4]; movk w17, #7; movk w17, #9, lsl #16; cmp w16, w17; cset x0, eq"));
    finds(&with("movk w17, #7; mov w0, w17"), &bad);
    finds(&with("movk w17, #7; movk w17, #9; mov w0, w17"), &bad);
    finds(&with("movk x17, #7; movk x17, #9, lsl #16; mov x0, x17"), &bad);
    finds(&with("movk w17, #7; movk w16, #9, lsl #16; mov w0, w17"), &[("live-at-callsite", "bad")]);
    // Given by whoever calls it; and by one of two callers only, so that it is nothing.
    let called = |other: &str| {
        format!(
            "{}\n framed a; mov x9, x1; bl f; leave; end a\n framed b; bl c; {other}; bl f; leave; end b
             patchable c; ret; end c",
            with("mov x0, x9")
        )
    };
    finds(&called("mov x9, x2"), &bad);
    passes(&called("mov x10, x2"));
    // Where a result goes; the platform's register; the caller's.
    passes(&with("str x0, [x8]; mov x0, x18; add x0, x0, x19"));
    passes("function g; mov x0, x9; ret; end g");
}

#[test]
fn nothing_is_kept_over_a_call_that_may_change_it() {
    let bad = [("kept-over-call", "bad")];
    let with = |callee: &str, before: &str, after: &str| {
        let frame = format!("framed f\n {before}\n bad: bl {callee}\n {after}\n leave\n end f");
        let leaf = "function leaf; ret; end leaf";
        let indirect = "function indirect; b g; end indirect";
        format!("{frame}\n patchable g; ret; end g\n {leaf}\n {indirect}")
    };
    finds(&with("g", "mov x9, x0", "add x0, x0, x9"), &bad);
    finds(&with("g", "mov x15, x0", "cbz x1, 1f\n str x15, [x0]\n 1:"), &bad);
    finds(&with("g", "cmp x0, #1", "cset x0, ne"), &bad);
    // By a register, by another file, and by whom is not patchable but calls who is.
    finds(&with("g", "mov x17, x0", "mov x0, x17").replace("bl g", "blr x1"), &bad);
    finds(&with("other", "mov x17, x0", "mov x0, x17"), &bad);
    finds(&with("indirect", "mov x10, x0", "mov x0, x10"), &bad);
    // Over a call of what calls nobody; in a register that callees keep or do not touch; written anew.
    passes(&with("leaf", "mov x9, x0", "add x0, x0, x9"));
    passes(&with("g", "str x19, [sp, #16]\n mov x19, x0", "mov x0, x19\n ldr x19, [sp, #16]"));
    passes(&with("g", "mov x9, x0", "mov x9, x0\n add x0, x0, x9"));
    passes(&with("g", "cmp x0, #1\n cset x0, ne", "cmp x0, #1\n cset x0, ne"));
}
