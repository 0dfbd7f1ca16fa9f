//! What a trampoline consists of, part by part.

use super::plan::{
    ARGUMENT_REGISTERS, CallShape, HandlerKind, MAX_HANDLERS, MAX_STACK_WORDS, Part, ResultPlace, TrampolinePlan,
};
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::insn::{
    Address, AtomicOp, BitmaskImm, Branch, BranchOffset, CondOffset, DataImm, Direction, Insn, Logical, MoveWide,
    PairAccess, PairMode, PairSize, Reg, RegOrSp, SimdMemory, VReg, VSize, Width, Zero, pair_offset,
};
use crate::stub::code::{Code, Placeholder};
use crate::stub::counting::{again, load_exclusive, read_modify_write, store_exclusive};
use crate::stub::entry::{StubEnv, mrs};
use crate::stub::frame::{RET_X9, RETURN_TO_FUNCTION, encoded, pair_at};
use arrayvec::ArrayVec;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

const MOV_X29_SP: u32 = encoded(Insn::add_imm(RegOrSp::X29, RegOrSp::SP, 0));
const MOV_SP_X29: u32 = encoded(Insn::add_imm(RegOrSp::SP, RegOrSp::X29, 0));
const PUSH_CALLER: u32 = pair_at(PairAccess::StoreX, Reg::X29, Reg::X9, RegOrSp::SP, PairMode::PreIndex, -RECORD);
const POP_CALLER: u32 = pair_at(PairAccess::LoadX, Reg::X29, Reg::LR, RegOrSp::SP, PairMode::PostIndex, RECORD);
/// A frame record.
const RECORD: i64 = 16;
/// Where the address is at which the function goes on, in the frame.
const RESUME: i64 = 8;

/// What is where in the frame, in bytes from X29.
#[derive(Clone, Copy)]
struct Frame {
    generals: i64,
    vectors: i64,
    x8: i64,
    result: i64,
    /// To where the caller's record begins.
    bytes: i64,
    /// Below X29, for arguments on the stack.
    outgoing: i64,
}

impl Frame {
    fn of(shape: &CallShape, has_exits: bool) -> Self {
        let generals = RECORD;
        let vectors = generals + 8 * i64::from(shape.generals.next_multiple_of(2));
        let x8 = vectors + 8 * i64::from(shape.vectors.next_multiple_of(2));
        let result = x8 + if shape.result == ResultPlace::Memory { 16 } else { 0 };
        let result_bytes = match shape.result {
            _ if !has_exits => 0,
            ResultPlace::Nowhere | ResultPlace::Memory => 0,
            ResultPlace::General(_) | ResultPlace::GeneralPair => 16,
            ResultPlace::Vectors(..) => 32,
        };
        let has_pointer = has_exits && usize::from(shape.next_general) == ARGUMENT_REGISTERS;
        let outgoing = 8 * i64::from((shape.stack_words + u8::from(has_pointer)).next_multiple_of(2));
        Self { generals, vectors, x8, result, bytes: result + result_bytes, outgoing }
    }
}

/// Where the guard says that no handler is called: from CBZ X10 and CBNZ X11.
pub(super) struct PassedOver {
    not_ready: Placeholder,
    in_callback: Placeholder,
}

/// From where an answer leads away, and by which test.
pub(super) type Answers = ArrayVec<(Placeholder, Part), MAX_HANDLERS>;

/// A trampoline in the making.
pub(super) struct Writer<'a> {
    plan: &'a TrampolinePlan<'a>,
    code: &'a mut Code,
    env: &'a StubEnv,
    frame: Frame,
    /// Loads of numbers that will stand at the end.
    literals: ArrayVec<(Placeholder, Reg, u64), { MAX_HANDLERS + 4 }>,
    /// Whether the argument registers still have what they had at the callsite.
    are_loaded: bool,
}

impl<'a> Writer<'a> {
    /// Begins one, behind the landing pad that `code` has.
    pub(super) fn new(plan: &'a TrampolinePlan<'a>, code: &'a mut Code, env: &'a StubEnv) -> Self {
        let frame = Frame::of(plan.shape, plan.has(HandlerKind::Exit));
        Self { plan, code, env, frame, literals: ArrayVec::new(), are_loaded: true }
    }

    pub(super) fn here(&self) -> TextAddr {
        self.code.here()
    }

