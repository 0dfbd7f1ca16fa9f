use super::{finds, passes};

#[test]
fn a_function_of_another_call_standard_has_no_callsite() {
    let bad = [("variant-pcs", "bad")];
    let marked = |function: &str| format!(".variant_pcs bad\n {function} bad; ret; end bad\n");
    finds(&marked("patchable"), &bad);
    finds(&marked("patchable").replace("ret;", "sub sp, sp, #16; str q16, [sp]; ldr q16, [sp], #16; ret;"), &bad);
    // By an alias.
    finds("patchable bad; ret; end bad\n .type other, %function\n .set other, bad\n .variant_pcs other", &bad);
    passes(&marked("function"));
    passes("patchable f; ret; end f\n .variant_pcs g\n function g; ret; end g");
}

#[test]
fn x18_is_everybodys_or_nobodys() {
    let taker = "patchable bad; ldr x0, [x18]; ret; end bad\n";
    let with = |taker: &str, other: &str| format!("{taker} patchable other; {other}; ret; end other\n");
    let temporary = "mov x18, x0; add x0, x18, x1";
    let bad = [("x18-live", "bad")];
    finds(&with(taker, temporary), &bad);
    finds(&with(taker, "cbz x0, 1f; adrp x18, other; add x18, x18, #8; str x18, [x1]; 1:"), &bad);
    // Around a branch; for the shadow call stack.
    let late = "patchable bad; cbz x0, 1f; add x0, x18, #8; 1: ret; end bad\n";
    finds(&with(late, temporary), &bad);
    finds(&with("patchable bad; str x30, [x18], #8; ldr x9, [x18, #-8]!; ret; end bad\n", temporary), &bad);
    // Which no caller gives it, since it has been there all along.
    finds(&[&*with(taker, temporary), "framed caller; bl other; bl bad; leave; end caller"].concat(), &bad);
    // A temporary of everybody; the platform's of everybody; given to a callee; loaded for another task.
    passes(&with("patchable f; mov x18, x1; ldr x0, [x18]; ret; end f\n", temporary));
    passes(&with(taker, "ldr x1, [x18, #8]"));
    passes(&with(taker, "mov x18, x1; cbz x0, bad"));
    passes(&with(taker, "ldr x18, [x1]; ldr x0, [x18]"));
    // Who can't be patched, on either side.
    passes(&with(&taker.replace("patchable", "function"), temporary));
    passes(&with(taker, "nop").replace("patchable other; nop", &format!("function other; {temporary}")));
}

/// A caller that keeps x9 over a call of a function that can be patched, on one of two paths.
fn mixed(before: &str, behind: &str) -> String {
    format!(
        "framed f\n {before}\n bad: bl g\n cbz x0, 1f\n {behind}\n 1: str x9, [x0]\n leave\n end f\n patchable g; ret; end g"
    )
}

#[test]
fn what_is_kept_on_one_path_only_was_written_for_that() {
    let bad = [("kept-over-call", "bad")];
    finds(&mixed("mov x9, x1", "mov x9, x2"), &bad);
    finds(&mixed("add x1, x1, #1\n mov x9, x1", "ldr x9, [x2]"), &bad);
    finds(&mixed("cbz x1, 2f\n mov x9, x1\n b 3f\n 2: mov x9, x2\n 3: nop", "mov x9, x2"), &bad);
    // A callee that preserves them, as `preserve_most` wants it, saves them at its entry: too late.
    let callee = "patchable bad; stp x9, x10, [sp, #-16]!; mov x9, x0; ldp x9, x10, [sp], #16; ret; end bad";
    finds(callee, &[("live-at-callsite", "bad")]);
    // A temporary that was used before the call: what is copied behind it has no value. Written on one path only; moved on.
    passes(&mixed("mov x9, x1\n add x1, x9, #1", "mov x9, x2"));
    passes(&mixed("cbz x1, 2f\n mov x9, x1\n 2: nop", "mov x9, x2"));
    passes(&mixed("mov x9, x1\n ldr x1, [x9], #8", "mov x9, x2"));
    passes(&mixed("mov x9, x1", "mov x9, x2").replace("1: str", "b 2f\n 1: mov x9, x3\n 2: str"));
}

#[test]
fn a_store_on_a_copied_path_is_that_of_the_other_path() {
    let bad = [("kept-over-call", "bad")];
    let copied = |before: &str, store: &str| {
        let copies = format!("mov x9, x2\n {store}\n b 2f\n 1: str x9, [x0]\n 2: nop");
        mixed(before, "").replace(" 1: str x9, [x0]", &copies)
    };
    passes(&copied("mov x9, x1\n add x1, x9, #1", "str x9, [x0]"));
    // Written for that; another store; one whose address is kept.
    finds(&copied("mov x9, x1", "str x9, [x0]"), &bad);
    finds(&copied("mov x9, x1\n add x1, x9, #1", "str x9, [x0, #8]"), &bad);
    let address = copied("mov x9, x1\n add x1, x9, #1", "str x9, [x0]").replace("str x9, [x0]", "str x0, [x9]");
    finds(&address, &bad);
}
