//! The test before an injection's callback: whether this call is due.
//!
//! A call is where the task counts injectable calls ([`TaskInjection::nth`]), or where as many have gone by as
//! [`Ops::due`] says, which the test counts down. Any other goes on in the function, 10 instructions after its callsite while
//! nothing is to fail at all, and 15 where calls are counted. X10 to X12 are used, as by [`counting`](super::counting).

use super::code::Code;
use super::counting::{again, load_exclusive, store_exclusive};
use super::entry::{StubEnv, mrs};
use super::frame::RETURN_TO_FUNCTION;
use crate::context::{TaskInjection, TraceContext};
use crate::insn::{Access, Insn, Reg, RegOrSp, Width, Zero};
use crate::ops::{NEVER_DUE_BIT, Ops};
use core::mem::offset_of;

/// The most words that it takes, with its literal.
pub(super) const WORDS: usize = 18;

/// Appends it to `code`, which has its landing pad. What comes behind is executed for the calls that are due.
#[inline(never)]
pub(super) fn generate(code: &mut Code, ops: &'static Ops, env: &StubEnv) {
    let base = env.context;
    let nth = offset_of!(TraceContext, injection) + offset_of!(TaskInjection, nth);
    code.word(mrs(base.register));
    let not_ready = code.forward();
    let nth = i64::from(base.offset) + nth as i64;
    code.try_insn(Insn::access(Access::LoadW, Reg::X11, RegOrSp::X10, nth));
    let counted_by_task = code.forward();
    code.load_x10(core::ptr::from_ref(ops.due()).expose_provenance() as u64);
    code.try_insn(Insn::ldr(Reg::X11, RegOrSp::X10, 0));
    let never = code.forward();
    code.insn(load_exclusive(Reg::X11, RegOrSp::X10));
    code.try_insn(Insn::sub_imm(RegOrSp::X11, RegOrSp::X11, 2));
    let due = code.forward();
    code.insn(store_exclusive(Reg::X12, Reg::X11, RegOrSp::X10));
    code.try_insn(again(Reg::X12, -4));
    code.test_branch_here(never, Zero::NonZero, Reg::X11, NEVER_DUE_BIT);
    code.branch_here(not_ready, Zero::Zero, Width::X, Reg::X10);
    code.words_of(&RETURN_TO_FUNCTION);
    code.branch_here(counted_by_task, Zero::NonZero, Width::W, Reg::X11);
    code.test_branch_here(due, Zero::NonZero, Reg::X11, u64::BITS - 1);
}
