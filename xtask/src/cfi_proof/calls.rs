//! Who has called whom, as the instructions that were executed show: what each function found at its entry.
//!
//! A call pushes a frame, a return pops it. Whether an instruction was one is read from the image, and from where control went
//! and what x30 is then: a callsite that was enabled meanwhile is a call that the image does not have, and what was generated
//! meanwhile is not in the image at all. Where something happens that is neither (an exception, another task's stack), nothing
//! is known of those frames any more, and they are forgotten; the next calls are new ones.

use std::ops::Range;

use fentry::insn::{Flow, Insn};
use fentry_verify::{FunctionId, InsnId, Program};

use super::log::Registers;

/// A function that was called and has not returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The one that runs; `None` for what was generated.
    pub(super) function: Option<FunctionId>,
    /// The registers at its entry: SP is the canonical frame address, x30 where it returns.
    pub(super) at_entry: Registers,
    /// Whether a callsite has called it: a stub, which may send the function's return elsewhere.
    by_callsite: bool,
}

/// The code of an image that is executed as the image has it.
#[derive(Debug)]
pub(super) struct Code<'a> {
    program: &'a Program<'a>,
    /// The room for stubs, which are written when something is traced.
    generated: Range<u64>,
}

impl<'a> Code<'a> {
    pub(super) fn new(program: &'a Program<'a>) -> Self {
        let generated = program.image().between(("__fentry_stubs_start", "__fentry_stubs_stop"));
        Self { program, generated: generated.unwrap_or(0..0) }
    }

    /// The instruction at an address.
    pub(super) fn at(&self, address: u64) -> Option<InsnId> {
        self.program.at(address.into()).filter(|_| !self.generated.contains(&address))
    }

    /// The function, parts counted with it, at an address.
    pub(super) fn function_at(&self, address: u64) -> Option<FunctionId> {
        self.program.function_of(self.at(address)?).map(|function| self.program.parent(function))
    }
}

/// The functions that were called and have not returned, the last one behind.
#[derive(Debug)]
pub(super) struct Calls<'a> {
    code: &'a Code<'a>,
    program: &'a Program<'a>,
    frames: Vec<Frame>,
    /// How often all of them were forgotten.
    pub(super) lost: u64,
}

/// What a signature leaves of an address, whatever the size of virtual addresses: it begins above those (Arm ARM D8.10.1), and
/// none is smaller where a kernel has any use for it.
pub(super) fn unsigned(address: u64) -> u64 {
    address & 0xffff_ffff
}

impl<'a> Calls<'a> {
    pub(super) fn new(code: &'a Code<'a>) -> Self {
        Self { code, program: code.program, frames: Vec::new(), lost: 0 }
    }

    /// The function that runs, if its entry was seen.
    pub(super) fn running(&self) -> Option<&Frame> {
        self.frames.last()
    }

    /// Begins with what runs first.
    pub(super) fn start(&mut self, now: &Registers) {
        self.push(now, false);
    }

    fn push(&mut self, now: &Registers, by_callsite: bool) {
        self.frames.push(Frame { function: self.code.function_at(now.pc), at_entry: *now, by_callsite });
    }

    fn forget(&mut self) {
        self.lost += 1;
        self.frames.clear();
    }

    /// Goes on by one instruction.
    pub(super) fn execute(&mut self, before: &Registers, now: &Registers) {
        let id = self.code.at(before.pc);
        let next = before.pc.wrapping_add(4);
        let insn = id.map(|id| self.program.insn(id));
        let flow = insn.map(|insn| insn.effects().flow);
        let has_called = now.lr() == next && before.lr() != next && now.pc != next;
        match flow {
            Some(Flow::Call(_) | Flow::IndirectCall(_)) => self.push(now, false),
            // An enabled callsite is two NOPs in the image.
            Some(Flow::Next) if insn == Some(Insn::NOP) && has_called => self.push(now, true),
            Some(Flow::Next | Flow::Exception) if now.pc == next => {
                if id.is_some_and(|id| !self.is_within(id, now.pc)) {
                    self.enter(now);
                }
            }
            Some(Flow::Jump(_) | Flow::CondJump(_) | Flow::IndirectJump(_)) => {
                if id.is_some_and(|id| !self.is_within(id, now.pc)) {
                    self.enter(now);
                }
            }
            Some(Flow::Return(_)) => self.returns(now),
            Some(Flow::Next | Flow::Exception | Flow::ExceptionReturn | Flow::Unknown) => self.forget(),
            None if has_called => self.push(now, false),
            None if self.frames.last().is_some_and(|frame| is_return(frame, now)) => self.returns(now),
            None if self.code.function_at(now.pc).is_none() => {}
            None => self.enter(now),
        }
    }

    /// Whether an address is in an instruction's function.
    fn is_within(&self, id: InsnId, address: u64) -> bool {
        self.code.at(address).is_some_and(|to| self.program.is_same_function(id, to))
    }

    /// A jump to another function takes the place of the one that jumps.
    fn enter(&mut self, now: &Registers) {
        let function = self.code.function_at(now.pc);
        let is_entry = function.is_none_or(|function| {
            let entry = self.program.function(function).entry();
            self.program.address(entry).get() == now.pc
        });
        let Some(frame) = self.frames.last_mut().filter(|frame| is_entry && frame.at_entry.sp() == now.sp()) else {
            return self.forget();
        };
        (frame.function, frame.at_entry) = (function, *now);
    }

    fn returns(&mut self, now: &Registers) {
        let Some(frame) = self.frames.pop() else { return };
        if is_return(&frame, now) {
            // What a stub has done to the return address stays.
            if let Some(below) = self.frames.last_mut().filter(|_| frame.by_callsite) {
                below.at_entry.general[30] = now.lr();
            }
            // A hooked return goes to a stub, which nobody has called.
            if self.code.function_at(now.pc) != self.frames.last().and_then(|frame| frame.function)
                && !self.frames.is_empty()
            {
                self.push(now, false);
            }
            return;
        }
        // The stub knows where the function was to return.
        let goes_on = self.frames.last().is_some_and(|below| below.function == self.code.function_at(now.pc));
        if !(goes_on && frame.at_entry.sp() == now.sp()) {
            self.forget();
        }
    }
}

/// Whether control has come to where a function was to return, with the stack that it was called with.
fn is_return(frame: &Frame, now: &Registers) -> bool {
    unsigned(frame.at_entry.lr()) == unsigned(now.pc) && frame.at_entry.sp() == now.sp()
}
