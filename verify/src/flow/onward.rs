//! Where control goes from one instruction.

use fentry::insn::Flow as InsnFlow;
use fentry::insn::{Effects, Exception, Insn, Reg, System};

use super::jump::{Jump, Jumps, Why};
use super::no_return::NoReturn;
use crate::program::{Destination, FunctionId, InsnId, Program};

/// Where control goes from an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onward<'a> {
    /// The instruction behind it, where control can go on to that: also of a call that comes back.
    pub next: Option<InsnId>,
    /// Where it jumps to in its own function.
    pub targets: Targets<'a>,
    /// What it calls.
    pub call: Option<Callee<'a>>,
    /// How control leaves the function. Two are there of a conditional jump out of a function, at its end.
    pub exits: [Option<Exit<'a>>; 2],
}

/// Where an instruction jumps to in its own function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets<'a> {
    /// Nowhere.
    None,
    /// To this instruction.
    One(InsnId),
    /// To one of these.
    Table(&'a [InsnId]),
}

/// What is called, or jumped to as the last thing that a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee<'a> {
    /// A function, at its entry.
    Function(FunctionId),
    /// An instruction that is no function's entry.
    Inside(InsnId),
    /// What another file defines.
    External(&'a str),
    /// An address that has no instruction.
    Outside(u64),
    /// What a register says.
    Register(Reg),
}

/// How control leaves a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// By RET, to where this register says.
    Return(Reg),
    /// By a jump to what was not called and returns to our caller.
    Sibling(Callee<'a>),
    /// By ERET.
    ExceptionReturn,
    /// Not at all: BRK or UDF.
    Trap,
    /// Not at all: what was called does not come back.
    NoReturn,
    /// Off its end, into what stands there: the next function's entry, if that is one, or nothing.
    FallsOff(Option<InsnId>),
    /// It could not be followed.
    NotFollowed(Why),
}

impl<'a> Targets<'a> {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = InsnId> + use<'a> {
        let (one, many) = match *self {
            Self::None => (None, &[][..]),
            Self::One(id) => (Some(id), &[][..]),
            Self::Table(many) => (None, many),
        };
        one.into_iter().chain(many.iter().copied())
    }
}

impl Onward<'_> {
    /// The instructions of the same function that can be next.
    pub fn successors(&self) -> impl Iterator<Item = InsnId> {
        self.next.into_iter().chain(self.targets.iter())
    }
}

/// What says where control goes, beside the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(super) program: &'a Program<'a>,
    pub(super) jumps: &'a Jumps,
    pub(super) no_return: &'a NoReturn,
    /// Where anything begins in data, once that is known: no table goes on there that nothing bounds.
    pub(super) table_starts: Option<&'a [u64]>,
}

impl<'a> Rules<'a> {
    /// Where control goes from an instruction, if everything that it calls comes back.
    pub(super) fn onward(&self, id: InsnId, effects: &Effects) -> Onward<'a> {
        let nowhere = Onward { next: None, targets: Targets::None, call: None, exits: [None, None] };
        let leaves = |exit| Onward { exits: [Some(exit), None], ..nowhere };
        match effects.flow {
            InsnFlow::Next => self.behind(id, nowhere),
            InsnFlow::Jump(bytes) => self.jump(id, self.program.destination_of(id, bytes), nowhere),
            InsnFlow::CondJump(bytes) => {
                let jump = self.jump(id, self.program.destination_of(id, bytes), nowhere);
                self.behind(id, jump)
            }
            InsnFlow::Call(bytes) => {
                let call = Some(self.callee(self.program.destination_of(id, bytes)));
                Onward { call, ..self.behind(id, nowhere) }
            }
            InsnFlow::IndirectCall(reg) => Onward { call: Some(Callee::Register(reg)), ..self.behind(id, nowhere) },
            InsnFlow::IndirectJump(reg) => match self.jumps.get(&id) {
                Some(jump) => self.by_register(id, reg, jump, nowhere),
                None => leaves(Exit::NotFollowed(Why::Register(reg))),
            },
            InsnFlow::Return(reg) => leaves(Exit::Return(reg)),
            InsnFlow::ExceptionReturn => leaves(Exit::ExceptionReturn),
            InsnFlow::Exception => match self.program.insn(id) {
                Insn::System(System::Udf { .. } | System::Exception { kind: Exception::Brk, .. }) => leaves(Exit::Trap),
                _ => self.behind(id, nowhere),
            },
            InsnFlow::Unknown => leaves(Exit::NotFollowed(Why::Unknown { word: self.program.word(id) })),
        }
    }

    /// The same for a jump to a register that goes there.
    pub(super) fn by_register<'b>(&self, id: InsnId, reg: Reg, jump: &'b Jump, nowhere: Onward<'b>) -> Onward<'b>
    where
        'a: 'b,
    {
        let leaves = |exit| Onward { exits: [Some(exit), None], ..nowhere };
        match jump {
            Jump::Table(table) => Onward { targets: Targets::Table(&table.targets), ..nowhere },
            Jump::Always(address) => match self.program.at((*address).into()) {
                Some(to) => self.jump(id, Destination::Insn(to), nowhere),
                None => leaves(Exit::Sibling(Callee::Outside(*address))),
            },
            Jump::Sibling => leaves(Exit::Sibling(Callee::Register(reg))),
            Jump::NotFollowed(why) => leaves(Exit::NotFollowed(*why)),
        }
    }

    fn jump<'b>(&self, id: InsnId, to: Destination<'a>, from: Onward<'b>) -> Onward<'b>
    where
        'a: 'b,
    {
        match to {
            Destination::Insn(to) if self.program.is_same_function(id, to) => {
                Onward { targets: Targets::One(to), ..from }
            }
            to => Onward { exits: [Some(Exit::Sibling(self.callee(to))), None], ..from },
        }
    }

    /// Adds that control can go on behind an instruction.
    fn behind<'b>(&self, id: InsnId, from: Onward<'b>) -> Onward<'b> {
        let [first, _] = from.exits;
        match self.program.behind(id) {
            // The hash of the next function is data, too.
            Some(next) if !self.program.is_same_function(id, next) => {
                Onward { exits: [first, Some(Exit::FallsOff(Some(next)))], ..from }
            }
            Some(next) if self.program.is_data(next) => {
                Onward { exits: [first, Some(Exit::NotFollowed(Why::Data))], ..from }
            }
            Some(next) => Onward { next: Some(next), ..from },
            None => Onward { exits: [first, Some(Exit::FallsOff(None))], ..from },
        }
    }

    fn callee(&self, to: Destination<'a>) -> Callee<'a> {
        match to {
            Destination::External(name) => Callee::External(name),
            Destination::Outside(address) => Callee::Outside(address),
            Destination::Insn(to) => match self.program.function_of(to) {
                Some(function) if self.program.function(function).entry() == to => Callee::Function(function),
                _ => Callee::Inside(to),
            },
        }
    }
}
