//! Each instruction, as an assembler would write it.

use super::{FAR, NEAR, ROOM, TWO, env, handler, place, words};
use crate::insn::{Flow, Insn, Memory, Place, RegOrSp};
use crate::stub::{Handler, HandlerKind};
use crate::trampoline::attach::class::{Class, Signature};
use std::string::{String, ToString};
use std::vec::Vec;
extern crate std;

/// What is executed, without the distances that depend on how long other parts are, and without what is behind the last RET.
fn text(signature: &Signature<'_>, handlers: &[Handler], atomics: bool) -> Vec<String> {
    let words = words(&mut place(), signature, handlers, NEAR + 0x1_000c, &env(atomics));
    let mut lines: Vec<String> = words.iter().map(|word| Insn::decode(*word).to_string()).collect();
    let end = lines.iter().rposition(|line| line.starts_with("ret")).unwrap();
    lines.truncate(end + 1);
    for line in &mut lines {
        let is_branch = line.starts_with('b') || line.starts_with("cb");
        if let Some(at) = line.find(" #").filter(|_| is_branch) {
            line.truncate(at);
        }
        if line.starts_with("ldr x10, #") {
            line.truncate("ldr x10".len());
        }
    }
    lines
}

fn check(signature: &Signature<'_>, handlers: &[Handler], expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(text(signature, handlers, true), expected);
}

const ENTRY: Handler = Handler { kind: HandlerKind::Entry, function: crate::TextAddr::new(NEAR), may_call: false };
const GUARDED: Handler = Handler { may_call: true, ..ENTRY };

