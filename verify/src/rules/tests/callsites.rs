use super::{finds, passes, with_findings};
use crate::report::Rule;

#[test]
fn nops_without_an_entry_are_missing_it() {
    let first = "patchable f; ret; end f";
    finds(&format!("{first}\n bad: function g; nop; nop; ret; end g"), &[("callsite-missing", "bad")]);
    finds(&format!("{first}\n bad: function g; bti c; nop; nop; ret; end g"), &[("callsite-missing", "bad")]);
    finds(
        &format!("{first}\n .balign 8\n nop; nop\n bad: function g; nop; nop; ret; end g"),
        &[("callsite-missing", "bad")],
    );
    finds(
        ".type alias, %function\n .globl alias\n alias: bad: function g; nop; nop; ret; end g",
        &[("callsite-missing", "bad")],
    );
    // One NOP is none; a function that is not patchable needs no entry; aliases are one function.
    passes(&format!("{first}\n function g; nop; ret; end g"));
    passes(&format!("{first}\n function g; bti c; ret; end g"));
    passes("entry f\n .type alias, %function\n alias: function f; nop; nop; ret; end f");
    // A label in assembly is no function.
    passes(&format!("{first}\n .globl g\n g: nop; nop; ret"));
}

#[test]
fn an_entry_that_names_no_function_is_stray() {
    finds(
        "entry bad\n function f; nop; nop; cbz x0, bad; ret; bad: nop; nop; ret; end f",
        &[("callsite-missing", "f"), ("callsite-stray", "bad")],
    );
    // Not an instruction's address.
    finds(
        "patchable f; ret; end f\n .pushsection __patchable_function_entries\n bad: .quad f + 2\n .popsection",
        &[("callsite-stray", "bad")],
    );
    // In no text.
    finds(
        "patchable f; ret; end f\n .pushsection __patchable_function_entries\n bad: .quad 0x1234\n .popsection",
        &[("callsite-stray", "bad")],
    );
    // A function that the linker has dropped.
    passes("patchable f; ret; end f\n .pushsection __patchable_function_entries\n .quad 0\n .popsection");
}

#[test]
fn a_callsite_is_two_nops_in_a_form_that_the_engine_takes() {
    finds("entry bad\n bad: function f; nop; ret; end f", &[("callsite-form", "bad")]);
    // As it is while it is traced.
    finds("entry bad\n bad: function f; mov x9, x30; nop; ret; end f", &[("callsite-form", "bad")]);
    // =5,3
    finds(
        "entry bad\n bad: nop; nop; nop\n function f; nop; nop; ret; end f",
        &[("callsite-form", "bad"), ("callsite-missing", "f")],
    );
    // A landing pad of another kind.
    finds("entry bad\n bad: function f; bti j; nop; nop; ret; end f", &[("callsite-form", "bad")]);
    // The four forms, and older GCC's, which names BTI C.
    passes("entry f\n function f; nop; nop; ret; end f");
    passes("entry f + 4\n function f; bti c; nop; nop; ret; end f");
    passes("entry f\n function f; bti c; nop; nop; ret; end f");
    passes(".balign 8\n entry f - 8\n nop; nop; function f; nop; nop; ret; end f");
    passes(".balign 8\n entry f - 8\n nop; nop; function f; bti c; nop; nop; ret; end f");
}

#[test]
fn entries_and_callsites_are_one_to_one() {
    finds("entry bad\n entry bad\n bad: function f; nop; nop; ret; end f", &[("callsite-duplicate", "bad")]);
    // Behind BTI C, and at it.
    finds("entry f\n entry bad\n function f; bti c; bad: nop; nop; ret; end f", &[("callsite-duplicate", "bad")]);
    // A function inside the callsite of another one, which runs into it.
    finds(
        "entry f\n entry bad\n function f; nop; bad: function g; nop; nop; ret; end g; .size f, 4",
        &[("callsite-duplicate", "bad"), ("falls-off", "f")],
    );
    // Side by side: that the first runs into the second is another matter.
    finds("entry f\n function f; nop; end: nop; end f\n patchable g; ret; end g", &[("falls-off", "end")]);
}

#[test]
fn a_literal_can_be_read_in_one_piece() {
    let at = |padding: &str, code: &str| {
        format!(".balign 8\n {padding}\n entry f - 8\n nop; nop\n function f; {code}; end f")
    };
    let bad = [("callsite-alignment", "f")];
    finds(&at("ret", "nop; nop; ret"), &bad);
    finds(&at("ret", "bti c; nop; nop; ret"), &bad);
    finds(&at("ret; ret; ret", "nop; nop; ret"), &bad);
    passes(&at("ret; ret", "nop; nop; ret"));
    // The hash of its type comes first, and something compares it.
    let with_hash = "nop; nop; ret; .pushsection .kcfi_traps,\"a\"; .word 0; .popsection";
    passes(&at(".word 0x12345678", with_hash));
    // And where nothing does, each function has one.
    let module = |one: &str, other: &str| {
        let function = |name: &str, before: &str| {
            format!(".balign 8\n {before}\n entry {name} - 8\n nop; nop\n function {name}; nop; nop; ret; end {name}\n")
        };
        [function("f", one), function("g", other)].concat()
    };
    passes(&module(".word 0x12345678", ".word 0x9abcdef0"));
    finds(&module(".word 0x12345678", ".word 0"), &[("callsite-alignment", "f"), ("callsite-alignment", "g")]);
    // Without a literal any place will do.
    passes(".balign 8\n ret\n entry f\n function f; nop; nop; ret; end f");
}

#[test]
fn no_branch_goes_into_the_middle_of_a_callsite() {
    let into = |branch: &str| format!("patchable f; ret; end f\n framed g; bad: {branch}; leave; end g");
    let bad = [("callsite-entered", "bad"), ("jump-inside", "bad")];
    finds(&into("bl f + 4"), &bad);
    finds("patchable f; ret; end f\n patchable g; bad: cbz x0, f + 4; ret; end g", &bad);
    finds("patchable f; bad: cbz x0, f + 4; ret; end f", &bad[..1]);
    // To the literal.
    let literal = ".balign 8\n entry f - 8\n literal: nop; nop; function f; nop; nop; ret; end f";
    finds(&format!("{literal}\n framed g; bad: bl literal + 4; leave; end g"), &bad[..1]);
    // To the callsite as a whole, behind it, and from another section.
    passes(&into("bl f"));
    passes("patchable f; again: cbnz x0, again; ret; end f");
    let other = ".section .text.g,\"ax\"\n framed g; bl f + 4; leave; end g";
    passes(&format!("entry f\n function f; bti c; nop; nop; ret; end f\n {other}"));
}

#[test]
fn a_finding_says_where_and_what_to_do_and_how_it_was_found() {
    with_findings("patchable f; ret; end f\n function g; cbz x0, f + 4; ret; end g", |program, findings| {
        let finding = findings.iter().find(|finding| finding.rule == Rule::CallsiteEntered).unwrap();
        assert_eq!(finding.at.display(program).to_string(), "g+0x0 (.text+0xc)");
        assert!(finding.text.contains("the callsite of f; branch to the function's entry"), "{}", finding.text);
        assert_eq!(program.place(finding.path[0].at).to_string(), "f+0x4 (.text+0x4)");
    });
}
