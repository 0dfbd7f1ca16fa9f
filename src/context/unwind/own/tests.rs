use super::{Contract, Held, OwnText, StubState};
use crate::address::{TextAddr, TextRange};
use crate::insn::{BranchOffset, Insn};
use std::vec::Vec;
extern crate std;

/// A room with a stub at its second block, as it is generated for one callback.
const ROOM: u64 = 0x4000;
const STUB: [u32; 33] = [
    0xd503_245f, // bti c
    0xd538_d08a, // mrs x10, TPIDR_EL1
    0xb400_03aa, // cbz x10, #116: skip
    0xf940_214b, // ldr x11, [x10, #64]
    0xb500_032b, // cbnz x11, #100: miss
    0xf900_214a, // str x10, [x10, #64]
    0xa9ba_27fd, // stp x29, x9, [sp, #-96]!
    0xa901_07e0, // stp x0, x1, [sp, #16]
    0xa902_0fe2, // stp x2, x3, [sp, #32]
    0xa903_17e4, // stp x4, x5, [sp, #48]
    0xa904_1fe6, // stp x6, x7, [sp, #64]
    0xa905_2be8, // stp x8, x10, [sp, #80]
    0x9100_03fd, // mov x29, sp
    0xa9bf_7bfd, // stp x29, x30, [sp, #-16]!
    0x9100_03fd, // mov x29, sp
    0xd100_13c0, // sub x0, x30, #4
    0xaa09_03e1, // mov x1, x9
    0xaa1d_03e3, // mov x3, x29
    0xd63f_0200, // blr x16
    0xa946_2be8, // ldp x8, x10, [sp, #96]
    0xf900_215f, // str xzr, [x10, #64]
    0xa945_1fe6, // ldp x6, x7, [sp, #80]
    0xa944_17e4, // ldp x4, x5, [sp, #64]
    0xa943_0fe2, // ldp x2, x3, [sp, #48]
    0xa942_07e0, // ldp x0, x1, [sp, #32]
    0xa8c1_27fd, // ldp x29, x9, [sp], #16
    0xa8c6_7bfd, // ldp x29, x30, [sp], #96
    0xd65f_0120, // ret x9
    0x1400_0000, // the literal of an ops, which looks like an instruction
    0x9101_014a, // miss: add x10, x10, #64
    0x1400_1000, // b, to the assembly
    0xaa1e_03ea, // skip: mov x10, x30
    0xd65f_0140, // ret x10
];

fn own(words: usize) -> OwnText {
    let room = TextRange::new(TextAddr::new(ROOM), TextAddr::new(ROOM + 16 + 4 * words as u64));
    OwnText { room, ..OwnText::NONE }
}

fn states(words: &[u32]) -> Vec<Option<StubState>> {
    let read = |at: TextAddr| words.get((at.get().wrapping_sub(ROOM + 16) / 4) as usize).copied().unwrap_or(0);
    let at = |index: usize| TextAddr::new(ROOM + 16 + 4 * index as u64);
    (0..words.len()).map(|index| own(words.len()).state(at(index), read)).collect()
}

/// Where something is: in a register, or so many bytes below the CFA.
fn place(state: &StubState, held: Held) -> (Option<usize>, Option<u64>) {
    (state.register(held), state.slot(held))
}

#[test]
fn both_return_addresses_are_known_at_each_instruction_of_a_stub() {
    let states = states(&STUB);
    for (index, state) in states.iter().enumerate() {
        let text = std::format!("{index} {}", Insn::decode(STUB[index]));
        let Some(state) = state else {
            assert_eq!(index, 28, "{text}");
            continue;
        };
        assert_eq!(state.contract, Contract::Entry);
        let depth = match index {
            7..=13 => 96,
            14..=25 => 112,
            26 => 96,
            _ => 0,
        };
        assert_eq!(state.depth(), Some(depth), "{text}");
        let returns = match index {
            ..7 | 29.. => (Some(9), None),
            7..=18 => (Some(9), Some(88)),
            19..=26 => (None, Some(88)),
            _ => (Some(30), None),
        };
        assert_eq!(place(state, Held::Return), returns, "{text}");
        let resumes = match index {
            ..14 | 29..32 => (Some(30), None),
            14..=18 => (Some(30), Some(104)),
            19..=25 => (None, Some(104)),
            26 | 27 => (Some(9), None),
            _ => (Some(10), None),
        };
        assert_eq!(place(state, Held::Resume), resumes, "{text}");
        let fp = match index {
            13 | 14 | 26 => Held::Cfa(-96),
            15..=25 => Held::Cfa(-112),
            _ => Held::CallerFp,
        };
        assert_eq!(state.fp(), fp, "{text}");
        assert_eq!(state.slot(Held::CallerFp), (7..=26).contains(&index).then_some(96), "{text}");
    }
}

