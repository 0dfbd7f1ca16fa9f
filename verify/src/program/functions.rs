//! From a function's number to all that is known of it, and from a word to its function.

use fentry::insn::{Hint, Insn, System};

use super::{Function, FunctionId, InsnId, Landing, Program};

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
        self.owners.get(id.index()).copied().flatten()
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
