//! The stub for one return hook: takes a frame of the shadow stack, calls the handler at the entry if there is one, and goes
//! on in the function with the return stub as its return address.
//!
//! Without such a handler no register needs saving: x10 to x17 are enough. An ops that is only for calls inside hooked ones
//! lets others go 10 instructions after the callsite.

use super::code::{Code, Placeholder};
use super::entry::{StubEnv, Stubs, add, mrs};
use super::frame::{
    HAS_SIMD, RESTORE, RESTORE_SIMD, RESTORE_X8, RET_X9, RETURN_TO_FUNCTION, SAVE, SAVE_SIMD, encoded, pair_at,
};
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::context::regs::SavedRegs;
use crate::context::shadow::ShadowFrame;
use crate::insn::{
    AddSub, ArithShift, BitPos, BitmaskImm, Branch, CompareWith, Cond, DataImm, DataReg, Flags, Insn, Logical,
    PairAccess, PairMode, Reg, RegOrSp, SysReg, UImm, Width, Zero,
};
use crate::ops::{DECLINED, Ops, OpsFlags};
use crate::platform::ContextBase;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

/// The most bytes that it takes.
pub(super) const MAX_BYTES: usize = 4 * (90 + 2 * SAVE_SIMD.len() + 16);

const FRAME: u32 = size_of::<ShadowFrame>() as u32;
const TIME: i64 = offset_of!(ShadowFrame, entry_time) as i64;
const HOOK: i64 = offset_of!(ShadowFrame, hook) as i64;
/// From `top`: the SP of the frame below, whose neighbour is the first word of the one that would be taken.
const SP_BELOW: i64 = offset_of!(ShadowFrame, sp) as i64 - FRAME as i64;

const MOV_X13_SP: u32 = encoded(Insn::add_imm(RegOrSp::X13, RegOrSp::SP, 0));
const MRS_X14_CNTVCT: u32 = Insn::mrs(Reg::X14, SysReg::CNTVCT_EL0).encode();
const LOAD_SP_AND_FIRST: u32 = pair_at(PairAccess::LoadX, Reg::X14, Reg::X12, RegOrSp::X11, PairMode::Offset, SP_BELOW);
const CMP_X13_X14: u32 = add_sub(AddSub::Sub, Flags::Set, Reg::XZR, Reg::X13, Reg::X14);
/// `CCMP X12, #0, #0, LO`: equal if the SP is below that of the top frame, and the next frame is free.
const AND_IS_FREE: u32 = {
    let (Ok(none), Ok(nzcv)) = (UImm::new(0), UImm::new(0)) else { panic!("zero fits") };
    let with = CompareWith::Imm(none);
    Insn::DataReg(DataReg::CondCompare { op: AddSub::Sub, width: Width::X, rn: Reg::X12, with, nzcv, cond: Cond::Lo })
        .encode()
};
/// The frame, without the bit that says whether the handler has declined.
const X11_IS_FRAME: u32 = {
    let Ok(imm) = BitmaskImm::new(Width::X, !(DECLINED as u64)) else { panic!("a run of ones") };
    Insn::DataImm(DataImm::Logical { op: Logical::And, rd: RegOrSp::X11, rn: Reg::X0, imm }).encode()
};
/// SP and the hook's id, which make the frame tell who it is; then what makes it valid, so last: `return_address` and
/// `function`.
const STORE_HOOK_AND_SP: u32 = pair_at(PairAccess::StoreX, Reg::X15, Reg::X13, RegOrSp::X11, PairMode::Offset, HOOK);
const STORE_ADDRESSES: u32 = pair_at(PairAccess::StoreX, Reg::X9, Reg::X30, RegOrSp::X11, PairMode::Offset, 0);

