//! The words and places of a callsite, and what its errors say.

extern crate std;

use super::{
    BTI_C, Callsite, Change, Form, LandingPad, Layout, LiveWord, MOV_X9_LR, NOP, Prefix, Refusal, State, StateError,
};
use crate::address::{TextAddr, TextRange};
use crate::insn::BranchOffset;
use std::string::ToString;

const AT: TextAddr = TextAddr::new(0xffff_8000_0000_1008);

/// Arm ARM B2.2.5, "Concurrent modification and execution of instructions"; the words are GNU as's.
#[test]
fn the_words_that_may_change_while_a_cpu_executes_them_are_kept_as_they_are() {
    // b, bl, nop, brk, svc, hvc, smc, isb
    for word in [0x1400_0001, 0x97ff_ffff, NOP, 0xd420_0000, 0xd400_0001, 0xd400_0002, 0xd400_0003, 0xd503_3fdf] {
        assert_eq!(LiveWord::new(word).map(LiveWord::get), Some(word), "{word:#010x}");
    }
    // mov x9, x30; ret; hint #6; dsb sy; b.eq
    for word in [MOV_X9_LR, 0xd65f_03c0, 0xd503_20df, 0xd503_3f9f, 0x5400_0000, 0] {
        assert_eq!(LiveWord::new(word), None, "{word:#010x}");
    }
    let bl = LiveWord::bl(BranchOffset::new(-8).unwrap());
    assert_eq!((bl.get(), LiveWord::NOP.get()), (0x97ff_fffe, 0xd503_201f));
}

#[test]
fn each_state_goes_to_the_next_by_one_word_and_to_no_other() {
    let callsite = Callsite::known(AT, Form { landing_pad: LandingPad::None, prefix: Prefix::None });
    let (target, other) = (AT.offset(4 + 0x100), AT.offset(4 - 0x100));
    let (on, changed) = (State::Enabled(target), 0x97ff_ffc0);
    let word = |change: Result<Change<LiveWord>, StateError>| {
        let Change { at, old, new } = change.unwrap().words();
        assert_eq!(at, AT.offset(4));
        (old, new)
    };
    assert_eq!(callsite.init(State::Compiled), Ok(Change { at: AT, old: NOP, new: MOV_X9_LR }));
    assert_eq!(word(callsite.enable(State::Disabled, target)), (NOP, 0x9400_0040));
    assert_eq!(word(callsite.retarget(on, other)), (0x9400_0040, changed));
    assert_eq!(word(callsite.disable(on)), (0x9400_0040, NOP));
    let errors = [
        callsite.init(State::Disabled).unwrap_err(),
        callsite.disable(State::Compiled).unwrap_err(),
        callsite.disable(State::Disabled).unwrap_err(),
        callsite.enable(on, other).unwrap_err(),
    ];
    assert_eq!(
        errors.map(|error| error.to_string()),
        [
            "The callsite 0xffff800000001008 is initialised already",
            "The callsite 0xffff800000001008 is not initialised",
            "The callsite 0xffff80000000100c is disabled already",
            "The callsite 0xffff80000000100c is enabled already and calls 0xffff80000000110c",
        ]
    );
    let far = callsite.enable(State::Disabled, AT.offset(1 << 30)).unwrap_err().to_string();
    assert!(far.starts_with("The callsite 0xffff80000000100c can't call 0xffff800040001008: "), "{far}");
}

#[test]
fn a_prefixed_function_has_a_place_for_a_literal_where_that_is_aligned() {
    for (landing_pad, pad) in [(LandingPad::None, 0), (LandingPad::BtiC, 4)] {
        for (function, literal) in [(AT, Some(AT.offset(-8))), (AT.offset(4), None)] {
            let prefixed = Callsite::known(function.offset(pad), Form { landing_pad, prefix: Prefix::Literal });
            assert_eq!((prefixed.function(), prefixed.literal()), (function, literal), "{landing_pad:?}");
            let plain = Callsite::known(function.offset(pad), Form { landing_pad, prefix: Prefix::None });
            assert_eq!((plain.function(), plain.literal()), (function, None));
        }
    }
}

#[test]
fn a_layout_is_what_most_entries_are() {
    // A prefixed function at word 0, with BTI C; a plain one at word 6; a word that is neither.
    let words = [NOP, NOP, BTI_C, NOP, NOP, MOV_X9_LR, NOP, NOP, MOV_X9_LR];
    let text = TextRange::new(TextAddr::new(0x1000), TextAddr::new(0x1000 + 4 * words.len() as u64));
    let read = |at: TextAddr| words[((at.get() - 0x1000) / 4) as usize];
    let detected =
        |entries: &[u64]| Layout::detect(entries.iter().map(|word| TextAddr::new(0x1000 + 4 * word)), text, read);
    assert_eq!(detected(&[6]), Layout::Plain);
    assert_eq!(detected(&[0]), Layout::Prefixed);
    assert_eq!(detected(&[0, 0, 6]), Layout::Prefixed);
    assert_eq!(detected(&[0, 6, 6]), Layout::Mixed);
    assert_eq!(detected(&[]), Layout::Plain);
}

#[test]
fn a_refusal_says_what_is_wrong() {
    for (refusal, said) in [
        (Refusal::Misaligned, "its address is not a multiple of 4"),
        (Refusal::OutsideText, "its instructions are not inside the text"),
        (Refusal::Duplicate, "another entry names the same instructions"),
        (Refusal::Overlapping, "another entry names one of the two instructions as well"),
        (Refusal::InUse, "it was made ready or enabled before"),
        (Refusal::NotPatchable { found: [NOP, 0xd65f_03c0] }, "expected nop; nop and found nop; ret"),
    ] {
        assert_eq!(refusal.to_string(), said);
    }
    assert!(Refusal::CallingConvention.to_string().contains("x9 to x17"));
}
