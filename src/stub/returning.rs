//! The stub for one return hook: takes a frame of the shadow stack, calls the handler at the entry if there is one, and goes
//! on in the function with the return stub as its return address.
//!
//! Floor 3. Without such a handler no register needs saving: x10 to x17 are enough.

use super::pieces::{HAS_SIMD, LOAD_CONTEXT, RESTORE, RESTORE_SIMD, SAVE, SAVE_SIMD, encoded, pair_at};
use super::{Code, Forward, Ground};
use crate::address::TextAddr;
use crate::entry::{Stubs, add, mrs};
use crate::insn::{
    AddSub, AdrOffset, ArithShift, BitPos, Branch, BranchOffset, DataImm, DataReg, EncodeError, Flags, Insn,
    PairAccess, PairMode, Reg, RegOrSp, SysReg, Width, Zero,
};
use crate::ops::Ops;
use crate::platform::ContextBase;
use crate::recursion::TraceContext;
use crate::shadow::ShadowFrame;
use core::mem::offset_of;

/// The most bytes that it takes.
pub(super) const MAX_BYTES: usize = 4 * (70 + 2 * SAVE_SIMD.len() + 14);

const FRAME: u32 = size_of::<ShadowFrame>() as u32;
const SP: i64 = offset_of!(ShadowFrame, sp) as i64;
const TIME: i64 = offset_of!(ShadowFrame, entry_time) as i64;
const OPS: i64 = offset_of!(ShadowFrame, ops) as i64;
const DATA: u32 = offset_of!(ShadowFrame, data) as u32;

// Pairs of neighbours are stored at once.
const _: () = assert!(
    SP == 16
        && TIME == 24
        && offset_of!(ShadowFrame, function) == 8
        && offset_of!(ShadowFrame, inside) as i64 == OPS + 8
);

const MOV_X13_SP: u32 = encoded(Insn::add_imm(RegOrSp::X13, RegOrSp::SP, 0));
const MRS_X14_CNTVCT: u32 = Insn::mrs(Reg::X14, SysReg::CNTVCT_EL0).encode();
const X12_IS_ROOM: u32 = subtract(Reg::X12, Reg::X12, Reg::X11);
/// `return_address` and `function`.
const STORE_ADDRESSES: u32 = pair_at(PairAccess::StoreX, Reg::X9, Reg::X30, RegOrSp::X11, PairMode::Offset, 0);

/// Appends the stub to `code`, which has its landing pad.
pub(super) fn generate(code: &mut Code, ops: &'static Ops, ground: &Ground) -> Result<(), EncodeError> {
    let Ground { stubs, context: base, .. } = ground;
    let context = Context { base: *base };
    code.word(mrs(base.register));
    let not_ready = code.forward();
    // x11 = the frame, x12 = what is left of the stack: never less than a frame, but nothing at all.
    context.load_busy_and_top(code)?;
    let in_callback = code.forward();
    code.word(context.load(Reg::X12, offset_of!(TraceContext, shadow_end))?);
    code.word(X12_IS_ROOM);
    let full = code.forward();
    code.word(encoded(Insn::add_imm(RegOrSp::X12, RegOrSp::X11, FRAME)));
    let busy = ops.entry.is_some();
    context.store_busy_and_top(code, busy)?;
    code.word(MOV_X13_SP);

    let declined = match ops.entry {
        None => {
            without_entry(code, ops, stubs)?;
            None
        }
        Some(entry) => {
            let entry = TextAddr::new((entry as *const ()).addr() as u64);
            Some(with_entry(code, ops, entry, stubs, &context)?)
        }
    };
    if let Some(declined) = declined {
        // The handler has let the call go: its frame is given back, and all is as without.
        code.branch_here(declined, Zero::Zero, Width::X, Reg::X0)?;
        code.word(encoded(Insn::sub_imm(RegOrSp::X11, RegOrSp::X11, FRAME)));
        code.word(context.store(Reg::X11, offset_of!(TraceContext, shadow_top))?);
        code.words_of(&RESTORE);
    }

    let mut lists = [None, None];
    code.branch_here(in_callback, Zero::NonZero, Width::X, Reg::X12)?;
    code.word(add(base.offset)?);
    lists[0] = Some(code.forward());
    code.word(Insn::b(BranchOffset::between(code.here().get(), stubs.miss.get())?).encode());
    code.branch_here(full, Zero::Zero, Width::X, Reg::X12)?;
    code.word(context.load(Reg::X12, offset_of!(TraceContext, overflows))?);
    code.word(encoded(Insn::add_imm(RegOrSp::X12, RegOrSp::X12, 1)));
    code.word(context.store(Reg::X12, offset_of!(TraceContext, overflows))?);
    code.branch_here(not_ready, Zero::Zero, Width::X, Reg::X10)?;
    lists[1] = Some(code.forward());
    code.word(Insn::b(BranchOffset::between(code.here().get(), stubs.skip.get())?).encode());
    code.align();
    for from in lists.into_iter().flatten() {
        let offset = AdrOffset::between(code.address(&from).get(), code.here().get())?;
        code.set(from, Insn::DataImm(DataImm::Adr { rd: Reg::X11, offset }));
    }
    code.list_words(&[ops], None);
    Ok(())
}