/// Appends the stub to `code`, which has its landing pad.
#[inline(never)]
pub(super) fn generate(code: &mut Code, ops: &'static Ops, env: &StubEnv) {
    let StubEnv { stubs, context: base, .. } = env;
    let context = Context { base: *base };
    code.word(mrs(base.register));
    let not_ready = code.forward();
    // x12 = `busy`, x11 = the frame
    context.load_busy_and_top(code);
    let in_callback = code.forward();
    code.word(LOAD_SP_AND_FIRST);
    let outside = ops.only_inside.then(|| {
        // Below the outermost hooked call SP is all ones.
        code.word(const { encoded(Insn::add_imm(RegOrSp::X13, RegOrSp::X14, 1)) });
        code.forward()
    });
    code.word(MOV_X13_SP);
    code.word(CMP_X13_X14);
    code.word(AND_IS_FREE);
    let stale_or_full = code.forward();
    code.word(const { encoded(Insn::add_imm(RegOrSp::X12, RegOrSp::X11, FRAME)) });
    match ops.entry {
        None => {
            context.store_top(code, Reg::X12);
            without_entry(code, ops, stubs);
        }
        Some(entry) => {
            context.store_busy_and_top(code);
            let entry = TextAddr::new((entry as *const ()).addr() as u64);
            let declined = with_entry(code, ops, entry, stubs, &context);
            let_go(code, &declined, &context);
        }
    }

    if let Some(outside) = outside {
        code.branch_here(outside, Zero::Zero, Width::X, Reg::X13);
        code.words_of(&RETURN_TO_FUNCTION);
    }

    code.branch_here(in_callback, Zero::NonZero, Width::X, Reg::X12);
    context.address(code);
    let missed = code.hand_list_to(stubs.miss);

    // Not simply full: `hook` finds out what is over, what only looks so, and whether there is room then.
    code.branch_if_here(stale_or_full, Cond::Ne);
    code.word(CMP_X13_X14);
    let stale = code.forward();
    code.word(const { encoded(Insn::add_imm(RegOrSp::X12, RegOrSp::X12, 1)) });
    let not_the_end = code.forward();
    context.count_overflow(code);
    code.branch_here(not_ready, Zero::Zero, Width::X, Reg::X10);
    let skipped = code.hand_list_to(stubs.skip);
    code.branch_if_here(stale, Cond::Hs);
    code.branch_here(not_the_end, Zero::NonZero, Width::X, Reg::X12);
    let walked = code.hand_list_to(stubs.caller.entry);
    code.place_list(&[missed, skipped, walked], Reg::X11, &[ops], None);
}

/// Fills the frame, and returns to the function.
#[inline(never)]
fn without_entry(code: &mut Code, ops: &'static Ops, stubs: &Stubs) {
    code.word(MRS_X14_CNTVCT);
    code.word(const { store_time(Reg::X14) });
    let load_hook = code.forward();
    code.word(STORE_HOOK_AND_SP);
    code.word(STORE_ADDRESSES);
    code.word(const { Insn::mov(Reg::X10, Reg::X30).encode() });
    let load_stub = code.forward();
    code.word(const { Insn::Branch(Branch::Ret { rn: Reg::X10 }).encode() });
    literals(code, ops, stubs, load_hook, load_stub);
}

/// Where the stub goes if the call is not hooked after all.
struct Declined {
    by_handler: Placeholder,
    answered: Option<Placeholder>,
}

/// Fills the frame, calls the handler, and returns to the function.
#[inline(never)]
fn with_entry(code: &mut Code, ops: &'static Ops, entry: TextAddr, stubs: &Stubs, context: &Context) -> Declined {
    let load_hook = code.forward();
    code.word(const { store_time(Reg::XZR) });
    code.word(STORE_HOOK_AND_SP);
    code.word(STORE_ADDRESSES);
    code.words_of(&SAVE);
    if HAS_SIMD {
        code.words_of(&SAVE_SIMD);
    }
    code.word(const { Insn::mov(Reg::X0, Reg::X11).encode() });
    code.word(const { Insn::mov(Reg::X1, Reg::X29).encode() });
    let load_entry = code.call(entry);
    if HAS_SIMD {
        code.words_of(&RESTORE_SIMD);
    }
    code.word(RESTORE_X8);
    context.store(code, Reg::XZR, offset_of!(TraceContext, busy));
    let by_handler = code.forward();
    let answered = if ops.flags().contains(OpsFlags::IPMODIFY) {
        const PC: i64 = offset_of!(SavedRegs, function_record) as i64 + 8;
        const RETURN_ADDRESS: i64 = offset_of!(SavedRegs, caller_record) as i64 + 8;
        code.word(const { encoded(Insn::ldr(Reg::X12, RegOrSp::SP, PC)) });
        code.word(const { encoded(Insn::ldr(Reg::X13, RegOrSp::SP, RETURN_ADDRESS)) });
        code.word(const { add_sub(AddSub::Sub, Flags::Set, Reg::XZR, Reg::X12, Reg::X13) });
        Some(code.forward())
    } else {
        None
    };
    code.word(MRS_X14_CNTVCT);
    code.word(const { encoded(Insn::str(Reg::X14, RegOrSp::X0, TIME)) });
    code.words_of(&RESTORE);
    let load_stub = code.forward();
    code.word(RET_X9);
    literals(code, ops, stubs, load_hook, load_stub);
    if let Some(from) = load_entry {
        let at = code.here();
        code.load_from(from, Reg::X16, at);
        code.literal(entry.get());
    }
    Declined { by_handler, answered }
}

