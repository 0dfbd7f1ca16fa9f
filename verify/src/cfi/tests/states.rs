use fentry::insn::{Key, Reg};

use crate::cfi::{Cfa, Cfi, Difference, Fp, State};
use crate::flow::{Flow, NoReturn};
use crate::image::Image;
use crate::image::tests::file::File;
use crate::program::{InsnId, Program};
use crate::value::CallerReg;

const NOP: u32 = 0xd503_201f;
const RET: u32 = 0xd65f_03c0;

fn with<T>(words: &[u32], look: impl FnOnce(&Cfi) -> T) -> T {
    let file = File::linked(words).function("f", 0, words.len() as u64).write();
    let program = Program::new(Image::parse(&file).unwrap());
    look(&Cfi::of(&Flow::follow(&program, &NoReturn::default())))
}

fn states(words: &[u32]) -> Vec<Option<State>> {
    with(words, |cfi| (0..words.len() as u32).map(|index| cfi.state(InsnId::new(index)).cloned()).collect())
}

#[test]
fn a_frame_is_known_at_each_instruction() {
    let words = [
        0xa9bd_7bfd, // stp x29, x30, [sp, #-48]!
        0x9100_03fd, // mov x29, sp
        0xf900_0bf3, // str x19, [sp, #16]
        0x6d02_27e8, // stp d8, d9, [sp, #32]
        0xaa00_03f3, // mov x19, x0
        0xd63f_0000, // blr x0
        0x6d42_27e8, // ldp d8, d9, [sp, #32]
        0xf940_0bf3, // ldr x19, [sp, #16]
        0xa8c3_7bfd, // ldp x29, x30, [sp], #48
        RET,
    ];
    let states: Vec<State> = states(&words).into_iter().flatten().collect();
    assert!(states[0].is_as_at_entry() && states[9].is_as_at_entry() && !states[8].is_as_at_entry());
    assert_eq!((states[0].cfa(), states[1].cfa(), states[9].cfa()), (Cfa::Sp(0), Cfa::Sp(48), Cfa::Sp(0)));
    assert_eq!((states[1].fp(), states[2].fp()), (Fp::Callers, Fp::Frame(48)));
    assert!(!states[1].has_record() && states[2].has_record() && states[8].has_record());
    let x19 = CallerReg::general(Reg::X19).unwrap();
    let d8 = CallerReg::all().find(|reg| reg.to_string() == "d8").unwrap();
    assert_eq!((states[4].saved(x19).is_kept, states[4].saved(x19).slot), (true, Some(-32)));
    assert_eq!((states[5].saved(x19).is_kept, states[5].saved(x19).slot), (false, Some(-32)));
    assert_eq!((states[5].saved(d8).slot, states[6].saved(CallerReg::LR).is_kept), (Some(-16), false));
    assert_eq!(states[8].saved(CallerReg::LR).slot, Some(-40));
    assert_eq!(states[2].to_string(), "CFA = sp + 48, x29 is CFA - 48, x29 at CFA - 48");
}

#[test]
fn a_signed_return_address_is_told_wherever_it_is() {
    // paciasp; str x30, [sp, #-16]!; ldr x30, [sp], #16; autiasp; mov x9, x30; mov x30, xzr; mov x30, x9; ret
    let words = [0xd503_233f, 0xf81f_0ffe, 0xf841_07fe, 0xd503_23bf, 0xaa1e_03e9, 0xaa1f_03fe, 0xaa09_03fe, RET];
    let states: Vec<State> = states(&words).into_iter().flatten().collect();
    assert_eq!((states[0].lr_key(), states[1].lr_key()), (None, Some(Key::A)));
    assert_eq!((states[2].saved_lr_key(), states[3].lr_key(), states[4].lr_key()), (Some(Key::A), Some(Key::A), None));
    let lr = states[6].saved(CallerReg::LR);
    assert_eq!((lr.is_kept, lr.copy), (false, Some(Reg::X9)));
    assert!(states[7].is_as_at_entry());
    // Checked with the other key: whatever LR holds then, it is not the return address.
    let wrong: Vec<State> = self::states(&[0xd503_233f, 0xd503_23ff, RET]).into_iter().flatten().collect();
    assert!(!wrong[2].saved(CallerReg::LR).is_known());
    // Signed with another SP than the caller's.
    let moved: Vec<State> = self::states(&[0xd100_43ff, 0xd503_233f, RET]).into_iter().flatten().collect();
    assert!(!moved[2].saved(CallerReg::LR).is_known());
}