#[test]
fn the_return_stub_takes_the_address_off_the_shadow_stack_and_never_loses_it() {
    let words = [
        0xd538_d08a, // mrs x10, TPIDR_EL1
        0xa97c_3169, // ldp x9, x12, [x11, #-64]
        0xa9ba_27fd, // stp x29, x9, [sp, #-96]!
        0x9100_03fd, // mov x29, sp
        0xa9bf_33fd, // stp x29, x12, [sp, #-16]!
        0x9100_03fd, // mov x29, sp
        0xd63f_0200, // blr x16
        0xf900_001f, // str xzr, [x0]
        0xa8c1_27fd, // ldp x29, x9, [sp], #16
        0xa8c6_7bfd, // ldp x29, x30, [sp], #96
        0xd65f_03c0, // ret
    ];
    let range = TextRange::new(TextAddr::new(ROOM), TextAddr::new(ROOM + 4 * words.len() as u64));
    let own = OwnText { assembly: [range, TextRange::EMPTY], exit: TextAddr::new(ROOM), ..OwnText::NONE };
    let read = |at: TextAddr| words[((at.get() - ROOM) / 4) as usize];
    for index in 0..words.len() {
        let state = own.state(TextAddr::new(ROOM + 4 * index as u64), read).unwrap();
        let returns = match index {
            0 | 1 => (None, None),
            2 => (Some(9), None),
            3..=6 => (Some(9), Some(88)),
            7..=9 => (None, Some(88)),
            _ => (Some(30), None),
        };
        assert_eq!((state.contract, place(&state, Held::Return)), (Contract::Exit, returns), "{index}");
    }
}

#[test]
fn what_differs_on_two_paths_is_not_told() {
    // bti c; cbz x10, #8; mov x9, xzr; ret x9
    let states = states(&[0xd503_245f, 0xb400_004a, 0xaa1f_03e9, 0xd65f_0120]);
    assert_eq!(place(&states[2].unwrap(), Held::Return), (Some(9), None));
    assert_eq!(place(&states[3].unwrap(), Held::Return), (None, None));
    assert_eq!(place(&states[3].unwrap(), Held::Resume), (Some(30), None));
}

#[test]
fn what_is_no_stub_is_not_followed() {
    let none = own(4);
    assert_eq!(none.state(TextAddr::new(ROOM + 20), |_| 0), None);
    assert_eq!(none.state(TextAddr::new(ROOM + 22), |_| 0xd503_245f), None);
    assert!(!none.contains(TextAddr::new(ROOM - 4)) && none.contains(TextAddr::new(ROOM)));
}

#[test]
fn at_each_instruction_of_a_probes_code_the_probed_one_is_known_with_its_registers() {
    const AT: u64 = ROOM - 0x100;
    const LDR_X0_X1: u32 = 0xf940_0020;
    let back = |index: u64| Insn::b(BranchOffset::between(ROOM + 16 + 4 * index, AT + 4).unwrap()).encode();
    let words = [
        LDR_X0_X1,
        0xd42e_0000, // brk #0x7000
        LDR_X0_X1,
        back(3),
        0xd104_83ff, // sub sp, sp, #288
        0xa90e_77fc, // stp x28, x29, [sp, #224]
        0x9104_83e0, // add x0, sp, #288
        0xa90f_03fe, // stp x30, x0, [sp, #240]
        0xa911_03fd, // stp x29, x0, [sp, #272]
        0x9104_43fd, // add x29, sp, #272
        0xb400_0053, // cbz x19, #8
        0x9400_0100, // bl
        0xf940_7bfe, // ldr x30, [sp, #240]
        0xa94e_77fc, // ldp x28, x29, [sp, #224]
        0x9104_83ff, // add sp, sp, #288
        LDR_X0_X1,
        back(16),
    ];
    let states: Vec<_> = states(&words).into_iter().map(|state| state.expect("it is a probe's")).collect();
    for (index, state) in states.iter().enumerate() {
        let is_behind = matches!(index, 1 | 3 | 16);
        let goes_on = TextAddr::new(if is_behind { AT + 4 } else { AT });
        assert_eq!(state.contract, Contract::Probe(goes_on), "{index}");
        assert_eq!(state.depth(), Some(if (5..15).contains(&index) { 288 } else { 0 }), "{index}");
        let lr = if (8..15).contains(&index) { Some(48) } else { None };
        assert_eq!(state.slot(Held::Resume), lr, "{index}");
        let in_register = state.register(Held::Resume) == Some(30);
        assert_eq!(in_register, index != 12, "{index}");
        let fp = state.slot(Held::CallerFp).is_some() || state.fp() == Held::CallerFp;
        assert!(fp, "{index}");
    }
    // One that a B does not reach tells nothing of where it goes on.
    let far = [LDR_X0_X1, 0xd42e_0000, LDR_X0_X1, 0xd42e_0000];
    assert!(self::states(&far).iter().all(Option::is_none));
}
