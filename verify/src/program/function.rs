//! Functions: ranges of text that symbols name.

use std::ops::Range;

use fentry::insn::{Hint, Insn, System};

use super::{InsnId, Program, SymbolId};

/// The number of a function, or of a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub(super) u32);

impl FunctionId {
    /// The number of functions and parts before it.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A function, or a part of one: one range of text.
#[derive(Clone, Debug)]
pub struct Function {
    pub(super) range: Range<u32>,
    /// Its symbols: the name first, then aliases.
    pub(super) symbols: Vec<SymbolId>,
    /// The function that it is part of; itself where it is no part.
    pub(super) parent: FunctionId,
    /// The other parts, of a parent.
    pub(super) parts: Vec<FunctionId>,
    /// The NOPs before its entry.
    pub(super) prefix: u8,
    /// The word before those, with kCFI.
    pub(super) hash: Option<u32>,
    pub(super) is_typed: bool,
    pub(super) is_sized: bool,
}

/// What a function begins with before its own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Landing {
    /// Nothing.
    None,
    /// BTI C, BTI J or BTI JC.
    Bti,
    /// PACIASP or PACIBSP, which are landing pads for calls, too (Arm ARM D8.4.5).
    Pac,
}

impl Function {
    /// Its first word.
    pub fn entry(&self) -> InsnId {
        InsnId(self.range.start)
    }

    /// Whether a word lies in its range, its parts left aside.
    pub fn contains(&self, id: InsnId) -> bool {
        self.range.contains(&id.0)
    }

    /// How many words it has, its parts left aside.
    pub fn words(&self) -> usize {
        self.range.len()
    }

    /// Its symbols: the name first, then aliases.
    pub fn symbols(&self) -> &[SymbolId] {
        &self.symbols
    }

    /// The ranges that jumps from it have been split off to.
    pub fn parts(&self) -> &[FunctionId] {
        &self.parts
    }

    /// How many NOPs stand before its entry: two with `-fpatchable-function-entry=4,2`. Where nothing else stands there,
    /// padding that consists of NOPs counts as well.
    pub fn prefix_nops(&self) -> u8 {
        self.prefix
    }

    /// The hash of its type, which stands before its entry and the prefix NOPs, where callers compare those (kCFI).
    pub fn hash(&self) -> Option<u32> {
        self.hash
    }

    /// Whether its symbol is marked as a function. A global label in assembly, where no function is, counts as one as well.
    pub fn is_typed(&self) -> bool {
        self.is_typed
    }

    /// Whether its symbol has a size. Else it is taken to reach to the next one, or to its section's end.
    pub fn is_sized(&self) -> bool {
        self.is_sized
    }
}

impl<'data> Program<'data> {
    /// The functions, without the parts, by address.
    pub fn functions(&self) -> impl Iterator<Item = FunctionId> {
        let all = self.functions.iter().enumerate().map(|(index, function)| (FunctionId(index as u32), function));
        all.filter(|(id, function)| function.parent == *id).map(|(id, _)| id)
    }

    /// A function or part.
    ///
    /// # Panics
    ///
    /// For one of another program.
    pub fn function(&self, function: FunctionId) -> &Function {
        &self.functions[function.index()]
    }

    /// How many functions and parts there are.
    pub fn ranges(&self) -> usize {
        self.functions.len()
    }

    /// A function's name, as the linker knows it.
    pub fn name(&self, function: FunctionId) -> &'data str {
        self.function(function).symbols.first().map_or("?", |symbol| self.symbol(*symbol).name)
    }

    /// The function of this name or alias; the first where there are several.
    pub fn function_named(&self, name: &str) -> Option<FunctionId> {
        let has_it = |function: &Function| function.symbols.iter().any(|symbol| self.symbol(*symbol).name == name);
        self.functions.iter().position(has_it).map(|index| FunctionId(index as u32))
    }

    /// The function or part that a word is in.
    pub fn function_of(&self, id: InsnId) -> Option<FunctionId> {
        let after = self.functions.partition_point(|function| function.range.start <= id.0);
        let index = after.checked_sub(1)?;
        self.functions[index].contains(id).then_some(FunctionId(index as u32))
    }

    /// The function that a part belongs to; a function that is no part, itself.
    pub fn parent(&self, function: FunctionId) -> FunctionId {
        self.function(function).parent
    }

    /// Whether two instructions are in one function, parts counted with their parents.
    pub fn is_same_function(&self, one: InsnId, other: InsnId) -> bool {
        match (self.function_of(one), self.function_of(other)) {
            (Some(one), Some(other)) => self.parent(one) == self.parent(other),
            _ => false,
        }
    }

    /// What a function begins with.
    pub fn landing(&self, function: FunctionId) -> Landing {
        let entry = self.function(function).entry();
        match self.insn(entry) {
            _ if self.is_data(entry) => Landing::None,
            Insn::System(System::Hint(Hint::BTI_C | Hint::BTI_J | Hint::BTI_JC)) => Landing::Bti,
            Insn::System(System::Hint(Hint::PACIASP | Hint::PACIBSP)) => Landing::Pac,
            _ => Landing::None,
        }
    }

    /// The first instruction of a function, or, where that is a landing pad, the one behind it.
    pub fn after_landing(&self, function: FunctionId) -> InsnId {
        let entry = self.function(function).entry();
        match self.landing(function) {
            Landing::None => entry,
            Landing::Bti | Landing::Pac => self.next_in_function(entry).unwrap_or(entry),
        }
    }

    /// Whether an instruction is a function's first: at its entry, or right behind the landing pad there. Prefix NOPs stand
    /// before the entry.
    pub fn is_first(&self, id: InsnId) -> bool {
        self.function_of(id).is_some_and(|function| {
            let function = self.parent(function);
            self.function(function).entry() == id || self.after_landing(function) == id
        })
    }
}
