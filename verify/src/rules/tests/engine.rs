use super::{finds, passes};

/// A stub that does this before it takes the guard, and this behind; the engine's own text; and what is not.
fn engine(before: &str, behind: &str) -> String {
    format!(
        "__fentry_text_start:
         function ftrace_caller
         stp x29, x30, [sp, #-32]!; mov x29, sp; {before}
         mrs x10, tpidr_el1; cbz x10, 1f; ldr x12, [x10]; cbnz x12, 1f; str x10, [x10]
         blr x12; mrs x10, tpidr_el1; str x20, [x10]; {behind}
         1: ldp x29, x30, [sp], #32; ret; end ftrace_caller
         function inner; ret; end inner
         function leads; b traced; end leads
         function asks; stp x29, x30, [sp, #-16]!; mov x29, sp; inside: blr x1; ldp x29, x30, [sp], #16; ret; end asks
         __fentry_text_stop:
         patchable traced; ret; end traced\n"
    )
}

#[test]
fn nothing_is_traced_outside_of_the_recursion_guard() {
    let bad = [("engine-traced", "bad")];
    finds(&engine("bad: bl traced", "nop"), &bad);
    finds(&engine("nop", "bad: bl traced"), &bad);
    finds(&engine("cbz x0, 3f; bad: bl leads; 3: nop", "nop"), &bad);
    finds(
        &engine("nop", "bad: bl between")
            .replace("function inner;", "function between; b leads; end between\n function inner;"),
        &bad,
    );
    passes(&engine("bl inner", "bl inner"));
    // Between taking it and giving it back.
    passes(&engine("nop", "nop").replace("blr x12", "bl traced; bl leads"));
    // A callsite in the engine's own text is left out.
    passes(&engine("bl inner", "nop").replace("function inner;", "patchable inner;"));
    // On a CPU where nothing is traced.
    passes(
        &engine("nop", "nop")
            .replace("cbz x10, 1f;", "cbz x10, 4f;")
            .replace("end ftrace_caller", "4: bl traced; brk #1; end ftrace_caller"),
    );
    // Under a bare label: it ends by going on in the function, and another one does not.
    let label = |code: &str| {
        let source = engine("nop", "nop").replacen("stp x29", "cbnz x12, skip; stp x29", 1);
        source.replace("__fentry_text_stop:", &format!("skip: {code}\n __fentry_text_stop:"))
    };
    passes(&label("br x9"));
    finds(&label("bad: b traced"), &bad);
    // What is no stub.
    passes(&engine("bl traced", "bl leads").replace("ftrace_caller", "another"));
}

#[test]
fn calls_that_nobody_knows_are_told_of() {
    finds(&engine("bad: blr x3", "nop"), &[("engine-unknown", "bad")]);
    finds(&engine("nop", "bad: bl elsewhere"), &[("engine-unknown", "bad")]);
    finds(&engine("bl asks", "nop"), &[("engine-unknown", "inside")]);
    // Whose hash says whom they reach.
    let checked = |target: &str| {
        let check =
            "ldur w16, [x1, #-4]; movk w17, #1; movk w17, #2, lsl #16; cmp w16, w17; b.eq 2f; brk #0x8221; 2: blr x1";
        let called = format!(".word 0x20001\n function called; {target}; end called\n .data\n .quad called");
        engine("bad: bl asks", "nop")
            .replace("inside: blr x1", check)
            .replace("__fentry_text_stop:", &format!("{called}\n .text\n __fentry_text_stop:"))
    };
    passes(&checked("ret"));
    finds(&checked("b traced"), &[("engine-traced", "bad")]);
}

#[test]
fn what_the_platform_does_while_text_is_written_may_be_traced_and_is_told_of() {
    let method = |name: &str, code: &str| {
        let head = "__fentry_text_start: nop\n __fentry_text_stop: patchable traced; ret; end traced\n";
        format!("{head} bad: function {name}; {code}; end {name}\n function leads; b traced; end leads")
    };
    let name = "_RNvXNtCs1_6kernel7tracingNtB2_4MineNtNtCs2_6fentry8platform8Platform9map_alias";
    let bad = [("platform-traced", "bad")];
    finds(&method(name, "b traced"), &bad);
    finds(&method(name, "b leads"), &bad);
    finds(&method(&name.replace("9map_alias", "16synchronize_cpus"), "cbz x0, leads; ret"), &bad);
    passes(&method(name, "ret"));
    // One that runs at other times; another trait's.
    passes(&method(&name.replace("9map_alias", "12context_base"), "b traced"));
    passes(&method(&name.replace("6fentry", "6others"), "b traced"));
}