    pub(super) fn jump(&mut self, target: TextAddr) {
        self.code.jump(target);
    }

    fn pair(&mut self, access: PairAccess, rt: Reg, rt2: Reg, rn: RegOrSp, bytes: i64) {
        self.code.try_insn(Insn::pair(access, rt, rt2, rn, PairMode::Offset, bytes));
    }

    fn vector_pair(&mut self, direction: Direction, size: PairSize, [rt, rt2]: [VReg; 2], bytes: i64) {
        let (mode, rn) = (PairMode::Offset, RegOrSp::X29);
        let offset = pair_offset(bytes, size.log2_bytes());
        let insn = |offset| Insn::SimdMemory(SimdMemory::Pair { direction, size, mode, rt, rt2, rn, offset });
        self.code.try_insn(offset.map(insn));
    }

    fn vector(&mut self, direction: Direction, size: PairSize, rt: VReg, bytes: i64) {
        let (size, rn) = (if size == PairSize::S { VSize::S } else { VSize::D }, RegOrSp::X29);
        let address = Address::offset(bytes, size.log2_bytes());
        let insn = |address| Insn::SimdMemory(SimdMemory::Single { direction, size, rt, rn, address });
        self.code.try_insn(address.map(insn));
    }

    /// V0 and on, so many, from or to here in the frame, next to each other.
    #[inline(never)]
    fn vectors(&mut self, direction: Direction, size: PairSize, count: u8, at: i64) {
        let bytes = 1 << size.log2_bytes();
        for number in (0..count).step_by(2) {
            let place = at + bytes * i64::from(number);
            match (VReg::v(number), VReg::v(number + 1)) {
                (Some(rt), Some(rt2)) if number + 1 < count => self.vector_pair(direction, size, [rt, rt2], place),
                (Some(rt), _) => self.vector(direction, size, rt, place),
                _ => {}
            }
        }
    }

    /// LDR of a number that will stand at the end.
    fn load_literal(&mut self, rt: Reg, value: u64) {
        let place = self.code.forward();
        if self.literals.try_push((place, rt, value)).is_err() {
            self.code.cut();
        }
    }

    pub(super) fn place_literals(&mut self) {
        self.code.align();
        while let Some((place, rt, value)) = self.literals.pop() {
            let at = self.code.here();
            self.code.load_from(place, rt, at);
            self.code.literal(value);
        }
    }

    /// Adds one to a word, or takes one away, by MOVZ X11, #1 or MOVN X11, #0.
    #[inline(never)]
    fn count(&mut self, word: &'static AtomicU64, one: MoveWide) {
        self.load_literal(Reg::X10, core::ptr::from_ref(word).expose_provenance() as u64);
        let is_more = one == MoveWide::Zero;
        if self.env.atomics {
            self.code.try_insn(Insn::move_wide(one, Reg::X11, u16::from(is_more), 0));
            // STADD
            self.code.insn(read_modify_write(AtomicOp::Add, Reg::X11, Reg::XZR, RegOrSp::X10));
        } else {
            self.code.insn(load_exclusive(Reg::X11, RegOrSp::X10));
            let changed = if is_more { Insn::add_imm } else { Insn::sub_imm };
            self.code.try_insn(changed(RegOrSp::X11, RegOrSp::X11, 1));
            self.code.insn(store_exclusive(Reg::X12, Reg::X11, RegOrSp::X10));
            self.code.try_insn(again(Reg::X12, -3));
        }
    }

    fn busy(&self) -> i64 {
        i64::from(self.env.context.offset) + offset_of!(TraceContext, busy) as i64
    }

    /// x10 = the base; busy from here on, unless the level is inside a callback already.
    pub(super) fn take_guard(&mut self) -> PassedOver {
        self.code.word(mrs(self.env.context.register));
        let not_ready = self.code.forward();
        self.code.try_insn(Insn::ldr(Reg::X11, RegOrSp::X10, self.busy()));
        let in_callback = self.code.forward();
        self.code.try_insn(Insn::str(Reg::X10, RegOrSp::X10, self.busy()));
        PassedOver { not_ready, in_callback }
    }

    /// What leads here goes on in the function, as if the callsite were disabled.
    pub(super) fn pass_over(&mut self, PassedOver { not_ready, in_callback }: PassedOver) {
        self.code.branch_here(in_callback, Zero::NonZero, Width::X, Reg::X11);
        self.count(self.plan.misses, MoveWide::Zero);
        self.code.branch_here(not_ready, Zero::Zero, Width::X, Reg::X10);
        self.code.words_of(&RETURN_TO_FUNCTION);
    }

