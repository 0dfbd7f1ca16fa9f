//! The trampoline of a function's attachments (`trampoline::attach` has what they are for): generated for that function's type
//! and that set of handlers, and called by the callsite itself.
//!
//! ```text
//!     BTI C                                   for veneers and lists of ops; a BL goes to the instruction behind it
//!     (guard)                                 where a handler may call something
//!     STP X29, X9, [SP, #-16]!; MOV X29, SP   the caller's frame record, as the function is about to make it
//!     STP X29, X30, [SP, #-n]!; MOV X29, SP   a record of the function: a walker finds both (AAPCS64 6.4.6)
//!     (arguments to the frame)                those registers that the function's type says, and no others
//!     BL handler ...                          entries, then those that may answer: CBNZ X0, answered
//!     (guard given back)
//!
//!   without exits                             with exits
//!     (arguments back)                          (one more call is under way)
//!     LDP, LDP; RET X9                          (arguments back); BL function, behind its callsite
//!                                               (result to the frame; one call less is under way)
//!                                               (guard); BL handler ...; (guard given back)
//!                                               (result back); LDP, LDP; RET
//! ```
//!
//! - **How the function goes on**: by RET X9 where it is only gone back to, since it has no landing pad there and RET needs
//!   none, as every other stub does. Where it is *called*, by BL, which needs none either, and which tells the CPU's return
//!   predictor of the RET that will come; out of BL's reach, by a BL to two instructions here, of which the second is a RET to
//!   the function. So there is a call before each return address, as [`Unwinder`](crate::context::unwind::Unwinder) asks.
//! - **Arguments on the stack** are further away for who is called from here, and belong to whom they are passed
//!   (AAPCS64 6.8.2): so they are copied for each call. The function that is gone back to finds them where they were.
//! - **Narrow arguments** are handed to handlers with the bits above them cleared, whatever the caller left there; the function
//!   gets what it was called with.
//! - **Handlers** are called by BL, or by BLR with the address from a literal, so no hash is looked at (kCFI).
//!
//! While a thread is inside the function it has a return address in here, for as long as that takes. So those calls are
//! counted, in one word for each trampoline.

use super::LANDING_PAD_BYTES;
use super::code::{Code, Placeholder};
use super::counting::{again, load_exclusive, read_modify_write, store_exclusive};
use super::entry::{StubEnv, mrs};
use super::frame::{RET_X9, RETURN_TO_FUNCTION, encoded, pair_at};
use crate::address::TextAddr;
use crate::callsite::BTI_C;
use crate::context::TraceContext;
use crate::insn::{
    Access, Address, AtomicOp, BitmaskImm, Branch, BranchOffset, CondOffset, DataImm, Direction, EncodeError, Insn,
    Logical, MoveWide, PairAccess, PairMode, PairSize, Reg, RegOrSp, SimdMemory, VReg, VSize, Width, Zero, pair_offset,
};
use arrayvec::ArrayVec;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

/// The most handlers at a function.
pub(crate) const MAX_HANDLERS: usize = 16;
/// The most words of arguments on the stack: twelve of 32 bytes each.
pub(crate) const MAX_STACK_WORDS: usize = 48;
/// The registers of each kind that have arguments (AAPCS64 6.8.2).
pub(crate) const ARGUMENT_REGISTERS: usize = 8;

const MOV_X29_SP: u32 = encoded(Insn::add_imm(RegOrSp::X29, RegOrSp::SP, 0));
const MOV_SP_X29: u32 = encoded(Insn::add_imm(RegOrSp::SP, RegOrSp::X29, 0));
const PUSH_CALLER: u32 = pair_at(PairAccess::StoreX, Reg::X29, Reg::X9, RegOrSp::SP, PairMode::PreIndex, -RECORD);
const POP_CALLER: u32 = pair_at(PairAccess::LoadX, Reg::X29, Reg::LR, RegOrSp::SP, PairMode::PostIndex, RECORD);
/// A frame record.
const RECORD: i64 = 16;
/// Where the address is at which the function goes on, in the frame.
const RESUME: i64 = 8;

