use super::{finds, passes, with_findings};

/// A function that can be patched, with a frame of 32 bytes that the code may use; and one to call.
fn framed(code: &str) -> String {
    format!("framed f\n {code}\n leave\n end f\n patchable g; ret; end g")
}

#[test]
fn the_stack_is_given_back_at_a_return() {
    let bad = [("stack-unbalanced", "bad")];
    finds("patchable f; sub sp, sp, #16; bad: ret; end f", &bad);
    finds("patchable f; add sp, sp, #16; bad: ret; end f", &bad);
    // On one path only.
    let early = |before: &str| {
        format!("patchable f; sub sp, sp, #16; cbz x0, 1f; add sp, sp, #16; ret; 1: {before}; bad: ret; end f")
    };
    finds(&early("nop"), &bad);
    finds(&early("add sp, sp, #32"), &bad);
    passes(&early("add sp, sp, #16"));
    // By as much as a register says, and back.
    passes(&framed("sub sp, sp, x0\n mov sp, x29"));
    // A label in assembly keeps other rules.
    passes("patchable f; ret; end f\n .globl entry_code\n entry_code: sub sp, sp, #16; mov x19, x0; ret");
}

#[test]
fn registers_are_given_back_at_a_return() {
    let bad = [("register-lost", "bad")];
    finds("patchable f; mov x19, x0; bad: ret; end f", &bad);
    finds("patchable f; fmov d8, x0; bad: ret; end f", &bad);
    finds("patchable f; mov x30, x0; bad: ret; end f", &bad);
    finds("patchable f; paciasp; bad: ret; end f", &bad);
    finds("patchable f; bad: retaa; end f", &bad);
    // From another place than it was saved at.
    let restored = |from: &str| {
        format!(
            "patchable f; stp x19, x20, [sp, #-16]!; mov x19, x0; ldr x19, [sp, {from}]; add sp, sp, #16; bad: ret; end f"
        )
    };
    finds(&restored("#8"), &bad);
    passes(&restored("#0"));
    passes("patchable f; str d8, [sp, #-16]!; fmov d8, x0; ldr d8, [sp], #16; ret; end f");
    // What no caller wants back.
    passes("patchable f; mov x18, x0; fmov d16, x0; fmov d7, x0; ret; end f");
    passes("patchable f; paciasp; autiasp; ret; end f");
    passes("patchable f; paciasp; retaa; end f");
}

#[test]
fn a_return_address_comes_back_from_the_shadow_call_stack() {
    let with = |push: &str, pop: &str| {
        format!(
            "patchable f; {push}; stp x29, x30, [sp, #-16]!; mov x29, sp; bl g; ldp x29, x30, [sp], #16; {pop}
             bad: ret; end f\n patchable g; ret; end g"
        )
    };
    passes(&with("str x30, [x18], #8", "ldr x30, [x18, #-8]!"));
    let bad = [("register-lost", "bad")];
    finds(&with("str x30, [x18], #8", "nop"), &bad);
    finds(&with("str x30, [x18], #8", "ldr x30, [x18, #-8]"), &bad);
    finds(&with("str x30, [x18], #8", "ldr x30, [x18, #-16]!"), &bad);
    finds(&with("str x29, [x18], #8", "ldr x30, [x18, #-8]!"), &bad);
    finds(&with("nop", "ldr x30, [x18, #-8]!"), &bad);
    // Signed on it; and where the frame is left by a jump.
    passes("patchable f; paciasp; str x30, [x18], #8; mov x30, x0; ldr x30, [x18, #-8]!; autiasp; ret; end f");
    passes("patchable f; str x30, [x18], #8; mov x30, x0; ldr x30, [x18, #-8]!; b g; end f\n patchable g; ret; end g");
    let jumps = "patchable f; str x30, [x18], #8; bad: b g; end f\n patchable g; ret; end g";
    finds(jumps, &[("sibling-stack", "bad")]);
}

#[test]
fn a_function_returns_by_lr() {
    let bad = [("return-register", "bad")];
    finds("patchable f; mov x9, x30; bad: ret x9; end f", &bad);
    finds("patchable f; bad: ret x1; end f", &bad);
    finds("patchable f; cbz x0, 1f; ret; 1: mov x1, x30; bad: ret x1; end f", &bad);
    passes("patchable f; ret x30; end f");
    passes("patchable f; mov x9, x30; mov x30, x9; ret; end f");
}

#[test]
fn a_last_jump_leaves_the_entrys_stack() {
    let jumps = |before: &str| format!("patchable f; {before}; bad: b g; end f\n patchable g; ret; end g");
    let bad = [("sibling-stack", "bad")];
    finds(&jumps("sub sp, sp, #16"), &bad);
    finds(&jumps("mov x19, x0"), &bad);
    finds(&jumps("stp x29, x30, [sp, #-16]!; mov x29, sp"), &bad);
    finds(&jumps("paciasp"), &bad);
    finds("patchable f; sub sp, sp, #16; bad: cbz x0, g; add sp, sp, #16; ret; end f\n patchable g; ret; end g", &bad);
    passes(&jumps("stp x29, x30, [sp, #-16]!; mov x29, sp; ldp x29, x30, [sp], #16"));
    passes(&jumps("cbz x1, g; mov x0, x1"));
    // What does not come back needs no stack.
    passes("patchable f; sub sp, sp, #16; b dies; end f\n patchable dies; brk #1; end dies");
}