    /// The context is the thread's, which may have moved to another CPU.
    pub(super) fn give_guard_back(&mut self) {
        self.code.word(mrs(self.env.context.register));
        self.code.try_insn(Insn::str(Reg::XZR, RegOrSp::X10, self.busy()));
    }

    /// Makes the frame, and puts the arguments that are in registers into it.
    #[inline(never)]
    pub(super) fn save(&mut self) {
        let Frame { generals, vectors, x8, bytes, outgoing, .. } = self.frame;
        let shape = self.plan.shape;
        self.code.word(PUSH_CALLER);
        self.code.word(MOV_X29_SP);
        self.code.try_insn(Insn::pair(PairAccess::StoreX, Reg::X29, Reg::LR, RegOrSp::SP, PairMode::PreIndex, -bytes));
        self.code.word(MOV_X29_SP);
        for number in (0..shape.generals).step_by(2) {
            let at = generals + 8 * i64::from(number);
            match [number, number + 1].map(Reg::x) {
                [Some(rt), Some(rt2)] if number + 1 < shape.generals => {
                    self.pair(PairAccess::StoreX, rt, rt2, RegOrSp::X29, at);
                }
                [Some(rt), _] => self.code.try_insn(Insn::str(rt, RegOrSp::X29, at)),
                _ => {}
            }
        }
        self.vectors(Direction::Store, PairSize::D, shape.vectors, vectors);
        if shape.result == ResultPlace::Memory {
            self.code.try_insn(Insn::str(Reg::X8, RegOrSp::X29, x8));
        }
        if outgoing > 0 {
            self.code.try_insn(Insn::sub_imm(RegOrSp::SP, RegOrSp::SP, outgoing as u32));
        }
    }

    /// Puts the arguments into their registers again: for a handler, or as they were.
    #[inline(never)]
    pub(super) fn load_arguments(&mut self, for_handler: bool) {
        let Frame { generals, vectors, x8, .. } = self.frame;
        let shape = self.plan.shape;
        let are_loaded = core::mem::replace(&mut self.are_loaded, false);
        let part = |number: u8| match shape.general.get(usize::from(number)) {
            Some(part) if for_handler => *part,
            _ => Part::Whole,
        };
        for number in (0..shape.generals).step_by(2) {
            let at = generals + 8 * i64::from(number);
            let count = if number + 1 < shape.generals { 2 } else { 1 };
            match [number, number + 1].map(Reg::x) {
                [Some(rt), Some(rt2)] if count == 2 && [number, number + 1].map(part) == [Part::Whole; 2] => {
                    if !are_loaded {
                        self.pair(PairAccess::LoadX, rt, rt2, RegOrSp::X29, at);
                    }
                }
                registers => {
                    let pair = registers.into_iter().zip([(number, at), (number + 1, at + 8)]);
                    for (rt, (number, at)) in pair.take(count) {
                        rt.into_iter().for_each(|rt| self.load_part(part(number), rt, at, are_loaded));
                    }
                }
            }
        }
        if !are_loaded {
            self.vectors(Direction::Load, PairSize::D, shape.vectors, vectors);
            if !for_handler && shape.result == ResultPlace::Memory {
                self.code.try_insn(Insn::ldr(Reg::X8, RegOrSp::X29, x8));
            }
        }
    }

    fn load_part(&mut self, part: Part, rt: Reg, at: i64, is_loaded: bool) {
        if !is_loaded {
            self.code.try_insn(Insn::access(part.load(), rt, RegOrSp::X29, at));
        }
        if part == Part::Bit || (is_loaded && part != Part::Whole) {
            self.clear_above(part, rt);
        }
    }

    fn clear_above(&mut self, part: Part, rt: Reg) {
        self.masked(part, rt.or_sp(), rt);
    }

    /// AND of the part's bits.
    fn masked(&mut self, part: Part, rd: Option<RegOrSp>, rn: Reg) {
        let imm = BitmaskImm::new(Width::X, part.mask());
        let rd = rd.unwrap_or(RegOrSp::X11);
        self.code.try_insn(imm.map(|imm| Insn::DataImm(DataImm::Logical { op: Logical::And, rd, rn, imm })));
    }