/// How much of a register, or of eight bytes of the stack, is an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// One bit: a `bool`.
    Bit,
    /// Eight.
    Byte,
    /// Sixteen.
    Half,
    /// Thirty-two.
    Word,
    /// All of it, or what has no meaning of its own.
    Whole,
}

impl Part {
    const fn mask(self) -> u64 {
        match self {
            Self::Bit => 1,
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => 0xffff_ffff,
            Self::Whole => u64::MAX,
        }
    }

    /// What loads it with zeros above it, but for those above one bit.
    const fn load(self) -> Access {
        match self {
            Self::Bit | Self::Byte => Access::LoadByte,
            Self::Half => Access::LoadHalf,
            Self::Word => Access::LoadW,
            Self::Whole => Access::LoadX,
        }
    }
}

/// Where a result is (AAPCS64 6.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultPlace {
    /// There is none.
    Nowhere,
    /// In X0, so much of it.
    General(Part),
    /// In X0 and X1.
    GeneralPair,
    /// In so many vector registers from V0 on, 1 to 4, each of this size.
    Vectors(u8, PairSize),
    /// In memory, at the address that was in X8.
    Memory,
}

/// Where a call's arguments and its result are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallShape {
    /// Of X0 and on.
    pub(crate) general: [Part; ARGUMENT_REGISTERS],
    /// How many of them have arguments, with what was skipped between them.
    pub(crate) generals: u8,
    /// The number of the general register in which one more pointer would be; 8 where it would be on the stack.
    pub(crate) next_general: u8,
    /// How many of V0 and on have arguments.
    pub(crate) vectors: u8,
    /// Of the stack, for each eight bytes.
    pub(crate) stack: [Part; MAX_STACK_WORDS],
    /// How many times eight bytes there are.
    pub(crate) stack_words: u8,
    pub(crate) result: ResultPlace,
}

/// When a handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerKind {
    /// At the entry.
    Entry,
    /// After those; where X0 is not zero when it returns, that is the function's result.
    Modify,
    /// When the function has returned, or was answered for, with a pointer to the result behind the arguments.
    Exit,
}

/// A function that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handler {
    pub(crate) kind: HandlerKind,
    pub(crate) function: TextAddr,
    /// Whether it calls something, or may. Else it needs no guard.
    pub(crate) may_call: bool,
}

/// A trampoline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrampolinePlan<'a> {
    pub(crate) shape: &'a CallShape,
    /// In the order in which those of a kind are called.
    pub(crate) handlers: &'a [Handler],
    /// Where the function goes on behind its callsite.
    pub(crate) body: TextAddr,
    /// How many calls of the function are under way.
    pub(crate) calls: &'static AtomicU64,
    /// How often no handler was called.
    pub(crate) misses: &'static AtomicU64,
}

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

impl TrampolinePlan<'_> {
    /// Returns a bound of what the distance of what is called adds to its length.
    pub(crate) const fn reach_bytes(&self) -> usize {
        // A load and a literal for each handler, and three instructions for the function.
        4 * (3 * self.handlers.len() + 3)
    }

    /// Where a BL goes, in what is generated for address `at`.
    pub(crate) const fn entry(at: TextAddr) -> TextAddr {
        at.offset(LANDING_PAD_BYTES)
    }

    fn has(&self, kind: HandlerKind) -> bool {
        self.handlers.iter().any(|handler| handler.kind == kind)
    }

    /// Whether handlers of one of these kinds need a guard.
    fn guards(&self, kinds: &[HandlerKind]) -> bool {
        self.handlers.iter().any(|handler| handler.may_call && kinds.contains(&handler.kind))
    }

    /// Generates the trampoline for address `at`.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]: something is out of reach from there.
    pub(crate) fn code(&self, code: &mut Code, at: TextAddr, env: &StubEnv) -> Result<(), EncodeError> {
        use HandlerKind::{Entry, Exit, Modify};
        code.begin(at);
        code.word(BTI_C);
        let has_exits = self.has(Exit);
        let frame = Frame::of(self.shape, has_exits);
        let mut writer = Writer { plan: self, code, env, frame, literals: ArrayVec::new(), are_loaded: true };
        let is_guarded = self.guards(&[Entry, Modify]);
        let passed_over = is_guarded.then(|| writer.take_guard());
        writer.save();
        writer.call_handlers(Entry);
        let answered = writer.call_handlers(Modify);
        if is_guarded {
            writer.give_guard_back();
        }
        let mut exits = None;
        if has_exits {
            writer.call_function();
            exits = Some(writer.code.here());
            writer.call_exits();
            writer.leave(Reg::LR);
        } else {
            writer.load_arguments(false);
            writer.leave(Reg::X9);
        }
        if !answered.is_empty() {
            writer.answered(answered);
            if exits.is_some() {
                writer.store_result();
            }
            if is_guarded {
                writer.give_guard_back();
            }
            match exits {
                Some(exits) => writer.code.jump(exits),
                None => writer.leave(Reg::LR),
            }
        }
        if let Some(PassedOver { not_ready, in_callback }) = passed_over {
            writer.code.branch_here(in_callback, Zero::NonZero, Width::X, Reg::X11);
            writer.count(self.misses, MoveWide::Zero);
            writer.code.branch_here(not_ready, Zero::Zero, Width::X, Reg::X10);
            writer.code.words_of(&RETURN_TO_FUNCTION);
        }
        writer.place_literals();
        code.end()
    }
}

