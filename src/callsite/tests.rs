//! The words and places of a callsite, and what its errors say.

extern crate std;

use super::{BTI_C, Callsite, Form, LandingPad, LiveWord, MOV_X9_LR, NOP, Prefix, Refusal, State, WordChange};
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
fn two_words_are_one_of_three_states_or_none() {
    let callsite = Callsite::known(AT, Form { landing_pad: LandingPad::None, prefix: Prefix::None });
    // bl +0x100, from the second word; bl -0x100
    let (call, back) = (0x9400_0040, 0x97ff_ffc0);
    let states = [
        ((NOP, NOP), Some(State::Compiled)),
        ((MOV_X9_LR, NOP), Some(State::Disabled)),
        ((MOV_X9_LR, call), Some(State::Enabled(AT.offset(4 + 0x100)))),
        ((MOV_X9_LR, back), Some(State::Enabled(AT.offset(4 - 0x100)))),
        ((NOP, call), None),
        ((MOV_X9_LR, MOV_X9_LR), None),
        ((call, NOP), None),
        // mov x9, lr; b +0x100
        ((MOV_X9_LR, 0x1400_0040), None),
    ];
    for ((first, second), state) in states {
        assert_eq!(callsite.state_of(first, second), state, "{first:#010x} {second:#010x}");
    }
    assert_eq!(callsite.made_ready(), WordChange { at: AT, old: NOP, new: MOV_X9_LR });
}

#[test]
fn a_call_reaches_128_mib() {
    let callsite = Callsite::known(AT, Form { landing_pad: LandingPad::None, prefix: Prefix::None });
    let call = callsite.call_addr();
    for (distance, reaches) in
        [((1 << 27) - 4, true), (1 << 27, false), (-(1 << 27), true), (-(1 << 27) - 4, false), (2, false)]
    {
        assert_eq!(callsite.check_reach(call.offset(distance)).is_ok(), reaches, "{distance:#x}");
    }
    let far = callsite.check_reach(AT.offset(1 << 30)).unwrap_err().to_string();
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
fn an_entry_means_what_its_function_s_place_makes_of_it() {
    // From word 0: `=4,2` with BTI C; from word 6: `=2`; from word 9: `=2` with BTI C and NOPs of its own.
    let words = [NOP, NOP, BTI_C, NOP, NOP, 1, NOP, NOP, 1, BTI_C, NOP, NOP, NOP, NOP, 1];
    let start = TextAddr::new(0x1000);
    let at = |word: i64| start.offset(4 * word);
    let text = TextRange::new(start, at(words.len() as i64));
    let read = |at: TextAddr| words[((at.get() - 0x1000) / 4) as usize];
    let of = |entry: i64, functions: &[i64]| {
        let begins = |addr: TextAddr| functions.iter().any(|function| at(*function) == addr);
        let decoded = Callsite::of_function(at(entry), text, begins, read);
        decoded.map(|(callsite, state)| (callsite.function(), callsite.mov_addr(), callsite.form().prefix, state))
    };
    let (none, literal, compiled) = (Prefix::None, Prefix::Literal, State::Compiled);
    assert_eq!(of(0, &[2]), Ok((at(2), at(3), literal, compiled)));
    assert_eq!(of(6, &[2, 6]), Ok((at(6), at(6), none, compiled)));
    // GCC's entries were once at the BTI C.
    assert_eq!([of(9, &[9]), of(10, &[9])], [Ok((at(9), at(10), none, compiled)); 2]);
    assert_eq!(of(12, &[12]), Ok((at(12), at(12), none, compiled)));
    for (entry, functions, refusal) in [
        (6, &[7][..], Refusal::PrefixSize { nops: 1 }),
        (10, &[13], Refusal::PrefixSize { nops: 3 }),
        (10, &[14], Refusal::PrefixSize { nops: 4 }),
        (6, &[], Refusal::NoFunction),
        (6, &[9], Refusal::NoFunction),
        (5, &[6], Refusal::NoFunction),
        (15, &[15], Refusal::OutsideText),
        (14, &[16], Refusal::OutsideText),
        (8, &[8], Refusal::NotPatchable { found: [1, BTI_C] }),
        (13, &[15], Refusal::NotPatchable { found: [NOP, 1] }),
    ] {
        assert_eq!(of(entry, functions), Err(refusal), "{entry} in {functions:?}");
    }
    let begins = |_: TextAddr| true;
    assert_eq!(Callsite::of_function(start.offset(2), text, begins, read), Err(Refusal::Misaligned));
}

#[test]
fn a_refusal_says_what_is_wrong() {
    for (refusal, said) in [
        (Refusal::Misaligned, "its address is not a multiple of 4"),
        (Refusal::OutsideText, "its instructions are not inside the text"),
        (Refusal::Duplicate, "another entry names the same instructions"),
        (Refusal::Overlapping, "another entry names one of the two instructions as well"),
        (Refusal::InUse, "it is initialised or enabled already"),
        (Refusal::NoFunction, "no function begins where it could belong to one, as far as symbols say"),
        (Refusal::NotPatchable { found: [NOP, 0xd65f_03c0] }, "expected nop; nop and found nop; ret"),
    ] {
        assert_eq!(refusal.to_string(), said);
    }
    assert!(Refusal::PrefixSize { nops: 3 }.to_string().starts_with("its function begins 3 NOPs behind it"));
    assert!(Refusal::CallingConvention.to_string().contains("x9 to x17"));
}