/// Goes on where the handler has let the call go, or answered for the function: all is as without, but for where it goes on.
#[inline(never)]
fn let_go(code: &mut Code, Declined { by_handler, answered }: &Declined, context: &Context) {
    code.test_branch_here(*by_handler, Zero::NonZero, Reg::X0, DECLINED.trailing_zeros());
    if let Some(answered) = *answered {
        code.branch_if_here(answered, Cond::Eq);
    }
    // Its own, whatever an interrupt has left above it.
    code.word(X11_IS_FRAME);
    code.word(const { encoded(Insn::str(Reg::XZR, RegOrSp::X11, 0)) });
    context.store_top(code, Reg::X11);
    code.words_of(&RESTORE);
    code.word(RET_X9);
}

/// The hook's id, to X15, and the address of the return stub, to X30, for these two loads.
#[inline(never)]
fn literals(code: &mut Code, ops: &'static Ops, stubs: &Stubs, load_hook: Placeholder, load_stub: Placeholder) {
    code.align();
    let at = code.here();
    code.load_from(load_hook, Reg::X15, at);
    code.literal(ops.hook.load(Ordering::Relaxed));
    let at = code.here();
    code.load_from(load_stub, Reg::X30, at);
    code.literal(stubs.returning.entry.get());
}

/// `entry_time`, and nothing `inside`.
const fn store_time(time: Reg) -> u32 {
    pair_at(PairAccess::StoreX, time, Reg::XZR, RegOrSp::X11, PairMode::Offset, TIME)
}

/// The fields of the context, from the base in x10.
struct Context {
    base: ContextBase,
}

impl Context {
    /// x10 = the context.
    #[inline(never)]
    fn address(&self, code: &mut Code) {
        code.try_word(add(self.base.offset));
    }

    #[inline(never)]
    fn load(&self, code: &mut Code, rt: Reg, field: usize) {
        code.try_insn(Insn::ldr(rt, RegOrSp::X10, i64::from(self.base.offset) + field as i64));
    }

    /// x12 = `busy`, x11 = `top`: neighbours, which one LDP loads where its offset reaches.
    #[inline(never)]
    fn load_busy_and_top(&self, code: &mut Code) {
        let (busy, top) = (offset_of!(TraceContext, busy), offset_of!(TraceContext, calls.top));
        let at = i64::from(self.base.offset) + busy as i64;
        match Insn::pair(PairAccess::LoadX, Reg::X12, Reg::X11, RegOrSp::X10, PairMode::Offset, at) {
            Ok(insn) => code.word(insn.encode()),
            Err(_) => {
                self.load(code, Reg::X12, busy);
                self.load(code, Reg::X11, top);
            }
        }
    }

    fn store_top(&self, code: &mut Code, top: Reg) {
        self.store(code, top, offset_of!(TraceContext, calls.top));
    }

    /// `top` = x12, and `busy` = x10.
    #[inline(never)]
    fn store_busy_and_top(&self, code: &mut Code) {
        let busy = offset_of!(TraceContext, busy);
        let at = i64::from(self.base.offset) + busy as i64;
        match Insn::pair(PairAccess::StoreX, Reg::X10, Reg::X12, RegOrSp::X10, PairMode::Offset, at) {
            Ok(insn) => code.word(insn.encode()),
            Err(_) => {
                self.store_top(code, Reg::X12);
                self.store(code, Reg::X10, busy);
            }
        }
    }

    #[inline(never)]
    fn store(&self, code: &mut Code, rt: Reg, field: usize) {
        code.try_insn(Insn::str(rt, RegOrSp::X10, i64::from(self.base.offset) + field as i64));
    }

    /// With an exclusive store, which an interrupt that counts as well makes fail.
    #[inline(never)]
    fn count_overflow(&self, code: &mut Code) {
        // Together they may be more than one ADD reaches.
        self.address(code);
        code.try_insn(Insn::add_imm(RegOrSp::X10, RegOrSp::X10, offset_of!(TraceContext, calls.overflows) as u32));
        code.increment(false);
    }
}

const fn add_sub(op: AddSub, flags: Flags, rd: Reg, rn: Reg, rm: Reg) -> u32 {
    let (shift, amount) = (ArithShift::Lsl, BitPos::zero(Width::X));
    Insn::DataReg(DataReg::AddSub { op, flags, rd, rn, rm, shift, amount }).encode()
}