/// Where the guard says that no handler is called: from CBZ X10 and CBNZ X11.
struct PassedOver {
    not_ready: Placeholder,
    in_callback: Placeholder,
}

/// From where an answer leads away, and by which test.
type Answers = ArrayVec<(Placeholder, Part), MAX_HANDLERS>;

/// A trampoline in the making.
struct Writer<'a> {
    plan: &'a TrampolinePlan<'a>,
    code: &'a mut Code,
    env: &'a StubEnv,
    frame: Frame,
    /// Loads of numbers that will stand at the end.
    literals: ArrayVec<(Placeholder, Reg, u64), { MAX_HANDLERS + 4 }>,
    /// Whether the argument registers still have what they had at the callsite.
    are_loaded: bool,
}

impl Writer<'_> {
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

    fn place_literals(&mut self) {
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
    fn take_guard(&mut self) -> PassedOver {
        self.code.word(mrs(self.env.context.register));
        let not_ready = self.code.forward();
        self.code.try_insn(Insn::ldr(Reg::X11, RegOrSp::X10, self.busy()));
        let in_callback = self.code.forward();
        self.code.try_insn(Insn::str(Reg::X10, RegOrSp::X10, self.busy()));
        PassedOver { not_ready, in_callback }
    }

    /// The context is the thread's, which may have moved to another CPU.
    fn give_guard_back(&mut self) {
        self.code.word(mrs(self.env.context.register));
        self.code.try_insn(Insn::str(Reg::XZR, RegOrSp::X10, self.busy()));
    }

    /// Makes the frame, and puts the arguments that are in registers into it.
    #[inline(never)]
    fn save(&mut self) {
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
    fn load_arguments(&mut self, for_handler: bool) {
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
    fn call_handlers(&mut self, kind: HandlerKind) -> Answers {
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
    fn answered(&mut self, answers: Answers) {
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
            self.code.try_insn(Insn::add_imm(to, RegOrSp::X29, result as u32));
        }
        if register.is_none() {
            self.code.try_insn(Insn::str(rt, RegOrSp::SP, 8 * i64::from(shape.stack_words)));
        }
    }

    /// Calls the function, counted while it is inside, and puts its result into the frame.
    #[inline(never)]
    fn call_function(&mut self) {
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

    fn store_result(&mut self) {
        let at = self.frame.result;
        match self.plan.shape.result {
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
    fn call_exits(&mut self) {
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
    fn leave(&mut self, to: Reg) {
        if self.frame.outgoing > 0 {
            self.code.word(MOV_SP_X29);
        }
        let (access, mode) = (PairAccess::LoadX, PairMode::PostIndex);
        self.code.try_insn(Insn::pair(access, Reg::X29, Reg::X9, RegOrSp::SP, mode, self.frame.bytes));
        self.code.word(POP_CALLER);
        self.code.word(if to == Reg::X9 { RET_X9 } else { Insn::RET.encode() });
    }
}