#[test]
fn an_entry_that_calls_nothing_is_ten_instructions_around_it() {
    let expected = "
        bti c
        stp x29, x9, [sp, #-16]!
        mov x29, sp
        stp x29, x30, [sp, #-32]!
        mov x29, sp
        stp x0, x1, [x29, #16]
        bl
        ldp x0, x1, [x29, #16]
        ldp x29, x9, [sp], #32
        ldp x29, x30, [sp], #16
        ret x9
    ";
    check(&TWO, &[ENTRY], expected);
}

#[test]
fn one_that_may_call_is_guarded() {
    let expected = "
        bti c
        mrs x10, TPIDR_EL1
        cbz x10,
        ldr x11, [x10, #64]
        cbnz x11,
        str x10, [x10, #64]
        stp x29, x9, [sp, #-16]!
        mov x29, sp
        stp x29, x30, [sp, #-32]!
        mov x29, sp
        stp x0, x1, [x29, #16]
        bl
        mrs x10, TPIDR_EL1
        str xzr, [x10, #64]
        ldp x0, x1, [x29, #16]
        ldp x29, x9, [sp], #32
        ldp x29, x30, [sp], #16
        ret x9
        ldr x10
        mov x11, #1
        stadd x11, [x10]
        mov x10, x30
        mov x30, x9
        ret x10
    ";
    check(&TWO, &[GUARDED], expected);
}

#[test]
fn an_answer_returns_to_the_caller_in_x0() {
    let modify = Handler { kind: HandlerKind::Modify, ..ENTRY };
    let expected = "
        bti c
        stp x29, x9, [sp, #-16]!
        mov x29, sp
        stp x29, x30, [sp, #-32]!
        mov x29, sp
        stp x0, x1, [x29, #16]
        bl
        cbnz x0,
        ldp x0, x1, [x29, #16]
        ldp x29, x9, [sp], #32
        ldp x29, x30, [sp], #16
        ret x9
        ldp x29, x9, [sp], #32
        ldp x29, x30, [sp], #16
        ret
    ";
    check(&TWO, &[modify], expected);
    // Only as many bits as the result has are looked at.
    let tests = [
        (Class::BOOL, "tbnz w0, #0, #20"),
        (Class::BITS_8, "and x11, x0, #0xff"),
        (Class::BITS_16, "and x11, x0, #0xffff"),
        (Class::BITS_32, "cbnz w0,"),
    ];
    for (result, test) in tests {
        let lines = text(&Signature { result, ..TWO }, &[modify], true);
        assert_eq!(lines[7], test, "{lines:#?}");
    }
}

#[test]
fn an_exit_is_behind_a_call_that_is_counted() {
    let exit = Handler { kind: HandlerKind::Exit, ..ENTRY };
    let expected = "
        bti c
        stp x29, x9, [sp, #-16]!
        mov x29, sp
        stp x29, x30, [sp, #-48]!
        mov x29, sp
        stp x0, x1, [x29, #16]
        ldr x10
        mov x11, #1
        stadd x11, [x10]
        bl
        str x0, [x29, #32]
        ldr x10
        mov x11, #-1
        stadd x11, [x10]
        ldp x0, x1, [x29, #16]
        add x2, x29, #32
        bl
        ldr x0, [x29, #32]
        ldp x29, x9, [sp], #48
        ldp x29, x30, [sp], #16
        ret
    ";
    check(&TWO, &[exit], expected);
    let lines = text(&TWO, &[exit], false);
    assert_eq!(lines[7..11], ["ldxr x11, [x10]", "add x11, x11, #1", "stxr w12, x11, [x10]", "cbnz w12,"]);
    assert_eq!(lines[14..18], ["ldxr x11, [x10]", "sub x11, x11, #1", "stxr w12, x11, [x10]", "cbnz w12,"]);
}

#[test]
fn narrow_arguments_have_nothing_above_them_for_handlers() {
    let arguments = &[Class::BITS_8, Class::BITS_16, Class::BITS_32, Class::BOOL, Class::BITS_64];
    let signature = Signature { arguments, result: Class::UNIT };
    let lines = text(&signature, &[ENTRY, ENTRY], true);
    let saved = ["stp x0, x1, [x29, #16]", "stp x2, x3, [x29, #32]", "str x4, [x29, #48]"];
    let first = ["and x0, x0, #0xff", "and x1, x1, #0xffff", "and x2, x2, #0xffffffff", "and x3, x3, #0x1", "bl"];
    let second = [
        "ldrb w0, [x29, #16]",
        "ldrh w1, [x29, #24]",
        "ldr w2, [x29, #32]",
        "ldrb w3, [x29, #40]",
        "and x3, x3, #0x1",
        "ldr x4, [x29, #48]",
        "bl",
    ];
    let back = ["ldp x0, x1, [x29, #16]", "ldp x2, x3, [x29, #32]", "ldr x4, [x29, #48]"];
    assert_eq!(lines[5..23], [&saved[..], &first, &second, &back].concat());
}

#[test]
fn what_is_on_the_stack_is_copied_for_who_is_called() {
    let signature = Signature { arguments: &[Class::BITS_64; 11], result: Class::UNIT };
    let exit = Handler { kind: HandlerKind::Exit, ..ENTRY };
    let lines = text(&signature, &[ENTRY, exit], true);
    let copy =
        ["add x12, x29, #96", "ldp x10, x11, [x12]", "stp x10, x11, [sp]", "ldr x10, [x12, #16]", "str x10, [sp, #16]"];
    let copies = lines.windows(copy.len()).filter(|window| *window == copy).count();
    assert_eq!(copies, 3, "for the entry, the function and the exit: {lines:#?}");
    assert!(lines.contains(&"sub sp, sp, #32".to_string()) && lines.contains(&"mov sp, x29".to_string()));
    // The result's address is behind them.
    assert!(lines.windows(2).any(|pair| pair == ["add x10, x29, #80", "str x10, [sp, #24]"]), "{lines:#?}");
}

#[test]
fn the_function_out_of_reach_is_called_by_a_bl_to_a_ret() {
    let exit = handler(HandlerKind::Exit, FAR, true);
    let words = words(&mut place(), &TWO, &[exit], FAR + 0x100, &env(true));
    let lines: Vec<String> = words.iter().map(|word| Insn::decode(*word).to_string()).collect();
    let call = ["bl #8", "cbz xzr, #12", "ldr x17, [x29, #8]", "ret x17", "str x0, [x29, #32]"];
    assert!(lines.windows(call.len()).any(|window| window == call), "{lines:#?}");
    assert!(lines.contains(&"blr x16".to_string()));
}

/// AAPCS64 6.1.1: what a callee may change, and what is kept in the frame here.
const MAY_WRITE: u32 = 0x3_ffff | 1 << 29 | 1 << 30 | 1 << 31;

/// Neither X18 to X28 nor anything below SP.
#[test]
fn no_instruction_does_what_a_callee_may_not() {
    use HandlerKind::{Entry, Exit, Modify};
    let signatures = [
        TWO,
        Signature { arguments: &[Class::BITS_32; 12], result: Class::BOOL },
        Signature { arguments: &[Class::F64; 12], result: Class::BITS_16 },
    ];
    let sets: [&[HandlerKind]; 5] =
        [&[Entry], &[Modify], &[Exit], &[Entry, Exit, Entry], &[Entry, Modify, Modify, Exit]];
    for (signature, kinds) in signatures.iter().flat_map(|signature| sets.map(|kinds| (signature, kinds))) {
        for (may_call, target) in [(false, NEAR), (true, FAR)] {
            let handlers: Vec<Handler> = kinds.iter().map(|kind| handler(*kind, target, may_call)).collect();
            let words = words(&mut place(), signature, &handlers, target, &env(may_call));
            // Up to the literals, which may look like anything.
            let mut end = words.len();
            for (number, word) in words.iter().enumerate() {
                let insn = Insn::decode(*word);
                let effects = insn.effects();
                if let Insn::Memory(Memory::Literal { offset, .. }) = insn {
                    end = end.min(number + offset.bytes() as usize / 4);
                }
                if number >= end {
                    break;
                }
                assert_ne!(effects.flow, Flow::Unknown, "{insn}");
                assert_eq!(effects.writes.bits() & !MAY_WRITE, 0, "{insn}");
                if let Place::Beside(RegOrSp::SP, bytes) = effects.place {
                    assert!(bytes >= 0 || effects.writes.bits() >> 31 == 1, "{insn}");
                }
            }
        }
    }
    assert_eq!(ROOM % 16, 0);
}