    /// Copies the arguments that are on the stack to where who is called next expects them.
    #[inline(never)]
    fn copy_stack(&mut self, for_handler: bool) {
        let shape = self.plan.shape;
        let words = usize::from(shape.stack_words).min(MAX_STACK_WORDS);
        if words == 0 {
            return;
        }
        let from = self.frame.bytes + RECORD;
        self.code.try_insn(Insn::add_imm(RegOrSp::X12, RegOrSp::X29, from as u32));
        let part = |word: usize| match shape.stack.get(word) {
            Some(part) if for_handler => *part,
            _ => Part::Whole,
        };
        let mut word = 0;
        while word < words {
            let at = 8 * word as i64;
            if word + 1 < words && part(word) == Part::Whole && part(word + 1) == Part::Whole {
                self.pair(PairAccess::LoadX, Reg::X10, Reg::X11, RegOrSp::X12, at);
                self.pair(PairAccess::StoreX, Reg::X10, Reg::X11, RegOrSp::SP, at);
                word += 2;
            } else {
                self.code.try_insn(Insn::access(part(word).load(), Reg::X10, RegOrSp::X12, at));
                if part(word) == Part::Bit {
                    self.clear_above(Part::Bit, Reg::X10);
                }
                self.code.try_insn(Insn::str(Reg::X10, RegOrSp::SP, at));
                word += 1;
            }
        }
    }

    fn call(&mut self, function: TextAddr) {
        if let Ok(offset) = BranchOffset::between(self.code.here().get(), function.get()) {
            self.code.insn(Insn::bl(offset));
        } else {
            self.load_literal(Reg::X16, function.get());
            self.code.insn(Insn::blr(Reg::X16));
        }
    }

    /// Calls the handlers of a kind; returns from where answers lead away.
    #[inline(never)]
    pub(super) fn call_handlers(&mut self, kind: HandlerKind) -> Answers {
        let mut answers = Answers::new();
        for handler in self.plan.handlers.iter().filter(|handler| handler.kind == kind) {
            self.copy_stack(true);
            self.load_arguments(true);
            if kind == HandlerKind::Exit {
                self.pass_result();
            }
            self.call(handler.function);
            if kind == HandlerKind::Modify {
                let part = match self.plan.shape.result {
                    ResultPlace::General(part) => part,
                    _ => Part::Whole,
                };
                if matches!(part, Part::Byte | Part::Half) {
                    self.masked(part, None, Reg::X0);
                }
                let place = self.code.forward();
                // There is a place for each handler that there can be.
                let _ = answers.try_push((place, part));
            }
        }
        answers
    }

    /// What leads here where a handler has answered.
    pub(super) fn answered(&mut self, answers: Answers) {
        for (from, part) in answers {
            match part {
                Part::Bit => self.code.test_branch_here(from, Zero::NonZero, Reg::X0, 0),
                Part::Byte | Part::Half => self.code.branch_here(from, Zero::NonZero, Width::W, Reg::X11),
                Part::Word => self.code.branch_here(from, Zero::NonZero, Width::W, Reg::X0),
                Part::Whole => self.code.branch_here(from, Zero::NonZero, Width::X, Reg::X0),
            }
        }
    }

    /// Passes the address of the result as one more argument.
    fn pass_result(&mut self) {
        let (shape, Frame { x8, result, .. }) = (self.plan.shape, self.frame);
        let register = Reg::x(shape.next_general).filter(|_| usize::from(shape.next_general) < ARGUMENT_REGISTERS);
        let rt = register.unwrap_or(Reg::X10);
        if shape.result == ResultPlace::Memory {
            self.code.try_insn(Insn::ldr(rt, RegOrSp::X29, x8));
        } else {
            let to = rt.or_sp().unwrap_or(RegOrSp::X10);
            let at = if shape.result == ResultPlace::General(Part::Bit) { result + 8 } else { result };
            self.code.try_insn(Insn::add_imm(to, RegOrSp::X29, at as u32));
        }
        if register.is_none() {
            self.code.try_insn(Insn::str(rt, RegOrSp::SP, 8 * i64::from(shape.stack_words)));
        }
    }