/// Fills the frame, and returns to the function.
fn without_entry(code: &mut Code, ops: &'static Ops, stubs: &Stubs) -> Result<(), EncodeError> {
    code.word(MRS_X14_CNTVCT);
    code.word(STORE_ADDRESSES);
    code.word(pair_at(PairAccess::StoreX, Reg::X13, Reg::X14, RegOrSp::X11, PairMode::Offset, SP));
    let load_ops = code.forward();
    code.word(pair_at(PairAccess::StoreX, Reg::X15, Reg::XZR, RegOrSp::X11, PairMode::Offset, OPS));
    code.word(Insn::mov(Reg::X10, Reg::X30).encode());
    let load_stub = code.forward();
    code.word(Insn::Branch(Branch::Ret { rn: Reg::X10 }).encode());
    literals(code, ops, stubs, (load_ops, Reg::X15), (load_stub, Reg::X30))
}

/// Fills the frame, calls the handler, and returns to the function; where it goes if the handler lets the call go.
fn with_entry(
    code: &mut Code,
    ops: &'static Ops,
    entry: TextAddr,
    stubs: &Stubs,
    context: &Context,
) -> Result<Forward, EncodeError> {
    code.word(STORE_ADDRESSES);
    code.word(encoded(Insn::str(Reg::X13, RegOrSp::X11, SP)));
    code.words_of(&SAVE);
    if HAS_SIMD {
        code.words_of(&SAVE_SIMD);
    }
    code.word(encoded(Insn::sub_imm(RegOrSp::X0, RegOrSp::X30, 4)));
    code.word(Insn::mov(Reg::X1, Reg::X9).encode());
    let load_ops = code.forward();
    code.word(pair_at(PairAccess::StoreX, Reg::X2, Reg::XZR, RegOrSp::X11, PairMode::Offset, OPS));
    code.word(Insn::mov(Reg::X3, Reg::X29).encode());
    code.word(encoded(Insn::add_imm(RegOrSp::X4, RegOrSp::X11, DATA)));
    let load_entry = code.call(entry);
    if HAS_SIMD {
        code.words_of(&RESTORE_SIMD);
    }
    code.word(LOAD_CONTEXT);
    code.word(context.store(Reg::XZR, offset_of!(TraceContext, busy))?);
    code.word(context.load(Reg::X11, offset_of!(TraceContext, shadow_top))?);
    let declined = code.forward();
    code.word(MRS_X14_CNTVCT);
    let time = TIME - i64::from(FRAME);
    code.word(encoded(Insn::str(Reg::X14, RegOrSp::X11, time)));
    let [restore @ .., ret] = RESTORE;
    code.words_of(&restore);
    let load_stub = code.forward();
    code.word(ret);
    literals(code, ops, stubs, (load_ops, Reg::X2), (load_stub, Reg::X30))?;
    if let Some(from) = load_entry {
        let at = code.here();
        code.load_from(from, Reg::X16, at)?;
        code.literal(entry.get());
    }
    Ok(declined)
}

/// The addresses of the ops and of the return stub, for these two loads.
fn literals(
    code: &mut Code,
    ops: &'static Ops,
    stubs: &Stubs,
    (load_ops, ops_to): (Forward, Reg),
    (load_stub, stub_to): (Forward, Reg),
) -> Result<(), EncodeError> {
    code.align();
    let at = code.here();
    code.load_from(load_ops, ops_to, at)?;
    code.literal(core::ptr::from_ref(ops).expose_provenance() as u64);
    let at = code.here();
    code.load_from(load_stub, stub_to, at)?;
    code.literal(stubs.returning.entry.get());
    Ok(())
}

/// The fields of the context, from the base in x10.
struct Context {
    base: ContextBase,
}

impl Context {
    fn load(&self, rt: Reg, field: usize) -> Result<u32, EncodeError> {
        Insn::ldr(rt, RegOrSp::X10, i64::from(self.base.offset) + field as i64).map(Insn::encode)
    }

    /// x12 = `busy`, x11 = `shadow_top`: neighbours, which one LDP loads where its offset reaches.
    fn load_busy_and_top(&self, code: &mut Code) -> Result<(), EncodeError> {
        let (busy, top) = (offset_of!(TraceContext, busy), offset_of!(TraceContext, shadow_top));
        let at = i64::from(self.base.offset) + busy as i64;
        match Insn::pair(PairAccess::LoadX, Reg::X12, Reg::X11, RegOrSp::X10, PairMode::Offset, at) {
            Ok(insn) => code.word(insn.encode()),
            Err(_) => code.words_of(&[self.load(Reg::X12, busy)?, self.load(Reg::X11, top)?]),
        }
        Ok(())
    }

    /// `shadow_top` = x12, and, if it shall be, `busy` = x10.
    fn store_busy_and_top(&self, code: &mut Code, set_busy: bool) -> Result<(), EncodeError> {
        let (busy, top) = (offset_of!(TraceContext, busy), offset_of!(TraceContext, shadow_top));
        let at = i64::from(self.base.offset) + busy as i64;
        let store_top = self.store(Reg::X12, top)?;
        match Insn::pair(PairAccess::StoreX, Reg::X10, Reg::X12, RegOrSp::X10, PairMode::Offset, at) {
            _ if !set_busy => code.word(store_top),
            Ok(insn) => code.word(insn.encode()),
            Err(_) => code.words_of(&[store_top, self.store(Reg::X10, busy)?]),
        }
        Ok(())
    }

    fn store(&self, rt: Reg, field: usize) -> Result<u32, EncodeError> {
        Insn::str(rt, RegOrSp::X10, i64::from(self.base.offset) + field as i64).map(Insn::encode)
    }
}

const fn subtract(rd: Reg, rn: Reg, rm: Reg) -> u32 {
    let (shift, amount) = (ArithShift::Lsl, BitPos::zero(Width::X));
    Insn::DataReg(DataReg::AddSub { op: AddSub::Sub, flags: Flags::Kept, rd, rn, rm, shift, amount }).encode()
}
