//! That there is room for the longest stubs, and that hardly more is kept for them.

use super::framed::{FAR, HOOK, env, ops, returning};
use super::{CPU, ON_CALLSITES};
extern crate std;

use crate::address::TextAddr;
use crate::ops::{Exit, MAX_OPS, Ops, OpsFlags, Probe};
use crate::platform::{BaseRegister, ContextBase};
use crate::stub::code::{COUNT_WORDS, REST_WORDS};
use crate::stub::frame::{HAS_SIMD, RESTORE_SIMD, SAVE_SIMD};
use crate::stub::{FramelessPart, StubEnv, StubPlan, TAIL_WORDS};
use core::sync::atomic::Ordering;
use std::boxed::Box;

/// Where no pair of loads reaches, and an ADD of the offset is needed.
const FAR_CONTEXT: ContextBase = ContextBase { register: BaseRegister::SpEl0, offset: 4080 };

/// The hook that takes most: its entry is out of reach, and it is only for calls inside others.
fn longest_hook() -> &'static Ops {
    let mut ops = Ops::returning::<Nested>().only_inside_hooked_calls();
    ops.entry = returning(Some(FAR), OpsFlags::empty()).entry;
    ops.hook.store(HOOK, Ordering::Relaxed);
    Box::leak(Box::new(ops.with_flags(OpsFlags::IPMODIFY)))
}

struct Nested;

impl Probe for Nested {
    type Data = ();

    fn exit(_: &mut Exit<'_>, (): &()) {}
}

/// How many words the stub takes at most, wherever its literals come to stand; and for how many there is room.
fn longest(parts: &[FramelessPart], callbacks: &[&'static Ops], direct: Option<TextAddr>) -> (usize, usize) {
    let plan = StubPlan { parts, callbacks, direct };
    let room = plan.bytes() / 4;
    let words = [0x100, 0x104].map(|place| {
        let mut code = super::place();
        let env = StubEnv { cpu: Some(CPU), ..env(FAR_CONTEXT) };
        plan.code(&mut code, super::framed::at(place), &env);
        code.end().unwrap();
        assert!(code.fits(room), "{} of {room} words", code.words().len());
        code.words().len()
    });
    (words[0].max(words[1]), room)
}

/// What a stub for arm64 with SIMD registers in its ABI has, and one for this host has not.
const SIMD_WORDS: usize = if HAS_SIMD { 0 } else { SAVE_SIMD.len() + RESTORE_SIMD.len() };

/// How many words are kept for such stubs that none of them takes. Below zero a stub is refused; far above it the room for
/// stubs is wasted.
#[test]
fn the_longest_stub_of_each_kind_has_room_and_hardly_more_is_kept_for_it() {
    let hook = longest_hook();
    let callback = ops(FAR, OpsFlags::empty());
    let safe = ops(FAR, OpsFlags::RECURSION_SAFE);
    let unused = |parts: &[FramelessPart], callbacks: &[&'static Ops], direct, simd| {
        let (words, room) = longest(parts, callbacks, direct);
        room - words - simd
    };
    assert_eq!(unused(&[], &[hook], None, SIMD_WORDS), 12);
    assert_eq!(unused(&[], &[callback], None, SIMD_WORDS).min(unused(&[], &[safe], None, SIMD_WORDS)), 5);
    // As a callback, with its test before it.
    let injection: &'static Ops = Box::leak(Box::new(Ops::injecting(callback.callback)));
    assert_eq!(unused(&[], &[injection], None, SIMD_WORDS), 6);
    // A list takes one word to jump, never four; a jump takes no list.
    assert_eq!(unused(&[], &[callback, hook], Some(TextAddr::new(FAR)), 0), 3);
    assert_eq!(unused(&[], &[], Some(TextAddr::new(FAR)), 0), TAIL_WORDS - 5);
    // A count for a callsite is the longest, and all of them have the literal aligned once.
    for parts in [1, 2, 10].map(|count| [FramelessPart::CountCallsite(&ON_CALLSITES)].repeat(count)) {
        assert_eq!(unused(&parts, &[callback, hook], None, 0), 3, "{} counts", parts.len());
    }
    assert_eq!(unused(&[FramelessPart::Record { base: CPU, arguments: 4 }], &[callback, hook], None, 0), 3);
}

#[test]
fn the_longest_stub_of_all_has_room_while_it_is_made_and_hardly_more_is_kept_for_it() {
    let mut parts = [FramelessPart::CountCallsite(&ON_CALLSITES)].repeat(MAX_OPS - 2);
    parts.push(FramelessPart::Record { base: CPU, arguments: 4 });
    let hook = longest_hook();
    let (words, _) = longest(&parts, &[hook], None);
    // Two of the members are no counts; and a tail comes with a list only.
    assert_eq!(MAX_OPS * COUNT_WORDS + REST_WORDS - words - SIMD_WORDS, 42);
}