#[test]
fn nobody_jumps_into_the_middle_of_a_function() {
    let jumps = |jump: &str| {
        let g = "entry g + 4\n function g; bti c; nop; nop; inside: mov x1, x0; ret; end g";
        format!("patchable f; bad: {jump}; end f\n {g}")
    };
    let bad = [("jump-inside", "bad")];
    finds(&jumps("b inside"), &bad);
    finds(&jumps("cbz x0, inside; ret"), &bad);
    finds(&jumps("tbz x0, #3, inside; ret"), &bad);
    passes(&jumps("b g"));
    // Behind the landing pad: the callsite is whole.
    passes(&jumps("b g + 4"));
    passes(&jumps("cbz x0, 1f; mov x0, x1; 1: ret"));
}

#[test]
fn x29_points_at_a_record() {
    let with = |store: &str, x29: &str, load: &str| {
        format!("patchable f; sub sp, sp, #32; {store}; {x29}; bad: {load}; add sp, sp, #32; ret; end f")
    };
    let bad = [("record-broken", "bad")];
    // The wrong way round, apart, beside it, and without the return address.
    finds(&with("stp x30, x29, [sp]", "mov x29, sp", "ldp x30, x29, [sp]"), &bad);
    finds(&with("str x29, [sp]; str x30, [sp, #16]", "mov x29, sp", "ldr x29, [sp]; ldr x30, [sp, #16]"), &bad);
    finds(&with("stp x29, x30, [sp]", "add x29, sp, #16", "ldp x29, x30, [sp]"), &bad);
    finds(&with("str x29, [sp]", "mov x29, sp", "ldr x29, [sp]"), &bad);
    passes(&with("stp x29, x30, [sp, #16]", "add x29, sp, #16", "ldp x29, x30, [sp, #16]"));
    passes(&with("str x29, [sp]; str x30, [sp, #8]", "mov x29, sp", "ldr x29, [sp]; ldr x30, [sp, #8]"));
    // Given back while x29 still points at it: an interrupt may write there.
    finds(
        "framed f; add sp, sp, #32; bad: ldp x29, x30, [sp, #-32]; after: ret; end f",
        &[("record-broken", "bad"), ("frame-pointer", "after"), ("register-lost", "after")],
    );
}

#[test]
fn x29_is_used_for_nothing_else() {
    let uses = |code: &str| format!("patchable f; str x29, [sp, #-16]!; {code}; bad: ldr x29, [sp], #16; ret; end f");
    let bad = [("frame-pointer", "bad")];
    finds(&uses("mov x29, x0"), &bad);
    finds(&uses("mov x29, xzr"), &bad);
    finds(&uses("ldr x29, [x0]"), &bad);
    passes(&uses("mov x28, x28"));
}

#[test]
fn only_what_never_returns_may_end_the_chain_of_records() {
    passes("patchable f; mov x29, xzr; mov x30, xzr; 1: wfi; b 1b; end f");
    passes("patchable f; mov x29, #0; b g; end f\n patchable g; brk #1; end g");
    let lost = [("frame-pointer", "bad"), ("register-lost", "last")];
    finds("patchable f; mov x29, xzr; bad: nop; last: ret; end f", &lost);
    finds("patchable f; mov x29, x0; bad: brk #1; end f", &[("frame-pointer", "bad")]);
}

#[test]
fn sp_is_a_multiple_of_16_where_it_must_be() {
    let bad = [("sp-misaligned", "bad")];
    finds(&framed("sub sp, sp, #8\n bad: bl g\n add sp, sp, #8"), &bad);
    finds(&framed("str x0, [sp, #-8]!\n bad: blr x0\n add sp, sp, #8"), &bad);
    finds(
        "patchable f; sub sp, sp, #24; bad: stp x29, x30, [sp]; mov x29, sp; ldp x29, x30, [sp], #24; ret; end f",
        &bad,
    );
    finds("patchable f; bad: stp x29, x30, [sp, #-24]!; mov x29, sp; ldp x29, x30, [sp], #24; ret; end f", &bad);
    passes(&framed("sub sp, sp, #16\n bl g\n add sp, sp, #16"));
    passes(&framed("sub sp, sp, #8\n add sp, sp, #8\n bl g"));
}

#[test]
fn a_call_has_a_record() {
    let bad = [("call-without-record", "bad")];
    let call = |before: &str, after: &str| {
        format!("patchable f; {before}; bad: bl g; {after}; ret; end f\n patchable g; ret; end g")
    };
    finds(&call("str x30, [sp, #-16]!", "ldr x30, [sp], #16"), &bad);
    finds(&call("stp x29, x30, [sp, #-16]!", "ldp x29, x30, [sp], #16"), &bad);
    // Only of what is called when nothing comes back.
    finds("patchable f; cbz x0, 1f; ret; 1: bad: bl dies; end f\n patchable dies; brk #1; end dies", &bad);
    passes(&call("stp x29, x30, [sp, #-16]!; mov x29, sp", "ldp x29, x30, [sp], #16"));
    passes("patchable f; b g; end f\n patchable g; ret; end g");
}

