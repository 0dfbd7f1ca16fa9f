//! What callers check, and what would pass, in text that is words of a test.

use crate::address::TextAddr;
use crate::trampoline::check::{CallCheck, NotText};
use crate::trampoline::{InUse, Member, OpsError, OpsStruct};
use std::vec;
use std::vec::Vec;
extern crate std;

const BASE: u64 = 0x4000;
const HASH: u32 = 0xd788_111f;
const OTHER: u32 = 0x8ab4_0d21;
const NOP: u32 = 0xd503_201f;
const RET: u32 = 0xd65f_03c0;
const STUB: u64 = BASE + 0x100;
const FUNCTION: u64 = BASE + 0x200;

#[derive(Clone, Copy)]
#[repr(C)]
struct Table {
    member: Option<extern "C" fn()>,
}

// SAFETY: 1. and 5. so it is. 2. to 4. Nobody calls anything.
unsafe impl OpsStruct for Table {
    const NAME: &'static str = "table";
    const MEMBERS: &'static [Member] =
        &[Member::new("member", 0, false, core::ptr::without_provenance(STUB as usize), None, &[])];
    type Calls = InUse<Self>;

    fn caller() -> TextAddr {
        TextAddr::new(BASE)
    }

    fn calls(table: &InUse<Self>) -> &Self::Calls {
        table
    }
}

/// Words, each piece at its address.
struct Text(Vec<(u64, Vec<u32>)>);

impl Text {
    fn word(&self, at: TextAddr) -> Option<u32> {
        let word = |(start, words): &(u64, Vec<u32>)| {
            words.get(usize::try_from(at.get().checked_sub(*start)? / 4).ok()?).copied()
        };
        self.0.iter().find_map(word)
    }

    fn check(&self) -> Result<Option<CallCheck>, NotText> {
        CallCheck::of_caller(TextAddr::new(BASE), |at| self.word(at).ok_or(NotText))
    }
}

/// A caller, as LLVM makes it (llvm-mc): a landing pad, a frame, arguments, the check, the call.
fn caller(words_between: u32) -> Vec<u32> {
    let bytes = 4 + 4 * words_between;
    let load = 0xb840_0110 | (bytes.wrapping_neg() & 0x1ff) << 12; // ldur w16, [x8, #-bytes]
    let check = [load, 0x7282_23f1, 0x72ba_f111, 0x6b11_021f, 0x5400_0040, 0xd430_4500, 0xd63f_0100];
    [&[0xd503_245f, NOP, NOP, 0xa9bf_7bfd, 0xaa00_03e8], &check[..], &[0xa8c1_7bfd, RET]].concat()
}

#[test]
fn a_caller_tells_where_it_looks_for_a_hash() {
    for words_between in [0, 1, 2, 63] {
        let text = Text(vec![(BASE, caller(words_between))]);
        assert_eq!(text.check(), Ok(Some(CallCheck { words_between })));
    }
    // With the sequence's end at once, as a tail call has it: br x8.
    let mut words = caller(2);
    words.truncate(11);
    words.push(0xd61f_0100);
    assert_eq!(Text(vec![(BASE, words)]).check(), Ok(Some(CallCheck { words_between: 2 })));
}

#[test]
fn what_is_no_check_is_not_taken_for_one() {
    let is_none = |words: Vec<u32>| assert_eq!(Text(vec![(BASE, words.clone())]).check(), Ok(None), "{words:x?}");
    let without = |index: usize, word: u32| {
        let mut words = caller(0);
        words[index] = word;
        words
    };
    // No load, a load by another register, another distance than words, no branch, another BRK.
    for (index, word) in [(5, NOP), (5, 0xb85f_c130), (5, 0xb85f_a110), (9, NOP), (10, 0xd420_0020)] {
        is_none(without(index, word));
    }
    // A check of the function behind it, a caller that checks nothing, nothing at all.
    is_none([vec![0xd61f_0000], caller(0)].concat());
    is_none([vec![RET], caller(0)].concat());
    is_none(vec![NOP; 200]);
    // Text that ends, and none, tell nothing.
    for words in [caller(0)[..10].to_vec(), vec![]] {
        assert_eq!(Text(vec![(BASE, words)]).check(), Err(NotText));
    }
}

/// What becomes of a function that has these words before it, where callers look so far from the entry.
fn judged(words_between: u32, before: &[u32]) -> Result<(), OpsError> {
    let stub = [&[HASH][..], &vec![NOP; words_between as usize]].concat();
    let text = Text(vec![(STUB - 4 * stub.len() as u64, stub), (FUNCTION - 4 * before.len() as u64, before.to_vec())]);
    let [member] = Table::MEMBERS else { panic!("one") };
    CallCheck { words_between }.member(Table::NAME, member, TextAddr::new(FUNCTION), |at| text.word(at))
}

#[test]
fn a_hash_passes_where_callers_look_for_it_and_nowhere_else() {
    let (ops, member, function, expected) = ("table", "member", TextAddr::new(FUNCTION), HASH);
    assert_eq!(judged(0, &[RET, HASH]), Ok(()));
    assert_eq!(judged(2, &[RET, HASH, NOP, NOP]), Ok(()));
    assert_eq!(judged(0, &[OTHER]), Err(OpsError::OtherType { ops, member, function, expected, found: OTHER }));
    assert_eq!(
        judged(2, &[OTHER, NOP, NOP]),
        Err(OpsError::OtherType { ops, member, function, expected, found: OTHER })
    );
    for word in [RET, NOP, 0, 0xd420_0020, 0xd61f_0200] {
        assert_eq!(judged(0, &[word]), Err(OpsError::NoHash { ops, member, function, expected, found: word }));
    }
    let at = |words: u32, has: &[u32]| match judged(words, has) {
        Err(OpsError::OtherDistance { expected, found, .. }) => (expected, found),
        other => panic!("{other:?}"),
    };
    // The kernel's callers expect none or two words in between, the function has another number.
    assert_eq!(at(0, &[HASH, NOP, NOP]), (0, 2));
    assert_eq!(at(2, &[OTHER, RET, HASH]), (2, 0));
    assert_eq!(at(2, &[HASH, NOP, NOP, NOP]), (2, 3));
    // The hash of the function before it, whose code stands in between.
    let before = judged(0, &[HASH, 0xaa00_03e8, RET]);
    assert_eq!(before, Err(OpsError::NoHash { ops, member, function, expected, found: RET }));
}

#[test]
fn where_no_text_is_nothing_is_read() {
    let (ops, member) = ("table", "member");
    assert_eq!(judged(0, &[]), Err(OpsError::NotText { ops, member, function: TextAddr::new(FUNCTION) }));
    let [member] = Table::MEMBERS else { panic!("one") };
    let check = CallCheck { words_between: 0 };
    let nothing = check.member(Table::NAME, member, TextAddr::new(FUNCTION), |_| None);
    assert_eq!(nothing, Err(OpsError::NoStub { ops, member: "member", stub: TextAddr::new(STUB) }));
    let unaligned = check.member(Table::NAME, member, TextAddr::new(FUNCTION + 2), |_| Some(HASH));
    assert_eq!(unaligned, Err(OpsError::NotText { ops, member: "member", function: TextAddr::new(FUNCTION + 2) }));
}
