use fentry::insn::RegOrSp;

use super::{Context, Machine, Shapes, Value};
use crate::image::Image;
use crate::image::tests::file::File;
use crate::program::{InsnId, Program};

/// What is known behind these instructions.
fn after(words: &[u32]) -> Machine {
    let file = File::linked(words).rodata(&[0; 16]).function("f", 0, words.len() as u64).write();
    let program = Program::new(Image::parse(&file).unwrap());
    let mut shapes = Shapes::default();
    let mut known = Machine::at_entry(InsnId::new(0), true);
    for id in program.all() {
        let insn = program.insn(id);
        let mut context = Context { program: &program, shapes: &mut shapes };
        known.step(id, &insn, &insn.effects(), &mut context);
    }
    known
}

#[test]
fn constants_and_addresses_of_the_frame_are_followed() {
    // movz x12, #0x5; movk x12, #0x1, lsl #16; sub sp, sp, x12; add x0, sp, #16
    let known = after(&[0xd280_00ac, 0xf2a0_002c, 0xcb2c_63ff, 0x9100_43e0]);
    assert_eq!(known.register(RegOrSp::X12), Value::Const(0x1_0005));
    assert_eq!((known.sp(), known.register(RegOrSp::X0)), (Some(0x1_0005), Value::Frame(16 - 0x1_0005)));
    // and sp, x9, #~15: how far is not known.
    assert_eq!(after(&[0x927c_ed3f]).sp(), None);
}

#[test]
fn what_lies_below_sp_is_forgotten() {
    // stp x29, x30, [sp, #-16]!; mov x29, xzr; add sp, sp, #16; sub sp, sp, #16; ldp x29, x30, [sp]
    let popped = after(&[0xa9bf_7bfd, 0xaa1f_03fd, 0x9100_43ff, 0xd100_43ff, 0xa940_7bfd]);
    assert_eq!((matches!(popped.register(RegOrSp::FP), Value::Caller(..)), popped.stack().count()), (false, 0));
    // Without the two between, they are the caller's again.
    let restored = after(&[0xa9bf_7bfd, 0xaa1f_03fd, 0xa940_7bfd]);
    assert!(matches!(restored.register(RegOrSp::FP), Value::Caller(..)));
    // strb w0, [sp]: a store into the saved register.
    let damaged = after(&[0xa9bf_7bfd, 0x3900_03e0]);
    assert_eq!(damaged.stack().count(), 1);
}

/// GCC works a table's address out before a loop, and keeps it on the stack over the calls in it.
#[test]
fn where_a_table_is_stays_known_on_the_stack() {
    // movz x1, #ADDRESS; str x1, [sp, #-16]!; str x0, [x2]; ldr x3, [sp]
    let loaded = |address: u32| {
        let known = after(&[0xd280_0001 | address << 5, 0xf81f_0fe1, 0xf900_0040, 0xf940_03e3]);
        known.register(RegOrSp::X3)
    };
    assert_eq!(loaded(0x1108), Value::Const(0x1108));
    // A number, or a function, may be what somebody else has the address of.
    assert!(matches!(loaded(5), Value::Unknown | Value::Opaque(..)));
    assert!(matches!(loaded(0x1000), Value::Unknown | Value::Opaque(..)));
}
