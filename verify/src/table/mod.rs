//! The unwind table that a kernel reads while it runs, made of the states.
//!
//! A [`State`] tells of every register that a function keeps; an unwinder needs the canonical frame address, the return
//! address and the caller's x29. What it can't be told becomes an [`Unknown`] row, so that it is never guessed.
//! [`fentry::context::unwind`] has the table's form.

mod sizes;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use fentry::context::unwind::{
    Cfa as RowCfa, FpHolds, Piece, ReturnAddress, Row, TextSection, Unknown, UnwindEncodeError, UnwindTable, encode,
    encode_unplaced,
};
use fentry::insn;

pub use sizes::Sizes;

use crate::cfi::{Cfa, Cfi, Fp, State, StateId};
use crate::flow::Flow;
use crate::program::{Destination, FunctionId, InsnId, Program, SectionId};
use crate::value::CallerReg;

/// Words between functions that get a piece of their own where there are more: fewer are padding, NOPs before an entry, or a
/// hash, which nothing runs.
const MOST_PADDING: u64 = 8;

/// What a table is made of: an image's text in pieces, and the rows of each.
#[derive(Clone, Debug)]
pub struct Rows {
    pieces: Vec<Piece>,
    end: u64,
    /// The functions and parts among the pieces.
    functions: usize,
}

impl Rows {
    /// The rows of every function of a linked image.
    pub fn of(flow: &Flow<'_>, cfi: &Cfi) -> Self {
        let mut rows = Self { pieces: Vec::new(), end: 0, functions: 0 };
        let mut maker = Maker::new(flow, cfi);
        for section in flow.program().sections() {
            rows.push_section(flow, section, &mut maker);
        }
        rows
    }

    fn push_section(&mut self, flow: &Flow<'_>, section: SectionId, maker: &mut Maker<'_>) {
        let program = flow.program();
        let mut insns = program.of_section_with_data(section).peekable();
        while let Some(first) = insns.next() {
            let function = program.function_of(first);
            let (start, mut words) = (program.address(first).get(), 1);
            let mut piece = Piece { start, rows: vec![(0, maker.row(first))] };
            while let Some(next) = insns.next_if(|next| program.function_of(*next) == function) {
                let row = maker.row(next);
                if piece.rows.last().is_none_or(|(_, last)| *last != row) {
                    piece.rows.push((words, row));
                }
                words += 1;
            }
            self.push(piece, u64::from(words), function.is_some());
        }
    }

    fn push(&mut self, piece: Piece, words: u64, is_function: bool) {
        let end = piece.start + 4 * words;
        let is_padding = !is_function && words <= MOST_PADDING && !self.pieces.is_empty() && self.end == piece.start;
        if !is_padding {
            // Between sections there is nothing.
            if !self.pieces.is_empty() && self.end < piece.start {
                self.pieces.push(Piece { start: self.end, rows: vec![(0, Err(Unknown::NoText))] });
            }
            self.functions += usize::from(is_function);
            self.pieces.push(piece);
        }
        self.end = end;
    }

    /// How many functions and parts of functions they are of.
    pub fn functions(&self) -> usize {
        self.functions
    }

    /// The table, to be read at this address.
    ///
    /// # Errors
    ///
    /// The text is too large.
    pub fn encode(&self, address: u64) -> Result<Vec<u8>, UnwindEncodeError> {
        encode(&self.pieces, self.end, address)
    }

    /// The first instruction of which a table says something else than the state does, if there is one: what the reader finds
    /// is compared with what it was written from.
    pub fn differs_at(flow: &Flow<'_>, cfi: &Cfi, table: &UnwindTable<'_>) -> Option<InsnId> {
        let program = flow.program();
        let mut maker = Maker::new(flow, cfi);
        let in_functions = program.all().filter(|id| program.function_of(*id).is_some());
        in_functions.into_iter().find(|id| table.row(program.address(*id)) != maker.row(*id))
    }

    /// How large the same would be in other forms.
    pub fn sizes(&self) -> Sizes {
        Sizes::of(&self.pieces, self.end)
    }
}

/// What a relocatable object's table is made of: the rows of each executable section that a loader keeps, in the order in which
/// it places them.
#[derive(Clone, Debug, Default)]
pub struct SectionRows {
    sections: Vec<(SectionId, Rows)>,
}

impl SectionRows {
    /// The rows of every function of an object, but for what runs once: sections whose names start with `.init.`.
    pub fn of(flow: &Flow<'_>, cfi: &Cfi) -> Self {
        let program = flow.program();
        let mut maker = Maker::new(flow, cfi);
        let kept = program.sections().filter(|section| !program.section_name(*section).starts_with(".init."));
        let sections = kept.map(|section| {
            let mut rows = Rows { pieces: Vec::new(), end: 0, functions: 0 };
            rows.push_section(flow, section, &mut maker);
            (section, rows)
        });
        Self { sections: sections.filter(|(_, rows)| !rows.pieces.is_empty()).collect() }
    }

    /// The sections, and how many functions and parts of functions each has.
    pub fn sections(&self) -> impl Iterator<Item = (SectionId, usize)> {
        self.sections.iter().map(|(section, rows)| (*section, rows.functions))
    }