#[test]
fn paths_that_disagree_are_told_with_what_they_disagree_in() {
    // cbz x0, +8; sub sp, sp, #16; nop; ret
    let words = [0xb400_0040, 0xd100_43ff, NOP, RET];
    with(&words, |cfi| {
        let [first, second] = cfi.conflicts() else { panic!("{:?}", cfi.conflicts()) };
        assert_eq!((first.from, first.to), (InsnId::new(0), InsnId::new(2)));
        assert_eq!(first.lost, [Difference::Sp { here: Some(0), there: None }]);
        assert_eq!(second.lost, [Difference::Sp { here: Some(16), there: None }]);
        assert_eq!(cfi.state(InsnId::new(2)).unwrap().cfa(), Cfa::Unknown);
        let (before, after) = (cfi.state(InsnId::new(1)).unwrap(), cfi.state(InsnId::new(2)).unwrap());
        let told: Vec<String> = before.differences(after).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["sp is CFA - 0 here, unknown there"]);
        assert!(before.differences(before).is_empty());
        assert_ne!(cfi.state_id(InsnId::new(1)), cfi.state_id(InsnId::new(2)));
        assert_eq!(cfi.state_id(InsnId::new(2)), cfi.state_id(InsnId::new(3)));
    });
    // A register that only one path has saved, and that is as it was on both: nothing is lost.
    // cbz x0, +8; str x19, [sp, #-16]!... on both, so that SP agrees: str x19 / sub sp; then nop; add sp; ret
    let agreed = [0xb400_0060, 0xf81f_0ff3, 0x1400_0002, 0xd100_43ff, NOP, 0x9100_43ff, RET];
    assert!(with(&agreed, |cfi| cfi.conflicts().is_empty() && cfi.state(InsnId::new(6)).unwrap().is_as_at_entry()));
}

#[test]
fn a_frame_of_any_size_is_known_by_x29() {
    // stp x29, x30, [sp, #-16]!; mov x29, sp; sub sp, sp, x0; nop; mov sp, x29; ldp x29, x30, [sp], #16; ret
    let words = [0xa9bf_7bfd, 0x9100_03fd, 0xcb20_63ff, NOP, 0x9100_03bf, 0xa8c1_7bfd, RET];
    let states: Vec<State> = states(&words).into_iter().flatten().collect();
    assert_eq!((states[3].cfa(), states[3].sp()), (Cfa::Fp(16), None));
    assert!(states[3].has_record() && states[6].is_as_at_entry());
}

#[test]
fn a_loop_that_probes_a_frame_ends_where_it_was_meant_to() {
    // sub x9, sp, #4, lsl #12; sub sp, sp, #1, lsl #12; str xzr, [sp]; cmp sp, x9; b.ne; nop; add sp, sp, #4, lsl #12; ret
    let words = [0xd140_13e9, 0xd140_07ff, 0xf900_03ff, 0xeb29_63ff, 0x54ff_ffa1, NOP, 0x9140_13ff, RET];
    let states: Vec<State> = states(&words).into_iter().flatten().collect();
    assert_eq!((states[2].sp(), states[2].cfa()), (None, Cfa::Other(Reg::X9, 0x4000)));
    assert_eq!(states[5].sp(), Some(0x4000));
    assert!(states[7].is_as_at_entry());
}

#[test]
fn a_call_on_one_path_does_not_lose_a_signed_return_address() {
    // paciasp; stp x29, x30, [sp, #-16]!; mov x29, sp; cbz x0, +8; blr x0; ldp x29, x30, [sp], #16; retaa
    let words = [0xd503_233f, 0xa9bf_7bfd, 0x9100_03fd, 0xb400_0040, 0xd63f_0000, 0xa8c1_7bfd, 0xd65f_0bff];
    with(&words, |cfi| {
        assert_eq!(cfi.conflicts(), []);
        let meet = cfi.state(InsnId::new(5)).unwrap();
        assert_eq!((meet.lr_key(), meet.saved_lr_key()), (None, Some(Key::A)));
    });
    // paciasp on one of the paths only.
    let words = [0xb400_0040, 0xd503_233f, 0xa9bf_7bfd, 0xa8c1_7bfd, RET];
    assert!(with(&words, |cfi| !cfi.conflicts().is_empty()));
}
