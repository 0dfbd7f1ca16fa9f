//! The stub for one callback: everything is known when it is made, so nothing is looked up when it runs.

use super::code::Code;
use super::entry::{StubEnv, add, mrs};
use super::frame::{ARGUMENTS, HAS_SIMD, RESTORE, RESTORE_SIMD, RESTORE_X8, RET_X9, SAVE, SAVE_SIMD, single};
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::insn::{Insn, PairMode, Reg, RegOrSp, Width, Zero};
use crate::ops::{Action, Ops, OpsFlags};
use core::mem::offset_of;

/// The most bytes that it takes.
pub(super) const MAX_BYTES: usize = 4 * (40 + 2 * SAVE_SIMD.len() + 10);

/// Appends the stub to `code`, which has its landing pad.
#[inline(never)]
pub(super) fn generate(code: &mut Code, ops: &'static Ops, env: &StubEnv) {
    let StubEnv { stubs, context: base, .. } = env;
    let safe = ops.flags().contains(OpsFlags::RECURSION_SAFE);
    code.word(mrs(base.register));
    let not_ready = code.forward();
    let mut offset = base.offset;
    if matches!(ops.action(), Action::Inject) {
        // Its callback looks for the context, which the others do not.
        add_offset(code, offset);
        offset = 0;
    }
    let busy = i64::from(offset) + offset_of!(TraceContext, busy) as i64;
    load_busy(code, busy);
    let in_callback = (!safe).then(|| code.forward());
    store_busy(code, Reg::X10, busy);
    code.words_of(&SAVE);
    if safe {
        code.word(const { single(PairMode::PreIndex) });
    }
    if HAS_SIMD {
        code.words_of(&SAVE_SIMD);
    }
    code.words_of(&ARGUMENTS);
    let load_ops = code.forward();
    let callback = TextAddr::new((ops.callback as *const ()).addr() as u64);
    let load_callback = code.call(callback);
    if HAS_SIMD {
        code.words_of(&RESTORE_SIMD);
    }
    if safe {
        code.word(const { single(PairMode::PostIndex) });
    }
    code.word(RESTORE_X8);
    store_busy(code, if safe { Reg::X11 } else { Reg::XZR }, busy);
    code.words_of(&RESTORE);
    code.word(RET_X9);

    let mut missed = None;
    if let Some(from) = in_callback {
        code.branch_here(from, Zero::NonZero, Width::X, Reg::X11);
        if offset != 0 {
            add_offset(code, offset);
        }
        missed = Some(code.hand_list_to(stubs.miss));
    }
    code.branch_here(not_ready, Zero::Zero, Width::X, Reg::X10);
    let skipped = code.hand_list_to(stubs.skip);
    let list = match missed {
        Some(missed) => code.place_list(&[missed, skipped], Reg::X11, &[ops], None),
        None => code.place_list(&[skipped], Reg::X11, &[ops], None),
    };
    // The first ops, behind the word that says whether one is recursion-safe.
    code.load_from(load_ops, Reg::X2, list.offset(8));
    if let Some(from) = load_callback {
        let at = code.here();
        code.load_from(from, Reg::X16, at);
        code.literal(callback.get());
    }
}

// Apart, so that the row of them above has the stack of none.
#[inline(never)]
fn add_offset(code: &mut Code, offset: u16) {
    code.try_word(add(offset));
}

#[inline(never)]
fn load_busy(code: &mut Code, busy: i64) {
    code.try_insn(Insn::ldr(Reg::X11, RegOrSp::X10, busy));
}

#[inline(never)]
fn store_busy(code: &mut Code, from: Reg, busy: i64) {
    code.try_insn(Insn::str(from, RegOrSp::X10, busy));
}
