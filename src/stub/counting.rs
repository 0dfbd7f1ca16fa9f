//! The parts of a stub that need no frame: hit counters, and the flight recorder's writer.
//!
//! They use X10 to X15 and no memory of the stack, leave X9 and X30 for what comes behind them, and may be interrupted,
//! preempted and moved to another CPU between any two instructions ([`record`](crate::record),
//! [`flight`](crate::record::flight)). Without FEAT_LSE they add with exclusive loads and stores, whose monitor every
//! exception return clears.
//!
//! | part | instructions | with FEAT_LSE |
//! |---|---|---|
//! | a count on this CPU | 7 | 5 |
//! | a count in one place | 5 | 3 |
//! | a count for the callsite | 7 | 5 |
//! | a record | 22 | 19 |
//!
//! The way back to the function takes three more, once for all parts.

use super::code::{COUNT_WORDS, Code};
use super::entry::mrs;
use crate::insn::{
    AddSub, ArithShift, Atomic, AtomicOp, Barrier, BarrierOption, BitPos, BitmaskImm, Branch, CondOffset, DataImm,
    DataReg, Direction, EncodeError, Exclusive, Flags, Insn, Logical, LogicalOp, MoveWide, Order, Ordering, PairAccess,
    PairMode, Reg, RegOrSp, Shift, Size, SysReg, Width, Zero,
};
use crate::platform::ContextBase;
use crate::record::CpuArea;
use crate::record::flight::MAX_ARGUMENTS;
use crate::record::hits::CallsiteHits;
use core::sync::atomic::AtomicU64;