    /// Calls the function, counted while it is inside, and puts its result into the frame.
    #[inline(never)]
    pub(super) fn call_function(&mut self) {
        let TrampolinePlan { calls, body, .. } = *self.plan;
        self.count(calls, MoveWide::Zero);
        self.copy_stack(false);
        // In which nothing but X10 to X12 was used.
        if !self.are_loaded {
            self.load_arguments(false);
        }
        self.are_loaded = false;
        if let Ok(offset) = BranchOffset::between(self.code.here().get(), body.get()) {
            self.code.insn(Insn::bl(offset));
        } else {
            // To two instructions further on; the one between is where the function returns, and passes over them.
            self.code.try_insn(BranchOffset::new(8).map(Insn::bl));
            let over = CondOffset::new(12);
            let (on, width, rt) = (Zero::Zero, Width::X, Reg::XZR);
            let insn = |offset| Insn::Branch(Branch::CompareBranch { on, width, rt, offset });
            self.code.try_insn(over.map(insn));
            self.code.try_insn(Insn::ldr(Reg::X17, RegOrSp::X29, RESUME));
            self.code.insn(Insn::Branch(Branch::Ret { rn: Reg::X17 }));
        }
        self.store_result();
        self.count(calls, MoveWide::Not);
    }

    pub(super) fn store_result(&mut self) {
        let at = self.frame.result;
        match self.plan.shape.result {
            // Exits get one whose other bits are clear; the caller gets what came, since the function may be of more bits.
            ResultPlace::General(Part::Bit) => {
                self.masked(Part::Bit, None, Reg::X0);
                self.pair(PairAccess::StoreX, Reg::X0, Reg::X11, RegOrSp::X29, at);
            }
            ResultPlace::General(_) => self.code.try_insn(Insn::str(Reg::X0, RegOrSp::X29, at)),
            ResultPlace::GeneralPair => self.pair(PairAccess::StoreX, Reg::X0, Reg::X1, RegOrSp::X29, at),
            ResultPlace::Vectors(count, size) => self.vectors(Direction::Store, size, count, at),
            ResultPlace::Nowhere | ResultPlace::Memory => {}
        }
    }

    fn load_result(&mut self) {
        let at = self.frame.result;
        match self.plan.shape.result {
            ResultPlace::General(_) => self.code.try_insn(Insn::ldr(Reg::X0, RegOrSp::X29, at)),
            ResultPlace::GeneralPair => self.pair(PairAccess::LoadX, Reg::X0, Reg::X1, RegOrSp::X29, at),
            ResultPlace::Vectors(count, size) => self.vectors(Direction::Load, size, count, at),
            ResultPlace::Nowhere | ResultPlace::Memory => {}
        }
    }

    /// Calls the exits, unless the level is inside a callback, and puts the result back.
    #[inline(never)]
    pub(super) fn call_exits(&mut self) {
        let is_guarded = self.plan.guards(&[HandlerKind::Exit]);
        let mut passed_over = None;
        if is_guarded {
            self.code.word(mrs(self.env.context.register));
            let not_ready = self.code.forward();
            self.code.try_insn(Insn::ldr(Reg::X11, RegOrSp::X10, self.busy()));
            let is_free = self.code.forward();
            self.count(self.plan.misses, MoveWide::Zero);
            let missed = self.code.forward();
            self.code.branch_here(is_free, Zero::Zero, Width::X, Reg::X11);
            self.code.try_insn(Insn::str(Reg::X10, RegOrSp::X10, self.busy()));
            passed_over = Some((not_ready, missed));
        }
        self.call_handlers(HandlerKind::Exit);
        if is_guarded {
            self.give_guard_back();
        }
        if let Some((not_ready, missed)) = passed_over {
            self.code.branch_here(not_ready, Zero::Zero, Width::X, Reg::X10);
            self.code.jump_here(missed);
        }
        self.load_result();
    }

    /// Takes the frame down, and goes to where the function goes on, which is in X9 then, or where it returns, in X30.
    pub(super) fn leave(&mut self, to: Reg) {
        if self.frame.outgoing > 0 {
            self.code.word(MOV_SP_X29);
        }
        let (access, mode) = (PairAccess::LoadX, PairMode::PostIndex);
        self.code.try_insn(Insn::pair(access, Reg::X29, Reg::X9, RegOrSp::SP, mode, self.frame.bytes));
        self.code.word(POP_CALLER);
        self.code.word(if to == Reg::X9 { RET_X9 } else { Insn::RET.encode() });
    }
}
