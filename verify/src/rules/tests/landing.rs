use super::{finds, finds_linked, passes};

/// Says that all has landing pads, as compilers do.
const MARK: &str = "
    .pushsection .note.gnu.property, \"a\", %note
    .balign 8
    .word 4, 16, 5, 0x554e47, 0xc0000000, 4, 1, 0
    .popsection
";

/// Where a linked image begins.
const START: &str = ".globl _start, __fentry_text_start, __fentry_text_stop\n function _start; nop; ret; end _start\n";

/// Data that holds a function's address.
const HELD: &str = ".pushsection .data\n .balign 8\n .quad bad\n .popsection\n";

#[test]
fn what_a_register_may_lead_to_has_a_landing_pad() {
    let bad = [("landing-missing", "bad")];
    let f = |begins: &str| format!("function bad; {begins}; mov x0, x1; ret; end bad\n");
    let held = |begins: &str| [MARK, HELD, &f(begins)].concat();
    finds(&held("nop"), &bad);
    // This one takes jumps.
    finds(&held("bti j"), &bad);
    // Code takes the address: by a page and an offset, at once, and by a literal.
    let takes = |by: &str| format!("{MARK} {} function g; bti c; {by}; ret; .ltorg; end g", f("nop"));
    // What for, a call says; without one, it is not known.
    let unknown = [("entry-unproven", "bad")];
    for by in ["adrp x0, bad; add x0, x0, :lo12:bad", "adr x0, bad"] {
        finds(&takes(&[by, "; mov x16, x0; cbz x1, 1f; br x16; 1:"].concat()), &bad);
        finds(&takes(by), &unknown);
    }
    finds(&takes("ldr x0, =bad"), &unknown);
    for begins in ["bti c", "bti jc", "paciasp; autiasp", "pacibsp; autibsp"] {
        passes(&held(begins));
    }
    // Whose address nobody takes, and where landing pads are not enforced.
    passes(&[MARK, &f("nop")].concat());
    passes(&[HELD, &f("nop")].concat());
    // Called by its name; an entry of the callsite section; inside it.
    passes(&takes("cbz x1, bad"));
    passes(&[MARK, "patchable f; ret; end f"].concat());
    passes(&takes("adr x0, bad + 4"));
}

#[test]
fn without_the_note_the_functions_own_landing_pads_say_that_they_are_enforced() {
    let f = |name: &str, begins: &str| {
        format!("function {name}; {begins}; ret; end {name}\n .pushsection .data\n .quad {name}\n .popsection\n")
    };
    let four = |begins: &str| ["a", "b_", "c", "d"].map(|name| f(name, begins)).concat();
    finds(&[four("bti c"), f("bad", "nop")].concat(), &[("landing-missing", "bad")]);
    passes(&[four("paciasp; autiasp"), f("other", "nop")].concat());
    passes(&[f("a", "bti c"), f("other", "nop")].concat());
    // The engine's own say nothing of the kernel.
    let engine = ["__fentry_text_start:\n", &four("bti c"), "__fentry_text_stop:\n"].concat();
    finds_linked(&[START, &engine, &f("other", "nop")].concat(), &[]);
    finds_linked(&[START, &four("bti c"), &f("bad", "nop")].concat(), &[("landing-missing", "bad")]);
}

#[test]
fn a_linked_image_says_the_same_without_relocations() {
    let source = |begins: &str, by: &str| {
        format!(
            "{MARK} .globl _start\n function _start; bti c; {by}; ret; .ltorg; end _start
             function bad; {begins}; ret; end bad\n"
        )
    };
    let bad = [("landing-missing", "bad")];
    let code = "adrp x0, bad; add x0, x0, :lo12:bad";
    finds_linked(&source("nop", &[code, "; mov x16, x0; cbz x1, 1f; br x16; 1:"].concat()), &bad);
    finds_linked(&source("nop", "ldr x16, =bad; cbz x1, 1f; br x16; 1:"), &bad);
    finds_linked(&source("nop", code), &[("entry-unproven", "bad")]);
    // Where the image begins.
    finds_linked(&source("bti c", "adr x0, _start").replace("_start; bti c", "_start; nop"), &[]);
    finds_linked(&[source("nop", "nop").as_str(), HELD].concat(), &bad);
    finds_linked(&[source("bti c", code).as_str(), HELD].concat(), &[]);
    // What is held is the place behind the first instruction.
    finds_linked(&[source("nop", "nop"), HELD.replace("bad", "bad + 4")].concat(), &[]);
}

/// A jump by x8 to one of two places, by a table of bytes.
fn switch(compares: &str, by: &str, first: &str, second: &str) -> String {
    format!(
        "{MARK} function f; bti c; {compares}
         adrp x9, table; add x9, x9, :lo12:table; adr x10, 1f; ldrb w11, [x9, x0]; add {by}, x10, x11, lsl #2; br {by}
         1: {first}; mov x0, x1; ret
         bad: {second}; mov x0, x2; ret
         out: mov x0, x3; ret; end f
         .pushsection .rodata\n table: .byte 0, 3\n .type after, %object\n after: .byte 9\n .popsection"
    )
}

#[test]
fn a_table_of_jumps_leads_to_landing_pads() {
    let bad = [("landing-missing", "bad")];
    let compared = "cmp x0, #1; b.hi out";
    finds(&switch(compared, "x8", "bti j", "nop"), &bad);
    // Which takes calls.
    finds(&switch(compared, "x8", "bti j", "bti c"), &bad);
    finds(&switch(compared, "x8", "bti jc", "nop"), &bad);
    passes(&switch(compared, "x8", "bti j", "bti jc"));
    passes(&switch(compared, "x16", "bti j", "bti c"));
    passes(&switch(compared, "x8", "nop", "nop").replace(MARK, ""));
    // Nothing bounds it: where some have a landing pad, the others may not be in the table.
    finds(
        &switch("cbz x1, out", "x8", "nop", "nop").replace(" 1:", " first: 1:"),
        &[("landing-missing", "first"), bad[0]],
    );
    finds(&switch("cbz x1, out", "x8", "bti j", "add x2, x2, #1"), &[("unreachable", "bad")]);
}

#[test]
fn functions_are_jumped_to_by_the_registers_that_landing_pads_take() {
    let jumps = |code: &str| format!("{MARK} function f; bti c; {code}; end f");
    let bad = [("jump-register", "bad")];
    finds(&jumps("bad: br x1"), &bad);
    finds(&jumps("ldr x9, [x0]; bad: br x9"), &bad);
    finds(&jumps("cbz x0, 1f; ret; 1: bad: br x18"), &bad);
    passes(&jumps("br x16"));
    passes(&jumps("mov x17, x1; br x17"));
    passes(&jumps("br x1").replace(MARK, ""));
    // Under a bare label: entry code, before landing pads are enforced.
    passes(&[MARK, ".globl entry_code\n entry_code: br x0\n function f; bti c; ret; end f"].concat());
}