#[test]
fn paths_meet_with_the_same_frame() {
    let bad = [("states-differ", "bad"), ("stack-unbalanced", "end_of_it")];
    finds("patchable f; cbz x0, bad; sub sp, sp, #16; bad: nop; end_of_it: ret; end f", &bad);
    finds("patchable f; sub sp, sp, #16; cbz x0, bad; add sp, sp, #16; bad: nop; end_of_it: ret; end f", &bad);
    let lost = [("states-differ", "bad"), ("register-lost", "end_of_it")];
    finds("patchable f; cbz x0, bad; mov x20, x0; bad: nop; end_of_it: ret; end f", &lost);
    // A loop that takes more each time.
    finds(
        "patchable f; bad: sub sp, sp, #16; cbnz x0, bad; end_of_it: ret; end f",
        &[("states-differ", "bad"), ("stack-unbalanced", "end_of_it")],
    );
    passes("patchable f; cbz x0, 1f; sub sp, sp, #16; b 2f; 1: sub sp, sp, #16; 2: add sp, sp, #16; ret; end f");
    passes("patchable f; 1: sub x0, x0, #16; cbnz x0, 1b; ret; end f");
    // A variable that has no value yet is stored, which on one path is another copy of the caller's register.
    passes(
        "patchable f; stp x19, x20, [sp, #-48]!; str x19, [sp, #32]; cbz x0, 1f; str x0, [sp, #32]; mov x19, x1
         1: ldr x0, [sp, #32]; ldp x19, x20, [sp], #48; ret; end f",
    );
}

#[test]
fn no_path_runs_off_the_end() {
    let bad = [("falls-off", "bad")];
    finds("patchable f; bad: mov x0, x1; end f\n patchable g; ret; end g", &bad);
    finds("patchable f; cbz x0, 1f; ret; 1: bad: nop; end f", &bad);
    finds("patchable f; ret; end f\n patchable g; bad: cbnz x0, g; end g", &bad);
    passes("patchable f; brk #1; end f\n patchable g; ret; end g");
    passes("patchable f; 1: b 1b; end f\n patchable g; ret; end g");
    // The compiler knew that it does not come back.
    passes("framed f; cbz x0, 1f; leave; 1: bl other; end f\n patchable g; ret; end g");
}

#[test]
fn every_path_is_followed() {
    let bad = [("not-followed", "bad")];
    finds("patchable f; sub sp, sp, #16; bad: br x0; end f", &bad);
    finds("patchable f; bad: .inst 0x04000000; ret; end f", &bad);
    finds("patchable f; bad: nop; .word 1; ret; end f", &bad);
    // What looks like a call in the last place.
    passes("patchable f; br x0; end f");
    passes("patchable f; b 1f; .word 1; 1: ret; end f");
}

#[test]
fn every_instruction_can_be_reached() {
    let bad = [("unreachable", "bad")];
    finds("patchable f; ret; bad: mov x0, x1; ret; end f", &bad);
    finds("patchable f; b 1f; bad: mov x0, x1; 1: ret; end f", &bad);
    finds("patchable f; brk #1; bad: ret; end f", &bad);
    finds("patchable f; cbz x0, 1f; ret; nop; bad: mov x0, x1; nop; ret; 1: ret; end f", &bad);
    // Padding, literals, and what stands behind a call of which the compiler did not know that it does not come back.
    passes("patchable f; ret; nop; udf #0; brk #1; end f");
    passes("patchable f; ldr x0, =0x123456789; ret; .ltorg; end f");
    passes(&framed(
        "cbz x0, 1f\n bl dies\n 1:\n .pushsection .text.d,\"ax\"\n patchable dies; brk #1; end dies\n .popsection",
    ));
}

/// Linkers put the instruction that an erratum of Cortex-A53 forbids there into a veneer.
#[test]
fn a_veneer_for_an_erratum_is_in_the_middle_of_the_function_that_jumps_to_it() {
    let source = |name: &str| {
        let veneer = format!("ldr x19, [x0]\n b back\n .size \"{name}\", . - \"{name}\"");
        let elsewhere =
            format!(".pushsection .text.v,\"ax\"\n .type \"{name}\", %function\n \"{name}\": {veneer}\n .popsection");
        framed(&format!("str x19, [sp, #16]\n b \"{name}\"\n back: bl g\n ldr x19, [sp, #16]\n {elsewhere}"))
    };
    for name in ["__CortexA53843419_40081004", "e843419@0001_00000012_1004", "__erratum_835769_veneer_0"] {
        passes(&source(name));
    }
    let elsewhere = source("another_function");
    with_findings(&elsewhere, |_, findings| {
        let rules: Vec<&str> = findings.iter().map(|finding| finding.rule.id()).collect();
        assert_eq!(rules, ["sibling-stack", "unreachable", "jump-inside", "sibling-stack"]);
    });
}
