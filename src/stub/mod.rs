//! All code that a callsite can reach: the entry and return assembly, and the stubs generated for each set of ops.
//!
//! [`entry`] and [`exit`] are linked into the kernel; the rest of this room generates stubs, each of which does just what
//! its set of ops asks for, and [`room`] keeps the text that they are in. What a callsite calls follows from the ops on it
//! alone, so callsites with the same ops share a stub, and a callsite never pays for an ops of another one.
//! [`StubPlan::code`] makes the instructions. First come those of the set's counters and recorders, which need no frame
//! ([`counting`]), and then
//!
//! | the rest of the set | the rest of the stub |
//! |---|---|
//! | nothing | a return to the function |
//! | one callback for [`FtraceRegs`](crate::FtraceRegs) | saves, calls that callback, restores: no list, no load of a pointer |
//! | one injection | the same, behind a test of whether this call is due, which saves nothing ([`due`]) |
//! | one return hook | the same, and puts the return address on the shadow stack; without a handler at the entry it saves nothing |
//! | several of these, or all registers | a list of them, and a jump to [`entry`]'s assembly |
//! | a direct trampoline | a jump; where it is all of the set, for callsites whose BL doesn't reach the trampoline itself |
//!
//! Functions that are called by a pointer, and not by a callsite, are generated in the same room ([`member`]); and so are
//! trampolines that a callsite calls itself, for typed handlers at one function ([`attached`]).
//!
//! A stub begins with BTI C for the veneers of regions out of BL's reach; a BL goes to the instruction behind it. All of
//! them find the guard as the assembly does, end as it does, and leave the same picture on the stack.

mod attached;
mod code;
mod counting;
mod due;
pub(crate) mod entry;
pub(crate) mod exit;
mod frame;
mod hook;
mod member;
mod room;
mod single;
mod slice_vec;
#[cfg(test)]
mod tests;

pub(crate) use attached::{
    ARGUMENT_REGISTERS, CallShape, Handler, HandlerKind, MAX_HANDLERS, MAX_STACK_WORDS, Part, ResultPlace,
    TrampolinePlan,
};
pub(crate) use code::{Code, CodeMemory};
pub(crate) use counting::FramelessPart;
pub(crate) use entry::StubEnv;
pub(crate) use member::{BTI_JC, MemberCondition, MemberEnd, MemberHeader, MemberPlan};
pub(crate) use room::{StubBlock, StubRoom};
pub(crate) use slice_vec::SliceVec;

use crate::address::TextAddr;
use crate::callsite::BTI_C;
use crate::ops::{Action, Ops, OpsFlags};
use code::{COUNT_WORDS, REST_WORDS};
use frame::RETURN_TO_FUNCTION;

// The longest stub: a member takes the most as a count, and two words in a list.
const _: () = assert!(
    counting::RECORD_WORDS + hook::MAX_BYTES / 4 + TAIL_WORDS <= REST_WORDS
        && counting::RECORD_WORDS + due::WORDS + single::MAX_BYTES / 4 + TAIL_WORDS <= REST_WORDS
        && COUNT_WORDS >= 2,
    "a stub's code has no room"
);

/// The most words besides the parts and a list's ops: BTI C, a jump, the alignment of literals twice, a list's other three.
const TAIL_WORDS: usize = 1 + 4 + 2 + 2 * 3;

/// The bytes between a stub's start and where a BL goes: BTI C.
pub(crate) const LANDING_PAD_BYTES: i64 = 4;

/// What a stub does.
pub(crate) struct StubPlan<'a> {
    /// What comes first.
    pub(crate) parts: &'a [FramelessPart],
    /// The callbacks, in the order in which they are called.
    pub(crate) callbacks: &'a [&'static Ops],
    /// Where it goes on instead of in the function.
    pub(crate) direct: Option<TextAddr>,
}

impl StubPlan<'_> {
    /// Returns the most bytes that the stub takes.
    pub(crate) fn bytes(&self) -> usize {
        let is_live = |ops: &Ops| !ops.flags().contains(OpsFlags::SAVE_REGS);
        let rest = match (self.callbacks, self.direct) {
            ([only], None) if is_live(only) && matches!(only.action(), Action::Return) => hook::MAX_BYTES + 4,
            ([only], None) if is_live(only) && matches!(only.action(), Action::Inject) => {
                single::MAX_BYTES + 4 * (1 + due::WORDS)
            }
            ([only], None) if is_live(only) => single::MAX_BYTES + 4,
            (callbacks, _) => (TAIL_WORDS + 2 * callbacks.len()) * 4,
        };
        rest + self.parts.iter().map(FramelessPart::words).sum::<usize>() * 4
    }

    /// Generates the stub for address `at`, which [`Code::end`] ends. (Apart from that, so that what generates the last of it
    /// has nothing of this on the stack.)
    pub(crate) fn code(&self, code: &mut Code, at: TextAddr, env: &StubEnv) {
        code.begin(at);
        code.word(BTI_C);
        self.parts.iter().for_each(|part| part.generate(code, env.atomics));
        match (self.callbacks, self.direct) {
            ([], Some(trampoline)) => code.jump(trampoline),
            ([], None) => code.words_of(&RETURN_TO_FUNCTION),
            ([only], None) if only.flags().contains(OpsFlags::SAVE_REGS) => code.list(self.callbacks, None, &env.stubs),
            ([only], None) if matches!(only.action(), Action::Return) => hook::generate(code, only, env),
            ([only], None) => {
                if matches!(only.action(), Action::Inject) {
                    due::generate(code, only, env);
                }
                single::generate(code, only, env);
            }
            (callbacks, direct) => code.list(callbacks, direct, &env.stubs),
        }
    }
}