    /// What the object has of its table, for [`Unplaced::parse`](fentry::context::unwind::Unplaced::parse).
    ///
    /// # Errors
    ///
    /// The text is too large.
    pub fn encode(&self) -> Result<Vec<u8>, UnwindEncodeError> {
        let section = |(_, rows): &(SectionId, Rows)| TextSection { pieces: rows.pieces.clone(), end: rows.end };
        encode_unplaced(&self.sections.iter().map(section).collect::<Vec<_>>())
    }

    /// The first instruction of which a table, of the sections where this program has them, says something else than the state
    /// does.
    pub fn differs_at(&self, flow: &Flow<'_>, cfi: &Cfi, table: &UnwindTable<'_>) -> Option<InsnId> {
        let program = flow.program();
        let mut maker = Maker::new(flow, cfi);
        let words = self.sections.iter().flat_map(|(section, _)| program.of_section_with_data(*section));
        let mut in_functions = words.filter(|id| program.function_of(*id).is_some());
        in_functions.find(|id| table.row(program.address(*id)) != maker.row(*id))
    }
}

/// Makes rows of states, most of which are the last one again.
struct Maker<'a> {
    flow: &'a Flow<'a>,
    cfi: &'a Cfi,
    /// The functions that end by an exception's return, or by a jump to one that does.
    handlers: HashSet<FunctionId>,
    last: Option<(StateId, Result<Row, Unknown>)>,
}

impl<'a> Maker<'a> {
    fn new(flow: &'a Flow<'a>, cfi: &'a Cfi) -> Self {
        let program = flow.program();
        let function = |id| program.function_of(id).map(|function| program.parent(function));
        let in_functions = program.all().filter_map(|id| Some((id, function(id)?)));
        let (mut handlers, mut jumps) = (HashSet::new(), Vec::new());
        for (id, from) in in_functions {
            match program.insn(id).effects().flow {
                insn::Flow::ExceptionReturn => drop(handlers.insert(from)),
                insn::Flow::Jump(_) | insn::Flow::CondJump(_) => {
                    let Some(Destination::Insn(to)) = program.destination(id) else { continue };
                    jumps.extend(function(to).filter(|to| *to != from).map(|to| (from, to)));
                }
                _ => {}
            }
        }
        // Whoever jumps to a handler is one: the vectors.
        while let Some((from, _)) = jumps.iter().find(|(from, to)| handlers.contains(to) && !handlers.contains(from)) {
            handlers.insert(*from);
        }
        Self { flow, cfi, handlers, last: None }
    }

    fn row(&mut self, id: InsnId) -> Result<Row, Unknown> {
        let (number, state) = self.cfi.state_id(id).zip(self.cfi.state(id)).ok_or(Unknown::NotReached)?;
        let function = self.flow.program().function_of(id).map(|function| self.flow.program().parent(function));
        if function.is_some_and(|function| self.handlers.contains(&function)) {
            return Err(Unknown::Exception);
        }
        // The first code of a CPU or task: it has said so (AAPCS64 6.4.6), and returns to nobody. Its own frame need not be known,
        // if it has just put the stack in place. Who keeps the caller's x29 has a caller.
        let is_outermost = || {
            let never_returns = function.is_some_and(|function| self.flow.never_returns(function));
            never_returns && !state.saved(CallerReg::FP).is_known()
        };
        if state.fp() == Fp::End && is_outermost() {
            return Ok(Row::END);
        }
        match self.last {
            Some((last, row)) if last == number => row,
            _ => self.last.insert((number, row_of(state))).1,
        }
    }
}

/// What an unwinder needs of a state.
///
/// # Errors
///
/// Why it can't be told.
pub fn row_of(state: &State) -> Result<Row, Unknown> {
    let bytes = |bytes: i64| u32::try_from(bytes).ok();
    let below = |slot: Option<i64>| slot.and_then(i64::checked_neg).and_then(bytes).filter(|bytes| *bytes != 0);
    let fp = match state.fp() {
        Fp::Callers => FpHolds::Callers,
        Fp::Frame(at) => bytes(at).map_or(FpHolds::Other, FpHolds::Frame),
        Fp::End | Fp::Other => FpHolds::Other,
    };
    let cfa = match state.cfa() {
        Cfa::Sp(at) => bytes(at).map(RowCfa::Sp),
        Cfa::Fp(at) => bytes(at).map(RowCfa::Fp),
        Cfa::Other(..) | Cfa::Unknown => None,
    };
    let lr = state.saved(CallerReg::LR);
    // Memory before the register: of a caller the register is gone.
    let (return_address, key) = match (below(lr.slot), lr.is_kept, lr.copy) {
        (Some(below), ..) => (ReturnAddress::Saved(below), state.saved_lr_key()),
        (None, true, _) => (ReturnAddress::Lr, state.lr_key()),
        // What a copy is signed with is not told; an unwinder strips it all the same.
        (None, false, Some(copy)) => (ReturnAddress::Register(copy.number()), None),
        (None, false, None) => return Err(cfa.map_or(Unknown::NoCfa, |_| Unknown::NoReturnAddress)),
    };
    let saved_fp = below(state.saved(CallerReg::FP).slot);
    let row = Row { cfa: cfa.ok_or(Unknown::NoCfa)?, fp, saved_fp, return_address, is_signed: key.is_some() };
    if row.fits() { Ok(row) } else { Err(Unknown::TooLarge) }
}

impl Program<'_> {
    /// The words of a section, data as well.
    fn of_section_with_data(&self, section: SectionId) -> impl Iterator<Item = InsnId> + use<> {
        self.section_range(section).map(InsnId::new)
    }
}