/// The most words of a record, of which a stub has one.
pub(super) const RECORD_WORDS: usize = 22;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FramelessPart {
    /// Counts in the running CPU's area, which is at this base, in the counter of this number.
    CountOnCpu { base: ContextBase, counter: u8 },
    /// Counts here.
    Count(&'static AtomicU64),
    /// Counts in the callsite's counter.
    CountCallsite(&'static CallsiteHits),
    /// Records the call in the ring of the running CPU's area, which is at this base.
    Record { base: ContextBase, arguments: u8 },
    /// The same in a function that is called as any other: X16 is behind where the record says that it is, X30 the caller.
    RecordMember { base: ContextBase, arguments: u8 },
}

impl FramelessPart {
    /// Returns how many words it takes at most, with its literal.
    pub(super) fn words(&self) -> usize {
        match self {
            Self::Record { .. } | Self::RecordMember { .. } => RECORD_WORDS,
            _ => COUNT_WORDS,
        }
    }

    /// Appends its instructions.
    #[inline(never)]
    pub(super) fn generate(&self, code: &mut Code, atomics: bool) {
        match *self {
            Self::CountOnCpu { base, counter } => {
                code.word(mrs(base.register));
                let not_ready = code.forward();
                code.try_insn(area(base, CpuArea::counter(counter.into())));
                code.increment(atomics);
                code.branch_here(not_ready, Zero::Zero, Width::X, Reg::X10);
            }
            Self::Count(hits) => {
                code.load_x10(core::ptr::from_ref(hits).expose_provenance() as u64);
                code.increment(atomics);
            }
            Self::CountCallsite(hits) => {
                code.load_x10(hits.bias());
                // Rounded down to the 8 bytes that share a counter.
                let (op, rd, rn) = (Logical::And, RegOrSp::X11, Reg::X30);
                let imm = BitmaskImm::new(Width::X, !7);
                code.try_insn(imm.map(|imm| Insn::DataImm(DataImm::Logical { op, rd, rn, imm })));
                code.try_insn(add_shifted(Reg::X10, Reg::X10, Reg::X11, 0));
                code.increment(atomics);
            }
            Self::Record { base, arguments } => {
                record(code, base, [Reg::X30, Reg::X9], usize::from(arguments), atomics);
            }
            Self::RecordMember { base, arguments } => {
                record(code, base, [Reg::X16, Reg::X30], usize::from(arguments), atomics);
            }
        }
    }
}

/// `ADD X10, X10, #` to the place in the area that is at this base.
fn area(base: ContextBase, place: u16) -> Result<Insn, EncodeError> {
    Insn::add_imm(RegOrSp::X10, RegOrSp::X10, u32::from(base.offset) + u32::from(place))
}

/// Claims an index, takes its slot, fills it, publishes it. `place` has what is behind the call, and where that returns.
fn record(code: &mut Code, base: ContextBase, place: [Reg; 2], arguments: usize, atomics: bool) {
    let slot = RegOrSp::X12;
    code.word(mrs(base.register));
    let not_ready = code.forward();
    code.try_insn(area(base, CpuArea::RING));
    // x10 = the ring, x12 = its slots, x13 = its mask
    code.try_insn(Insn::pair(PairAccess::LoadX, Reg::X12, Reg::X13, RegOrSp::X10, PairMode::Offset, 8));
    let no_ring = code.forward();
    // x11 = the index, x14 = the next one
    if atomics {
        code.try_insn(Insn::move_wide(MoveWide::Zero, Reg::X14, 1, 0));
        code.insn(read_modify_write(AtomicOp::Add, Reg::X14, Reg::X11, RegOrSp::X10));
        code.try_insn(Insn::add_imm(RegOrSp::X14, RegOrSp::X11, 1));
    } else {
        code.insn(load_exclusive(Reg::X11, RegOrSp::X10));
        code.try_insn(Insn::add_imm(RegOrSp::X14, RegOrSp::X11, 1));
        code.insn(store_exclusive(Reg::X15, Reg::X14, RegOrSp::X10));
        code.try_insn(again(Reg::X15, -3));
    }
    let (op, shift, amount) = (LogicalOp::And, Shift::Lsl, BitPos::zero(Width::X));
    code.insn(Insn::DataReg(DataReg::Logical { op, rd: Reg::X13, rn: Reg::X11, rm: Reg::X13, shift, amount }));
    code.try_insn(add_shifted(Reg::X12, Reg::X12, Reg::X13, 6));
    // x12 = the slot, x13 = its sequence number
    let taken = if atomics {
        code.insn(read_modify_write(AtomicOp::Swap, Reg::XZR, Reg::X13, slot));
        code.forward()
    } else {
        code.insn(load_exclusive(Reg::X13, slot));
        let taken = code.forward();
        code.insn(store_exclusive(Reg::X15, Reg::XZR, slot));
        code.try_insn(again(Reg::X15, -3));
        taken
    };
    code.insn(Insn::barrier(Barrier::Dmb, BarrierOption::ISHST));
    code.insn(Insn::mrs(Reg::X13, SysReg::CNTVCT_EL0));
    let argument = |number: usize| if number < arguments { ARGUMENTS[number] } else { Reg::XZR };
    let store = |rt, rt2, bytes| Insn::pair(PairAccess::StoreX, rt, rt2, slot, PairMode::Offset, bytes);
    code.try_insn(store(place[0], place[1], 8));
    code.try_insn(store(Reg::X13, argument(0), 24));
    code.try_insn(store(argument(1), argument(2), 40));
    code.try_insn(Insn::str(argument(3), slot, 56));
    let (direction, ordering, size) = (Direction::Store, Ordering::Full, Size::Double);
    code.insn(Insn::Atomic(Atomic::Ordered { direction, ordering, size, rt: Reg::X14, rn: slot }));
    code.branch_here(not_ready, Zero::Zero, Width::X, Reg::X10);
    code.branch_here(no_ring, Zero::Zero, Width::X, Reg::X12);
    code.branch_here(taken, Zero::Zero, Width::X, Reg::X13);
}

const ARGUMENTS: [Reg; MAX_ARGUMENTS] = [Reg::X0, Reg::X1, Reg::X2, Reg::X3];

impl Code {
    /// Adds one to the word at x10.
    #[inline(never)]
    pub(super) fn increment(&mut self, atomics: bool) {
        if atomics {
            self.try_insn(Insn::move_wide(MoveWide::Zero, Reg::X11, 1, 0));
            // STADD
            self.insn(read_modify_write(AtomicOp::Add, Reg::X11, Reg::XZR, RegOrSp::X10));
        } else {
            self.insn(load_exclusive(Reg::X11, RegOrSp::X10));
            self.try_insn(Insn::add_imm(RegOrSp::X11, RegOrSp::X11, 1));
            self.insn(store_exclusive(Reg::X12, Reg::X11, RegOrSp::X10));
            self.try_insn(again(Reg::X12, -3));
        }
    }
}

pub(super) fn load_exclusive(rt: Reg, rn: RegOrSp) -> Insn {
    Insn::Atomic(Atomic::LoadExclusive { order: Exclusive::Plain, size: Size::Double, rt, rn })
}

pub(super) fn store_exclusive(rs: Reg, rt: Reg, rn: RegOrSp) -> Insn {
    Insn::Atomic(Atomic::StoreExclusive { order: Exclusive::Plain, size: Size::Double, rs, rt, rn })
}

pub(super) fn read_modify_write(op: AtomicOp, rs: Reg, rt: Reg, rn: RegOrSp) -> Insn {
    Insn::Atomic(Atomic::ReadModifyWrite { op, order: Order::Relaxed, size: Size::Double, rs, rt, rn })
}

/// CBNZ of the exclusive store's status, over so many instructions.
pub(super) fn again(status: Reg, instructions: i64) -> Result<Insn, EncodeError> {
    let offset = CondOffset::new(instructions * 4)?;
    Ok(Insn::Branch(Branch::CompareBranch { on: Zero::NonZero, width: Width::W, rt: status, offset }))
}

fn add_shifted(rd: Reg, rn: Reg, rm: Reg, shift: u32) -> Result<Insn, EncodeError> {
    let (op, flags, amount) = (AddSub::Add, Flags::Kept, BitPos::new(Width::X, shift)?);
    Ok(Insn::DataReg(DataReg::AddSub { op, flags, rd, rn, rm, shift: ArithShift::Lsl, amount }))
}
