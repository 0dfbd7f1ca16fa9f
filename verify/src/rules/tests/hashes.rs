use super::{finds, passes};

/// `f`, which is called by x8 behind a check; the load of the hash, before it, is at `bad`.
fn caller(sets: &str, distance: u32, high: &str) -> String {
    format!(
        "function f; stp x29, x30, [sp, #-16]!; mov x29, sp; {sets}
         ldur w16, [x8, #-{distance}]; movk w17, #0x2222; movk w17, #{high}, lsl #16; cmp w16, w17; b.eq 1f
         brk #0x8228; 1: blr x8; ldp x29, x30, [sp], #16; ret; end f\n"
    )
}

/// A function, with what stands before it, and data that holds its address.
fn callee(name: &str, before: &str) -> String {
    format!(
        ".balign 4\n {before}\n function {name}; ret; end {name}\n .pushsection .data\n .quad {name}\n .popsection\n"
    )
}

const HASH: &str = ".word 0x11112222";

#[test]
fn what_may_be_called_by_a_register_has_its_hash_where_callers_look() {
    let with = |name: &str, before: &str| [caller("ldr x8, [x0]", 4, "0x1111"), callee(name, before)].concat();
    let bad = [("hash-missing", "bad")];
    finds(&with("bad", ""), &bad);
    // Zero is padding; as far away as with =4,2.
    finds(&with("bad", ".word 0"), &bad);
    finds(&with("bad", &[HASH, "; nop; nop"].concat()), &bad);
    passes(&with("good", HASH));
    // Another type's: that of another caller.
    passes(&with("good", ".word 0x33334444"));
    // Whose address nobody takes; what has a bare label.
    passes(&with("good", HASH).replace(".quad good", ".quad 0"));
    passes(&[caller("ldr x8, [x0]", 4, "0x1111"), "label: ret\n .data\n .quad label".to_owned()].concat());
    // Where nobody compares hashes.
    passes(&callee("good", ""));
    let prefixed = |before: &str| [caller("ldr x8, [x0]", 12, "0x1111"), callee("bad", before)].concat();
    passes(&prefixed(".word 0x11112222; nop; nop"));
    finds(&prefixed(HASH), &bad);
}

#[test]
fn a_check_wants_the_hash_that_its_callee_has() {
    let known = |sets: &str, high: &str| {
        let source = [callee("good", HASH), callee("other", ".word 0x33334444"), caller(sets, 4, high)].concat();
        source.replace("ldur w16", "bad: ldur w16")
    };
    let takes = |name: &str| format!("adrp x8, {name}; add x8, x8, :lo12:{name}");
    let bad = [("hash-differs", "bad")];
    finds(&known(&takes("good"), "0x1112"), &bad);
    finds(&known(&takes("other"), "0x1111"), &bad);
    finds(&known("adr x8, other", "0x1111"), &bad);
    // On one path another one.
    passes(&known(&format!("{}; cbz x0, 2f; adr x8, other; 2:", takes("good")), "0x1111"));
    passes(&known(&takes("good"), "0x1111"));
    passes(&known("ldr x8, [x0]", "0x5555"));
}

#[test]
fn a_functions_hash_is_what_other_files_know_by_its_name() {
    let typed = |name: &str, id: &str, hash: &str| {
        let caller = caller("ldr x8, [x0]", 4, "0x1111");
        [caller, callee(name, HASH), format!("\n .weak __kcfi_typeid_{id}\n .set __kcfi_typeid_{id}, {hash}\n")]
            .concat()
    };
    let bad = [("hash-differs", "bad")];
    finds(&typed("bad", "bad", "0x11112223"), &bad);
    finds(&typed("bad", "bad", "0"), &bad);
    finds(&typed("bad", "bad", "0x22221111"), &bad);
    passes(&typed("good", "good", "0x11112222"));
    passes(&typed("good", "other", "0x33334444"));
}

#[test]
fn all_checks_look_at_the_same_distance() {
    let one = |name: &str, distance: u32| caller("ldr x8, [x0]", distance, "0x1111").replace(" f", &format!(" {name}"));
    let with = |distance: u32| {
        let odd = one("c", distance).replace("ldur w16", "bad: ldur w16");
        [one("a", 4), one("b_", 4), odd, callee("good", HASH)].concat()
    };
    let bad = [("hash-differs", "bad")];
    finds(&with(12), &bad);
    finds(&with(8), &bad);
    finds(&with(24), &bad);
    passes(&with(4));
}

#[test]
fn a_check_keeps_nothing_in_a_register() {
    // The first MOVK writes half of w17; the second one the rest.
    passes(
        &[caller("ldr x8, [x0]", 4, "0x1111").replace("function f;", "patchable f;"), callee("good", HASH)].concat(),
    );
    finds(
        "entry bad\n function f; bad: nop; nop; movk w17, #1; mov w0, w17; ret; end f",
        &[("live-at-callsite", "bad")],
    );
}

#[test]
fn the_room_for_stubs_is_empty() {
    let room = |filled: &str| {
        format!(
            "function f; ret; end f\n .section .fentry.stubs, \"ax\"\n .globl __fentry_stubs_start, __fentry_stubs_stop
             __fentry_stubs_start: .space 64\n bad: {filled}\n .space 64\n __fentry_stubs_stop: nop"
        )
    };
    let bad = [("stubs-room", "bad")];
    finds(&room("nop"), &bad);
    finds(&room(".word 0x10000"), &bad);
    finds(&room("udf #1; udf #65535; bad: ret").replacen("bad: ", "", 1), &bad);
    passes(&room(".word 0"));
    passes(&room("udf #7"));
    // It ends before.
    passes(&room(".word 0").replace(", __fentry_stubs_stop", "").replace("__fentry_stubs_stop: nop", "nop"));
}
