use crate::address::TextAddr;
use crate::trampoline::attach::leaf::follow;

const START: u64 = 0x4000;
const RET: u32 = 0xd65f_03c0;
const NOP: u32 = 0xd503_201f;

/// How many instructions there are, if none of them calls.
fn instructions(words: &[u32]) -> Option<u64> {
    let word = |at: TextAddr| words.get(((at.get() - START) / 4) as usize).copied();
    follow(TextAddr::new(START), word).map(|range| range.len() / 4)
}

#[test]
fn what_ends_in_returns_only_calls_nothing() {
    assert_eq!(instructions(&[NOP, RET]), Some(2));
    // cbz x0, #12; add x0, x0, #1; ret; mov x0, x1; ret
    assert_eq!(instructions(&[0xb400_0060, 0x9100_0400, RET, 0xaa01_03e0, RET]), Some(5));
    // ldxr x9, [x0]; add x9, x9, #1; stxr w10, x9, [x0]; cbnz w10, #-12; ret
    assert_eq!(instructions(&[0xc85f_7c09, 0x9100_0529, 0xc80a_7c09, 0x35ff_ffaa, RET]), Some(5));
    // b #8, over what nobody comes to
    assert_eq!(instructions(&[0x1400_0002, 0x9400_0100, RET]), Some(3));
}

#[test]
fn what_calls_or_leads_elsewhere_or_is_not_known_may_call() {
    for word in [
        0x9400_0100, // bl
        0xd63f_0100, // blr x8
        0xd61f_0200, // br x16
        0x17ff_fffe, // b #-8
        0x1400_0100, // b #1024
        0xd420_0000, // brk #0
        0xd400_0001, // svc #0
        0xd65f_0120, // ret x9
        0xd69f_03e0, // eret
        0x0000_0000, // udf #0
    ] {
        assert_eq!(instructions(&[NOP, word, RET]), None, "{word:#010x}");
    }
    // Beyond what there is, or can be followed.
    assert_eq!(instructions(&[NOP]), None);
    assert_eq!(instructions(&[NOP; 200]), None);
    let mut longest = [NOP; 128];
    longest[127] = RET;
    assert_eq!(instructions(&longest), Some(128));
}
